"""What happens to sessions though nobody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson
import trio
from bson import Int64

from policies.transaction_guard import TransactionGuard
from proxy.addresses import Address
from proxy.conversation.desk import Sessions
from proxy.conversation.rule import Mode, Rules
from proxy.process.housekeeping import keep_house
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.transactions import Outcome, State, Step
from proxy.upstream.facts import Upstreams
from proxy.wire.replies import Reply, read_reply
from tests.build import reply
from tests.talk import UPSTREAM, Watching

ALICE = user_digest("alice", "app")


def key(number: int) -> LogicalSessionId:
    return LogicalSessionId(bytes(14) + number.to_bytes(2, "big"), ALICE)


class House:
    """Sessions, and connections that can be asked for their owners."""

    def __init__(self, **settings: Any) -> None:
        self.recorder = Watching()
        guard = TransactionGuard(TransactionGuard.Settings(**settings))
        self.sessions = Sessions(Rules([(guard, Mode.ENFORCE)]), self.recorder)
        self.upstreams = Upstreams()
        self.owners = {ALICE}
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"ok": 1.0}

    def find_idle(self, upstream: str, uid: bytes) -> House | None:
        assert upstream == UPSTREAM
        return self if uid in self.owners else None

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        self.asked.append(bson.decode(question))
        handler(read_reply(reply(self.answer, 1)), trio.current_time())

    def open_transaction(self, number: int) -> None:
        store = self.sessions.store
        session = store.use(key(number), trio.current_time(), "alice@app")
        assert session is not None
        info = OperationSessionInfo(key(number), 5, False, True)
        store.transaction_step(
            session, Step.START, Outcome.OK, info, trio.current_time(), UPSTREAM, 1
        )

    def state(self, number: int) -> State:
        session = self.sessions.store.get(key(number))
        assert session is not None
        return session.state


def keeping(house: House, nursery: trio.Nursery) -> House:
    nursery.start_soon(keep_house, house.sessions, house.upstreams, house.find_idle)
    return house


async def test_sessions_are_forgotten_half_an_hour_after_their_last_use(nursery, autojump_clock):
    house = keeping(House(), nursery)
    store = house.sessions.store
    for number in range(2_000):
        store.use(key(number), trio.current_time())
    await trio.sleep(29 * 60)
    store.use(key(7), trio.current_time())
    assert len(store) == 2_000
    await trio.sleep(3 * 60)
    assert len(store) == 1


async def test_upstreams_own_time_is_followed(nursery, autojump_clock):
    house = keeping(House(), nursery)
    house.upstreams.hello(Address("a", 1), {"logicalSessionTimeoutMinutes": 2})
    await trio.sleep(2)
    house.sessions.store.use(key(1), trio.current_time())
    await trio.sleep(119)
    assert len(house.sessions.store) == 1
    await trio.sleep(4)
    assert len(house.sessions.store) == 0


async def test_late_transactions_are_aborted_as_their_owner(nursery, autojump_clock):
    house = keeping(House(total_seconds=60), nursery)
    house.open_transaction(1)
    await trio.sleep(55)
    assert house.asked == []
    await trio.sleep(10)
    [command] = house.asked
    assert command["abortTransaction"] == 1
    assert command["txnNumber"] == Int64(5)
    assert command["autocommit"] is False
    assert bytes(command["lsid"]["id"]) == key(1).id
    assert house.state(1) is State.ABORTED
    assert house.recorder.only("aborted") == [(5, True)]
    await trio.sleep(100)
    assert len(house.asked) == 1


async def test_what_was_gone_already_is_aborted_too(nursery, autojump_clock):
    house = keeping(House(total_seconds=60), nursery)
    house.answer = {"ok": 0.0, "code": 251}
    house.open_transaction(1)
    await trio.sleep(65)
    assert house.state(1) is State.ABORTED
    assert house.recorder.only("aborted") == [(5, False)]


async def test_without_a_connection_of_the_owners_it_is_tried_again_later(nursery, autojump_clock):
    house = keeping(House(idle_seconds=60), nursery)
    house.owners.clear()
    house.open_transaction(1)
    await trio.sleep(100)
    assert house.state(1) is State.IN_PROGRESS
    house.owners.add(ALICE)
    await trio.sleep(2)
    assert house.state(1) is State.ABORTED


async def test_a_failure_is_tried_again(nursery, autojump_clock):
    house = keeping(House(total_seconds=60), nursery)
    house.answer = {"ok": 0.0, "code": 6}
    house.open_transaction(1)
    await trio.sleep(70)
    assert house.state(1) is State.IN_PROGRESS
    assert len(house.asked) > 1
    house.answer = {"ok": 1.0}
    await trio.sleep(2)
    assert house.state(1) is State.ABORTED


async def test_without_the_rule_nothing_is_aborted(nursery, autojump_clock):
    house = keeping(House(), nursery)
    house.open_transaction(1)
    await trio.sleep(1_000)
    assert house.state(1) is State.IN_PROGRESS
