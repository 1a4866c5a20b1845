"""Checks models with whatever transformers is on the path: a version 4, in a process of its own.

python tests/support/live_transformers4.py      prints the version, and what departs of each model
"""

from __future__ import annotations

from small_presets import HF_SIZES

from pyroberta.oracle import check_transformers

IDS = [[0, 5, 9, 4, 2], [0, 7, 7, 8, 9, 10, 11, 12, 2], [0, 6, 2]]


def main() -> None:
    import torch
    import transformers

    print(transformers.__version__)
    for kind in ("ForMaskedLM", "Model", "ForSequenceClassification"):
        for attention in ("eager", "sdpa"):
            for dtype in (torch.float32, torch.float64):
                torch.manual_seed(0)
                config = transformers.RobertaConfig(**HF_SIZES, attn_implementation=attention)
                model = getattr(transformers, f"Roberta{kind}")(config)
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.normal_(std=0.3)
                report = check_transformers(model.to(dtype), IDS)
                seen = sum("probabilities" in name for name in report.aligned.theirs)
                print(len(report.findings), seen, [str(finding) for finding in report.departures])


if __name__ == "__main__":
    main()
