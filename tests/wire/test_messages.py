"""Every form of a command is the same request, and nothing but errors comes of nonsense."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import UnjudgeableError, WireError
from proxy.wire import opcodes
from proxy.wire.compression import deflate, inflate
from proxy.wire.fields import MAX_ELEMENTS
from proxy.wire.messages import Request, count_documents, read_request
from proxy.wire.opcodes import (
    EXHAUST_ALLOWED,
    HEADER,
    INT32,
    MORE_TO_COME,
    OP_COMPRESSED,
    OP_MSG,
)
from proxy.wire.replies import read_reply
from tests.build import (
    body,
    command,
    element,
    frame,
    op_command,
    op_delete,
    op_get_more,
    op_insert,
    op_kill_cursors,
    op_msg,
    op_query,
    op_update,
    raw_document,
    recorded,
    sequence,
)
from tests.malformed import ALL, CHECKSUMS, FRAMING

LSID = {"id": bson.Binary(bytes(16), 4)}
INSERT = {"insert": "c", "ordered": True, "lsid": LSID, "txnNumber": bson.Int64(3)}
IN_MSG = {**INSERT, "$db": "app"}
DOCUMENTS = sequence("documents", {"_id": 1}, {"_id": 2})

#: The same command in every form. Only OP_MSG carries $db itself.
FORMS = {
    "body alone": op_msg(body(IN_MSG)),
    "body first": op_msg(body(IN_MSG), DOCUMENTS),
    "body last": op_msg(DOCUMENTS, body(IN_MSG)),
    "body between": op_msg(DOCUMENTS, body(IN_MSG), sequence("more")),
    "behind an empty sequence": op_msg(sequence(""), body(IN_MSG)),
    "checksum": op_msg(body(IN_MSG), DOCUMENTS, checksum=True),
    "checksum, body last": op_msg(DOCUMENTS, body(IN_MSG), checksum=True),
    "exhaust": op_msg(body(IN_MSG), flags=EXHAUST_ALLOWED),
    "unacknowledged": op_msg(body(IN_MSG), DOCUMENTS, flags=MORE_TO_COME),
    "unknown optional flags": op_msg(body(IN_MSG), flags=0x7FFE0000),
    "token": op_msg(b"\2token\0", body(IN_MSG)),
    "OP_QUERY": op_query("app.$cmd", INSERT),
    "OP_QUERY with $query": op_query(
        "app.$cmd", {"$query": INSERT, "$readPreference": {"mode": "primary"}}
    ),
    "OP_QUERY with query": op_query("app.$cmd", {"query": INSERT}),
    "OP_QUERY with an array for $query": op_query(
        "app.$cmd", raw_document(b"\x04$query\0" + bson.encode(INSERT))
    ),
    "OP_QUERY with projection": op_query("app.$cmd", INSERT, projection={"_id": 1}),
    "OP_COMMAND": op_command("app", "insert", INSERT, {"$ssm": {}}),
}
MANY = raw_document(element("saslContinue", 1), element("a", None) * MAX_ELEMENTS)
COMPRESSORS = [None, 0, 1, 2, 3]


def values(request: Request) -> dict[str, object]:
    """What a reader gets of the command, but for $db, which only OP_MSG has in it."""
    return {
        name: value for name, value in bson.decode(request.body_bytes()).items() if name != "$db"
    }


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_request(form, compressor):
    sent = FORMS[form]
    if compressor is not None:
        sent = deflate(sent, compressor)
    request = read_request(sent)
    assert request.command == "insert"
    assert request.database == "app"
    assert not request.problem
    assert values(request) == INSERT
    assert request.integer(b"txnNumber") == 3
    assert request.text(b"insert") == "c"
    assert request.integer(b"ordered") is request.text(b"nothing") is None
    assert request.fields.keys() - {b"$db"} == {b"insert", b"ordered", b"lsid", b"txnNumber"}
    assert request.expects_reply == (form != "unacknowledged")
    assert request.compressor == compressor
    assert request.frame is sent
    assert request.has_valid_checksum()


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", "x" * 1000])
def test_every_form_can_be_edited(form, compressor, text):
    sent = FORMS[form] if compressor is None else deflate(FORMS[form], compressor)
    before = read_request(sent)
    changed = before.with_fields({b"ordered": element("comment", text), b"lsid": None})
    after = read_request(changed)
    assert values(after) == {"insert": "c", "comment": text, "txnNumber": 3}
    assert (after.command, after.database, after.sequences, after.opcode, after.flags) == (
        before.command,
        before.database,
        before.sequences,
        before.opcode,
        before.flags,
    )
    assert after.compressor == compressor
    assert after.request_id == before.request_id
    assert after.has_valid_checksum()
    assert HEADER.unpack_from(changed)[0] == len(changed)
    # Behind and before the command nothing has changed but lengths and checksum.
    untouched = after.with_fields({})
    assert read_request(untouched).message == after.message
    start, end = after.body, after.body + len(after.body_bytes())
    tail = len(before.message) - before.body - len(before.body_bytes())
    checksum = 4 if before.opcode == OP_MSG and before.flags & 1 else 0
    assert (
        after.message[end : len(after.message) - checksum]
        == (before.message[len(before.message) - tail : len(before.message) - checksum])
    )
    assert len(after.message) == start + len(after.body_bytes()) + tail


def test_a_wrapped_command_keeps_its_wrapper_well_formed():
    sent = op_query("t.$cmd", {"$query": {"ping": 1, "x": 1}, "$readPreference": {"mode": "a"}})
    changed = read_request(sent).with_fields({b"x": element("x", "longer")})
    assert changed == op_query(
        "t.$cmd", {"$query": {"ping": 1, "x": "longer"}, "$readPreference": {"mode": "a"}}
    )


def test_sequences_are_named_in_order():
    request = read_request(op_msg(sequence("ops", {}), body(IN_MSG), sequence("nsInfo", {}, {})))
    assert request.sequences == (b"ops", b"nsInfo")


# ------------------------------------------------------------------ recordings


def test_recorded_requests_are_read_and_come_out_again():
    commands = set()
    for where, data in recorded("request"):
        request = read_request(data)
        assert not request.problem, where
        assert request.command, where
        assert request.database, where
        assert request.has_valid_checksum(), where
        if request.opcode == OP_MSG:
            assert request.expects_reply == (not request.message[16] & MORE_TO_COME)
        untouched = request.with_fields({})
        if request.compressor is None:
            assert untouched == data, where
        else:
            assert inflate(untouched) == request.message, where
        decoded = bson.decode(request.body_bytes())
        assert [name.decode() for name in request.fields] == list(decoded), where
        commands.add(request.command)
    assert {"isMaster", "ismaster", "saslStart", "saslContinue", "insert", "getMore"} <= commands


# ------------------------------------------------------------------ what is no command


@pytest.mark.parametrize(
    ("sent", "expects_reply"),
    [
        (op_insert("t.c", {"_id": 1}), False),
        (op_update("t.c", {}, {}), False),
        (op_delete("t.c", {}), False),
        (op_kill_cursors(1, 2), False),
        (op_get_more("t.c", 5), True),
        (op_query("t.c", {"find": "c"}), True),
        (op_query("t.$cmd.sys.inprog", {"ping": 1}), True),
        (op_query("t", {"ping": 1}), True),
        (frame(opcodes.OP_INSERT, b""), False),
        (frame(opcodes.OP_GET_MORE, b"\0"), True),
    ],
)
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_legacy_opcodes_have_a_reply_or_not(sent, expects_reply, compressor):
    if compressor is not None:
        sent = deflate(sent, compressor)
    request = read_request(sent)
    assert request.expects_reply == expects_reply
    assert (request.command, request.problem, request.body) == ("", "", 0)
    assert not request.fields
    assert request.has_valid_checksum()


def test_op_query_flags_are_the_requests():
    assert read_request(op_query("t.c", {}, flags=1 << 6)).flags == 1 << 6


def test_an_array_or_document_is_unwrapped_once_and_other_types_are_not():
    twice = {"$query": {"$query": {"ping": 1}}}
    assert read_request(op_query("t.$cmd", twice)).command == "$query"
    assert read_request(op_query("t.$cmd", {"$query": 1})).command == "$query"
    assert read_request(op_query("t.$cmd", {"ping": 1, "$query": {"find": 1}})).command == "ping"
    # In OP_MSG the wrapper is the name of a command that nobody has.
    assert read_request(command({"$query": {"ping": 1}, "$db": "t"})).command == "$query"


# ------------------------------------------------------------------ malformed


@pytest.mark.parametrize("malformed", [m for m in ALL if m not in FRAMING], ids=lambda m: m.name)
def test_malformed_messages(malformed):
    if malformed.reading == "wire":
        with pytest.raises(WireError):
            read_request(malformed.frame)
        return
    request = read_request(malformed.frame)
    assert bool(request.problem) == (malformed.reading == "problem")
    assert bool(request.command) == (malformed.reading == "command")
    if request.problem:
        assert (request.body, dict(request.fields)) == (0, {})
    assert request.expects_reply


@pytest.mark.parametrize(
    "malformed",
    [m for m in ALL if m.reading == "problem" and HEADER.unpack_from(m.frame)[3] == OP_MSG],
    ids=lambda m: m.name,
)
def test_what_is_malformed_and_unacknowledged_has_no_reply(malformed):
    sent = malformed.frame[:16] + bytes([malformed.frame[16] | MORE_TO_COME]) + malformed.frame[17:]
    assert not read_request(sent).expects_reply
    assert not read_request(deflate(sent, 2)).expects_reply


def test_wrong_checksums_are_told():
    wrong, alone, three, _, without = CHECKSUMS
    for malformed in (wrong, alone, three, without):
        assert not read_request(malformed.frame).has_valid_checksum(), malformed.name
        assert not read_request(deflate(malformed.frame, 1)).has_valid_checksum(), malformed.name


def test_the_first_of_equal_fields_counts():
    document = raw_document(
        element("ping", 1), element("$db", "first"), element("find", 1), element("$db", "second")
    )
    request = read_request(command(document))
    assert (request.command, request.database) == ("ping", "first")
    assert request.fields.duplicates == (b"$db",)
    changed = read_request(request.with_fields({b"$db": element("$db", "third")}))
    assert changed.database == "third"
    assert changed.fields.duplicates == ()


@pytest.mark.parametrize(
    "sent",
    [
        command(MANY),
        command(MANY, flags=MORE_TO_COME),
        op_query("admin.$cmd", MANY),
        op_query("admin.$cmd", raw_document(b"\x03$query\0" + MANY)),
        op_command("admin", "saslContinue", MANY),
        deflate(command(MANY), 2),
    ],
)
def test_more_fields_than_can_be_judged_are_told_in_every_form(sent):
    request = read_request(sent)
    assert request.overlong
    assert request.problem
    assert (request.command, request.body) == ("", 0)


def test_names_that_are_longer_than_any_document_are_too_many_fields():
    long = raw_document(element("ping", 1), *[element("a" * 9_000_000, 1)] * 2)
    assert read_request(command(long)).overlong
    short = raw_document(element("ping", 1), element("a" * 9_000_000, 1))
    assert read_request(command(short)).command == "ping"


def test_a_namespace_that_is_longer_than_any():
    for sent in (
        op_query("a" * 5_000 + ".$cmd", INSERT),
        op_command("a" * 5_000, "insert", INSERT),
    ):
        with pytest.raises(UnjudgeableError):
            read_request(sent)


def test_what_is_changed_and_long_is_not_compressed_again():
    long = deflate(command({**IN_MSG, "more": bytes(100_000)}), 2)
    changed = read_request(long).with_fields({b"more": element("more", bytes(100_001))})
    assert changed[12:16] != long[12:16]
    assert read_request(changed).fields[b"more"].end


def test_millions_of_sections_do_not_hold_the_reader():
    empty = sequence("")
    for section in (empty, b"\2\0"):
        sent = op_msg(section * (2_000_000 // len(section)), body(IN_MSG))
        assert read_request(sent).problem


@given(st.binary(max_size=120))
@settings(max_examples=300)
def test_arbitrary_bytes_in_a_frame_raise_only_wire_errors(payload):
    for opcode in (2004, 2005, 2010, 2012, 2013, 1, 2011):
        for read in (read_request, read_reply):
            try:
                read(frame(opcode, payload))
            except WireError:
                continue


REAL = [data for _, data in recorded()]
REAL_PLAIN = [inflate(d) if HEADER.unpack_from(d)[3] == OP_COMPRESSED else d for d in REAL]
SHAPES = [*REAL_PLAIN, *FORMS.values(), *[m.frame for m in ALL if m not in FRAMING]]


@given(
    st.sampled_from(SHAPES),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.none() | st.integers(0, 10_000),
)
@settings(max_examples=1000)
def test_changed_messages_raise_only_wire_errors(message, changes, cut):
    data = bytearray(message)
    for at, value in changes:
        at = 16 + at % max(1, len(data) - 16)
        if at < len(data):
            data[at] = value
    if cut is not None:
        del data[16 + cut % max(1, len(data) - 15) :]
    changed = HEADER.pack(len(data), *HEADER.unpack_from(message)[1:]) + bytes(data[16:])
    for read in (read_request, read_reply):
        try:
            got = read(changed)
        except WireError:
            continue
        if got.body and got.fields:
            # What could be read can be edited and read again.
            again = read(got.with_fields({b"nothing": None}))
            assert again.fields.keys() == got.fields.keys()


# ------------------------------------------------------------------ other places for fields

READ_PREFERENCE = {"$readPreference": {"mode": "primary"}}


def options(value: Any) -> bytes:
    return element("$queryOptions", value)


def ping(*around: bytes) -> bytes:
    return raw_document(element("ping", 1), *around)


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        # Wherever it stands, its elements go to the end.
        (raw_document(options({}), element("ping", 1)), ping()),
        (
            raw_document(options(READ_PREFERENCE), element("ping", 1)),
            {"ping": 1, **READ_PREFERENCE},
        ),
        (
            ping(options({"lsid": LSID, "stmtIds": [1, 1]}), element("x", 2)),
            {"ping": 1, "x": 2, "lsid": LSID, "stmtIds": [1, 1]},
        ),
        # An array is a document to servers, too.
        (ping(options([5])), {"ping": 1, "0": 5}),
        # The first one counts, and all are taken out.
        (ping(options({"a": 1}), options({"lsid": LSID})), {"ping": 1, "a": 1}),
        # What was there before stays in front.
        (ping(element("a", 1), options({"a": 2})), ping(element("a", 1), element("a", 2))),
        # Alone it makes the command.
        (raw_document(options({"ping": 1, "x": 1})), {"ping": 1, "x": 1}),
    ],
)
def test_query_options_become_part_of_the_command(sent, read, compressor):
    frames = [op_query("t.$cmd", one, flags=4, projection={"_id": 1}) for one in (sent, read)]
    if compressor is not None:
        frames = [deflate(one, compressor) for one in frames]
    request = read_request(frames[0])
    assert request.frame == frames[1]
    assert (request.frame is request.message) == (compressor is None)
    assert (request.command, request.database) == ("ping", "t")
    assert request.body_bytes() == (read if isinstance(read, bytes) else bson.encode(read))
    assert request.fields == read_request(frames[1]).fields
    # To read what is sent on changes nothing more.
    assert read_request(request.frame).frame is request.frame


@pytest.mark.parametrize(
    "document",
    [
        *(ping(options(value)) for value in (1, "x", None, True, bson.Decimal128("0"))),
        raw_document(options({}), element("$query", {"ping": 1})),
        raw_document(options({"query": {"ping": 1}})),
        ping(options({"$queryOptions": {"lsid": LSID}})),
        {"$query": {"ping": 1}, "$queryOptions": {"lsid": LSID}},
        {"query": {"ping": 1, "$queryOptions": {"lsid": LSID}}},
        {"$query": 1, "$queryOptions": {"ping": 1}},
        {"$query": {"$queryOptions": {}, "ping": 1}},
    ],
)
def test_query_options_that_versions_read_differently_cannot_be_judged(document):
    for sent in (op_query("t.$cmd", document), deflate(op_query("t.$cmd", document), 2)):
        with pytest.raises(UnjudgeableError):
            read_request(sent)


def test_query_options_mean_nothing_elsewhere():
    document = {"ping": 1, "$queryOptions": {"lsid": LSID}}
    for sent in (
        command({**document, "$db": "t"}),
        op_command("t", "ping", document),
        op_query("t.c", document),
    ):
        request = read_request(sent)
        assert request.frame is sent
        assert b"lsid" not in request.fields


DECISIVE = [
    "lsid",
    "txnNumber",
    "autocommit",
    "startTransaction",
    "stmtId",
    "stmtIds",
    "$db",
    "$queryOptions",
    "help",
    "mechanism",
    "speculativeAuthenticate",
]


@pytest.mark.parametrize("name", [*DECISIVE, "compression", "payload", "documents", "a"])
def test_nothing_of_a_command_stands_in_the_metadata_of_op_command(name: str) -> None:
    # 3.6 and 4.0 append it to the command.
    arguments = {"insert": "c", "documents": [{}, {}]}
    for metadata in ({name: 1}, {"$ssm": {}, name: 1}):
        sent = op_command("t", "insert", arguments, metadata)
        for one in (sent, deflate(sent, 2)):
            with pytest.raises(UnjudgeableError):
                read_request(one)


@pytest.mark.parametrize(
    "metadata", [{}, {"$ssm": {"$secondaryOk": 1}, "$client": {}}, READ_PREFERENCE]
)
def test_metadata_of_its_own_passes(metadata):
    sent = op_command("t", "insert", {"insert": "c"}, metadata)
    assert read_request(sent).command == "insert"
    assert read_request(sent).frame is sent


@pytest.mark.parametrize("name", ["inprog", "killop", "unlock", "x"])
def test_pseudo_collections_take_no_session_fields(name: str) -> None:
    # Up to 4.0 currentOp, killOp and fsyncUnlock are made of these.
    for field in DECISIVE:
        with pytest.raises(UnjudgeableError):
            read_request(op_query(f"admin.$cmd.sys.{name}", {"a": 1, field: {"id": 1}}))
    plain = op_query(f"admin.$cmd.sys.{name}", {"$all": True, "query": {"lsid": 1}})
    assert (read_request(plain).command, read_request(plain).problem) == ("", "")


@pytest.mark.parametrize("name", [*DECISIVE, "lsid.id", "$db.x"])
def test_document_sequences_are_no_session_fields(name: str) -> None:
    for sent in (
        op_msg(body(IN_MSG), sequence(name, LSID)),
        op_msg(sequence(name), body(IN_MSG)),
        op_msg(DOCUMENTS, sequence(name, LSID), body({"ping": 1}), checksum=True),
    ):
        with pytest.raises(UnjudgeableError):
            read_request(sent)


@pytest.mark.parametrize("inner", [OP_COMPRESSED, opcodes.OP_REPLY, 2011, 2003, 0])
def test_only_requests_are_compressed(inner: int) -> None:
    once = deflate(command(IN_MSG), 2)
    sent = once[:16] + INT32.pack(inner) + once[20:]
    with pytest.raises(WireError):
        read_request(sent)
    with pytest.raises(WireError):
        read_request(deflate(once, 2))


# ------------------------------------------------------------------ counting


MANY_DOCUMENTS = [{"_id": n} for n in range(7)]


@pytest.mark.parametrize(
    "sent",
    [
        op_msg(body(IN_MSG), sequence("documents", *MANY_DOCUMENTS)),
        op_msg(sequence("documents", *MANY_DOCUMENTS), body(IN_MSG), checksum=True),
        op_msg(
            b"\2token\0",
            sequence("other", {}),
            sequence("documents", *MANY_DOCUMENTS),
            body(IN_MSG),
        ),
        command({**IN_MSG, "documents": MANY_DOCUMENTS}),
        op_query("app.$cmd", {**INSERT, "documents": MANY_DOCUMENTS}),
        deflate(op_msg(body(IN_MSG), sequence("documents", *MANY_DOCUMENTS)), 2),
        command(
            raw_document(
                element("insert", 1), b"\x04documents\0" + raw_document(*[element("0", {})] * 7)
            )
        ),
    ],
)
def test_documents_are_counted_up_to_a_limit(sent):
    request = read_request(sent)
    assert count_documents(request, b"documents", 100) == 7
    assert count_documents(request, b"documents", 7) == 7
    assert count_documents(request, b"documents", 3) == 3
    assert count_documents(request, b"nothing", 100) == 0


@pytest.mark.parametrize(
    "sent",
    [
        command({**IN_MSG, "documents": 7}),
        command({**IN_MSG, "documents": {"a": 1}}),
        op_msg(body(IN_MSG), sequence("documents")),
        op_msg(body(IN_MSG), sequence("documents", b"\xff\0\0\0\0")),
        op_msg(body(IN_MSG)),
    ],
)
def test_what_is_no_batch_counts_as_nothing(sent):
    assert count_documents(read_request(sent), b"documents", 100) == 0


#: An OP_COMMAND that reads, as a search found it.
FOUND = (
    "f70000005408201200000000da0700000075706461746500da000000027570646174650004000000"
    "746170000473706563756c617469766541757468656e7469636174650005000000000324636c7573"
    "74657254696d65005800000011636c757374657254696d650039000000ca56016b037369676e6174"
    "7572650033000000056861736800140000000088c53913d20cb871e5903d88a4cdc80671013fc912"
    "6b65794964001e0000005650016b0000086f7264657265640001036c736964001e00000005696400"
    "10000000049df078bbc308460bbdc479e28967a96b001274786e4e756d6265720004000000000000"
    "00000500000000"
)


def test_only_op_msg_has_sequences() -> None:
    """In other messages bytes stand there that may look like anything, and end too soon."""
    request = read_request(bytes.fromhex(FOUND))
    assert (request.command, request.opcode) == ("update", opcodes.OP_COMMAND)
    assert count_documents(request, b"updates", 10) == 0
