"""The page that ships with a pretrained model, made from the record of its run and from nothing else.

`pretrain_tiny.py` writes the record, `run.json`, and calls `write`, which puts `README.md` and the picture `curve.svg`
beside it; `pretrain_tiny.py --card run.json` does it again. Needs matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Run = dict[str, Any]  # what `pretrain` in pretrain_tiny.py returns
IN_DOMAIN = "2 % of the training sources' paragraphs, held out"
CURVE = "curve.svg"


def write(record: Path) -> None:
    """Writes the page and the picture beside the record."""
    run = json.loads(record.read_text(encoding="utf-8"))
    record.with_name("README.md").write_text(model_card(run), encoding="utf-8")
    draw_curve(run, record.with_name(CURVE))


def model_card(run: Run) -> str:
    """The text of the page."""
    config, recipe = run["config"], run["recipe"]
    evaluation_tokens, mask_rate = run["evaluation"]["tokens"], run["evaluation"]["mask_rate"]
    return f"""# {run["name"]}

A RoBERTa small enough to ship inside the package: {config["num_layers"]} layers, hidden size {config["hidden_dim"]},
{config["num_heads"]} heads, a vocabulary of {config["vocabulary_size"]}, {run["parameters"] / 1e6:.2f} million
parameters in float16. It was pretrained from scratch by `scripts/pretrain_tiny.py` with this project's own `fit`. It is
there so that the first run works offline and shows something; it knows everyday grammar and little of the world.
Do not rely on what it says. {run["note"]}

## How good it is
Mean cross-entropy (nats) and accuracy over masked tokens, with {100 * mask_rate:.0f} % of the tokens masked
from a fixed seed. Beside them what is to be had without any context: the entropy of the text's own token frequencies,
and the share of its most frequent token. Each text was cut into full sentences of up to {config["max_sequence_length"]}
tokens together, and every n-th of these sequences taken, so that there were at most some {evaluation_tokens:,} tokens;
other cuts of the same text, such as `evaluate(speeches())` on whole paragraphs, give figures some 0.1 off.

{results(run)}

As in training, one in ten of these tokens stays as it is, and saying what stands there is then right: the figures are
better than for tokens that the model can't see. With `<mask>` in the place of all of them they are:

{hidden(run)}

![Loss and accuracy over the tokens trained on]({CURVE})

Left the loss, right the accuracy, over the run. Training masks more at first than the evaluation does, and evaluation
was at the length trained on by then, on some 30,000 tokens of each text. Dashed: the unigram entropy.

{len(run["prompts"])} texts, chosen before the training and not selected after it:

{examples(run)}

## What it was trained on
{run["tokens"] / 1e6:.2f} million tokens ({run["tokens_per_word"]:.2f} a word on held-out text) in {run["steps"]} steps,
drawn from:

{sources(run)}

The evaluation texts are State of the Union messages from 1990 on (which the package ships as
`pyroberta.data.speeches()`) and the Brown corpus; they were used for measuring alone. Much of the training text is old:
speeches, scripture, definitions, and novels where they were given; the model's habits, prejudices included, are theirs.

## How
Made by `python scripts/corpus.py` and `{run["command"]}`.{stopped(run)}

One-cycle AdamW: peak {recipe["learning_rate"]:g} after {100 * recipe["warm_up"]:.0f} % of the tokens, then linear to
zero; β (0.9, 0.999), ε 1e-6, decay 0.01 but not on biases and layer norms, global norm clipped at 1. No dropout. Linear
layers drawn with a standard deviation of 0.08, the output's bias set to the log frequency of tokens, heads of the first
two layers initialised to look at neighbours. Of the masked tokens 80 % become `<mask>`, 10 % a random token, 10 % stay.

{phases(run)}

It reads texts of at most {config["max_sequence_length"]} tokens, the length of the last phase; `long_texts` says what
is done with longer ones.
Seed {run["seed"]}, backend {run["backend"]}, {run["seconds"] / 60:.0f} minutes on {run["machine"]}.
`run.json` has the whole record, and this page is made from it. What was tried before is in `docs/pretraining.md`.
The weights are fitted further at the learning rate in `pyroberta_training.json`; `docs/adaptation.md` says how
it was found, and `docs/pretraining.md` by which rule README's example texts were chosen.

## Licence
The weights and the vocabulary are released under Apache-2.0, as the package. {notices(run)}
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def trained_on(run: Run) -> dict[str, dict[str, Any]]:
    return {name: row for name, row in run["sources"].items() if row["role"] == "train"}


def results(run: Run) -> str:
    """The figures on each evaluation text, then on the held-out part of each source."""
    about = {"in_domain": IN_DOMAIN, **{name: f"{row['about']}; never trained on" for name, row in evaluated(run)}}
    rows = [(about[name], figures) for name, figures in run["figures"].items()]
    rows += [(f"held out of: {run['sources'][name]['about']}", f) for name, f in run["figures_by_source"].items()]
    return table(
        ["text", "loss", "unigram entropy", "accuracy", "most frequent token", "tokens"],
        [
            [
                text, f"{f['loss']:.2f}", f"{f['entropy']:.2f}", f"{100 * f['accuracy']:.1f} %",
                f"{100 * f['most_frequent']:.1f} %", f"{f['tokens']:,}",
            ]
            for text, f in rows
        ],
    )  # fmt: skip


def hidden(run: Run) -> str:
    """The figures with `<mask>` in the place of every token that is asked for."""
    about = {"in_domain": IN_DOMAIN, **{name: row["about"] for name, row in evaluated(run)}}
    return table(
        ["text", "loss", "accuracy"],
        [
            [about[name], f"{f['loss']:.2f}", f"{100 * f['accuracy']:.1f} %"]
            for name, f in run["figures_hidden"].items()
        ],
    )


def evaluated(run: Run) -> list[tuple[str, dict[str, Any]]]:
    return [(name, row) for name, row in run["sources"].items() if row["role"] == "evaluate"]


def examples(run: Run) -> str:
    """What the model fills into each prompt."""
    return table(
        ["text", "the five likeliest"],
        [
            [
                shown["prompt"].replace("|", "\\|"),
                ", ".join(f"`{word or '␠'}` {score:.2f}" for word, score in shown["answers"]),
            ]
            for shown in run["prompts"]
        ],
    ).replace("<mask>", "`<mask>`")


def sources(run: Run) -> str:
    """The training texts, and the works in those that are collections."""
    rows = trained_on(run).values()
    listed = table(
        ["text", "from", "licence", "words"],
        [
            [row["about"], f"`{row['package']}` {row['version']}".strip(), row["licence"], f"{row['words']:,}"]
            for row in rows
        ],
    )
    works = "".join(
        "\n\n" + textwrap.fill(f"“{row['about']}” stands for: {'; '.join(row['works'])}.", 120, break_on_hyphens=False)
        for row in rows
        if "works" in row
    )
    return listed + works


def stopped(run: Run) -> str:
    """A sentence about a run that ended before its plan did; nothing about others."""
    if run["tokens"] == run["planned_tokens"]:
        return ""
    return (
        f" It was ended early, after {run['tokens'] / 1e6:.2f} of {run['planned_tokens'] / 1e6:.2f} million tokens, "
        f"at a learning rate of {run['log'][-1]['learning_rate']:.1e}."
    )


def phases(run: Run) -> str:
    """The course of sequence lengths, steps and masks."""
    return table(
        ["tokens", "sequence length", "tokens a step", "masked"],
        [
            [
                f"{100 * phase['share']:.0f} %", str(phase["sequence_length"]), str(phase["tokens_per_step"]),
                f"{100 * phase['mask_rate']:.0f} %",
            ]
            for phase in run["recipe"]["phases"]
        ],
    )  # fmt: skip


def notices(run: Run) -> str:
    """The notices that licences of sources ask to be kept."""
    sections = "".join(
        f"\n\n### {row['about']}\n\n```text\n{row['notice']}\n```"
        for row in trained_on(run).values()
        if row.get("notice")
    )
    return "Sources that ask for their notice to be kept:" + sections if sections else ""


def draw_curve(run: Run, file: Path) -> None:
    """Loss and accuracy over the tokens, in training and on the evaluation texts. The same run gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    titles = {"in_domain": "held out of the sources", "sotu_modern": "speeches from 1990 on", "brown": "Brown corpus"}
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": run["name"], "font.size": 9}):
        figure = Figure(figsize=(8.0, 3.2), layout="constrained")
        FigureCanvasSVG(figure)
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            scale = 100.0 if name == "accuracy" else 1.0
            lines = run["log"]
            axes.plot(
                [line["tokens"] / 1e6 for line in lines], [scale * line[name] for line in lines],
                color="0.75", linewidth=1.0, label="training",
            )  # fmt: skip
            for number, text in enumerate(run["figures"]):
                x = [check["tokens"] / 1e6 for check in run["checks"]]
                y = [scale * check[text][name] for check in run["checks"]]
                axes.plot(
                    x, y, color=f"C{number}", marker=".", markersize=4, linewidth=1.2, label=titles.get(text, text)
                )
                if name == "loss":
                    axes.axhline(run["figures"][text]["entropy"], color=f"C{number}", linewidth=0.7, linestyle="--")
            axes.set(xlabel="million tokens", ylabel="loss (nats)" if name == "loss" else "accuracy (%)")
            axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(file, metadata={"Date": None, "Creator": None})
