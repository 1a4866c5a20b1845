"""RoBERTa's masked language model in plain sight: NumPy forward, hand-written backward, manual Adam.

>>> import pyroberta
>>> masked_lm = pyroberta.MaskedLM.from_preset("roberta_tiny_en")
"""

from pyroberta import callbacks, losses, metrics, models, optimizers, schedules, tokenizers
from pyroberta.backends import backends, get_num_threads, set_num_threads
from pyroberta.model.config import RobertaConfig
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
    "losses",
    "metrics",
    "models",
    "optimizers",
    "schedules",
    "set_num_threads",
    "tokenizers",
]
