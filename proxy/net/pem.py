"""What is wrong with a PEM file, of which OpenSSL says only that something is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_BEGIN: Final = re.compile(rb"^-----BEGIN ([^\r\n]*?)-----", re.MULTILINE)

#: What an object is called that is not what it should be.
_NAMES: Final = {"CERTIFICATE": "certificate", "PRIVATE KEY": "private key"}


def lacking(file: Path, needed: str) -> str:
    """Why there is no ``needed`` (``CERTIFICATE`` or ``PRIVATE KEY``) in a file; "" where one is.

    What is inside of it is not looked at.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    name = _NAMES[needed]
    found = [kind.decode("latin-1") for kind in _BEGIN.findall(text)]
    of_kind = [kind for kind in found if kind.endswith(needed)]
    if of_kind:
        ended = all(f"-----END {kind}-----".encode("latin-1") in text for kind in of_kind)
        return "" if ended else f"a {name} in it has no end: the file is cut"
    if not text.strip():
        return "it is empty"
    if found:
        other = next((_NAMES[one] for one in _NAMES if found[0].endswith(one)), found[0])
        return f"no {name} in it, but a {other}"
    if text.startswith(b"\x30"):
        return f"no PEM data here, but DER: openssl writes the {name} as PEM"
    return "no PEM data here"
