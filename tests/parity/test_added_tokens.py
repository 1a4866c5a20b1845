"""Added tokens, and the table that grows for them, beside transformers and tokenizers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import small_masked_lm, small_tokenizer

from pyroberta import Tokenizer
from pyroberta.text.literals import MOST_IN_ALTERNATION

pytestmark = pytest.mark.parity

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
