"""What happens to sessions though nobody asks."""

from __future__ import annotations

import trio

from proxy.addresses import Address
from proxy.conversation.rule import Rules
from proxy.conversation.sharing import Sessions
from proxy.process.housekeeping import keep_house
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.upstream.facts import Upstreams
from tests.talk import Watching

ALICE = user_digest("alice", "app")


def key(number: int) -> LogicalSessionId:
    return LogicalSessionId(bytes(14) + number.to_bytes(2, "big"), ALICE)


class House:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.sessions = Sessions(Rules([]), Watching())
        self.upstreams = Upstreams()
        nursery.start_soon(keep_house, self.sessions, self.upstreams)


async def test_sessions_are_forgotten_half_an_hour_after_their_last_use(nursery, autojump_clock):
    store = House(nursery).sessions.store
    for number in range(2_000):
        store.use(key(number), trio.current_time())
    await trio.sleep(29 * 60)
    store.use(key(7), trio.current_time())
    assert len(store) == 2_000
    await trio.sleep(3 * 60)
    assert len(store) == 1


async def test_upstreams_own_time_is_followed(nursery, autojump_clock):
    house = House(nursery)
    house.upstreams.hello(Address("a", 1), {"logicalSessionTimeoutMinutes": 2})
    await trio.sleep(2)
    house.sessions.store.use(key(1), trio.current_time())
    await trio.sleep(119)
    assert len(house.sessions.store) == 1
    await trio.sleep(4)
    assert len(house.sessions.store) == 0


async def test_what_was_left_out_is_said_when_its_time_is_over(nursery, autojump_clock):
    looks: list[float] = []

    class Log:
        def look(self, now: float) -> None:
            looks.append(now)

    nursery.start_soon(keep_house, Sessions(Rules([]), Watching()), Upstreams(), Log())
    await trio.sleep(2.5)
    assert len(looks) == 2
