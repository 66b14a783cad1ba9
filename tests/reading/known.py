"""Disagreements that are known and still to be mended: to be empty.

By kind (:func:`tests.reading.comparing.differences`) the shortest frame that shows it, in
hexadecimal. Each is expected to fail: what is mended has to go from here.
"""

from __future__ import annotations

from typing import Final

KNOWN: Final[dict[str, str]] = {}
