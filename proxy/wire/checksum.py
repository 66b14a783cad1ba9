"""The OP_MSG checksum: CRC-32C over the whole message up to the checksum itself."""

from __future__ import annotations

import google_crc32c

from proxy.wire.opcodes import INT32, UINT32


def checksum_matches(message: bytes) -> bool:
    """Whether the last four bytes are the checksum of all before them."""
    expected: int = UINT32.unpack_from(message, len(message) - 4)[0]
    return int(google_crc32c.value(message[:-4])) == expected


def with_checksum(message: bytes) -> bytes:
    """``message``, whose checksumPresent flag is set already, with length and checksum added."""
    whole = INT32.pack(len(message) + 4) + message[4:]
    return whole + UINT32.pack(google_crc32c.value(whole))
