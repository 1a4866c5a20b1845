"""The masks of other models are found in linear time."""

from __future__ import annotations

import pytest

from pyroberta.text.other_masks import OTHER_MASKS, OtherMasks, mask_hint


@pytest.mark.parametrize("bracket", "[<{")
def test_a_run_of_brackets_is_tried_at_its_first_bracket_alone(bracket: str):
    # Tried at each bracket, a run of n brackets without a mask behind it would take n² steps.
    run = f"{bracket * 5}|mask|{'>' * 5}"
    assert [start for start in range(5) if OTHER_MASKS.match(run, start)] == [0]
    assert OTHER_MASKS.search(bracket * 200_000) is None


@pytest.mark.parametrize(
    "text", ["Name: ____ Date: ___", "a (mask)", "(Mask)", "WEAR A MASK!", "[a mask]", "{masks}", "<b>"]
)
def test_forms_of_ordinary_prose_are_no_masks_in_another_form(text: str):
    others = OtherMasks("<mask>")
    others.see(f"{text} and a <mask>.", "text 0".format)
    assert others.summary() == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("A ___ day.", "of '___'"),
        ("A MASK day of [MASK].", "of '[MASK]'"),
        ("A MASK day.", "of 'MASK'"),
        ("His face (mask).", "of the word to fill in"),
        ("He wore a mask.", "of the word to fill in"),
    ],
)
def test_a_gap_is_the_mask_of_a_text_that_has_no_other(text: str, meant: str):
    assert mask_hint(text, "<mask>").endswith(f"in the place {meant}")


@pytest.mark.parametrize("before", ["", "[", "<<", "{ [", "[ " * 50, "([<{" * 50])
@pytest.mark.parametrize("mask", ["[mask]", "<<mask>>", "{mask_1}", "[[ masked ]]", "<|mask|>"])
def test_brackets_before_a_mask_do_not_hide_it(before: str, mask: str):
    found = OTHER_MASKS.search(f"{before} {mask}")
    assert found is not None
    assert found[0].endswith(mask)
    assert mask in mask_hint(f"{before}{mask}", "<mask>")
