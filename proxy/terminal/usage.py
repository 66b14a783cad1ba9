"""What is wrong with the words of a command line, in the one line that everything wrong gets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

_CHOICE: Final = re.compile(
    r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", re.DOTALL
)

#: Of the texts of argparse that need other words: theirs, and what is said.
_SAID: Final = (
    (re.compile(r"argument (\S+): expected (?:one argument|\d+ arguments?)"), r"\1: needs a value"),
    (re.compile(r"argument (\S+): expected at .*"), r"\1: needs a value"),
    (re.compile(r"argument (\S+): ignored explicit argument .*"), r"\1: takes no value"),
    (re.compile(r"argument (\S+): not allowed with argument (\S+)"), r"\1: excludes \2"),
    # Of what is no number, or has more digits than Python reads: that is its own word for it.
    (re.compile(r"argument (\S+): invalid \S+ value: (.*)", re.DOTALL), r"\1: should not be \2"),
    (re.compile(r"the following arguments are required: (.*)"), r"\1: is needed"),
    (re.compile(r"argument (\S+): (.*)"), r"\1: \2"),
)


def said(message: str) -> str:
    """What is said where argparse has ``message`` to say."""
    if found := _CHOICE.fullmatch(message):
        name, given, listed = found.groups()
        choices = [one.strip(" '") for one in listed.split(",")]
        if name == "COMMAND":
            hint = asked(given, choices) or "; mongo-session-proxy --help lists the commands"
            return f"{given}: no such command{hint}"
        known = f"{', '.join(choices[:-1])} or {choices[-1]}"
        return f"{name}: should be {known}, not {given!r}{asked(given, choices)}"
    for pattern, text in _SAID:
        if found := pattern.fullmatch(message):
            return found.expand(text)
    return message


def asked(word: str, known: Iterable[str]) -> str:
    """What is put behind a text that says that there is no ``word``."""
    # Where something is wrong only: it takes its time.
    from proxy.settings import meant

    return meant.asked(meant.closest(word, known, 0.7))


def no_such(arguments: Sequence[str], known: Sequence[str]) -> list[str]:
    """What is said of ``arguments`` that there are not, those behind each other in one line: the
    value of a flag that there is not is no mistake of its own."""
    said: list[str] = []
    flag = ""
    for argument in arguments:
        if not argument.startswith("-") and flag and "=" not in flag:
            flag = ""
            continue
        flag = argument if argument.startswith("-") else ""
        hint = asked(flag.partition("=")[0], known) if flag else ""
        said.append(f"{argument}: no such argument{hint}")
    return said


#: Fields of the endpoint that are no filters: what they are on the command line.
_ARGUMENTS: Final = {"sort": "--sort", "limit": "--limit", "conn": "CONN", "sessions": "ID"}

_FIELD: Final = re.compile(r"(\w+)(?=: )")
_KNOWN: Final = re.compile(r"(?<=no such filter; there are )[\w, ]+")


def by_flag(text: str, filters: Iterable[str]) -> str:
    """What the endpoint says of a field, said of the flag or argument that it came from."""
    flags = _ARGUMENTS | {name: f"--{name.replace('_', '-')}" for name in filters}
    text = _KNOWN.sub(
        lambda found: ", ".join(flags[one] for one in found[0].split(", ") if one in flags), text
    )
    field = _FIELD.match(text)
    return text if field is None else f"{flags.get(field[1], field[1])}{text[field.end() :]}"
