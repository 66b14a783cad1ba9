"""Byte streams over real sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.addresses import Address
from proxy.net import readiness
from proxy.net.transport import (
    BULK_SIZE,
    RECEIVE_SIZE,
    PeerGoneError,
    SocketTransport,
    Transport,
    open_socket,
    set_options,
)
from tests.patience import until


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    one.settimeout(30)
    other.settimeout(30)
    with one, other:
        yield one, other


@pytest.fixture
async def pair() -> AsyncIterator[tuple[SocketTransport, SocketTransport]]:
    with tcp_pair() as (one, other):
        yield SocketTransport(one), SocketTransport(other)


async def everything(transport: Transport) -> bytes:
    got = b""
    while data := await transport.receive():
        assert len(data) <= RECEIVE_SIZE
        got += data
    return got


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ------------------------------------------------------------------ plain


async def test_bytes_and_their_end(pair, nursery):
    one, other = pair
    data = bytes(range(256)) * 40_000  # more than the kernel takes at once
    nursery.start_soon(one.send, data)
    got = b""
    while len(got) < len(data):
        got += await other.receive()
    assert got == data
    one.send_eof()
    assert await other.receive() == b""
    await other.send(b"still open this way")
    assert await one.receive() == b"still open this way"


async def test_a_send_that_the_kernel_takes_does_not_yield(pair):
    one, _ = pair
    with trio.CancelScope() as scope:
        scope.cancel()
        await one.send(b"x")
        assert not scope.cancelled_caught


async def test_sending_waits_for_a_reader(pair, nursery):
    one, other = pair
    done = trio.Event()

    async def send() -> None:
        await one.send(bytes(20_000_000))
        done.set()

    nursery.start_soon(send)
    await wait_all_tasks_blocked()
    assert not done.is_set()
    got = 0
    while got < 20_000_000:
        got += len(await other.receive())
    await done.wait()


async def test_a_reset_is_told_and_not_raised_as_something_else():
    with tcp_pair() as (one, other):
        transport = SocketTransport(one)
        reset(other)
        with pytest.raises(PeerGoneError, match="reset"):
            await transport.receive()
    with tcp_pair() as (one, other):
        transport = SocketTransport(one)
        reset(other)
        with pytest.raises(PeerGoneError, match="reset"):
            await transport.each(bool, bool)
    with tcp_pair() as (one, other):
        transport = SocketTransport(one)
        reset(other)
        await trio.lowlevel.wait_readable(one)
        with pytest.raises(PeerGoneError):
            await transport.send(bytes(20_000_000))
        transport.send_eof()


async def test_a_reset_is_noticed_while_sending(nursery):
    with tcp_pair() as (one, other):
        transport = SocketTransport(one)
        problems = []

        async def send() -> None:
            try:
                await transport.send(bytes(20_000_000))
            except PeerGoneError as error:
                problems.append(str(error))

        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            await wait_all_tasks_blocked()
            reset(other)
        assert len(problems) == 1


@pytest.mark.parametrize(
    "doing",
    [lambda t: t.receive(), lambda t: t.each(bool, bool), lambda t: t.send(bytes(20_000_000))],
)
async def test_closing_wakes_who_waits(pair, doing):
    one, _ = pair
    problems = []

    async def work() -> None:
        try:
            await doing(one)
        except PeerGoneError as error:
            problems.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        one.close()
        one.close()
    assert len(problems) == 1
    with pytest.raises(PeerGoneError):
        await one.send(b"x")
    with pytest.raises(PeerGoneError):
        await one.receive()
    with pytest.raises(PeerGoneError):
        await one.each(bool, bool)
    one.send_eof()


async def test_what_arrives_is_handed_over_until_something_has_to_be_waited_for(pair):
    one, other = pair
    got = []

    async def hear() -> None:
        outcomes.append(await other.each(got.append, lambda: got[-1] != b"wait"))

    outcomes: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        for number, data in enumerate((b"one", b"two", b"wait"), 1):
            assert outcomes == []
            assert one.send_now(data) == len(data)
            await until(lambda number=number: len(got) == number)
    assert (got, outcomes) == ([b"one", b"two", b"wait"], [True])
    one.send_now(b"three")
    one.send_eof()
    assert await other.each(got.append, lambda: True) is False
    assert got[3:] == [b"three"]


async def test_small_pieces_are_settled_together_and_large_ones_at_once(nursery):
    # Nor does a turn end early where this process has to wait for a processor.
    readiness.current().slice = 3600.0
    happened: list[str] = []
    with contextlib.ExitStack() as stack:
        # What is sent is there at once, which over TCP it may not be.
        pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(3)]
        for number, (_, other) in enumerate(pairs):
            nursery.start_soon(
                SocketTransport(other).each,
                lambda data, number=number: happened.append(f"take {number}: {len(data)}"),
                lambda number=number: happened.append(f"settle {number}") is None,
            )
        await wait_all_tasks_blocked()
        for (one, _), size in zip(pairs, (1, RECEIVE_SIZE, 2), strict=True):
            one.sendall(bytes(size))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
    assert happened == [
        "take 0: 1",
        f"take 1: {RECEIVE_SIZE}",
        "settle 1",
        "take 2: 2",
        "settle 0",
        "settle 2",
    ]


@pytest.mark.parametrize("late", [False, True])
async def test_what_goes_wrong_with_what_arrives_is_raised_where_it_is_waited_for(pair, late):
    one, other = pair

    def fail(*_: bytes) -> bool:
        raise ValueError("wrong")

    one.send_now(b"x")
    with pytest.raises(ValueError, match="wrong"):
        await (other.each(bool, fail) if late else other.each(fail, bool))
    one.send_now(b"y")
    assert await other.receive() == b"y"


async def test_a_transport_that_is_closed_by_what_arrives(pair):
    one, other = pair
    settled = []
    one.send_now(b"x")
    with pytest.raises(PeerGoneError, match="closed"):
        await other.each(lambda _: other.close(), lambda: settled.append(1) or True)
    assert settled == []


async def test_a_wait_that_is_cancelled_by_what_arrives(pair):
    one, other = pair
    settled = []
    with trio.CancelScope() as scope:
        one.send_now(b"x")
        await other.each(lambda _: scope.cancel(), lambda: settled.append(1) or True)
    assert settled == []
    assert scope.cancelled_caught
    one.send_now(b"y")
    assert await other.receive() == b"y"


async def test_as_much_is_sent_as_needs_no_waiting(pair):
    one, other = pair
    data = bytes(20_000_000)
    sent = one.send_now(data)
    assert 0 < sent < len(data)
    while taken := one.send_now(data):
        sent += taken
    got = 0
    while got < sent:
        got += len(await other.receive())


class Scripted(socket.socket):
    """Has these many bytes to read each time, once there are any."""

    def __init__(self, fileno: int, there: list[int]) -> None:
        super().__init__(fileno=fileno)
        self.there = there
        self.asked: list[int] = []

    def recv(self, size: int) -> bytes:
        self.asked.append(size)
        return bytes(min(size, self.there[len(self.asked) - 1]))


FULL = 1 << 30


@pytest.mark.parametrize(
    ("waiting", "there", "sizes"),
    [
        (0, [FULL] * 3, [RECEIVE_SIZE, BULK_SIZE, BULK_SIZE]),
        (FULL, [FULL] * 3, [RECEIVE_SIZE, RECEIVE_SIZE, RECEIVE_SIZE]),
        (0, [RECEIVE_SIZE - 1] * 2, [RECEIVE_SIZE, RECEIVE_SIZE]),
        (0, [FULL, 40_000, FULL], [RECEIVE_SIZE, BULK_SIZE, BULK_SIZE]),
        (0, [FULL, 400, FULL], [RECEIVE_SIZE, BULK_SIZE, RECEIVE_SIZE]),
    ],
)
async def test_reads_are_large_where_much_came_unless_much_is_waiting_already(
    waiting, there, sizes
):
    near, far = socket.socketpair()
    with Scripted(near.detach(), there) as sock, far:
        far.send(b"x")
        readiness.current().waiting = waiting
        taken: list[int] = []
        transport = SocketTransport(sock)
        assert await transport.each(
            lambda data: taken.append(len(data)), lambda: len(taken) < len(there)
        )
        assert sock.asked == sizes
        assert taken == [min(pair) for pair in zip(there, sizes, strict=True)]


async def test_what_senders_hold_is_counted_until_they_are_rid_of_it(pair, nursery):
    one, other = pair
    watching = readiness.current()
    nursery.start_soon(one.send, bytes(20_000_000))
    await wait_all_tasks_blocked()
    assert 0 < watching.waiting < 20_000_000
    got = 0
    while got < 20_000_000:
        got += len(await other.receive())
    await wait_all_tasks_blocked()
    assert watching.waiting == 0
    async with trio.open_nursery() as sending:
        sending.start_soon(one.send, bytes(20_000_000))
        await wait_all_tasks_blocked()
        assert watching.waiting > 0
        sending.cancel_scope.cancel()
    assert watching.waiting == 0


def test_options():
    with tcp_pair() as (one, _):
        set_options(one)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120
    left, right = socket.socketpair()
    with left, right:
        set_options(left)


# ------------------------------------------------------------------ connecting


async def test_connecting_over_tcp():
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = await open_socket(Address("127.0.0.1", server.getsockname()[1]))
        with sock:
            peer, _ = server.accept()
            with peer:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                await SocketTransport(sock).send(b"hello")
                assert peer.recv(10) == b"hello"


async def test_connecting_over_a_unix_socket(tmp_path):
    path = str(tmp_path / "mongo.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with await open_socket(Address("", 0, path)) as sock:
            assert sock.family == socket.AF_UNIX


async def test_nobody_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PeerGoneError, match=rf"^127\.0\.0\.1:{port}: Connection refused$"):
        await open_socket(Address("127.0.0.1", port))
    with pytest.raises(PeerGoneError, match="No such file"):
        await open_socket(Address("", 0, str(tmp_path / "nothing.sock")))


#: Names that no resolver is ever asked for.
IMPOSSIBLE = ("a..b", "..", "a" * 64, "\u2024", "\ud800")


@pytest.mark.parametrize("host", IMPOSSIBLE)
async def test_a_name_that_none_can_be_is_nobody(host):
    with pytest.raises(PeerGoneError):
        await open_socket(Address(host, 27017))
