"""What the parity tests ask of transformers 4, in a process of its own: two versions don't fit into one.

python tests/support/transformers4.py write FOLDER      directories as version 4 writes them, each with its logits
python tests/support/transformers4.py read DIRECTORY    the logits of a directory, in DIRECTORY/logits.npy
python tests/support/transformers4.py check             what departs of each kind of model, a line for each
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_presets import HF_SIZES

from pyroberta.oracle import check_transformers

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "transformers4"  # .ci/run puts it there
needs_transformers4 = pytest.mark.skipif(not FOLDER.is_dir(), reason="transformers 4 isn't in .cache")
IDS = np.array([[0, 9, 8, 7, 4, 2], [0, 5, 21, 6, 30, 2]])
UNEVEN = [[0, 5, 9, 4, 2], [0, 7, 7, 8, 9, 10, 11, 12, 2], [0, 6, 2]]
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "bin": {"safe_serialization": False},
    "sharded": {"max_shard_size": "2KB"},
    "sharded-bin": {"max_shard_size": "2KB", "safe_serialization": False},
}


def ask(*arguments: str) -> str:
    """What the process prints."""
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(FOLDER)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def logits(model: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor(IDS)).logits.double().numpy()


def write(folder: Path) -> None:
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    sizes = {"vocab_size": 31, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    for tied in (True, False):
        torch.manual_seed(0)
        config = RobertaConfig(
            **sizes, intermediate_size=12, max_position_embeddings=18, layer_norm_eps=1e-5, tie_word_embeddings=tied
        )
        model = RobertaForMaskedLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.4)
        for name, how in WAYS.items():
            directory = folder / f"{name}-{'tied' if tied else 'untied'}"
            model.save_pretrained(directory, **how)
            np.save(directory / "logits.npy", logits(model))


def read(directory: Path) -> None:
    import torch
    from transformers import RobertaForMaskedLM

    model, report = RobertaForMaskedLM.from_pretrained(directory, output_loading_info=True, torch_dtype=torch.float32)
    if any(report.values()):
        raise SystemExit(f"not all was taken: {report}")
    np.save(directory / "logits.npy", logits(model))


def check() -> None:
    import torch
    import transformers

    for kind in ("ForMaskedLM", "Model", "ForSequenceClassification"):
        for attention in ("eager", "sdpa"):
            for dtype in (torch.float32, torch.float64):
                torch.manual_seed(0)
                config = transformers.RobertaConfig(**HF_SIZES, attn_implementation=attention)
                model = getattr(transformers, f"Roberta{kind}")(config)
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.normal_(std=0.3)
                report = check_transformers(model.to(dtype), UNEVEN)
                seen = sum("probabilities" in name for name in report.aligned.theirs)
                print(len(report.findings), seen, [str(finding) for finding in report.departures])


if __name__ == "__main__":
    import transformers

    if not transformers.__version__.startswith("4."):
        raise SystemExit(f"this is transformers {transformers.__version__}")
    {"write": write, "read": read, "check": check}[sys.argv[1]](*map(Path, sys.argv[2:]))
