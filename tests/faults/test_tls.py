"""TLS fails at every stage, on either side: before, around and in the middle of what is asked."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.faults.left import BYSTANDERS, faultless
from tests.faults.secure import (
    Handshake,
    Secure,
    Spoiling,
    content,
    distrustful,
    farewell,
    old_fashioned,
    secured,
)
from tests.faults.stages import STAGES, Scene, read_to_the_end
from tests.running import Client, bystanding, ping
from tests.upstreams import Seen

#: A record that nobody can have encrypted, one that is longer than any, and the first of half one.
BROKEN: Final = b"\x17\x03\x03\x00\x30" + b"\xa5" * 48
ENDLESS: Final = b"\x17\x03\x03\xff\xff" + bytes(100)
BEGUN: Final = b"\x17\x03\x03\x01\x00" + bytes(100)
ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"
PLAIN: Final = ping("in clear")

Fault = Callable[[Client, Seen], Awaitable[None]]


# ------------------------------------------------------------------ in the middle of everything


async def _say(stream: trio.SocketStream, data: bytes) -> None:
    with contextlib.suppress(trio.BusyResourceError, trio.BrokenResourceError):
        await stream.send_all(data)


def client_says(data: bytes) -> Fault:
    async def fault(client: Client, seen: Seen) -> None:
        await _say(client.stream.transport_stream, data)  # type: ignore[attr-defined]

    return fault


def upstream_says(data: bytes) -> Fault:
    async def fault(client: Client, seen: Seen) -> None:
        await _say(seen.stream, data)
        if not seen.ended.is_set():
            seen.reset()

    return fault


async def client_goes(client: Client, seen: Seen) -> None:
    client.stream.transport_stream.socket.close()  # type: ignore[attr-defined]


async def client_breaks_off_in_a_record(client: Client, seen: Seen) -> None:
    await _say(client.stream.transport_stream, BEGUN)  # type: ignore[attr-defined]
    client.stream.transport_stream.socket.close()  # type: ignore[attr-defined]


async def client_says_farewell_and_stays(client: Client, seen: Seen) -> None:
    await _say(client.stream.transport_stream, farewell(client.stream))  # type: ignore[attr-defined, arg-type]


async def upstream_goes(client: Client, seen: Seen) -> None:
    seen.stream.socket.close()


async def upstream_says_farewell_and_stays(client: Client, seen: Seen) -> None:
    assert seen.tls is not None
    data = farewell(seen.tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_to_the_end, client)
        while data:
            try:
                await seen.stream.send_all(data)
                data = b""
            except trio.BusyResourceError:  # what it said before is still on its way
                await trio.lowlevel.checkpoint()


FAULTS: Final[dict[str, Fault]] = {
    "client, in clear": client_says(PLAIN),
    "client, a broken record": client_says(BROKEN),
    "client, an endless record": client_says(ENDLESS),
    "client, an alert": client_says(ALERT),
    "client breaks off in a record": client_breaks_off_in_a_record,
    "client goes without a farewell": client_goes,
    "client says farewell and stays": client_says_farewell_and_stays,
    "upstream, in clear": upstream_says(PLAIN),
    "upstream, a broken record": upstream_says(BROKEN),
    "upstream, an endless record": upstream_says(ENDLESS),
    "upstream breaks off in a record": upstream_says(BEGUN),
    "upstream goes without a farewell": upstream_goes,
    "upstream says farewell and stays": upstream_says_farewell_and_stays,
}


@pytest.mark.parametrize("stage", STAGES)
async def test_nothing_is_left_of_a_conversation_that_breaks(stage: str, tmp_path: Path) -> None:
    async with (
        secured(tmp_path) as secure,
        bystanding(secure.running, BYSTANDERS, secure.connect) as others,
    ):
        scene = Scene(secure.upstream, secure.running, secure.connect)
        for fault in FAULTS.values():
            async with faultless(secure.running, others):
                client, seen = await STAGES[stage](scene)
                await fault(client, seen)
                await seen.ended.wait()
                await client.close()
                seen.stream.socket.close()
        assert not secure.log.lines("connection failed")
        assert "bug" not in await secure.log.reasons(len(FAULTS))


# ------------------------------------------------------------------ handshakes with clients


Knock = Callable[[Secure], Awaitable[None]]


def knocks(*says: bytes) -> Knock:
    """Somebody says this instead of a handshake, and is told off."""

    async def knock(secure: Secure) -> None:
        stream = await secure.plain()
        for data in says:
            await _say(stream, data)
        await read_to_the_end(Client(stream))
        await trio.aclose_forcefully(stream)

    return knock


def breaks_off(step: int) -> Knock:
    """A client that goes at this step of its handshake: in its first message, before it has an
    answer to it, with one, before its last message is whole, and right behind that."""

    async def knock(secure: Secure) -> None:
        handshake = Handshake(secure.known.client())
        stream = await secure.plain()
        first = handshake.go_on()
        await stream.send_all(first[:100] if step == 0 else first)
        if step > 1:
            last = b""
            while not last:
                last = handshake.go_on(bytes(await stream.receive_some(65_536)))
            if step > 2:
                await stream.send_all(last[:-10] if step == 3 else last)
        await trio.aclose_forcefully(stream)

    return knock


def refuses(context: Callable[[Secure], object]) -> Knock:
    """A handshake that one of the two does not agree to; if only with what is said next."""

    async def knock(secure: Secure) -> None:
        stream = await secure.plain()
        tls = trio.SSLStream(
            stream,
            context(secure),  # type: ignore[arg-type]
            server_hostname="localhost",
            https_compatible=True,
        )
        with contextlib.suppress(trio.BrokenResourceError):
            await tls.do_handshake()
            await tls.send_all(PLAIN)
        await read_to_the_end(Client(tls))  # type: ignore[arg-type]
        await trio.aclose_forcefully(stream)

    return knock


def _stranger(secure: Secure) -> object:
    return secure.known.client(secure.known.issue("stranger", trusted=False))


def _expired(secure: Secure) -> object:
    return secure.known.client(secure.expired("a client of old"))


KNOCKS: Final[dict[str, Knock]] = {
    "in clear": knocks(PLAIN),
    "HTTP": knocks(b"GET / HTTP/1.1\r\n\r\n"),
    "no handshake": knocks(BROKEN),
    "an endless record": knocks(b"\x16\x03\x01\xff\xff" + bytes(65_535)),
    "only an alert": knocks(ALERT),
    "the end": knocks(b""),
    **{f"broken off at step {step}": breaks_off(step) for step in range(5)},
    "too old": refuses(lambda _: old_fashioned()),
    "trusts somebody else": refuses(lambda _: distrustful()),
    "a stranger": refuses(_stranger),
    "a certificate that has expired": refuses(_expired),
}


async def test_handshakes_of_clients_that_fail_at_any_stage_disturb_nobody(tmp_path: Path) -> None:
    warnings.filterwarnings("ignore", "ssl.TLSVersion.TLSv1", DeprecationWarning)
    async with (
        secured(tmp_path) as secure,
        bystanding(secure.running, BYSTANDERS, secure.connect) as others,
    ):
        scene = Scene(secure.upstream, secure.running, secure.connect)
        for stage in STAGES.values():
            hanging = [await secure.plain() for _ in range(3)]
            await hanging[1].send_all(b"\x16")
            await hanging[2].send_all(Handshake(secure.known.client()).go_on()[:50])
            client, seen = await stage(scene)
            async with faultless(secure.running, others):
                for name, knock in KNOCKS.items():
                    if name != "the end":
                        await knock(secure)
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
            for stream in hanging:
                await trio.aclose_forcefully(stream)
        assert not secure.log.lines("connection failed")


# ------------------------------------------------------------------ handshakes with upstream


def answers(data: bytes) -> Spoiling:
    async def spoil(stream: trio.SocketStream) -> bool:
        assert await stream.receive_some(10_000)
        await _say(stream, data)
        return True

    return spoil


async def goes_at_once(stream: trio.SocketStream) -> bool:
    return True


SPOILS: Final[dict[str, Spoiling]] = {
    "goes at once": goes_at_once,
    "speaks no TLS": answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "an alert": answers(ALERT),
    "an endless record": answers(b"\x16\x03\x03\xff\xff" + bytes(1_000)),
    "half a handshake": answers(b"\x16\x03\x03\x01\x00\x02\x00\x00\xfc"),
    "a broken record": answers(BROKEN),
}


async def test_handshakes_with_upstream_that_fail_at_any_stage_cost_single_connections(
    tmp_path: Path,
) -> None:
    async with (
        secured(tmp_path) as secure,
        bystanding(secure.running, BYSTANDERS, secure.connect) as others,
    ):
        known, upstream = secure.known, secure.upstream
        scene = Scene(upstream, secure.running, secure.connect)
        good = known.server(secure.upstreams_own)
        bad = {
            "a stranger's": known.server(known.issue("other", trusted=False)),
            "somebody else's": known.server(known.issue("elsewhere", "elsewhere.test")),
            "expired": known.server(secure.expired("upstream of old")),
        }
        for stage in STAGES.values():
            client, seen = await stage(scene)
            async with faultless(secure.running, others):
                for upstream.spoils in SPOILS.values():
                    await _is_lost(secure)
                upstream.spoils = None
                for context in bad.values():
                    upstream.present(context)
                    await _is_lost(secure)
                upstream.present(good)
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
        reasons = " ".join(await secure.log.reasons(len(STAGES) * (len(SPOILS) + len(bad))))
        assert "certificate has expired" in reasons
        assert "bug" not in reasons


async def _is_lost(secure: Secure) -> None:
    lost = await secure.lost()
    await read_to_the_end(lost)
    await lost.close()


# ------------------------------------------------------------------ reload and drain


async def test_certificates_that_go_bad_around_a_reload_at_any_stage(tmp_path: Path) -> None:
    """Whoever is connected stays; whoever comes is served by what was good last."""
    async with (
        secured(tmp_path) as secure,
        bystanding(secure.running, BYSTANDERS, secure.connect) as others,
    ):
        good, expired = content(secure.certificate), content(secure.expired("proxy of old"))
        reload = secure.running.server.reload
        scene = Scene(secure.upstream, secure.running, secure.connect)
        upstreams_good = secure.known.server(secure.upstreams_own)
        upstreams_old = secure.known.server(secure.expired("upstream of old"))
        for stage in STAGES.values():
            client, seen = await stage(scene)
            async with faultless(secure.running, others):
                # Upstream's expires while ours are read again, half written.
                secure.put(good[: len(good) // 2])
                secure.upstream.present(upstreams_old)
                reload()
                await _is_lost(secure)
                # Ours is whole again, and has expired.
                secure.put(expired)
                secure.upstream.present(upstreams_good)
                reload()
                with pytest.raises(trio.BrokenResourceError):
                    await secure.connect()
                secure.put(good)
                reload()
                fresh = await secure.connect()
                await fresh.ping("as before")
                await fresh.close()
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
        assert len(secure.log.lines("certificates not reloaded")) == len(STAGES)
        assert not secure.log.lines("connection failed")


async def test_draining_waits_for_no_handshake(tmp_path: Path) -> None:
    async with secured(tmp_path, drain_seconds=3600.0) as secure:
        hangs = trio.Event()

        async def hang(stream: trio.SocketStream) -> bool:
            hangs.set()
            await trio.sleep_forever()
            return True

        inside = await secure.connect()
        await inside.ping("inside")
        silent = [await secure.plain() for _ in range(5)]
        secure.upstream.spoils = hang
        waiting = await secure.lost()
        await hangs.wait()
        secure.running.server.stop()
        for stream in silent:
            await read_to_the_end(Client(stream))
            await trio.aclose_forcefully(stream)
        await read_to_the_end(inside)
        await inside.close()
        await waiting.close()
        await secure.log.line("stopped")
