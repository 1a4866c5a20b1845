"""Learning rate schedules. The learning rate changes from update to update.

A schedule is any function that takes the number of updates so far (0 at the first) and returns a learning rate. There
are two families. The schedules in transformers' form warm up from 0 and then decay. Their `total_steps` includes the
warm-up. With a warm-up, the first update has a rate of 0.

| name | after the warm-up |
|---|---|
| `Constant` | stays |
| `Linear` | falls in a straight line |
| `Cosine` | falls along half a cosine |
| `Polynomial` | falls as (1 - progress) to a power |

The schedules with Keras's names have Keras's arguments and values: `ExponentialDecay`, `InverseTimeDecay`,
`PolynomialDecay`, `CosineDecay`, `CosineDecayRestarts`, `PiecewiseConstantDecay`. Their `decay_steps` does not include
a warm-up.
"""

from pyroberta.training.schedules.decays import (
    CosineDecay,
    CosineDecayRestarts,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
    PolynomialDecay,
)
from pyroberta.training.schedules.registry import SCHEDULES as SCHEDULES
from pyroberta.training.schedules.registry import deserialize, from_config, get, serialize
from pyroberta.training.schedules.warmup import Constant, Cosine, Linear, Polynomial

__all__ = [
    "Constant",
    "Cosine",
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "Linear",
    "PiecewiseConstantDecay",
    "Polynomial",
    "PolynomialDecay",
    "deserialize",
    "from_config",
    "get",
    "serialize",
]
