from __future__ import annotations

from functools import partial
from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.session import bsonout
from proxy.session.ids import LogicalSessionId, OwnedKeys
from proxy.wire.messages import read_request
from tests.build import command
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


def _lsids(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": Binary(number.to_bytes(16, "big"), 4)} for number in numbers]


@pytest.mark.parametrize(
    ("document", "with_lsid", "same"),
    [
        ({"endSessions": _lsids(1, 2), "$db": "admin"}, True, True),
        ({"endSessions": _lsids(*range(10)), "x": 1, "$db": "admin"}, True, True),
        ({"endSessions": _lsids(1), "lsid": _lsids(1)[0], "$db": "admin"}, True, True),
        ({"endSessions": _lsids(1), "lsid": _lsids(1)[0], "$db": "admin"}, False, False),
        ({"endSessions": _lsids(1), "txnNumber": Int64(1), "$db": "admin"}, True, False),
        ({"endSessions": _lsids(1), "stmtId": 1, "$db": "admin"}, True, False),
        # One twice, and more than are looked at.
        ({"endSessions": _lsids(1, 1), "$db": "admin"}, True, False),
        ({"endSessions": _lsids(*range(11)), "$db": "admin"}, True, False),
    ],
)
def test_a_command_goes_as_it_came_where_the_same_would_be_made_of_it(document, with_lsid, same):
    request = read_request(command(document, 1))
    keys = OwnedKeys([one["id"] for one in document["endSessions"]], b"u" * 32)
    made = bsonout.as_it_came(request, keys, with_lsid=with_lsid)
    assert (made is not None) is same
    rest = bsonout.carried(request, same_command=True, with_lsid=with_lsid)
    forms = partial(bsonout.sessions, own=b"u" * 32)
    [anew] = bsonout.Batches("endSessions", keys, forms, rest)
    if made is not None:
        assert bson.decode(made) == bson.decode(anew)
