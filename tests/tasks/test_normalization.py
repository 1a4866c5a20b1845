"""Normalization of embeddings: an affine map that is fitted once and then the same for every text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

from pyroberta import MaskedLM, Normalization

WORDS = ["the", "quick", "fox", "jumped", "over", "a", "lazy", "dog", "and", "forgot", "homework", "by", "sea"]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def masked_lm() -> MaskedLM:
    model = small_masked_lm()
    model.fit(TEXTS, epochs=3, batch_size=2, verbose=0)
    return model


def test_centered_embeddings_have_mean_zero_and_the_same_differences(masked_lm: MaskedLM) -> None:
    some = texts(40)
    plain = masked_lm.embed(some)
    centered = masked_lm.embed(some, normalize=masked_lm.fit_normalization(some, "center"))
    np.testing.assert_allclose(centered.mean(axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(centered[1:] - centered[0], plain[1:] - plain[0], atol=1e-13)


def test_whitened_embeddings_have_covariance_one(masked_lm: MaskedLM) -> None:
    some = texts(60)
    whitened = masked_lm.embed(some, normalize=masked_lm.fit_normalization(some, "whiten"))
    width = masked_lm.backbone.config.hidden_dim
    assert whitened.shape == (60, width - 1)  # behind a layer norm one direction does not vary
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(whitened.T @ whitened / 60, np.eye(width - 1), atol=1e-6)


def test_fewer_dimensions_are_the_first_ones_of_all(masked_lm: MaskedLM) -> None:
    some = texts(60)
    every, three = (masked_lm.fit_normalization(some, "whiten", num_dimensions=n) for n in (None, 3))
    found = masked_lm.embed("a dog", normalize=three), masked_lm.embed("a dog", normalize=every)
    np.testing.assert_allclose(found[0], found[1][:3], rtol=1e-12)  # products of other shapes round otherwise
    variances = masked_lm.embed(some).var(axis=0).sum()
    kept = [
        np.var((masked_lm.embed(some) - every.mean) @ (column / np.linalg.norm(column))) for column in every.matrix.T
    ]
    assert kept == sorted(kept, reverse=True)
    assert sum(kept) == pytest.approx(variances)


@pytest.mark.parametrize("method", ["center", "whiten"])
def test_an_embedding_does_not_depend_on_the_texts_beside_it(masked_lm: MaskedLM, method: str) -> None:
    fitted = masked_lm.fit_normalization(texts(60), method)
    alone = masked_lm.embed("a lazy dog", normalize=fitted)
    beside = masked_lm.embed(["the sea", "a lazy dog", *texts(5, seed=1)], normalize=fitted)[1]
    np.testing.assert_allclose(beside, alone, rtol=1e-9, atol=1e-11)
    assert masked_lm.embed([], normalize=fitted).shape == (0, len(alone))


def test_whitening_does_not_depend_on_how_the_embeddings_were_turned_and_stretched() -> None:
    rng = np.random.default_rng(0)
    x, turn = rng.standard_normal((50, 4)), rng.standard_normal((4, 4))
    first, second = Normalization.fit(x, "whiten", 0)(x), Normalization.fit(x @ turn + 3, "whiten", 0)(x @ turn + 3)
    np.testing.assert_allclose(first @ first.T, second @ second.T, atol=1e-10)


@pytest.mark.parametrize("layer", [0, 1, -1, -2])
def test_a_normalization_belongs_to_its_layer(masked_lm: MaskedLM, layer: int) -> None:
    fitted = masked_lm.fit_normalization(texts(5), "center", layer=layer)
    assert masked_lm.embed("a", layer=fitted.layer, normalize=fitted).shape == (8,)
    other = (fitted.layer + 1) % 3
    with pytest.raises(ValueError, match=f"was fitted on layer {fitted.layer}: pass layer={fitted.layer}"):
        masked_lm.embed("a", layer=other, normalize=fitted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_the_models(dtype: str) -> None:
    model = small_masked_lm(dtype=dtype)
    for method in ("center", "whiten"):
        assert model.embed("a", normalize=model.fit_normalization(texts(60), method)).dtype == dtype


@pytest.mark.parametrize("method", ["center", "whiten"])
def test_a_saved_normalization_gives_the_same_bits(masked_lm: MaskedLM, method: str, tmp_path: Path) -> None:
    fitted = masked_lm.fit_normalization(texts(60), method)
    fitted.save(tmp_path / "deep" / "n.safetensors")
    again = Normalization.load(tmp_path / "deep" / "n.safetensors")
    assert (again.method, again.layer) == (fitted.method, fitted.layer)
    assert np.array_equal(masked_lm.embed("a dog", normalize=again), masked_lm.embed("a dog", normalize=fitted))


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        (5, {"method": "l2"}, "method must be 'center' or 'whiten', got 'l2'"),
        (5, {"method": "center", "num_dimensions": 3}, "num_dimensions=3 is for method='whiten'"),
        (5, {"method": "whiten", "num_dimensions": 0}, "num_dimensions must be a whole number of at least 1, got 0"),
        (5, {"method": "whiten"}, "whitening 8 dimensions needs more than 8 texts, .*; got 5"),
        (3, {"method": "whiten", "num_dimensions": 3}, "whitening 3 dimensions needs more than 3 texts"),
        (60, {"method": "whiten", "num_dimensions": 8}, "vary in 7 dimensions; they can't be whitened to 8"),
        (0, {"method": "center"}, "there are no texts to fit the normalization on"),
    ],
)
def test_what_cannot_be_fitted_is_said(
    masked_lm: MaskedLM, given: int, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        masked_lm.fit_normalization(texts(given), **arguments)


def test_texts_that_are_all_alike_cannot_be_whitened(masked_lm: MaskedLM) -> None:
    with pytest.raises(ValueError, match="Pass texts that differ more"):
        masked_lm.fit_normalization(["the sea"] * 20, "whiten")


def test_a_name_of_a_method_is_no_fitted_normalization(masked_lm: MaskedLM) -> None:
    with pytest.raises(TypeError, match=r"normalize takes a Normalization, .*; got 'whiten'"):
        masked_lm.embed("a", normalize="whiten")  # type: ignore[arg-type]
    fitted = masked_lm.fit_normalization(texts(5), "center")
    with pytest.raises(ValueError, match="leave out pooling=None"):
        masked_lm.embed("a", normalize=fitted, pooling=None)
    with pytest.raises(ValueError, match=r"fitted on embeddings of 8 dimensions; got an array of shape \(2, 5\)"):
        fitted(np.zeros((2, 5)))


def test_whole_numbers_keep_their_fractions() -> None:
    fitted = Normalization.fit([[1, 2], [2, 4], [3, 5], [5, 6]], "center", layer=0)
    assert fitted([[1, 2]]).tolist() == [[-1.75, -2.25]]
    assert fitted(np.array([1.0, 2.0], np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("embeddings", "error", "message"),
    [
        (np.zeros(3), ValueError, r"embeddings should be of the shape \(B, C\), got \(3,\)"),
        ([[1.0, 2.0], [np.nan, 0.0]], ValueError, r"embeddings\[1\] has a number that is not finite: leave it out"),
        ([["a"]], TypeError, "embeddings should be numbers, as embed returns them; got <U1"),
    ],
)
def test_what_are_no_embeddings_is_said(embeddings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Normalization.fit(embeddings, "center", layer=0)


def test_a_truth_value_is_no_layer(masked_lm: MaskedLM) -> None:
    with pytest.raises(ValueError, match="layer must be from -3 to 2, since the model has 2; got True"):
        masked_lm.embed("a", layer=True)


def test_a_normalization_of_another_model_is_told(tmp_path: Path) -> None:
    model = small_masked_lm(dtype="float32")
    fitted = model.fit_normalization(texts(60), "whiten")
    fitted.save(tmp_path / "n")
    model.save_to_preset(tmp_path / "half", dtype="float16")
    again = MaskedLM.from_preset(tmp_path / "half")
    again.embed("a dog", normalize=Normalization.load(tmp_path / "n"))  # no warning: it is the same model
    again.fit(TEXTS, epochs=3, verbose=0)
    with pytest.warns(UserWarning, match="was fitted on another model, or before this one was trained"):
        again.embed("a dog", normalize=fitted)
    narrow = small_masked_lm(hidden_dim=4)
    with pytest.raises(ValueError, match="fitted on embeddings of 8 dimensions"):
        narrow.embed("a dog", normalize=fitted)


def test_it_says_what_it_is(masked_lm: MaskedLM) -> None:
    assert repr(masked_lm.fit_normalization(texts(60), "whiten", layer=1)) == (
        "<Normalization: whiten, 8 to 7 dimensions, layer 1>"
    )


def test_other_and_damaged_files_are_refused(masked_lm: MaskedLM, tmp_path: Path) -> None:
    from pyroberta.formats import safetensors_io

    file = tmp_path / "n.safetensors"
    with pytest.raises(FileNotFoundError, match=r"n\.safetensors"):
        Normalization.load(file)
    safetensors_io.write(file, {"mean": np.zeros(3)})
    with pytest.raises(ValueError, match="is not a file of a normalization"):
        Normalization.load(file)

    def written(tensors: dict[str, Any], method: str = "whiten", layer: str = "1") -> None:
        rest = f'{{"method": "{method}", "layer": {layer}}}'
        safetensors_io.write(file, tensors, "float64", {"pyroberta_normalization": rest})

    for tensors, options, message in (
        ({"mean": np.zeros(3)}, {}, "should hold matrix and mean, it holds mean"),
        ({"mean": np.zeros(3)}, {"method": "l2"}, "method and layer can't be 'l2'"),
        ({"mean": np.zeros(3)}, {"method": "center", "layer": "-1"}, "is not a file of a normalization"),
        ({"mean": np.zeros(3), "matrix": np.zeros((2, 3))}, {}, r"mean \(3,\), matrix \(2, 3\)|matrix \(2, 3\)"),
        ({"mean": np.zeros((3, 1))}, {"method": "center"}, r"got mean \(3, 1\)"),
        ({"mean": np.zeros(3), "probe": np.zeros(2)}, {"method": "center"}, r"probe \(2,\)"),
    ):
        written(tensors, **options)
        with pytest.raises(ValueError, match=message):
            Normalization.load(file)
    masked_lm.fit_normalization(texts(60), "whiten").save(file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cut short"):
        Normalization.load(file)
