"""Names of transformers and Keras that are not here: the errors say what to write."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from small_models import small_masked_lm, small_tokenizer

import pyroberta
from pyroberta.tasks.task import ELSEWHERE
from pyroberta.text import foreign_names


@pytest.mark.parametrize("name", foreign_names.ATTRIBUTES)
def test_a_tokenizer_says_where_the_attributes_of_transformers_are(name: str):
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {foreign_names.ATTRIBUTES[name]}")):
        getattr(small_tokenizer(), name)


@pytest.mark.parametrize("name", foreign_names.ARGUMENTS)
def test_a_tokenizer_says_what_stands_for_the_arguments_of_transformers(name: str):
    with pytest.raises(TypeError, match=re.escape(f"{name!r}: {foreign_names.ARGUMENTS[name]}")):
        small_tokenizer()("a fox", **{name: True})


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_model_says_where_other_libraries_attributes_are(name: str):
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {ELSEWHERE[name]}")):
        getattr(small_masked_lm(), name)


@pytest.mark.parametrize("name", pyroberta._ELSEWHERE)
def test_the_package_says_where_other_libraries_names_are(name: str):
    with pytest.raises(AttributeError, match=re.escape(f"{name!r}: {pyroberta._ELSEWHERE[name]}")):
        getattr(pyroberta, name)


def test_private_names_are_never_suggested():
    with pytest.raises(AttributeError) as error:
        small_masked_lm().get_layer  # noqa: B018
    assert "'_" not in str(error.value)


def test_a_name_that_is_almost_right_is_suggested():
    with pytest.raises(AttributeError, match="did you mean 'MaskedLM'"):
        pyroberta.MaskedLm  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'detokenize'"):
        small_tokenizer().detokenise  # noqa: B018


def test_a_tokenizer_is_copied_and_pickled_as_before():
    for again in (
        copy.copy(small_tokenizer()),
        copy.deepcopy(small_tokenizer()),
        pickle.loads(pickle.dumps(small_tokenizer())),
    ):
        assert again.encode("a fox") == small_tokenizer().encode("a fox")


def test_texts_are_no_features():
    with pytest.raises(TypeError, match="Texts go to predict"):
        small_masked_lm()(["a <mask>"])
