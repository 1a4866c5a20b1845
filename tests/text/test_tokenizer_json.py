"""A tokenizer's files: each thing that they say is followed or refused by name. The peers are asked in
tests/parity/test_tokenizer_json.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import small_masked_lm, small_tokenizer
from small_tokenizers import BERT, BYTE_LEVEL, ROBERTA, TEMPLATES, directory_of, sequence, template

from pyroberta import MaskedLM
from pyroberta.text.preprocessor import MaskedLMPreprocessor, Preprocessor
from pyroberta.text.tokenizer import Tokenizer

Edit = Callable[[dict[str, Any]], Any]
SMALL = small_tokenizer()
SIZE = SMALL.vocabulary_size()
A, B = (SMALL.encode(letter, add_special_tokens=False)[0] for letter in "ab")


def framed(processor: Any) -> Edit:
    return lambda content: content.update(post_processor=processor)


def added(text: str = "[new]", id: int = SIZE, **flags: Any) -> Edit:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return lambda content: content["added_tokens"].append({"id": id, "content": text, **plain, **flags})


def model(**changes: Any) -> Edit:
    return lambda content: content["model"].update(changes)


def pre(**changes: Any) -> Edit:
    return lambda content: content["pre_tokenizer"].update(changes)


# --- framing


@pytest.mark.parametrize(
    ("processor", "separators"),
    [(ROBERTA, 2), (BERT, 1), (TEMPLATES["a template of two"], 2), (TEMPLATES["a template of one"], 1)],
)
@pytest.mark.parametrize("in_sequence", [False, True])
def test_a_pair_has_the_separators_that_the_post_processor_says(
    tmp_path: Path, processor: dict[str, Any], separators: int, in_sequence: bool
) -> None:
    processor = sequence(BYTE_LEVEL, processor) if in_sequence else processor
    tokenizer = Tokenizer.load(directory_of(tmp_path, framed(processor)))
    assert tokenizer.encode("a") == [0, A, 2]
    assert tokenizer.encode("a", "b") == [0, A, *[2] * separators, B, 2]
    segments = Preprocessor(tokenizer, sequence_length=20).encode([("a", "b", "a")])[0]
    assert segments.tolist() == [0, A, *[2] * separators, B, *[2] * separators, A, 2]


@pytest.mark.parametrize("separators", [1, 2])
@pytest.mark.parametrize("trims", [False, True])
@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.filterwarnings("ignore:KerasHub's preprocessor puts two")
def test_a_framing_is_saved_with_a_model(tmp_path: Path, format: str, separators: int, trims: bool) -> None:
    before = small_masked_lm(dtype="float32")
    tokenizer = Tokenizer(**(SMALL._arguments() | {"separators": separators, "trim_offsets": trims}))
    MaskedLM(before.backbone, MaskedLMPreprocessor(tokenizer, 16)).save_to_preset(tmp_path / "p", format=format)
    after = Tokenizer.from_preset(tmp_path / "p")
    assert after._arguments() == tokenizer._arguments()
    assert after.encode_with_offsets(" a", "b") == tokenizer.encode_with_offsets(" a", "b")


def test_kerashub_is_said_to_frame_pairs_otherwise(tmp_path: Path) -> None:
    tokenizer = Tokenizer(**(SMALL._arguments() | {"separators": 1}))
    task = MaskedLM(small_masked_lm().backbone, MaskedLMPreprocessor(tokenizer, 16))
    with pytest.warns(
        UserWarning, match="KerasHub's preprocessor puts two </s> between .* but this tokenizer puts one"
    ):
        task.save_to_preset(tmp_path / "p", format="keras")


@pytest.mark.parametrize("separators", [0, 3, True, "2"])
def test_other_counts_of_separators_are_refused(separators: Any) -> None:
    with pytest.raises(ValueError, match="separators must be 1 or 2"):
        Tokenizer(SMALL.vocabulary, SMALL.merges, separators=separators)


@pytest.mark.parametrize(
    ("processor", "trims"),
    [
        (ROBERTA, True),
        (ROBERTA | {"trim_offsets": False}, False),
        (BERT, False),
        (sequence(BERT, BYTE_LEVEL), True),
        (TEMPLATES["a template of two"], False),
    ],
)
def test_offsets_are_trimmed_where_the_post_processor_trims(
    tmp_path: Path, processor: dict[str, Any], trims: bool
) -> None:
    tokenizer = Tokenizer.load(directory_of(tmp_path, framed(processor)))
    _, spans = tokenizer.encode_with_offsets("a b", add_special_tokens=False)
    assert spans[-1] == ((2, 3) if trims else (1, 3)) or spans[-2:] == [(2, 2), (2, 3)]


def test_tokenizer_config_says_trim_offsets_over_tokenizer_json(tmp_path: Path) -> None:
    for trims in (False, True):
        processor = ROBERTA | {"trim_offsets": not trims}
        directory = directory_of(tmp_path / str(trims), framed(processor), {"trim_offsets": trims})
        assert Tokenizer.load(directory).trim_offsets is trims


FRAMINGS: list[tuple[Any, str]] = [
    (None, "the post_processor in .* is 'none'; only RobertaProcessing"),
    (BYTE_LEVEL, "the post_processor in .* is 'ByteLevel'"),
    (sequence(BYTE_LEVEL), "the post_processor in .* is 'ByteLevel'"),
    (sequence(BERT, ROBERTA), "the post_processor in .* is 'RobertaProcessing'.* once"),
    ({"type": "Whitespace"}, "the post_processor in .* is 'Whitespace'"),
    (sequence(sequence(BERT)), "the post_processor in .* is 'Sequence'"),
    ({"type": "Sequence", "processors": []}, "does not have the layout of a tokenizer.json: IndexError"),
    (ROBERTA | {"cls": ["<s>", 7]}, "gives '<s>' the id 7, the vocabulary 0"),
    (BERT | {"sep": ["</s>", 7]}, "gives '</s>' the id 7, the vocabulary 2"),
    (ROBERTA | {"cls": ["[CLS]", 0]}, r"the vocabulary .* has no '\[CLS\]' \(start_token\)"),
    (ROBERTA | {"language": "en"}, "the post_processor in .* has 'language', which is unknown"),
    (template("<s> $A", "<s> $A </s> $B </s>"), r"single template in .* is '<s> \$A'"),
    (template("$A </s>", "$A </s> $B </s>"), r"single template in .* is '\$A </s>'"),
    (template("<s> $A </s>", "<s> $A </s> <s> $B </s>"), r"pair template in .* is '<s> \$A </s> <s> \$B </s>'"),
    (template("<s> $A </s>", "<s> $B </s> $A </s>"), "pair template in .* is"),
    (template("<s> $A </s>", "<s> $A </s> $B </s>", {"<s>": 7, "</s>": 2}), "gives '<s>' the id 7, the vocabulary 0"),
    (
        template("<s> $A </s>", "<s> $A </s> $B </s>", {"<s>": 0}),
        "does not have the layout of a tokenizer.json: KeyError",
    ),
]


@pytest.mark.parametrize(("processor", "message"), FRAMINGS)
def test_a_framing_that_this_tokenizer_has_not_got_is_refused(tmp_path: Path, processor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.load(directory_of(tmp_path, framed(processor)))


# --- special tokens


def test_cls_and_sep_frame_texts_and_bos_and_eos_are_special(tmp_path: Path) -> None:
    def more(content: dict[str, Any]) -> None:
        content["model"]["vocab"] |= {"[CLS]": SIZE, "[SEP]": SIZE + 1}

    config = {"cls_token": "[CLS]", "sep_token": "[SEP]", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = Tokenizer.load(directory_of(tmp_path, more, config, "vocab.json"))
    assert tokenizer.encode("a") == [SIZE, A, SIZE + 1]
    assert {0, 2, SIZE, SIZE + 1} <= set(tokenizer.special_token_ids)
    assert tokenizer.encode("a</s>", add_special_tokens=False) == [A, 2]
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").encode("a", "b") == tokenizer.encode("a", "b")


def test_bos_alone_frames_texts_as_it_did(tmp_path: Path) -> None:
    def more(content: dict[str, Any]) -> None:
        content["model"]["vocab"] |= {"[BOS]": SIZE}

    directory = directory_of(tmp_path, more, {"bos_token": "[BOS]"}, "vocab.json")
    assert Tokenizer.load(directory).encode("a") == [SIZE, A, 2]


def test_a_post_processor_and_a_config_that_disagree_are_refused(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, lambda c: c["model"]["vocab"].update({"[CLS]": SIZE}), {"cls_token": "[CLS]"})
    with pytest.raises(ValueError, match=r"frames texts with '<s>', but cls_token is '\[CLS\]'\. Correct one"):
        Tokenizer.load(directory)


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_special_tokens_without_a_role_are_special(tmp_path: Path, form: str) -> None:
    def more(content: dict[str, Any]) -> None:
        content["model"]["vocab"] |= {"[A]": SIZE, "[B]": SIZE + 1}

    config = {"additional_special_tokens": ["[A]"], "extra_special_tokens": {"b_token": "[B]"}}
    tokenizer = Tokenizer.load(directory_of(tmp_path, more, config, form))
    assert tokenizer.encode("a[A][B]", add_special_tokens=False) == [A, SIZE, SIZE + 1]
    assert tokenizer.decode([A, SIZE, SIZE + 1], skip_special_tokens=True) == "a"


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"cls_token": 7}, "cls_token should be a token's text, or an object with it, got 7"),
    ({"cls_token": {"lstrip": True}}, "cls_token should be a token's text"),
    ({"pad_token": ""}, "pad_token should be a token's text"),
    ({"eos_token": {"content": "</s>", "rstrip": True}}, "rstrip of the eos_token '</s>' in .* is True"),
    ({"mask_token": {"content": "<mask>", "single_word": True}}, "single_word of the mask_token '<mask>'"),
    ({"bos_token": {"content": "<s>", "lstrip": True}}, "lstrip of the bos_token '<s>' in .* it for mask_token alone"),
    ({"additional_special_tokens": ["[A]"]}, r"has no '\[A\]' \(added token\)"),
    ({"extra_special_tokens": "x"}, "extra_special_tokens should be a list, got 'x'"),
    ({"tokenizer_class": "BertTokenizer"}, "tokenizer_class in .* is 'BertTokenizer'"),
    ({"tokenizer_class": ["x"]}, "tokenizer_class in .* is"),
    ({"add_prefix_space": "yes"}, "add_prefix_space should be true or false, got 'yes'"),
    ({"trim_offsets": 1}, "trim_offsets should be true or false, got 1"),
    ({"mask_token": {"content": "<mask>", "lstrip": "yes"}}, "lstrip should be true or false, got 'yes'"),
    ({"split_special_tokens": True}, "split_special_tokens in .* is True"),
    ({"added_tokens_decoder": [1]}, "added_tokens_decoder should be an object"),
    ({"added_tokens_decoder": {"x": {"content": "[A]"}}}, "an object by each token's id, got 'x'"),
    ({"added_tokens_decoder": {"9" * 12: {"content": "[A]"}}}, "an object by each token's id, got '999"),
    ({"added_tokens_decoder": {"7": "[A]"}}, r"an object by each token's id, got '7': '\[A\]'"),
    ({"added_tokens_decoder": {"7": {"content": "[A]"}}}, "have the same id 7"),
    ({"added_tokens_decoder": {"7": {"content": "<s>"}}}, "gives '<s>' two ids, 0 and 7"),
    ({"added_tokens_decoder": {"900": {"lstrip": True}}}, "has an added token that is not a text: None"),
    ({"added_tokens_decoder": {"900": {"content": "[A]", "lstrip": True}}}, "lstrip of the added token '.A.'"),
    ({"added_tokens_decoder": {"900": {"content": "[A]", "special": "no"}}}, "special of .* should be true or false"),
    ({"added_tokens_decoder": {"900": {"content": "[A]", "colour": 1}}}, "has 'colour', which is unknown"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS)
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_a_tokenizer_config_of_another_kind_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str, form: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.load(directory_of(tmp_path, None, config, form))


@pytest.mark.parametrize("name", ["RobertaTokenizer", "RobertaTokenizerFast", "PreTrainedTokenizerFast", None])
def test_the_classes_that_cut_alike_are_read(tmp_path: Path, name: str | None) -> None:
    assert Tokenizer.load(directory_of(tmp_path, None, {"tokenizer_class": name})).vocabulary_size() == SIZE


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_added_tokens_of_tokenizer_config_alone_are_read(tmp_path: Path, form: str) -> None:
    decoder = {str(SIZE): {"content": "[user]"}, str(SIZE + 1): {"content": "<end>", "special": True}}
    tokenizer = Tokenizer.load(directory_of(tmp_path, None, {"added_tokens_decoder": decoder}, form))
    assert tokenizer.added_tokens == {"[user]": False, "<end>": True}
    assert tokenizer.encode("a[user]<end>", add_special_tokens=False) == [A, SIZE, SIZE + 1]


# --- the rest of tokenizer.json

EDITS: list[tuple[Edit, str]] = [
    (lambda c: c.update(language="en"), "the object in .* has 'language', which is unknown"),
    (lambda c: c.update(version="2.0"), "the version in .* is '2.0'"),
    (model(dropout=0.1), "the model's dropout in .* is 0.1"),
    (model(byte_fallback=True), "the model's byte_fallback in .* is True"),
    (model(continuing_subword_prefix="##"), "the model's continuing_subword_prefix"),
    (model(cache=7), "the model in .* has 'cache', which is unknown"),
    (pre(use_regex=False), "the pre_tokenizer's use_regex in .* is False"),
    (pre(pattern="x"), "the pre_tokenizer in .* has 'pattern'"),
    (pre(add_prefix_space="yes"), "the pre_tokenizer's add_prefix_space in .* is 'yes'"),
    (lambda c: c.update(decoder={"type": "WordPiece"}), "the decoder in .* is 'WordPiece'"),
    (lambda c: c.update(padding={"pad_id": 1, "pad_token": "<pad>", "colour": 1}), "padding in .* has 'colour'"),
    (lambda c: c.update(padding={"pad_id": 7, "pad_token": "<pad>"}), "the id 7, but '<pad>' has the id 1"),
    (lambda c: c.update(padding=[]), "padding in .* should be an object"),
    (added(lstrip=True), r"lstrip of the added token '\[new\]' in .* it for '<mask>' alone"),
    (added(rstrip=True), r"rstrip of the added token '\[new\]'"),
    (added(single_word=True), r"single_word of the added token '\[new\]'"),
    (added(special="yes"), "special of the added token .* should be true or false, got 'yes'"),
    (added(normalized=None), "normalized of the added token .* should be true or false, got None"),
    (added(text=""), "an added token that is not a text: ''"),
    (added(id=7), "have the same id 7"),
    (added(colour="red"), "an added token in .* has 'colour'"),
    (lambda c: c["added_tokens"][0].pop("normalized"), "does not have the layout of a tokenizer.json: KeyError"),
]


@pytest.mark.parametrize(("edit", "message"), EDITS)
def test_what_a_tokenizer_json_says_otherwise_is_refused_by_name(tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.load(directory_of(tmp_path, edit))


def test_the_token_that_padding_names_is_the_pad_token(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["[PAD]"] = SIZE
        content["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None}
        content["padding"] |= {"pad_id": SIZE, "pad_type_id": 0, "pad_token": "[PAD]"}

    assert Tokenizer.load(directory_of(tmp_path / "a", edit)).pad_token_id == SIZE
    with pytest.raises(ValueError, match=r"pads with '\[PAD\]', but pad_token is '<pad>'\. Correct one"):
        Tokenizer.load(directory_of(tmp_path / "b", edit, {"pad_token": "<pad>"}))


def test_the_model_s_unk_token_is_the_unk_token(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["model"]["vocab"]["[UNK]"] = SIZE
        content["model"]["unk_token"] = "[UNK]"

    assert Tokenizer.load(directory_of(tmp_path, edit)).unk_token_id == SIZE


def test_what_is_followed_in_part_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="has no decoder"):
        Tokenizer.load(directory_of(tmp_path / "a", lambda c: c.update(decoder=None)))
    typed = template("<s> $A </s>", "<s> $A </s> $B </s>")
    typed["pair"][3]["Sequence"]["type_id"] = 1
    with pytest.warns(UserWarning, match="gives the second segment another token type, which is ignored"):
        Tokenizer.load(directory_of(tmp_path / "c", framed(typed)))
    directory = directory_of(tmp_path / "b", framed(ROBERTA | {"add_prefix_space": True}))
    with pytest.warns(UserWarning, match="add_prefix_space of the post_processor in .* is True, unlike that of the"):
        Tokenizer.load(directory)
    directory_of(tmp_path / "b", framed(ROBERTA | {"add_prefix_space": True}), {"add_prefix_space": False})
    assert Tokenizer.load(directory).add_prefix_space is False


OVERLAPS = [("x{u}", True), ("{u}x", True), ("x{", True), ("{u", False), ("u>", False), ("yy", False), ("{u}", False)]


@pytest.mark.parametrize(("token", "overlaps"), OVERLAPS)
def test_tokens_that_overlap_want_the_same_normalized(tmp_path: Path, token: str, overlaps: bool) -> None:
    """One that begins before `{u}`, or with it, would win here and lose in `tokenizers`."""

    def edit(content: dict[str, Any]) -> None:
        added("{u}", SIZE)(content)
        if token != "{u}":
            added(token, SIZE + 1, normalized=True)(content)

    directory = directory_of(tmp_path, edit)
    if overlaps:
        with pytest.raises(ValueError, match=r"is normalized and '.u.' isn't, and they overlap"):
            Tokenizer.load(directory)
    else:
        assert Tokenizer.load(directory).encode("{u}", add_special_tokens=False) == [SIZE]


def test_the_search_for_overlaps_ends(tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        for i in range(3000):
            added("a" * 300 + str(i), SIZE + i, normalized=i % 2 == 0)(content)

    with pytest.raises(ValueError, match=r"overlap|too many added tokens are alike, some of them normalized"):
        Tokenizer.load(directory_of(tmp_path, edit))


# --- what is a preprocessor's


def preset(directory: Path, edit: Edit | None = None, config: dict[str, Any] | None = None) -> Path:
    small_masked_lm(dtype="float32").save_to_preset(directory)
    (directory / "pyroberta_preprocessor.json").unlink()
    return directory_of(directory, edit, config)


def truncated(**changes: Any) -> Edit:
    truncation = {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0} | changes
    return lambda content: content.update(truncation=truncation)


@pytest.mark.parametrize(
    ("edit", "config", "length"),
    [
        (None, {}, 40),
        (truncated(), {}, 9),
        (truncated(max_length=5000), {}, 40),
        (None, {"model_max_length": 12}, 12),
        (None, {"model_max_length": 1e30}, 40),
        (truncated(), {"model_max_length": 6}, 6),
        (truncated(), {"model_max_length": 12}, 9),
    ],
)
def test_a_truncation_is_the_preprocessor_s(tmp_path: Path, edit: Edit | None, config: Any, length: int) -> None:
    directory = preset(tmp_path / "p", edit, config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = MaskedLM.from_preset(directory).preprocessor
    assert found.sequence_length == length
    assert len(found.tokenizer.encode("a " * 20)) > 40 > 2  # which never cuts by itself
    with pytest.warns(UserWarning, match=rf"the only text has more than {length} tokens .* 1 was cut"):
        assert len(found.encode("a " * 60)[0]) == length


@pytest.mark.parametrize(
    ("edit", "config", "message"),
    [
        (truncated(direction="Left"), {}, "the truncation's direction in .* is 'Left', which is not applied"),
        (truncated(strategy="OnlyFirst"), {}, "the truncation's strategy in .* is 'OnlyFirst'"),
        (truncated(strategy="OnlySecond"), {}, "the truncation's strategy in .* is 'OnlySecond'"),
        (None, {"truncation_side": "left"}, "truncation_side in .*tokenizer_config.json' is 'left'"),
    ],
)
def test_a_cut_at_another_place_is_said(tmp_path: Path, edit: Edit | None, config: Any, message: str) -> None:
    with pytest.warns(UserWarning, match=f"{message}.*Shorter texts are not affected"):
        found = MaskedLM.from_preset(preset(tmp_path / "p", edit, config)).preprocessor
    usual = MaskedLM.from_preset(preset(tmp_path / "q", truncated() if edit else None)).preprocessor
    texts = ["", "a b c", ("a", "b")]
    assert [ids.tolist() for ids in found.encode(texts)] == [ids.tolist() for ids in usual.encode(texts)]


@pytest.mark.parametrize(
    ("edit", "config", "message"),
    [
        (truncated(max_length="9"), {}, "max_length should be a whole number, got '9'"),
        (truncated(max_length=1), {}, "settings can't be used: sequence_length must be a whole number of at least 3"),
        (truncated(colour=1), {}, "truncation in .* has 'colour'"),
        (lambda c: c.update(truncation=[]), {}, "truncation in .* should be an object"),
        (truncated(direction="left"), {}, "direction in .* is 'left'; it should be one of Right, Left"),
        (
            truncated(strategy=["OnlyFirst"]),
            {},
            "it should be one of LongestFirst, OnlyFirst, OnlySecond",
        ),
        (None, {"truncation_side": "middle"}, "truncation_side in .* is 'middle'; it should be one of right, left"),
        (None, {"model_max_length": "512"}, "model_max_length should be a whole number"),
    ],
)
def test_a_length_that_is_none_is_refused(tmp_path: Path, edit: Edit | None, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedLM.from_preset(preset(tmp_path / "p", edit, config))


def test_our_own_settings_hold_over_the_tokenizer_s(tmp_path: Path) -> None:
    directory = preset(tmp_path / "p", truncated())
    (directory / "pyroberta_preprocessor.json").write_text('{"sequence_length": 20}')
    assert MaskedLM.from_preset(directory).preprocessor.sequence_length == 20


# --- merges.txt


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("version", [True, False])
def test_a_byte_order_mark_before_the_merges_is_no_part_of_them(tmp_path: Path, mark: bytes, version: bool) -> None:
    directory = directory_of(tmp_path, form="vocab.json")
    content = (directory / "merges.txt").read_bytes()
    (directory / "merges.txt").write_bytes(mark + (content if version else content.partition(b"\n")[2]))
    assert Tokenizer.load(directory).merges == SMALL.merges
