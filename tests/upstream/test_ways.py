from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import bson
import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from proxy.addresses import Address
from proxy.conversation.hello import client_metadata
from proxy.errors import NotDialledError
from proxy.net.gone import PeerGoneError
from proxy.net.tls import upstream_tls
from proxy.settings.config import load
from proxy.settings.upstream import Upstream
from proxy.upstream import ways as module
from proxy.upstream.link import is_loop, loop
from proxy.upstream.ways import Ways, new_mark
from proxy.wire.messages import Request
from proxy.wire.replies import error_document, reply_frame
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.upstream.test_watcher import STANDALONE, Member

LOOP = error_document(loop(Address("db", 1)))


@asynccontextmanager
async def leading_to(member: Member, connect: float = 10.0) -> AsyncIterator[tuple[Ways, Address]]:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await member.start(nursery)
            assert member.address is not None
            yield Ways(None, Upstream(connect_seconds=connect), new_mark()), member.address
            nursery.cancel_scope.cancel()


def test_marks_differ() -> None:
    assert new_mark() != new_mark()


async def test_a_way_is_tried_before_the_first_client_and_then_now_and_then() -> None:
    member = Member(STANDALONE)
    async with leading_to(member) as (ways, address):
        for _ in range(module._DIALS):
            await ways.await_safe(address, b"")
        assert member.connections == 1
        await ways.await_safe(address, b"")
        assert member.connections == 2
        ways.heard(address, STANDALONE)
        for _ in range(module._DIALS):
            await ways.await_safe(address, b"")
        assert member.connections == 2


async def test_many_wait_for_one_answer() -> None:
    member = Member(STANDALONE)
    async with leading_to(member) as (ways, address):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ways.await_safe, address, b"")
        assert member.connections == 1


@pytest.mark.usefixtures("autojump_clock")
async def test_a_way_that_was_good_and_hangs_holds_up_one_client() -> None:
    member = Member(STANDALONE)
    async with leading_to(member, 5.0) as (ways, address):
        for _ in range(module._DIALS):
            await ways.await_safe(address, b"")
        member.answer = lambda _: b""
        gone = trio.CancelScope()
        passed: list[int] = []

        async def one_more(number: int) -> None:
            await ways.await_safe(address, b"")
            passed.append(number)

        async def first() -> None:
            with gone:
                await one_more(-1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(module._DIALS + 9):
                nursery.start_soon(one_more, number)
            await trio.testing.wait_all_tasks_blocked()
            assert -1 not in passed
            assert len(passed) == module._DIALS - 1
            # Whoever waits then takes its turn, and all of them go on after one more time.
            gone.cancel()
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(5.0, abs=1.0)
        assert len(passed) == module._DIALS + 9


async def test_the_own_mark_is_refused_and_never_dialled() -> None:
    member = Member(STANDALONE)
    async with leading_to(member) as (ways, address):
        with pytest.raises(NotDialledError, match="6 HostUnreachable: this proxy is its own"):
            await ways.await_safe(address, b".." + ways.mark.encode() + b"..")
        assert member.connections == 0
        # Another proxy's waits for nothing.
        await ways.await_safe(address, new_mark().encode())
        assert member.connections == 0


async def test_a_refusal_for_an_answer_closes_the_way_until_another_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    member = Member(LOOP)
    async with leading_to(member) as (ways, address):
        for first in (b"", b"", new_mark().encode()):
            with pytest.raises(NotDialledError, match=str(address)):
                await ways.await_safe(address, first)
        assert member.connections == 1
        member.answer = STANDALONE
        monkeypatch.setattr(module, "_AGAIN", 0.0)
        await ways.await_safe(address, b"")
        assert member.connections == 2


@pytest.mark.parametrize(
    "answer", [lambda _: None, lambda _: b"HTTP/1.0 400 no\r\n\r\n", {"ok": 0.0, "code": 6}]
)
async def test_whatever_else_comes_back_is_no_circle(answer: object) -> None:
    async with leading_to(Member(answer)) as (ways, address):  # type: ignore[arg-type]
        await ways.await_safe(address, b"")


async def test_nobody_there_is_no_circle() -> None:
    with trio.fail_after(PATIENCE):
        ways = Ways(None, Upstream(), new_mark())
        await ways.await_safe(Address("127.0.0.1", free_port()), b"")


async def test_silence_is_no_circle(autojump_clock: MockClock) -> None:
    async with leading_to(Member(lambda _: b""), 0.2) as (ways, address):
        await ways.await_safe(address, b"")


async def test_the_mark_is_in_the_clients_document_and_nowhere_else() -> None:
    member = Member(STANDALONE)
    async with leading_to(member) as (ways, address):
        link = ways.link(address)
        await link.hello()
        await link.hello()
        link.close()
    first, second = member.requests
    assert bson.decode(first.body_bytes())["client"]["platform"] == ways.mark
    assert ways.mark.encode() not in second.message
    assert client_metadata(first).application == "mongo-session-proxy watcher"


async def test_a_destination_goes_by_the_name_that_was_proved_there(tmp_path: Path) -> None:
    """As with redirected clients: by TLS they say whom they mean, and dial numbers."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    member = Member(STANDALONE)
    member.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("db.example").configure_cert(member.tls)
    config = load(None, {"upstream": {"tls": {"ca": str(tmp_path / "ca.pem")}}})
    async with leading_to(member) as (plain, address):
        ways = Ways(upstream_tls(config), config.upstream, plain.mark)
        for name in ("", "other.example"):
            with pytest.raises(PeerGoneError, match="certificate"):
                await ways.link(address, name).hello()
        link = ways.link(address, "db.example")
        assert (await link.hello())["ok"] == 1
        link.close()
        for name in ("db.example", "other.example"):
            ways.is_named(address, name)
        link = ways.link(address)
        assert (await link.hello())["ok"] == 1
        link.close()


async def test_other_forms_of_hello_are_not_tried_on_a_circle() -> None:
    asked: list[Request] = []

    def refuse(request: Request) -> bytes:
        asked.append(request)
        return reply_frame(request, 77, LOOP)

    async with leading_to(Member(refuse)) as (ways, address):
        assert is_loop(await ways.link(address).hello())
    assert len(asked) == 1


async def test_only_so_many_ways_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    ways = Ways(None, Upstream(), new_mark())
    for port in range(1, 10):
        ways.heard(Address("db", port), STANDALONE)
    assert len(ways._ways) == 3
