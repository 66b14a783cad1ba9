"""Which build this is: the sources alone, or with the modules of the message path compiled."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from proxy import __version__


def _compiled() -> bool:
    """Whether ``hatch_build.py`` compiled this installation; nothing is loaded to find out."""
    found = find_spec("proxy.wire.messages")
    return found is not None and not str(found.origin).endswith(".py")


#: The version; with ``+compiled`` for such a build.
VERSION: Final = __version__ + ("+compiled" if _compiled() else "")
