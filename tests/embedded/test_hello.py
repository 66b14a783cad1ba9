from __future__ import annotations

from typing import Any

import bson
import pytest

from proxy.wire.opcodes import EXHAUST_ALLOWED, HEADER, OP_MSG, OP_REPLY
from proxy.wire.replies import read_reply
from tests.build import body, op_msg, op_query
from tests.embedded.support import NOW, USERS, Client, answer, node

CLIENT = {"driver": {"name": "d", "version": "1"}, "os": {"type": "t"}}


@pytest.mark.parametrize(
    ("name", "primary"),
    [("hello", "isWritablePrimary"), ("isMaster", "ismaster"), ("ismaster", "ismaster")],
)
@pytest.mark.parametrize("db", ["admin", "test"])
def test_a_primary(name: str, primary: str, db: str) -> None:
    reply = Client(node(version="4.4")).run(name, db=db, helloOk=True)
    assert (reply[primary], reply["secondary"], reply["helloOk"]) == (True, False, True)
    assert (reply["setName"], reply["setVersion"]) == ("rs0", 1)
    assert reply["hosts"] == [reply["me"]] == [reply["primary"]] == ["127.0.0.1:27017"]
    assert (reply["minWireVersion"], reply["maxWireVersion"]) == (0, 9)
    assert reply["logicalSessionTimeoutMinutes"] == 30
    assert set(reply["topologyVersion"]) == {"processId", "counter"}


def test_a_standalone() -> None:
    reply = Client(node(set_name=None)).run("hello")
    assert reply["isWritablePrimary"] is True
    assert not {"hosts", "me", "setName", "$clusterTime", "operationTime"} & set(reply)
    assert reply["logicalSessionTimeoutMinutes"] == 30


def test_nothing_newer_than_the_wire_version() -> None:
    speculative = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "db": "app", "payload": b"n,,"}
    reply = Client(node(version="4.2")).run("isMaster", speculativeAuthenticate=speculative)
    assert not {"topologyVersion", "speculativeAuthenticate"} & set(reply)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("count", [-1, 1])
def test_op_query_is_answered_in_kind(wrapped: bool, count: int) -> None:
    client = Client(node())
    query: dict[str, Any] = {"ismaster": 1}
    if wrapped:
        query = {"$query": query, "$readPreference": {"mode": "primaryPreferred"}}
    step = client.connection.receive(op_query("test.$cmd", query, count=count), NOW)
    (frame,) = step.frames
    reply = read_reply(frame)
    assert reply.opcode == OP_REPLY
    assert bson.decode(reply.body_bytes())["ismaster"] is True
    (frame,) = client.step({"hello": 1, "$db": "test"}).frames
    assert read_reply(frame).opcode == OP_MSG


@pytest.mark.parametrize(("count", "flags"), [(0, 0), (2, 0), (-1, 1 << 6)])
def test_op_query_commands_ask_for_one_document(count: int, flags: int) -> None:
    message = op_query("admin.$cmd", {"ismaster": 1}, count=count, flags=flags)
    assert answer(Client(node()).connection.receive(message, NOW))["code"] == 16979


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ({**CLIENT, "application": {"name": "x" * 129}}, 184),
        ({**CLIENT, "pad": "x" * 1100}, 185),
        ({"os": {}}, 183),
        ({"driver": {}}, 183),
        (1, 14),
    ],
)
def test_client_metadata_that_is_refused(metadata: Any, code: int) -> None:
    assert Client(node()).run("hello", client=metadata)["code"] == code


def test_client_metadata_comes_once() -> None:
    client = Client(node())
    metadata = {**CLIENT, "application": {"name": "shop"}}
    assert client.run("hello", client=metadata)["ok"] == 1.0
    assert client.run("hello", client=metadata)["code"] == 186
    assert client.run("hello")["ok"] == 1.0
    assert client.connection.client.app_name == "shop"


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        (["zstd", "nix", "snappy"], ["zstd", "snappy"]),
        (["zlib"], ["zlib"]),
        (["nix"], None),
        ([], None),
    ],
)
def test_compressors_in_the_clients_order(offered: list[str], agreed: list[str] | None) -> None:
    assert Client(node()).run("hello", compression=offered).get("compression") == agreed


def test_mechanisms_of_a_user() -> None:
    client = Client(node(authorization=True, users=USERS))
    reply = client.run("hello", saslSupportedMechs="app.alice")
    assert reply["saslSupportedMechs"] == ["SCRAM-SHA-1", "SCRAM-SHA-256"]
    assert "saslSupportedMechs" not in client.run("hello", saslSupportedMechs="app.nobody")


def test_speculative_authentication() -> None:
    client = Client(node(authorization=True, users=USERS, version="4.4"))
    speculative = {
        "saslStart": 1,
        "mechanism": "SCRAM-SHA-256",
        "payload": b"n,,n=alice,r=abc",
        "db": "app",
        "options": {"skipEmptyExchange": True},
    }
    started = client.run("hello", speculativeAuthenticate=speculative)["speculativeAuthenticate"]
    assert (started["conversationId"], started["done"]) == (1, False)
    for wrong in ({"payload": b"n,,n=nobody,r=abc"}, {"db": None}, {"mechanism": "MONGODB-X509"}):
        reply = client.run("hello", speculativeAuthenticate={**speculative, **wrong})
        assert reply["ok"] == 1.0
        assert "speculativeAuthenticate" not in reply


class TestAwaitable:
    def setup_method(self) -> None:
        self.node = node(version="4.4")
        self.client = Client(self.node)
        self.version = self.client.run("hello")["topologyVersion"]

    def ask(self, **fields: Any) -> Any:
        request = {"hello": 1, "topologyVersion": self.version, "maxAwaitTimeMS": 10_000}
        return self.client.step({**request, **fields, "$db": "admin"})

    def test_waits_until_something_changes(self) -> None:
        assert self.ask().wait_until == NOW + 10
        waiting = self.client.connection.resume(NOW + 1)
        assert (waiting.frames, waiting.wait_until) == ([], NOW + 10)
        self.node.topology_counter += 1
        reply = answer(self.client.connection.resume(NOW + 2))
        assert reply["topologyVersion"]["counter"] == self.version["counter"] + 1

    def test_waits_no_longer_than_asked(self) -> None:
        self.ask()
        reply = answer(self.client.connection.resume(NOW + 10))
        assert reply["topologyVersion"] == self.version

    def test_answers_at_once_to_what_is_out_of_date(self) -> None:
        self.node.topology_counter += 1
        assert answer(self.ask())["ok"] == 1.0

    def test_answers_at_once_about_another_process(self) -> None:
        other = {"processId": bson.ObjectId(), "counter": bson.Int64(99)}
        assert answer(self.ask(topologyVersion=other))["topologyVersion"] == self.version

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"maxAwaitTimeMS": None}, 31368),
            ({"topologyVersion": None}, 31368),
            ({"maxAwaitTimeMS": -1}, 14),
            ({"topologyVersion": 1}, 14),
            ({"topologyVersion": {}}, 14),
        ],
    )
    def test_is_refused(self, fields: dict[str, Any], code: int) -> None:
        assert answer(self.ask(**fields))["code"] == code

    def test_is_refused_from_the_future(self) -> None:
        ahead = {**self.version, "counter": bson.Int64(self.version["counter"] + 1)}
        assert answer(self.ask(topologyVersion=ahead))["code"] == 31382

    def test_streams_where_exhaust_is_allowed(self) -> None:
        request = {"hello": 1, "topologyVersion": self.version, "maxAwaitTimeMS": 10_000}
        message = op_msg(body({**request, "$db": "admin"}), flags=EXHAUST_ALLOWED, request_id=5)
        assert self.client.connection.receive(message, NOW).wait_until == NOW + 10
        previous = 5
        for round_ in range(1, 4):
            self.node.topology_counter += 1
            step = self.client.connection.resume(NOW + round_)
            reply = read_reply(step.frames[0])
            assert (reply.more_to_come, reply.response_to) == (True, previous)
            _, previous, _, _ = HEADER.unpack_from(reply.frame)
            assert step.more
            assert self.client.connection.proceed(NOW + round_).wait_until == NOW + round_ + 10
