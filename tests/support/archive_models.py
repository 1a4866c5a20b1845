"""Models that are saved as Keras's archives, and their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from small_models import random_params, small_masked_lm

from pyroberta import MaskedLM, TextClassifier, TextClassifierPreprocessor

FEATURES = {
    "token_ids": np.array([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]]),
    "padding_mask": np.array([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]),
    "mask_positions": np.array([[1, 3], [2, 5]]),
}


SETTINGS = {"sequence_length": 32, "mask_selection_rate": 0.25, "mask_selection_length": 3, "truncate": "waterfall"}


def masked_lm(**changes: Any) -> MaskedLM:
    made = small_masked_lm(**{"dtype": "float32", "settings": SETTINGS, **changes})
    with made.backbone.changing() as params:
        params.flat[:] = random_params(made.backbone.config, 0, params.dtype).flat
    return made


def classifier(**options: Any) -> TextClassifier:
    lm = masked_lm()
    preprocessor = TextClassifierPreprocessor(lm.preprocessor.tokenizer, sequence_length=32)
    options = {"labels": ["bad", "fair", "good"], "activation": "softmax", "hidden_dim": 5, "dropout": 0.2, **options}
    made = TextClassifier(lm.backbone, 3, preprocessor, **options)
    with made.backbone.changing() as params:
        params.flat[:] = random_params(made.backbone.config, 1, np.float32).flat
    return made


MODELS = {"Backbone": lambda: masked_lm().backbone, "MaskedLM": masked_lm, "TextClassifier": classifier}


def outputs(model: Any) -> list[Any]:
    names = FEATURES if isinstance(model, MaskedLM) else ("token_ids", "padding_mask")
    return model({name: FEATURES[name] for name in names}).tolist()
