"""The sending end of one side: what two pumps give to it leaves in order."""

from __future__ import annotations

import pytest
from trio.testing import wait_all_tasks_blocked

from proxy.net.gone import PeerGoneError
from proxy.net.outlet import Outlet
from tests.fakes import FakeTransport


async def test_what_needs_no_waiting_is_pushed():
    transport = FakeTransport()
    queue = [b"one", b"two"]
    outlet = Outlet(transport, queue)
    assert outlet.push()
    assert transport.take() == b"onetwo"
    assert (outlet.sent, queue) == (6, [])
    assert outlet.push()
    assert transport.take() == b""


async def test_the_rest_of_what_was_pushed_goes_before_everything_else(nursery):
    transport = FakeTransport(room=4)
    queue = [b"one", b"two"]
    outlet = Outlet(transport, queue)
    assert not outlet.push()
    queue.append(b"three")
    transport.make_room(None)
    assert not outlet.push(), "the rest has to be flushed"
    await outlet.flush()
    assert transport.take() == b"onetwothree"
    assert outlet.sent == 11
    assert outlet.push()


async def test_nothing_is_pushed_past_who_is_sending(nursery):
    transport = FakeTransport(room=0)
    queue = [b"one"]
    outlet = Outlet(transport, queue)
    nursery.start_soon(outlet.flush)
    await wait_all_tasks_blocked()
    queue.append(b"two")
    assert not outlet.push()
    transport.make_room(None)
    await wait_all_tasks_blocked()
    assert transport.take() == b"onetwo"


async def test_both_pumps_keep_the_order_of_decisions(nursery):
    transport = FakeTransport(room=0)
    queue: list[bytes] = [b"one"]
    outlet = Outlet(transport, queue)
    nursery.start_soon(outlet.flush)
    await wait_all_tasks_blocked()
    for data in (b"two", b"three"):
        queue.append(data)
        nursery.start_soon(outlet.flush)
        await wait_all_tasks_blocked()
    transport.make_room(None)
    await wait_all_tasks_blocked()
    assert transport.take() == b"onetwothree"
    assert outlet.sent == 11
    assert queue == []


async def test_a_sender_that_fails_does_not_block_the_other(nursery):
    transport = FakeTransport(room=0)
    queue: list[bytes] = [b"one"]
    outlet = Outlet(transport, queue)
    failures = []

    async def flush() -> None:
        try:
            await outlet.flush()
        except PeerGoneError as error:
            failures.append(str(error))

    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    queue.append(b"two")
    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    transport.reset("gone")
    await wait_all_tasks_blocked()
    assert failures == ["gone", "gone"]


async def test_a_peer_that_is_gone_is_sent_nothing_and_keeps_nobody_waiting(nursery):
    transport = FakeTransport(room=1)
    queue = [b"one"]
    outlet = Outlet(transport, queue)
    assert not outlet.push()
    outlet.drop()
    assert transport.closed
    for _ in range(2):
        queue.append(b"more")
        assert outlet.push()
        queue.append(b"more")
        await outlet.flush()
        assert queue == []
    assert transport.take() == b"o"


async def test_a_push_to_a_broken_peer_says_so():
    transport = FakeTransport()
    outlet = Outlet(transport, [b"one"])
    transport.reset("gone")
    with pytest.raises(PeerGoneError, match="gone"):
        outlet.push()
