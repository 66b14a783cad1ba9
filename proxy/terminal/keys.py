"""What a terminal sends, as keys: characters, and names for those that have none."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from typing import Final

ESCAPE: Final = "\x1b"

#: Control sequences (ECMA-48), and what begins with SS3; the group is what tells keys apart.
_SEQUENCE: Final = re.compile(r"\x1b(?:\[([0-?]*[ -/]*[@-~])|O(.))", re.DOTALL)
_BEGUN: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")

_NAMES: Final = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "1~": "home",
    "7~": "home",
    "4~": "end",
    "8~": "end",
    "5~": "pageup",
    "6~": "pagedown",
}


class Keys:
    """Bytes in, keys out. Sequences of keys that nothing is done with are passed over."""

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")("ignore").decode
        self._rest = ""

    @property
    def begun(self) -> bool:
        """Whether what came last may be the beginning of a sequence, or the Escape key."""
        return bool(self._rest)

    def feed(self, data: bytes, *, last: bool = False) -> list[str]:
        """The keys in what has come; nothing comes after it for now if it is the ``last``."""
        text = self._rest + self._decode(data)
        self._rest = ""
        begun = _BEGUN.search(text)
        if begun is not None and not last:
            self._rest = begun[0]
            text = text[: begun.start()]
        keys: list[str] = []
        at = 0
        while at < len(text):
            found = _SEQUENCE.match(text, at)
            if found is None:
                keys.append(text[at])
                at += 1
                continue
            name = _NAMES.get(found[1] or found[2] or "")
            if name is not None:
                keys.append(name)
            at = found.end()
        return keys
