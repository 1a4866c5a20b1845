"""The learning rate that a preset recommends: kept in both formats, seen by nobody else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_models import TEXTS, small_masked_lm

import pyroberta
from pyroberta.formats.directory import Directory
from pyroberta.presets import hub
from pyroberta.presets.convert import convert
from pyroberta.presets.detect import detect
from pyroberta.presets.preset import open_preset

FILE = "pyroberta_training.json"
FORMATS = ("hf", "keras")
ROOT = Path(__file__).resolve().parents[2]


def saved(path: Path, rate: float | None = 3e-4, format: str = "hf") -> Path:
    masked_lm = small_masked_lm(dtype="float32")
    masked_lm.recommended_learning_rate = rate
    masked_lm.save_to_preset(path, format=format)
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_the_rate_survives_saving_and_loading(tmp_path: Path, format: str) -> None:
    preset = saved(tmp_path / "p", format=format)
    assert pyroberta.MaskedLM.from_preset(preset).recommended_learning_rate == 3e-4
    assert open_preset(preset).learning_rates == {"masked_lm": 3e-4}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_the_rate_survives_conversion(tmp_path: Path, source: str, target: str) -> None:
    preset = saved(tmp_path / "p", format=source)
    convert(preset, tmp_path / "q", format=target)
    assert open_preset(tmp_path / "q").learning_rates == {"masked_lm": 3e-4}


@pytest.mark.parametrize("format", FORMATS)
def test_a_hub_gives_and_takes_the_file(tmp_path: Path, format: str) -> None:
    directory = Directory(saved(tmp_path / "p", format=format))
    fetched = hub.files(hub.in_directory(directory), directory, detect(directory).FILES, weights=False)
    assert FILE in [file.name for file in fetched]


@pytest.mark.parametrize("before", FORMATS)
@pytest.mark.parametrize("after", FORMATS)
def test_a_model_without_a_rate_leaves_none_of_the_model_before(tmp_path: Path, before: str, after: str) -> None:
    saved(saved(tmp_path / "p", format=before), rate=None, format=after)
    assert not (tmp_path / "p" / FILE).exists()
    assert pyroberta.MaskedLM.from_preset(tmp_path / "p").recommended_learning_rate is None


def test_a_rate_belongs_to_a_head_and_each_task_keeps_those_of_the_others(tmp_path: Path) -> None:
    preset = saved(tmp_path / "p")
    classifier = pyroberta.TextClassifier.from_preset(preset, num_classes=2)
    assert classifier.recommended_learning_rate is None
    classifier.recommended_learning_rate = 1e-3
    classifier.save_to_preset(tmp_path / "q")
    assert open_preset(tmp_path / "q").learning_rates == {"masked_lm": 3e-4, "text_classifier": 1e-3}


def test_fresh_values_have_no_recommended_rate(tmp_path: Path) -> None:
    preset = saved(tmp_path / "p")
    assert pyroberta.MaskedLM.from_preset(preset, load_weights=False).recommended_learning_rate is None


def test_training_and_copies_keep_the_rate(tmp_path: Path) -> None:
    import copy

    masked_lm = pyroberta.MaskedLM.from_preset(saved(tmp_path / "p"))
    masked_lm.fit(TEXTS, verbose=0)
    other = copy.copy(masked_lm)
    other.recommended_learning_rate = None
    assert masked_lm.recommended_learning_rate == 3e-4


def test_compile_stays_at_kerashubs_rate(tmp_path: Path) -> None:
    masked_lm = pyroberta.MaskedLM.from_preset(saved(tmp_path / "p"))
    assert masked_lm.optimizer.learning_rate == 5e-5


def test_summary_prints_the_rate(tmp_path: Path) -> None:
    lines: list[str] = []
    masked_lm = pyroberta.MaskedLM.from_preset(saved(tmp_path / "p"))
    masked_lm.summary(print_fn=lines.append)
    assert "recommended learning rate (Adam): 0.0003" in lines[0]
    masked_lm.recommended_learning_rate = None
    masked_lm.summary(print_fn=lines.append)
    assert "recommended" not in lines[1]


@pytest.mark.parametrize("value", [0, -1e-3, float("nan"), float("inf"), "1e-3", True])
def test_no_rate_is_refused_by_name(value: object) -> None:
    masked_lm = small_masked_lm()
    with pytest.raises(ValueError, match="recommended_learning_rate must be a finite number above 0, or None, got"):
        masked_lm.recommended_learning_rate = value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty|isn't valid JSON"),
        ("[]", "should hold a JSON object"),
        ("{}", "learning_rates should be an object"),
        ('{"learning_rates": {"masked_lm": "fast"}}', "learning rate of 'masked_lm' should be a finite number"),
        ('{"learning_rates": {"masked_lm": -1}}', "should be a finite number above 0, got -1"),
        (json.dumps({"learning_rates": {str(i): 1.0 for i in range(99)}}), "up to 20 names of heads"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, content: str, message: str) -> None:
    preset = saved(tmp_path / "p")
    (preset / FILE).write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        pyroberta.MaskedLM.from_preset(preset)
    assert FILE in str(raised.value)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")  # the peers' own
def test_transformers_and_kerashub_do_not_see_it(tmp_path: Path) -> None:
    import keras
    import keras_hub
    import transformers

    with_rate, without = saved(tmp_path / "p"), saved(tmp_path / "q", rate=None)
    seen, expected = (transformers.AutoConfig.from_pretrained(path).to_dict() for path in (with_rate, without))
    assert seen | {"_name_or_path": ""} == expected | {"_name_or_path": ""}
    theirs = keras_hub.models.RobertaMaskedLM.from_preset(str(saved(tmp_path / "k", format="keras")))
    ours = pyroberta.MaskedLM.from_preset(tmp_path / "k")
    table = theirs.backbone.token_embedding.embeddings
    assert np.array_equal(keras.ops.convert_to_numpy(table), ours.params["embeddings.token"])


# --- the script that found it ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finder() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import find_learning_rate
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return find_learning_rate


@pytest.mark.parametrize(
    ("means", "best"),
    [
        ([3.0, 2.5, 2.7], 1e-3),
        ([2.4, 2.5, 2.7], None),  # the edges of the grid say that it is too narrow
        ([3.0, 2.5, 2.4], None),
        ([3.0, 2.5, float("nan")], 1e-3),
        ([float("nan")] * 3, None),
    ],
)
def test_the_lowest_mean_inside_the_grid_is_recommended(finder: ModuleType, means: list[float], best: object) -> None:
    assert finder.best_rate([1e-4, 1e-3, 1e-2], means) == best


def test_the_script_fits_at_every_rate_and_measures_what_was_held_out(
    finder: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "HELD_OUT", 2)
    preset = str(saved(tmp_path / "p", rate=None))
    found = finder.measured(preset, {"a": TEXTS, "b": TEXTS[::-1]}, [1e-9, 1e-2], sizes=(2, 4), epochs=2)
    assert found["columns"] == [("a", 2), ("a", 4), ("b", 2), ("b", 4)]
    assert found["losses"][1e-9] == pytest.approx(found["before"], abs=1e-4)
    assert found["losses"][1e-2] != pytest.approx(found["before"], abs=1e-4)
    assert found["means"][1e-2] == pytest.approx(np.mean(found["losses"][1e-2]))
    assert finder.table(found).count("\n") == 4


def test_the_embedded_preset_has_the_rate_that_the_page_found() -> None:
    page = (ROOT / "docs" / "adaptation.md").read_text(encoding="utf-8")
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith(("| 0.0", "| 5e-05"))]
    means = {float(row[0]): float(row[-1]) for row in rows}
    rate = pyroberta.MaskedLM.from_preset("roberta_tiny_en").recommended_learning_rate
    assert len(means) == 7
    assert rate == min(means, key=lambda one: means[one])
