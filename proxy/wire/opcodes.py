"""Opcodes, flag bits and limits of the wire protocol (MongoDB manual, "Wire Protocol")."""

from __future__ import annotations

from struct import Struct
from typing import Final

OP_REPLY: Final = 1
OP_UPDATE: Final = 2001
OP_INSERT: Final = 2002
OP_QUERY: Final = 2004
OP_GET_MORE: Final = 2005
OP_DELETE: Final = 2006
OP_KILL_CURSORS: Final = 2007
OP_COMMAND: Final = 2010
OP_COMMAND_REPLY: Final = 2011
OP_COMPRESSED: Final = 2012
OP_MSG: Final = 2013

#: OP_MSG flagBits.
CHECKSUM_PRESENT: Final = 1 << 0
MORE_TO_COME: Final = 1 << 1
EXHAUST_ALLOWED: Final = 1 << 16
#: Those that a server must know or close; no other one of the low 16 bits is.
KNOWN_REQUIRED: Final = CHECKSUM_PRESENT | MORE_TO_COME

#: OP_QUERY flags.
QUERY_EXHAUST: Final = 1 << 6

#: int32 messageLength, requestID, responseTo, opCode; little-endian.
HEADER: Final = Struct("<iiii")
HEADER_SIZE: Final = 16
INT32: Final = Struct("<i")
UINT32: Final = Struct("<I")
INT64: Final = Struct("<q")

#: OP_COMPRESSED as it stands in a header, from the 12th byte on.
COMPRESSED: Final = INT32.pack(OP_COMPRESSED)

#: maxMessageSizeBytes: the largest frame, header included, compressed or not.
MAX_MESSAGE_SIZE: Final = 48_000_000
