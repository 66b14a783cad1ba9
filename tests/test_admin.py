from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import h11
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from proxy import admin, logs
from proxy.telemetry import Telemetry

IP = "127.0.0.1"


class FakeState:
    def __init__(self) -> None:
        self.is_ready = (True, "")
        self.is_draining = False
        self.rows: Iterable[dict[str, Any]] = ()

    def connections(self) -> Iterable[dict[str, Any]]:
        return self.rows

    def sessions(self) -> Iterable[dict[str, Any]]:
        return self.rows

    def ready(self) -> tuple[bool, str]:
        return self.is_ready

    def draining(self) -> bool:
        return self.is_draining


class Client:
    """One HTTP connection to the endpoint."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(
        self, target: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        fields = {"host": IP} | headers | ({"content-length": str(len(body))} if body else {})
        request = h11.Request(method=method, target=target, headers=list(fields.items()))
        sent = self.http.send(request)
        if body:
            sent += self.http.send(h11.Data(data=body))
        await self.stream.send_all(sent + self.http.send(h11.EndOfMessage()))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = 0, {}, b""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body
            else:
                raise AssertionError(event)


@asynccontextmanager
async def endpoint(state: FakeState, address: str = f"{IP}:0") -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        where = await nursery.start(admin.serve, address, state, Telemetry("1.2.3"))
        yield int(where.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream(IP, port) as stream:
        yield Client(stream)


async def get(state: FakeState, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with endpoint(state) as port, connected(port) as client:
        return await client.ask(target, **headers)


async def test_metrics_are_served() -> None:
    status, headers, body = await get(FakeState(), "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert headers["cache-control"] == "no-store"
    assert b'mongo_session_proxy_build_info{python="' in body


async def test_metrics_follow_the_accept_header() -> None:
    _, headers, body = await get(
        FakeState(), "/metrics", accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1"
    )
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_the_first_page_lists_the_others() -> None:
    state = FakeState()
    async with endpoint(state) as port, connected(port) as client:
        status, _, body = await client.ask("/")
        paths = body.decode().split()
        assert status == 200
        assert paths == ["/", "/connections", "/healthz", "/metrics", "/readyz", "/sessions"]
        for path in paths:
            assert (await client.ask(path))[0] == 200


@pytest.mark.parametrize(
    ("ready", "draining", "status", "body"),
    [
        ((True, ""), False, 200, b"ok\n"),
        ((False, "upstream is not reachable"), False, 503, b"upstream is not reachable\n"),
        ((True, ""), True, 503, b"draining\n"),
    ],
)
async def test_readiness(ready: tuple[bool, str], draining: bool, status: int, body: bytes) -> None:
    state = FakeState()
    state.is_ready, state.is_draining = ready, draining
    async with endpoint(state) as port, connected(port) as client:
        answer = await client.ask("/readyz")
        assert (answer[0], answer[2]) == (status, body)
        assert (await client.ask("/healthz"))[0] == 200


@pytest.mark.parametrize("name", ["connections", "sessions"])
async def test_listings_are_json_of_the_kinds_rows_hold(name: str) -> None:
    state = FakeState()
    state.rows = [
        {
            "id": UUID("12345678123456781234567812345678"),
            "uid": b"\x01\xff",
            "since": datetime(2026, 1, 2, tzinfo=UTC),
            "application": "é\n",
            "none": None,
        }
    ]
    status, headers, body = await get(state, f"/{name}")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {
        name: [
            {
                "id": "12345678-1234-5678-1234-567812345678",
                "uid": "01ff",
                "since": "2026-01-02T00:00:00+00:00",
                "application": "é\n",
                "none": None,
            }
        ],
        "more": False,
    }


@pytest.mark.parametrize(
    ("query", "rows", "shown", "more"),
    [
        ("", 999, 999, False),
        ("", 1000, 1000, False),
        ("", 1001, 1000, True),
        ("?limit=1", 3, 1, True),
        ("?limit=3", 3, 3, False),
        ("?limit=10000", 10_001, 10_000, True),
        ("?limit=2&limit=9", 3, 2, True),
    ],
)
async def test_listings_are_cut_at_the_limit(query: str, rows: int, shown: int, more: bool) -> None:
    state = FakeState()
    state.rows = ({"n": n} for n in range(rows))
    page = json.loads((await get(state, f"/sessions{query}"))[2])
    assert [row["n"] for row in page["sessions"]] == list(range(shown))
    assert page["more"] is more


@pytest.mark.parametrize(
    "limit", ["0", "-1", "x", "10001", "1e3", "99999999999999999999", "%C2%B2"]
)
async def test_a_limit_out_of_range_is_refused(limit: str) -> None:
    status, _, body = await get(FakeState(), f"/sessions?limit={limit}")
    assert status == 400
    assert b"from 1 to 10000" in body


@pytest.mark.parametrize("target", ["/nope", "/metrics/", "//", "/../metrics", "*"])
async def test_other_paths_are_not_found(target: str) -> None:
    assert (await get(FakeState(), target))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "FROB"])
async def test_other_methods_are_refused(method: str) -> None:
    async with endpoint(FakeState()) as port, connected(port) as client:
        status, headers, _ = await client.ask("/metrics", method, b"x=1")
        assert (status, headers["allow"]) == (405, "GET, HEAD")
        assert headers["connection"] == "close"
        assert await client.stream.receive_some() == b""


async def test_head_has_the_headers_and_no_body() -> None:
    async with endpoint(FakeState()) as port, connected(port) as client:
        status, headers, body = await client.ask("/healthz", "HEAD")
        assert (status, headers["content-length"], body) == (200, "3", b"")
        assert (await client.ask("/healthz"))[2] == b"ok\n"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:27080", 200),
        ("[::1]:27080", 200),
        ("LOCALHOST:27080", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example:27080", 421),
        ("127.0.0.1.attacker.example", 421),
        ("[nonsense]", 421),
    ],
)
async def test_on_loopback_no_other_name_is_answered(host: str, status: int) -> None:
    assert (await get(FakeState(), "/sessions", host=host))[0] == status


async def test_elsewhere_any_name_is_answered() -> None:
    async with endpoint(FakeState(), "0.0.0.0:0") as port, connected(port) as client:
        assert (await client.ask("/healthz", host="proxy.example"))[0] == 200


async def test_what_is_no_http_is_refused() -> None:
    async with endpoint(FakeState()) as port, connected(port) as client:
        await client.stream.send_all(b"\x10\x00\x00\x00 what\r\n\r\n")
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 400 ")


_PIECES = st.sampled_from(
    [
        b"GET /metrics HTTP/1.1\r\n",
        b"POST /sessions?limit=%zz HTTP/1.1\r\n",
        b"GET //[::1 HTTP/1.0\r\n",
        b"host: 127.0.0.1\r\n",
        b"host: [\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"upgrade: h2c\r\nconnection: upgrade\r\n",
        b"\r\n",
        b"zz\r\n",
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=40), max_size=12))
async def test_no_bytes_are_a_bug(pieces: list[bytes]) -> None:
    log = io.StringIO()
    logs.configure("text", "info", log)
    ours, theirs = trio.testing.memory_stream_pair()
    site = admin._Site(admin.pages(FakeState(), Telemetry("1")), local_only=True)
    await ours.send_all(b"".join(pieces))
    await ours.send_eof()
    await site.handle(theirs)  # type: ignore[arg-type]
    assert log.getvalue() == ""


async def test_endless_headers_are_refused() -> None:
    async with endpoint(FakeState()) as port, connected(port) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nx: " + b"a" * 20_000)
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 431 ")


async def test_a_bug_in_a_page_is_a_500_and_harms_nobody_else() -> None:
    class Broken(FakeState):
        def sessions(self) -> Iterable[dict[str, Any]]:
            raise KeyError("bug")

    class Unprintable(FakeState):
        def sessions(self) -> Iterable[dict[str, Any]]:
            return [{"what": object()}]

    logs.configure("json", "critical")
    for state in (Broken(), Unprintable()):
        async with endpoint(state) as port, connected(port) as client:
            assert (await client.ask("/sessions"))[0] == 500
            assert (await client.ask("/healthz"))[0] == 200


async def test_a_client_that_resets_harms_nobody_else() -> None:
    async with endpoint(FakeState()) as port:
        async with await trio.open_tcp_stream(IP, port) as stream:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
        async with connected(port) as client:
            assert (await client.ask("/healthz"))[0] == 200


async def test_connections_beyond_the_limit_are_closed() -> None:
    async with endpoint(FakeState()) as port, trio.open_nursery() as held:

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            async with connected(port) as client:
                await client.ask("/healthz")
                task_status.started()
                await trio.sleep_forever()

        for _ in range(64):
            await held.start(hold)
        async with connected(port) as client:
            assert await client.stream.receive_some() == b""
        held.cancel_scope.cancel()


async def test_a_client_that_sends_nothing_is_let_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    site = admin._Site({}, local_only=True)
    await site.handle(theirs)  # type: ignore[arg-type]
    assert await ours.receive_some() == b""
    assert trio.current_time() == 10


async def test_an_address_in_use_is_named() -> None:
    async with endpoint(FakeState()) as port:
        with pytest.raises(OSError, match="in use") as caught:
            await admin.serve(f"{IP}:{port}", FakeState(), Telemetry("1"))
        assert caught.value.filename == f"{IP}:{port}"


async def test_ipv6_addresses_are_bracketed() -> None:
    async with trio.open_nursery() as nursery:
        where = await nursery.start(admin.serve, "[::1]:0", FakeState(), Telemetry("1"))
        assert where.startswith("[::1]:")
        nursery.cancel_scope.cancel()
