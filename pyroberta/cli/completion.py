"""`pyroberta completion`: prints the script that completes commands, options and values in a shell."""

from __future__ import annotations

import argparse

from pyroberta.cli.shells import SHELLS, every_place

SUMMARY = "the script that completes commands, options and values in a shell"
EXAMPLES = (
    'eval "$(pyroberta completion bash)"',
    "pyroberta completion bash > ~/.local/share/bash-completion/completions/pyroberta",
    'pyroberta completion zsh > "${fpath[1]}/_pyroberta"',
    "pyroberta completion fish > ~/.config/fish/completions/pyroberta.fish",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("shell", choices=sorted(SHELLS), help="the shell that the script is for")


def run(arguments: argparse.Namespace) -> dict[str, str]:
    """Runs the command. The result has the script."""
    script = SHELLS[arguments.shell](every_place())
    if not arguments.json:
        print(script, end="")
    return {"shell": arguments.shell, "script": script}
