"""Cases from a text to a masked batch: tokenizing, decoding, packing, padding, masking. All results are exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy import ndarray as Array

from pyroberta.model.batch import pack_padded
from pyroberta.oracle.conformance.case import Case, Means
from pyroberta.oracle.conformance.drawing import Draw, starts_of
from pyroberta.oracle.plain import Values
from pyroberta.text.masking import corrupt, select
from pyroberta.text.packing import pack_segments
from pyroberta.text.tokenizer import Tokenizer

PAGE = "numerics.md"
TEXTS: Mapping[str, str] = {
    "plain": "The quick brown fox jumps over the lazy dog.",
    "empty": "",
    "one_letter": "a",
    "one_space": " ",
    "leading_space": " and so on",
    "leading_spaces": "   three spaces first",
    "trailing_spaces": "two spaces last  ",
    "inner_spaces": "a  b   c    d",
    "contractions": "I'm sure they've said it's what we'd do, don't you? He'll see. YOU'RE not.",
    "typographic_apostrophe": "It’s not what they’ve said.",
    "numbers": "3.14159 1,000,000 007 1e-5 ½ ² Ⅷ ١٢٣",
    "letters_and_digits": "GPT2 x86_64 B2B 4th",
    "punctuation": 'Wait... what?! (Really -- "yes"; no.) #1 @home 50% $5 a/b <br>',
    "windows_line_ends": "first line\r\nsecond line\r\n\r\nlast",
    "unix_line_ends": "first line\n\nsecond\n",
    "tabs": "a\tb\t\tc \t d",
    "control_characters": "a\x00b\x01c\x07d\x1be\x7ff",
    "other_spaces": "a\u00a0b\u2003c\u3000d\u200be\u2028f\u0085g\ufeffh",
    "emoji": "I ❤️ 🍕 and 🎉🎉!",
    "emoji_sequences": "👩‍👩‍👧‍👦 👍🏽 🇩🇪 🏳️‍🌈",
    "combining_marks": "cafe\u0301 café n\u0303 ñ a\u0300\u0301\u0302",
    "zalgo": "Z\u0351\u036b\u0343\u036a\u0302a\u0332\u0356l\u0315go",
    "german": "Größe, Straße, Äpfel, ÜBERMUT, ẞ",
    "greek": "Ελληνικά και ς",
    "cyrillic": "Привет, мир!",
    "arabic": "مرحبا بالعالم، كيف الحال؟",
    "hebrew": "שָׁלוֹם עוֹלָם",
    "hindi": "नमस्ते दुनिया",
    "thai": "สวัสดีชาวโลก",
    "chinese": "你好,世界。我爱北京天安门",
    "japanese": "こんにちは世界、カタカナ",
    "korean": "안녕하세요 세계",
    "beyond_the_plane": "𝒳 𐍈 𠜎 🜚",
    "noncharacters": "\ufffd \uffff \U0010ffff",
    "long_word": "a" * 100,
    "long_run": "!" * 60 + "?" * 5,
    "special_in_text": "I <mask> you.",
    "special_without_space": "I<mask>you.</s>",
    "special_after_spaces": "I   <mask>   you",
    "special_all": "<s></s><pad><unk><mask>",
    "special_alike": "< mask > <MASK> <mask <<mask>> </ s>",
    "code": "def f(x):\n    return {'a': x[0], \"b\": -x ** 2}  # done\n",
    "address": "https://example.org/a?b=c&d=%20e#f user@example.org",
}
PAIRS: Mapping[str, tuple[str, str]] = {
    "pair": ("A first segment.", "And a second one."),
    "pair_with_empty": ("Something", ""),
    "pair_of_emoji": ("🍕", " 🎉 é"),
}
BARE = ("plain", "leading_space", "emoji", "special_in_text")  # without <s> and </s> too
PREFIXED = ("plain", "leading_space", "empty", "special_in_text", "unix_line_ends")  # with a space in front too


def cases(seed: int, tokenizer: Tokenizer) -> Iterator[Case]:
    """Yields the cases of all kinds, in the order in which a text passes through them."""
    yield from _tokenized()
    yield from _decoded(tokenizer)
    yield from _packed()
    yield from _padded(seed)
    yield from _masked(seed)


# --- texts ------------------------------------------------------------------------------------------------------------


def _tokenized() -> Iterator[Case]:
    formulas = {
        "ids": "byte-level BPE, between <s> and </s>",
        "offsets": "the first character of each token, and the one after its last; characters are Unicode code points",
    }

    def case(variant: str, note: str, text: str, pair: str | None = None, **settings: Any) -> Case:
        given = {"text": text, "pair": pair, "add_special_tokens": True, "add_prefix_space": False, **settings}
        return Case(f"tokenize/{variant}", note, PAGE, given, formulas)

    for variant, text in TEXTS.items():
        yield case(f"text/{variant}", "", text)
    for variant, (text, pair) in PAIRS.items():
        yield case(f"pair/{variant}", "two segments, with two </s> between", text, pair)
    for variant in BARE:
        yield case(f"bare/{variant}", "without <s> and </s>", TEXTS[variant], add_special_tokens=False)
    for variant in PREFIXED:
        note = "a text that doesn't begin with a space gets one"
        yield case(f"prefixed/{variant}", note, TEXTS[variant], add_prefix_space=True)


def tokenize(case: Case, means: Means) -> Values:
    """Returns the ids (S,) int32 and the offsets (S, 2) int32 of a text."""
    settings, tokenizer = case.settings, means.tokenizer
    if settings["add_prefix_space"] != tokenizer.add_prefix_space:
        tokenizer = Tokenizer(
            tokenizer.vocabulary, tokenizer.merges, add_prefix_space=bool(settings["add_prefix_space"])
        )
    ids, spans = tokenizer.encode_with_offsets(
        settings["text"], settings["pair"], add_special_tokens=settings["add_special_tokens"]
    )
    return {"ids": np.array(ids, np.int32), "offsets": np.array(spans, np.int32).reshape(-1, 2)}


def _decoded(tokenizer: Tokenizer) -> Iterator[Case]:
    formulas = {"utf8": "the text of the ids, in UTF-8; bytes that are no UTF-8 become U+FFFD, as in Python and WHATWG"}

    def case(variant: str, note: str, ids: list[int], *, skip: bool = False) -> Case:
        given = {"skip_special_tokens": skip}
        return Case(f"decode/{variant}", note, PAGE, given, formulas, {"ids": np.array(ids, np.int32)})

    for variant in ("plain", "emoji", "chinese", "windows_line_ends", "special_in_text", "control_characters"):
        yield case(f"text/{variant}", "", tokenizer.encode(TEXTS[variant]))
        yield case(f"ordinary/{variant}", "without special tokens", tokenizer.encode(TEXTS[variant]), skip=True)
    pizza = tokenizer.encode("🍕", add_special_tokens=False)
    yield case("text/part_of_a_character", "a character's last byte is missing", pizza[:-1])
    yield case("text/nothing", "no ids", [])


def decode(case: Case, means: Means) -> Values:
    """Returns the text of ids in UTF-8, as uint8."""
    skip = case.settings["skip_special_tokens"]
    text = means.tokenizer.decode(case.inputs["ids"].tolist(), skip_special_tokens=skip)
    return {"utf8": np.frombuffer(text.encode(), np.uint8)}


# --- sequences --------------------------------------------------------------------------------------------------------


def _packed() -> Iterator[Case]:
    formulas = {"ids": "<s> a </s></s> b </s>, cut to sequence_length"}
    shapes: dict[str, tuple[str, list[int], int, int]] = {
        "one_segment": ("", [5], 10, 2),
        "just_fits": ("the length is that of the sequence", [8], 10, 2),
        "cut": ("one segment, too long", [20], 10, 2),
        "two_segments": ("", [4, 3], 16, 2),
        "two_cut": ("both are too long", [12, 9], 14, 2),
        "long_and_short": ("one is too long", [15, 3], 12, 2),
        "three_segments": ("all are too long", [7, 9, 8], 17, 2),
        "empty_segment": ("an empty one keeps its separators", [4, 0, 2], 16, 2),
        "specials_alone": ("there is room for special tokens alone", [3, 3], 4, 2),
        "one_separator": ("one </s> between, as in BERT", [6, 6], 10, 1),
    }
    for truncate in ("round_robin", "waterfall"):
        for variant, (note, lengths, room, separators) in shapes.items():
            inputs = {f"segment.{i}": 100 * (i + 1) + np.arange(n, dtype=np.int32) for i, n in enumerate(lengths)}
            settings = {
                "sequence_length": room, "truncate": truncate, "separators": separators, "start_id": 0, "end_id": 2,
            }  # fmt: skip
            yield Case(f"pack/{truncate}/{variant}", note, PAGE, settings, formulas, inputs)


def pack(case: Case, means: Means) -> Values:
    """Returns the ids (S,) int32 of one sequence of several segments."""
    segments = [case.inputs[f"segment.{i}"].tolist() for i in range(len(case.inputs))]
    return {"ids": np.array(pack_segments(segments, **case.settings), np.int32)}


PATTERNS: Mapping[str, tuple[str, list[str]]] = {  # a row of text for each sequence, # for a token
    "right": ("padding on the right", ["####..", "######", "#....."]),
    "left": ("padding on the left", ["..####", "######", ".....#"]),
    "both": ("padding on both sides, and on either", [".###..", "..####", "####.."]),
    "between": ("padding between tokens", ["##.##.", "#.#.#.", "######"]),
    "one_token": ("a sequence of one token", ["#"]),
    "no_tokens": ("a row of padding alone is a sequence of no tokens", ["####", "....", "..##"]),
}


def is_token_of(pattern: str) -> Array:
    """Returns the padding mask (B, S) bool of a pattern.

    >>> is_token_of("one_token").tolist()
    [[True]]
    """
    return np.array([[letter == "#" for letter in row] for row in PATTERNS[pattern][1]])


def slots_of(is_token: Array, slots: int, draw: Draw) -> Array:
    """Returns mask_positions (B, K) int32: `slots` columns of tokens in each row, or 0 in a row without tokens."""
    found = np.zeros((len(is_token), slots), np.int32)
    for b, row in enumerate(is_token):
        columns = np.flatnonzero(row)
        if len(columns):
            found[b] = np.sort(draw.rng.choice(columns, slots, replace=len(columns) < slots))
    return found


def _padded(seed: int) -> Iterator[Case]:
    formulas = {
        "ids": "the tokens of all sequences, end to end",
        "positions": "0, 1, 2, … in each sequence: padding does not count, on whichever side it is",
        "starts": "the row at which each sequence begins, and the number of rows",
        "target_rows": "the row of each mask slot that has a weight",
        "labels": "of these slots",
        "weights": "of these slots",
    }
    for pattern, (note, _) in PATTERNS.items():
        draw, is_token = Draw(seed, f"pad/packed/{pattern}"), is_token_of(pattern)
        slots = slots_of(is_token, 2, draw)
        weights = np.where(is_token.any(axis=1, keepdims=True), draw.whole(3, len(slots), 2) / 2.0, 0.0)
        inputs = {
            "token_ids": np.where(is_token, 5 + draw.whole(20, *is_token.shape), 1).astype(np.int32),
            "padding_mask": is_token,
            "mask_positions": slots,
            "labels": 5 + draw.whole(20, *slots.shape),
            "weights": weights.astype(np.float32),
        }
        yield Case(f"pad/packed/{pattern}", note, "design.md", {"pad_id": 1}, formulas, inputs)


def pad(case: Case, means: Means) -> Values:
    """Returns the packed batch of padded arrays."""
    arrays = [case.inputs[of] for of in ("token_ids", "padding_mask", "mask_positions", "labels", "weights")]
    batch = pack_padded(*arrays, vocabulary_size=25, max_sequence_length=arrays[0].shape[1])
    names = ("ids", "positions", "starts", "target_rows", "labels", "weights")
    return {name: getattr(batch, name) for name in names}


# --- masking ----------------------------------------------------------------------------------------------------------

USUAL = {
    "mask_selection_rate": 0.15, "mask_selection_length": 96, "mask_token_rate": 0.8, "random_token_rate": 0.1,
    "count": "exact", "mask_id": 4,
}  # fmt: skip
RULES: Mapping[str, tuple[str, dict[str, Any], list[int], int]] = {  # what, settings, lengths, tokens of a word
    "usual": ("", {}, [12, 3, 40], 1),
    "bernoulli": ("each token by its own number, at least one in a sequence", {"count": "bernoulli"}, [25, 4, 30], 1),
    "limited": ("no more than mask_selection_length", {"mask_selection_length": 2}, [40, 20], 1),
    "all": ("every token", {"mask_selection_rate": 1.0}, [8, 4], 1),
    "mask_alone": ("no random token", {"mask_token_rate": 1.0, "random_token_rate": 0.0}, [20], 1),
    "random_alone": ("random tokens alone", {"mask_token_rate": 0.0, "random_token_rate": 1.0}, [20, 30], 1),
    "one_candidate": ("one token that may be selected", {}, [3], 1),
    "no_candidate": ("special tokens alone: nothing is selected", {}, [2, 12], 1),
    "words": ("words of several tokens are selected as a whole", {}, [30, 17], 3),
    "words_bernoulli": ("whole words, each by its own number", {"count": "bernoulli"}, [30, 17], 3),
}
MARGIN = 1e-6  # a number is this far from where it decides, so that float32 decides alike


def _masked(seed: int) -> Iterator[Case]:
    formulas = {
        "masked_ids": "the model's input",
        "target_rows": "the rows of the selected tokens, in rising order",
        "labels": "their ids",
    }
    for variant, (note, changes, lengths, longest) in RULES.items():
        draw, settings = Draw(seed, f"mask/rule/{variant}"), {**USUAL, **changes}
        starts = starts_of(lengths)
        N = int(starts[-1])
        ids, is_candidate = 5 + draw.whole(60, N), np.ones(N, bool)
        ids[starts[:-1]], ids[starts[1:] - 1] = 0, 2
        is_candidate[[*starts[:-1], *(starts[1:] - 1)]] = False
        begins = is_candidate & (draw.uniform(N) < 1.0 / longest)
        begins |= is_candidate & ~np.roll(is_candidate, 1)
        words = np.where(is_candidate, np.cumsum(begins) - 1, -1).astype(np.int32)
        inputs = {"ids": ids, "starts": starts, "words": words, "ordinary": np.arange(5, 65, dtype=np.int32)}
        yield Case(
            f"mask/rule/{variant}", note, PAGE, settings, formulas, inputs | {"draws": _decided(draw, settings, N)}
        )


def _decided(draw: Draw, settings: Mapping[str, Any], N: int) -> Array:
    """draws (N, 3), none of which is so near to where it decides that rounding might decide."""
    edges = [settings["mask_selection_rate"], settings["mask_token_rate"]]
    edges.append(settings["mask_token_rate"] + settings["random_token_rate"])
    draws = draw.uniform(N, 3)
    while True:
        apart = np.abs(draws.reshape(-1, 1).astype(np.float64) - edges).min()
        choices = draws[:, 2].astype(np.float64) * 60.0
        distinct = len(np.unique(draws[:, 0])) == N
        if distinct and apart > MARGIN and (np.abs(choices - np.round(choices)) > 60.0 * MARGIN).all():
            return draws
        draws = draw.uniform(N, 3)


def mask(case: Case, means: Means) -> Values:
    """Returns the result of masking with given random numbers."""
    inputs, settings = case.inputs, case.settings
    rows = np.flatnonzero(inputs["words"] >= 0)
    owners = np.repeat(np.arange(len(inputs["starts"]) - 1), np.diff(inputs["starts"]))[rows]
    chosen, treated, replaced = inputs["draws"].astype(np.float64).T
    is_selected = select(
        owners, inputs["words"][rows], settings["mask_selection_rate"], settings["mask_selection_length"],
        chosen[rows], count=settings["count"],
    )  # fmt: skip
    targets = rows[is_selected].astype(np.int32)
    labels, masked = inputs["ids"][targets], inputs["ids"].copy()
    rates = settings["mask_token_rate"], settings["random_token_rate"]
    masked[targets] = corrupt(
        labels, settings["mask_id"], inputs["ordinary"], *rates, treated[targets], replaced[targets]
    )
    return {"masked_ids": masked, "target_rows": targets, "labels": labels}
