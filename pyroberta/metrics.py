"""The metrics: see `pyroberta.training.metrics`."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from pyroberta.model.hints import hints_of_module as _hints_of_module
from pyroberta.training.metrics import *  # noqa: F403 - what its __all__ names
from pyroberta.training.metrics import __all__ as _names

_A_FUNCTION = "compile(metrics=[function]) takes any function of labels and predictions, function(y_true, y_pred)"
_ELSEWHERE = {  # names of Keras -> what to write
    **dict.fromkeys(
        ("F1Score", "FBetaScore", "Precision", "Recall"),
        "`pyroberta classify evaluate` reports precision, recall and F1 of each class",
    ),
    **dict.fromkeys(
        (
            *("BinaryAccuracy", "CategoricalAccuracy", "binary_accuracy", "categorical_accuracy"),
            *("BinaryCrossentropy", "CategoricalCrossentropy", "binary_crossentropy", "categorical_crossentropy"),
        ),
        "labels are numbers of tokens or of classes; pyroberta has SparseCategoricalAccuracy and "
        "SparseCategoricalCrossentropy",
    ),
    **dict.fromkeys(
        (
            *("AUC", "BinaryIoU", "CategoricalHinge", "ConcordanceCorrelation", "CosineSimilarity", "FalseNegatives"),
            *("FalsePositives", "Hinge", "IoU", "KLDivergence", "LogCoshError", "Mean", "MeanAbsoluteError"),
            *("MeanAbsolutePercentageError", "MeanIoU", "MeanMetricWrapper", "MeanSquaredError"),
            *("MeanSquaredLogarithmicError", "OneHotIoU", "OneHotMeanIoU", "PearsonCorrelation", "Poisson"),
            *("PrecisionAtRecall", "R2Score", "RecallAtPrecision", "RootMeanSquaredError", "SensitivityAtSpecificity"),
            *("SparseTopKCategoricalAccuracy", "SpecificityAtSensitivity", "SquaredHinge", "Sum"),
            *("TopKCategoricalAccuracy", "TrueNegatives", "TruePositives"),
            *("binary_focal_crossentropy", "categorical_focal_crossentropy", "categorical_hinge"),
            *("concordance_correlation", "hinge", "huber", "kl_divergence", "log_cosh", "mean_absolute_error"),
            *("mean_absolute_percentage_error", "mean_squared_error", "mean_squared_logarithmic_error"),
            *("pearson_correlation", "poisson", "sparse_top_k_categorical_accuracy", "squared_hinge"),
            "top_k_categorical_accuracy",
        ),
        _A_FUNCTION,
    ),
    "sparse_categorical_crossentropy": "it is pyroberta.losses.sparse_categorical_crossentropy",
}

if not _TYPE_CHECKING:  # a type checker knows the names
    __getattr__ = _hints_of_module(__name__, _ELSEWHERE, _names)
