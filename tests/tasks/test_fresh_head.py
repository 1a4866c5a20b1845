"""The warning of an untrained head: a task has one where a preset lacks the head, a backbone has no head to lack."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import small_masked_lm, small_tokenizer

from pyroberta import Backbone, MaskedLM, Task, TextClassifier, TextClassifierPreprocessor, models
from pyroberta.presets.checks import FreshHeadWarning
from pyroberta.presets.preset import open_preset

Load = Callable[[Path], Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with presets: an encoder, a masked LM and a classifier of three classes in each format."""
    directory = tmp_path_factory.mktemp("saved")
    lm = small_masked_lm(dtype="float32")
    classifier = TextClassifier(lm.backbone, 3, TextClassifierPreprocessor(small_tokenizer(), 40))
    for format in ("hf", "keras"):
        lm.save_to_preset(directory / f"lm-{format}", format=format)
        classifier.save_to_preset(directory / f"classifier-{format}", format=format)
        for name, model in (("encoder", lm), ("encoder-of-classifier", classifier)):
            model.backbone.save_to_preset(directory / f"{name}-{format}", format=format)
            model.preprocessor.save_to_preset(directory / f"{name}-{format}", format=format)
    lm.backbone.save(directory / "encoder.keras")
    return directory


def warned(load: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load()
    assert all(warning.filename == __file__ for warning in said)
    return [str(warning.message) for warning in said if warning.category is FreshHeadWarning]


@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.parametrize("preset", ["encoder", "encoder-of-classifier", "lm", "classifier"])
def test_a_backbone_says_nothing_of_heads(saved: Path, preset: str, format: str):
    place = saved / f"{preset}-{format}"
    for options in ({}, {"num_classes": None}, {"num_classes": 3}, {"num_classes": 5}, {"load_weights": False}):
        assert warned(lambda options=options: models.RobertaBackbone.from_preset(place, **options)) == []
    assert warned(lambda: models.load_model(saved / "encoder.keras")) == []


@pytest.mark.parametrize("format", ["hf", "keras"])
@pytest.mark.parametrize(
    ("preset", "load", "said"),
    [
        ("encoder", MaskedLM.from_preset, "no masked-LM head"),
        ("encoder", Task.from_preset, "no masked-LM head"),
        ("encoder", lambda place: MaskedLM(Backbone.from_preset(place)), "no masked-LM head"),
        ("encoder", lambda place: MaskedLM(copy.copy(Backbone.from_preset(place))), "no masked-LM head"),
        ("encoder", lambda place: MaskedLM.from_preset(place, load_weights=False), None),
        ("encoder", lambda place: MaskedLM(Backbone.from_preset(place, load_weights=False)), None),
        ("encoder", lambda place: TextClassifier.from_preset(place, num_classes=2), None),
        ("encoder", lambda place: TextClassifier(Backbone.from_preset(place), 2), None),
        ("encoder", lambda place: TextClassifier(Backbone.from_preset(place, num_classes=2), 2), None),
        ("lm", MaskedLM.from_preset, None),
        ("lm", lambda place: MaskedLM(Backbone.from_preset(place)), None),
        ("lm", lambda place: TextClassifier(Backbone.from_preset(place), 2), None),
        ("classifier", TextClassifier.from_preset, None),
        ("classifier", lambda place: TextClassifier(Backbone.from_preset(place), 3), None),
        ("classifier", lambda place: TextClassifier(Backbone.from_preset(place), 4), "num_classes=4 instead of 3"),
        ("classifier", lambda place: TextClassifier.from_preset(place, num_classes=4), "num_classes=4 instead of 3"),
        ("classifier", lambda place: TextClassifier.from_preset(place, num_classes=3), None),
        ("classifier", lambda place: TextClassifier.from_preset(place, hidden_dim=6), "(hidden_dim=6 instead of 8)"),
        ("classifier", lambda place: TextClassifier.from_preset(place, hidden_dim=8), None),
        ("classifier", lambda place: TextClassifier.from_preset(place, num_classes=4, load_weights=False), None),
        ("classifier", lambda place: TextClassifier(Backbone.from_preset(place, num_classes=4), 4), "=4 instead of 3"),
        ("classifier", lambda place: TextClassifier(copy.copy(Backbone.from_preset(place)), 4), "=4 instead of 3"),
        ("encoder-of-classifier", lambda place: TextClassifier.from_preset(place, num_classes=4), None),
        ("encoder-of-classifier", lambda place: TextClassifier(Backbone.from_preset(place, num_classes=3), 4), None),
        ("encoder", lambda place: TextClassifier(Backbone.from_preset(place, num_classes=2), 4), None),
        ("classifier", MaskedLM.from_preset, "no masked-LM head"),
        ("classifier", lambda place: MaskedLM(Backbone.from_preset(place, num_classes=None)), "no masked-LM head"),
        ("classifier", lambda place: MaskedLM(Backbone.from_preset(place)), "a head for 3 classes and no masked-LM"),
        ("classifier", lambda place: MaskedLM(TextClassifier.from_preset(place).backbone), "and no masked-LM head"),
        ("classifier", lambda place: MaskedLM(Backbone.from_preset(place, load_weights=False)), None),
    ],
)
def test_a_task_says_once_that_its_head_is_untrained(
    saved: Path, preset: str, format: str, load: Load, said: str | None
):
    found = warned(lambda: load(saved / f"{preset}-{format}"))
    assert len(found) == (said is not None)
    assert all(said in message and message.endswith("Fit it before predicting.") for message in found)


def test_two_tasks_around_one_backbone_say_it_once(saved: Path):
    backbone = Backbone.from_preset(saved / "encoder-hf")
    assert len(warned(lambda: [MaskedLM(backbone), MaskedLM(backbone)])) == 1


def test_the_encoder_of_an_archive_is_told_by_the_task_around_it(saved: Path):
    (said,) = warned(lambda: MaskedLM(models.load_model(saved / "encoder.keras")))
    assert "encoder.keras has no masked-LM head (model.weights.h5): an untrained one" in said


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_weights_that_are_read_alone_warn_or_tell_their_reader(saved: Path, format: str):
    preset, found = open_preset(saved / f"encoder-{format}"), []
    assert len(warned(preset.weights)) == 1
    assert warned(lambda: preset.weights(on_fresh_head=found.append)) == []
    assert len(found) == 1


@pytest.mark.parametrize("preset", ["encoder-hf", "classifier-hf"])
def test_a_warning_that_is_raised_as_an_error_does_not_count_as_said(saved: Path, preset: str):
    backbone = Backbone.from_preset(saved / preset, num_classes=5 if preset == "classifier-hf" else None)

    def make() -> Any:
        return TextClassifier(backbone, 5) if preset == "classifier-hf" else MaskedLM(backbone)

    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(FreshHeadWarning):
                make()
    assert len(warned(make)) == 1
    assert warned(make) == []


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_the_head_that_is_not_used_is_named_with_its_preset_and_the_sizes(saved: Path, format: str):
    place = saved / f"classifier-{format}"
    (said,) = warned(lambda: TextClassifier.from_preset(place, num_classes=4, hidden_dim=6))
    assert said == (
        f"{place} has a head for 3 classes, which is not used, since another was asked for (num_classes=4 instead of "
        "3, hidden_dim=6 instead of 8): an untrained one was initialised. Fit it before predicting."
    )


@pytest.mark.parametrize("format", ["hf", "keras"])
def test_a_seed_of_a_backbone_whose_weights_are_all_loaded_is_an_error(saved: Path, format: str):
    for preset in ("lm", "classifier"):
        with pytest.raises(ValueError, match=r"seed=0 would have no effect, .* leave it out, or give load_weights=Fal"):
            Backbone.from_preset(saved / f"{preset}-{format}", seed=0)
        drawn = [
            [Backbone.from_preset(saved / f"{preset}-{format}", seed=seed, **options).params.flat for seed in (3, 3, 4)]
            for options in ({"num_classes": 5}, {"load_weights": False})
        ]
        assert all((one == same).all() and (one != other).any() for one, same, other in drawn)
    assert Backbone.from_preset(saved / f"encoder-{format}", seed=3) is not None
    assert MaskedLM.from_preset(saved / f"lm-{format}", seed=3).seed == 3  # the seed of its training


def test_a_model_with_initial_values_says_nothing():
    backbone = small_masked_lm().backbone
    assert warned(lambda: MaskedLM(TextClassifier(backbone, 3).backbone)) == []
