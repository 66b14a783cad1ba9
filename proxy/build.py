"""Which build this is: the sources alone, or with the modules of the message path compiled."""

from __future__ import annotations

from typing import Final

from proxy import __version__
from proxy.wire import messages

#: The version; with ``+compiled`` where ``hatch_build.py`` compiled this installation.
VERSION: Final = __version__ + ("" if str(messages.__file__).endswith(".py") else "+compiled")
