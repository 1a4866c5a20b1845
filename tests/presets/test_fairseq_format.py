"""fairseq's checkpoints: every spelling that there is, and errors for what is no RoBERTa or damaged."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray as Array
from small_fairseq import ARGUMENTS, CONFIG, MERGES, NUMBERS, SYMBOLS, as_published, namespace, plain, preset, tensors
from small_models import TEXTS, random_params, small_config
from small_pickles import name_of, text, zipped
from small_presets import load

from pyroberta import Backbone, MaskedLM
from pyroberta.formats.directory import Directory
from pyroberta.model.parameters import Arrays
from pyroberta.presets import fairseq
from pyroberta.presets.fairseq_vocabulary import (
    are_numbers,
    gpt2_tokens,
    read_symbols,
    roberta_merges,
    roberta_tokenizer,
    vocabulary,
)
from pyroberta.text.byte_level import to_characters
from pyroberta.text.tokenizer import Tokenizer


def params_of(seed: int = 0, dtype: Any = np.float32) -> Arrays:
    return random_params(CONFIG, seed, dtype)


def read(directory: Path, dtype: Any = np.float32) -> Arrays:
    return fairseq.read_params(Directory(directory), fairseq.read_config(Directory(directory)), dtype)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "older"])
@pytest.mark.parametrize("naming", [tensors, lambda params: as_published(tensors(params))])
def test_every_parameter_is_read_bit_for_bit(tmp_path, kind, naming):
    params = params_of()
    config, found, tokenizer = load(preset(tmp_path / "p", naming(params), kind))
    assert config == CONFIG
    assert found.flat.tobytes() == params.flat.tobytes()
    assert tokenizer.vocabulary_size() == CONFIG.vocabulary_size
    tokens = gpt2_tokens(MERGES)
    assert [tokenizer.vocabulary[tokens[number]] for number in NUMBERS] == list(range(4, 4 + len(NUMBERS)))
    assert tokenizer.mask_token_id == CONFIG.vocabulary_size - 1


def test_other_widths_are_read_as_what_they_are(tmp_path):
    params = params_of(dtype=np.float64)
    halves = {name: values.astype(np.float16) for name, values in as_published(tensors(params)).items()}
    found = read(preset(tmp_path / "half", halves))
    for name, values in params.items():
        assert np.array_equal(found[name], values.astype(np.float16)), name
    assert read(preset(tmp_path / "double", tensors(params)), np.float64).flat.tobytes() == params.flat.tobytes()


@pytest.mark.parametrize("model", [plain, namespace])
def test_the_arguments_of_newer_versions_lie_in_cfg(tmp_path, model):
    arguments = {key: value for key, value in ARGUMENTS.items() if key not in ("arch", "max_positions")}
    task = {"_name": "masked_lm", "tokens_per_sample": 40}
    cfg = b"}(" + text("task") + plain(task) + text("model") + model({"_name": "roberta_base", **arguments}) + b"u"
    assert fairseq.read_config(Directory(preset(tmp_path / "p", tensors(params_of()), args=b"N", cfg=cfg))) == CONFIG


def test_what_the_arguments_do_not_say_is_fairseqs_default(tmp_path):
    config = fairseq.read_config(
        Directory(preset(tmp_path / "p", tensors(params_of()), args=namespace({"arch": "roberta"})))
    )
    assert (config.num_layers, config.num_heads, config.hidden_dim, config.intermediate_dim) == (12, 12, 768, 3072)
    assert (config.dropout, config.attention_dropout, config.layer_norm_epsilon) == (0.1, 0.1, 1e-5)
    assert (config.max_sequence_length, config.tie_embeddings) == (512, True)


def test_untied_weights_are_the_heads_own(tmp_path):
    found = tensors(params_of())
    found["encoder.lm_head.weight"] = found["encoder.lm_head.weight"] + 1.0
    params = read(preset(tmp_path / "p", found, arguments={"untie_weights_roberta": True}))
    assert np.array_equal(params["head.decoder"], params["embeddings.token"] + np.float32(1.0))
    with pytest.raises(
        ValueError, match=r"'encoder\.lm_head\.weight' differs from .*embed_tokens\.weight', but the arg"
    ):
        read(preset(tmp_path / "q", found))


def test_what_no_masked_lm_uses_is_left_out(tmp_path):
    more = {
        "classification_heads.mnli.dense.weight": np.full((8, 8), np.nan, np.float32),
        "encoder.sentence_encoder.version": np.ones(1, np.float32),
        "encoder.sentence_encoder.embed_positions._float_tensor": np.ones(1, np.float32),
    }
    params = params_of()
    assert read(preset(tmp_path / "p", {**tensors(params), **more})).flat.tobytes() == params.flat.tobytes()


def test_a_checkpoint_without_head_gets_a_fresh_one_and_says_so(tmp_path):
    params = params_of()
    found = {name: values for name, values in as_published(tensors(params)).items() if "lm_head" not in name}
    directory = preset(tmp_path / "p", found)
    with pytest.warns(UserWarning, match=r"has no masked-LM head \(lm_head\.\*\): an untrained one"):
        read_params = read(directory)
    assert np.array_equal(read_params["embeddings.position"], params["embeddings.position"])
    assert read_params["head.dense.kernel"].any()


def test_the_model_answers_as_the_one_that_it_came_from(tmp_path):
    params = params_of()
    model = MaskedLM.from_preset(preset(tmp_path / "p", as_published(tensors(params))), backend="numpy")
    assert model.preprocessor.sequence_length == 40
    other = MaskedLM(Backbone.from_parts(CONFIG, params, "numpy"), model.preprocessor)
    assert model.score(TEXTS[:1]) == other.score(TEXTS[:1])


# --- the vocabulary ---------------------------------------------------------------------------------------------------


def tokenizer_of(directory: Path, symbols: list[str], size: int) -> Tokenizer:
    (directory / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    return fairseq.read_tokenizer(Directory(directory), small_config(vocabulary_size=size))


def test_numbers_without_merges_are_gpt2s(tmp_path):
    tokenizer = tokenizer_of(tmp_path, [str(i) for i in range(50257)], 50262)
    assert tokenizer.encode("Hello world") == [0, 4 + 15496, 4 + 995, 2]


def test_encoder_json_says_what_the_numbers_mean(tmp_path):
    (tmp_path / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in MERGES))
    tokens = gpt2_tokens(MERGES)[::-1]
    (tmp_path / "encoder.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    numbers = [str(i) for i in range(len(tokens))]
    tokenizer = tokenizer_of(tmp_path, numbers, len(tokens) + 5)
    assert [tokenizer.id_to_token(4 + i) for i in range(len(tokens))] == tokens
    (tmp_path / "encoder.json").write_text(json.dumps({token: 2 * i for i, token in enumerate(tokens)}))
    with pytest.raises(ValueError, match=r"should give .* tokens the numbers 0 to"):
        tokenizer_of(tmp_path, numbers, len(tokens) + 5)


def test_tokens_as_text_take_merges_beside_them(tmp_path):
    tokens = gpt2_tokens(MERGES)
    with pytest.raises(FileNotFoundError, match=r"tokens as text, such as '!', .* vocab\.bpe or merges\.txt"):
        tokenizer_of(tmp_path, tokens, len(tokens) + 5)
    (tmp_path / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in MERGES))
    assert tokenizer_of(tmp_path, tokens, len(tokens) + 5).decode([4, 5]) == '!"'


@pytest.mark.parametrize("mark", ["symbol", "file"])
def test_a_sentencepiece_vocabulary_is_refused_by_name(tmp_path, mark):
    if mark == "file":
        (tmp_path / "sentencepiece.bpe.model").write_bytes(b"")
    with pytest.raises(ValueError, match="is a SentencePiece vocabulary"):
        tokenizer_of(tmp_path, ["▁the" if mark == "symbol" else "the"], 6)


MERGED = str(256 + len(MERGES) // 2)  # GPT-2's number of a merge's token


def test_a_dictionary_that_is_not_the_models_is_refused(tmp_path):
    directory = preset(tmp_path / "p", tensors(params_of()))
    for text_, message in (
        (
            "".join(f"{symbol} 1\n" for symbol in [*SYMBOLS, "madeupword0001"]),
            "a vocabulary of 30., but the model's",
        ),
        (
            "".join(f"{symbol} 1\n" for symbol in SYMBOLS[:-1]),
            "a vocabulary of ..., but the model's token embedding has",
        ),
        (
            "".join(f"{'madeupword0009' if symbol == MERGED else symbol} 1\n" for symbol in SYMBOLS),
            "does not fit the merges: .*needs the token",
        ),
    ):
        (directory / "dict.txt").write_text(text_)
        with pytest.raises(ValueError, match=message):
            load(directory)
    (directory / "dict.txt").write_bytes(b"\xff 1\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        load(directory)
    (directory / "dict.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no dict\.txt"):
        load(directory)
    assert load(directory, load_tokenizer=False)[0] == CONFIG


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"arch": "transformer_wmt_en_de"}, r"this is a 'transformer_wmt_en_de' model; pyroberta reads 'roberta'"),
        ({"arch": "roberta_prenorm"}, "this is a 'roberta_prenorm' model"),
        ({"arch": None}, "does not name its architecture"),
        ({"encoder_normalize_before": True}, "encoder_normalize_before is True, only False can be read"),
        (
            {"activation_fn": "relu"},
            r"activation_fn is 'relu', only 'gelu' can be read: RoBERTa's activation is the exact",
        ),
        ({"activation_fn": "gelu_accurate"}, "activation_fn is 'gelu_accurate'"),
        ({"encoder_learned_pos": False}, "encoder_learned_pos is False"),
        ({"encoder_layers": "3"}, "encoder_layers should be a whole number, got '3'"),
        ({"encoder_layers": -1}, "encoder_layers should be at least 0"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"encoder_attention_heads": 3}, "hidden_dim 8 is not a multiple of num_heads 3"),
        ({"encoder_layers": 2}, r"16 tensors that a model of the size in the arguments in it does not have"),
        ({"encoder_layers": 4}, r"lacks 16 of the .* tensors that the arguments in it calls for"),
        ({"max_positions": 41}, r"embed_positions\.weight has shape \(42, 8\), expected \(43, 8\)"),
        ({"encoder_ffn_embed_dim": 13}, r"fc1\.weight has shape \(12, 8\), expected \(13, 8\)"),
    ],
)
def test_arguments_that_are_not_this_models_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        read(preset(tmp_path / "p", tensors(params_of()), arguments=arguments))


def altered(**changes: Any) -> dict[str, Array]:
    found = as_published(tensors(params_of()))
    for name, values in changes.items():
        found[name.replace("__", ".")] = values
    return found


def test_tensors_that_are_not_this_models_are_named(tmp_path):
    first = "decoder__sentence_encoder__layers__0__"
    bad = np.ones((8, 12), np.float32)
    bad[3, 4] = np.nan
    cases = [
        (
            {first + "fc2__weight": bad},
            r"layers\.0\.fc2\.weight' \(F32, read as float32\) has 1 value that isn't finite",
        ),
        (
            {first + "self_attn__in_proj_weight": np.ones((25, 8), np.float32)},
            "expected a number of rows that is a multiple of 3",
        ),
        ({first + "self_attn__in_proj_weight": np.ones((27, 8), np.float32)}, r"has shape \(9, 8\), expected \(8, 8\)"),
        ({first + "self_attn__q_proj__weight": np.ones((8, 8), np.float32)}, "are the same parameter"),
        ({first + "self_attn__bias_k": np.ones((1, 8), np.float32)}, "does not have: .*bias_k"),
        ({"decoder__sentence_encoder__layer_norm__weight": np.ones(8, np.float32)}, "does not have: .*layer_norm"),
        ({first + "fc1__bias": np.ones(12, np.int64)}, "is stored as I64, expected one of"),
    ]
    for i, (changes, message) in enumerate(cases):
        with pytest.raises(ValueError, match=message):
            read(preset(tmp_path / str(i), altered(**changes)))
    found = altered()
    del found["decoder.sentence_encoder.embed_tokens.weight"]
    with pytest.raises(ValueError, match="has no token embedding"):
        read(preset(tmp_path / "none", found))


def test_what_is_no_checkpoint_says_so(tmp_path):
    directory = preset(tmp_path / "p", tensors(params_of()))
    zipped(directory / "model.pt", plain({"state": 1}), {})
    with pytest.raises(ValueError, match="not a fairseq checkpoint: it should hold a dict with the key 'model'"):
        load(directory)
    zipped(directory / "model.pt", plain({"args": {"arch": "roberta"}, "model": {"a": 1}}), {})
    with pytest.raises(ValueError, match="'model' should hold only tensors, each by its name, but 'a' has an int"):
        load(directory)
    (directory / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.pt"):
        fairseq.read_config(Directory(directory))


def test_a_config_that_is_an_object_is_refused_by_its_name(tmp_path):
    """Version 0.10.0 pickled omegaconf's own; later ones a plain dict."""
    made = name_of("omegaconf.dictconfig", "DictConfig") + b")\x81"
    directory = preset(tmp_path / "p", tensors(params_of()), cfg=made)
    with pytest.raises(ValueError, match=r"calls omegaconf\.dictconfig\.DictConfig.*could run code"):
        load(directory)


# --- names of the user's own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["checkpoint_best.pt", "checkpoint_last.pt"])
def test_a_checkpoint_of_fairseq_s_trainer_is_read_under_its_name(tmp_path, name):
    params = params_of()
    directory = preset(tmp_path / "p", tensors(params))
    (directory / "model.pt").rename(directory / name)
    assert load(directory)[1].flat.tobytes() == params.flat.tobytes()


def test_of_several_checkpoints_the_best_is_read(tmp_path):
    params = params_of()
    directory = preset(tmp_path / "p", tensors(params_of(seed=1)))
    (directory / "model.pt").rename(directory / "checkpoint_last.pt")
    preset(tmp_path / "q", tensors(params))
    (tmp_path / "q" / "model.pt").rename(directory / "checkpoint_best.pt")
    assert load(directory)[1].flat.tobytes() == params.flat.tobytes()


def test_an_architecture_of_the_user_s_own_is_judged_by_arguments_and_tensors(tmp_path):
    params = params_of()
    found = read(preset(tmp_path / "own", tensors(params), arguments={"arch": "my_tiny_roberta"}))
    assert found.flat.tobytes() == params.flat.tobytes()
    for i, (arguments, message) in enumerate(
        [
            ({"encoder_layers": None}, "'my_tiny_roberta' has no known sizes, .* lack encoder_layers$"),
            ({"encoder_normalize_before": True}, "encoder_normalize_before is True, only False can be read"),
            ({"encoder_layers_to_keep": "0,2"}, "encoder_layers_to_keep is '0,2', only None can be read"),
            ({"encoder_layers": 2}, "16 tensors that a model of the size in the arguments in it does not have"),
        ]
    ):
        with pytest.raises(ValueError, match=message):
            read(preset(tmp_path / str(i), tensors(params), arguments={"arch": "my_tiny_roberta", **arguments}))
    alien = {name.replace("fc1", "linear1"): values for name, values in tensors(params).items()}
    with pytest.raises(ValueError, match=r"lacks 6 of the .*fc1"):
        read(preset(tmp_path / "alien", alien, arguments={"arch": "my_tiny_roberta"}))


def test_dropout_that_is_left_out_is_said(tmp_path):
    directory = preset(
        tmp_path / "p", tensors(params_of()), arguments={"activation_dropout": 0.1, "encoder_layerdrop": 0}
    )
    with pytest.warns(UserWarning, match=r"trained with activation_dropout \(0\.1\), which only affect training"):
        fairseq.read_config(Directory(directory))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_a_wrapper_put_in_front_of_all_names_is_left_out(tmp_path, prefix):
    params = params_of()
    for kind, found in (("new", tensors(params)), ("old", as_published(tensors(params)))):
        wrapped = {prefix + name: values for name, values in found.items()}
        assert read(preset(tmp_path / kind, wrapped)).flat.tobytes() == params.flat.tobytes()


def test_a_byte_order_mark_before_the_dictionary_is_no_part_of_it(tmp_path):
    directory = preset(tmp_path / "p", tensors(params_of()))
    expected = load(directory)[2].vocabulary
    (directory / "dict.txt").write_bytes(b"\xef\xbb\xbf" + (directory / "dict.txt").read_bytes())
    (directory / "vocab.bpe").write_bytes(b"\xef\xbb\xbf" + (directory / "vocab.bpe").read_bytes())
    assert load(directory)[2].vocabulary == expected


# --- vocabularies as fairseq keeps them, and the one of roberta-base, which ships with the package --------------------


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return roberta_tokenizer()


def test_the_published_ids_come_out(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary_size() == len(tokenizer) == 50265
    assert tokenizer.encode("Hello world") == [0, 31414, 232, 2]
    assert tokenizer.encode("The capital of France is <mask>.") == [0, 133, 812, 9, 1470, 16, 50264, 4, 2]


def test_the_special_tokens_and_the_padding_have_the_published_ids(tokenizer: Tokenizer) -> None:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "madeupword0000", "madeupword0001", "madeupword0002", "<mask>"]
    assert [tokenizer.vocabulary[token] for token in tokens] == [0, 1, 2, 3, 50261, 50262, 50263, 50264]
    assert tokenizer.vocabulary["<|endoftext|>"] == 50260


def test_gpt2_s_numbers_follow_from_its_merges() -> None:
    """`Hello world` is 15496 995 to GPT-2; the first number is the exclamation mark's, the last the end of a text's."""
    tokens = gpt2_tokens(roberta_merges())
    assert (tokens[15496], tokens[995], tokens[0], tokens[50256]) == ("Hello", "Ġworld", "!", "<|endoftext|>")
    assert len(tokens) == len(set(tokens)) == 50257
    assert sorted(tokens[:256]) == sorted(to_characters(bytes([byte])) for byte in range(256))


def test_the_files_are_small_and_bear_their_licence() -> None:
    folder = resources.files("pyroberta.presets") / "embedded" / "roberta_vocabulary"
    assert sum(len((folder / name).read_bytes()) for name in ("dict.txt.gz", "merges.txt.gz")) < 400_000
    assert "2019 OpenAI" in (folder / "README.md").read_text("utf-8")


@given(text=st.text(max_size=40))
def test_every_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)[3:-4] == text


@given(symbols=st.lists(st.integers(0, 10**6).map(str), unique=True))
def test_the_symbols_are_read_in_their_order(symbols: list[str]) -> None:
    assert read_symbols("".join(f"{symbol} {len(symbol)}\n" for symbol in symbols) or "0 1\n", "d") == (
        symbols or ["0"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("13 5\n262\n", "d, line 2: expected a symbol and its count, got '262'"),
        ("13 many\n", "line 1: expected a symbol and its count"),
        ("\n", "line 1: expected a symbol and its count"),
        ("13 5\n262 4\n13 3\n", "line 3: the symbol '13' occurs twice; the first is line 1"),
        ("<pad> 5\n", "line 1: the symbol '<pad>' occurs twice; the first is a special token's"),
        ("<pad> 5 #fairseq:overwrite\n", "expected a symbol and its count"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_symbols(text, "d")


def test_a_number_beyond_the_merges_is_named() -> None:
    with pytest.raises(ValueError, match="d, line 2: 7 is not one of the 2 numbers"):
        vocabulary(["0", "7"], ["a", "b"], "d")


def test_the_mask_comes_last_or_where_the_lines_have_it() -> None:
    assert vocabulary(["0"], ["a"], "d")["<mask>"] == 5
    assert vocabulary(["<mask>", "0"], ["a"], "d") == {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "a": 5}


def test_numbers_are_told_from_tokens() -> None:
    assert are_numbers(["13", "madeupword0000", "<mask>"])
    assert not are_numbers(["13", "Ġthe"])
