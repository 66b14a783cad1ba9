"""Replies in the form of their request."""

from __future__ import annotations

import bson
import pytest

from proxy.errors import CommandError
from proxy.wire import opcodes
from proxy.wire.checksum import checksum_matches
from proxy.wire.compression import deflate, inflate
from proxy.wire.messages import read_reply, read_request
from proxy.wire.opcodes import CHECKSUM_PRESENT, EXHAUST_ALLOWED, HEADER, MORE_TO_COME
from proxy.wire.replies import command_frame, error_document, op_reply, reply_frame
from tests.build import body, command, op_command, op_get_more, op_msg, op_query, sequence

PING = {"ping": 1, "$db": "admin"}
REFUSAL = CommandError(13, "Unauthorized", "not authorized", ("A", "B"))


def test_an_error_is_put_as_the_server_puts_it():
    assert list(error_document(REFUSAL).items()) == [
        ("errorLabels", ["A", "B"]),
        ("ok", 0.0),
        ("errmsg", "not authorized"),
        ("code", 13),
        ("codeName", "Unauthorized"),
    ]
    assert "errorLabels" not in error_document(CommandError(1, "InternalError", "x"))


@pytest.mark.parametrize(
    ("request_frame", "opcode"),
    [
        (command(PING, request_id=77), opcodes.OP_MSG),
        (command(PING, request_id=77, checksum=True), opcodes.OP_MSG),
        (op_msg(sequence("a"), body(PING), request_id=77), opcodes.OP_MSG),
        (op_query("admin.$cmd", {"ping": 1}, request_id=77), opcodes.OP_REPLY),
        (op_get_more("t.c", 5, request_id=77), opcodes.OP_REPLY),
        (op_command("admin", "ping", {"ping": 1}, request_id=77), opcodes.OP_COMMAND_REPLY),
    ],
)
@pytest.mark.parametrize("compressor", [None, 0, 1, 2, 3])
def test_a_reply_takes_the_form_of_its_request(request_frame, opcode, compressor):
    if compressor is not None:
        request_frame = deflate(request_frame, compressor)
    request = read_request(request_frame)
    made = reply_frame(request, 1234, {"ok": 1.0, "text": "x" * 100})
    assert HEADER.unpack_from(made)[:3] == (len(made), 1234, 77)
    reply = read_reply(made)
    assert reply.opcode == opcode
    assert (reply.message is made) == (compressor is None)
    assert bson.decode(reply.body_bytes()) == {"ok": 1.0, "text": "x" * 100}
    assert not reply.more_to_come
    if opcode == opcodes.OP_MSG:
        asked = bool(request.flags & CHECKSUM_PRESENT)
        assert bool(reply.message[16] & CHECKSUM_PRESENT) == asked
        assert checksum_matches(reply.message) == asked


def test_a_reply_never_claims_more_than_it_is_told_to():
    request = read_request(command(PING, flags=EXHAUST_ALLOWED | 1 << 20))
    assert read_reply(reply_frame(request, 1, {"ok": 1.0})).message[16:20] == bytes(4)
    stream = reply_frame(request, 1, {"ok": 1.0}, flags=MORE_TO_COME)
    assert read_reply(stream).more_to_come


def test_bson_bytes_are_taken_as_they_are():
    document = bson.encode({"ok": 1})
    made = reply_frame(read_request(command(PING)), 1, document)
    assert made.endswith(document)


def test_op_reply():
    documents = [bson.encode({"a": 1}), bson.encode({"b": 2})]
    made = op_reply(77, 5, documents, cursor_id=2**40, starting_from=3)
    assert HEADER.unpack_from(made) == (len(made), 5, 77, opcodes.OP_REPLY)
    reply = read_reply(made)
    assert reply.cursor_id == 2**40
    assert reply.message[16:20] == b"\x08\0\0\0"
    assert reply.message[28:36] == b"\3\0\0\0\2\0\0\0"
    assert made.endswith(b"".join(documents))
    assert read_reply(op_reply(1, 2, [])).fields == {}


def test_a_command_has_one_section_and_nothing_else():
    made = command_frame(9, PING)
    assert made == command(PING, request_id=9)
    assert command_frame(9, bson.encode(PING)) == made


def test_a_compressed_reply_is_the_plain_one():
    plain = command(PING, request_id=77)
    reply = reply_frame(read_request(plain), 5, {"ok": 1.0})
    compressed = reply_frame(read_request(deflate(plain, 2)), 5, {"ok": 1.0})
    assert inflate(compressed) == reply
