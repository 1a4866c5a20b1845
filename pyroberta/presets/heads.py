"""The names of each head in the files of Hugging Face, KerasHub and fairseq, and on the card of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pyroberta.presets.renaming import Names
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.text.preprocessor import MaskedLMPreprocessor, Preprocessor


class Card(NamedTuple):
    """The words about a task on the card of a model.

    Attributes:
        pipeline: the name of transformers' pipeline, which is the hub's tag too.
        variable: the name of the model in the example.
        task: the name of pyroberta's class.
        use: the line of the example that calls the model.
        subject: the subject of a sentence. `{num_classes}` stands for the number of classes.
    """

    pipeline: str
    variable: str
    task: str
    use: str
    subject: str


@dataclass(frozen=True)
class HeadFiles:
    """The names and places of a head in files.

    Attributes:
        preprocessor: the class whose settings are saved with the head.
        card: see `Card`.
        architecture: the name of transformers' class, in `architectures` of config.json.
        hf_names: the names of the head's parameters in Hugging Face's files, and whether they are transposed in them.
        hf_tensors: the names in Hugging Face's files that belong to this head only.
        problem_type: the only value that `problem_type` of config.json may have. None if config.json has no such key.
        keras_module: the module of KerasHub's class, which is the name of the task too.
        keras_classes: the names of KerasHub's classes in task.json. The first is written; the others are older. Empty
            if KerasHub has no such task.
        keras_names: the paths of the head's parameters in task.weights.h5, in the order of Keras's
            `trainable_variables`.
        fairseq_names: see `hf_names`. Empty if fairseq's heads for the task are not read.
    """

    preprocessor: type[Preprocessor]
    card: Card
    architecture: str
    hf_names: Names
    hf_tensors: re.Pattern[str]
    problem_type: str | None = None
    keras_module: str = ""
    keras_classes: tuple[str, ...] = ()
    keras_names: Mapping[str, str] = field(default_factory=dict)
    fairseq_names: Names = field(default_factory=dict)

    @property
    def hf_pattern(self) -> str:
        """The names of the head's tensors in Hugging Face's files, for messages."""
        return next(iter(self.hf_names.values()))[0].partition(".")[0] + ".*"


MASKED_LM = HeadFiles(
    preprocessor=MaskedLMPreprocessor,
    card=Card(
        "fill-mask", "masked_lm", "MaskedLM", 'masked_lm.fill_mask("The capital of France is <mask>.")',
        "A RoBERTa with its masked-LM head",
    ),
    architecture="RobertaForMaskedLM",
    hf_names={
        "head.dense.kernel": ("lm_head.dense.weight", True),
        "head.dense.bias": ("lm_head.dense.bias", False),
        "head.norm.gamma": ("lm_head.layer_norm.weight", False),
        "head.norm.beta": ("lm_head.layer_norm.bias", False),
        "head.decoder": ("lm_head.decoder.weight", False),
        "head.bias": ("lm_head.bias", False),
    },
    hf_tensors=re.compile(r"lm_head\..*"),
    keras_module="roberta_masked_lm",
    keras_classes=("RobertaMaskedLM",),
    keras_names={
        "head.bias": "layers/masked_lm_head/vars/0",
        "head.dense.kernel": "layers/masked_lm_head/_intermediate_dense/vars/0",
        "head.dense.bias": "layers/masked_lm_head/_intermediate_dense/vars/1",
        "head.norm.gamma": "layers/masked_lm_head/_intermediate_layer_norm/vars/0",
        "head.norm.beta": "layers/masked_lm_head/_intermediate_layer_norm/vars/1",
    },
    fairseq_names={
        "head.dense.kernel": ("encoder.lm_head.dense.weight", True),
        "head.dense.bias": ("encoder.lm_head.dense.bias", False),
        "head.norm.gamma": ("encoder.lm_head.layer_norm.weight", False),
        "head.norm.beta": ("encoder.lm_head.layer_norm.bias", False),
        "head.decoder": ("encoder.lm_head.weight", False),
        "head.bias": ("encoder.lm_head.bias", False),
    },
)  # fmt: skip
TEXT_CLASSIFIER = HeadFiles(
    preprocessor=TextClassifierPreprocessor,
    card=Card(
        "text-classification", "classifier", "TextClassifier", 'classifier.classify("A joy to watch.")',
        "A RoBERTa that tells {num_classes} classes of texts apart",
    ),
    architecture="RobertaForSequenceClassification",
    hf_names={
        "head.dense.kernel": ("classifier.dense.weight", True),
        "head.dense.bias": ("classifier.dense.bias", False),
        "head.table": ("classifier.out_proj.weight", False),
        "head.bias": ("classifier.out_proj.bias", False),
    },
    hf_tensors=re.compile(r"classifier\.(dense|out_proj)\..*"),
    problem_type="single_label_classification",
    keras_module="roberta_text_classifier",
    keras_classes=("RobertaTextClassifier", "RobertaClassifier"),
    keras_names={
        "head.dense.kernel": "layers/dense/vars/0",
        "head.dense.bias": "layers/dense/vars/1",
        "head.table": "layers/dense_1/vars/0",
        "head.bias": "layers/dense_1/vars/1",
    },
)  # fmt: skip

HEAD_FILES = {
    "masked_lm": MASKED_LM,  # also for presets without a head, or with an unknown one
    "text_classifier": TEXT_CLASSIFIER,
}
