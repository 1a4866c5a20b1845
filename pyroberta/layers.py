"""KerasHub's layer that masks ids, as in `keras_hub.layers`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.text.mask_generator import MaskedLMMaskGenerator

__all__ = ["MaskedLMMaskGenerator"]

A_LAYER = "pyroberta has whole models (MaskedLM, TextClassifier, Backbone) and no layers to build others from"
_ELSEWHERE = {  # names of Keras and KerasHub -> what to write
    **dict.fromkeys(
        ("MultiSegmentPacker", "StartEndPacker"),
        "the preprocessors frame segments with special tokens and cut them: MaskedLMPreprocessor(tokenizer, 128)",
    ),
    **dict.fromkeys(
        ("Layer", "Input", "Dense", "Dropout", "Embedding", "LayerNormalization", "MultiHeadAttention", "MaskedLMHead"),
        A_LAYER,
    ),
    **dict.fromkeys(
        ("PositionEmbedding", "ReversibleEmbedding", "TokenAndPositionEmbedding", "TransformerEncoder"), A_LAYER
    ),
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, __all__)
