"""`pyroberta completion`: prints the script that completes commands, options and values in a shell.

The scripts for bash, zsh and fish are made from the parser.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


# --- what may stand where ---------------------------------------------------------------------------------------------

# What an argument's value is, by its metavar. Any other one is the user's own words.
FILES, DIRECTORIES, PRESETS = "files", "directories", "presets"
VALUES = {
    "FILE": FILES, "FILE.csv": FILES, "FILE.png": FILES, "FILE|SHARE": FILES, "GOLDEN": FILES, "THEIRS": FILES,
    "DIR": DIRECTORIES, "SUITE": DIRECTORIES, "DST": DIRECTORIES,
    "PRESET": PRESETS, "SRC": PRESETS,
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An option, or a positional argument.

    Attributes:
        flags: the flags of an option, the short ones first. Empty for a positional argument.
        help: a description of one line.
        takes: whether a value follows.
        value: the kind of the value: `FILES`, `DIRECTORIES`, `PRESETS`, or empty.
        words: the possible values, if they are few.
        name: the name of the value, for a shell that shows it.
    """

    flags: tuple[str, ...]
    help: str
    takes: bool
    value: str
    words: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Place:
    """A command, an action, or the program itself, and the words that may follow it.

    Attributes:
        path: the words up to this place, such as `("pyroberta", "conformance", "make")`.
        within: the commands or actions, with their summaries.
        arguments: options and positional arguments.
    """

    path: tuple[str, ...]
    within: dict[str, str]
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> list[Argument]:
        """The arguments with flags."""
        return [argument for argument in self.arguments if argument.flags]

    @property
    def positional(self) -> list[Argument]:
        """The arguments without flags."""
        return [argument for argument in self.arguments if not argument.flags]


def every_place() -> list[Place]:
    """Returns all commands and their arguments, from the parser.

    >>> [" ".join(place.path) for place in every_place()][:2]
    ['pyroberta', 'pyroberta fit']
    """
    from pyroberta.cli.parser import build_parser, every_parser, subparsers

    places = []
    for parser in every_parser(build_parser()):
        summaries = {name: one.description or "" for name, one in subparsers(parser).items()}
        arguments = [_argument(one) for one in parser._actions if not isinstance(one, argparse._SubParsersAction)]
        places.append(Place(tuple(parser.prog.split()), summaries, tuple(arguments)))
    return places


def _argument(action: argparse.Action) -> Argument:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    help = re.sub(r"\s+", " ", (action.help or "").replace("%%", "%"))
    flags = tuple(sorted(action.option_strings, key=len))
    words = tuple(map(str, action.choices or ()))
    return Argument(flags, help, action.nargs != 0, VALUES.get(metavar, ""), words, metavar or action.dest)


def _preset_names() -> tuple[str, ...]:
    from pyroberta.presets.built_in import PRESETS as NAMED

    return tuple(NAMED)


def _quoted(text: str) -> str:
    """A text between single quotes for bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


# --- bash -------------------------------------------------------------------------------------------------------------


def bash(places: list[Place]) -> str:
    """Returns the script for bash 3.2 and newer.

    >>> "complete -F _pyroberta pyroberta" in bash(every_place())
    True
    """
    known = " | ".join(f'"{" ".join(place.path)}"' for place in places[1:])
    values, options, positional = [], [], []
    for place in places:
        path = " ".join(place.path)
        for option in place.options:
            if option.takes:
                patterns = " | ".join(f'"{path} {flag}"' for flag in option.flags)
                values.append(f"        {patterns}) {_in_bash(option)}; return ;;")
        words = " ".join(flag for option in place.options for flag in option.flags)
        options.append(f'        "{path}") _pyroberta_words {_quoted(words)} ;;')
        if place.within:
            positional.append(f'        "{path}") _pyroberta_words {_quoted(" ".join(place.within))} ;;')
        elif place.positional:
            commands = dict.fromkeys(_in_bash(argument) for argument in place.positional)
            positional.append(f'        "{path}") {"; ".join(commands)} ;;')
    return f"""# bash completion of pyroberta, made by `pyroberta completion bash`
_pyroberta_words() {{ COMPREPLY+=($(compgen -W "$1" -- "$cur")); }}
_pyroberta_files() {{ local IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- "$cur")); }}
_pyroberta_directories() {{ local IFS=$'\n'; compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- "$cur")); }}
_pyroberta() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} path=pyroberta i IFS=$' \\t\\n'
    COMPREPLY=()
    if [[ $cur == "=" ]]; then cur=""; elif [[ $prev == "=" ]]; then prev=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path ${{COMP_WORDS[i]}}" in
            {known}) path="$path ${{COMP_WORDS[i]}}" ;;
        esac
    done
    case "$path $prev" in
{chr(10).join(values)}
    esac
    if [[ $cur == -* ]]; then
        case "$path" in
{chr(10).join("    " + line for line in options)}
        esac
        return
    fi
    case "$path" in
{chr(10).join(positional)}
    esac
}}
complete -F _pyroberta pyroberta
"""


def _in_bash(argument: Argument) -> str:
    """The command that lists the values of an argument."""
    if argument.words:
        return f"_pyroberta_words {_quoted(' '.join(argument.words))}"
    if argument.value == PRESETS:
        return f"_pyroberta_words {_quoted(' '.join(_preset_names()))}; _pyroberta_directories"
    return f"_pyroberta_{argument.value}" if argument.value else ":"


# --- zsh --------------------------------------------------------------------------------------------------------------


def zsh(places: list[Place]) -> str:
    """Returns the script for zsh. It can be put into a directory of `fpath`, or sourced.

    >>> zsh(every_place()).splitlines()[0]
    '#compdef pyroberta'
    """
    functions = [_zsh_function(place) for place in places]
    return "\n".join(
        [
            "#compdef pyroberta",
            "# made by `pyroberta completion zsh`",
            "",
            *functions,
            'if [ "$funcstack[1]" = "_pyroberta" ]; then',
            '    _pyroberta "$@"',
            "else",
            "    compdef _pyroberta pyroberta",
            "fi",
            "",
        ]
    )


def _zsh_function(place: Place) -> str:
    name = "_" + "_".join(word.replace("-", "_") for word in place.path)
    specs = [spec for option in place.options for spec in _zsh_option(option)]
    if not place.within:
        specs += [_quoted(f"*:{_zsh_text(argument.name)}:{_in_zsh(argument)}") for argument in place.positional[:1]]
        return "\n".join([f"{name}() {{", "    _arguments -s \\", *_continued(specs), "}", ""])
    entries = [f"        {_quoted(f'{word}:{_zsh_text(summary)}')}" for word, summary in place.within.items()]
    cases = [f"                {word}) {name}_{word.replace('-', '_')} ;;" for word in place.within]
    lines = [
        f"{name}() {{",
        "    local state line",
        "    typeset -A opt_args",
        "    local -a within=(",
        *entries,
        "    )",
        "    _arguments -C \\",
        *_continued([*specs, "'1: :->within'", "'*:: :->rest'"]),
        "    case $state in",
        "        within) _describe command within ;;",
        "        rest)",
        "            case $line[1] in",
        *cases,
        "            esac ;;",
        "    esac",
        "}",
        "",
    ]
    return "\n".join(lines)


def _continued(specs: list[str]) -> list[str]:
    return [f"        {spec}{' ' + chr(92) if spec is not specs[-1] else ''}" for spec in specs]


def _zsh_option(option: Argument) -> Iterator[str]:
    value = f":{_zsh_text(option.name)}:{_in_zsh(option)}" if option.takes else ""
    others = f"({' '.join(option.flags)})" if len(option.flags) > 1 else "*"
    for flag in option.flags:
        yield _quoted(f"{others}{flag}[{_zsh_text(option.help)}]{value}")


def _zsh_text(text: str) -> str:
    return re.sub(r"([\\\[\]:])", r"\\\1", text)


def _in_zsh(argument: Argument) -> str:
    if argument.words:
        return f"({' '.join(argument.words)})"
    if argument.value == PRESETS:
        return "{compadd " + " ".join(_preset_names()) + "; _files -/}"
    return {FILES: "_files", DIRECTORIES: "_files -/"}.get(argument.value, " ")


# --- fish -------------------------------------------------------------------------------------------------------------


def fish(places: list[Place]) -> str:
    """Returns the script for fish.

    >>> "complete -c pyroberta -f" in fish(every_place())
    True
    """
    lines = ["# fish completion of pyroberta, made by `pyroberta completion fish`", "complete -c pyroberta -f"]
    for place in places:
        seen = [f"__fish_seen_subcommand_from {word}" for word in place.path[1:]]
        not_seen = [f"not __fish_seen_subcommand_from {' '.join(place.within)}"] if place.within else []
        start = ["complete", "-c", "pyroberta"]
        if seen or not_seen:
            start += ["-n", _in_fish("; and ".join(seen + not_seen))]
        for word, summary in place.within.items():
            lines.append(" ".join([*start, "-a", word, "-d", _in_fish(summary)]))
        for argument in place.arguments:
            flags = [
                part for flag in argument.flags for part in (["-l", flag[2:]] if flag[1] == "-" else ["-s", flag[1:]])
            ]
            taken = ["-r"] if argument.flags and argument.takes else []
            values = _fish_values(argument)
            if flags or values:
                about = ["-d", _in_fish(argument.help)] if flags else []
                lines.append(" ".join([*start, *flags, *taken, *values, *about]))
    return "\n".join(lines) + "\n"


def _fish_values(argument: Argument) -> list[str]:
    if argument.words:
        return ["-a", _in_fish(" ".join(argument.words))]
    if argument.value == PRESETS:
        return ["-a", _in_fish(f"{' '.join(_preset_names())} (__fish_complete_directories)")]
    if argument.value == DIRECTORIES:
        return ["-a", _in_fish("(__fish_complete_directories)")]
    return ["-F"] if argument.value else []


def _in_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[list[Place]], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
