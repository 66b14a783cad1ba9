"""The listeners that a worker is given."""

from __future__ import annotations

import socket

import trio

from proxy.addresses import Address
from proxy.process.worker_cluster import GivenListeners
from proxy.settings.listen import Listen
from proxy.upstream.topology import Topology
from tests.running import in_time

ONE, TWO = Address("one", 27017), Address("two", 27017)


@in_time
async def test_a_port_that_is_passed_on_stands_for_nobody_else_from_then_on(nursery):
    taken: list[Address] = []
    listeners = GivenListeners(
        Topology((ONE, TWO)),
        Listen(address="127.0.0.1:0"),
        lambda listener, sock, _peer: (taken.append(listener.upstream), sock.close()),
        lambda _error: None,
    )
    await listeners.open_seeds((ONE,), nursery)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        where = sock.getsockname()
        address = Address(*where)
        for upstream in (ONE, TWO):
            listeners.given(upstream, address, [sock.dup()])
            await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 5):
            async with await trio.open_tcp_stream(*where) as stream:
                await stream.receive_some()
            assert taken == [TWO] * number
        listeners.gone(ONE)  # which its supervisor tells a moment later
        assert list(listeners._open) == [TWO]
        listeners.close()
