"""scripts/hub_check.sh against hubs on this machine, since the real ones are elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import ROOT, Hub, Repository, environment, files_of, large_hash
from small_presets import kerashub_params, preset

from pyroberta import MaskedLM


@pytest.mark.slow
def test_every_model_is_checked_whatever_fails_before_it(tmp_path: Path, small_preset: Path) -> None:
    files = files_of(small_preset)
    model = MaskedLM.from_preset(small_preset)
    parameters = model.backbone.count_params()
    text = "The quick brown <mask>."
    word = model.fill_mask(text, top_k=1, verbose=0)[0].token_str
    cases = [
        {"handle": "hf://org/missing", "parameters": 1},
        {"handle": "hf://org/small", "parameters": parameters, "text": text, "word": word, "is_fitted": True},
        {"handle": "hf://org/small", "parameters": parameters + 1, "start": [1e6], "text": text, "word": "no such"},
    ]
    report = tmp_path / "report.txt"
    with Hub() as hub:
        hub.repositories["org/small"] = Repository(files)
        settings = environment(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secretsecretsecret")
        settings |= {"HUB_CHECK_CASES": json.dumps(cases), "PYTHON": sys.executable}
        command = ["bash", str(ROOT / "scripts" / "hub_check.sh"), str(report)]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300, check=False)
    said = report.read_text(encoding="utf-8")
    assert done.stdout == said
    assert done.returncode == 1
    assert (
        len(re.findall("^  FAILED ", said, re.MULTILINE)) == 5
    )  # the download and load of one, three figures of another
    assert f"  ok      parameters of the backbone: {parameters:,}" in said
    assert f"  ok      {text}: {word!r}" in said
    assert "  ok      the loss of KerasHub's page's fit" in said
    assert large_hash(files["model.safetensors"]) in said
    assert "numpy " in said
    assert str(tmp_path) not in said
    assert str(ROOT) not in said
    assert "hf_secret" not in said
    assert said.rstrip().endswith("5 checks failed")


@pytest.mark.slow
def test_a_model_of_kaggle_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import hub_check

    env = pytest.importorskip("kagglesdk.kaggle_env")
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    monkeypatch.setenv("HOME", str(tmp_path))
    session = pytest.importorskip("requests").Session
    send = session.send  # kagglehub waits 15 seconds for an answer
    monkeypatch.setattr(session, "send", lambda *args, **keywords: send(*args, **{**keywords, "timeout": None}))
    files = files_of(preset(tmp_path / "preset", kerashub_params()))
    parameters = MaskedLM.from_preset(tmp_path / "preset").backbone.count_params()
    case = hub_check.Case("kaggle://owner/model/keras/small/1", parameters, "The quick <mask>.", "no such word")
    with Hub() as hub:
        monkeypatch.setitem(env._env_to_endpoint, env.KaggleEnv.PROD, hub.url)
        hub.repositories["owner/model/keras/small"] = Repository(versions={1: files})
        report = hub_check.Report([str(tmp_path)])
        hub_check.check(case, report)
    said = capsys.readouterr().out
    assert f"  ok      parameters of the backbone: {parameters:,}" in said
    assert large_hash(files["model.weights.h5"]) in said
    assert "  FAILED  The quick <mask>.: " in said
    assert report.failed == 1
    assert str(tmp_path) not in said
