"""CRC-32C, against published vectors and against what the 4.2 shell and server sent."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.checksum import checksum_matches, with_checksum
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER, INT32, OP_MSG, UINT32
from tests.build import command, frame, op_msg, recorded

CHECKED = [
    (where, data)
    for where, data in recorded()
    if HEADER.unpack_from(data)[3] == OP_MSG and data[16] & CHECKSUM_PRESENT
]


@pytest.mark.parametrize(
    ("data", "crc"),
    [  # RFC 3720, B.4, and the check value of the CRC catalogues
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_published_vectors(data, crc):
    assert google_crc32c.value(data) == crc
    assert checksum_matches(data + UINT32.pack(crc))
    assert not checksum_matches(data + UINT32.pack(crc ^ 1))


def test_recorded_checksums_match_and_come_out_again():
    assert len(CHECKED) > 50
    assert {where.partition(":")[0] for where, _ in CHECKED} >= {"shell42"}
    for where, data in CHECKED:
        assert checksum_matches(data), where
        shorter = INT32.pack(len(data) - 4) + data[4:-4]
        assert with_checksum(shorter) == data, where


@given(st.binary(max_size=60))
def test_what_is_added_matches_and_lengthens(payload):
    message = frame(OP_MSG, UINT32.pack(CHECKSUM_PRESENT) + payload)
    checked = with_checksum(message)
    assert INT32.unpack_from(checked)[0] == len(checked) == len(message) + 4
    assert checked[4:-4] == message[4:]
    assert checksum_matches(checked)


@given(st.data())
def test_any_changed_bit_is_noticed(draw):
    checked = bytearray(command({"ping": 1, "$db": "admin"}, checksum=True))
    at = draw.draw(st.integers(0, len(checked) - 1))
    checked[at] ^= 1 << draw.draw(st.integers(0, 7))
    assert not checksum_matches(bytes(checked))


def test_a_message_of_nothing_but_a_checksum_can_be_asked():
    assert checksum_matches(op_msg(checksum=True))
    assert not checksum_matches(op_msg(flags=CHECKSUM_PRESENT))
