"""RoBERTa's masked language model in plain sight: NumPy forward, hand-written backward, manual Adam.

>>> import pyroberta
>>> masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
"""

import pyroberta.formats.interrupts as _interrupts  # noqa: F401  # isort: skip  # from here on, Ctrl-C shows no traceback
from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta import callbacks, layers, losses, metrics, models, optimizers, schedules, tokenizers
from pyroberta.backends import backends, get_num_threads, set_num_threads
from pyroberta.layers import A_LAYER as _A_LAYER
from pyroberta.model.config import RobertaConfig
from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.presets.built_in import PRESETS as _PRESETS
from pyroberta.presets.preset import open_preset as _open_preset
from pyroberta.presets.preset import save_text as _save_text
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.tasks.normalization import Normalization
from pyroberta.tasks.task import Task
from pyroberta.tasks.text_classifier import TextClassifier
from pyroberta.text import hooks as _hooks
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.text.preprocessor import MaskedLMPreprocessor
from pyroberta.text.tokenizer import Tokenizer

_hooks.open_preset, _hooks.save_text, _hooks.presets = _open_preset, _save_text, _PRESETS

__version__ = "0.1.0"

__all__ = [
    "Backbone",
    "MaskedLM",
    "MaskedLMPreprocessor",
    "Normalization",
    "RobertaConfig",
    "Task",
    "TextClassifier",
    "TextClassifierPreprocessor",
    "Tokenizer",
    "__version__",
    "backends",
    "callbacks",
    "get_num_threads",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "schedules",
    "set_num_threads",
    "tokenizers",
]

_ELSEWHERE = {  # names of transformers and Keras -> what to write
    **dict.fromkeys(("RobertaForMaskedLM", "AutoModelForMaskedLM"), "MaskedLM.from_preset(directory) loads one"),
    **dict.fromkeys(
        ("RobertaForSequenceClassification", "AutoModelForSequenceClassification"),
        "TextClassifier.from_preset(directory) loads one",
    ),
    **dict.fromkeys(("RobertaModel", "AutoModel"), "Backbone.from_preset(directory) loads one"),
    **dict.fromkeys(
        ("RobertaTokenizer", "RobertaTokenizerFast", "AutoTokenizer"), "Tokenizer.from_preset(directory) loads one"
    ),
    "pipeline": "MaskedLM.fill_mask, MaskedLM.embed and TextClassifier.classify do what pipelines do",
    **dict.fromkeys(("Trainer", "TrainingArguments"), "model.compile and model.fit train a model"),
    **dict.fromkeys(
        ("DataCollatorForLanguageModeling", "DataCollatorForWholeWordMask"),
        "model.fit masks the texts anew in each epoch, with the settings of its MaskedLMPreprocessor",
    ),
    "set_seed": "the argument seed= of from_preset sets all random choices",
    **dict.fromkeys(("Model", "Sequential", "backend"), _A_LAYER),
    "random": "the argument seed= of from_preset sets all random choices",
    "utils": "the argument seed= of from_preset sets all random choices; docs/inputs.md shows how texts are read, also "
    "from a directory with a folder per class",
    "mixed_precision": "the argument dtype= of from_preset sets a model's precision",
    "saving": "model.save(filepath) saves a model, models.load_model(filepath) loads it",
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, __all__)
