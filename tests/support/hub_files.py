"""The files of presets that the hubs on this machine hold."""

from __future__ import annotations

from pathlib import Path


def files_of(directory: Path) -> dict[str, bytes]:
    files = (file for file in sorted(directory.rglob("*")) if file.is_file())
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}
