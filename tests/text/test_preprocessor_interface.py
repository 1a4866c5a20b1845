"""The preprocessors as KerasHub's users handle them: configs, names, calls, and presets of the text's part alone."""

from __future__ import annotations

import copy
import json
import os

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm, small_tokenizer
from small_tokenizers import LOVE, LOVE_MERGES, TINY, TINY_MERGES

from pyroberta import Backbone, MaskedLM, MaskedLMPreprocessor, TextClassifierPreprocessor, Tokenizer
from pyroberta.formats import atomic
from pyroberta.text.preprocessor import Preprocessor

TOKENIZER = Tokenizer(TINY, TINY_MERGES)
ALL = {"mask_selection_rate": 1.0, "mask_token_rate": 1.0, "random_token_rate": 0.0, "mask_selection_length": 4}
KINDS = (Preprocessor, MaskedLMPreprocessor, TextClassifierPreprocessor)


def plain(output) -> list:
    features, *rest = output if isinstance(output, tuple) else (output,)
    return [{name: array.tolist() for name, array in features.items()}, *(np.asarray(one).tolist() for one in rest)]


# --- calls ------------------------------------------------------------------------------------------------------------


def test_the_examples_of_kerashubs_own_tests_give_their_arrays():
    masked = MaskedLMPreprocessor(TOKENIZER, sequence_length=12, **ALL)([" airplane airport"])
    features = {
        "token_ids": [[0, 8, 8, 8, 8, 2, *[1] * 6]],
        "padding_mask": [[True] * 6 + [False] * 6],
        "mask_positions": [[1, 2, 3, 4]],
    }
    assert plain(masked) == [features, [[4, 5, 4, 7]], [[1.0] * 4]]
    classed = TextClassifierPreprocessor(TOKENIZER, sequence_length=8)([" airplane at airport"], [1], [1.0])
    features = {"token_ids": [[0, 4, 5, 6, 4, 7, 2, 1]], "padding_mask": [[True] * 7 + [False]]}
    assert plain(classed) == [features, [1], [1.0]]


def test_with_a_rate_of_zero_nothing_is_masked_and_nothing_can_be_learnt():
    preprocessor = MaskedLMPreprocessor(TOKENIZER, 12, mask_selection_rate=0.0, mask_selection_length=4)
    features, labels, weights = preprocessor([" airplane airport"])
    assert features["token_ids"].tolist() == [[0, 4, 5, 4, 7, 2, *[1] * 6]]
    assert not features["mask_positions"].any()
    assert not labels.any()
    assert not weights.any()
    masked_lm = small_masked_lm(settings={"mask_selection_rate": 0.0})
    with pytest.raises(ValueError, match="the preprocessor's mask_selection_rate is 0, so nothing is masked"):
        masked_lm.fit(TEXTS, verbose=0)


@pytest.mark.parametrize("kind", [MaskedLMPreprocessor, TextClassifierPreprocessor])
def test_the_length_can_be_set_afterwards(kind):
    preprocessor = kind(TOKENIZER, sequence_length=8)
    for length in (8, 17):
        preprocessor.sequence_length = length
        output = preprocessor([" airplane at airport"])
        features = output[0] if isinstance(output, tuple) else output
        assert features["token_ids"].shape == features["padding_mask"].shape == (1, length)


def test_arguments_go_by_position_as_in_kerashub():
    made = MaskedLMPreprocessor(TOKENIZER, 12, "waterfall", 0.5, 4, 0.7, 0.2)
    assert made.preset_settings() == {
        "sequence_length": 12, "truncate": "waterfall", "mask_selection_rate": 0.5, "mask_selection_length": 4,
        "mask_token_rate": 0.7, "random_token_rate": 0.2, "count": "exact", "whole_words": False, "seed": 0,
    }  # fmt: skip
    assert TextClassifierPreprocessor(TOKENIZER, 12, "waterfall").truncate == "waterfall"


def test_a_tokenizers_length_is_of_its_own_calls_alone():
    cutting = Tokenizer(TINY, TINY_MERGES, sequence_length=2, dtype="string")
    for kind in (MaskedLMPreprocessor, TextClassifierPreprocessor):
        settings = ALL if kind is MaskedLMPreprocessor else {}
        text = " airplane at airport"
        assert plain(kind(cutting, 12, **settings)(text)) == plain(kind(TOKENIZER, 12, **settings)(text))


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_is_json_and_makes_an_equal_preprocessor(kind):
    options = {"name": "mine", "sequence_length": 9, "truncate": "waterfall"}
    if kind is MaskedLMPreprocessor:
        options |= ALL | {"count": "bernoulli", "whole_words": True, "seed": 7}
    for preprocessor in (kind(TOKENIZER), kind(small_tokenizer(), **options)):
        config = preprocessor.get_config()
        again = kind.from_config(json.loads(json.dumps(config)))
        assert again.get_config() == config
        assert again.preset_settings() == preprocessor.preset_settings()
        assert again.tokenizer.encode(" at") == preprocessor.tokenizer.encode(" at")
        assert kind.from_config(config | {"tokenizer": TOKENIZER}).tokenizer is TOKENIZER
    assert config["name"] == "mine"
    assert config | {name: value for name, value in options.items() if name in config} == config


def test_a_config_has_kerashubs_form():
    config = MaskedLMPreprocessor(TOKENIZER, 12, mask_selection_length=4).get_config()
    assert list(config) == [
        "name", "tokenizer", "sequence_length", "truncate", "mask_selection_rate", "mask_selection_length",
        "mask_token_rate", "random_token_rate",
    ]  # fmt: skip
    assert config["name"] == "masked_lm_preprocessor"
    assert config["tokenizer"]["registered_name"] == "keras_hub>RobertaTokenizer"
    assert config["tokenizer"]["config"]["merges"] == TINY_MERGES


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (
            {"class_name": "BertTokenizer", "config": {}},
            "tokenizer is of the class 'BertTokenizer'; expected Tokenizer",
        ),
        ({"config": {}}, "tokenizer should be an object with class_name and config"),
        ({"class_name": "RobertaTokenizer", "config": {"name": "a"}}, "the config has no vocabulary and merges"),
    ],
)
def test_a_config_of_another_tokenizer_is_refused(tokenizer, said):
    with pytest.raises(ValueError, match=said):
        MaskedLMPreprocessor.from_config({"tokenizer": tokenizer})


def test_an_argument_of_keras_without_an_effect_is_refused():
    for kind in KINDS:
        policy = {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": "float32"},
            "registered_name": None,
        }
        kind(TOKENIZER, trainable=True, dtype="float32", config_file="preprocessor.json")
        kind(TOKENIZER, dtype=policy)
        with pytest.raises(ValueError, match="has no such setting, so dtype='float16' has no effect"):
            kind(TOKENIZER, dtype="float16")
        with pytest.raises(TypeError, match=f"{kind.__name__}\\(\\) got an unexpected keyword argument 'packer'"):
            kind(TOKENIZER, packer=None)


# --- presets ----------------------------------------------------------------------------------------------------------


def test_every_class_knows_the_presets():
    for kind in (*KINDS, Tokenizer):
        assert kind.presets == MaskedLM.presets
        assert "roberta_tiny_en" in kind.presets
        assert kind.presets["roberta_base_en"].description


@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.parametrize("kind", [MaskedLMPreprocessor, TextClassifierPreprocessor, Preprocessor])
def test_the_texts_part_alone_is_saved_and_read(tmp_path, format, kind):
    preprocessor = kind(small_tokenizer(), 33, "waterfall")
    preprocessor.save_to_preset(tmp_path / "both", format=format)
    assert kind.from_preset(tmp_path / "both").get_config() == preprocessor.get_config()
    assert kind.from_preset(tmp_path / "both", sequence_length=9).sequence_length == 9
    cutting = copy.copy(small_tokenizer())
    cutting.sequence_length = 7
    cutting.save_to_preset(tmp_path / "cutting", format=format)
    assert Tokenizer.from_preset(tmp_path / "cutting").get_config() == cutting.get_config()
    small_tokenizer().save_to_preset(tmp_path / "alone", format=format)
    assert Tokenizer.from_preset(tmp_path / "alone").get_config() == small_tokenizer().get_config()
    assert kind.from_preset(tmp_path / "alone").preset_settings() == kind(small_tokenizer()).preset_settings()
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        MaskedLM.from_preset(tmp_path / "alone")


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_model_and_its_texts_part_may_be_saved_in_any_order(tmp_path, format):
    masked_lm = small_masked_lm(dtype="float32")
    preprocessor = masked_lm.preprocessor
    preprocessor.save_to_preset(tmp_path / "first", format=format)
    masked_lm.backbone.save_to_preset(tmp_path / "first", format=format)
    masked_lm.backbone.save_to_preset(tmp_path / "last", format=format)
    (tmp_path / "last" / "README.md").write_text("kept")
    masked_lm.preprocessor.tokenizer.save_to_preset(tmp_path / "last")  # takes the format that is there
    masked_lm.preprocessor.save_to_preset(tmp_path / "last")
    for place in ("first", "last"):
        assert MaskedLMPreprocessor.from_preset(tmp_path / place).get_config() == preprocessor.get_config()
        backbone = Backbone.from_preset(tmp_path / place)
        assert all(map(np.array_equal, backbone.get_weights(), masked_lm.backbone.get_weights()))
    assert (tmp_path / "last" / "README.md").read_text() == "kept"


def test_a_tokenizer_leaves_the_settings_that_are_there(tmp_path):
    preprocessor = MaskedLMPreprocessor(small_tokenizer(), 33)
    preprocessor.save_to_preset(tmp_path / "a")
    preprocessor.tokenizer.save_to_preset(tmp_path / "a")
    assert MaskedLMPreprocessor.from_preset(tmp_path / "a").sequence_length == 33
    preprocessor.tokenizer.save_to_preset(tmp_path / "a", format="keras")  # another format: they would not be found
    assert MaskedLMPreprocessor.from_preset(tmp_path / "a").sequence_length == 512
    assert sorted(os.listdir(tmp_path / "a")) == ["assets", "tokenizer.json"]


def test_what_is_no_preset_or_another_models_is_never_replaced(tmp_path):
    tokenizer, other = small_tokenizer(), Tokenizer.train(["something else " * 3], vocab_size=270)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"won't replace .*notes: it holds files \(a\.txt\) but no config\.json"):
        tokenizer.save_to_preset(tmp_path / "notes")
    with pytest.raises(FileExistsError, match="it is a file"):
        tokenizer.save_to_preset(tmp_path / "notes" / "a.txt")
    masked_lm = small_masked_lm(dtype="float32")
    masked_lm.save_to_preset(tmp_path / "model")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    with pytest.raises(FileExistsError, match=r"whose tokenizer has other tokens \(300 of them; this one has 270\)"):
        other.save_to_preset(tmp_path / "model")
    with pytest.raises(ValueError, match="the model there has the other format"):
        tokenizer.save_to_preset(tmp_path / "model", format="keras")
    grown = Tokenizer.from_config(tokenizer.get_config())
    grown.add_tokens(["more"])
    with pytest.raises(ValueError, match="the tokenizer has 301 tokens, but the model's token embedding has only 300"):
        grown.save_to_preset(tmp_path / "model")
    with pytest.raises(ValueError, match="format must be 'hf' or 'keras', or None"):
        tokenizer.save_to_preset(tmp_path / "new", format="onnx")
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
    other.save_to_preset(tmp_path / "alone")
    tokenizer.save_to_preset(tmp_path / "alone")  # one that was saved alone may be replaced
    assert len(Tokenizer.from_preset(tmp_path / "alone")) == 300


def test_a_save_that_fails_leaves_the_old_files(tmp_path, monkeypatch):
    tokenizer = small_tokenizer()
    tokenizer.save_to_preset(tmp_path / "a")
    before = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}

    def fails(directory):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_flush_tree", fails)
    with pytest.raises(OSError, match="the disk is full"):
        MaskedLMPreprocessor(tokenizer, 9).save_to_preset(tmp_path / "a")
    assert {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()} == before
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.filterwarnings("ignore:the vocabulary lacks tokens")
def test_vocabularies_without_some_bytes_go_through_presets_and_training(tmp_path):
    lacking = Tokenizer(LOVE, LOVE_MERGES)
    for format in ("hf", "keras"):
        lacking.save_to_preset(tmp_path / format, format=format)
        assert Tokenizer.from_preset(tmp_path / format).get_config() == lacking.get_config()
    with pytest.warns(UserWarning, match="the merges need tokens that the vocabulary lacks, such as"):
        TOKENIZER.save_to_preset(tmp_path / "tiny", format="keras")
    assert Tokenizer.from_preset(tmp_path / "tiny").get_config() == TOKENIZER.get_config()
    backbone = Backbone(len(LOVE), 1, 2, 8, 12, max_sequence_length=16)
    for tokenizer in (lacking, Tokenizer([token for token in LOVE if token != "<unk>"], LOVE_MERGES)):
        masked_lm = MaskedLM(backbone, MaskedLMPreprocessor(tokenizer, 16, mask_selection_length=4))
        masked_lm.fit(["loves love ves", "love loves"], verbose=0)
        assert masked_lm.fill_mask("love <mask>s")[0].token_str
        masked_lm.save_to_preset(tmp_path / "model")
        again = MaskedLM.from_preset(tmp_path / "model")
        assert again.preprocessor.tokenizer.get_config() == tokenizer.get_config()
    assert masked_lm.score("love loves").total < 0
