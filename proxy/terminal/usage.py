"""What is wrong with the words of a command line, in the one line that everything wrong gets."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
        return f"{name}: should be {', '.join(choices[:-1])} or {choices[-1]}, not {given!r}"
    for pattern, text in _SAID:
        if found := pattern.fullmatch(message):
            return found.expand(text)
    return message


def asked(word: str, known: Iterable[str]) -> str:
    """What is put behind a text that says that there is no ``word``."""
    # Where something is wrong only: it takes its time.
    from proxy.settings import meant

    return meant.asked(meant.closest(word, known))


def no_such(argument: str, known: Iterable[str]) -> str:
    """What is said of an ``argument`` that there is not."""
    flag = argument.partition("=")[0]
    hint = asked(flag, known) if flag.startswith("-") else ""
    return f"{argument}: no such argument{hint}"
