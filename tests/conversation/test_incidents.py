"""What is told of how sessions are used, and what drivers do of their own accord and is not."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64, Timestamp

from policies.txn_number import TxnNumber
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.incidents import may_be_encrypted, of_one_process
from proxy.conversation.rule import Mode
from proxy.session.identity import Identity
from proxy.session.ids import Origin
from proxy.session.transactions import RETRYABLE_WRITES
from proxy.wire.messages import read_request
from proxy.wire.opcodes import MORE_TO_COME
from tests.build import body, command, op_msg, sequence
from tests.conversation.sequences import Sequence
from tests.effort import milliseconds

#: What drivers do. Connections a and b are one client's, on two nodes of a balancer.
DRIVERS = {
    "one thing after the other, on any connection": (
        "a>find a< b>find b< a>insert#1 a< b>insert#2=y b<"
    ),
    "a slow write is asked for again, before its connection is seen to be gone": (
        "a>insert#1 b>insert#1 b< a| b>find b<"
    ),
    "the same, and upstream answers both": "a>insert#1 b>insert#1 b< a< b>insert#2=y b< b>find b<",
    "its answer comes when the client has gone on": (
        "a>insert#1 b>insert#1 b< b>insert#2=y a< b< b>find b< a|"
    ),
    "a slow read is asked for again": "a>find b>find b< b>find b< a<",
    "the same, and the first connection ends": "a>find b>find a| b< b>find b< c>find c<",
    "and again, until it works": "a>find b>find c>find a| b| c< c>find c<",
    "a write is asked for again after an error": "a>update#4 a<91 b>update#4 b<91 c>update#4 c<",
    "cursors are killed beside anything": (
        "a>find a< a>getMore b>killCursors b< a< a>find a< b>find b<"
    ),
    "while a cursor waits for more": "a>getMore b>find b< b>insert#1 b< a< a>getMore a< b>find b<",
    "sessions are ended beside anything": "a>find b>endSessions a< a>find a<",
    "a transaction": "a>insert#1t! a< b>update#1t b< a>commitTransaction#1t a<",
    "a slow statement is given up": (
        "a>insert#1t! a< a>update#1t b>abortTransaction#1t b<251 b>insert#2t! a| b< b>find#2t b<"
    ),
    "a slow commit is asked for again": (
        "a>insert#1t! a< a>commitTransaction#1t b>commitTransaction#1t b< a< b>find b< b>find b<"
    ),
    "an abort that comes late": (
        "a>insert#1t! a< a>insert#2t! a< b>abortTransaction#1t b<251 b>find b<"
    ),
    "a transaction's first statement again, as upstream sheds load": (
        "a>insert#1t! a<462 b>insert#1t! b< b>commitTransaction#1t b<"
    ),
    "a transaction behind a write, and the other way round": (
        "a>insert#1 a< a>insert#2t! a< a>commitTransaction#2t a< a>insert#3=y a<"
    ),
    "what was given up comes late": "a>insert#2 a< b>insert#1 b<225 b| a>insert#3 a<",
    "two things on one connection, which are answered in turn": "a>find a>find a< a< a>find a<",
    "numbers begin anew in another session": "a>insert#5 a<",
}
#: What the retryable writes write.
FIELDS: dict[str, Any] = {
    "insert": {"documents": [{"_id": 1}]},
    "update": {"updates": [{"q": {}, "u": {"$inc": {"n": 1}}}]},
    "delete": {"deletes": [{"q": {}, "limit": 1}]},
    "bulkWrite": {"ops": [{"insert": 0, "document": {}}], "nsInfo": [{"ns": "app.c"}]},
    "findAndModify": {"query": {}, "update": {"$inc": {"n": 1}}},
    "findandmodify": {"query": {}, "remove": True},
}
BALANCED: dict[str, Any] = {"a": {"client": "10.0.0.1"}, "b": {"client": "10.0.0.2"}}


@pytest.mark.parametrize("steps", DRIVERS.values(), ids=DRIVERS)
def test_what_drivers_do_is_no_incident(steps: str) -> None:
    assert Sequence(**BALANCED).play(steps).kinds == []


def test_33_of_70_behind_two_nodes_of_a_balancer() -> None:
    steps = " ".join(f"{'ab'[n % 2]}>insert#{n} {'ab'[n % 2]}<" for n in range(70))
    assert Sequence(**BALANCED).play(steps).kinds == []


def test_a_retry_on_another_member_is_no_incident() -> None:
    members: dict[str, Any] = {"a": {"upstream": "one:1"}, "b": {"upstream": "two:2"}}
    for steps in ("a>find b>find a| b< b>find b<", "a>insert#1 b>insert#1 b< a| b>insert#2=y b<"):
        assert Sequence(**members).play(steps).kinds == []


#: What no driver does, and what it is called. Connection z is another application's.
MISTAKES = {
    "another process uses the session": ("a>find a< z>find z<", ["shared"]),
    "each time counts": ("a>find a< z>find z< a>find a< z>insert#1 z<", ["shared", "shared"]),
    "two reads at once, and both connections go on": (
        "a>find b>aggregate a< b< a>find a< b>find b<",
        ["concurrent"],
    ),
    "threads with one session, again and again": (
        "a>find b>find a< b< a>find b>find a< b< a>find b>find a< b<",
        ["concurrent", "concurrent"],
    ),
    "a write beside a read": ("a>find b>insert#1 b< a< a>find b>find", ["concurrent"]),
    "three at once": ("a>find b>find c>find a< b< c< a>ping b>ping c>ping", ["concurrent"] * 2),
    "Promise.all in a transaction": (
        "a>insert#1t! a< a>insert#1t b>update#1t c>delete#1t",
        ["concurrent_in_transaction"] * 2,
    ),
    "from its first statement on": ("a>insert#1t! b>insert#1t", ["concurrent_in_transaction"]),
    "a commit that does not wait for what was asked": (
        "a>insert#1t! a< a>insert#1t b>commitTransaction#1t",
        ["concurrent_in_transaction"],
    ),
    "a cursor in a transaction": (
        "a>find#1t! a< a>getMore#1t b>insert#1t",
        ["concurrent_in_transaction"],
    ),
    "two count from the same number": ("a>insert#1=x a< b>insert#1=y", ["txn_number_reused"]),
    "at the same time": ("a>insert#1=x b>insert#1=y", ["txn_number_reused"]),
    "again and again": (
        "a>insert#1=x a< b>insert#1=y b< a>insert#2=x a< b>insert#2=y b<",
        ["txn_number_reused"] * 2,
    ),
    "with another command": ("a>insert#1 a< b>delete#1", ["txn_number_reused"]),
    "findAndModify as well": (
        "a>findAndModify#1=x a< b>findAndModify#1=y",
        ["txn_number_reused"],
    ),
    "a write and a transaction": ("a>insert#1 a< b>insert#1t!", ["txn_number_reused"]),
    "a transaction and a write": ("a>insert#1t! a< b>insert#1", ["txn_number_reused"]),
    "two transactions": ("a>insert#1t! a< b>insert#1t!", ["txn_number_reused"]),
    "a number goes backwards": ("a>insert#5 a< b>insert#4 b<225 b>find", ["txn_number_backwards"]),
    "in a transaction": (
        "a>insert#5 a< b>insert#4t! b<225 b>abortTransaction#4t",
        ["txn_number_backwards"],
    ),
}


@pytest.mark.parametrize(("steps", "kinds"), MISTAKES.values(), ids=MISTAKES)
def test_what_no_driver_does_has_a_name(steps: str, kinds: list[str]) -> None:
    played = Sequence(**BALANCED, z={"application": "backup"}).play(steps)
    assert played.kinds == kinds
    assert all(played.told.reasons)


def test_the_reason_says_who_and_where() -> None:
    other = {"application": "backup", "driver": "nodejs", "version": "6.3", "client": "10.0.0.9"}
    told = Sequence(z=other).play("a>find a< z>find z<").told
    assert told.reasons == [
        "made by shop with PyMongo 4.20 at 10.0.0.1, now used by backup with nodejs 6.3 at 10.0.0.9"
    ]
    newer = {"platform": "CPython 3.12", "client": "10.0.0.2"}
    assert Sequence(z=newer).play("a>find a< z>find z<").told.reasons == [
        "made by shop on Linux x86_64 CPython 3.11 at 10.0.0.1, now used by shop on Linux x86_64"
        " CPython 3.12 at 10.0.0.2"
    ]
    assert Sequence(z={"application": ""}).play("a>find a< z>find z<").told.reasons == [
        "made by shop at 10.0.0.1, now used by no application name at 10.0.0.1"
    ]
    told = Sequence().play("a>insert#1t! a< a>insert#1t b>update#1t").told
    assert told.reasons == [
        "update came on connection 2 while insert was under way on connection 1, both in"
        " transaction 1"
    ]
    told = Sequence().play("a>find b>count a< b< a>find b>find").told
    assert told.reasons == ["count came on connection 2 while find was under way on connection 1"]


ORIGIN = Origin("10.0.0.1", "shop", "nodejs", "6.3", "Linux Node.js v20")


@pytest.mark.parametrize(
    ("changes", "one_process"),
    [
        ({}, True),
        ({"client": "2001:db8::1"}, True),
        ({"application": "backup"}, False),
        ({"application": ""}, False),
        ({"driver": "PyMongo"}, False),
        ({"driver": ""}, False),
        ({"driver_version": "6.4"}, False),
        ({"platform": "Linux Node.js v22"}, False),
        # What is built on a driver adds its name behind, and the rest may have to give way.
        ({"driver": "nodejs|mongoose", "driver_version": "6.3|8.0"}, True),
        ({"driver": "nodejs|mongoose", "driver_version": "6.3|8.0", "platform": "Linux"}, True),
        ({"driver": "nodejs|mongoose", "driver_version": "6.4|8.0"}, False),
        ({"platform": "Linux Node.js v20|more"}, True),
        ({"client": "other", "application": "other"}, True),
    ],
)
def test_what_one_process_may_say_of_itself(changes: dict[str, str], one_process: bool) -> None:
    other = ORIGIN._replace(**changes)
    assert of_one_process(ORIGIN, other) is one_process
    assert of_one_process(other, ORIGIN) is one_process


def test_users_tell_processes_apart_where_the_key_does_not() -> None:
    played = Sequence()
    for name, user in (("a", "alice"), ("b", "alice"), ("z", "bob")):
        played.connection(name).desk.identified(Identity(((user, "app"),)))
        played.play(f"{name}>find {name}<")
    assert played.kinds == ["shared"]
    assert played.told.reasons == [
        "made by alice@app, shop at 10.0.0.1, now used by bob@app, shop at 10.0.0.1"
    ]


@pytest.mark.parametrize(("authorization", "kinds"), [(False, []), (None, []), (True, ["shared"])])
def test_servers_are_left_alone_where_nobody_logs_in(
    authorization: bool | None, kinds: list[str]
) -> None:
    # With authorization, a server is who logs in as one.
    facts = UpstreamFacts(authorization=authorization, has_transactions=True, wire_version=21)
    routers = {
        name: {"driver": driver, "internalClient": {"maxWireVersion": 21}}
        for name, driver in (("a", "NetworkInterfaceTL"), ("b", "MongoDB Internal Client"))
    }
    played = Sequence(facts, **routers)
    if authorization:
        for name in routers:
            played.connection(name).desk.identified(Identity((("alice", "app"),)))
    assert played.play("a>find a< b>find b<").kinds == kinds


def test_a_refused_request_tells_all_the_same() -> None:
    rule = TxnNumber(TxnNumber.Settings())
    played = Sequence(rules=((rule, Mode.ENFORCE),), refuse_early=True)
    played.play("a>insert#5 a< b>insert#4 b>find")
    assert played.kinds == ["txn_number_backwards"]


def test_what_nobody_answers_is_looked_at_as_well() -> None:
    played = Sequence(z={"application": "backup"}).play("a>find a<")
    silent = {"insert": "c", "documents": [{}], "lsid": {"id": Binary(bytes(16), 4)}}
    played.connection("z").send(silent, flags=MORE_TO_COME)
    assert played.kinds == ["shared"]


def test_encrypted_values_may_differ_in_a_repetition() -> None:
    def insert(value: object) -> dict[str, Any]:
        lsid = {"id": Binary(bytes(16), 4)}
        return {"insert": "c", "documents": [{"v": value}], "lsid": lsid, "txnNumber": Int64(1)}

    played = Sequence()
    for name, byte in (("a", b"1"), ("b", b"2")):
        played.connection(name).send(insert(Binary(byte * 40, 6)))
    assert played.kinds == []
    assert may_be_encrypted(read_request(command(insert(Binary(b"1", 6)))))
    assert not may_be_encrypted(read_request(command(insert(Binary(b"1", 0)))))
    assert may_be_encrypted(read_request(command(insert("x" * 200_000))))


@pytest.mark.parametrize("text", ["\x05" * 99_000, "\x05a" * 49_000, "\x05" + "a" * 98_000])
def test_no_value_takes_long_to_search(text: str) -> None:
    searched = read_request(command({"insert": "c", "documents": [{"v": text}], "$db": "app"}))
    assert milliseconds(lambda: may_be_encrypted(searched), tries=2) < 30
    assert not may_be_encrypted(searched)


def test_a_repetition_may_tell_of_a_later_time() -> None:
    def find(name: str, **more: Any) -> dict[str, Any]:
        key = {"lsid": {"id": Binary(bytes(16), 4)}, "txnNumber": Int64(1)}
        return {name: "c", **more, **FIELDS.get(name, {}), **key}

    time = {"$clusterTime": {"clusterTime": Timestamp(1, 1)}}
    later = {"$clusterTime": {"clusterTime": Timestamp(1 << 30, 1 << 30), "more": 1}}
    for name in RETRYABLE_WRITES:
        for first, second in (({}, time), (time, later)):
            # Wherever a driver puts it.
            played = Sequence()
            played.connection("a").send(find(name, **first))
            played.connection("b").send({**find(name), **second})
            played.connection("c").send(find(name, **second))
            assert played.kinds == [], name


@pytest.mark.parametrize("size", [10, 5_000])
@pytest.mark.parametrize("where", [0, 1, -1])
def test_writes_in_sequences_are_told_apart(size: int, where: int) -> None:
    def insert(*texts: str) -> bytes:
        lsid = {"id": Binary(bytes(16), 4)}
        document = {"insert": "c", "lsid": lsid, "txnNumber": Int64(1), "$db": "app"}
        documents = [{"v": text} for text in texts]
        return op_msg(body(document), sequence("documents", *documents), request_id=7)

    texts = ["a" * size, "b" * size, "c" * size]
    other = list(texts)
    other[where] = other[where][:-1] + "!" if where else "!" + other[where][1:]
    same, different = Sequence(), Sequence()
    for played, second in ((same, texts), (different, other)):
        played.connection("a").conversation.on_request(insert(*texts), 1.0)
        played.connection("b").conversation.on_request(insert(*second), 1.0)
    assert same.kinds == []
    # In the middle of what is long nobody looks.
    assert different.kinds == ([] if size > 1_000 and where == 1 else ["txn_number_reused"])
