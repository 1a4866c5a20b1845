"""What a tokenizer's files say, and tokens that are added, as `tokenizers` and transformers have them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_masked_lm, small_tokenizer
from small_tokenizers import BERT, BYTE_LEVEL, ROBERTA, TEMPLATES, directory_of, sequence

from pyroberta.text.literals import MOST_IN_ALTERNATION
from pyroberta.text.preprocessor import Preprocessor
from pyroberta.text.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

SENTENCES = ["the quick fox", " the fox", "  a", "", "fox <mask>", "a</s>b \n<mask>  <mask>", "été <pad>"]


def assert_equal(directory: Path) -> None:
    """The same ids and offsets, of texts and of pairs."""
    from tokenizers import Tokenizer as Peer

    ours, theirs = Tokenizer.load(directory), Peer.from_file(str(directory / "tokenizer.json"))
    for text in SENTENCES:
        for pair in (None, *SENTENCES):
            for special in (True, False):
                expected = theirs.encode(text, pair, add_special_tokens=special)
                ids, offsets = ours.encode_with_offsets(text, pair, add_special_tokens=special)
                assert ids == ours.encode(text, pair, add_special_tokens=special) == expected.ids, (text, pair)
                assert offsets == expected.offsets, (text, pair)


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("trims", [False, True])
@pytest.mark.parametrize("name", ["roberta", "bert", "bert, trimmed", "trimmed bert", *TEMPLATES])
def test_a_framing_is_followed(tmp_path: Path, name: str, trims: bool, prefix: bool) -> None:
    flags = {"trim_offsets": trims, "add_prefix_space": prefix}
    framing: dict[str, Any] = {
        "roberta": ROBERTA | flags,
        "bert": BERT,
        "bert, trimmed": sequence(BERT, BYTE_LEVEL | flags),
        "trimmed bert": sequence(BYTE_LEVEL | flags, BERT),
        **TEMPLATES,
    }[name]

    def edit(content: dict[str, Any]) -> None:
        content["post_processor"] = framing
        content["pre_tokenizer"]["add_prefix_space"] = prefix

    assert_equal(directory_of(tmp_path, edit))


@pytest.mark.parametrize("separators", [1, 2])
@pytest.mark.parametrize("trims", [False, True])
def test_a_framing_that_is_written_is_transformers_too(tmp_path: Path, separators: int, trims: bool) -> None:
    from transformers import AutoTokenizer

    small = small_tokenizer()
    ours = Tokenizer(small.vocabulary, small.merges, separators=separators, trim_offsets=trims)
    ours.save(tmp_path)
    assert_equal(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in SENTENCES:
        encoding = theirs(text, return_offsets_mapping=True)
        assert (encoding["input_ids"], encoding["offset_mapping"]) == ours.encode_with_offsets(text)
        for pair in filter(None, SENTENCES if text else ()):  # transformers takes an empty text for none
            assert theirs(text, pair)["input_ids"] == ours.encode(text, pair)


def renamed(content: dict[str, Any]) -> None:
    """Frames with tokens of the vocabulary that are no `<s>` and `</s>`."""
    vocabulary = content["model"]["vocab"]
    for token in ("[CLS]", "[SEP]"):
        vocabulary[token] = len(vocabulary)
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        content["added_tokens"].append({"id": vocabulary[token], "content": token, **flags, "special": True})
    content["post_processor"] |= {"cls": ["[CLS]", vocabulary["[CLS]"]], "sep": ["[SEP]", vocabulary["[SEP]"]]}


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_texts_are_framed_with_cls_and_sep(tmp_path: Path, form: str) -> None:
    from transformers import RobertaTokenizer

    named: dict[str, Any] = {"cls_token": "[CLS]", "sep_token": "[SEP]", "bos_token": "<s>", "eos_token": "</s>"}
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False}
    named |= {"mask_token": {"__type": "AddedToken", **mask}}
    directory = directory_of(tmp_path, renamed, {"tokenizer_class": "RobertaTokenizer", **named}, form)
    ours, theirs = Tokenizer.load(directory), RobertaTokenizer.from_pretrained(directory)
    assert ours.special_token_ids == sorted(set(theirs.all_special_ids))
    for text in SENTENCES:
        assert ours.encode(text) == theirs(text)["input_ids"]
        assert ours.decode(ours.encode(text), skip_special_tokens=True) == theirs.decode(
            theirs(text)["input_ids"], skip_special_tokens=True
        )
    assert ours.encode("a", "b") == theirs("a", "b")["input_ids"]
    assert ours.encode("a")[0] == ours.vocabulary["[CLS]"] != ours.vocabulary["<s>"]


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_added_tokens_of_tokenizer_config_alone_are_read(tmp_path: Path, form: str) -> None:
    from transformers import RobertaTokenizer

    size = small_tokenizer().vocabulary_size()
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    decoder = {
        str(size): {"content": "[user]", **flags, "normalized": True, "special": False},
        str(size + 1): {"content": "<end>", **flags, "normalized": False, "special": True},
    }
    directory = directory_of(tmp_path, None, {"added_tokens_decoder": decoder}, form)
    ours, theirs = Tokenizer.load(directory), RobertaTokenizer.from_pretrained(directory)
    assert ours.vocabulary_size() == len(theirs) == size + 2
    for text in ("fox [user] the<end>", "[user][user]", "a <end> b"):
        assert ours.encode(text) == theirs(text)["input_ids"]
        ids = ours.encode(text)
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("strategy", ["LongestFirst", "OnlyFirst"])
def test_a_truncation_is_a_preprocessor_s(tmp_path: Path, strategy: str) -> None:
    from tokenizers import Tokenizer as Peer
    from transformers import RobertaTokenizer

    truncation = {"direction": "Right", "max_length": 7, "strategy": strategy, "stride": 0}
    directory = directory_of(tmp_path, lambda content: content.update(truncation=truncation))
    text = "the quick brown fox jumped over the lazy dog"
    cut = Peer.from_file(str(directory / "tokenizer.json")).encode(text).ids
    tokenizer = Tokenizer.load(directory)
    assert len(cut) == 7
    with pytest.warns(UserWarning, match="the only text has more than 7 tokens"):
        assert Preprocessor(tokenizer, sequence_length=7).encode(text)[0].tolist() == cut
    whole = RobertaTokenizer.from_pretrained(directory)(text)["input_ids"]  # which doesn't cut unless it is told to
    assert tokenizer.encode(text) == whole != cut


def test_which_of_overlapping_tokens_is_found_depends_on_normalized(tmp_path: Path) -> None:
    """Why such tokens are refused: with other flags, `tokenizers` finds another."""
    from tokenizers import Tokenizer as Peer

    found = []
    for is_normalized in (False, True):
        edit = overlapping("x<user>", is_normalized)
        directory = directory_of(tmp_path / str(is_normalized), edit)
        found.append(Peer.from_file(str(directory / "tokenizer.json")).encode("x<user>").tokens[1:-1])
    assert found == [["x<user>"], ["x", "<user>"]]
    assert [
        Tokenizer.load(tmp_path / "False").id_to_token(i) for i in Tokenizer.load(tmp_path / "False").encode("x<user>")
    ][1:-1] == found[0]
    with pytest.raises(ValueError, match="overlap"):
        Tokenizer.load(tmp_path / "True")


def overlapping(token: str, is_normalized: bool) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        vocabulary = content["model"]["vocab"]
        for text, normalized in (("<user>", False), (token, is_normalized)):
            vocabulary[text] = len(vocabulary)
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": normalized}
            content["added_tokens"].append({"id": vocabulary[text], "content": text, **flags, "special": False})

    return edit


# --- added tokens, and the table that grows for them ------------------------------------------------------------------


tokens_ = st.lists(st.text(st.sampled_from("ab <>é東X"), min_size=1, max_size=4), max_size=4)
PIECES = ["a", "b", " ", "X", "<", "é", "東", "fox ", "<s>", " <mask>", "the"]


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """tokenizers' tokenizer of the small vocabulary, as text."""
    from tokenizers import Tokenizer as Peer

    directory = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save(directory)
    return Peer.from_file(str(directory / "tokenizer.json")).to_str()


FILLERS = [f"<{i:03}>" for i in range(MOST_IN_ALTERNATION // 5)]  # with which an automaton looks for the tokens


@given(tokens_, st.booleans(), st.booleans(), st.data())
def test_ids_counts_and_texts_are_those_of_tokenizers(peer, tokens, special, many, data):
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Peer

    ours, theirs = copy.deepcopy(small_tokenizer()), Peer.from_str(peer)
    tokens = tokens + FILLERS * many
    new = [AddedToken(token, normalized=False, special=special) for token in tokens]
    assert ours.add_tokens(tokens, special=special) == theirs.add_tokens(new)
    for _ in range(5):
        text = "".join(data.draw(st.lists(st.sampled_from([*PIECES, *tokens]), max_size=9)))
        ids = ours.encode(text)
        assert ids == theirs.encode(text).ids
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("special", [False, True])
def test_files_go_both_ways_with_transformers(tmp_path, special):
    from transformers import AutoTokenizer

    ours = copy.deepcopy(small_tokenizer())
    ours.add_tokens(["Tyrannosaurus", " Triceratops"], special=special)
    text = "The Tyrannosaurus and the Triceratops<mask>"
    ours.save(tmp_path / "ours")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert theirs(text)["input_ids"] == ours.encode(text)
    assert len(theirs) == ours.vocabulary_size()
    assert theirs.add_tokens(["<one more>"]) == 1
    theirs.save_pretrained(tmp_path / "theirs")
    back = Tokenizer.load(tmp_path / "theirs")
    assert back.encode(text + "<one more>") == theirs(text + "<one more>")["input_ids"]
    assert back.vocabulary_size() == ours.vocabulary_size() + 1


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_resized_table_is_that_of_transformers(tmp_path, tie_embeddings):
    import torch
    from transformers import RobertaForMaskedLM

    model = small_masked_lm(tie_embeddings=tie_embeddings)
    V = model.backbone.config.vocabulary_size
    with model.backbone.changing() as params:
        params["head.bias"][...] = np.random.default_rng(0).standard_normal(V) + 1.0
    model.save_to_preset(tmp_path / "model", dtype="float64")
    theirs = RobertaForMaskedLM.from_pretrained(tmp_path / "model", dtype=torch.float64)
    theirs.resize_token_embeddings(V + 2)
    model.backbone.resize_token_embeddings(V + 2)
    table, decoder = (m.weight.detach().numpy() for m in (theirs.get_input_embeddings(), theirs.lm_head.decoder))
    ours = model.params
    # Theirs is drawn from N(mean, 1e-9 · covariance): the deviation is 3e-5 of the rows' own.
    atol = 6 * 3.2e-5 * np.sqrt(8) * ours["embeddings.token"].std(axis=0).max()
    np.testing.assert_allclose(ours["embeddings.token"], table, rtol=0, atol=atol)
    np.testing.assert_allclose(
        ours["embeddings.token" if tie_embeddings else "head.decoder"], decoder, rtol=0, atol=atol
    )
    bias = theirs.lm_head.decoder.bias.detach().numpy()
    np.testing.assert_array_equal(ours["head.bias"][:V], bias[:V])
    if tie_embeddings:  # an untied head's new biases are the old ones' mean there, 0 here
        np.testing.assert_array_equal(ours["head.bias"][V:], bias[V:])
