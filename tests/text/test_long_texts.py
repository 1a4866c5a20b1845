"""Texts longer than the model takes: split, cut or refused, in every method, counted and said once."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import MaskedLM, TextClassifier
from pyroberta.data.inputs import MaskedLMInputs
from pyroberta.text.classifier_preprocessor import TextClassifierPreprocessor
from pyroberta.text.long_texts import LongTexts

TOKENIZER = small_tokenizer()
LETTERS = "zqjxvkwy" * 12  # of which no two make a token
QUIET = pytest.mark.filterwarnings("ignore:.* more than .* tokens")


def reader(sequence_length: int = 10, **keywords) -> MaskedLMInputs:
    masked_lm = small_masked_lm(settings={"sequence_length": sequence_length})
    return MaskedLMInputs(masked_lm.backbone.config, masked_lm.preprocessor, **keywords)


def short_lm(**keywords) -> MaskedLM:
    return small_masked_lm(settings={"sequence_length": 10}, **keywords)


def classifier() -> TextClassifier:
    preprocessor = TextClassifierPreprocessor(TOKENIZER, sequence_length=10)
    return TextClassifier(small_masked_lm().backbone, 2, preprocessor)


def parts_of(batch) -> list[str]:
    """The sequences of a batch as text, their labels put back."""
    ids = batch.ids.copy()
    ids[batch.target_rows] = batch.labels
    return [TOKENIZER.decode(part, skip_special_tokens=True) for part in np.split(ids, batch.starts[1:-1])]


def seen_by_fit(masked_lm: MaskedLM, monkeypatch, *x, **keywords) -> list[list[str]]:
    """The sequences of each update."""
    seen = []
    update = MaskedLM._update

    def spy(self, group, running):
        seen.append([part for batch in group for part in parts_of(batch)])
        return update(self, group, running)

    with monkeypatch.context() as patch:
        patch.setattr(MaskedLM, "_update", spy)
        masked_lm.fit(*x, verbose=0, **{"shuffle": False, **keywords})
    return seen


# --- the windows ------------------------------------------------------------------------------------------------------


@given(text=st.text(st.characters(codec="utf-8"), max_size=60), limit=st.integers(3, 12))
def test_windows_hold_every_token_once_and_their_special_tokens_count(text: str, limit: int):
    windows = LongTexts("split", limit).encode(TOKENIZER, (text,), "text 0")
    tokens = TOKENIZER.encode(text, add_special_tokens=False)
    assert [int(i) for ids in windows for i in ids[1:-1]] == tokens
    assert all((ids[0], ids[-1]) == (TOKENIZER.start_token_id, TOKENIZER.end_token_id) for ids in windows)
    assert [len(ids) for ids in windows[:-1]] == [limit] * (len(windows) - 1)
    assert len(windows[-1]) <= limit
    assert len(windows) == max(1, -(-len(tokens) // (limit - 2)))


def test_a_text_of_the_longest_length_is_left_alone():
    for choice in ("split", "cut", "refuse"):
        (ids,) = LongTexts(choice, 10).encode(TOKENIZER, (LETTERS[:8],), "text 0")
        assert ids.tolist() == TOKENIZER.encode(LETTERS[:8])


def test_texts_of_several_segments_have_no_windows():
    pair = (LETTERS[:6], LETTERS[:6])
    (ids,) = LongTexts("split", 10).encode(TOKENIZER, pair, "text 0")  # a default, so they are cut
    assert TOKENIZER.decode(ids) == "<s>zqj</s></s>zqj</s>"
    with pytest.raises(ValueError, match=r"text 0 has 16 tokens in 2 segments; .* can't be split into windows: pass"):
        LongTexts("split", 10, is_asked=True).encode(TOKENIZER, pair, "text 0")
    with pytest.raises(ValueError, match=r"text 0 has 16 tokens, <s> and </s> included; .* pass long_texts='cut'$"):
        LongTexts("refuse", 10).encode(TOKENIZER, pair, "text 0")


@pytest.mark.parametrize("choice", ["Split", "", None, True, 5])
def test_another_choice_is_refused_by_every_method(choice):
    masked_lm, model = small_masked_lm(), classifier()
    asks = [masked_lm.fill_mask, masked_lm.score, masked_lm.embed]
    if choice is not None:  # which is the default of these
        asks += [masked_lm.fit, masked_lm.evaluate, masked_lm.predict, model.fit, model.predict, model.classify]
        asks += [masked_lm.train_on_batch, masked_lm.test_on_batch, masked_lm.predict_on_batch]
    for ask in asks:
        with pytest.raises(ValueError, match=r"long_texts must be 'split', 'cut' or 'refuse', got "):
            ask(["a <mask>"], long_texts=choice)


# --- fit and evaluate -------------------------------------------------------------------------------------------------


def test_a_text_that_is_refused_is_named_by_its_place_and_with_what_may_be_passed(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(f'text,label\nshort,0\n"two\nlines",1\n{LETTERS} <mask>,0\n')
    place = re.escape(f"{path}, line 5 has 99 tokens")
    splits, cuts = "pass long_texts='cut' or long_texts='split'$", "pass long_texts='cut'$"
    masked_lm, of_classes, rows = small_masked_lm(), classifier(), {"column": "text"}
    for ask, advice in (
        (lambda: masked_lm.fit(path, long_texts="refuse", **rows), splits),
        (lambda: masked_lm.score(path, verbose=0, **rows), splits),
        (lambda: masked_lm.embed(path, verbose=0, **rows), splits),
        (lambda: masked_lm.embed(path, pooling=None, verbose=0, **rows), cuts),
        (lambda: masked_lm.fill_mask(path, verbose=0, **rows), cuts),
        (lambda: of_classes.predict(path, long_texts="refuse", verbose=0, **rows), cuts),
        (lambda: of_classes.fit(path, long_texts="refuse", label="label", verbose=0, **rows), cuts),
    ):
        with pytest.raises(ValueError, match=f"{place}, .*{advice}"):
            ask()
    path.write_text("text,label\n<mask>,0\nshort,0\n")
    with pytest.raises(ValueError, match=r"rows\.csv, line 3 holds no '<mask>': 'short'"):
        masked_lm.fill_mask(path, verbose=0, **rows)
    document = tmp_path / "document.txt"
    document.write_text(f"\nShort.\n\nShort. {LETTERS}")
    with pytest.raises(ValueError, match=r"document\.txt, line 4, sentence 0 has"):
        masked_lm.fit(document, full_sentences=True, long_texts="refuse", verbose=0)
    with pytest.raises(ValueError, match=rf"text 1 has \d+ tokens.*{cuts}"):  # segments have no windows
        of_classes.fit([("a", "b"), (LETTERS[:90], "b")], [0, 1], long_texts="refuse", verbose=0)


@QUIET
def test_a_masked_lm_learns_from_windows_unless_it_is_told_to_cut(monkeypatch):
    expected = [LETTERS[:8], LETTERS[8:16], LETTERS[16:20], "go"]
    assert seen_by_fit(short_lm(), monkeypatch, [LETTERS[:20], "go"]) == [expected]
    assert seen_by_fit(short_lm(), monkeypatch, [LETTERS[:20], "go"], long_texts="split") == [expected]
    assert seen_by_fit(short_lm(), monkeypatch, [LETTERS[:20], "go"], long_texts="cut") == [[LETTERS[:8], "go"]]
    with pytest.raises(
        ValueError, match=r"text 1 has 22 tokens, .*; the preprocessor's sequence_length is 10. Shorten"
    ):
        short_lm().fit(["go", LETTERS[:20]], long_texts="refuse")
    windows = short_lm().evaluate(expected, verbose=0)
    assert short_lm().evaluate([LETTERS[:20], "go"], verbose=0) == windows
    assert short_lm().test_on_batch([LETTERS[:20], "go"]) == pytest.approx(windows)


@QUIET
def test_pairs_are_cut_unless_they_are_asked_to_be_split_or_refused(monkeypatch):
    pairs = [(LETTERS[:6], LETTERS[:6]), "go"]
    assert seen_by_fit(short_lm(), monkeypatch, pairs) == [["zqjzqj", "go"]]
    for choice, message in (("split", "text 0 has 16 tokens in 2 segments"), ("refuse", "text 0 has 16 tokens")):
        with pytest.raises(ValueError, match=message):
            short_lm().fit(pairs, long_texts=choice)
        columns = ([LETTERS[:6]], [LETTERS[:6]])
        with pytest.raises(ValueError, match=message):
            short_lm().evaluate(columns, long_texts=choice)


def test_a_classifier_cuts_or_refuses_and_never_splits():
    model, texts, y = classifier(), [LETTERS[:20], "go"], [0, 1]
    for ask in (model.fit, model.evaluate):
        with pytest.warns(UserWarning, match=r"1 was cut, which drops 12 tokens"):
            ask(texts, y, verbose=0)
        with pytest.raises(ValueError, match=r"text 0 has 22 tokens"):
            ask(texts, y, long_texts="refuse")
        with pytest.raises(ValueError, match=r"one class, read at its <s>, so a text can't be split: pass long_texts="):
            ask(["go"], [0], long_texts="split")
    for ask in (model.predict, model.classify, model.predict_on_batch):
        with pytest.warns(UserWarning, match=r"1 was cut"):
            ask(texts)
        with pytest.raises(ValueError, match=r"text 0 has 22 tokens, .*; the preprocessor's sequence_length is 10"):
            ask(texts, long_texts="refuse")
        with pytest.raises(ValueError, match=r"a text can't be split"):
            ask(["go"], long_texts="split")


@QUIET
def test_each_window_has_the_weight_of_its_text():
    held = reader().examples([LETTERS[:20], "go", LETTERS[:9]], sample_weight=[2.0, 3.0, 0.5])
    assert held.weights.tolist() == [2.0, 2.0, 2.0, 3.0, 0.5, 0.5]
    (batch,) = held.fixed(99)
    owners = np.searchsorted(batch.starts, batch.target_rows, side="right") - 1
    assert batch.weights.tolist() == held.weights[owners].tolist()
    first, second = reader().examples(iter([([LETTERS[:9]], None, [0.5])])).fixed(99)
    assert set(first.weights) == set(second.weights) == {0.5}
    with pytest.raises(ValueError, match=r"one weight per text, \(2,\); got \(3,\)"):
        reader().examples([LETTERS[:9], "go"], sample_weight=[1.0, 1.0, 1.0])


@QUIET
def test_validation_split_counts_texts(monkeypatch):
    texts = ["go", "a", LETTERS[:80], "b"]  # ten windows in the third
    seen = seen_by_fit(short_lm(), monkeypatch, texts, validation_split=0.5)
    assert seen == [["go", "a"]]
    trained, kept = reader().examples(texts).split(0.25)
    assert (len(trained), len(kept)) == (12, 1)
    with pytest.raises(ValueError, match=r"must leave texts on both sides: 0.25 of 1 text does not"):
        short_lm().fit([LETTERS], validation_split=0.25)


@QUIET
def test_a_step_has_no_more_windows_than_its_batch_size(monkeypatch):
    texts = [LETTERS[:32], "go", LETTERS[:16]]  # 4, 1 and 2 windows
    seen = seen_by_fit(short_lm(), monkeypatch, texts, batch_size=3)
    assert [len(step) for step in seen] == [3, 3, 1]
    assert [part for step in seen for part in step] == [
        *(LETTERS[i : i + 8] for i in (0, 8, 16, 24)),
        "go",
        LETTERS[:8],
        LETTERS[8:16],
    ]
    masked_lm = short_lm()
    masked_lm.fit(texts, batch_size=3, gradient_accumulation_steps=2, epochs=2, verbose=0)
    assert masked_lm.optimizer.iterations == 4


@QUIET
def test_a_batch_of_an_iterable_is_taken_in_steps_of_as_many_windows_as_it_had_texts(monkeypatch):
    batches = [["go", LETTERS[:32]], [LETTERS[:16]], ["a", "b", "c"]]
    steps = [["go", LETTERS[:8]], [LETTERS[8:16], LETTERS[16:24]], [LETTERS[24:32]], [LETTERS[:8]], [LETTERS[8:16]],
             ["a", "b", "c"]]  # fmt: skip
    assert seen_by_fit(short_lm(), monkeypatch, iter(batches)) == steps


@QUIET
@pytest.mark.parametrize("kind", ["texts", "batches"])
def test_steps_per_epoch_counts_steps_of_windows_and_none_is_lost_between_epochs(kind: str, monkeypatch):
    texts = [LETTERS[:40], "go", LETTERS[:16], "a", "b"]  # 5, 1, 2, 1 and 1 windows
    windows = [*(LETTERS[i : i + 8] for i in range(0, 40, 8)), "go", LETTERS[:8], LETTERS[8:16], "a", "b"]
    x = iter(texts) if kind == "texts" else iter([[text] for text in texts])
    size = 1 if kind == "batches" else 2
    seen = seen_by_fit(short_lm(), monkeypatch, x, batch_size=2, steps_per_epoch=1, epochs=10 // size)
    assert [part for step in seen for part in step] == windows
    assert {len(step) for step in seen} == {size}


@QUIET
def test_a_stream_is_read_no_further_than_its_windows_are_needed():
    source = iter([LETTERS[:40], "a", "b", "c"])
    batches = reader().examples(source, stream=True).batches(2, 0, 0, shuffle=False)
    assert [len(next(batches)), len(next(batches))] == [2, 2]
    assert next(source) == "a"


@QUIET
def test_the_windows_of_one_batch_make_one_update():
    masked_lm, other = short_lm(), short_lm()
    masked_lm.train_on_batch([LETTERS])  # of 12 windows, one at a time
    assert masked_lm.optimizer.iterations == 1
    other.train_on_batch([LETTERS], long_texts="cut")
    assert (masked_lm.params.flat != other.params.flat).any()


@QUIET
def test_validation_data_is_split_and_cut_as_x_is():
    masked_lm = short_lm()
    history = masked_lm.fit(["go"], validation_data=[LETTERS[:20]], verbose=0).history
    assert history["val_loss"][0] == masked_lm.evaluate([LETTERS[:20]], verbose=0)[0]
    history = masked_lm.fit(["go"], validation_data=[LETTERS[:20]], long_texts="cut", verbose=0).history
    assert history["val_loss"][0] == masked_lm.evaluate([LETTERS[:8]], verbose=0)[0]
    with pytest.raises(ValueError, match=r"text 0 has 22 tokens"):
        masked_lm.fit(["go"], validation_data=[LETTERS[:20]], long_texts="refuse")


@pytest.mark.parametrize("choice", [None, "split", "cut", "refuse"])
def test_encoded_sequences_and_features_that_are_too_long_are_refused_whatever_is_chosen(choice):
    masked_lm, ids = small_masked_lm(), list(range(5, 46))
    features = {"token_ids": [ids], "mask_positions": [[1]]}
    for ask in (masked_lm.fit, masked_lm.evaluate, masked_lm.predict):
        if not (choice == "split" and ask == masked_lm.predict):
            with pytest.raises(
                ValueError, match=r"encoded sequence 0 has 41 tokens; the model takes 40. Cut it yourself"
            ):
                ask([ids], long_texts=choice)
    for ask in (masked_lm.fit, masked_lm.evaluate):
        with pytest.raises(
            ValueError, match=r"sequence 0 has 41 tokens, more than the model's max_sequence_length, 40"
        ):
            ask(features, [[5]], long_texts=choice)


# --- prediction -------------------------------------------------------------------------------------------------------


def test_predict_on_a_masked_lm_refuses_or_cuts_at_the_model_s_length():
    masked_lm = short_lm()
    fits, long = "<mask>" + LETTERS[:37], "<mask>" + LETTERS[:50]
    expected = masked_lm.predict([fits], verbose=0)  # more than the preprocessor's sequence_length
    for ask in (masked_lm.predict, masked_lm.predict_on_batch):
        with pytest.raises(ValueError, match=r"text 1 has 53 tokens, <s> and </s> included; the model takes 40"):
            ask([fits, long])
        with pytest.warns(
            UserWarning, match=r"the only text has more than 40 tokens .*: 1 was cut, which drops 13 tokens"
        ):
            assert ask([long], long_texts="cut") == pytest.approx(expected)
        with pytest.raises(
            ValueError, match=r"predict returns one answer per text, .*: pass long_texts='cut' or 'refuse'"
        ):
            ask([fits], long_texts="split")
        with pytest.raises(ValueError, match=r"text 1 would lose 1 '<mask>' by being cut to 40 tokens. Shorten"):
            ask([fits, f"{LETTERS[:38]}<mask>"], long_texts="cut")


def test_embed_gives_the_mean_over_the_tokens_of_all_windows():
    masked_lm = small_masked_lm()
    texts = ["go", LETTERS[:90], TEXTS[0]]
    with pytest.raises(ValueError, match=r"text 1 has 92 tokens, <s> and </s> included; the model takes 40"):
        masked_lm.embed(texts)
    windows = [LETTERS[:38], LETTERS[38:76], LETTERS[76:90]]
    states = np.concatenate(masked_lm.embed(windows, pooling=None))
    assert len(states) == 40 + 40 + 16
    with pytest.warns(UserWarning, match=r"1 of 3 texts has more than 40 tokens \(.* 92\): 1 was split into 3 windows"):
        found = masked_lm.embed(texts, long_texts="split")
    assert found.shape == (3, 8)
    assert found[1] == pytest.approx(states.mean(axis=0))
    assert found[[0, 2]] == pytest.approx(masked_lm.embed([texts[0], texts[2]]))
    with pytest.warns(UserWarning, match=r"1 was split"):
        assert masked_lm.embed(texts[1], long_texts="split") == pytest.approx(found[1])
    with pytest.warns(UserWarning, match=r"1 was cut, which drops 52 tokens"):
        assert masked_lm.embed(texts, long_texts="cut")[1] == pytest.approx(masked_lm.embed(LETTERS[:38]))
    with pytest.raises(ValueError, match=r"embed without pooling .* so a text can't be split: pass long_texts='cut'"):
        masked_lm.embed(["go"], pooling=None, long_texts="split")
    assert small_masked_lm(dtype="float32").embed(["go", "a"], long_texts="split").dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_split_text_s_embedding_has_the_models_dtype(dtype: str):
    masked_lm = small_masked_lm(dtype=dtype)
    with pytest.warns(UserWarning, match=r"split"):
        assert masked_lm.embed([LETTERS], long_texts="split").dtype == dtype


def test_score_gives_the_sum_over_all_windows():
    masked_lm = small_masked_lm()
    with pytest.raises(ValueError, match=r"text 1 has 92 tokens, .*; the model takes 40"):
        masked_lm.score(["go", LETTERS[:90]])
    parts = masked_lm.score([LETTERS[:38], LETTERS[38:76], LETTERS[76:90]])
    with pytest.warns(UserWarning, match=r"1 was split into 3 windows"):
        go, found = masked_lm.score(["go", LETTERS[:90]], long_texts="split")
    assert go.total == pytest.approx(masked_lm.score("go").total)
    assert "".join(found.tokens) == LETTERS[:90]
    assert found.total == pytest.approx(sum(part.total for part in parts))
    assert found.log_likelihoods == pytest.approx([value for part in parts for value in part.log_likelihoods])
    assert found.perplexity == pytest.approx(np.exp(-found.total / 90))
    with pytest.warns(UserWarning, match=r"1 was cut, which drops 52 tokens"):
        assert masked_lm.score(LETTERS[:90], long_texts="cut").total == pytest.approx(parts[0].total)


def test_fill_mask_cuts_no_mask_off():
    masked_lm = small_masked_lm()
    long = "<mask>" + LETTERS[:50]
    with pytest.raises(ValueError, match=r"text 0 has 53 tokens, .*; the model takes 40"):
        masked_lm.fill_mask(long)
    expected = masked_lm.fill_mask("<mask>" + LETTERS[:37])
    with pytest.warns(UserWarning, match=r"1 was cut, which drops 13 tokens"):
        found = masked_lm.fill_mask(long, long_texts="cut")
    assert [f.token for f in found] == [f.token for f in expected]
    assert found[0].sequence == found[0].token_str + LETTERS[:50]  # the answer is about the whole text
    with pytest.raises(ValueError, match=r"text 0 would lose 1 '<mask>' by being cut to 40 tokens"):
        masked_lm.fill_mask(f"<mask>{LETTERS[:50]}<mask>", long_texts="cut")
    with pytest.raises(ValueError, match=r"fill_mask returns an answer for every mask, so a text can't be split"):
        masked_lm.fill_mask("<mask>", long_texts="split")
    with pytest.warns(UserWarning, match=r"more than 38 tokens"):  # which leave room for a target of three
        found = masked_lm.fill_mask(long, targets=["zqj", "q"], long_texts="cut")
    expected = masked_lm.fill_mask("<mask>" + LETTERS[:35], targets=["zqj", "q"])
    assert [(f.token, f.score) for f in found] == [(f.token, pytest.approx(f.score)) for f in expected]


# --- said once --------------------------------------------------------------------------------------------------------


def said(ask, *arguments, **keywords) -> list[str]:
    """The warnings of a call, which all name this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ask(*arguments, **keywords)
    assert {warning.filename for warning in caught} <= {__file__}
    assert {warning.category for warning in caught} <= {UserWarning}
    return [str(warning.message) for warning in caught]


def test_what_was_split_or_cut_is_counted_and_said_once():
    masked_lm, texts = short_lm(), [LETTERS[:20], "go", LETTERS[:9], (LETTERS[:20], "b")]
    counts = (
        "3 of 4 texts have more than 10 tokens (the longest has 25): 2 were split into 5 windows and 1 was cut, which "
        "drops 15 tokens"
    )
    for kind in (list, iter):
        assert said(masked_lm.fit, kind(texts), epochs=3, verbose=0) == [counts]
        assert said(masked_lm.evaluate, kind(texts), verbose=0) == [counts]
    assert said(masked_lm.train_on_batch, texts) == said(masked_lm.test_on_batch, texts) == [counts]
    assert said(masked_lm.fit, texts, validation_split=0.25, verbose=0) == [counts]


@pytest.mark.parametrize("keywords", [{}, {"steps_per_epoch": 3}])
def test_of_batches_that_come_round_again_each_text_is_counted_once(keywords):
    batches = [[LETTERS[:16], "go"], ["a"]]
    message = "1 of 3 texts has more than 10 tokens (the longest has 18): 1 was split into 2 windows"
    assert said(short_lm().fit, Batches(batches), epochs=3, verbose=0, **keywords) == [message]
    assert said(short_lm().evaluate, iter(batches), verbose=0) == [message]


def test_what_is_read_once_is_counted_in_every_epoch():
    def message(texts):
        return f"{texts // 2} of {texts} texts have more than 10 tokens (the longest has 11): {texts // 2} were split "

    texts = iter([LETTERS[:9], "go"] * 4)  # each has a window of 8 letters and one of a letter
    (found,) = said(short_lm().fit, texts, batch_size=3, steps_per_epoch=1, epochs=4, verbose=0)
    assert found.startswith(message(8))
    batches = iter([[LETTERS[:9], "go"]] * 4)
    (found,) = said(short_lm().fit, batches, steps_per_epoch=2, epochs=4, verbose=0)
    assert found.startswith(message(8))
    validation = iter([[LETTERS[:9], "go"]] * 4)
    (found,) = said(short_lm().fit, ["go"], validation_data=validation, validation_steps=2, epochs=4, verbose=0)
    assert found.startswith("validation_data: " + message(8))
    with pytest.warns(UserWarning, match="2 of 4 texts have"), pytest.warns(UserWarning, match="the examples ran out"):
        short_lm().fit(iter([[LETTERS[:9], "go"]] * 2), steps_per_epoch=5, verbose=0)


class Batches:  # a list of lists would be texts with segments
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def test_validation_data_is_counted_apart():
    (message,) = said(short_lm().fit, ["go"], validation_data=["a", LETTERS[:9]], epochs=2, verbose=0)
    assert message.startswith("validation_data: 1 of 2 texts has more than 10 tokens (the longest has 11): 1 was split")
    first, second = said(short_lm().fit, [LETTERS], validation_data=Batches([[LETTERS]]), epochs=2, verbose=0)
    assert first.startswith("the only text has")
    assert second.startswith("validation_data: the only text has")


def test_a_preprocessor_called_by_itself_cuts_and_says_so():
    for preprocessor in (short_lm().preprocessor, classifier().preprocessor):
        for ask in (preprocessor, preprocessor.encode):
            assert said(ask, ["go", LETTERS[:9]]) == [
                "1 of 2 texts has more than 10 tokens (the longest has 11): 1 was cut, which drops 1 token"
            ]
        assert preprocessor.encode(["go"])[0].tolist() == TOKENIZER.encode("go")


def test_nothing_is_said_where_nothing_is_long():
    masked_lm = small_masked_lm()
    assert said(masked_lm.fit, TEXTS, verbose=0) == []
    assert said(masked_lm.embed, TEXTS, long_texts="split") == []
    assert said(masked_lm.fill_mask, "a <mask>", long_texts="cut") == []
