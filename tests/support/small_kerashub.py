"""The small KerasHub model that presets are written of by hand."""

from __future__ import annotations

import numpy as np
from small_models import random_params
from small_presets import KERASHUB as CONFIG

from pyroberta.model.parameters import Arrays


def params_of(seed: int = 0) -> Arrays:
    return random_params(CONFIG, seed, np.float32)
