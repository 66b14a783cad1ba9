"""Disagreements that are known and still to be mended: to be empty.

By kind (:func:`tests.reading.comparing.differences`) the shortest frame that shows it, in
hexadecimal. Each is expected to fail: what is mended has to go from here.
"""

from __future__ import annotations

from typing import Final

KNOWN: Final[dict[str, str]] = {
    "acted on what servers refuse": (
        "900000000100000000000000dc070000d4070000750000000175340000000061646d696e2e24636d"
        "64010ef06200ffffffff5e00000010737461727453657373696f6e0001000000036c736964001e00"
        "0000056964001000000004000102030405060708090a0b0c0d0e0f000224646200060000006f7468"
        "657200032471756572794f7074696f6e7300050000000000"
    ),
}
