"""The tokenizer as KerasHub's users call it: calls, configs, what it is made of, vocabularies without some bytes."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizers import LOVE, LOVE_MERGES, TINY, TINY_MERGES

from pyroberta import MaskedLMPreprocessor, Tokenizer
from pyroberta.text.byte_level import BYTE_CHARACTERS


def tiny(**options) -> Tokenizer:
    return Tokenizer(TINY, TINY_MERGES, **options)


def lacking(**options) -> Tokenizer:
    """A tokenizer with `<unk>`, of which most bytes are missing."""
    return Tokenizer(LOVE, LOVE_MERGES, **options)


TRAINED = Tokenizer.train(["the quick brown fox, the slow black bear. " * 3], vocab_size=300)


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_gives_ids_without_a_frame():
    ids = TRAINED("quick fox.")
    assert ids.dtype == np.int32
    assert ids.tolist() == TRAINED.encode("quick fox.", add_special_tokens=False)
    assert TRAINED(["quick fox.", "the bear"]) == [ids.tolist(), TRAINED("the bear").tolist()]
    assert TRAINED.tokenize(["quick fox."]) == TRAINED(["quick fox."]) == TRAINED(("quick fox.",))
    assert TRAINED(np.array(["quick fox.", ""])) == [ids.tolist(), []]
    assert TRAINED(np.array("quick fox.")).tolist() == ids.tolist()
    assert TRAINED([]) == []
    assert TRAINED("").shape == (0,)


def test_the_examples_of_kerashubs_own_tests_give_their_ids():
    tokenizer = tiny()
    texts = ["<s> airplane at airport</s><pad>", " airplane airport"]
    assert tokenizer(texts) == [[0, 4, 5, 6, 4, 7, 2, 1], [4, 5, 4, 7]]
    assert tokenizer.detokenize(tokenizer(texts)) == texts
    page = {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "a": 4, "Ġquick": 5, "Ġfox": 6}
    merges = ["Ġ q", "u i", "c k", "ui ck", "Ġq uick", "Ġ f", "o x", "Ġf ox"]
    assert Tokenizer(vocabulary=page, merges=merges)(["a quick fox", "a fox quick"]) == [[4, 5, 6], [4, 6, 5]]


def test_sequence_length_pads_and_cuts_to_an_array():
    tokenizer = tiny(sequence_length=5)
    ids = tokenizer([" airplane airport", " at"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [[4, 5, 4, 7, 1], [6, 1, 1, 1, 1]]
    assert tokenizer(" at").tolist() == [6, 1, 1, 1, 1]
    assert tokenizer([]).shape == (0, 5)
    tokenizer.sequence_length = 2
    with pytest.warns(UserWarning, match=r"1 of 2 texts has more than .* 2 tokens \(the longest has 4\) and is cut"):
        assert tokenizer([" airplane airport", " at"]).tolist() == [[4, 5], [6, 1]]
    tokenizer.sequence_length = None
    assert tokenizer([" airplane airport"]) == [[4, 5, 4, 7]]
    with pytest.raises(ValueError, match="sequence_length must be a whole number of at least 1, got 0"):
        tokenizer.sequence_length = 0


def test_dtype_says_what_a_call_gives():
    assert tiny(dtype="int64")(" at").dtype == np.int64
    assert tiny(dtype=np.int32)(" at").dtype == np.int32
    tokens = tiny(dtype="string", sequence_length=3)
    assert tokens([" airplane", " at"]) == [["Ġair", "plane", "<pad>"], ["Ġat", "<pad>", "<pad>"]]
    assert tokens(" at") == ["Ġat", "<pad>", "<pad>"]
    assert tokens.encode(" at") == [0, 6, 2]
    with pytest.raises(ValueError, match=r"dtype must be one of int32, int64, string .*; got 'float32'"):
        tiny(dtype="float32")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (3, "inputs must be an iterable of str, got an int"),
        (b"text", "inputs must be an iterable of str, got a bytes"),
        ([1, 2], r"inputs\[0\] must be a str, got an int"),
        ([["a", "b"]], r"inputs\[0\] must be a str, got a list"),
        ([["a", "b"], ["c"]], r"inputs\[0\] must be a str, got a list"),
        (["a", b"b"], r"inputs\[1\] must be a str, got a bytes; decode it first"),
    ],
)
def test_what_is_no_text_is_named(wrong, said):
    with pytest.raises(TypeError, match=said):
        TRAINED(wrong)


def test_ids_of_every_shape_become_text():
    ids = TRAINED.encode("the fox", add_special_tokens=False)
    assert TRAINED.detokenize(ids) == TRAINED.detokenize(tuple(ids)) == TRAINED.detokenize(np.array(ids)) == "the fox"
    assert TRAINED.detokenize(np.array([ids, ids])) == TRAINED.detokenize([ids, ids]) == ["the fox", "the fox"]
    assert TRAINED.detokenize([np.array(ids), ids[:1]]) == ["the fox", "the"]
    assert TRAINED.detokenize([[], ids]) == ["", "the fox"]
    assert TRAINED.detokenize(np.zeros((0, 5), int)) == []
    assert TRAINED.detokenize(ids[0]) == TRAINED.detokenize(np.int32(ids[0])) == TRAINED.detokenize(np.array(ids[0]))
    assert TRAINED.detokenize([]) == ""
    assert TRAINED.detokenize(list(np.array(ids))) == "the fox"
    assert TRAINED.detokenize(TRAINED("the fox")) == "the fox"
    with pytest.raises(ValueError, match=r"ids must be of shape \(\), \(S,\) or \(B, S\), got \(1, 1, 1\)"):
        TRAINED.detokenize(np.zeros((1, 1, 1), int))
    with pytest.raises(TypeError, match="token ids must be whole numbers, got 'text'"):
        TRAINED.detokenize("text")
    with pytest.raises(ValueError, match="token id 999 at position 1 is not in the vocabulary"):
        TRAINED.detokenize([ids[0], 999])


@given(st.lists(st.text("the quickbrown fox.é日\n ", max_size=20), max_size=4))
def test_detokenize_gives_back_what_was_tokenized(texts):
    assert TRAINED.detokenize(TRAINED(texts)) == (texts if texts else "")


# --- what there is ----------------------------------------------------------------------------------------------------


def test_the_vocabulary_can_be_looked_at():
    tokenizer = tiny()
    assert tokenizer.vocabulary_size() == len(tokenizer) == 9
    assert tokenizer.get_vocabulary() == TINY
    assert [tokenizer.id_to_token(id) for id in range(9)] == TINY
    assert [tokenizer.token_to_id(token) for token in TINY] == list(range(9))
    for wrong in (9, -1):
        with pytest.raises(ValueError, match=f"token id {wrong} at position 0 is not in the vocabulary of 9"):
            tokenizer.id_to_token(wrong)
    with pytest.raises(ValueError, match="the vocabulary of 9 tokens has neither 'no' nor an unknown token"):
        tokenizer.token_to_id("no")
    assert lacking().token_to_id("no") == 3


def test_special_tokens_and_their_ids_go_together():
    for tokenizer in (tiny(), lacking(), TRAINED):
        roles = ("start", "pad", "end", "unk", "mask")
        tokens = {role: getattr(tokenizer, f"{role}_token") for role in roles}
        for role, token in tokens.items():
            expected = None if token is None else tokenizer.token_to_id(token)
            assert getattr(tokenizer, f"{role}_token_id") == expected
        assert set(tokenizer.special_tokens) == {token for token in tokens.values() if token is not None}
        assert [tokenizer.token_to_id(token) for token in tokenizer.special_tokens] == tokenizer.special_token_ids
    assert (tiny().unk_token, tiny().unk_token_id) == (None, None)
    assert lacking().unk_token_id == 3


def test_holes_in_the_ids_count_in_the_size_alone():
    tokenizer = Tokenizer({**{token: id for id, token in enumerate(TINY)}, "air": 20}, TINY_MERGES)
    assert (tokenizer.vocabulary_size(), len(tokenizer)) == (21, 9)
    assert tokenizer.get_vocabulary()[-1] == "air"


# --- what it is made of -----------------------------------------------------------------------------------------------


def test_vocabulary_and_merges_come_in_every_form(tmp_path):
    vocabulary = {token: id for id, token in enumerate(LOVE)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *LOVE_MERGES, ""]), "utf-8")
    pairs = [tuple(merge.split(" ")) for merge in LOVE_MERGES]
    made = [
        Tokenizer(of, merges)
        for of in (vocabulary, LOVE, tuple(LOVE), str(tmp_path / "vocab.json"), tmp_path / "vocab.json")
        for merges in (
            pairs, LOVE_MERGES, map(list, pairs), iter(LOVE_MERGES), ["#version: 0.2", *LOVE_MERGES],
            str(tmp_path / "merges.txt"), tmp_path / "merges.txt",
        )
    ]  # fmt: skip
    assert len(made) == 35
    for tokenizer in made:
        assert tokenizer.get_config() == lacking().get_config()


def test_files_that_make_no_tokenizer_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no_such\.json"):
        Tokenizer(tmp_path / "no_such.json", LOVE_MERGES)
    with pytest.raises(FileNotFoundError, match=r"no_such\.txt"):
        Tokenizer(LOVE, str(tmp_path / "no_such.txt"))
    (tmp_path / "list.json").write_text('["a"]')
    with pytest.raises(ValueError, match=r"list\.json should hold a JSON object, it holds a list"):
        Tokenizer(tmp_path / "list.json", LOVE_MERGES)
    (tmp_path / "merges.txt").write_text("l o\nv\n")
    with pytest.raises(ValueError, match=r"line 2 of .*merges\.txt' must be a merge"):
        Tokenizer(LOVE, tmp_path / "merges.txt")
    (tmp_path / "vocab.json").write_text(json.dumps({token: id for id, token in enumerate(LOVE)}))
    (tmp_path / "merges.txt").write_text("l o\n" * 100_000)
    with pytest.raises(ValueError, match="a list of 100000 merges for 16 tokens"):
        Tokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_unsplittable_tokens_are_recognised_before_bpe():
    words = ["love", "lo", "<s>"]
    tokenizer = lacking(unsplittable_tokens=words)
    assert tokenizer("loveslo").tolist() == [LOVE.index("love"), LOVE.index("s"), LOVE.index("lo")]
    assert tokenizer.added_tokens == {"love": False, "lo": False}
    assert {*words, *tokenizer.special_tokens} == set(tokenizer.unsplittable_tokens)
    assert lacking().unsplittable_tokens == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    with pytest.raises(ValueError, match=r"has no 'hate' \(added token\)"):
        lacking(unsplittable_tokens=["hate"])


# --- configs ----------------------------------------------------------------------------------------------------------


def test_a_config_is_json_and_makes_an_equal_tokenizer():
    added = TRAINED.vocabulary | {"[user]": 300}
    options = {"name": "mine", "sequence_length": 7, "dtype": "int64", "add_prefix_space": True, "mask_lstrip": False}
    for tokenizer in (
        tiny(),
        lacking(),
        TRAINED,
        Tokenizer(added, TRAINED.merges, added_tokens={"[user]": True}, **options),
    ):
        config = tokenizer.get_config()
        again = Tokenizer.from_config(json.loads(json.dumps(config)))
        assert again.get_config() == config
        assert vars(again).keys() == vars(tokenizer).keys()
        assert again.encode(" love") == tokenizer.encode(" love") if tokenizer is TRAINED else True
        assert pickle.loads(pickle.dumps(tokenizer)).get_config() == config
    assert config | options == config
    assert tiny().name == "tokenizer"


@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.parametrize("options", [{"dtype": "int64"}, {"dtype": "string", "sequence_length": 4}, {}])
def test_what_a_call_gives_is_saved(options, format, tmp_path):
    tokenizer = Tokenizer(TRAINED.vocabulary, TRAINED.merges, **options)
    tokenizer.save_to_preset(tmp_path / "preset", format=format)
    again = Tokenizer.from_preset(tmp_path / "preset")
    assert again.get_config() == tokenizer.get_config()
    assert np.asarray(again("love")).dtype == np.asarray(tokenizer("love")).dtype
    assert list(again("love")) == list(tokenizer("love"))


def test_a_config_as_kerashub_writes_it_needs_the_vocabulary():
    dtype = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "int32"}, "registered_name": None}
    theirs = {
        "name": "roberta_tokenizer", "trainable": True, "dtype": dtype, "config_file": "tokenizer.json",
        "sequence_length": None, "add_prefix_space": True, "unsplittable_tokens": ["<s>", "</s>", "<pad>", "<mask>"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="the config has no vocabulary and merges, which KerasHub keeps in files"):
        Tokenizer.from_config(theirs)
    tokenizer = Tokenizer.from_config(theirs | {"vocabulary": LOVE, "merges": LOVE_MERGES})
    assert (tokenizer.name, tokenizer.add_prefix_space, tokenizer.added_tokens) == ("roberta_tokenizer", True, {})


def test_an_argument_of_keras_without_an_effect_is_refused():
    assert tiny(trainable=True, config_file="tokenizer.json").name == "tokenizer"
    with pytest.raises(ValueError, match="has nothing that is trained, so trainable=False has no effect"):
        tiny(trainable=False)
    with pytest.raises(ValueError, match=r"has no such setting, so config_file='other.json' has no effect"):
        tiny(config_file="other.json")
    with pytest.raises(TypeError, match=r"Tokenizer\(\) got an unexpected keyword argument 'lowercase'"):
        tiny(lowercase=True)
    with pytest.raises(TypeError, match="name must be a text that isn't empty, got 3"):
        tiny(name=3)


# --- vocabularies that lack bytes -------------------------------------------------------------------------------------


def test_a_byte_that_the_vocabulary_lacks_is_the_unknown_token_and_is_told_once():
    tokenizer = lacking()
    with pytest.raises(UserWarning, match="lacks tokens for some bytes"):  # an error here, so it was not said
        tokenizer("lové loves")
    with pytest.warns(
        UserWarning, match=r"lacks tokens for some bytes, such as 0xc3 \('Ã'\) in 'lové': each becomes <unk>"
    ) as warned:
        ids = tokenizer("lové loves")
    assert len(warned) == 1
    lo, love = LOVE.index("lo"), LOVE.index("Ġlove")
    assert ids.tolist() == [lo, LOVE.index("v"), 3, 3, love, LOVE.index("s")]
    assert tokenizer.decode(ids) == "lov<unk><unk> loves"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "lov loves"
    assert tokenizer("xyz").tolist() == [3, LOVE.index("y"), 3]  # and no second warning


@pytest.mark.filterwarnings("ignore:the vocabulary lacks tokens")
def test_the_spans_of_unknown_bytes_are_those_of_their_characters():
    text = "love é, <mask>日"
    ids, spans = lacking().encode_with_offsets(text, add_special_tokens=False)
    assert len(ids) == len(spans)
    found = [text[start:stop] for start, stop in spans]
    assert found == ["love", "", "é", "é", ",", "<mask>", "日", "日", "日"]


def test_a_text_that_needs_an_absent_token_is_refused_where_nothing_stands_for_it():
    tokenizer = tiny()
    for text, token in (("zoo", "z"), (" airs", "s"), ("plan", "pla")):
        with pytest.raises(
            ValueError, match=rf"text needs the token '{token}' for .* Add the token or <unk> to the vocabulary"
        ):
            tokenizer(text)
        with pytest.raises(ValueError, match="text needs the token"):
            tokenizer.encode_with_offsets(text)
    with pytest.raises(ValueError, match=r"inputs\[1\] needs the token"):
        tokenizer([" at", "zoo"])
    assert tokenizer(" at").tolist() == [6]


def test_merges_through_absent_tokens_need_a_vocabulary_without_an_unknown_token():
    with pytest.raises(
        ValueError, match=r"merge 0, 'Ġ' . 'a', needs the token 'Ġ', which the vocabulary does not have"
    ):
        Tokenizer([*TINY, "<unk>"], TINY_MERGES)


@pytest.mark.filterwarnings("ignore:the vocabulary lacks tokens")
def test_a_lacking_vocabulary_is_saved_and_read(tmp_path):
    for name, tokenizer in {
        "with": lacking(),
        "without": Tokenizer([t for t in LOVE if t != "<unk>"], LOVE_MERGES),
    }.items():
        tokenizer.save(tmp_path / name)
        again = Tokenizer.load(tmp_path / name)
        assert again.get_config() == tokenizer.get_config()
        assert again("loves love").tolist() == tokenizer("loves love").tolist()
    with pytest.raises(ValueError, match="Hugging Face's tokenizers do not read such files"):
        tiny().save(tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_a_file_that_leaves_unknown_bytes_out_is_read_with_a_word(tmp_path):
    lacking().save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text("utf-8"))
    content["model"]["unk_token"] = None
    file.write_text(json.dumps(content), "utf-8")
    with pytest.warns(UserWarning, match=r"so `tokenizers` leaves such bytes out\. Here each of them becomes <unk>"):
        Tokenizer.load(tmp_path)
    content["model"] |= {"unk_token": "<unk>", "fuse_unk": True}
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"the model's fuse_unk in .* is True"):
        Tokenizer.load(tmp_path)
    content["model"] |= {"unk_token": "love", "fuse_unk": False}
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"has 'love' for the bytes .* lacks, but unk_token is '<unk>'"):
        Tokenizer.load(tmp_path)


@pytest.mark.filterwarnings("ignore:the vocabulary lacks tokens")
def test_unknown_bytes_are_never_masked():
    rates = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0}
    preprocessor = MaskedLMPreprocessor(lacking(), 16, **rates)
    features, labels, weights = preprocessor("love xé loves")
    assert 3 in features["token_ids"]
    assert 3 not in labels[weights > 0]
    assert (features["token_ids"] == LOVE.index("<mask>")).sum() == (weights > 0).sum() == 4


def test_only_a_vocabulary_with_all_bytes_takes_every_text():
    assert len(BYTE_CHARACTERS) == 256
    assert TRAINED.decode(TRAINED("\x00 é 日本 \U0001f642")) == "\x00 é 日本 \U0001f642"
