"""The card of a model. It is made from the model's files, with gaps for the author."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pyroberta.model.config import RobertaConfig
from pyroberta.model.heads import head_of
from pyroberta.model.parameters import is_backbone, shapes
from pyroberta.presets.heads import HEAD_FILES

CARD = "README.md"
NO_LICENCE = "TO BE STATED by the author: until then nobody may use the model."


# The name of the output table.
OUTPUTS = {"embeddings.token": "the token embedding", "head.decoder": "one of its own", "head.table": "a row per class"}


def model_card(
    config: RobertaConfig,
    handle: str,
    *,
    formats: Sequence[str] = ("transformers",),
    licence: str | None = None,
    trained_from: str | None = None,
) -> str:
    """Returns a README.md in the form of the Hugging Face hub: YAML between `---`, then Markdown.

    Args:
        config: the config of the model.
        handle: the handle of the model, `hf://…` or `kaggle://…`.
        formats: the other libraries that load it: `"transformers"`, `"keras_hub"`.
        licence: the licence, such as `"apache-2.0"`. Without one, the card asks the author for it.
        trained_from: the preset from which training began, a handle or a name.

    >>> config = RobertaConfig(vocabulary_size=10, num_layers=2, num_heads=2, hidden_dim=4, intermediate_dim=8)
    >>> print(model_card(config, "hf://me/mine", licence="mit").split("---")[1].strip())
    library_name: transformers
    pipeline_tag: fill-mask
    tags:
    - roberta
    - pyroberta
    license: mit
    """
    files = HEAD_FILES[config.head]
    card = files.card
    sizes = {name: math.prod(shape) for name, shape in shapes(config).items()}
    encoder = sum(size for name, size in sizes.items() if is_backbone(name))
    place = handle.partition("://")[2]
    facts = [
        "library_name: " + ("transformers" if "transformers" in formats else "keras-hub"),
        f"pipeline_tag: {card.pipeline}",
    ]
    facts += ["tags:", "- roberta", "- pyroberta"]
    if licence:
        facts.append(f"license: {licence}")
    if trained_from and trained_from.startswith("hf://"):
        facts.append(f"base_model: {trained_from.removeprefix('hf://').partition('@')[0]}")
    code = ["import pyroberta", "", f'{card.variable} = pyroberta.{card.task}.from_preset("{handle}")', card.use]
    repository, _, revision = place.partition("@")
    if handle.startswith("hf://") and "transformers" in formats:
        at = f', revision="{revision}"' if revision else ""
        code += [
            "",
            "# or",
            "from transformers import pipeline",
            "",
            f'{card.pipeline.replace("-", "_")} = pipeline("{card.pipeline}", "{repository}"{at})',
        ]
    if "keras_hub" in formats:
        code += [
            "",
            "# or",
            "import keras_hub",
            "",
            f'{card.variable} = keras_hub.models.{files.keras_classes[0]}.from_preset("{handle}")',
        ]
    lines = [
        "---", *facts, "---", "",
        f"# {repository.split('/')[-1]}", "",
        f"{card.subject.format(num_classes=config.num_classes)}, saved by pyroberta.", "",
        "| | |", "|---|---|",
        f"| layers | {config.num_layers} |",
        f"| hidden, feed-forward | {config.hidden_dim}, {config.intermediate_dim} |",
        f"| attention heads | {config.num_heads} |",
        f"| vocabulary | {config.vocabulary_size:,} |",
        f"| tokens in a sequence | up to {config.max_sequence_length} |",
        f"| parameters | {encoder:,}, and {sum(sizes.values()) - encoder:,} of the head's own |",
        f"| output matrix | {OUTPUTS[head_of(config).output_table(config)]} |",
        f"| trained from | {trained_from or 'not recorded'} |", "",
        "## Use", "",
        "```python", *code, "```", "",
        "## Training data, evaluation, limits", "", "Not stated by the author yet.", "",
        "## Licence", "", licence or NO_LICENCE, "",
    ]  # fmt: skip
    return "\n".join(lines)


def licence_in(card: str) -> str | None:
    """Returns the licence that a card states in its YAML, or in the first line of a section of that name. The result is
    None if it states none.

    >>> licence_in("---\\nlicense: mit\\n---\\n")
    'mit'
    >>> licence_in("# A model\\n\\n## Licence\\n\\nFree to use,\\nby all. Truly.")
    'Free to use, by all.'
    """
    facts = re.match(r"---\n(.*?)\n---\n", card.replace("\r\n", "\n"), flags=re.DOTALL)
    stated = re.search(r"^license: *['\"]?([^'\"\n]+)", facts[1], flags=re.MULTILINE) if facts else None
    if stated:
        return stated[1].strip()
    section = re.search(
        r"^#+ licen[cs]e\s*\n+(.+?)\s*(?:\n\n|\Z)", card, flags=re.MULTILINE | re.DOTALL | re.IGNORECASE
    )
    if not section or section[1] == NO_LICENCE:
        return None
    return re.split(r"(?<=[.!?]) ", " ".join(section[1].split()))[0]
