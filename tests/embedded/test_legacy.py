from __future__ import annotations

import bson
import pytest

from proxy.embedded.connection import Step
from proxy.wire.opcodes import HEADER_SIZE, INT32, UINT32
from tests import build
from tests.embedded.support import NOW, USERS, Client, node


def documents(step: Step) -> tuple[int, int, list[dict]]:
    """An OP_REPLY's flags, cursor id and documents."""
    (frame,) = step.frames
    flags, cursor_id = UINT32.unpack_from(frame, HEADER_SIZE)[0], frame[20:28]
    return flags, int.from_bytes(cursor_id, "little"), bson.decode_all(frame[36:])


@pytest.fixture
def client() -> Client:
    made = Client(node())
    made.run("insert", "c", db="app", documents=[{"_id": n} for n in range(5)])
    return made


def send(client: Client, message: bytes) -> Step:
    step = client.connection.receive(message, NOW)
    assert not step.close
    return step


def test_a_find_and_its_rest(client: Client) -> None:
    flags, cursor_id, found = documents(send(client, build.op_query("app.c", {}, count=2)))
    assert (flags, found, cursor_id > 0) == (8, [{"_id": 0}, {"_id": 1}], True)
    flags, rest_id, found = documents(send(client, build.op_get_more("app.c", cursor_id)))
    assert (flags, [entry["_id"] for entry in found], rest_id) == (8, [2, 3, 4], 0)
    flags, _, found = documents(send(client, build.op_get_more("app.c", cursor_id)))
    assert (flags & 1, found) == (1, [])


@pytest.mark.parametrize(
    ("name", "served"),
    [("isMaster", True), ("hello", True), ("saslStart", True), ("ping", False), ("find", False)],
)
@pytest.mark.parametrize("version", ["4.2", "5.0", "6.0", "8.2"])
def test_commands_by_op_query(name: str, served: bool, version: str) -> None:
    message = build.op_query("admin.$cmd", {name: 1}, count=-1)
    _, _, (reply,) = documents(send(Client(node(version=version)), message))
    refused = reply.get("code") == 352
    assert refused == (not served and version in ("6.0", "8.2"))
    if refused:
        assert reply["codeName"] == "UnsupportedOpQueryCommand"


def test_opcodes_that_are_gone() -> None:
    client = Client(node(version="8.2"))
    _, _, (reply,) = documents(send(client, build.op_query("app.c", {}, count=2)))
    assert reply["code"] == 5739101
    assert reply["$err"].startswith("OP_QUERY is no longer supported.")


@pytest.mark.parametrize("count", [1, -1])
def test_one_document(client: Client, count: int) -> None:
    query = {"$query": {}, "$orderby": {"_id": -1}}
    _, cursor_id, found = documents(send(client, build.op_query("app.c", query, count=count)))
    assert (found, cursor_id) == ([{"_id": 4}], 0)


def test_a_projection(client: Client) -> None:
    client.run("insert", "d", db="app", documents=[{"_id": 1, "a": 1, "b": 2}])
    message = build.op_query("app.d", {}, count=0, projection={"a": 1})
    assert documents(send(client, message))[2] == [{"_id": 1, "a": 1}]


def test_a_query_that_fails(client: Client) -> None:
    flags, _, found = documents(send(client, build.op_query("app.c", {"$nix": 1}, count=0)))
    assert flags & 2
    assert found[0]["code"] == 2
    assert "$err" in found[0]


def test_a_namespace_without_a_collection(client: Client) -> None:
    assert documents(send(client, build.op_query("app", {}, count=0)))[2][0]["code"] == 73


def test_silent_writes(client: Client) -> None:
    for message in (
        build.op_insert("app.c", {"_id": 9}, {"a": 1}),
        build.op_update("app.c", {"_id": 9}, {"$set": {"b": 1}}),
        build.op_delete("app.c", {"_id": {"$lt": 5}}),
        build.op_insert("app.c", {"_id": 9}),
    ):
        assert send(client, message).frames == []
    found = client.run("find", "c", db="app", filter={"_id": 9})["cursor"]["firstBatch"]
    assert found == [{"_id": 9, "b": 1}]
    assert client.run("count", "c", db="app")["n"] == 2


def test_kill_cursors(client: Client) -> None:
    _, cursor_id, _ = documents(send(client, build.op_query("app.c", {}, count=2)))
    assert send(client, build.op_kill_cursors(cursor_id, 5)).frames == []
    assert documents(send(client, build.op_get_more("app.c", cursor_id)))[0] & 1


def test_nothing_goes_with_authorization_on() -> None:
    client = Client(node(authorization=True, users=USERS))
    flags, _, found = documents(send(client, build.op_query("app.c", {}, count=0)))
    assert (flags & 2, found[0]["code"]) == (2, 13)
    assert send(client, build.op_insert("app.c", {"_id": 1})).frames == []
    assert not client.connection.node.engine.exists(("app", "c"))


@pytest.mark.parametrize(
    "message",
    [
        build.frame(2002, INT32.pack(0)),
        build.frame(2002, INT32.pack(0) + b"app.c\0\xff\0\0\0"),
        build.frame(2005, INT32.pack(0) + b"app.c\0"),
        build.frame(2006, INT32.pack(0) + b"app.c\0" + INT32.pack(0)),
        build.op_command("admin", "ping", {"ping": 1}),
    ],
)
def test_what_cannot_be_read_ends_the_connection(client: Client, message: bytes) -> None:
    assert client.connection.receive(message, NOW).close
