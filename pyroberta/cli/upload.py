"""`pyroberta upload`: uploads a saved model to a hub."""

from __future__ import annotations

import argparse
import sys

SUMMARY = "put a saved model on the Hugging Face hub or Kaggle"
EXAMPLES = ("pyroberta upload my_model hf://me/my-model --private --licence mit",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="as `pyroberta fit --output DIR` made it")
    parser.add_argument(
        "handle", type=handle, metavar="HANDLE", help="hf://ORGANISATION/NAME or kaggle://OWNER/MODEL/keras/VARIATION"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--licence", metavar="ID", help="such as apache-2.0; on Kaggle such as 'Apache 2.0'")
    parser.add_argument(
        "--trained-from", metavar="PRESET", help="name or handle of the preset that you trained further"
    )
    parser.add_argument("--message", metavar="TEXT", default="A model saved by pyroberta", help="of the commit")


def run(arguments: argparse.Namespace) -> dict[str, str]:
    """Runs the command. The result has the directory and the address of its page."""
    from pyroberta.presets.upload import upload

    url = upload(
        arguments.directory,
        arguments.handle,
        private=arguments.private,
        licence=arguments.licence,
        trained_from=arguments.trained_from,
        message=arguments.message,
    )
    if not arguments.json:
        print(f"uploaded {arguments.directory} to {url}")
        if not arguments.licence:
            print("No licence was given, so nobody may use the model yet: state one on that page.", file=sys.stderr)
    return {"uploaded": arguments.directory, "url": url}


def handle(text: str) -> str:
    """Checks that a handle is one for uploads, and returns it."""
    from pyroberta.presets.upload import check_handle

    try:
        check_handle(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
