"""`pyroberta embed`: computes the embeddings of texts, and finds similar texts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import Any

from pyroberta.cli import options
from pyroberta.cli.exit_codes import UsageError
from pyroberta.cli.places import check_places
from pyroberta.cli.streams import bar
from pyroberta.cli.texts import add_texts, answers, given_texts, source_of
from pyroberta.formats.counts import counted

SUMMARY = "the embeddings of texts, in a file or as JSON, and which texts are alike"
EXAMPLES = (
    "pyroberta embed --file texts.txt -o vectors.npy",
    "pyroberta embed --file reviews.csv --column text -o vectors.jsonl",
    'pyroberta embed "A dog barks." --json',
    'pyroberta embed --file texts.txt --nearest "A dog barks." --normalize center',
    "pyroberta embed --file texts.txt --neighbours -k 3 --normalize whiten --fitted-on corpus.txt",
)
OUTPUTS = (".npy", ".jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_texts(parser)
    options.add_model(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-o", "--output", type=options.place, metavar="FILE", help=f"write them there: {' or '.join(OUTPUTS)}"
    )
    group.add_argument("--nearest", metavar="QUERY", help="print the texts that are most like this one")
    group.add_argument("--neighbours", action="store_true", help="print for each text the others that are most like it")
    parser.add_argument("-k", "--top-k", type=options.positive, metavar="N", help="of the most alike (default: 5)")
    parser.add_argument("--layer", type=options.whole, metavar="N", default=-1, help="whose hidden states, 0 the first")
    parser.add_argument(
        "--normalize", metavar="HOW", choices=("center", "whiten"),
        help="make cosines tell more: center takes the mean away, whiten makes all directions count alike, too",
    )  # fmt: skip
    parser.add_argument(
        "--dimensions", type=options.positive, metavar="N", help="of a whitened embedding (default: all)"
    )
    parser.add_argument(
        "--fitted-on", type=options.place, metavar="FILE",
        help="texts to fit --normalize on (default: those that are embedded)",
    )  # fmt: skip
    options.add_overwrite(parser, "a file", "FILE")
    options.add_long_texts(parser, "refuse")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> Any:
    """Runs the command. The result has an entry for each text. With `--output` it describes the file."""
    _check(arguments)
    run = {"output": _to_file, "nearest": _nearest, "neighbours": _neighbours}
    of_all = next((run[name] for name in run if getattr(arguments, name)), None)
    is_fitted_on_them = bool(arguments.normalize) and arguments.fitted_on is None
    source = given_texts(arguments, streams=not (of_all or is_fitted_on_them))
    model = options.load_model(arguments)
    how = {"layer": arguments.layer}
    if arguments.normalize:
        how["normalize"] = model.fit_normalization(
            source.texts if is_fitted_on_them else source_of(arguments, arguments.fitted_on).texts,
            arguments.normalize,
            num_dimensions=arguments.dimensions,
            long_texts=arguments.long_texts,
            verbose=bar(arguments),
            **how,
        )
    if not of_all:
        return _as_lines(answers(arguments, model, "embed", source, **how))
    return of_all(arguments, model, source.texts, {**how, "place": source.place})


def _check(arguments: argparse.Namespace) -> None:
    """Checks the options before any work.

    Raises:
        UsageError, FileExistsError, OSError: for options without effect, and for a file that can't be written.
    """
    is_search = bool(arguments.nearest) or arguments.neighbours
    if not (arguments.output or is_search or arguments.json):
        raise UsageError("nothing to do with the embeddings: give -o FILE.npy, --json, --nearest QUERY or --neighbours")
    if arguments.top_k and not is_search:
        raise UsageError("--top-k has no effect without --nearest or --neighbours: give one of them, or leave it out")
    if arguments.fitted_on and not arguments.normalize:
        raise UsageError("--fitted-on has no effect without --normalize: give --normalize center or --normalize whiten")
    if arguments.fitted_on == "-" and arguments.file in (None, "-") and arguments.texts in ([], ["-"]):
        raise UsageError("the texts and --fitted-on are both standard input, which can be read once: give a file")
    if arguments.dimensions and arguments.normalize != "whiten":
        raise UsageError("--dimensions has no effect without --normalize whiten")
    if arguments.overwrite and not arguments.output:
        raise UsageError("--overwrite has no effect without --output")
    if arguments.output:
        if os.path.splitext(arguments.output)[1] not in OUTPUTS:
            raise UsageError(f"--output {arguments.output} should end with {' or '.join(OUTPUTS)}")
        names = ("file", "fitted_on", "model")
        read = [(f"--{name.replace('_', '-')}", getattr(arguments, name)) for name in names]
        check_places(read, [("--output", arguments.output)])
        options.check_output_file(arguments)


def _vectors(arguments: argparse.Namespace, model: Any, texts: Sequence[str], how: dict[str, Any]) -> Iterator[Any]:
    """The embedding of each text, as they come."""
    from pyroberta.tasks.streaming import stream

    return stream(model, "embed", texts, long_texts=arguments.long_texts, verbose=bar(arguments), **how)


def _as_lines(vectors: Iterator[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    for text, vector in vectors:
        yield {"text": text, "embedding": vector.tolist()}


def _to_file(arguments: argparse.Namespace, model: Any, texts: Sequence[str], how: dict[str, Any]) -> dict[str, Any]:
    """Writes an array (B, C), or a line of JSON for each text."""
    import io

    import numpy as np

    from pyroberta.cli.streams import as_json
    from pyroberta.formats.files import as_path
    from pyroberta.formats.new_files import NewFile, replace_files

    path = as_path(arguments.output)
    vectors = np.stack(list(_vectors(arguments, model, texts, how)))
    if path.suffix == ".npy":
        content = io.BytesIO()
        np.save(content, vectors, allow_pickle=False)
        file = NewFile.of(content.getvalue())
    else:
        records = ({"text": text, "embedding": row.tolist()} for text, row in zip(texts, vectors, strict=True))
        file = NewFile.of("".join(f"{as_json(record, indent=None)}\n" for record in records))
    replace_files(path.parent, {path.name: file})
    if not arguments.json:
        print(f"saved {counted(len(vectors), 'embedding')} of {vectors.shape[1]} numbers to {arguments.output}")
    return {"saved": arguments.output, "texts": len(vectors), "dimensions": vectors.shape[1]}


def _nearest(
    arguments: argparse.Namespace, model: Any, texts: Sequence[str], how: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The texts that are most like the query, the likest first."""
    import numpy as np

    *vectors, query = _vectors(arguments, model, [*texts, arguments.nearest], how)
    cosines = _unit(np.stack(vectors)) @ _unit(query[None])[0]
    for i in np.argsort(-cosines, kind="stable")[: arguments.top_k or 5].tolist():
        if not arguments.json:
            print(f"{cosines[i]:7.4f}  {texts[i]}")
        yield {"text": texts[i], "number": i, "cosine": float(cosines[i])}


def _neighbours(
    arguments: argparse.Namespace, model: Any, texts: Sequence[str], how: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """For each text the others that are most like it."""
    import numpy as np

    vectors = _unit(np.stack(list(_vectors(arguments, model, texts, how))))
    for i, text in enumerate(texts):
        cosines = vectors @ vectors[i]
        others = [j for j in np.argsort(-cosines, kind="stable").tolist() if j != i][: arguments.top_k or 5]
        if not arguments.json:
            print(text)
            for j in others:
                print(f"  {cosines[j]:7.4f}  {texts[j]}")
        alike = [{"text": texts[j], "number": j, "cosine": float(cosines[j])} for j in others]
        yield {"text": text, "number": i, "neighbours": alike}


def _unit(vectors: Any) -> Any:
    """The rows with length 1; zeros stay."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)
