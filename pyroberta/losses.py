"""The losses: see `pyroberta.training.losses`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.training.losses import *  # noqa: F403 - what its __all__ names
from pyroberta.training.losses import __all__ as _names

_HAS = "pyroberta has SparseCategoricalCrossentropy, the loss of labels that are numbers of tokens or of classes"
_ONE_HOT = f"{_HAS}. To convert one-hot labels to numbers: y = numpy.argmax(y, axis=1)"
_ELSEWHERE = {  # names of Keras -> what to write
    **dict.fromkeys(
        ("BinaryCrossentropy", "BinaryFocalCrossentropy", "binary_crossentropy", "binary_focal_crossentropy"),
        f"{_HAS}. For two classes, make the model with num_classes=2",
    ),
    **dict.fromkeys(
        (
            *("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalGeneralizedCrossEntropy"),
            *("categorical_crossentropy", "categorical_focal_crossentropy", "categorical_generalized_cross_entropy"),
        ),
        _ONE_HOT,
    ),
    **dict.fromkeys(
        (
            *("CTC", "CategoricalHinge", "Circle", "CosineSimilarity", "Dice", "Hinge", "Huber", "KLDivergence"),
            *("LogCosh", "Loss", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError"),
            *("MeanSquaredLogarithmicError", "Poisson", "SquaredHinge", "Tversky"),
            *("ctc", "categorical_hinge", "circle", "cosine_similarity", "dice", "hinge", "huber", "kl_divergence"),
            *("log_cosh", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_error"),
            *("mean_squared_logarithmic_error", "poisson", "squared_hinge", "tversky"),
        ),
        f"{_HAS}, and no other loss has a backward",
    ),
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, _names)
