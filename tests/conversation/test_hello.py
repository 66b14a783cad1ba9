from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.hello import (
    AUTHENTICATION_COMMANDS,
    HELLO_COMMANDS,
    MAX_METADATA_TEXT,
    ClientMetadata,
    client_metadata,
    edited_reply,
    edited_request,
    is_authentication,
    names_in_reply,
    names_x509,
)
from proxy.wire.checksum import with_checksum
from proxy.wire.compression import SNAPPY, ZLIB, ZSTD, deflate
from proxy.wire.messages import Request, read_request
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER, OP_MSG, OP_QUERY, UINT32
from proxy.wire.replies import Reply, command_frame, op_reply, read_reply

DATA = Path(__file__).parents[1] / "data"

#: Every spelling of every upstream name in these tests has this in it, no advertised one has.
UPSTREAM = "upstream"


def msg(body: bytes, flags: int = 0) -> bytes:
    payload = UINT32.pack(flags) + b"\0" + body
    plain = HEADER.pack(16 + len(payload), 7, 3, OP_MSG) + payload
    return with_checksum(plain) if flags & CHECKSUM_PRESENT else plain


def query(body: bytes) -> bytes:
    payload = b"\4\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff" + body
    return HEADER.pack(16 + len(payload), 7, 0, OP_QUERY) + payload


def wrapped(body: bytes) -> bytes:
    return query(raw(b"\x03$query\0" + body, element("$readPreference", {"mode": "nearest"})))


REPLIES: dict[str, Callable[[bytes], bytes]] = {
    "OP_MSG": msg,
    "OP_MSG checksum": lambda body: msg(body, CHECKSUM_PRESENT),
    "OP_MSG snappy": lambda body: deflate(msg(body), SNAPPY),
    "OP_MSG zlib": lambda body: deflate(msg(body), ZLIB),
    "OP_REPLY": lambda body: op_reply(3, 7, [body]),
    "OP_REPLY zstd": lambda body: deflate(op_reply(3, 7, [body]), ZSTD),
}
REQUESTS: dict[str, Callable[[bytes], bytes]] = {
    "OP_MSG": msg,
    "OP_MSG checksum": lambda body: msg(body, CHECKSUM_PRESENT),
    "OP_MSG zstd": lambda body: deflate(msg(body), ZSTD),
    "OP_QUERY": query,
    "OP_QUERY wrapped": wrapped,
}


def raw(*elements: bytes) -> bytes:
    """A BSON document of ready-made elements, which may repeat a key."""
    inner = b"".join(elements)
    return (len(inner) + 5).to_bytes(4, "little") + inner + b"\0"


def element(name: str, value: Any) -> bytes:
    return bson.encode({name: value})[4:-1]


def broken(kind: int, name: str) -> bytes:
    """A nested document or array whose own bytes are no BSON."""
    return bytes([kind]) + name.encode() + b"\0" + b"\x07\0\0\0\xee\x01\0"


def request(*elements: bytes, command: str = "hello") -> Request:
    return read_request(msg(raw(element(command, 1), *elements, element("$db", "admin"))))


def reply(*elements: bytes) -> Reply:
    return read_reply(msg(raw(*elements)))


def document(frame: bytes | None) -> dict[str, Any]:
    assert frame is not None
    return bson.decode(read_reply(frame).body_bytes())


def frames(way: str) -> list[Any]:
    """Every recorded hello request or the replies to them, each with the client's name."""
    found = []
    for path in sorted((DATA / "streams").glob("*.jsonl")):
        hellos = set()
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if "frame" not in record:
                continue
            frame = base64.b64decode(record["frame"])
            if record["way"] == "request":
                read = read_request(frame)
                if read.command in HELLO_COMMANDS:
                    hellos.add((record["conn"], read.request_id))
                    if way == "request":
                        found.append(pytest.param(frame, id=f"{path.stem}-{len(found)}"))
            elif (record["conn"], HEADER.unpack_from(frame)[2]) in hellos and way == "reply":
                found.append(pytest.param(frame, id=f"{path.stem}-{len(found)}"))
    return found


RECORDED = [json.loads(line) for line in (DATA / "hello.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------------- replies

FIVE = {
    "hosts": ["Upstream-A:27017", "upstream-b:27017"],
    "passives": ["upstream-c:27017"],
    "arbiters": ["upstream-d:27017"],
    "setName": "rs0",
    "setVersion": 7,
    "ismaster": False,
    "secondary": True,
    "primary": "upstream-B:27017",
    "passive": True,
    "hidden": False,
    "tags": {"dc": "east"},
    "me": "upstream-c:27017",
    "lastWrite": {"opTime": {"ts": bson.Timestamp(5, 1), "t": bson.Int64(2)}},
    "maxWireVersion": 8,
    "ok": 1.0,
}
MAP = {
    "upstream-a:27017": "proxy:1",
    "upstream-b:27017": "proxy:2",
    "upstream-c:27017": "proxy:3",
    "upstream-d:27017": "[::1]:4",
}


@pytest.mark.parametrize("form", REPLIES)
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: r["deployment"])
def test_a_recorded_reply_changes_in_its_names_and_in_nothing_else(
    form: str, recorded: dict[str, Any]
) -> None:
    hello = json_util.loads(json.dumps(recorded["hello"]))
    original = read_reply(REPLIES[form](bson.encode(hello)))
    names = hello.get("hosts", [])
    addresses = {name: f"proxy.example:{port}" for port, name in enumerate(names, 27018)}
    edited = edited_reply(original, addresses, "proxy.example:27018")
    if not names:
        assert edited is None
        return
    hello |= {
        "hosts": list(addresses.values()),
        "primary": addresses[hello["primary"]],
        "me": "proxy.example:27018",
    }
    # Dictionaries keep their order, so these are the original bytes around the new names.
    assert edited == REPLIES[form](bson.encode(hello))


@pytest.mark.parametrize("frame", frames("reply"))
def test_recorded_replies_from_drivers_conversations_can_be_mapped(frame: bytes) -> None:
    original = read_reply(frame)
    names = names_in_reply(original)
    edited = edited_reply(original, {name: f"p:{i}" for i, name in enumerate(names)}, "p:0")
    if not names:
        assert edited is None
        return
    assert not set(names) & set(names_in_reply(read_reply(edited or b"")))
    was, now = bson.decode(original.body_bytes()), document(edited)
    for changed in ("hosts", "primary", "me"):
        del was[changed], now[changed]
    assert was == now


@pytest.mark.parametrize("form", REPLIES)
def test_every_list_of_a_five_member_set_is_mapped(form: str) -> None:
    edited = edited_reply(read_reply(REPLIES[form](bson.encode(FIVE))), MAP, "proxy:3")
    assert edited == REPLIES[form](
        bson.encode(
            FIVE
            | {
                "hosts": ["proxy:1", "proxy:2"],
                "passives": ["proxy:3"],
                "arbiters": ["[::1]:4"],
                "primary": "proxy:2",
                "me": "proxy:3",
            }
        )
    )


@pytest.mark.parametrize(
    ("known", "changes", "gone"),
    [
        ("abc", {"hosts": ["proxy:1", "proxy:2"], "passives": ["proxy:3"]}, {"arbiters"}),
        ("acd", {"hosts": ["proxy:1"], "passives": ["proxy:3"]}, {"primary"}),
        ("c", {"passives": ["proxy:3"]}, {"hosts", "arbiters", "primary"}),
        ("", {}, {"hosts", "passives", "arbiters", "primary"}),
    ],
)
def test_who_has_no_listener_is_left_out(
    known: str, changes: dict[str, Any], gone: set[str]
) -> None:
    addresses = {f"upstream-{k}:27017": MAP[f"upstream-{k}:27017"] for k in known}
    edited = document(edited_reply(read_reply(msg(bson.encode(FIVE))), addresses, "proxy:3"))
    for name, value in (changes | {"me": "proxy:3"}).items():
        assert edited[name] == value
    assert FIVE.keys() - edited.keys() == gone
    assert UPSTREAM not in str(edited)


def test_a_listener_that_nobody_can_name_is_left_out() -> None:
    edited = document(edited_reply(read_reply(msg(bson.encode(FIVE))), {}, ""))
    assert "me" not in edited
    assert UPSTREAM not in str(edited)


@pytest.mark.parametrize(
    "hello",
    [
        {"ismaster": True, "ok": 1.0},
        {"ismaster": True, "msg": "isdbgrid", "ok": 1.0},
        {"ismaster": False, "isreplicaset": True, "info": "no config", "ok": 1.0},
        {"ok": 0.0, "errmsg": "no such command: 'hello'", "code": 59},
        {"hosts": ["proxy:1"], "primary": "proxy:1", "me": "proxy:1", "setName": "s", "ok": 1},
        {"hosts": [], "setName": "s", "ok": 1},
    ],
)
def test_a_reply_without_anything_to_change_is_passed_on_as_it_came(hello: dict[str, Any]) -> None:
    assert (
        edited_reply(read_reply(msg(bson.encode(hello))), {"proxy:1": "proxy:1"}, "proxy:1") is None
    )


def test_without_a_map_nothing_is_changed() -> None:
    assert edited_reply(read_reply(msg(bson.encode(FIVE))), None, "proxy:3") is None


def test_a_reply_without_a_document_is_passed_on() -> None:
    empty = read_reply(op_reply(3, 7, []))
    assert edited_reply(empty, MAP, "proxy:1") is None
    assert names_in_reply(empty) == []


@pytest.mark.parametrize(
    "elements",
    [
        (element("me", "proxy:1"), element("me", "upstream-a:27017")),
        (element("me", "upstream-a:27017"), element("ok", 1), element("me", "upstream-a:27017")),
        (element("primary", "upstream-a:27017"), element("primary", "upstream-z:1")),
        (element("primary", "proxy:9"), element("primary", "upstream-a:27017")),
        (element("hosts", ["upstream-a:27017"]), element("hosts", ["upstream-a:27017"])),
        (element("hosts", []), element("hosts", ["upstream-z:27017"])),
        (b"\x04hosts\0" + raw(element("0", "upstream-a:27017"), element("0", "upstream-z:1")),),
        (element("hosts", "upstream-a:27017"),),
        (element("hosts", {"0": "upstream-a:27017"}),),
        (element("hosts", [["upstream-a:27017"], 5, None, "upstream-z:1"]),),
        (element("primary", ["upstream-a:27017"]),),
        (element("primary", bson.code.Code("upstream-a:27017")),),
        (element("me", b"upstream-a:27017"),),
        (b"\x04hosts\0" + b"\x15\0\0\0\x02upstream-a:27017",),
        (broken(4, "hosts"), element("hosts", ["upstream-a:27017"])),
    ],
)
def test_no_repeated_or_odd_field_lets_a_name_through(elements: tuple[bytes, ...]) -> None:
    edited = edited_reply(reply(*elements), MAP, "proxy:1")
    assert edited is not None
    assert UPSTREAM.encode() not in edited
    again = read_reply(edited)
    assert not again.fields.duplicates
    assert edited_reply(again, {new: new for new in MAP.values()}, "proxy:1") is None


def test_of_repeated_fields_the_first_stays_where_it_was() -> None:
    edited = edited_reply(
        reply(element("me", "x:1"), element("ok", 1), element("me", "y:1"), element("z", 2)),
        {},
        "proxy:1",
    )
    assert edited == msg(raw(element("me", "proxy:1"), element("ok", 1), element("z", 2)))


upstream_names = st.sampled_from(
    ["upstream-a:27017", "UPSTREAM-A:27017", "upstream-b:27017", "upstream-z:1", "upstream"]
)
values = st.recursive(
    st.one_of(upstream_names, st.integers(0, 9), st.none(), upstream_names.map(str.encode)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("0ab"), inner, max_size=3)
    ),
    max_leaves=8,
)
member_fields = st.tuples(
    st.sampled_from(["hosts", "passives", "arbiters", "primary", "me"]), values
)
other_fields = st.tuples(
    st.sampled_from(["ok", "setName", "tags", "host", "Hosts", "hostsx", "meme", ""]),
    st.one_of(st.integers(0, 9), st.just("a"), st.just({"hosts": [1]}), st.floats()),
)


@given(
    st.lists(st.one_of(member_fields, other_fields), max_size=12),
    st.sampled_from(sorted(REPLIES)),
    st.sets(st.sampled_from(sorted(MAP))),
)
def test_whatever_hello_says_no_upstream_name_survives(
    fields: list[tuple[str, Any]], form: str, known: set[str]
) -> None:
    original = read_reply(REPLIES[form](raw(*(element(*field) for field in fields))))
    edited = edited_reply(original, {name: MAP[name] for name in known}, "proxy:1")
    result = original if edited is None else read_reply(edited)
    assert UPSTREAM.encode() not in result.message.lower()
    names = {"hosts", "passives", "arbiters", "primary", "me"}
    others = b"".join(element(*field) for field in fields if field[0] not in names)
    kept = sorted(
        [
            *result.fields.items(),
            *zip(result.fields.duplicates, result.fields.repeats, strict=True),
        ],
        key=lambda item: item[1].start,
    )
    assert others == b"".join(
        result.message[e.start : e.end] for name, e in kept if name.decode() not in names
    )


@given(st.binary(max_size=200))
def test_garbage_in_a_list_is_no_error(garbage: bytes) -> None:
    listed = b"\x04hosts\0" + (len(garbage) + 5).to_bytes(4, "little") + garbage + b"\0"
    original = reply(listed, element("ok", 1))
    names_in_reply(original)
    edited = edited_reply(original, {}, "proxy:1")
    if edited is None:
        assert garbage == b""
    else:
        assert document(edited) == {"ok": 1}


@pytest.mark.parametrize(
    ("elements", "names"),
    [
        ((), []),
        (
            (element("hosts", ["A:1", "b:1"]), element("primary", "B:1"), element("me", "c:1")),
            ["a:1", "b:1", "c:1"],
        ),
        ((element("arbiters", ["x:1"]), element("passives", ["y:1"])), ["y:1", "x:1"]),
        ((element("me", "a:1"), element("me", "b:1")), ["a:1", "b:1"]),
        ((element("hosts", ["a:1"]), element("hosts", ["b:1"])), ["a:1", "b:1"]),
        ((element("hosts", [1, "a:1"]), element("primary", 5)), ["a:1"]),
        ((broken(4, "hosts"), element("me", "a:1")), ["a:1"]),
    ],
)
def test_names_in_a_reply_are_listed_in_lower_case(
    elements: tuple[bytes, ...], names: list[str]
) -> None:
    assert names_in_reply(reply(*elements)) == names


# ---------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("hello", True),
        ("isMaster", True),
        ("ismaster", True),
        ("Hello", False),
        ("ISMASTER", False),
        ("", False),
        ("ping", False),
    ],
)
def test_hello_has_three_names_to_the_letter(command: str, expected: bool) -> None:
    assert (command in HELLO_COMMANDS) is expected


@pytest.mark.parametrize("frame", frames("request"))
def test_recorded_requests_lose_their_compressors_and_nothing_else(frame: bytes) -> None:
    original = read_request(frame)
    assert edited_request(original, strip_compression=False, refuse_x509=True) is None
    stripped = edited_request(original, strip_compression=True, refuse_x509=True)
    expected = bson.decode(original.body_bytes())
    if "compression" not in expected:
        assert stripped is None
        return
    assert stripped is not None
    del expected["compression"]
    edited = read_request(stripped)
    assert edited.body_bytes() == bson.encode(expected)
    assert edited.message[4 : edited.body] == original.message[4 : original.body]
    assert (edited.command, edited.database) == (original.command, original.database)


SPECULATIVE = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"n,,", "db": "admin"}


@pytest.mark.parametrize("form", REQUESTS)
@pytest.mark.parametrize(
    ("offered", "kept"),
    [
        (["zlib"], None),
        (["none"], None),
        (["zstd", "snappy", "zlib", "noop"], None),
        ([], None),
        (["lz4", "zlib", "brotli", "snappy"], ["zlib", "snappy"]),
        (["ZLIB", "zlib "], []),
        (["zlib", 5, "x"], ["zlib", 5]),
        ("zlib", None),
        (1, None),
    ],
)
def test_only_compressors_that_can_be_inflated_are_offered(
    form: str, offered: Any, kept: list[Any] | None
) -> None:
    command = {"isMaster": 1, "compression": offered, "client": {"a": 1}, "$db": "admin"}
    frame = REQUESTS[form](bson.encode(command))
    edited = edited_request(read_request(frame), strip_compression=False, refuse_x509=False)
    if kept is None:
        assert edited is None
    else:
        assert edited == REQUESTS[form](bson.encode(command | {"compression": kept}))


@pytest.mark.parametrize("form", REQUESTS)
def test_what_is_stripped_leaves_no_trace(form: str) -> None:
    command = {
        "isMaster": 1,
        "compression": ["zlib"],
        "speculativeAuthenticate": SPECULATIVE | {"mechanism": "MONGODB-X509"},
        "client": {"a": 1},
        "$db": "admin",
    }
    frame = REQUESTS[form](bson.encode(command))
    edited = edited_request(read_request(frame), strip_compression=True, refuse_x509=True)
    del command["compression"], command["speculativeAuthenticate"]
    assert edited == REQUESTS[form](bson.encode(command))
    assert edited is not None
    assert read_request(edited).has_valid_checksum()


@pytest.mark.parametrize(
    ("offers", "kept"),
    [
        ((element("compression", ["zlib"]), element("compression", ["lz4"])), ["zlib"]),
        ((element("compression", ["lz4"]), element("compression", ["lz4", "zlib"])), []),
        ((broken(4, "compression"), element("compression", ["lz4"])), None),
        ((element("compression", {"0": "zlib", "x": "lz4"}),), ["zlib"]),
        ((b"\x04compression\0" + raw(element("0", "zlib"), element("0", "lz4")),), ["zlib"]),
    ],
)
def test_no_repeated_or_odd_offer_lets_an_unknown_compressor_through(
    offers: tuple[bytes, ...], kept: list[str] | None
) -> None:
    hello = request(*offers)
    around = element("hello", 1), element("$db", "admin")
    left = [] if kept is None else [element("compression", kept)]
    assert edited_request(hello, strip_compression=False, refuse_x509=False) == msg(
        raw(around[0], *left, around[1])
    )
    assert edited_request(hello, strip_compression=True, refuse_x509=False) == msg(raw(*around))


X509 = element("mechanism", "MONGODB-X509")
SCRAM = element("mechanism", "SCRAM-SHA-256")
KNOWN_MECHANISMS = [
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "MONGODB-CR",
    "PLAIN",
    "GSSAPI",
    "MONGODB-AWS",
    "MONGODB-OIDC",
]
AUTHENTICATE = element("authenticate", 1)
START = element("saslStart", 1)


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ((START, SCRAM), False),
        ((AUTHENTICATE, X509, element("db", "$external")), True),
        ((START, X509), True),
        ((AUTHENTICATE, element("db", "$external")), True),
        ((AUTHENTICATE, element("mechanism", "")), True),
        ((AUTHENTICATE, element("mechanism", 5)), True),
        ((AUTHENTICATE, SCRAM), False),
        ((START, SCRAM, X509), True),
        ((START, X509, SCRAM), True),
        ((START, element("mechanism", "mongodb-x509")), True),
        ((START,), True),
        ((), True),
        ((element("mechanism", bson.binary.Binary(b"MONGODB-X509")), START), True),
        # What else a mechanism may be, in every place.
        *(
            ((command, element("mechanism", mechanism)), expected)
            for command in (START, AUTHENTICATE)
            for mechanism, expected in [
                *((known, False) for known in KNOWN_MECHANISMS),
                *((f"{known}\0", True) for known in KNOWN_MECHANISMS),
                *((known.lower(), True) for known in KNOWN_MECHANISMS),
                ("MONGODB-X509\0", True),
                ("MONGODB-X509\0SCRAM-SHA-256", True),
                ("\0", True),
                ("\0MONGODB-X509", True),
                (" MONGODB-X509", True),
                ("SCRAM-SHA-512", True),
                (bson.Code("SCRAM-SHA-256"), True),
                (b"SCRAM-SHA-256", True),
                (["SCRAM-SHA-256"], True),
                ({"0": "SCRAM-SHA-256"}, True),
                (bson.Regex("SCRAM-SHA-256"), True),
                (None, True),
                (True, True),
            ]
        ),
        ((START, SCRAM, element("mechanism", None)), True),
        ((AUTHENTICATE, b"\x0emechanism\0" + SCRAM[11:]), True),  # a symbol
        ((AUTHENTICATE, b"\x06mechanism\0", SCRAM), True),
    ],
)
def test_x509_is_found_wherever_a_client_asks_for_it(
    inner: tuple[bytes, ...], expected: bool
) -> None:
    nested = raw(*inner)
    for hello in (
        request(b"\x03speculativeAuthenticate\0" + nested),
        request(b"\x04speculativeAuthenticate\0" + nested, command="isMaster"),
        request(*2 * [b"\x03speculativeAuthenticate\0" + nested]),
    ):
        assert names_x509(hello) is expected
        edited = edited_request(hello, strip_compression=False, refuse_x509=True)
        assert (edited is not None) is expected
        assert b"speculativeAuthenticate" not in (edited or b"")
        assert edited_request(hello, strip_compression=False, refuse_x509=False) is None
    if inner and inner[0] in (AUTHENTICATE, START):
        frame = msg(raw(*inner, element("$db", "$external")))
        assert names_x509(read_request(frame)) is expected
        assert names_x509(read_request(deflate(frame, ZLIB))) is expected
        assert names_x509(read_request(query(nested))) is expected


@pytest.mark.parametrize(
    "speculation",
    [
        broken(3, "speculativeAuthenticate"),
        *(element("speculativeAuthenticate", value) for value in (1, "x", None, b"x", [], {})),
    ],
)
def test_a_speculation_that_cannot_be_read_counts_as_x509(speculation: bytes) -> None:
    hello = request(speculation)
    assert names_x509(hello)
    good = element("speculativeAuthenticate", SPECULATIVE)
    assert not names_x509(request(good))
    for several in ((speculation, good), (good, speculation)):
        assert names_x509(request(*several))
    assert edited_request(hello, strip_compression=False, refuse_x509=True) == msg(
        raw(element("hello", 1), element("$db", "admin"))
    )


@pytest.mark.parametrize("command", ["saslContinue", "logout", "ping", "find"])
def test_x509_is_not_found_in_other_commands(command: str) -> None:
    assert not names_x509(request(X509, command=command))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        *((request(command=command), True) for command in sorted(AUTHENTICATION_COMMANDS)),
        (request(), False),
        (request(element("speculativeAuthenticate", SPECULATIVE)), True),
        (request(element("speculativeAuthenticate", None), command="ismaster"), True),
        (request(element("speculativeAuthenticate", SPECULATIVE), command="ping"), False),
        (request(command="SaslStart"), False),
        (read_request(msg(b"\0" * 8)), False),
    ],
)
def test_authentication_steps_are_recognised(found: Request, expected: bool) -> None:
    assert is_authentication(found) is expected


# ---------------------------------------------------------------------- client metadata


def test_clients_are_known_by_what_they_say() -> None:
    seen = {
        client_metadata(read_request(case.values[0]))
        for case in frames("request")
        if b"client" in read_request(case.values[0]).fields
    }
    assert {(m.driver.partition("|")[0], m.os) for m in seen} >= {
        ("PyMongo", "Linux"),
        ("nodejs", "Linux"),
        ("mongo-go-driver", "linux"),
        ("MongoDB Internal Client", "Linux"),
    }
    assert {m.application for m in seen} >= {"mongosh 2.3.8", "MongoDB Shell"}
    assert all(m.driver_version for m in seen)


@pytest.mark.parametrize(
    ("name", "version", "shown"),
    [
        ("PyMongo|c", "4.20.1|", ("PyMongo|c", "4.20.1")),
        ("nodejs|Mongoose", "6.3.0|8.1.0", ("nodejs|Mongoose", "6.3.0|8.1.0")),
        ("|a||b|", "||", ("a|b", "")),
    ],
)
def test_drivers_are_called_as_they_call_themselves(
    name: str, version: str, shown: tuple[str, str]
) -> None:
    client = {"driver": {"name": name, "version": version}}
    found = client_metadata(request(element("client", client)))
    assert (found.driver, found.driver_version) == shown


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"application": "x", "driver": [], "os": 5},
        {"application": {"name": 5}, "driver": {"name": None}, "os": {}},
        {"driver": {"version": ["1"]}},
    ],
)
def test_malformed_metadata_reads_as_missing(client: Mapping[str, Any]) -> None:
    assert client_metadata(request(element("client", client))) == ClientMetadata()


def test_metadata_that_is_no_document_reads_as_missing() -> None:
    assert client_metadata(request()) == ClientMetadata()
    assert client_metadata(request(element("client", "x"))) == ClientMetadata()
    assert client_metadata(request(broken(3, "client"))) == ClientMetadata()
    nested = raw(broken(3, "driver"), element("application", {"name": "a"}))
    assert client_metadata(request(b"\x03client\0" + nested)) == ClientMetadata(application="a")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a" * 1000, "a" * MAX_METADATA_TEXT),
        ("\N{GRINNING FACE}" * 1000, "\N{GRINNING FACE}" * MAX_METADATA_TEXT),
        ("a\nb\x1b[31m\0", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m\ufffd"),
        ("Zoë", "Zoë"),
    ],
)
def test_metadata_is_bounded_and_printable(sent: str, shown: str) -> None:
    client = {"application": {"name": sent}}
    assert client_metadata(request(element("client", client))).application == shown


def test_metadata_that_is_no_utf_8_is_shown_as_far_as_it_can_be() -> None:
    name = b"\x02name\0\x03\0\0\0a\xff\0"
    client = b"\x03client\0" + raw(b"\x03application\0" + raw(name))
    assert client_metadata(request(client)).application == "a\N{REPLACEMENT CHARACTER}"


def test_a_command_frame_of_ours_is_left_alone() -> None:
    ours = read_request(command_frame(1, {"hello": 1, "$db": "admin"}))
    assert edited_request(ours, strip_compression=True, refuse_x509=True) is None
