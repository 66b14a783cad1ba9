"""Two ends of a channel, in one process."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from proxy.process import channel
from proxy.process.channel import AnswerError, Channel, ChannelClosedError


@asynccontextmanager
async def two(
    here: dict[str, Any] | None = None, there: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Channel, Channel]]:
    one, sock = Channel.pair()
    other = Channel(sock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, here or {})
        nursery.start_soon(other.run, there or {})
        yield one, other
        one.close()


async def test_questions_are_answered() -> None:
    async def later(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return -number

    async with two(there={"double": lambda number: 2 * number, "later": later}) as (here, _):
        assert await here.ask("double", 21) == 42
        assert await here.ask("later", 1) == -1


async def test_what_one_of_another_version_says_is_reported_once_and_no_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours, sock = Channel.pair(renewed=True)
    theirs = Channel(sock)
    told: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {"hear": lambda number: told.append(number)})
        nursery.start_soon(theirs.run, {})
        for _ in range(3):
            theirs.tell("hear", 1, "and what came with the next version")
            with pytest.raises(AnswerError, match="KeyError"):
                await theirs.ask("a new question")
        frame = b"a message of a class that is not here"
        theirs._out.append((memoryview(channel._HEAD.pack(len(frame), 0) + frame), []))
        theirs.tell("hear", 2)
        assert await theirs.ask("hear", 3) is None
        ours.close()
    assert told == [2, 3]
    said = "".join(capsys.readouterr())
    assert said.count("not understood") == said.count("SIGUSR2") == 1
    assert "Traceback" not in said


async def test_both_ends_ask_at_the_same_time() -> None:
    answers: list[Any] = []

    async def ask(end: Channel, whom: str) -> None:
        for number in range(50):
            assert await end.ask("who", number) == (whom, number)
            answers.append((whom, number))

    def who(name: str) -> dict[str, Any]:
        return {"who": lambda number: (name, number)}

    async with two(who("one"), who("other")) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(ask, one, "other")
        nursery.start_soon(ask, other, "one")
    assert sorted(answers) == sorted((who, n) for who in ("one", "other") for n in range(50))


async def test_what_is_told_arrives_in_order() -> None:
    heard: list[int] = []
    async with two(there={"number": heard.append, "all": lambda: None}) as (here, _):
        for number in range(1_000):
            here.tell("number", number)
        await here.ask("all")
    assert heard == list(range(1_000))


async def test_a_question_that_takes_long_holds_up_no_other() -> None:
    never = trio.Event()
    async with two(there={"slow": never.wait, "quick": lambda: 1}) as (here, _):
        with trio.move_on_after(0):
            await here.ask("slow")
        assert await here.ask("quick") == 1


async def test_large_messages() -> None:
    text = os.urandom(8_000_000)
    async with two(there={"echo": lambda what: what}) as (here, _):
        assert await here.ask("echo", text) == text


async def test_sockets_go_along() -> None:
    received: list[tuple[str, list[socket.socket]]] = []
    ready = trio.Event()

    def take(name: str, sockets: list[socket.socket]) -> None:
        received.append((name, sockets))
        if len(received) == 3:
            ready.set()

    made = [socket.socketpair() for _ in range(6)]
    async with two(there={"take": take}) as (here, _):
        for number in range(3):
            pairs = made[2 * number : 2 * number + 2]
            here.tell("take", f"{number}", sockets=[pair[0] for pair in pairs])
            for pair in pairs:
                pair[0].close()  # what was sent is its duplicate
        await ready.wait()
    assert [name for name, _ in received] == ["0", "1", "2"]
    for pair, arrived in zip(made, [one for _, some in received for one in some], strict=True):
        arrived.sendall(b"hello")
        assert pair[1].recv(10) == b"hello"
        arrived.close()
        pair[1].close()


@pytest.mark.parametrize("room", [0, 1])
async def test_sockets_that_there_were_no_descriptors_for_are_asked_for_again(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does where a process can have no more: it drops those, and says so."""
    taken: list[tuple[str, int]] = []
    lost: list[Any] = []
    gone = trio.Event()
    real = channel._receive
    full = True

    def receive(sock: socket.socket) -> tuple[bytes, list[int] | None]:
        data, files = real(sock)
        if files is not None and full:
            for file in files[room:]:
                os.close(file)
            del files[room:]
        return data, files

    def take(name: str, sockets: list[socket.socket]) -> None:
        taken.append((name, len(sockets)))
        for sock in sockets:
            sock.close()

    def note(what: str, arguments: Any) -> None:
        lost.append((what, arguments))
        gone.set()

    monkeypatch.setattr(channel, "_receive", receive)
    pair = socket.socketpair()
    handlers = {"take": take, "all": lambda: None}
    async with two(here={"lost": note}, there=handlers) as (here, _):
        before = len(os.listdir("/proc/self/fd"))
        here.tell("take", "first", sockets=pair)
        await gone.wait()
        assert lost == [("take", ("first",))]
        full = False
        here.tell("take", "second", sockets=pair[:1])
        await here.ask("all")
        assert len(os.listdir("/proc/self/fd")) == before
    assert taken == [("second", 1)]
    for sock in pair:
        sock.close()


def test_the_kernel_says_what_was_lost() -> None:
    """In a process of its own, which can have so many descriptors and no more."""
    program = (
        "import array, os, resource, socket\n"
        "from proxy.process import channel\n"
        "one, other = socket.socketpair()\n"
        "rights = array.array('i', [one.fileno()] * 3)\n"
        "one.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n"
        "one.sendmsg([b'y'])\n"
        "highest = max(one.fileno(), other.fileno())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1,) * 2)\n"
        "for some in range(2): print(channel._receive(other))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines() == ["(b'x', [])", "(b'y', None)"]


async def test_a_handler_that_raises_is_whoever_asked_s_to_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise ValueError("not here")

    async with two(there={"fail": fail, "fine": lambda: 1}) as (here, _):
        with pytest.raises(AnswerError, match="ValueError: not here"):
            await here.ask("fail")
        with pytest.raises(AnswerError, match="KeyError"):
            await here.ask("nothing")
        here.tell("fail")
        assert await here.ask("fine") == 1


async def test_nobody_waits_for_a_side_that_is_gone() -> None:
    never = trio.Event()
    async with two(there={"slow": never.wait}) as (here, there):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                with pytest.raises(ChannelClosedError):
                    await here.ask("slow")

            await trio.testing.wait_all_tasks_blocked()
            there.close()
        here.tell("anything")
        with pytest.raises(ChannelClosedError):
            await here.ask("anything")
    assert here.closed


async def test_a_side_that_cannot_get_its_sockets_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dup, left = os.dup, [1]
    made: list[int] = []

    def few(descriptor: int) -> int:
        if not left:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        left.pop()
        made.append(dup(descriptor))
        return made[-1]

    monkeypatch.setattr(os, "dup", few)
    with socket.socket() as sock:
        async with two(there={"take": lambda _: None}) as (here, other):
            here.tell("take", sockets=[sock, sock])
            assert here.closed
            await other.ended.wait()
    for one in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(one)


async def test_whoever_has_much_to_tell_can_wait_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_MUCH", 1_000)
    heard: list[int] = []
    handlers = {"news": lambda news: heard.append(len(news)), "all": lambda: None}
    async with two(there=handlers) as (here, there):
        for _ in range(20):
            here.tell("news", bytes(500_000))
            await here.room()
            assert here._waiting <= 1_000
        await here.ask("all")
        here.tell("news", bytes(5_000_000))
        there.close()
        await here.room()  # nobody will take it
    assert heard[:20] == [500_000] * 20


async def test_a_side_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_MOST_WAITING", 1_000_000)
    here, sock = Channel.pair()
    while not here.closed:
        here.tell("news", bytes(100_000))
    sock.close()


@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 2)), max_size=8), st.data())
def test_messages_in_pieces(messages: list[tuple[bytes, int]], data: st.DataObject) -> None:
    """Whatever parts of it the kernel takes and gives at a time."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=10))
    heard: list[tuple[bytes, int]] = []
    real_send, real_receive = channel._send, channel._receive
    turn = iter(sizes * 10_000)

    def send(sock: socket.socket, frame: memoryview, files: list[int]) -> int:
        return real_send(sock, frame[: next(turn)], files)

    def take(content: bytes, sockets: list[socket.socket] | None = None) -> None:
        heard.append((content, len(sockets or ())))
        for one in sockets or ():
            one.close()

    async def main() -> None:
        async with two(there={"take": take, "all": lambda: None}) as (here, _):
            for content, count in messages:
                pairs = [socket.socketpair() for _ in range(count)]
                here.tell("take", content, sockets=[one for one, _ in pairs])
                for pair in pairs:
                    for one in pair:
                        one.close()
            await here.ask("all")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(channel, "_send", send)
        patched.setattr(channel, "_READ", 7)
        trio.run(main)
    assert heard == messages
    assert channel._receive is real_receive


async def test_a_side_that_is_given_up_while_it_is_written_to_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a worker was stopped: the kernel takes no more, and then too much waits."""
    monkeypatch.setattr(channel, "_MOST_WAITING", 4_000_000)
    here, sock = Channel.pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.run, {})
        here.tell("news", bytes(3_000_000))
        await trio.testing.wait_all_tasks_blocked()
        here.tell("news", bytes(3_000_000))
        assert here.closed
    sock.close()


@pytest.mark.parametrize(
    "said", [b"cproxy.process.channel\nNothing\n.", b"", b"K\x01.", b"cproxy.nothing\nThere\n."]
)
async def test_a_side_that_says_what_cannot_be_read_is_given_up(
    said: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a worker of another version may, which was started after the program was replaced."""
    here, sock = Channel.pair()
    with sock:
        pair = socket.socketpair()
        before = len(os.listdir("/proc/self/fd"))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pair[0].fileno().to_bytes(4, "little"))]
        sock.sendmsg([channel._HEAD.pack(len(said), 1) + said], rights)
        await here.run({})
        assert here.closed
        assert len(os.listdir("/proc/self/fd")) == before - 1
        assert not sock.recv(1)
        for one in pair:
            one.close()
    assert "failed between processes" in "".join(capsys.readouterr())
