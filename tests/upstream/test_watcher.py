from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import bson
import pytest
import trio
import trustme
from bson import json_util
from trio.testing import MockClock

from proxy import logs
from proxy.addresses import Address, parse_address
from proxy.net.gone import PeerGoneError
from proxy.net.tls import UpstreamTls, upstream_tls
from proxy.settings.config import load
from proxy.settings.upstream import Upstream
from proxy.upstream.link import MAX_HELLO_SIZE, Link
from proxy.upstream.topology import Topology
from proxy.upstream.watcher import Watcher
from proxy.upstream.ways import Ways, new_mark
from proxy.wire.frames import FrameBuffer
from proxy.wire.messages import Request, read_request
from proxy.wire.opcodes import HEADER, OP_MSG, OP_QUERY
from proxy.wire.replies import reply_frame
from tests.patience import PATIENCE, until
from tests.ports import free_port

STANDALONE = {"ismaster": True, "ok": 1.0}
NO_SUCH_COMMAND = {"ok": 0.0, "errmsg": "no such command: 'hello'", "code": 59}


def rs(me: str, hosts: list[str], *, version: int = 1) -> dict[str, Any]:
    return {
        "setName": "rs0",
        "setVersion": version,
        "secondary": True,
        "me": me,
        "hosts": hosts,
        "ok": 1.0,
    }


class Member:
    """A server on a loopback port. ``answer`` makes the bytes for a request; None hangs up."""

    def __init__(self, answer: Callable[[Request], bytes | None] | dict[str, Any]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.open = 0
        self.address: Address | None = None
        self.tls: ssl.SSLContext | None = None

    async def start(self, nursery: trio.Nursery) -> None:
        listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
        self.address = Address("127.0.0.1", listeners[0].socket.getsockname()[1])

    @property
    def name(self) -> str:
        return str(self.address)

    async def _serve(self, sock: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        stream: trio.abc.Stream = sock
        if self.tls is not None:
            stream = trio.SSLStream(sock, self.tls, server_side=True, https_compatible=True)
        buffer = FrameBuffer()
        try:
            async with stream:
                async for data in stream:
                    for frame in buffer.feed(bytes(data)):
                        request = read_request(frame)
                        self.requests.append(request)
                        reply = self._reply(request)
                        if reply is None:
                            return
                        await stream.send_all(reply)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1

    def _reply(self, request: Request) -> bytes | None:
        if isinstance(self.answer, dict):
            return reply_frame(request, 77, self.answer)
        return self.answer(request)


class Watched:
    """A watcher at work, with what it asked its server to do."""

    def __init__(self, topology: Topology, tls: UpstreamTls | None, settings: Upstream) -> None:
        self.topology = topology
        self.ready = trio.Event()
        self.reconciled: list[tuple[Address, ...]] = []
        ways = Ways(tls, settings, new_mark())
        self.watcher = Watcher(topology, ways, settings, self._reconcile, self.ready)

    async def _reconcile(self) -> None:
        self.reconciled.append(self.topology.members())
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def watching(
    *members: Member | Address,
    tls: UpstreamTls | None = None,
    interval: float = 0.05,
    connect: float = 10.0,
    **topology: Any,
) -> AsyncIterator[Watched]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for member in members:
                if isinstance(member, Member) and member.address is None:
                    await member.start(nursery)
            seeds = tuple(m.address if isinstance(m, Member) else m for m in members)
            settings = Upstream(watch_seconds=interval, connect_seconds=connect)
            watched = Watched(Topology(seeds, **topology), tls, settings)
            nursery.start_soon(watched.watcher.run)
            yield watched
            nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------- what is asked


async def test_listeners_are_reconciled_before_clients_are_let_in() -> None:
    member = Member(STANDALONE)
    async with watching(member) as watched:
        assert watched.watcher.ready() == (False, "starting")
        await watched.ready.wait()
        assert watched.topology.kind == "standalone"
        assert watched.reconciled[0] == (member.address,)
        assert watched.watcher.ready() == (True, "")


async def test_one_connection_asks_again_and_again() -> None:
    member = Member(STANDALONE)
    async with watching(member):
        await until(lambda: len(member.requests) > 3)
    first, *later = member.requests
    assert member.connections == 1
    assert (first.command, first.opcode, first.database) == ("hello", OP_MSG, "admin")
    metadata = bson.decode(first.body_bytes())["client"]
    assert metadata["driver"]["name"] == "mongo-session-proxy"
    assert metadata["os"]["type"]
    # A second time would be error 186.
    assert not any(b"client" in request.fields for request in later)
    assert len({request.request_id for request in member.requests}) == len(member.requests)


def knows_only_is_master(request: Request) -> bytes:
    known = request.command == "isMaster" and request.opcode == OP_QUERY
    return reply_frame(request, 77, STANDALONE if known else NO_SUCH_COMMAND)


def hangs_up_on_op_msg(request: Request) -> bytes | None:
    return None if request.opcode == OP_MSG else reply_frame(request, 77, STANDALONE)


def demands_an_api_version(request: Request) -> bytes:
    given = request.text(b"apiVersion") == "1"
    return reply_frame(request, 77, STANDALONE if given else {"ok": 0.0, "code": 498870})


@pytest.mark.parametrize(
    ("answer", "commands", "connections"),
    [
        (knows_only_is_master, ["hello", "hello", "isMaster", "isMaster"], 1),
        (hangs_up_on_op_msg, ["hello", "hello", "isMaster", "isMaster"], 3),
        (demands_an_api_version, ["hello", "hello", "hello"], 1),
    ],
)
async def test_old_and_strict_servers_are_asked_in_a_form_they_know(
    answer: Callable[[Request], bytes | None], commands: list[str], connections: int
) -> None:
    member = Member(answer)
    async with watching(member) as watched:
        await watched.ready.wait()
        await until(lambda: len(member.requests) >= len(commands))
        assert [request.command for request in member.requests[: len(commands)]] == commands
        assert member.connections == connections


async def test_members_are_asked_over_tls(tmp_path: Any) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    member = Member(STANDALONE)
    member.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(member.tls)
    tls = upstream_tls(load(None, {"upstream": {"tls": {"ca": str(tmp_path / "ca.pem")}}}))
    async with watching(member, tls=tls) as watched:
        await watched.ready.wait()
        assert watched.topology.kind == "standalone"


async def test_an_untrusted_member_is_not_believed(tmp_path: Any) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    member = Member(STANDALONE)
    member.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(member.tls)
    tls = upstream_tls(load(None, {"upstream": {"tls": {"ca": str(tmp_path / "ca.pem")}}}))
    async with watching(member, tls=tls) as watched:
        await until(lambda: "certificate" in watched.watcher.ready()[1])
        assert watched.topology.kind == "unknown"


# ---------------------------------------------------------------------- a set that changes


async def test_members_that_appear_are_watched_and_those_that_vanish_are_left() -> None:
    one, two, three = Member(STANDALONE), Member(STANDALONE), Member(STANDALONE)
    async with trio.open_nursery() as nursery:
        for member in (two, three):
            await member.start(nursery)
        await one.start(nursery)
        every = [one, two]
        for member in every:
            member.answer = rs(member.name, [m.name for m in every])
        async with watching(one) as watched:
            await watched.ready.wait()
            assert watched.reconciled[0] == (one.address, two.address)
            await until(lambda: two.open == 1)
            for member in (one, three):
                member.answer = rs(member.name, [one.name, three.name], version=2)
            await until(lambda: watched.reconciled[-1] == (one.address, three.address))
            await until(lambda: three.open and not two.open)
            assert two.connections == 1
        nursery.cancel_scope.cancel()


async def test_a_seed_by_another_name_is_not_taken_for_a_second_member() -> None:
    one, two = Member(STANDALONE), Member(STANDALONE)
    async with trio.open_nursery() as nursery:
        await one.start(nursery)
        await two.start(nursery)
        for member in (one, two):
            member.answer = rs(member.name, [one.name, two.name])
        alias = Address("localhost", two.address.port)
        async with watching(one, alias) as watched:
            await until(lambda: len(watched.reconciled) > 3)
            assert set(watched.reconciled) == {(one.address, alias)}
        nursery.cancel_scope.cancel()


async def test_a_seed_that_is_silent_holds_the_others_up_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.upstream.watcher.SETTLE_SECONDS", 0.05)
    silent, other = Member(lambda _: b""), Member(STANDALONE)
    async with watching(silent, other) as watched:
        await watched.ready.wait()
        assert watched.watcher.ready() == (True, "")


# ---------------------------------------------------------------------- trouble


def garbage(data: bytes) -> Callable[[Request], bytes]:
    return lambda _: data


def to_another(request: Request) -> bytes:
    reply = reply_frame(request, 77, STANDALONE)
    return reply[:8] + b"\xff\xff\0\0" + reply[12:]


def nested(request: Request) -> bytes:
    inner = b"\x05\0\0\0\0"
    for _ in range(3_000):
        inner = (len(inner) + 8).to_bytes(4, "little") + b"\x03a\0" + inner + b"\0"
    return reply_frame(request, 77, inner)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "length"),
        (garbage(HEADER.pack(MAX_HELLO_SIZE + 1, 1, 1, OP_MSG)), "length"),
        (garbage(HEADER.pack(16, 1, 1, OP_MSG)), "flags"),
        (garbage(HEADER.pack(16, 1, 1, 4711)), "opcode"),
        (to_another, "something else"),
        (nested, ""),
        (lambda request: reply_frame(request, 77, b"\x0b\0\0\0\x02a\0\xff\xff\xff\x7f"), ""),
        (lambda request: reply_frame(request, 77, b"\x09\0\0\0\xeea\0\1\0"), ""),
        (lambda request: reply_frame(request, 77, NO_SUCH_COMMAND), "no such command"),
        (lambda _: None, "closed without an answer"),
    ],
)
async def test_a_bad_answer_is_a_problem_of_that_member_until_a_good_one(
    answer: Callable[[Request], bytes | None], problem: str
) -> None:
    bad, good = Member(answer), Member(STANDALONE)
    async with watching(bad, good) as watched:
        await watched.ready.wait()
        assert watched.watcher.ready() == (True, "")
        good.answer = bad.answer
        await until(lambda: not watched.watcher.ready()[0])
        ready, why = watched.watcher.ready()
        assert not ready
        assert why.count(bad.name) == why.count(good.name) == 1
        assert why.count(problem) >= 2
        bad.answer = good.answer = STANDALONE
        await until(lambda: watched.watcher.ready()[0])


@pytest.mark.parametrize("name", ["a..b:1", "a" * 64 + ":1", ".:1", "\u2024:1"])
async def test_a_member_by_a_name_that_none_can_have_is_down(name: str) -> None:
    member = Member(lambda request: reply_frame(request, 77, answer))
    async with watching(Address("127.0.0.1", free_port()), member) as watched:
        answer = bson.encode(rs(member.name, [member.name, name]))
        await watched.ready.wait()
        await until(lambda: parse_address(name) in watched.watcher._problems)
        assert watched.watcher.ready() == (True, "")


async def test_odd_dates_and_texts_do_not_hide_the_rest() -> None:
    odd = bson.encode(rs("a:1", ["a:1"]) | {"localTime": bson.Int64(1), "note": "xx"})
    odd = odd.replace(
        b"\x12localTime\0" + b"\1\0\0\0\0\0\0\0", b"\x09localTime\0" + b"\xff" * 7 + b"\x7f"
    )
    odd = odd.replace(b"xx\0", b"\xff\xfe\0")
    member = Member(lambda request: reply_frame(request, 77, odd))
    async with watching(member) as watched:
        await watched.ready.wait()
        assert watched.topology.kind == "replica set"


async def test_a_member_that_hangs_is_given_up() -> None:
    member = Member(lambda _: b"")
    async with watching(member, connect=0.05) as watched:
        await until(lambda: "no answer in time" in watched.watcher.ready()[1])
        member.answer = STANDALONE
        await watched.ready.wait()


async def test_nobody_there_is_a_problem_and_no_reason_to_open_clients_up() -> None:
    where = Address("127.0.0.1", free_port())
    async with watching(where) as watched:
        await until(lambda: str(where) in watched.watcher.ready()[1])
        assert not watched.ready.is_set()
        assert watched.reconciled == []


async def test_a_problem_is_logged_once_and_so_is_its_end() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    member = Member(lambda _: None)
    async with watching(member) as watched:
        await until(lambda: len(member.requests) >= 12)
        member.answer = STANDALONE
        await watched.ready.wait()
        await until(lambda: len(watched.reconciled) > 3)
    lines = [json_util.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("member", "warning"),
        ("member", "info"),
        ("topology", "info"),
    ]
    assert lines[0]["upstream"] == member.name
    assert lines[2]["kind"] == "standalone"


# ---------------------------------------------------------------------- when it asks
# On a clock that jumps, with members that are only functions.


class Script:
    """In place of connections: when each member was asked, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[float] = []
        self.says: dict[str, Any] | Exception = STANDALONE

        async def hello(_: Any) -> dict[str, Any]:
            self.asked.append(trio.current_time())
            await trio.lowlevel.checkpoint()
            if isinstance(self.says, Exception):
                raise self.says
            return self.says

        monkeypatch.setattr(Link, "hello", hello)

    def pauses(self) -> list[float]:
        return [round(b - a, 3) for a, b in zip(self.asked, self.asked[1:], strict=False)]


SEED = Address("upstream", 27017)


async def test_it_asks_every_so_often(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    async with watching(SEED, interval=5):
        await trio.sleep(16)
    assert script.pauses() == [5, 5, 5]


async def test_a_poke_is_an_earlier_question_but_not_more_than_one_a_second(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    async with watching(SEED, interval=5) as watched:
        await trio.sleep(2)
        for _ in range(100):
            watched.watcher.poke()
            await trio.sleep(0.01)
    assert script.pauses() == [2]
    async with watching(SEED, interval=5) as watched:
        script.asked.clear()
        for _ in range(300):
            watched.watcher.poke()
            await trio.sleep(0.0101)
    assert script.pauses() == [1, 1, 1]


async def test_where_the_map_is_given_there_is_nothing_to_ask_early(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    async with watching(SEED, interval=5, direct=True) as watched:
        await trio.sleep(2)
        watched.watcher.poke()
        await trio.sleep(4)
    assert script.pauses() == [5]


async def test_a_member_that_fails_is_asked_soon_and_then_less_and_less(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    script.says = PeerGoneError("refused")
    async with watching(SEED, interval=5) as watched:
        await trio.sleep(18)
        assert script.pauses() == [0.5, 1, 2, 4, 5, 5]
        script.says = STANDALONE
        await watched.ready.wait()
        await trio.sleep(6)
        script.says = PeerGoneError("refused")
        script.asked.clear()
        await trio.sleep(6)
    assert script.pauses() == [0.5, 1]


async def test_of_whom_clients_ask_for_is_asked_soon_although_it_has_long_failed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    script.says = PeerGoneError("refused")
    async with watching(SEED, interval=50) as watched:
        await trio.sleep(16)
        assert script.pauses() == [0.5, 1, 2, 4, 8]
        for _ in range(300):
            watched.watcher.hurry()
            await trio.sleep(0.0101)
    assert script.pauses()[5:] == [1, 1, 1]


async def test_a_member_that_has_too_much_to_do_is_not_down(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = Script(monkeypatch)
    async with watching(SEED, interval=5) as watched:
        await trio.sleep(6)
        script.says = {"ok": 0.0, "code": 462, "codeName": "IngressRequestRateLimitExceeded"}
        await trio.sleep(30)
        assert watched.watcher.ready() == (True, "")
        assert script.pauses() == [5] * 7
