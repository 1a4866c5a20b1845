"""Directories to and from transformers: every tensor bit for bit. Logits are compared where the model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_presets import HF_SIZES, as_ours
from transformers4 import IDS, WAYS, ask, needs_transformers4

from pyroberta.formats.directory import Directory
from pyroberta.model.batch import pack
from pyroberta.model.config import RobertaConfig
from pyroberta.model.model import model_logits
from pyroberta.model.parameters import Arrays, shapes
from pyroberta.ops import REFERENCE
from pyroberta.presets import hf, hf_writer
from pyroberta.presets.writing import Contents
from pyroberta.text.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def their_model(kind: str = "RobertaForMaskedLM", **changes: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.RobertaConfig(**HF_SIZES | changes))
    with torch.no_grad():  # biases, norms and pad rows too: nothing that could be lost unseen
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


def state(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def through_pyroberta(source: Path, target: Path, **options: Any) -> None:
    config = hf.read_config(Directory(source))
    hf_writer.write(target, Contents(config, hf.read_params(Directory(source), config)), **options)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"pad_token_id": 3}])
def test_a_directory_that_transformers_wrote_goes_through_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    import torch
    import transformers

    model = their_model(**changes)
    with torch.no_grad():
        model.roberta.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(tmp_path / "theirs")
    through_pyroberta(tmp_path / "theirs", tmp_path / "ours")
    again, report = transformers.RobertaForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    before, after = state(model), state(again)
    assert before.keys() == after.keys()
    unused = model.config.pad_token_id + 1
    for name, tensor in before.items():
        if name == "roberta.embeddings.position_embeddings.weight":
            assert not after[name][:unused].any()
            assert same_bits(after[name][unused:], tensor[unused:])
        elif name == "lm_head.bias" and not model.config.tie_word_embeddings:
            assert same_bits(after[name], before["lm_head.decoder.bias"])  # the one that counts
        else:
            assert same_bits(after[name], tensor), name


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_survive_the_way_through_with_token_types_folded(tmp_path: Path, types: int, tied: bool) -> None:
    import torch
    import transformers

    model = their_model(type_vocab_size=types, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path / "theirs")
    through_pyroberta(tmp_path / "theirs", tmp_path / "ours")
    again = transformers.RobertaForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    ids = torch.tensor([[0, 5, 9, 30, 2, 1, 1], [0, 7, 7, 8, 9, 10, 2]])
    with torch.no_grad():
        inputs = {"input_ids": ids, "attention_mask": (ids != 1).long()}
        expected, got = model(**inputs).logits[inputs["attention_mask"] == 1], again(**inputs).logits
    torch.testing.assert_close(got[inputs["attention_mask"] == 1], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_transformers_storage_of_any_width_reads_as_torch_casts_it(tmp_path: Path, dtype: str) -> None:
    import torch

    model = their_model().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    config = hf.read_config(Directory(tmp_path))
    params = hf.read_params(Directory(tmp_path), config)
    for ours, (theirs, transpose) in hf.renaming(config).items():
        expected = model.state_dict()[theirs].detach().float()
        expected = (expected.T if transpose else expected).contiguous().numpy()
        if ours != "embeddings.position":  # where the token type's row came in
            assert same_bits(params[ours], expected), ours


def test_shards_that_transformers_wrote_read_as_one_file(tmp_path: Path) -> None:
    model = their_model()
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="2KB")
    assert (tmp_path / "shards" / hf.INDEX).exists()
    config = hf.read_config(Directory(tmp_path / "shards"))
    whole, shards = (hf.read_params(Directory(tmp_path / kind), config) for kind in ("whole", "shards"))
    assert same_bits(whole.flat, shards.flat)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_torch_saved_reads_as_the_safetensors_file(tmp_path: Path, dtype: str, is_zip: bool) -> None:
    import torch

    model = their_model().to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "safe")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((tmp_path / "safe" / "config.json").read_bytes())
    torch.save(model.state_dict(), pickled / hf.PICKLE, _use_new_zipfile_serialization=is_zip)
    config = hf.read_config(Directory(pickled))
    assert same_bits(
        hf.read_params(Directory(pickled), config).flat, hf.read_params(Directory(tmp_path / "safe"), config).flat
    )


def test_shards_that_torch_saved_read_as_one_file(tmp_path: Path) -> None:
    import json

    import torch

    model = their_model()
    model.save_pretrained(tmp_path / "safe")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((tmp_path / "safe" / "config.json").read_bytes())
    state = model.state_dict()
    parts = {f"pytorch_model-{i + 1:05}-of-00002.bin": list(state)[i::2] for i in range(2)}
    for file, names in parts.items():
        torch.save({name: state[name].clone() for name in names}, pickled / file)
    places = {name: file for file, names in parts.items() for name in names}
    (pickled / f"{hf.PICKLE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = hf.read_config(Directory(pickled))
    assert same_bits(
        hf.read_params(Directory(pickled), config).flat, hf.read_params(Directory(tmp_path / "safe"), config).flat
    )


def test_a_roberta_model_without_head_loads_with_a_fresh_one(tmp_path: Path) -> None:
    model = their_model("RobertaModel")
    model.save_pretrained(tmp_path)
    config = hf.read_config(Directory(tmp_path))
    with pytest.warns(UserWarning, match="no masked-LM head"):
        params = hf.read_params(Directory(tmp_path), config)
    assert same_bits(params["embeddings.token"], state(model)["embeddings.word_embeddings.weight"])


def test_another_tasks_model_is_refused_by_the_tensors_that_it_has(tmp_path: Path) -> None:
    their_model("RobertaForTokenClassification").save_pretrained(tmp_path)
    config = hf.read_config(Directory(tmp_path))
    with pytest.raises(ValueError, match=r"does not have: .*classifier\.weight"):
        hf.read_params(Directory(tmp_path), config)


@pytest.mark.parametrize(
    ("config_class", "message"),
    [
        ("XLMRobertaConfig", "XLM-RoBERTa"),
        ("BertConfig", "BERT"),
        ("RobertaPreLayerNormConfig", "layer norms before"),
        ("CamembertConfig", "SentencePiece"),
    ],
)
def test_relatives_are_refused_by_the_model_type_that_transformers_writes(
    tmp_path: Path, config_class: str, message: str
) -> None:
    import transformers

    getattr(transformers, config_class)().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        hf.read_config(Directory(tmp_path))


def test_the_defaults_for_missing_keys_are_those_of_transformers(tmp_path: Path) -> None:
    import transformers

    theirs = transformers.RobertaConfig()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    ours = hf.read_config(Directory(tmp_path))
    for field, key, default in hf.FIELDS:
        assert getattr(ours, field) == getattr(theirs, key) == default
    assert ours.max_sequence_length == theirs.max_position_embeddings - theirs.pad_token_id - 1


def test_what_pyroberta_saves_transformers_loads_with_its_tokenizer(tmp_path: Path) -> None:
    import transformers

    tokenizer = Tokenizer.train(["The quick brown fox jumped.", "I forgot my homework."] * 3, vocab_size=275)
    config = RobertaConfig(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        max_sequence_length=16,
    )
    params = Arrays(shapes(config))
    params.flat[:] = np.random.default_rng(0).standard_normal(params.flat.size)
    hf_writer.write(tmp_path, Contents(config, params, tokenizer))
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(model).__name__ == "RobertaForMaskedLM"
    assert as_ours(config, state(model)).flat.tobytes() == params.flat.tobytes()
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("The quick <mask> jumped over my homework.", "", "  spaces  and\nlines ", "ünïcödé 🦊"):
        assert loaded(text)["input_ids"] == tokenizer.encode(text)
    assert loaded.mask_token_id == tokenizer.mask_token_id
    assert loaded.pad_token_id == config.pad_id


# --- version 4, whose files differ: pickles, keys of config.json, ties ------------------------------------------------


def our_logits(config: RobertaConfig, params: Arrays) -> np.ndarray:
    batch = pack([row.astype(np.int32) for row in IDS])
    rows = np.arange(batch.num_tokens)
    return model_logits(REFERENCE, params, config, batch, rows).reshape(*IDS.shape, -1)


@pytest.fixture(scope="module")
def of_version_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformers4")
    ask("write", str(path))
    return path


@needs_transformers4
@pytest.mark.parametrize("tied", ["tied", "untied"])
@pytest.mark.parametrize("way", WAYS)
def test_what_version_4_wrote_gives_its_logits(of_version_4: Path, way: str, tied: str) -> None:
    directory = of_version_4 / f"{way}-{tied}"
    files = [path.name for path in directory.iterdir()]
    assert any(name.endswith(".bin" if "bin" in way else ".safetensors") for name in files)
    assert any(name.endswith("index.json") for name in files) == ("sharded" in way)
    config = hf.read_config(Directory(directory))
    found = our_logits(config, hf.read_params(Directory(directory), config, np.float64))
    np.testing.assert_allclose(found, np.load(directory / "logits.npy"), rtol=1e-4, atol=1e-5)


@needs_transformers4
@pytest.mark.parametrize("tied", ["tied", "untied"])
def test_version_4_loads_ours(of_version_4: Path, tmp_path: Path, tied: str) -> None:
    directory = of_version_4 / f"whole-{tied}"
    config = hf.read_config(Directory(directory))
    hf_writer.write(tmp_path / "ours", Contents(config, hf.read_params(Directory(directory), config)))
    ask("read", str(tmp_path / "ours"))
    np.testing.assert_allclose(
        np.load(tmp_path / "ours" / "logits.npy"), np.load(directory / "logits.npy"), rtol=1e-4, atol=1e-5
    )
