"""KerasHub's claims about RoBERTa's tokenizer, byte-level BPE and tokenizers in general."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
from claims import MERGES, VOCABULARY, claim, differs, hub_tokenizer
from small_models import small_tokenizer

from pyroberta import Tokenizer

ROBERTA = "keras_hub/src/models/roberta/roberta_tokenizer_test.py::RobertaTokenizerTest"
BYTES = "keras_hub/src/tokenizers/byte_pair_tokenizer_test.py::BytePairTokenizerTest"
BASE = "keras_hub/src/tokenizers/tokenizer_test.py::TokenizerTest"
TEXTS = ["<s> airplane at airport</s><pad>", " airplane airport"]
IDS = [[0, 4, 5, 6, 4, 7, 2, 1], [4, 5, 4, 7]]


@functools.cache
def base(**options) -> Tokenizer:
    """roberta-base's tokenizer, whose vocabulary is in the package."""
    tokenizer = Tokenizer.from_preset("roberta_base_en")
    return Tokenizer(tokenizer.vocabulary, tokenizer.merges, **options) if options else tokenizer


def plain(ids):
    """Ids as lists, whatever arrays they come in."""
    return [each.tolist() if isinstance(each, np.ndarray) else each for each in ids] if len(ids) else []


# ----------------------------------------------------------------------------------------------------------- RoBERTa's


@claim(f"{ROBERTA}::test_tokenizer_basics", f"{BASE}::test_tokenize")
@pytest.mark.parametrize("method", ["__call__", "tokenize"])
def test_a_batch_of_texts(method):
    assert plain(getattr(hub_tokenizer(), method)(TEXTS)) == IDS


@claim(f"{ROBERTA}::test_tokenizer_basics")
@pytest.mark.parametrize("which", [0, 1])
def test_a_text(which):
    assert list(hub_tokenizer()(TEXTS[which])) == IDS[which]


@claim(f"{ROBERTA}::test_tokenizer_basics", f"{BASE}::test_detokenize")
def test_ids_make_the_texts_again():
    assert list(hub_tokenizer().detokenize(IDS)) == TEXTS


@claim(f"{ROBERTA}::test_tokenizer_basics")
def test_a_tokenizer_is_made_again_of_its_config():
    tokenizer = hub_tokenizer()
    config = json.loads(json.dumps(tokenizer.get_config()))
    assert config == tokenizer.get_config()
    again = Tokenizer.from_config(config)
    assert again.get_config() == config


@claim(f"{ROBERTA}::test_errors_missing_special_tokens")
@pytest.mark.parametrize("vocabulary", [["a", "b", "c"], {"a": 0, "b": 1, "c": 2}])
def test_the_special_tokens_must_be_there(vocabulary):
    with pytest.raises((TypeError, ValueError)):
        Tokenizer(vocabulary=vocabulary, merges=[])


@claim(f"{ROBERTA}::test_errors_missing_special_tokens")
@pytest.mark.parametrize("token", ["<s>", "<pad>", "</s>", "<mask>"])
def test_each_special_token_must_be_there(token):
    vocabulary = {name: id for name, id in VOCABULARY.items() if name != token}
    with pytest.raises(ValueError, match=token):
        Tokenizer(vocabulary=vocabulary, merges=MERGES)


@claim(f"{ROBERTA}::test_smallest_preset")
def test_the_published_vocabulary():
    assert plain(base()(["The quick brown fox."])) == [[133, 2119, 6219, 23602, 4]]


@claim(f"{ROBERTA}::test_all_presets")
@pytest.mark.parametrize("name", ["roberta_base_en", "roberta_large_en"])
def test_each_preset_has_a_tokenizer(name):
    assert name in Tokenizer.presets
    assert Tokenizer.from_preset(name).vocabulary_size() == 50265


# ------------------------------------------------------------------------------------------------------ byte-level BPE


@claim(f"{BYTES}::test_tokenize_list_input")
@pytest.mark.parametrize("method", ["__call__", "tokenize"])
@pytest.mark.parametrize("kind", [list, np.array])
def test_texts_in_a_list_or_an_array(method, kind):
    assert plain(getattr(base(), method)(kind(["brown.", "black."]))) == [[31876, 4], [14178, 4]]


@claim(f"{BYTES}::test_tokenize_string_output")
def test_tokens_as_strings():
    found = base(dtype="string")(["quick brown fox.", "slow black bear."])
    assert plain(found) == [["quick", "Ġbrown", "Ġfox", "."], ["slow", "Ġblack", "Ġbear", "."]]


@claim(f"{BYTES}::test_tokenize_with_special_tokens")
@pytest.mark.parametrize(("unsplittable", "expected"), [(["s", "p"], [10, 11]), (None, [9])])
def test_tokens_that_are_never_joined(unsplittable, expected):
    vocabulary = {**VOCABULARY, "sp": 9, "s": 10, "p": 11}
    options = {} if unsplittable is None else {"unsplittable_tokens": unsplittable}
    assert list(Tokenizer(vocabulary=vocabulary, merges=["s p"], **options)("sp")) == expected


@claim(f"{BYTES}::test_tokenize_prefix_space")
def test_a_space_before_the_first_word():
    tokenizer = base(add_prefix_space=True)
    tokens = [[tokenizer.id_to_token(id) for id in ids] for ids in plain(tokenizer(["brown.", "black."]))]
    assert tokens == [["Ġbrown", "."], ["Ġblack", "."]]


@claim(f"{BYTES}::test_tokenize_scalar_input")
def test_one_text():
    assert list(base().tokenize("brown.")) == [31876, 4]


@claim(f"{BYTES}::test_detokenize_scalar_input", f"{BYTES}::test_detokenize_list_input")
@pytest.mark.parametrize("texts", [["quick brown fox."], ["quick brown fox.", "slow bear"]])
def test_texts_there_and_back(texts):
    assert list(base().detokenize(base().tokenize(texts))) == texts


@claim(f"{BYTES}::test_error_id_out_of_vocabulary")
@pytest.mark.parametrize("id", [50265, -1])
def test_an_id_outside_of_the_vocabulary_is_refused(id):
    with pytest.raises(ValueError, match=str(id)):
        base().id_to_token(id)


@claim(f"{BYTES}::test_whitespace_split")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("\n\n\n  s", [50140, 50118, 1437, 579]),
        ("  \n\n\ns", [1437, 1437, 50140, 50118, 29]),
        ("Hello\n\n", [31414, 50140]),
        ("Hello\n\n\n\n", [31414, 50140, 50140]),
    ],
)
def test_whitespace_is_split_as_there(text, ids):
    assert list(base()(text)) == ids


@claim(f"{BYTES}::test_special_whitespace")
def test_other_whitespace():
    assert list(base()("\xa0 \xa0 \x3000 s")) == [50141, 50143, 12096, 579]


@claim(f"{BYTES}::test_cjk_input")
def test_scripts_without_spaces():
    expected = [36714, 20024, 21402, 37127, 27, 20024, 48945, 47918, 47780, 43251, 4394, 10172, 36484, 27969, 12410]
    expected += [37127, 10965, 10674, 1864, 42393, 15722, 18164, 43251, 10809, 17772]
    assert list(base()("素晴らしい！芭比Q啦～")) == expected


@claim(f"{BYTES}::test_config")
def test_a_config_with_vocabulary_and_merges_makes_the_same_ids():
    tokenizer = base()
    again = Tokenizer.from_config(tokenizer.get_config())
    if hasattr(again, "set_vocabulary_and_merges"):
        again.set_vocabulary_and_merges(tokenizer.vocabulary, tokenizer.merges)
    assert list(again("the quick brown whale.")) == list(tokenizer("the quick brown whale."))


@claim(f"{BYTES}::test_tokenize_with_tf_data")
def test_texts_of_an_iterator():
    texts = ["I am just a test string", "I am also a test string", "I am still a test string"]
    found = [list(base()(text)) for text in iter(texts)]
    assert found[:2] == [[100, 524, 95, 10, 1296, 6755], [100, 524, 67, 10, 1296, 6755]]
    assert found == plain(base()(texts))


@claim(f"{BYTES}::test_tokenize_list_input")
def test_a_length_pads_and_cuts():
    tokenizer = Tokenizer(VOCABULARY, MERGES, sequence_length=6)
    with pytest.warns(UserWarning, match="cut"):
        found = tokenizer(TEXTS)
    assert isinstance(found, np.ndarray)
    assert found[1].tolist()[:4] == IDS[1]
    assert found.shape == (2, 6)
    assert found[0].tolist() == IDS[0][:6]


@claim(f"{BYTES}::test_config")
@pytest.mark.parametrize("kind", ["paths", "strings"])
def test_a_vocabulary_and_merges_in_files(tmp_path, kind):
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]), encoding="utf-8")
    names = [tmp_path / "vocab.json", tmp_path / "merges.txt"]
    tokenizer = Tokenizer(*(map(str, names) if kind == "strings" else names))
    assert plain(tokenizer(TEXTS)) == IDS


@claim(f"{BYTES}::test_config")
def test_a_vocabulary_can_be_asked():
    tokenizer = hub_tokenizer()
    assert tokenizer.vocabulary_size() == 9
    assert list(tokenizer.get_vocabulary()) == list(VOCABULARY)
    assert [tokenizer.id_to_token(id) for id in range(9)] == list(VOCABULARY)
    assert [tokenizer.token_to_id(token) for token in VOCABULARY] == list(range(9))


@claim(f"{ROBERTA}::test_tokenizer_basics")
@pytest.mark.parametrize(
    ("name", "id"), [("start_token_id", 0), ("pad_token_id", 1), ("end_token_id", 2), ("mask_token_id", 8)]
)
def test_special_tokens_have_ids(name, id):
    tokenizer = hub_tokenizer()
    assert getattr(tokenizer, name) == id
    assert id in tokenizer.special_token_ids
    assert list(VOCABULARY)[id] in tokenizer.special_tokens


# ---------------------------------------------------------------------------------------------------------------- base


@claim(f"{BASE}::test_preset_accessors")
def test_presets_have_names():
    assert {"roberta_base_en", "roberta_large_en"} <= set(Tokenizer.presets)
    assert "bert_tiny_en_uncased" not in Tokenizer.presets


@claim(f"{BASE}::test_from_preset")
def test_a_tokenizer_of_a_preset():
    assert isinstance(Tokenizer.from_preset("roberta_tiny_en"), Tokenizer)


@claim(f"{BASE}::test_from_preset_errors")
@pytest.mark.parametrize("preset", ["bert_tiny_en_uncased", "clowntown"])
def test_an_unknown_preset_is_refused(preset):
    with pytest.raises((ValueError, FileNotFoundError), match=preset):
        Tokenizer.from_preset(preset)


@claim(f"{BASE}::test_save_to_preset")
def test_a_tokenizer_is_saved_as_kerashub_saves_it(tmp_path):
    small_tokenizer().save_to_preset(tmp_path / "preset", format="keras")
    assert (tmp_path / "preset/assets/tokenizer/vocabulary.json").exists()
    assert (tmp_path / "preset/assets/tokenizer/merges.txt").exists()
    config = json.loads((tmp_path / "preset/tokenizer.json").read_text(encoding="utf-8"))
    assert config["class_name"] == "RobertaTokenizer"


@claim(f"{BASE}::test_save_to_preset")
@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_tokenizer_that_was_saved_is_loaded(tmp_path, format):
    small_tokenizer().save_to_preset(tmp_path / "preset", format=format)
    again = Tokenizer.from_preset(tmp_path / "preset")
    assert (again.vocabulary, again.merges) == (small_tokenizer().vocabulary, small_tokenizer().merges)


@differs(f"{BYTES}::test_whitespace_split")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello\n\nHello", [31414, 50118, 50118, 31414]),
        ("Hello\n\n\n\nHello", [31414, 50140, 50118, 50118, 31414]),
    ],
)
def test_newlines_before_a_word_are_split_as_the_model_has_learned_them(text, ids):
    assert list(base()(text)) == ids


@differs(f"{BYTES}::test_tokenize_with_tf_data")
def test_pythons_map_stands_in_tf_datas_place():
    batches = [TEXTS[:1], TEXTS[1:]]
    assert [plain(ids) for ids in map(hub_tokenizer(), batches)] == [IDS[:1], IDS[1:]]
    with pytest.raises(TypeError):
        hub_tokenizer()(object())  # what TensorFlow hands to a function that it maps
