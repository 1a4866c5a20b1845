"""Learning rates that change from update to update.

A schedule is any function from the number of updates done so far (0 at the first) to a learning rate. There are two
families. Those in transformers' form warm up from 0 and then decay: `total_steps` counts the warm-up, and with one the
very first update has a rate of 0.

| name | after the warm-up |
|---|---|
| `Constant` | stays |
| `Linear` | falls in a straight line |
| `Cosine` | falls along half a cosine |
| `Polynomial` | falls as (1 - progress) to a power |

Those under Keras's names have Keras's arguments and values: `ExponentialDecay`, `InverseTimeDecay`, `PolynomialDecay`,
`CosineDecay`, `CosineDecayRestarts`, `PiecewiseConstantDecay`. Their `decay_steps` leave a warm-up out.
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
