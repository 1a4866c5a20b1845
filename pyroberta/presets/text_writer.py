"""Writing of a tokenizer, and of a preprocessor's settings, into a preset. A model in the preset does not change."""

from __future__ import annotations

import os
from pathlib import Path

from pyroberta.formats.atomic import replace_directory
from pyroberta.formats.new_files import NewFile, place_of
from pyroberta.presets import hf
from pyroberta.presets.checks import check_vocabulary
from pyroberta.presets.detect import PRESET, refuse_fairseq
from pyroberta.presets.heads import HEAD_FILES, TEXT_CLASSIFIER
from pyroberta.presets.preset import Preset, open_preset
from pyroberta.presets.writing import PREPROCESSOR_FILES, TOKENIZER_FILES, json_file
from pyroberta.text.preprocessor import Preprocessor
from pyroberta.text.tokenizer import Tokenizer

FORMATS = ("hf", "keras")


def write(
    directory: str | os.PathLike[str],
    tokenizer: Tokenizer,
    preprocessor: Preprocessor | None = None,
    format: str | None = None,
) -> None:
    """Writes the files of a tokenizer and of a preprocessor's settings, atomically.

    Files of other names stay. Without a preprocessor, existing settings stay too.

    Args:
        directory: the directory, which is created; or that of a preset, or one that this function wrote.
        tokenizer: the tokenizer to write.
        preprocessor: the preprocessor whose settings are written too, or None.
        format: "hf" or "keras". None for the format of the existing preset, or else "hf".

    Raises:
        FileExistsError, ValueError, OSError: see `Tokenizer.save_to_preset`.
    """
    if format not in (None, *FORMATS):
        raise ValueError(
            f"format must be 'hf' or 'keras', or None for the format of the existing preset, got {format!r}"
        )
    place = place_of(directory)
    refuse_fairseq(place)
    existing = open_preset(place) if place.is_dir() and any(place.iterdir()) and not PRESET.refusal(place) else None
    existing_format = None if existing is None else "hf" if existing.format is hf else "keras"
    format = format or existing_format or "hf"
    if existing is not None and existing.has_model:
        if format != existing_format:
            raise ValueError(
                f"can't save to {place} with format={format!r}: the model there has the other format, whose readers "
                "would not find the tokenizer. Leave format out, or give another directory"
            )
        _check_rows(place, existing, tokenizer)
    owned = [*TOKENIZER_FILES]
    owned += PREPROCESSOR_FILES if preprocessor is not None or format != existing_format else ()
    replace_directory(place, _files(tokenizer, preprocessor, format), PRESET, owned)


def _check_rows(place: Path, existing: Preset, tokenizer: Tokenizer) -> None:
    """Checks that the rows of a model's embedding stand for the tokenizer's tokens, as far as that is known."""
    check_vocabulary(tokenizer.vocabulary_size(), existing.config, place)
    try:
        saved = existing.tokenizer.vocabulary
    except (ValueError, OSError):  # there is none, or a damaged one
        return
    if any(tokenizer.vocabulary.get(token) != id for token, id in saved.items()):
        raise FileExistsError(
            f"won't save a tokenizer to {place}: it has a model whose tokenizer has other tokens ({len(saved)} of "
            f"them; this one has {len(tokenizer)}), so the rows of the model's token embedding would stand for other "
            "tokens. Save to another directory"
        )


def _files(tokenizer: Tokenizer, preprocessor: Preprocessor | None, format: str) -> dict[str, NewFile]:
    settings = None if preprocessor is None else preprocessor.preset_settings()
    if format == "hf":
        made = tokenizer.new_files()
        return made if settings is None else made | {hf.PREPROCESSOR: json_file(settings)}
    from pyroberta.presets import kerashub_writer

    kerashub_writer.check_tokenizer(tokenizer)
    kerashub_writer.warn_of_tokenizer(tokenizer)
    kinds = (files for files in HEAD_FILES.values() if isinstance(preprocessor, files.preprocessor))
    return kerashub_writer.text_files(tokenizer, next(kinds, TEXT_CLASSIFIER), settings)
