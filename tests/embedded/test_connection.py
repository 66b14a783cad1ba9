from __future__ import annotations

import bson
from hypothesis import given
from hypothesis import strategies as st

from proxy.embedded.connection import Step
from proxy.wire.replies import read_reply
from tests.build import recorded
from tests.embedded.support import NOW, Client, answer, node

#: What real clients sent, small enough to be changed all over.
REQUESTS = [frame for _, frame in recorded("request") if len(frame) < 2000]


def finish(client: Client, step: Step) -> None:
    """Follow a step to the end of its replies, waiting for nothing."""
    for _ in range(100):
        for frame in step.frames:
            read_reply(frame)
        if step.wait_until is not None:
            client.connection.gone()
            return
        if not step.more:
            return
        step = client.connection.proceed(NOW)
    client.connection.gone()


def test_what_real_clients_send_is_understood() -> None:
    client = Client(node(version="4.4"))
    for request in (frame for _, frame in recorded("request")):
        step = client.connection.receive(request, NOW)
        assert not step.close
        for frame in step.frames:
            # 8 is an error that the server did not foresee, 238 a thing it lacks.
            reply = bson.decode(read_reply(frame).body_bytes())
            assert reply.get("code") not in (8, 238)
        finish(client, step)


@given(
    st.sampled_from(REQUESTS),
    st.lists(st.tuples(st.integers(16, 2000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_nothing_that_comes_raises(request: bytes, changes: list[tuple[int, int]]) -> None:
    frame = bytearray(request)
    for position, value in changes:
        if position < len(frame):
            frame[position] = value
    client = Client(node())
    finish(client, client.connection.receive(bytes(frame), NOW))


@given(st.binary(max_size=200), st.sampled_from([2001, 2002, 2004, 2005, 2006, 2007, 2012, 2013]))
def test_nor_does_garbage(payload: bytes, opcode: int) -> None:
    header = (len(payload) + 16).to_bytes(4, "little") + bytes(8) + opcode.to_bytes(4, "little")
    client = Client(node())
    finish(client, client.connection.receive(header + payload, NOW))


def test_connections_are_numbered_and_counted() -> None:
    server = node()
    first, second = Client(server), Client(server)
    ids = [client.run("hello")["connectionId"] for client in (first, second)]
    assert ids == [1, 2]
    assert server.connections == 2
    second.connection.close()
    assert server.connections == 1


def test_requests_are_answered_in_their_own_connection() -> None:
    server = node()
    waiting, busy = Client(server), Client(server)
    assert waiting.step({"sleep": 1, "secs": 1, "$db": "admin"}).wait_until == NOW + 1
    assert busy.run("ping")["ok"] == 1.0
    assert answer(waiting.connection.resume(NOW + 1))["ok"] == 1.0
