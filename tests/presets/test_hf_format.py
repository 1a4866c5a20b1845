"""Reading and writing Hugging Face directories, held to files that the safetensors package wrote or reads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from small_presets import HF as CONFIG
from small_presets import as_ours, directory_of, hf_tensors, hf_values
from strategies import examples

from pyroberta import Backbone
from pyroberta.formats import safetensors_io
from pyroberta.formats.directory import Directory
from pyroberta.model.config import RobertaConfig
from pyroberta.model.initial_values import initialise
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.presets import hf, hf_writer
from pyroberta.presets.writing import Contents

UNTIED = dataclasses.replace(CONFIG, tie_embeddings=False)


def random_params(config: RobertaConfig = CONFIG, dtype: Any = np.float32, seed: int = 0) -> Arrays:
    params = Arrays(shapes(config), dtype)
    params.flat[:] = np.random.default_rng(seed).standard_normal(params.flat.size)
    return params


def read(path: Path, dtype: Any = np.float32) -> Arrays:
    return hf.read_params(Directory(path), hf.read_config(Directory(path)), dtype)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# --- config.json ------------------------------------------------------------------------------------------------------


def test_config_json_gives_every_field(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf_values()))
    assert hf.read_config(Directory(tmp_path)) == CONFIG
    (tmp_path / "config.json").write_text(json.dumps(hf_values(UNTIED)))
    assert hf.read_config(Directory(tmp_path)) == UNTIED


def test_missing_keys_have_the_defaults_of_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    config = hf.read_config(Directory(tmp_path))
    assert (config.vocabulary_size, config.num_layers, config.num_heads, config.hidden_dim) == (50265, 12, 12, 768)
    assert (config.max_sequence_length, config.layer_norm_epsilon, config.dropout) == (510, 1e-12, 0.1)


def test_the_position_offset_is_pad_id_plus_one(tmp_path: Path) -> None:
    values = hf_values(pad_token_id=4, max_position_embeddings=20)
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert hf.read_config(Directory(tmp_path)).max_sequence_length == 15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', only 'gelu'"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"model_type": "xlm-roberta"}, "'xlm-roberta' model, XLM-RoBERTa, which has a SentencePiece"),
        ({"model_type": "bert"}, "this is a 'bert' model, BERT"),
        ({"model_type": "gpt2"}, "this is a 'gpt2' model; pyroberta reads 'roberta'"),
        ({"model_type": None, "architectures": None}, "Its keys are ['architectures'"),
        ({"vocab_size": "23"}, "vocab_size should be a whole number, got '23'"),
        ({"hidden_size": 6.0}, "hidden_size should be a whole number, got 6.0"),
        ({"num_hidden_layers": True}, "num_hidden_layers should be a whole number, got True"),
        ({"pad_token_id": None}, "pad_token_id should be a whole number, got None"),
        ({"pad_token_id": -1}, "pad_token_id should be at least 0, got -1"),
        ({"layer_norm_eps": None}, "layer_norm_eps should be a number"),
        ({"num_attention_heads": 4}, "config.json: hidden_dim 6 is not a multiple of num_heads 4"),
        ({"max_position_embeddings": 2}, "leaves no row for a position"),
    ],
)
def test_a_config_that_is_not_ours_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf_values(**changes)))
    with pytest.raises(ValueError, match=r"config\.json") as error:
        hf.read_config(Directory(tmp_path))
    assert message in str(error.value)


@pytest.mark.parametrize(("text", "message"), [("{", "isn't valid JSON"), ("[1]", "a JSON object, it holds a list")])
def test_a_broken_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        hf.read_config(Directory(tmp_path))


def test_a_directory_without_config_tells_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no config\.json; it has notes\.txt"):
        hf.read_config(Directory(tmp_path))


# --- reading weights --------------------------------------------------------------------------------------------------


def test_every_tensor_lands_in_its_place_bit_for_bit(tmp_path: Path) -> None:
    tensors = hf_tensors()
    tensors["roberta.embeddings.token_type_embeddings.weight"][:] = 0
    tensors["lm_head.bias"][3] = -0.0
    params = read(directory_of(tmp_path, tensors))
    assert list(params) == list(shapes(CONFIG))
    for name, expected in as_ours(CONFIG, tensors).items():
        assert same_bits(params[name], expected), name


def test_the_renaming_covers_every_tensor_but_the_token_types() -> None:
    for config in (CONFIG, UNTIED):
        theirs = [name for name, _ in hf.renaming(config).values()]
        assert len(set(theirs)) == len(theirs)
        left = set(hf_tensors(config)) - set(theirs) - {"roberta.embeddings.token_type_embeddings.weight"}
        assert left == (set() if config.tie_embeddings else {"lm_head.bias"})


@pytest.mark.parametrize("rows", [1, 2])
def test_the_first_token_type_row_is_folded_into_the_positions(tmp_path: Path, rows: int) -> None:
    tensors = hf_tensors()
    types = np.random.default_rng(1).standard_normal((rows, CONFIG.hidden_dim)).astype(np.float32)
    tensors["roberta.embeddings.token_type_embeddings.weight"] = types
    params = read(directory_of(tmp_path, tensors))
    positions = tensors["roberta.embeddings.position_embeddings.weight"][CONFIG.pad_id + 1 :]
    assert same_bits(params["embeddings.position"], positions + types[0])


def spelt_without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}


def spelt_gamma_beta(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    def old(name: str) -> str:
        if "LayerNorm" not in name and "layer_norm" not in name:
            return name
        return name.replace(".weight", ".gamma").replace(".bias", ".beta")

    return {old(name): tensor for name, tensor in tensors.items()}


def with_unused_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    C = CONFIG.hidden_dim
    return tensors | {
        "roberta.pooler.dense.weight": np.full((C, C), np.nan, np.float32),
        "roberta.pooler.dense.bias": np.ones(C, np.float32),
        "roberta.embeddings.position_ids": np.arange(9)[None],
    }


def with_tied_copies(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {
        "lm_head.decoder.weight": tensors["roberta.embeddings.word_embeddings.weight"].copy(),
        "lm_head.decoder.bias": tensors["lm_head.bias"].copy(),
    }


def with_the_bias_at_the_decoder_alone(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors = dict(tensors)
    return tensors | {"lm_head.decoder.bias": tensors.pop("lm_head.bias")}


@pytest.mark.parametrize(
    "respell",
    [
        spelt_without_prefix,
        spelt_gamma_beta,
        with_unused_tensors,
        with_tied_copies,
        with_the_bias_at_the_decoder_alone,
    ],
)
def test_other_spellings_read_the_same(tmp_path: Path, respell: Any) -> None:
    plain = read(directory_of(tmp_path / "plain", hf_tensors()))
    other = read(directory_of(tmp_path / "other", respell(hf_tensors())))
    assert same_bits(plain.flat, other.flat)


def test_an_untied_head_has_its_own_matrix_and_the_decoder_s_bias(tmp_path: Path) -> None:
    tensors = hf_tensors(UNTIED)
    params = read(directory_of(tmp_path / "v5", tensors, hf_values(UNTIED)))
    assert same_bits(params["head.decoder"], tensors["lm_head.decoder.weight"])
    assert same_bits(params["head.bias"], tensors["lm_head.decoder.bias"])
    tensors["lm_head.bias"] = tensors.pop("lm_head.decoder.bias")
    again = read(directory_of(tmp_path / "v4", tensors, hf_values(UNTIED)))
    assert same_bits(again.flat, params.flat)


def test_a_tied_copy_that_differs_is_refused(tmp_path: Path) -> None:
    tensors = with_tied_copies(hf_tensors())
    tensors["lm_head.decoder.weight"][0, 0] += 1
    with pytest.raises(ValueError, match=r"'lm_head\.decoder\.weight' differs from .*tie_word_embeddings"):
        read(directory_of(tmp_path, tensors))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("target", [np.float32, np.float64])
def test_any_float_storage_reads_as_its_cast(tmp_path: Path, dtype: Any, target: Any) -> None:
    tensors = {name: tensor.astype(dtype) for name, tensor in hf_tensors().items()}
    params = read(directory_of(tmp_path, tensors), target)
    expected = tensors["roberta.encoder.layer.1.output.dense.weight"].T.astype(target)
    assert same_bits(params["layers.1.feed_forward.output.kernel"], np.ascontiguousarray(expected))


def to_bfloat16(tensor: np.ndarray) -> np.ndarray:
    """The upper halves, as uint16: truncation, which is exact for what came from bfloat16."""
    return (np.ascontiguousarray(tensor, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def test_bfloat16_reads_exactly(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, hf_tensors())
    halves = {name: to_bfloat16(tensor) for name, tensor in hf_tensors().items()}
    header, stop = {}, 0
    for name, half in halves.items():
        start, stop = stop, stop + half.nbytes
        header[name] = {"dtype": "BF16", "shape": half.shape, "data_offsets": [start, stop]}
    text = json.dumps(header).encode()
    text += b" " * (1 - len(text) % 2)  # of odd length, so that nothing in the data is aligned
    content = struct.pack("<Q", len(text)) + text + b"".join(half.tobytes() for half in halves.values())
    (directory / "model.safetensors").write_bytes(content)
    params = read(directory)
    expected = (halves["lm_head.dense.bias"].astype(np.uint32) << 16).view(np.float32)
    assert same_bits(params["head.dense.bias"], expected)


def shards_of(path: Path, tensors: dict[str, np.ndarray], count: int = 3) -> dict[str, str]:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(hf_values()))
    places = {name: f"model-{i % count + 1:05d}-of-{count:05d}.safetensors" for i, name in enumerate(tensors)}
    for file in set(places.values()):
        safetensors.numpy.save_file({n: tensors[n] for n, f in places.items() if f == file}, path / file)
    write_index(path, places)
    return places


def write_index(path: Path, places: Any) -> None:
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_read_as_one_file(tmp_path: Path) -> None:
    whole = read(directory_of(tmp_path / "whole", hf_tensors()))
    shards_of(tmp_path / "shards", hf_tensors())
    assert same_bits(read(tmp_path / "shards").flat, whole.flat)


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "c:\\x", "a\0"])
def test_an_index_that_leaves_the_directory_is_refused(tmp_path: Path, place: str) -> None:
    directory_of(tmp_path, hf_tensors())  # so that ../model.safetensors exists and would load
    places = shards_of(tmp_path / "shards", hf_tensors())
    places[next(iter(places))] = place
    write_index(tmp_path / "shards", places)
    with pytest.raises(ValueError, match="must be the plain name of a file beside it"):
        read(tmp_path / "shards")


def test_shards_that_do_not_fit_their_index_are_refused(tmp_path: Path) -> None:
    places = shards_of(tmp_path, hf_tensors())
    write_index(tmp_path, places | {"lm_head.bias": places["lm_head.dense.bias"], "ghost": places["lm_head.bias"]})
    with pytest.raises(ValueError, match=r"lists tensors that are not in the shard that it names: .*ghost"):
        read(tmp_path)
    write_index(tmp_path, ["lm_head.bias"])
    with pytest.raises(ValueError, match="should have a weight_map"):
        read(tmp_path)
    write_index(tmp_path, places)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"names the shard model-00002.*isn't there"):
        read(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards_of(tmp_path, hf_tensors())
    whole = tmp_path / "model-00001-of-00003.safetensors"
    safetensors.numpy.save_file(hf_tensors(), whole)
    with pytest.raises(ValueError, match="is in two shards"):
        read(tmp_path)


def test_a_backbone_alone_gets_a_fresh_head_and_a_warning(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in hf_tensors().items() if not name.startswith("lm_head.")}
    tensors = spelt_without_prefix(tensors)
    whole = read(directory_of(tmp_path / "whole", hf_tensors()))
    directory = directory_of(tmp_path / "headless", tensors)
    with pytest.warns(UserWarning, match="no masked-LM head .* untrained one was initialised") as said:
        params = read(directory)
    assert said[0].filename == __file__  # and not a line of the package's
    fresh = Arrays(shapes(CONFIG))
    initialise(fresh, CONFIG)
    for name in params:
        assert same_bits(params[name], (fresh if name.startswith("head.") else whole)[name]), name
    assert params["head.dense.kernel"].any()


@pytest.mark.parametrize("name", ["lm_head.bias", "roberta.encoder.layer.1.attention.self.key.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    tensors = hf_tensors()
    del tensors[name]
    with pytest.raises(ValueError, match=rf"model\.safetensors lacks 1 of the {len(tensors) + 1} tensors .*: {name}"):
        read(directory_of(tmp_path, tensors))


def test_of_many_missing_tensors_the_first_few_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lacks \d+ of .* and 1[0-9] more"):
        read(directory_of(tmp_path, hf_tensors(), hf_values(num_hidden_layers=3)))


def test_tensors_without_a_place_are_named(tmp_path: Path) -> None:
    tensors = hf_tensors() | {"qa_outputs.weight": np.zeros((2, 2), np.float32)}
    with pytest.raises(ValueError, match=r"has 1 tensor .* does not have: qa_outputs\.weight"):
        read(directory_of(tmp_path, tensors))


def test_two_spellings_of_one_parameter_are_refused(tmp_path: Path) -> None:
    tensors = hf_tensors()
    tensors["embeddings.word_embeddings.weight"] = tensors["roberta.embeddings.word_embeddings.weight"].copy()
    with pytest.raises(ValueError, match="are the same parameter"):
        read(directory_of(tmp_path, tensors))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("roberta.embeddings.word_embeddings.weight", (24, 6), r"has shape \(24, 6\), expected \(23, 6\)"),
        ("roberta.embeddings.position_embeddings.weight", (7, 6), r"has shape \(7, 6\), expected \(9, 6\)"),
        ("roberta.embeddings.token_type_embeddings.weight", (1, 5), r"has shape \(1, 5\), expected \(any, 6\)"),
        ("roberta.embeddings.token_type_embeddings.weight", (0, 6), r"has shape \(0, 6\), expected \(any, 6\)"),
        ("roberta.encoder.layer.0.output.dense.weight", (10, 6), r"has shape \(10, 6\), expected \(6, 10\)"),
        ("lm_head.bias", (23, 1), r"has shape \(23, 1\), expected \(23,\)"),
    ],
)
def test_a_wrong_shape_is_named_with_both(tmp_path: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    tensors = hf_tensors() | {name: np.zeros(shape, np.float32)}
    with pytest.raises(ValueError, match=rf"model\.safetensors doesn't fit config\.json: {name} {message}"):
        read(directory_of(tmp_path, tensors))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["lm_head.dense.weight", "roberta.embeddings.token_type_embeddings.weight"])
def test_a_non_finite_value_is_named_with_its_place(tmp_path: Path, bad: float, name: str) -> None:
    tensors = hf_tensors()
    tensors[name][0, 3] = bad
    with pytest.raises(ValueError, match=rf"model\.safetensors: tensor '{name}' .* 1 value that isn't finite"):
        read(directory_of(tmp_path, tensors))


def test_what_overflows_the_wanted_dtype_is_refused(tmp_path: Path) -> None:
    tensors = {name: tensor.astype(np.float64) for name, tensor in hf_tensors().items()}
    tensors["lm_head.bias"][5] = 1e300
    directory = directory_of(tmp_path, tensors)
    with pytest.raises(ValueError, match=r"'lm_head\.bias' \(F64, read as float32\) has 1 value .* inf at \(5\)"):
        read(directory)
    assert read(directory, np.float64)["head.bias"][5] == 1e300


def test_integers_are_not_taken_for_weights(tmp_path: Path) -> None:
    tensors = hf_tensors() | {"lm_head.bias": np.zeros(23, np.int8)}
    with pytest.raises(ValueError, match=r"'lm_head\.bias' is stored as I8, expected one of F64, F32"):
        read(directory_of(tmp_path, tensors))


def test_a_pickle_that_is_none_of_torchs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf_values()))
    (tmp_path / "pytorch_model.bin").write_bytes(b"version https://git-lfs")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is not a file of torch"):
        read(tmp_path)


def test_of_two_kinds_of_weights_the_safe_one_is_read(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, hf_tensors())
    (directory / "pytorch_model.bin").write_bytes(b"never looked at")
    read(directory)


def test_a_directory_without_weights_tells_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf_values()))
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor .*; it has config\.json"):
        read(tmp_path)


# --- the safetensors file itself --------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
)
@examples(30)
def test_what_we_write_the_safetensors_package_reads(
    seed: int, sizes: list[list[int]], dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    tensors = {f"t{i}.é": rng.standard_normal(shape).astype(dtype).T for i, shape in enumerate(sizes)}
    file = tmp_path_factory.mktemp("st") / "x.safetensors"
    safetensors_io.write(file, tensors, dtype)
    theirs = safetensors.numpy.load_file(file)
    ours = {name: stored.array() for name, stored in safetensors_io.read(file).items()}
    assert theirs.keys() == ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert same_bits(theirs[name], np.ascontiguousarray(tensor).reshape(tensor.shape))
        assert same_bits(ours[name], theirs[name])


@given(cut=st.integers(0, 300), flip=st.integers(0, 300), bit=st.integers(0, 7))
@examples(150)
def test_a_damaged_file_gives_a_value_error_or_other_values_and_nothing_else(
    cut: int, flip: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    safetensors_io.write(file, {"a": np.ones((3, 4), np.float32), "b": np.zeros(5, np.float32)})
    content = bytearray(file.read_bytes())
    content[flip % len(content)] ^= 1 << bit
    file.write_bytes(content[: len(content) - min(cut // 2, len(content))] if cut % 2 else content)
    with contextlib.suppress(ValueError):  # anything else fails the test
        values = [stored.array() for stored in safetensors_io.read(file).values()]
        assert sum(value.nbytes for value in values) <= 2 * len(content)  # twice, for bfloat16 becomes float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (struct.pack("<Q", 2**63) + b"{}", "cut short or not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "its header should hold a JSON object, it holds a list"),
        (struct.pack("<Q", 2) + b"{x", "its header isn't valid JSON"),
        (struct.pack("<Q", 2) + b"\xff\xff", "its header isn't valid JSON"),
        (struct.pack("<Q", 7) + b'{"a":1}', "the header's entry for 'a'"),
        (struct.pack("<Q", 2) + b"{}" + b"junk", "take 0 bytes, but 4 follow"),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        safetensors_io.read(file)


def test_a_truncated_download_is_named(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, hf_tensors())
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is cut short"):
        read(directory)


def test_a_tensor_is_read_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    safetensors_io.write(file, {"a": np.ones(1000, np.float32), "b": np.ones(1000, np.float32)})
    found = safetensors_io.read(file)
    with open(file, "r+b") as opened:
        opened.seek(-4000, os.SEEK_END)
        opened.write(np.full(1000, 2.0, np.float32).tobytes())
    assert found["b"].array().tolist() == [2.0] * 1000
    file.unlink()  # it stays open
    assert found["a"].array().tolist() == [1.0] * 1000


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, UNTIED, dataclasses.replace(CONFIG, pad_id=5, start_id=3, end_id=9)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_written_reads_back_bit_for_bit(tmp_path: Path, config: RobertaConfig, dtype: str) -> None:
    params = random_params(config, dtype)
    params["head.bias"][0] = -0.0
    hf_writer.write(tmp_path / "preset", Contents(config, params), dtype=dtype)
    assert hf.read_config(Directory(tmp_path / "preset")) == config
    assert same_bits(read(tmp_path / "preset", dtype).flat, params.flat)


@given(
    seed=st.integers(0, 2**32 - 1),
    layers=st.integers(1, 12),
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 3),
    other=st.tuples(*[st.integers(1, 6)] * 3),
    ids=st.permutations(range(5)),
    rates=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
    tied=st.booleans(),
)
@examples(30)
def test_a_model_of_any_size_comes_back(
    seed: int, layers: int, heads: int, head_dim: int, other: Any, ids: list[int], rates: Any, tied: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    V, F, T = other
    named = dict(zip(("start_id", "pad_id", "end_id"), ids, strict=False))
    config = RobertaConfig(
        V + 4, layers, heads, heads * head_dim, F, *rates, max_sequence_length=T, tie_embeddings=tied, **named
    )
    params = random_params(config, seed=seed)
    directory = tmp_path_factory.mktemp("any") / "preset"
    hf_writer.write(directory, Contents(config, params))
    assert hf.read_config(Directory(directory)) == config
    assert same_bits(read(directory).flat, params.flat)


def test_float16_storage_rounds_once(tmp_path: Path) -> None:
    params = random_params()
    hf_writer.write(tmp_path / "preset", Contents(CONFIG, params), dtype="float16")
    assert same_bits(read(tmp_path / "preset").flat, params.flat.astype(np.float16).astype(np.float32))
    assert json.loads((tmp_path / "preset" / "config.json").read_text())["torch_dtype"] == "float16"


@pytest.mark.parametrize("config", [CONFIG, UNTIED])
def test_hf_to_pyroberta_to_hf_leaves_every_tensor(tmp_path: Path, config: RobertaConfig) -> None:
    before = hf_tensors(config)
    before["roberta.embeddings.position_embeddings.weight"][: config.pad_id + 1] = 0
    before["roberta.embeddings.token_type_embeddings.weight"][:] = 0
    if not config.tie_embeddings:
        before["lm_head.bias"] = before["lm_head.decoder.bias"].copy()
    first = directory_of(tmp_path / "first", before, hf_values(config))
    hf_writer.write(tmp_path / "second", Contents(hf.read_config(Directory(first)), read(first)))
    after = safetensors.numpy.load_file(tmp_path / "second" / "model.safetensors")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert same_bits(after[name], tensor), name
    with safetensors.safe_open(tmp_path / "second" / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("config", [CONFIG, UNTIED])
def test_the_written_config_json_is_roberta_base_s_keys(tmp_path: Path, config: RobertaConfig) -> None:
    hf_writer.write(tmp_path / "preset", Contents(config, random_params(config)))
    values = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert values == hf_values(config) | {"torch_dtype": "float32"}


def test_a_model_that_is_not_finite_is_not_saved_over_a_good_one(tmp_path: Path) -> None:
    good, bad = random_params(seed=1), random_params(seed=2)
    hf_writer.write(tmp_path / "preset", Contents(CONFIG, good))
    bad["head.dense.bias"][2] = np.nan
    with pytest.raises(ValueError, match=r"'lm_head\.dense\.bias' as float32 has 1 value .* nan at \(2\)"):
        hf_writer.write(tmp_path / "preset", Contents(CONFIG, bad))
    bad["head.dense.bias"][2] = 1e5
    with pytest.raises(ValueError, match=r"as float16 has 1 value .* inf at \(2\)"):
        hf_writer.write(tmp_path / "preset", Contents(CONFIG, bad), dtype="float16")
    assert same_bits(read(tmp_path / "preset").flat, good.flat)
    assert [entry.name for entry in tmp_path.iterdir()] == ["preset"]


def test_parameters_of_another_config_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"do not fit the config: head\.decoder differ"):
        hf_writer.write(tmp_path / "preset", Contents(UNTIED, random_params(CONFIG)))
    assert not list(tmp_path.iterdir())


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, bfloat16, float64, got 'int8'"):
        hf_writer.write(tmp_path / "preset", Contents(CONFIG, random_params()), dtype="int8")


def test_preprocessor_settings_come_back_and_are_optional(tmp_path: Path) -> None:
    settings = {"sequence_length": 64, "count": "exact"}
    hf_writer.write(tmp_path / "preset", Contents(CONFIG, random_params(), preprocessor=settings))
    assert hf.read_preprocessor(Directory(tmp_path / "preset")) == {"sequence_length": 64, "count": "exact"}
    hf_writer.write(tmp_path / "preset", Contents(CONFIG, random_params()))
    assert hf.read_preprocessor(Directory(tmp_path / "preset")) == {"sequence_length": 64, "count": "exact"}
    assert hf.read_preprocessor(Directory(directory_of(tmp_path / "theirs", hf_tensors()))) == {}


def test_saving_over_a_directory_leaves_no_older_weights_and_keeps_what_is_not_ours(tmp_path: Path) -> None:
    shards_of(tmp_path / "preset", hf_tensors())
    for name in ("README.md", "vocab.json", "merges.txt"):
        (tmp_path / "preset" / name).write_text(name)
    (tmp_path / "preset" / ".git").mkdir()
    (tmp_path / "preset" / ".git" / "HEAD").write_text("main")
    hf_writer.write(tmp_path / "preset", Contents(CONFIG, random_params()))
    files = sorted(entry.name for entry in (tmp_path / "preset").iterdir())
    assert files == [".git", "README.md", "config.json", "merges.txt", "model.safetensors", "vocab.json"]
    assert (tmp_path / "preset" / ".git" / "HEAD").read_text() == "main"


# --- names and places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("bare", [False, True])
def test_what_a_wrapper_put_in_front_of_all_names_is_left_out(tmp_path: Path, prefix: str, bare: bool) -> None:
    tensors = hf_tensors()
    if bare:
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("roberta.")}
        spelt = {prefix + name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}
    else:
        spelt = {prefix + name: tensor for name, tensor in tensors.items()}
    with contextlib.ExitStack() as stack:
        if bare:
            stack.enter_context(pytest.warns(UserWarning, match="no masked-LM head"))
        found, expected = read(directory_of(tmp_path / "a", spelt)), read(directory_of(tmp_path / "b", tensors))
    assert same_bits(found.flat, expected.flat)


def test_what_some_names_alone_have_in_front_is_named(tmp_path: Path) -> None:
    tensors = hf_tensors()
    name = "roberta.encoder.layer.0.output.dense.bias"
    tensors["_orig_mod." + name] = tensors.pop(name)
    with pytest.raises(
        ValueError, match=rf"lacks 1 of .*: {name}\. Does '_orig_mod\.{name}' stand for the first of them\?"
    ):
        read(directory_of(tmp_path, tensors))


def test_a_name_of_many_components_takes_no_time(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks"):
        read(directory_of(tmp_path, {"a." * 1000 + str(i): np.zeros(1, np.float32) for i in range(1000)}))


@pytest.mark.parametrize("key", [f"{name}_token_id" for name in ("bos", "pad", "eos", "cls", "sep", "mask", "unk")])
def test_a_special_token_beyond_the_vocabulary_is_refused_by_name(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf_values(**{key: CONFIG.vocabulary_size})))
    with pytest.raises(ValueError, match=rf"config\.json: {key} is 23, but the token embedding has only 23 rows"):
        hf.read_config(Directory(tmp_path))


@pytest.mark.parametrize("name", ["start_id", "pad_id", "end_id"])
def test_a_config_has_special_tokens_of_its_own_table(name: str) -> None:
    for id in (CONFIG.vocabulary_size, -1, True, 1.0):
        with pytest.raises(ValueError, match=rf"{name} must be the id of one of the 23 rows .*; got {id}"):
            dataclasses.replace(CONFIG, **{name: id})


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("root", "inside"),
    [
        ("models--org--name", f"snapshots/{COMMIT}"),
        ("hub", f"models--org--name/snapshots/{COMMIT}"),
        ("sentence-transformers", "0_Transformer"),
        ("trainer", "checkpoint-500"),
    ],
)
def test_a_directory_with_a_model_inside_says_where(tmp_path: Path, root: str, inside: str) -> None:
    directory = tmp_path / root
    (directory / inside).mkdir(parents=True)
    directory_of(directory / inside, hf_tensors())
    if root == "models--org--name":
        (directory / "refs").mkdir()
        (directory / "refs" / "main").write_text(COMMIT)
        (directory / "snapshots" / ("0" * 40)).mkdir()
        (directory / "snapshots" / ("0" * 40) / "config.json").write_text("{}")
    if root == "sentence-transformers":
        (directory / "config.json").write_text('{"__version__": "0.2.5"}')
    with pytest.raises(ValueError, match=rf"There may be a model inside: give '{directory / inside}'"):
        Backbone.from_preset(directory)


def test_a_directory_with_nothing_inside_says_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"it has a\.$"):
        Backbone.from_preset(tmp_path)


def test_the_search_inside_is_short(tmp_path: Path) -> None:
    for i in range(30):
        for j in range(60):
            (tmp_path / str(i) / str(j)).mkdir(parents=True)
    (tmp_path / "1" / "2" / "3" / "4").mkdir(parents=True)
    (tmp_path / "1" / "2" / "3" / "4" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"and 22 more\.$"):
        Backbone.from_preset(tmp_path)
