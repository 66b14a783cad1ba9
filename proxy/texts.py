"""Texts that came from elsewhere, made short and printable: the one place for it.

Clients choose their names, and send them as long as a message may be. What is shown to people or
put into a refusal is cut first and looked at afterwards, so that no text costs more than its length
here allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

#: Characters of a text that people get to see in a log, an audit line or a listing.
MOST_SHOWN: Final = 500

#: Characters of an error's text, which servers do not bound but for a message's size.
MOST_TOLD: Final = 8_000

#: What a text ends with that was cut.
CUT: Final = "…"

_has_digit: Final = re.compile(r"\d").search


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """``text``, or its first ``most`` characters with a ``…`` for the last one."""
    return text if len(text) <= most else text[: most - 1] + CUT


def decoded(raw: bytes, most: int = MOST_SHOWN) -> str:
    """UTF-8 as text of ``most`` characters at the most; what is no UTF-8 shows as U+FFFD."""
    if len(raw) <= most:
        return raw.decode("utf-8", "replace")
    # Cut before it is decoded: that takes 100 ns for each byte that is wrong.
    return shortened(raw[: 4 * most + 4].decode("utf-8", "replace"), most)


def printable(text: str) -> str:
    """``text`` with everything escaped that is not a printable character or a space.

    Control characters, C1 ones too, and those that turn the direction of writing are not.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """``text`` as people may see it: short and printable."""
    return printable(shortened(text, most))


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text is ``pattern``, case aside; ``*`` stands for any characters.

    Takes time linear in the text, however many stars there are.
    """
    first, *others = pattern.lower().split("*")

    def matches(text: str) -> bool:
        text = text.lower()
        if not others:
            return text == first
        if not text.startswith(first):
            return False
        at = len(first)
        for part in others[:-1]:
            at = text.find(part, at)
            if at < 0:
                return False
            at += len(part)
        return len(text) - at >= len(others[-1]) and text.endswith(others[-1])

    return matches


@lru_cache(200)
def kind_of(reason: str) -> str:
    """What a reason has in common with others of its kind: it without numbers, ids and documents,
    which are other ones each time."""
    return " ".join(word for word in reason.partition("{")[0].split() if not _has_digit(word))
