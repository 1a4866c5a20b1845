"""Filling masks, scoring and embedding, held to the logits of the model itself."""

from __future__ import annotations

import itertools
import json
import math
import re
import tracemalloc
import warnings

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import MaskedLM, MaskedLMPreprocessor, Tokenizer
from pyroberta.model.batch import Batch, pack
from pyroberta.tasks import inference, streaming

TEXT = "I <mask> my home <mask>."
MASKED = ["I <mask>.", TEXT, "<mask> is late.", "Who goes there, <mask> or <mask> or <mask>?", "I forgot<mask>"]
ROUNDING = {"float32": 1e-5, "float64": 1e-12}  # relative


def trained(dtype: str = "float64") -> MaskedLM:
    masked_lm = small_masked_lm(dtype=dtype)
    masked_lm.fit(TEXTS, epochs=3, batch_size=2, verbose=0)
    return masked_lm


def log_probs(masked_lm: MaskedLM, ids: list[int], columns: list[int]) -> np.ndarray:
    """Each mask's log probabilities, through the padded door. -> (K, V)"""
    z = masked_lm({"token_ids": [ids], "mask_positions": [columns]})[0]
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@pytest.fixture
def packed(monkeypatch) -> list[Batch]:
    """The batches that are packed from now on."""
    made: list[Batch] = []

    def spy(sequences) -> Batch:
        made.append(pack(sequences))
        return made[-1]

    monkeypatch.setattr(inference, "pack", spy)
    return made


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_batch_takes_the_next_sequence_as_long_as_it_stays_within_its_bounds(batch_size, monkeypatch):
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 100)
    lengths = np.random.default_rng(0).integers(2, 130, 300).tolist()  # some are longer than a batch
    batches = list(inference._cut(((length, number) for number, length in enumerate(lengths)), batch_size))
    assert [number for _, batch in batches for number in batch] == list(range(300))
    for tokens, batch in batches:
        assert tokens == sum(lengths[number] for number in batch)
        assert tokens <= 100 or len(batch) == 1
        assert batch_size is None or len(batch) <= batch_size
    for (tokens, batch), (_, following) in itertools.pairwise(batches):
        assert tokens + lengths[following[0]] > 100 or len(batch) == batch_size


def test_the_documentation_names_the_bound_on_a_batch():
    assert f"of up to {inference.TOKENS_AT_ONCE} tokens" in MaskedLM.score.__doc__


def test_sequences_share_batches_across_texts_the_longest_first(packed: list[Batch], monkeypatch):
    masked_lm = trained()
    lengths = sorted((len(small_tokenizer().encode(text)) for text in TEXTS), reverse=True)
    masked_lm.score(TEXTS)
    found = np.concatenate([np.diff(batch.starts) for batch in packed])
    assert found.tolist() == [length for length in lengths for _ in range(length - 2)]
    assert len(packed) == 2
    packed.clear()
    masked_lm.embed(TEXTS)
    (batch,) = packed
    assert np.diff(batch.starts).tolist() == lengths
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", 50)
    for ask in (masked_lm.score, masked_lm.embed, masked_lm.fill_mask):
        packed.clear()
        ask(MASKED)
        assert len(packed) > 1
        assert max(batch.num_tokens for batch in packed) <= 50
        packed.clear()
        ask(MASKED, batch_size=2)
        assert max(map(len, packed)) == 2


def test_the_memory_is_that_of_a_batch_however_many_texts_there_are():
    masked_lm = small_masked_lm(backend="numpy")  # whose memory tracemalloc sees
    text = "z" * 38  # 40 tokens with <s> and </s>, so that 51 of them are a full batch

    def peak(ask, count: int) -> int:
        tracemalloc.start()
        ask([text] * count)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    for ask, few in ((masked_lm.score, 2), (masked_lm.embed, 51), (masked_lm.fill_mask, 51)):
        text = text if ask != masked_lm.fill_mask else "<mask>" + text[:37]
        assert peak(ask, 8 * few) < 1.5 * peak(ask, few)


def test_the_logits_of_many_masks_are_made_in_parts(monkeypatch):
    masked_lm = trained()
    texts = ["<mask>" * count for count in (30, 1, 7)]
    expected, sizes = masked_lm.fill_mask(texts), []
    ops = masked_lm.backbone.ops
    masked_lm.backbone.ops = ops.__class__(
        **{**vars(ops), "logits": lambda h, *rest: sizes.append(len(h)) or ops.logits(h, *rest)}
    )
    monkeypatch.setattr(inference, "LOGITS_AT_ONCE", 4 * 300)
    found = masked_lm.fill_mask(texts)
    assert sizes == [4] * 9 + [2]
    assert [[f.token for f in mask] for mask in found[0]] == [[f.token for f in mask] for mask in expected[0]]
    assert [f.token for f in found[1]] == [f.token for f in expected[1]]
    sizes.clear()
    monkeypatch.setattr(inference, "LOGITS_AT_ONCE", 1)  # less than a row: one row then
    masked_lm.fill_mask(texts, targets=["go", "zzz"])
    assert set(sizes) == {1}


@pytest.mark.parametrize("name", ["score", "embed", "fill_mask", "targets"])
def test_a_text_that_is_too_long_is_refused_before_anything_is_computed(name: str, packed: list[Batch]):
    masked_lm = small_masked_lm()
    texts = ["<mask>", "b<mask>", "z" * 37 + "<mask>"]
    if name == "targets":
        with pytest.raises(ValueError, match="with target 'zzz' text 2 has 42 tokens, <s> and </s> included"):
            masked_lm.fill_mask(texts, targets=["go", "zzz"], batch_size=1)
    else:
        with pytest.raises(ValueError, match=r"text 2 has 41 tokens, .*; the model takes 40"):
            getattr(masked_lm, name)([*texts[:2], texts[2] + "z"], batch_size=1)
    assert packed == []


@pytest.mark.parametrize("name", ["score", "embed", "fill_mask"])
def test_a_bar_shows_how_far_it_is(name: str, capsys):
    ask, err = getattr(small_masked_lm(), name), lambda: capsys.readouterr().err
    ask(MASKED)  # one batch
    ask([])
    ask(MASKED, batch_size=1, verbose=0)
    assert err() == ""
    ask(MASKED, verbose=1)
    assert err().startswith(f"{name}: 1/1 steps, 0:00, tokens/s ")
    for verbose in ("auto", 1, 2):
        ask(MASKED[:1] * 3, batch_size=1, verbose=verbose)
        assert err().startswith(f"{name}: 9/9 steps, " if name == "score" else f"{name}: 3/3 steps, ")
    with pytest.raises(ValueError, match=r"verbose must be 0 \(silent\), 1"):
        ask(MASKED, verbose=3)


# --- fill_mask --------------------------------------------------------------------------------------------------------


def test_every_mask_gets_its_likeliest_tokens_with_their_probabilities():
    masked_lm = trained()
    ids = masked_lm.preprocessor.tokenizer.encode(TEXT)
    columns = [i for i, token in enumerate(ids) if token == masked_lm.preprocessor.tokenizer.mask_token_id]
    for mask, expected in zip(masked_lm.fill_mask(TEXT, top_k=4), log_probs(masked_lm, ids, columns), strict=True):
        best = np.argsort(-expected)[:4]
        assert [filling.token for filling in mask] == best.tolist()
        assert [filling.score for filling in mask] == pytest.approx(np.exp(expected[best]).tolist())


def test_the_whole_vocabulary_sums_to_one_however_large_top_k():
    fillings = trained().fill_mask("I <mask>.", top_k=10_000)
    assert len(fillings) == 300
    assert sum(filling.score for filling in fillings) == pytest.approx(1.0)
    assert [filling.score for filling in fillings] == sorted((f.score for f in fillings), reverse=True)


def test_one_text_or_several_with_one_mask_or_several_nest_as_documented():
    masked_lm = trained()
    one, several = masked_lm.fill_mask("I <mask>."), masked_lm.fill_mask(TEXT)
    assert [len(one), len(several), len(several[0])] == [5, 2, 5]
    for batch_size in (1, 32):
        both = masked_lm.fill_mask(("I <mask>.", TEXT), batch_size=batch_size)
        assert [f.token for f in both[0]] == [f.token for f in one]
        assert [[f.token for f in mask] for mask in both[1]] == [[f.token for f in mask] for mask in several]
    assert masked_lm.fill_mask([]) == []


def test_the_sequence_is_the_text_with_one_mask_filled():
    first, second = trained().fill_mask(TEXT, targets=["forgot"])
    assert first[0].sequence == "I forgot my home <mask>."
    assert second[0].sequence == "I <mask> my home forgot."
    assert json.loads(json.dumps(first[0].as_dict()))["token_str"] == " forgot"


@pytest.mark.parametrize(
    ("text", "target", "token_str", "sequence"),
    [
        ("I <mask> it", "got", " got", "I got it"),  # the space before the mask belongs to the word
        ("I <mask> it", " go", " go", "I go it"),
        ("I  \t<mask> it", "got", " got", "I got it"),
        ("<mask> it", "go", "go", "go it"),  # none at the start
        ("for<mask> it", "got", "got", "forgot it"),  # nor within a word
        ("(<mask>)", "go", "go", "(go)"),
        ("\u00a0<mask>", "got", " got", " got"),
        ("Ġ<mask>", "go", "go", "Ġgo"),  # a letter that only looks like a space
    ],
)
def test_targets_are_written_plainly(text: str, target: str, token_str: str, sequence: str):
    (filling,) = trained().fill_mask(text, targets=target)
    assert (filling.token_str, filling.sequence) == (token_str, sequence)


def test_without_lstrip_the_space_before_the_mask_is_a_token_of_its_own():
    tokenizer = small_tokenizer()
    kept = Tokenizer(tokenizer.vocabulary, tokenizer.merges, mask_lstrip=False)
    masked_lm = trained()
    masked_lm.preprocessor = MaskedLMPreprocessor(kept, sequence_length=40)
    (filling,) = masked_lm.fill_mask("I <mask> it", targets=["go"])
    assert (filling.token_str, filling.sequence) == ("go", "I go it")


def test_a_target_is_scored_by_the_product_of_its_tokens_probabilities():
    masked_lm = trained()
    tokenizer = masked_lm.preprocessor.tokenizer
    ids = tokenizer.encode("I <mask> it.")
    place = ids.index(tokenizer.mask_token_id)
    found = {
        filling.token_str: filling for filling in masked_lm.fill_mask("I <mask> it.", targets=["forgot", "zq", "zzz"])
    }
    assert set(found) == {" forgot", " zq", " zzz"}
    for word, filling in found.items():
        piece = tokenizer.encode(word, add_special_tokens=False)
        widened = [*ids[:place], *[tokenizer.mask_token_id] * len(piece), *ids[place + 1 :]]
        rows = log_probs(masked_lm, widened, list(range(place, place + len(piece))))
        assert filling.score == pytest.approx(math.exp(sum(rows[i, token] for i, token in enumerate(piece))))
        assert filling.token == (piece[0] if len(piece) == 1 else tuple(piece))
    scores = [filling.score for filling in masked_lm.fill_mask("I <mask> it.", targets=list(found), top_k=2)]
    assert scores == sorted((filling.score for filling in found.values()), reverse=True)[:2]


@pytest.mark.parametrize("targets", [None, ["forgot", "q", "zzz", "go", "homework"]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("budget", "batch_size"), [(2048, None), (30, None), (30, 2), (1, None)])
def test_what_fills_a_mask_does_not_depend_on_the_texts_beside_it(targets, dtype: str, budget, batch_size, monkeypatch):
    masked_lm = trained(dtype)
    alone = [masked_lm.fill_mask(text, targets=targets, top_k=300) for text in MASKED]
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", budget)
    together = masked_lm.fill_mask(MASKED, targets=targets, top_k=300, batch_size=batch_size)
    for a, b in zip(alone, together, strict=True):
        for one, other in zip(*([x] if not isinstance(x[0], list) else x for x in (a, b)), strict=True):
            scores = {filling.token: filling.score for filling in one}
            assert scores.keys() == {filling.token for filling in other}
            np.testing.assert_allclose(
                [filling.score for filling in other], [scores[f.token] for f in other], rtol=ROUNDING[dtype]
            )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"texts": "no hole"},
            r"text 0 holds no '<mask>': 'no hole'\. Write '<mask>' in the place of",
        ),
        ({"texts": ["a <mask>", ""]}, "text 1 holds no '<mask>'"),
        ({"texts": "a [MASK]"}, r"Write '<mask>', RoBERTa's mask, in the place of '\[MASK\]'$"),
        ({"texts": "a ___."}, r"in the place of '___'$"),
        ({"texts": "a <mask>", "top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"texts": "a <mask>", "top_k": -3}, "top_k must be"),
        ({"texts": "a <mask>", "top_k": 2.5}, "top_k must be"),
        ({"texts": "a <mask>", "targets": []}, "targets is empty"),
        ({"texts": "a <mask>", "targets": ["b", ""]}, "a target is the empty string"),
        ({"texts": "a <mask>", "batch_size": 0}, "batch_size must be"),
        ({"texts": "z" * 40 + "<mask>"}, "text 0 has 43 tokens, <s> and </s> included; the model takes 40"),
        ({"texts": "z" * 36 + "<mask>", "targets": ["zzz"]}, "with target 'zzz' text 0 has 41 tokens, <s> and </s>"),
    ],
)
def test_what_cannot_be_filled_is_said(arguments, message: str):
    with pytest.raises(ValueError, match=message):
        small_masked_lm().fill_mask(**arguments)


OTHERS = [
    "[MASK]", "[mask]", "<MASK>", "<Mask>", "<mask_1>", "<mask1>", "< mask >", "<|mask|>", "<extra_id_0>",
    "<extra_id_12>", "{mask}", "{{mask}}", "[[MASK]]", "<masked>", "<mask",
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_another_models_mask_beside_the_mask_is_said_to_be_text(other):
    masked_lm = small_masked_lm()
    text = f"A {other} and <mask>."
    said = f"1 of 2 texts has a mask in another form, which is read as text (text 1: {other!r}). Write '<mask>' in its"
    for method in (masked_lm.fill_mask, masked_lm.predict):
        with pytest.warns(UserWarning, match=f"^{re.escape(said)} place$") as warned:
            method(["I <mask>.", text], verbose=0)
        assert [warning.filename for warning in warned] == [__file__]


def test_masks_alone_in_brackets_too_are_no_masks_in_another_form():
    masked_lm = small_masked_lm()
    texts = ["I (<mask>) my [<mask>] home _<mask>_", "<mask><mask>", "He wore a mask or <mask>", "__<mask>__"]
    texts += ["Name: ____ <mask>", "a face (mask) of <mask>", "WEAR A MASK or <mask>"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked_lm.fill_mask(texts, verbose=0)
        masked_lm.predict(texts, verbose=0)
        masked_lm.score("A [MASK] and ___.")  # which fills no mask: any text is scored and embedded
        masked_lm.embed("A [MASK] and ___.")


def test_several_texts_with_masks_in_another_form_are_counted_once():
    masked_lm = small_masked_lm()
    texts = ["A <mask> [MASK] {mask}", "A <mask>", "A {mask} <mask>"]
    said = r"^2 of 3 texts have a mask in another form, .* \(the first is text 0: '\[MASK\]'\)"
    with pytest.warns(UserWarning, match=said) as warned:
        masked_lm.fill_mask(texts, targets=["dog"], verbose=0)
    assert len(warned) == 1
    with pytest.warns(UserWarning, match=said) as warned:
        list(streaming.stream(masked_lm, "fill_mask", texts, long_texts="refuse"))
    assert len(warned) == 1
    with pytest.warns(UserWarning, match=said) as warned:  # three batches
        masked_lm.predict(iter([[text] for text in texts]), verbose=0)
    assert len(warned) == 1


@pytest.mark.parametrize("other", OTHERS)
def test_the_masks_of_others_are_named(other: str):
    said = f"Write '<mask>', RoBERTa's mask, in the place of {other!r}"
    with pytest.raises(ValueError, match=re.escape(said)):
        small_masked_lm().fill_mask(f"Paris is {other}.")
    with pytest.raises(ValueError, match=r"no text has '<mask>', .* write <mask> instead of a word\. BERT's \[MASK\]"):
        small_masked_lm().predict([f"Paris is {other}."], verbose=0)


@pytest.mark.parametrize("text", ["She wears a mask.", "unmasked (a masquerade)", "a __init__ b", "Paris is it.", ""])
def test_words_are_taken_for_no_mask(text: str):
    with pytest.raises(ValueError, match=r"holds no '<mask>'.*\. Write '<mask>' in the place of the word"):
        small_masked_lm().fill_mask(text)


def test_targets_that_are_no_words_are_refused():
    for targets in ([3.0], 3.0, ["go", None], [b"go"], b"go", [True], [()]):
        with pytest.raises(TypeError, match=r"targets should be words, such as 'day', or ids of tokens; got "):
            small_masked_lm().fill_mask("a <mask>", targets=targets)


def test_a_target_that_is_the_name_of_a_word_is_read_by_its_letters_and_that_is_said():
    model = small_masked_lm()
    assert "Ġsea" in model.preprocessor.tokenizer.vocabulary
    with pytest.warns(
        UserWarning, match="1 of 2 targets begins with the letter Ġ, .* 'Ġsea'.* without it: 'sea'"
    ) as said:
        found = model.fill_mask("The <mask> fox and the <mask>", targets=["Ġsea", "day"])
    assert len(said) == 1
    assert {one.token_str for one in found[0]} == {" Ġsea", " day"}
    model.fill_mask("a <mask>", targets=["Ġurnata", "sea", "Ġ"])  # a letter of Maltese, and a plain word: no warning


def with_rows(masked_lm: MaskedLM, count: int) -> MaskedLM:
    """The model with more rows than the tokenizer has tokens, each of them likelier than all tokens."""
    masked_lm.resize_token_embeddings(count)
    with masked_lm.backbone.changing() as params:
        params["head.bias"][300:] = 50.0
    return masked_lm


def with_holes(masked_lm: MaskedLM, ids: list[int]) -> MaskedLM:
    """The same model, whose tokenizer lacks tokens of these ids; the others keep theirs."""
    tokenizer = small_tokenizer()
    gone = [token for token, id in tokenizer.vocabulary.items() if id in ids]
    vocabulary = {token: id for token, id in tokenizer.vocabulary.items() if token not in gone}
    merges = [pair for pair in tokenizer.merges if not {*pair, "".join(pair)} & set(gone)]
    masked_lm.preprocessor = MaskedLMPreprocessor(Tokenizer(vocabulary, merges), sequence_length=40)
    return masked_lm


def test_rows_without_a_token_are_no_candidates():
    expected = trained().fill_mask("I <mask> it", top_k=300)
    padded = with_rows(trained(), 320).fill_mask("I <mask> it", top_k=320)
    assert [f.token for f in padded] == [f.token for f in expected]
    assert sum(f.score for f in padded) < 1e-9  # all else is the padding's, and a score is the model's own
    assert [f.token for f in with_rows(trained(), 320).fill_mask(TEXT, top_k=2)[1]] == [
        f.token for f in trained().fill_mask(TEXT, top_k=2)[1]
    ]
    last = max(id for id in small_tokenizer().vocabulary.values() if id != small_tokenizer().mask_token_id)
    holes = with_holes(trained(), [last - 1, last])
    found = holes.fill_mask("I <mask> it", top_k=300)
    assert len(found) == 298
    assert {f.token for f in found} == set(range(300)) - {last - 1, last}
    assert {f.token: f.score for f in found}.items() <= {f.token: f.score for f in expected}.items()
    with pytest.raises(ValueError, match=f"target {last}: token id {last} at position 0 is not in the vocabulary"):
        holes.fill_mask("I <mask> it", targets=[last])


def test_targets_may_be_ids():
    masked_lm = trained()
    every = masked_lm.fill_mask("I <mask> it", top_k=300)
    for targets in (list(range(300)), np.arange(300), tuple(range(300))):
        assert masked_lm.fill_mask("I <mask> it", targets=targets, top_k=300) == every
    assert masked_lm.fill_mask("I <mask> it", targets=every[7].token) == [every[7]]
    assert masked_lm.fill_mask("I <mask> it", targets=np.int64(every[7].token)) == [every[7]]
    (word,) = masked_lm.fill_mask("I <mask> it", targets=["forgot"])
    assert isinstance(word.token, tuple)
    assert masked_lm.fill_mask("I <mask> it", targets=[word.token]) == [word]
    for wrong, error in (([300], ValueError), ([-1], ValueError), ([(5, 300)], ValueError), ([(5, "a")], TypeError)):
        with pytest.raises(error, match=r"target .*: token id"):
            masked_lm.fill_mask("a <mask>", targets=wrong)


@pytest.mark.parametrize("text", ["I <mask> it", "<mask>", "I forgot<mask>"])
def test_the_likeliest_token_is_found_by_what_fill_mask_says_of_it(text: str):
    masked_lm = trained()
    bias = masked_lm.params["head.bias"].copy()
    for token in small_tokenizer().ordinary_ids[::5]:  # whichever token is the likeliest
        with masked_lm.backbone.changing(["head.bias"]) as params:
            params["head.bias"][...] = bias + 30.0 * (np.arange(300) == token)
        (best,) = masked_lm.fill_mask(text, top_k=1)
        assert best.token == token
        if "\ufffd" not in best.token_str:  # some bytes of a character, which no text names
            assert masked_lm.fill_mask(text, targets=[best.token_str]) == [best]


def test_a_word_is_read_with_its_space_or_as_a_token_of_its_own_whichever_is_likelier():
    masked_lm = with_holes(trained(), [])
    tokenizer = masked_lm.preprocessor.tokenizer
    masked_lm.add_tokens([" ."])
    spaced, unspaced = tokenizer.vocabulary[" ."], tokenizer.vocabulary["."]
    for likelier, other in ((spaced, unspaced), (unspaced, spaced)):
        with masked_lm.backbone.changing() as params:
            params["head.bias"][[likelier, other]] = 3.0, 1.0
        assert [f.token for f in masked_lm.fill_mask("I <mask>", targets=["."])] == [likelier]
        assert [f.token for f in masked_lm.fill_mask("I <mask>", targets=[" ."])] == [spaced]
        assert [f.token for f in masked_lm.fill_mask("I<mask>", targets=["."])] == [unspaced]


def test_targets_of_the_same_tokens_are_one_candidate():
    masked_lm = trained()
    (once,) = masked_lm.fill_mask("I <mask> it", targets=["got"])
    assert masked_lm.fill_mask("I <mask> it", targets=["got", " got", "got", once.token]) == [once]
    found = masked_lm.fill_mask("I <mask> it", targets=["got", 5, " got", "zzz", 5])
    assert sorted(f.token_str for f in found) == sorted([" got", " zzz", masked_lm.preprocessor.tokenizer.decode([5])])


# --- score ------------------------------------------------------------------------------------------------------------


def test_a_score_masks_every_token_in_turn():
    masked_lm = trained()
    tokenizer = masked_lm.preprocessor.tokenizer
    ids = tokenizer.encode(TEXTS[1])
    expected = []
    for place in range(1, len(ids) - 1):
        hidden = [*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]
        expected.append(log_probs(masked_lm, hidden, [place])[0, ids[place]])
    score = masked_lm.score(TEXTS[1])
    assert "".join(score.tokens) == TEXTS[1]
    assert score.log_likelihoods == pytest.approx(expected)
    assert score.total == pytest.approx(sum(expected))
    assert score.perplexity == pytest.approx(math.exp(-sum(expected) / len(expected)))


def test_scores_do_not_depend_on_the_batch_size_and_follow_the_texts():
    masked_lm = trained()
    alone = [masked_lm.score(text).total for text in TEXTS]
    for batch_size in (1, 7):
        assert [score.total for score in masked_lm.score(TEXTS, batch_size=batch_size)] == pytest.approx(alone)
    assert masked_lm.score([]) == []


@pytest.mark.filterwarnings("ignore:.* no tokens")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("budget", "batch_size"), [(2048, None), (60, None), (60, 2), (1, None)])
def test_a_score_does_not_depend_on_the_texts_beside_it(dtype: str, budget, batch_size, monkeypatch):
    masked_lm = trained(dtype)
    texts = [*TEXTS, "", TEXTS[1], TEXT]
    alone = [masked_lm.score(text) for text in texts]
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", budget)
    together = masked_lm.score(texts, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(other.log_likelihoods, one.log_likelihoods, rtol=ROUNDING[dtype])
        assert other.total == pytest.approx(sum(other.log_likelihoods), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_are_those_of_the_log_softmax_of_all_logits(dtype: str):
    masked_lm = trained(dtype)
    for text, score in zip(TEXTS, masked_lm.score(TEXTS), strict=True):
        ids = np.array(small_tokenizer().encode(text))
        places = np.arange(1, len(ids) - 1)
        copies = np.repeat(ids[None], len(places), axis=0)
        copies[np.arange(len(places)), places] = small_tokenizer().mask_token_id
        z = masked_lm({"token_ids": copies, "mask_positions": places[:, None]})[:, 0].astype(np.float64)
        expected = z[np.arange(len(places)), ids[places]] - np.log(np.exp(z).sum(axis=1))
        np.testing.assert_allclose(score.log_likelihoods, expected, rtol=ROUNDING[dtype])


# Of each text the words as BPE gets them, so that the tokens of a word follow from nothing but its encoding.
WORDS = {
    "She sells unforgettable seashells.": ["She", " sells", " unforgettable", " seashells", "."],
    "Don't  go, 1984 was Orwell's!": ["Don", "'t", " ", " go", ",", " 1984", " was", " Orwell", "'s", "!"],
    "naïve café—日本": ["naïve", " café", "—", "日本"],
    "fox</s>fox<unk> is": ["fox", "</s>", "fox", "<unk>", " is"],
}


def directly(masked_lm: MaskedLM, words: list[str]) -> list[float]:
    """The log probability of each token, of a copy of the text that is masked from there to the end of its word."""
    tokenizer = masked_lm.preprocessor.tokenizer
    encoded = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    ids = [tokenizer.start_token_id, *itertools.chain(*encoded), tokenizer.end_token_id]
    found, place = [], 1
    for word in encoded:
        stop = place + len(word)
        for i in range(place, stop):
            copy = [*ids[:i], *[tokenizer.mask_token_id] * (stop - i), *ids[stop:]]
            if ids[i] not in (tokenizer.start_token_id, tokenizer.end_token_id):
                found.append(log_probs(masked_lm, copy, [i])[0, ids[i]])
        place = stop
    return found


@pytest.mark.parametrize("text", WORDS)
def test_the_later_tokens_of_a_word_are_masked_as_well(text: str):
    masked_lm = trained()
    score = masked_lm.score(text, rule="within_word_l2r")
    np.testing.assert_allclose(score.log_likelihoods, directly(masked_lm, WORDS[text]), rtol=1e-12)
    assert score.total == pytest.approx(sum(score.log_likelihoods))
    original = masked_lm.score(text)
    assert score.tokens == original.tokens
    assert (score.rule, original.rule) == ("within_word_l2r", "original")
    assert score.log_likelihoods != pytest.approx(original.log_likelihoods)


def test_where_each_word_is_one_token_the_rules_agree():
    masked_lm, text = trained(), "The the the."
    assert small_tokenizer().word_ids(text) == [0, 1, 2, 3]
    scores = [masked_lm.score(text, rule=rule).log_likelihoods for rule in inference.RULES]
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)


def test_the_windows_of_a_split_text_have_their_parts_of_a_word():
    masked_lm = trained()
    limit = masked_lm.backbone.config.max_sequence_length - 2
    text = "It is unforgettable seashells " * 4
    ids, words = (
        getattr(small_tokenizer(), name)(text, **more)
        for name, more in (("encode", {"add_special_tokens": False}), ("word_ids", {}))
    )
    assert words[limit - 1] == words[limit]  # a word lies across the border
    parts = [slice(i, i + limit) for i in range(0, len(ids), limit)]
    expected = []
    for part in parts:
        groups = [list(group) for _, group in itertools.groupby(words[part])]
        framed = [small_tokenizer().start_token_id, *ids[part], small_tokenizer().end_token_id]
        place = 1
        for group in groups:
            stop = place + len(group)
            for i in range(place, stop):
                copy = [*framed[:i], *[small_tokenizer().mask_token_id] * (stop - i), *framed[stop:]]
                expected.append(log_probs(masked_lm, copy, [i])[0, framed[i]])
            place = stop
    with pytest.warns(UserWarning, match="was split into"):
        score = masked_lm.score(text, rule="within_word_l2r", long_texts="split")
    np.testing.assert_allclose(score.log_likelihoods, expected, rtol=1e-12)
    with pytest.warns(UserWarning, match="was cut"):
        cut = masked_lm.score(text, rule="within_word_l2r", long_texts="cut")
    np.testing.assert_allclose(cut.log_likelihoods, expected[:limit], rtol=1e-12)


def test_another_rule_is_refused_by_name():
    for rule in ("l2r", ["original"]):
        message = re.escape(f"rule must be 'original' or 'within_word_l2r', got {rule!r}")
        with pytest.raises(ValueError, match=message):
            small_masked_lm().score("a", rule=rule)


def test_an_empty_text_scores_nothing():
    with pytest.warns(UserWarning, match=r"the only text has no tokens, .* perplexity NaN; it is text 0") as caught:
        score = small_masked_lm().score("")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match=r"2 of 3 texts have no tokens, .* the first is text 1"):
        assert [len(score.tokens) > 0 for score in small_masked_lm().score(["a", "", "</s>"])] == [True, False, False]
    assert (score.tokens, score.log_likelihoods, score.total) == ([], [], 0.0)
    assert math.isnan(score.perplexity)


def test_training_makes_its_texts_likelier():
    assert trained().score(TEXTS[1]).total > small_masked_lm().score(TEXTS[1]).total


# --- embed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-3, -2, -1, 0, 1, 2])
def test_embeddings_are_the_means_of_a_layers_hidden_states(layer: int):
    masked_lm = trained()
    states = masked_lm.embed(TEXTS, layer=layer, pooling=None)
    assert [state.shape for state in states] == [(len(small_tokenizer().encode(text)), 8) for text in TEXTS]
    pooled = masked_lm.embed(TEXTS, layer=layer, batch_size=4)
    assert pooled == pytest.approx(np.stack([state.mean(axis=0) for state in states]))
    assert masked_lm.embed(TEXTS[0], layer=layer) == pytest.approx(pooled[0])
    assert (masked_lm.embed(TEXTS, layer=layer % 3) == masked_lm.embed(TEXTS, layer=layer)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("budget", "batch_size"), [(2048, None), (30, None), (30, 2), (1, None)])
@pytest.mark.parametrize("pooling", ["mean", None])
def test_an_embedding_does_not_depend_on_the_texts_beside_it(pooling, dtype: str, budget, batch_size, monkeypatch):
    masked_lm = trained(dtype)
    alone = [masked_lm.embed(text, pooling=pooling) for text in TEXTS]
    monkeypatch.setattr(inference, "TOKENS_AT_ONCE", budget)
    together = masked_lm.embed(TEXTS, pooling=pooling, batch_size=batch_size)
    for one, other in zip(alone, together, strict=True):
        assert other.dtype == dtype
        np.testing.assert_allclose(other, one, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def test_the_last_layer_is_what_the_backbone_gives():
    masked_lm = trained()
    ids = small_tokenizer().encode(TEXTS[0])
    assert masked_lm.embed(TEXTS[0], pooling=None) == pytest.approx(masked_lm.backbone({"token_ids": [ids]})[0])


def test_odd_requests_for_embeddings():
    masked_lm = small_masked_lm()
    assert masked_lm.embed([]).shape == (0, 8)
    assert masked_lm.embed([], pooling=None) == []
    assert masked_lm.embed("").shape == (8,)
    for layer in (3, -4, 1.0):
        with pytest.raises(ValueError, match=f"layer must be from -3 to 2, since the model has 2; got {layer}"):
            masked_lm.embed("a", layer=layer)
    with pytest.raises(ValueError, match="pooling must be 'mean' or None, got 'max'"):
        masked_lm.embed("a", pooling="max")


@pytest.mark.parametrize("method", ["score", "embed"])
def test_the_name_of_a_file_is_taken_for_a_text_and_that_is_said(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("a text\nanother\n")
    ask = getattr(small_masked_lm(), method)
    with pytest.warns(UserWarning, match=r"'t.txt' is the name of a file.*pathlib.Path\('t.txt'\)"):
        ask("t.txt")
    with open("t.txt", encoding="utf-8") as file:
        assert len(ask(file)) == 2
