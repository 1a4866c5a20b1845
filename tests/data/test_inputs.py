"""What users hand over, told apart: texts, pairs, files, encoded sequences, features, and batches of them."""

from __future__ import annotations

import csv
import pathlib
import re
from itertools import cycle, repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import TEXTS, small_masked_lm, small_tokenizer

from pyroberta import TextClassifier, TextClassifierPreprocessor, Tokenizer
from pyroberta.data.examples import HeldExamples, StreamedExamples
from pyroberta.data.inputs import MaskedLMInputs

FEATURES = {"token_ids": [[0, 9, 8, 2]], "padding_mask": [[1, 1, 1, 1]], "mask_positions": [[1, 2]]}


def reader(**settings) -> MaskedLMInputs:
    masked_lm = small_masked_lm(settings=settings)
    return MaskedLMInputs(masked_lm.backbone.config, masked_lm.preprocessor)


def decoded(examples: HeldExamples) -> list[str]:
    tokenizer = small_tokenizer()
    return [tokenizer.decode(ids) for ids in np.split(examples.data.ids, examples.data.starts[1:-1])]


# --- told apart -------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4))
def test_a_list_its_array_and_its_iterator_hold_the_same_sequences(texts: list[str]):
    texts = ["a", *texts]
    held = reader().examples(texts)
    for other in (iter(texts), np.array(texts, object), (text for text in texts)):
        again = reader().examples(other)
        assert isinstance(again, HeldExamples)
        assert (again.data.ids == held.data.ids).all()
        assert (again.data.starts == held.data.starts).all()
    assert len(held) == len(texts)


def test_more_texts_than_are_read_at_a_time_keep_their_order():
    texts = [f"{i}" for i in range(2500)]
    assert decoded(reader().examples(iter(texts))) == [f"<s>{i}</s>" for i in range(2500)]


def test_segments_are_joined_by_two_separators():
    for x in ([("a", "b")], (["a"], ["b"])):
        assert decoded(reader().examples(x)) == ["<s>a</s></s>b</s>"]
    assert decoded(reader().examples((["a", "c"], ["b", "d"]))) == ["<s>a</s></s>b</s>", "<s>c</s></s>d</s>"]


def test_a_tuple_of_strings_is_refused_since_it_may_be_texts_or_segments():
    texts = ("a", "b", "c")
    masked_lm = small_masked_lm()
    classifier = TextClassifier(masked_lm.backbone, 2, preprocessor=TextClassifierPreprocessor(small_tokenizer(), 40))
    asked = [
        reader().examples, masked_lm.fit, masked_lm.evaluate, masked_lm.predict, masked_lm.predict_on_batch,
        masked_lm.train_on_batch, masked_lm.test_on_batch, classifier.predict, classifier.classify,
        lambda x: classifier.fit(x, [0, 1, 0]), lambda x: classifier.evaluate(x, [0, 1, 0]),
    ]  # fmt: skip
    for ask in asked:
        for x in (texts, texts[:1]):
            with pytest.raises(TypeError, match=r"a tuple of strings.*list\(x\) for the texts, \[x\] for the one text"):
                ask(x)
    for ask in (masked_lm.embed, masked_lm.score, masked_lm.preprocessor.tokenizer):  # where no text has segments
        assert len(ask(texts)) == 3
    assert len(masked_lm.fill_mask(("<mask>.", "I <mask>."))) == 2
    assert masked_lm.preprocessor(texts)[0]["token_ids"].ndim == 1  # KerasHub's, to which a tuple is one text
    assert decoded(reader().examples(list(texts))) == ["<s>a</s>", "<s>b</s>", "<s>c</s>"]
    assert decoded(reader().examples([texts])) == ["<s>a</s></s>b</s></s>c</s>"]


@pytest.mark.parametrize("x", [[[False, False]], [[0, 5, True, 2]], [[0, 5, 2], [True]]])
def test_booleans_are_no_token_ids(x):
    for ask in (small_masked_lm().fit, small_masked_lm().predict):
        with pytest.raises(TypeError, match="must be a string or a tuple of strings, its segments; got"):
            ask(x)


@pytest.mark.parametrize(
    "x",
    [b"a", [b"a"], [b"\xff"], iter([b"a"]), [("a", b"a")], ([b"a"], [b"a"]), np.array([b"a"]), np.array([b"a"], object),
     iter([[b"a"]]), iter([np.array([b"a"])])],
)  # fmt: skip
def test_bytes_are_refused_with_the_expression_that_decodes_them(x):
    with pytest.raises(TypeError, match=r"is bytes, b'.*', and a text is a str. Decode them: .*text.decode\(\)"):
        list(reader().examples(x).fixed(4))


@pytest.mark.parametrize(
    "x", [[["a"], ["b"]], np.array([["a"], ["b"]]), [np.array(["a"]), ["b", "c"]], [np.array(["a"])]]
)
def test_lists_of_one_string_are_refused_since_they_may_be_batches(x):
    for ask in (reader().examples, small_masked_lm().predict):
        with pytest.raises(TypeError, match=r"text 0 is a list of one string, \['a'\].*\[text for \(text,\) in"):
            ask(x)
    assert decoded(reader().examples([("a",), ("b",)])) == ["<s>a</s>", "<s>b</s>"]


@pytest.mark.parametrize(
    "x",
    [
        list(csv.reader(["a,1", "b,2"])),
        [["a", "1"], ["b", "2"]],
        np.array([["a", "1"], ["b", "2"]]),
        np.array([["a", "1"], ["b", "2"]], object),
        [np.array(["a", "1"]), np.array(["b", "2"])],
    ],
)
def test_rows_of_strings_are_refused_with_the_lines_that_give_a_column_or_segments(x):
    masked_lm, classifier_preprocessor = small_masked_lm(), TextClassifierPreprocessor(small_tokenizer())
    model = TextClassifier(masked_lm.backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))
    for ask in (
        masked_lm.fit, masked_lm.evaluate, masked_lm.predict, masked_lm.train_on_batch, masked_lm.score,
        masked_lm.embed, masked_lm.fill_mask, masked_lm.preprocessor, classifier_preprocessor, model.predict,
        model.classify,
        lambda x: model.fit(x, [0, 1]), lambda x: masked_lm.fit(TEXTS, validation_data=(x,), verbose=0),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"text 0 is a list of 2 strings, \['a', '1'\].*, which may be") as raised:
            ask(x)
    column, segments = re.search(r"column, (\[.*?\]), with .* as tuples, (\[.*?\])\.", str(raised.value)).groups()
    assert decoded(reader().examples(eval(column, {"texts": x}))) == ["<s>a</s>", "<s>b</s>"]
    assert decoded(reader().examples(eval(segments, {"texts": x}))) == ["<s>a</s></s>1</s>", "<s>b</s></s>2</s>"]


def test_rows_with_labels_are_refused_with_the_lines_that_take_them_apart():
    rows = [("a", 1), ("b", 0)]
    with pytest.raises(TypeError, match=r"segment 1 of text 0 must be a string, got 1 .*Labels go beside") as raised:
        reader().examples(rows)
    scope = {"texts": rows}
    exec(str(raised.value).split("the texts: ")[1], scope)
    assert (scope["x"], scope["y"]) == (["a", "b"], [1, 0])


def test_ids_are_taken_as_they_are_even_beyond_the_preprocessors_length():
    ids = list(range(5, 35))
    held = reader(sequence_length=10).examples([ids, np.array([7, 8])])
    assert held.data.ids.tolist() == [*ids, 7, 8]


@pytest.mark.parametrize("item", [["a", "b"], ["a"], np.array(["a", "b"]), np.array(["a", "b"], object), [[5, 6], [7]]])
def test_an_iterator_of_lists_gives_batches(item):
    examples = reader().examples(iter([item, item]))
    assert isinstance(examples, StreamedExamples)
    assert [len(batch) for batch in examples.fixed(99)] == [len(item)] * 2


def test_batches_may_be_features_with_labels_and_weights():
    weighted = (FEATURES, [[5, 6]], [[1.0, 0.0]])
    for x in ([(FEATURES, [[5, 6]])], iter([weighted]), [weighted]):
        (batch,) = reader().examples(x).fixed(1)
        assert batch.labels[0] == 5
        assert batch.slots == 2


def test_a_stream_is_cut_into_batches_and_reads_no_further_than_asked():
    source = iter(["a", "b", "c", "d", "e"])
    examples = reader().examples(source, stream=True)
    batches = examples.batches(2, 0, 0, shuffle=True)
    assert len(next(batches)) == 2
    assert next(source) == "c"
    assert examples.num_examples is None


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_become_a_packed_batch():
    x = {
        "token_ids": [[0, 9, 8, 2], [0, 7, 2, 1]],
        "padding_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
        "mask_positions": [[2, 1], [1, 0]],
    }
    batch = reader().features(x, [[5, 6], [7, 0]], [[1, 0.5], [2, 0]])
    assert batch.ids.tolist() == [0, 9, 8, 2, 0, 7, 2]
    assert batch.target_rows.tolist() == [2, 1, 5]
    assert batch.labels.tolist() == [5, 6, 7]
    assert batch.weights.tolist() == [1, 0.5, 2]
    assert batch.slots == 4


def test_without_padding_mask_and_weights_everything_counts():
    x = {name: FEATURES[name] for name in ("token_ids", "mask_positions")}
    batch = reader().features(x, [[5, 6]])
    assert batch.num_tokens == 4
    assert batch.weights.tolist() == [1, 1]
    assert reader().features(x, [[5, 6]], [0.5]).weights.tolist() == [0.5, 0.5]


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "sample_weight", "message"),
    [
        (FEATURES, None, None, "y is missing"),
        (FEATURES | {"segment_ids": [[0] * 4]}, [[5, 6]], None, "dict of token_ids.*got .*segment_ids"),
        ({"ids": [[1]]}, None, None, "dict of token_ids, padding_mask, mask_positions; got ids"),
        (
            {"input_ids": [[0, 9, 8, 2]], "attention_mask": [[1] * 4]},
            None,
            None,
            "got input_ids, attention_mask. input_ids is called token_ids here, attention_mask is called padding_mask",
        ),
        (iter([[FEATURES, [[5, 6]], None, None]]), None, None, "got a list of 4"),
        (FEATURES, [[5, 6, 7]], None, r"labels has the shape \(1, 3\), but mask_positions has \(1, 2\)"),
        (FEATURES, [[5, 300]], None, "label 300 is outside the vocabulary of 300"),
        (FEATURES, [[5, 6]], [[0, 0]], "no mask position with a weight above 0"),
        (FEATURES | {"token_ids": [[0, 9, 8, 300]]}, [[5, 6]], None, "token id 300 is outside the vocabulary"),
        (FEATURES | {"mask_positions": [[1, 4]]}, [[5, 6]], None, "is 4, outside the 4 columns"),
        (TEXTS, TEXTS, None, "y was passed with texts"),
        (iter([(["a"], ["b"])]), None, None, "y was passed with texts"),
        (iter([["a"]]), None, [1.0], "x is an iterable of batches: put y and sample_weight into each"),
        (iter([(FEATURES, [[5, 6]], None, None)]), None, None, "got a tuple of 4"),
        ([], None, None, "x is empty"),
        (iter([]), None, None, "x is empty"),
        (np.array([]), None, None, "x is empty"),
        (5, None, None, "x should be texts .*; got an int"),
        (None, None, None, "x should be texts .*; got None"),
        (["a", 5], None, None, "text 1 must be a string"),
        (["a", None], None, None, "text 1 must be a string"),
        ([*["a"] * 1500, 5], None, None, "text 1500 must be"),
        ((["a"], ["b", "c"]), None, None, r"lengths are \[1, 2\]"),
        ([[5, 300]], None, None, "encoded sequence 0 should hold ids from 0 to 299; it has 2 ids from 5 to 300"),
        ([np.array([5]), np.array([], int)], None, None, "encoded sequence 1 .* has 0 ids"),
        ([[5] * 41], None, None, "encoded sequence 0 has 41 tokens; the model takes 40"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(x, y, sample_weight, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        list(reader().examples(x, y, sample_weight).fixed(4))


def test_a_stream_of_texts_takes_no_weights():
    with pytest.raises(ValueError, match=r"sample_weight can't go with a stream"):
        reader().examples(iter(["a"]), sample_weight=[1.0], stream=True)


def test_without_preprocessor_texts_and_ids_are_refused():
    bare = MaskedLMInputs(small_masked_lm().backbone.config, None)
    for x in (["a"], [[5, 6]], iter([["a"]])):
        with pytest.raises(ValueError, match=r"no preprocessor and takes a dict of token_ids"):
            list(bare.examples(x).fixed(1))
    assert len(list(bare.examples(FEATURES, [[5, 6]]).fixed(1))) == 1


class Corpus:
    """An iterable that can be read again, and is not in memory."""

    def __init__(self, items, forever=False):
        self.items, self.forever, self.read = items, forever, []

    def __iter__(self):
        while True:
            for item in self.items:
                self.read.append(item)
                yield item
            if not self.forever:
                return


def test_a_list_that_starts_with_features_is_a_batch_as_the_tuple_is():
    batch = (FEATURES, [[5, 6]], [[1.0, 0.5]])
    for make in (iter, list, tuple, Corpus):
        results = [small_masked_lm().evaluate(make([kind(batch)] * 2), verbose=0) for kind in (tuple, list)]
        assert results[0] == results[1]


class Dataset:
    """Items by number and a length alone, as torch's Dataset; nothing tells its end."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number % len(self.items)]


@pytest.mark.parametrize("items", [TEXTS, [TEXTS[:4], TEXTS[4:]], [[FEATURES, [[5, 6]]]] * 2])
@pytest.mark.parametrize("steps_per_epoch", [None, 2])
def test_an_object_with_items_and_a_length_is_read_as_often_as_needed(items, steps_per_epoch):
    fitted, expected = small_masked_lm(), small_masked_lm()
    keywords = {"epochs": 3, "batch_size": 3, "steps_per_epoch": steps_per_epoch, "verbose": 0}
    fitted.fit(Dataset(items), **keywords)
    expected.fit(Corpus(items) if items is not TEXTS else TEXTS, **keywords)
    assert (fitted.backbone.params.flat == expected.backbone.params.flat).all()


def test_an_endless_corpus_is_read_as_far_as_steps_per_epoch_asks():
    corpus = Corpus(["the old gardener", "the young baker"], forever=True)
    small_masked_lm().fit(corpus, batch_size=2, steps_per_epoch=3, epochs=2, verbose=0)
    assert len(corpus.read) <= 14


def test_steps_per_epoch_goes_on_where_the_epoch_before_left_off():
    corpus = Corpus([[f"text {number}"] for number in range(4)])
    small_masked_lm().fit(corpus, steps_per_epoch=3, epochs=2, verbose=0)
    assert [item[0][-1] for item in corpus.read[:6]] == list("012301")


def test_without_steps_per_epoch_every_epoch_reads_all_batches_once():
    corpus = Corpus([[f"text {number}"] for number in range(3)])
    small_masked_lm().fit(corpus, epochs=2, verbose=0)
    assert [item[0][-1] for item in corpus.read] == list("012012")


def test_an_open_file_is_read_as_its_path_is(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("the old gardener\n\nthe young baker\n")
    masked_lm = small_masked_lm()
    with path.open() as file:
        assert masked_lm.evaluate(file, verbose=0) == masked_lm.evaluate(path, verbose=0)


def test_padded_ids_are_refused():
    masked_lm = small_masked_lm()
    with pytest.raises(ValueError, match=r"encoded sequence 1 holds the padding id 1, .* Pass sequences of their own"):
        masked_lm.evaluate(np.array([[0, 7, 8, 2], [0, 9, 2, 1]]), verbose=0)


def test_a_preprocessor_lengthened_behind_the_models_back_is_noticed():
    masked_lm = small_masked_lm()
    masked_lm.preprocessor.sequence_length = 4096
    with pytest.raises(ValueError, match=r"the preprocessor made a sequence of \d+ tokens; the model takes 40"):
        masked_lm.fit(["word " * 100], verbose=0)


# --- without end ------------------------------------------------------------------------------------------------------


class Counted:
    """Texts without end, in an iterator that says how many were read."""

    def __init__(self, item="the old man", most=500):
        self.item, self.most, self.count = item, most, 0

    def __iter__(self):
        return self

    def __next__(self):
        assert self.count < self.most, "this reads on and on"
        self.count += 1
        return self.item


def test_of_validation_data_without_end_no_more_is_read_than_its_steps_ask():
    masked_lm, texts = small_masked_lm(), Counted()
    history = masked_lm.fit(
        TEXTS, validation_data=texts, validation_steps=2, validation_batch_size=3, epochs=2, verbose=0
    ).history
    assert texts.count == 6
    assert history["val_loss"][-1] == masked_lm.evaluate(["the old man"] * 6, verbose=0)[0]  # the same each epoch
    masked_lm.fit(TEXTS, validation_data=cycle(["a", "b"]), validation_steps=2, verbose=0)
    masked_lm.fit(TEXTS, validation_data=Counted(["a", "b"]), validation_steps=2, verbose=0)
    model = TextClassifier(masked_lm.backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))
    data = (cycle(["a", "b"]), cycle([0, 1]), cycle([1.0]))
    held = model.fit(["a"], [0], validation_data=data, validation_steps=2, batch_size=2, verbose=0)
    assert held.history["val_loss"] == model.evaluate(["a", "b"] * 2, [0, 1] * 2, verbose=0)[:1]
    model.fit(["a"], [0], validation_data=(iter(["a"] * 9), [0] * 9), validation_steps=2, batch_size=2, verbose=0)


@pytest.mark.parametrize("make", [lambda: cycle(["a <mask>"]), lambda: repeat("a <mask>")])
def test_what_has_no_end_is_refused_where_all_of_it_would_be_read(make):
    masked_lm = small_masked_lm()
    for ask in (
        masked_lm.fit, masked_lm.evaluate, masked_lm.predict, masked_lm.train_on_batch, masked_lm.test_on_batch,
        lambda x: masked_lm.fit(TEXTS, validation_data=x),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"x is an itertools\.\w+, which never ends\. Give steps= .*islice\(x, 1000\)"
        ):
            ask(make())
    for ask in (
        masked_lm.score, masked_lm.embed, masked_lm.fill_mask, masked_lm.preprocessor, Tokenizer.train,
        small_tokenizer().encode_batch, lambda x: masked_lm.preprocessor((["a"], x)),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"texts.* is an itertools\.\w+, which never ends\. Pass as many as you want"
        ):
            ask(make())
    masked_lm.fit(make(), steps_per_epoch=1, batch_size=2, verbose=0)
    assert masked_lm.evaluate(make(), steps=2, batch_size=2, verbose=0)
    assert len(masked_lm.predict(make(), steps=2, batch_size=2, verbose=0)) == 4
    assert masked_lm.evaluate(repeat("a b", 3), verbose=0) == masked_lm.evaluate(["a b"] * 3, verbose=0)


# --- labels, weights and features -------------------------------------------------------------------------------------


def hidden(values):
    return np.ma.masked_array(values, mask=np.arange(np.size(values)).reshape(np.shape(values)) == 0)


@pytest.mark.parametrize(
    ("x", "y", "sample_weight", "message"),
    [
        (["a", "b"], None, hidden([1.0, 1.0]), r"sample_weight is a masked array, .*Pass sample_weight\.filled\(0\)"),
        (iter([(["a", "b"], None, hidden([1.0, 1.0]))]), None, None, "sample_weight is a masked array"),
        (FEATURES, hidden([[5, 6]]), None, r"y is a masked array, .* Pass y\.filled\(0\), with sample_weight=~numpy"),
        (FEATURES | {"token_ids": hidden([[0, 9, 8, 2]])}, [[5, 6]], None, r"x\['token_ids'\] is a masked array"),
        (hidden([[5, 6], [7, 8]]), None, None, "x is a masked array"),
        (["a", "b"], None, ["1", "2"], r"sample_weight must be numbers .* per text, \(2,\); got '1' \(<U1\)"),
        (["a", "b"], None, np.array([1, 2], "m8[s]"), "sample_weight must be numbers .*; got '1 seconds'"),
        (["a", "b"], None, np.array([1, "2"], object), "sample_weight must be numbers"),
        (["a", "b"], None, [1, None], "sample_weight must be finite"),
        (["a", "b"], None, [[1], [1, 2]], "sample_weight must be numbers .*; its rows differ in length"),
        (["a", "b"], None, True, r"sample_weight should be one number per text, \(2,\); got True"),
        (["a", "b"], None, np.ones((1, 2)), r"should be one weight per text, \(2,\); got \(1, 2\)"),
        (["a", "b"], None, cycle([1.0]), r"sample_weight should be one number per text, \(2,\); got more of them"),
        (FEATURES, [[5, 6]], [["1", "1"]], r"weights must be numbers of the shape \(1, 2\), .*; got '1'"),
        (FEATURES, [[5, 6]], np.array([[1, 1]], "m8[s]"), "weights must be numbers of the shape"),
        (
            FEATURES | {"token_ids": 5},
            [[5, 6]],
            None,
            "the feature token_ids should have a row for .*; got 5",
        ),
        (FEATURES | {"padding_mask": None}, [[5, 6]], None, "the feature padding_mask should have a row .*; got None"),
        (FEATURES | {"token_ids": np.array(5)}, [[5, 6]], None, r"the feature token_ids .*; got array\(5\)"),
        (np.array("a"), None, None, r"x is a single value, array\('a'.*\)\. Pass a list: \[x\.item\(\)\]"),
        (np.array(5), None, None, "x is a single value"),
        (np.float64(5), None, None, "x is a single value"),
    ],
)
def test_labels_weights_and_features_that_are_no_plain_numbers_are_named(x, y, sample_weight, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        list(reader().examples(x, y, sample_weight).fixed(4))
    if "the feature" in message or "single" in message:
        with pytest.raises((ValueError, TypeError), match=message):
            small_masked_lm().predict(x, verbose=0)


def test_weights_may_come_from_an_iterator():
    assert reader().examples(["a", "b"], sample_weight=iter([1, 2])).weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", ["a", True, [0.5], -0.5, 1.0, float("nan")])
def test_a_validation_split_that_is_no_share_is_named(value):
    with pytest.raises(
        ValueError, match=r"validation_split (should be a number from 0 to 1|is a share, .* leave texts on both)"
    ):
        small_masked_lm().fit(TEXTS, validation_split=value, verbose=0)


@pytest.mark.parametrize("dtype", [np.int32, np.uint16])
@pytest.mark.parametrize("kind", [iter, list, np.array])
def test_arrays_of_encoded_sequences_are_batches(kind, dtype):
    ids = np.array([[0, 7, 8, 2], [0, 9, 8, 2]], dtype)
    masked_lm = small_masked_lm()
    assert [len(batch) for batch in reader().examples(kind([ids, ids])).fixed(99)] == [2, 2]
    expected = masked_lm.evaluate(iter([ids.tolist()] * 2), verbose=0)
    assert masked_lm.evaluate(kind([ids, ids]), verbose=0) == expected
    ids[:, 1] = masked_lm.preprocessor.tokenizer.mask_token_id
    assert len(masked_lm.predict(kind([ids, ids]), verbose=0)) == 4
    model = TextClassifier(masked_lm.backbone, 2, TextClassifierPreprocessor(small_tokenizer(), 40))
    for x in (ids, ids.tolist()):
        model.fit(iter([(x, [0, 1])] * 2), verbose=0)
        model.fit([(x, [0, 1])] * 2, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation_split": 0.5, "validation_data": ["a"]}, "validation_split and validation_data both"),
        ({"validation_steps": 2}, "validation_steps=2 has no effect without data"),
        ({"validation_batch_size": 2}, "validation_batch_size=2 has no effect without data"),
    ],
)
def test_what_would_validate_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_masked_lm().fit(TEXTS, verbose=0, **arguments)


def test_a_list_of_names_of_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("a text\nanother\n")
    names = ["a.txt", "b.txt"]
    with pytest.raises(ValueError, match=r"x holds the names of files, such as 'a.txt'.*pathlib.Path") as error:
        small_masked_lm().fit(names, verbose=0)
    paths = eval(str(error.value).split("Pass their paths: ")[1], {"names": names, "pathlib": pathlib})
    assert small_masked_lm().evaluate(paths, verbose=0) == small_masked_lm().evaluate(
        ["a text", "another"] * 2, verbose=0
    )
    small_masked_lm().fit([*names, "no file"], verbose=0)
