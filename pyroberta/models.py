"""KerasHub's models under KerasHub's names, so that `import pyroberta as keras_hub` runs its code.

>>> import pyroberta as keras_hub
>>> keras_hub.models.RobertaMaskedLM is keras_hub.MaskedLM
True
"""

from pyroberta.tasks.backbone import Backbone
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
]
