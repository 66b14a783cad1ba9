"""What may be in flight beside what, in one process and in several."""

from __future__ import annotations

import pytest

from proxy.session.beside import BESIDE, Use, beside, in_words
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Attempt, InFlight, Operation
from proxy.session.transactions import Step
from tests.session.fleet import Fleet
from tests.session.sessions import ALICE, uuid

FIND, COUNT, MORE = Use("find"), Use("count"), Use("getMore")
WRITE, NEXT = Use("insert", 1), Use("insert", 2)
STATEMENT, OTHERS = Use("insert", 1, True), Use("update", 2, True)
MORE_THERE = Use("getMore", 1, True)
COMMIT = Use("commitTransaction", 1, True)
CHILD = Use("insert", 1, True, b"child")


@pytest.mark.parametrize(
    ("later", "earlier", "kind"),
    [
        (FIND, FIND, "concurrent"),
        (FIND, COUNT, "concurrent"),
        (FIND, WRITE, "concurrent"),
        (WRITE, WRITE, ""),
        (NEXT, WRITE, "concurrent"),
        (FIND, MORE, ""),
        (MORE, FIND, ""),
        (MORE, MORE, ""),
        (STATEMENT, STATEMENT, "concurrent_in_transaction"),
        (MORE_THERE, STATEMENT, "concurrent_in_transaction"),
        (COMMIT, STATEMENT, "concurrent_in_transaction"),
        (COMMIT, COMMIT, ""),
        (OTHERS, STATEMENT, "concurrent"),
        (FIND, STATEMENT, "concurrent"),
        (CHILD, STATEMENT, ""),
        *((Use(command, 1, True), STATEMENT, "") for command in sorted(BESIDE)),
        *((STATEMENT, Use(command), "") for command in sorted(BESIDE)),
    ],
)
def test_what_drivers_have_in_flight_at_once(later: Use, earlier: Use, kind: str) -> None:
    assert beside(later, earlier) == kind


KEY = LogicalSessionId(uuid(1), ALICE)
SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


def begun(fleet: Fleet, process: int, connection: int, now: float, use: Use = FIND) -> Operation:
    one = fleet.stores[process].operation_started(
        KEY, now, origin=SHOP, connection=connection, request_id=connection, command=use.command
    )
    assert one is not None
    if use.number is not None:
        info = OperationSessionInfo(KEY, use.number, False if use.in_transaction else None)
        one.attempt = Attempt(Step.WRITE, info, None)
    return one


def test_the_hub_finds_what_two_processes_have_in_flight() -> None:
    fleet = Fleet()
    begun(fleet, 0, 1, 1.0)
    fleet.talk()
    begun(fleet, 1, 2, 2.0, COUNT)
    fleet.talk()
    key, place = (KEY.id, KEY.uid), InFlight(1, 1)
    reason = in_words("concurrent", COUNT, 2, FIND, 1)
    assert fleet.hub.met == [(key, place, "concurrent", reason, "count")]
    assert reason == "count came on connection 2 while find was under way on connection 1"
    # Once is enough; and a third process is beside both.
    fleet.hub.met.clear()
    fleet.stores[1]._mark(fleet.stores[1].get(KEY))  # type: ignore[arg-type]
    fleet.talk()
    assert fleet.hub.met == []
    begun(fleet, 2, 3, 3.0)
    fleet.talk()
    assert [met[1] for met in fleet.hub.met] == [InFlight(1, 1), InFlight(2, 2)]


@pytest.mark.parametrize("heard_first", [0, 1])
def test_the_earlier_one_is_told_whoever_is_heard_first(heard_first: int) -> None:
    fleet = Fleet()
    begun(fleet, 0, 1, 1.0)
    begun(fleet, 1, 2, 2.0)
    for process in (heard_first, 1 - heard_first):
        fleet.tell(process, fleet.stores[process].news())
    assert [met[1] for met in fleet.hub.met] == [InFlight(1, 1)]


def test_a_repetition_in_another_process_is_none_and_statements_are() -> None:
    for use, found in ((WRITE, []), (STATEMENT, ["concurrent_in_transaction"])):
        fleet = Fleet()
        begun(fleet, 0, 1, 1.0, use)
        fleet.talk()
        begun(fleet, 1, 2, 2.0, use)
        fleet.talk()
        assert [met[2] for met in fleet.hub.met] == found


def test_what_is_over_is_beside_nothing() -> None:
    fleet = Fleet()
    one = begun(fleet, 0, 1, 1.0)
    fleet.talk()
    fleet.stores[0].operation_finished(one, 1.5)
    fleet.talk()
    begun(fleet, 1, 2, 2.0)
    fleet.talk()
    assert fleet.hub.met == []
