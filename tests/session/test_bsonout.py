from __future__ import annotations

import bson
from bson import Binary, Int64

from proxy.session import bsonout
from proxy.session.ids import LogicalSessionId
from tests.session.sessions import ALICE, BOB, request, uuid

KEY = LogicalSessionId(uuid(2), BOB)
ID = Binary(uuid(2), 4)


def test_elements() -> None:
    made = bsonout.document(
        bsonout.text("a", "é"),
        bsonout.number("b", -1),
        bsonout.nested("c", bsonout.document()),
        bsonout.array("d", [bsonout.of_owner(ALICE), bsonout.exact(KEY)]),
        bsonout.longs("e", [1, -1]),
    )
    assert bson.decode(made) == {
        "a": "é",
        "b": -1,
        "c": {},
        "d": [{"uid": ALICE}, {"lsid": {"id": ID, "uid": BOB}}],
        "e": [Int64(1), Int64(-1)],
    }


def test_bytes_that_are_not_utf8_go_through() -> None:
    assert b"\x02\0\0\0\xff\0" in bsonout.text("a", "\udcff")


def test_a_uid_is_named_only_where_it_is_not_the_senders() -> None:
    assert bson.decode(bsonout.session(KEY, BOB)) == {"id": ID}
    assert bson.decode(bsonout.session(KEY, ALICE)) == {"id": ID, "uid": BOB}
    assert bson.decode(bsonout.session(KEY, None)) == {"id": ID, "uid": BOB}


def test_many_are_named_as_one_is() -> None:
    keys = [KEY, LogicalSessionId(uuid(3), ALICE)]
    for own in (ALICE, BOB, None):
        assert bsonout.sessions(keys, own) == [bsonout.session(key, own) for key in keys]


def test_what_goes_along() -> None:
    fields = {"lsid": {"id": ID}, "txnNumber": Int64(1), "stmtIds": [], "maxTimeMS": 5, "x": 1}
    one = request({"killSessions": [], **fields}, "app")

    def carried(same_command: bool, with_lsid: bool) -> list[str]:
        parts = bsonout.carried(one, same_command=same_command, with_lsid=with_lsid)
        return list(bson.decode(bsonout.document(*parts)))

    assert carried(True, False) == ["maxTimeMS", "x", "$db"]
    assert carried(False, False) == ["maxTimeMS", "$db"]
    assert carried(True, True) == ["lsid", "maxTimeMS", "x", "$db"]
    assert carried(False, True) == ["lsid", "maxTimeMS", "$db"]


def test_batches() -> None:
    one = bsonout.document()
    sizes = {0: [0], 1: [1], bsonout.BATCH: [bsonout.BATCH], bsonout.BATCH + 1: [bsonout.BATCH, 1]}
    for count, expected in sizes.items():
        made = bsonout.Batches("a", [one] * count, list, [bsonout.text("$db", "x")])
        assert len(made) == len(expected)
        decoded = [bson.decode(command) for command in made]
        assert [len(command["a"]) for command in decoded] == expected
        assert all(command["$db"] == "x" for command in decoded)
