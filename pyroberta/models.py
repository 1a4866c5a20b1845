"""KerasHub's models under KerasHub's names. With `import pyroberta as keras_hub`, KerasHub's code runs.

`load_model` is Keras's.

>>> import pyroberta as keras_hub
>>> keras_hub.models.RobertaMaskedLM is keras_hub.MaskedLM
True
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.tasks.backbone import Backbone
from pyroberta.tasks.loading import load_model
from pyroberta.tasks.masked_lm import MaskedLM
from pyroberta.tasks.task import Task
from pyroberta.tasks.text_classifier import TextClassifier
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.text.preprocessor import MaskedLMPreprocessor, Preprocessor
from pyroberta.text.tokenizer import Tokenizer

RobertaBackbone = Backbone
RobertaMaskedLM = MaskedLM
RobertaMaskedLMPreprocessor = MaskedLMPreprocessor
RobertaTextClassifier = TextClassifier
RobertaTextClassifierPreprocessor = TextClassifierPreprocessor
RobertaTokenizer = Tokenizer
# Their older names, which KerasHub keeps too.
Classifier = RobertaClassifier = TextClassifier
RobertaPreprocessor = TextClassifierPreprocessor

__all__ = [
    "Backbone",
    "Classifier",
    "MaskedLM",
    "MaskedLMPreprocessor",
    "Preprocessor",
    "RobertaBackbone",
    "RobertaClassifier",
    "RobertaMaskedLM",
    "RobertaMaskedLMPreprocessor",
    "RobertaPreprocessor",
    "RobertaTextClassifier",
    "RobertaTextClassifierPreprocessor",
    "RobertaTokenizer",
    "Task",
    "TextClassifier",
    "TextClassifierPreprocessor",
    "Tokenizer",
    "load_model",
]

_ELSEWHERE = {  # names of Keras and KerasHub -> what to write
    "save_model": "model.save(filepath) saves a model",
    **dict.fromkeys(
        ("Model", "Sequential", "Functional", "clone_model"),
        "a model has no layers to clone; copy.deepcopy copies a whole model",
    ),
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, __all__)
