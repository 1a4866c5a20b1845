"""Normalization of embeddings: an affine map that is fitted once on given texts, and then applied to every embedding.

The hidden states of a masked language model all point in about the same direction, so the cosine of any two texts is
near 1. Subtracting the mean avoids this. Whitening also gives all remaining directions the same weight.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.formats import safetensors_io, stored
from pyroberta.formats.budget import clipped
from pyroberta.formats.files import as_path, check_file, parse_json, shown
from pyroberta.formats.new_files import replace_files
from pyroberta.model.attributes import whole_number

KEY = "pyroberta_normalization"  # in the file's metadata
METHODS = ("center", "whiten")
SAME = 0.01  # relative distance of two probes of one model


def check_method(method: str, num_dimensions: int | None) -> None:
    """Checks the arguments of a fit.

    Raises:
        ValueError: if the method is unknown, num_dimensions is not a number of dimensions, or the method keeps all
            dimensions and num_dimensions is given.
    """
    if method not in METHODS:
        raise ValueError(f"method must be 'center' or 'whiten', got {method!r}")
    if num_dimensions is None:
        return
    whole_number("num_dimensions", num_dimensions)
    if method == "center":
        raise ValueError(f"num_dimensions={num_dimensions} is for method='whiten': 'center' keeps all dimensions")


@dataclass(frozen=True, eq=False, repr=False)
class Normalization:
    """The map x -> (x - mean) @ matrix of embeddings. `MaskedLM.fit_normalization` fits it.

    Args:
        method: `"center"` only subtracts the mean, with the identity as matrix (Arora et al. 2017; Mu and Viswanath
            2018, arXiv:1702.01417, without the removal of directions). `"whiten"` gives the fitted embeddings mean 0
            and covariance 1 (Su et al. 2021, arXiv:2103.15316).
        layer: the layer of the embeddings. 0 is the output of the embeddings.
        mean: the mean embedding, (C,).
        matrix: (C, K). Its columns are ordered by the variance along them, the largest first. None for the identity.
        probe: (C,), the model's embedding of the empty text, by which another model is recognised. None for no check.

    >>> from pyroberta import MaskedLM
    >>> masked_lm = MaskedLM.from_preset("roberta_tiny_en")
    >>> centered = masked_lm.fit_normalization(["A dog barks.", "It rains.", "The king spoke."], "center")
    >>> masked_lm.embed("A cat sleeps.", normalize=centered).shape
    (128,)
    >>> centered
    <Normalization: center, 128 to 128 dimensions, layer 4>
    """

    method: str
    layer: int
    mean: Array
    matrix: Array | None = None
    probe: Array | None = None

    def __repr__(self) -> str:
        width = len(self.mean)
        left = width if self.matrix is None else self.matrix.shape[1]
        return f"<Normalization: {self.method}, {width} to {left} dimensions, layer {self.layer}>"

    @classmethod
    def fit(
        cls,
        embeddings: Array,
        method: str,
        layer: int,
        num_dimensions: int | None = None,
        probe: Array | None = None,
    ) -> Normalization:
        """Returns the map of a method, fitted on embeddings (B, C). It is computed in float64.

        Args:
            embeddings: the embeddings (B, C) of one layer, in any real dtype.
            method: one of `METHODS`.
            layer: the layer of the embeddings.
            num_dimensions: the number of dimensions after whitening, those with the largest variance. The default is
                all dimensions in which the embeddings vary, which is C - 1 after a layer norm.
            probe: see the class.

        Raises:
            ValueError: if the method is unknown, the embeddings have another shape or are not finite, there are too few
                of them, or they vary in fewer dimensions.
            TypeError: if the embeddings are not numbers.
        """
        check_method(method, num_dimensions)
        embeddings = _floats(embeddings)
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings should be of the shape (B, C), got {embeddings.shape}")
        count, width = embeddings.shape
        if not count:
            raise ValueError("there are no texts to fit the normalization on")
        if not np.isfinite(embeddings).all():
            row = int(np.argmin(np.isfinite(embeddings).all(axis=1)))
            raise ValueError(f"embeddings[{row}] has a number that is not finite: leave it out")
        precise = embeddings.astype(np.float64)
        mean = precise.mean(axis=0)
        if method == "center":
            return cls(method, layer, mean, None, probe)
        wanted = width if num_dimensions is None else num_dimensions
        if count <= wanted:
            raise ValueError(
                f"whitening {wanted} dimensions needs more than {wanted} texts, better many times as many; got "
                f"{count}. Give more texts, num_dimensions= below {count}, or method='center'"
            )
        deviations = precise - mean
        variances, directions = np.linalg.eigh(deviations.T @ deviations / count)  # rising
        variances, directions = variances[::-1], directions[:, ::-1]
        eps = float(np.finfo(embeddings.dtype).eps)
        rounding = 100 * eps**2 * float((precise**2).sum(axis=1).mean())  # embeddings have been rounded to their dtype
        rank = int((variances > max(eps * variances[0], rounding)).sum())
        if num_dimensions is None:
            wanted = rank
        if wanted > rank or not rank:
            raise ValueError(
                f"the embeddings of these {count} texts vary in {rank} dimensions; they can't be whitened to {wanted}. "
                "Pass texts that differ more"
            )
        return cls(method, layer, mean, directions[:, :wanted] / np.sqrt(variances[:wanted]), probe)

    def __call__(self, embeddings: Array) -> Array:
        """The normalized embeddings (..., K) of embeddings (..., C), in their dtype. Of whole numbers, in float64.

        Raises:
            ValueError: if they have another width than the ones fitted on.
            TypeError: if they are not numbers.
        """
        embeddings = _floats(embeddings)
        if embeddings.ndim == 0 or embeddings.shape[-1] != len(self.mean):
            raise ValueError(
                f"the normalization was fitted on embeddings of {len(self.mean)} dimensions; got an array of shape "
                f"{embeddings.shape}"
            )
        centered = embeddings.astype(np.float64) - self.mean
        found: Array = centered if self.matrix is None else centered @ self.matrix
        return found.astype(embeddings.dtype)

    def is_of(self, probe: Array) -> bool:
        """Returns whether the map seems to be fitted for the model with this probe. Without a probe of its own, the map
        returns True.

        A model that was stored in half precision counts as the same. The probes of other models differ by more than a
        hundredth.
        """
        if self.probe is None:
            return True
        distance = np.linalg.norm(self.probe.astype(np.float64) - probe)
        return bool(distance <= SAME * np.linalg.norm(self.probe.astype(np.float64)))

    def save(self, file: str | os.PathLike[str]) -> None:
        """Writes the map to a file in the safetensors format, which `load` reads.

        Args:
            file: the path, which is created or replaced. Its parents are created if needed, and `~` is expanded.

        Raises:
            OSError: if the disk is full. The message has the bytes needed and the bytes free.

        >>> import os, tempfile
        >>> one = Normalization.fit(np.random.default_rng(0).standard_normal((50, 4)), "whiten", layer=2)
        >>> file = os.path.join(tempfile.mkdtemp(), "whitening.safetensors")
        >>> one.save(file)
        >>> other = Normalization.load(file)
        >>> other.method, other.layer, np.array_equal(other.matrix, one.matrix)
        ('whiten', 2, True)
        """
        arrays = {"mean": self.mean, "matrix": self.matrix, "probe": self.probe}
        tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        rest = json.dumps({"method": self.method, "layer": self.layer})
        path = as_path(file)
        replace_files(path.parent, {path.name: safetensors_io.new_file(tensors, "float64", {KEY: rest})})

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Normalization:
        """Returns the map that `save` wrote.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if it is damaged, or not a file of a normalization.
        """
        path = as_path(file)
        check_file(path)
        tensors, remarks = safetensors_io.read_with_metadata(path)
        try:
            rest = parse_json(remarks[KEY].encode(), KEY)
            method, layer = rest["method"], rest["layer"]
            if method not in METHODS or type(layer) is not int or not 0 <= layer <= 10_000:
                raise ValueError(f"method and layer can't be {shown(method)} and {shown(layer)}")
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is not a file of a normalization ({KEY!r} of its metadata: {clipped(repr(error))})"
            ) from None
        names = {"mean"} | ({"matrix"} if method == "whiten" else set())
        if set(tensors) - {"probe"} != names:
            raise ValueError(f"{path} should hold {' and '.join(sorted(names))}, it holds {stored.few(tensors)}")
        arrays: dict[str, Any] = {name: tensor.array().astype(np.float64) for name, tensor in tensors.items()}
        mean, matrix, probe = arrays["mean"], arrays.get("matrix"), arrays.get("probe")
        for name, array in arrays.items():
            stored.refuse_non_finite(array, f"{path}: {name}", "Fit the normalization again")
        width = len(mean) if mean.ndim == 1 else 0
        is_matrix = matrix is None or (matrix.ndim == 2 and len(matrix) == width and matrix.shape[1])
        if not width or not is_matrix or (probe is not None and probe.shape != mean.shape):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(f"{path}: mean and probe should be (C,) and matrix (C, K), got {shapes}")
        return cls(method, layer, mean, matrix, probe)


def _floats(embeddings: Any) -> Array:
    """Embeddings as an array of floats; whole numbers become float64."""
    array = np.asarray(embeddings)
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    if array.dtype.kind != "f":
        raise TypeError(f"embeddings should be numbers, as embed returns them; got {array.dtype}")
    return array
