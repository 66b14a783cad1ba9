from __future__ import annotations

import contextlib
import io
import json
from contextlib import AsyncExitStack, suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from proxy import admin, logs
from proxy.admin import http
from proxy.admin.http import Asked, Page, Site
from proxy.admin.messages import Answer
from tests.admin.endpoint import (
    AUTHORIZED,
    IP,
    TOKEN,
    FakeState,
    asking,
    connected,
    endpoint,
    get,
)

JSON = {"content_type": "application/json"}


@pytest.mark.parametrize("target", ["/nope", "/metrics/", "//", "/../metrics", "*"])
async def test_other_paths_are_not_found(target: str) -> None:
    assert (await get(FakeState(), target))[0] == 404


@pytest.mark.parametrize(
    ("target", "method", "allowed"),
    [(t, m, "GET, HEAD") for t in ("/sessions", "/") for m in ("POST", "PUT", "OPTIONS", "FROB")]
    + [("/kill", m, "POST") for m in ("GET", "HEAD", "PUT")],
)
async def test_other_methods_are_refused(target: str, method: str, allowed: str) -> None:
    async with asking(FakeState()) as client:
        status, headers, _ = await client.ask(target, method, **JSON, **AUTHORIZED)
        assert (status, headers["allow"], headers["connection"]) == (405, allowed, "close")
        assert await client.stream.receive_some() == b""


async def test_head_has_the_headers_and_no_body() -> None:
    async with asking(FakeState()) as client:
        status, headers, body = await client.ask("/healthz", "HEAD")
        assert (status, headers["content-length"], body) == (200, "3", b"")
        assert (await client.ask("/healthz"))[2] == b"ok\n"


async def test_nothing_is_kept_or_guessed_by_browsers() -> None:
    _, headers, _ = await get(FakeState(), "/sessions")
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


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


# ---------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN.upper()}"},
    ],
)
async def test_elsewhere_everything_needs_the_token(given: dict[str, str]) -> None:
    logs.configure("json", "critical")
    async with endpoint(FakeState(), "0.0.0.0:0") as port:
        for target in ("/metrics", "/sessions", "/summary", "/connections", "/rules"):
            async with connected(port) as client:
                status, headers, _ = await client.ask(target, host="proxy.example", **given)
                assert (status, headers["www-authenticate"][:6]) == (401, "Bearer")
        async with connected(port) as client:
            assert (await client.ask("/kill", "POST", b"{}", **JSON, **given))[0] == 401
        async with connected(port) as client:
            for target in ("/", "/healthz", "/readyz", "/help"):
                assert (await client.ask(target, host="proxy.example", **given))[0] == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_elsewhere_any_name_is_answered_with_the_token(scheme: str) -> None:
    async with endpoint(FakeState(), "0.0.0.0:0") as port, connected(port) as client:
        given = {"authorization": f"{scheme} {TOKEN}"}
        assert (await client.ask("/sessions", host="proxy.example", **given))[0] == 200


async def test_without_a_token_nothing_is_shown_elsewhere() -> None:
    async with endpoint(FakeState(), "0.0.0.0:0", None) as port, connected(port) as client:
        assert (await client.ask("/sessions", authorization="Bearer None"))[0] == 401


async def test_on_loopback_looking_is_free_and_changing_is_not() -> None:
    logs.configure("json", "critical")
    state = FakeState()
    async with endpoint(state) as port:
        async with connected(port) as client:
            assert (await client.ask("/sessions"))[0] == 200
            everybody = b'{"patterns": [{"owner": "*"}]}'
            assert (await client.ask("/kill", "POST", everybody, **JSON))[0] == 200
            done = everybody[:-1] + b', "dry_run": false}'
            status, headers, _ = await client.ask("/kill", "POST", done, **JSON)
            assert (status, headers["www-authenticate"][:6]) == (401, "Bearer")
        async with connected(port) as client:
            wrong = {"authorization": "Bearer no"}
            assert (await client.ask("/kill", "POST", b"{}", **JSON, **wrong))[0] == 401


async def test_a_wrong_token_is_logged_without_it() -> None:
    log = io.StringIO()
    logs.configure("json", "info", log)
    async with endpoint(FakeState(), "0.0.0.0:0") as port, connected(port) as client:
        await client.ask("/sessions", authorization="Bearer hunter2hunter2hunter2")
    assert '"client": "127.0.0.1"' in log.getvalue()
    assert "hunter2" not in log.getvalue()


async def test_wrong_tokens_fill_no_log(autojump_clock: trio.testing.MockClock) -> None:
    log = io.StringIO()
    logs.configure("json", "info", log)
    refused: list[None] = []
    site = Site({}, local_only=True, token="x", refused=lambda: refused.append(None))
    for _ in range(1_000):
        assert site._operator("Bearer y", IP) is None
    await trio.sleep(logs.SELDOM_SECONDS)
    site._operator("Bearer y", "127.0.0.2")
    await trio.sleep(logs.SELDOM_SECONDS)
    site._operator("Bearer y", IP)
    first, second, third = map(json.loads, log.getvalue().splitlines())
    assert (first["client"], second["client"]) == (IP, "127.0.0.2")
    assert "left_out" not in first
    assert second["left_out"] == 999
    assert "left_out" not in third
    assert len(refused) == 1_002


async def test_every_operator_has_a_token() -> None:
    known = [("", "x" * 16), ("olivia", "y" * 16)]
    site = Site({}, local_only=True, token=lambda: known)
    assert site._operator("Bearer " + "x" * 16, IP) == ""
    assert site._operator("bearer " + "y" * 16, IP) == "olivia"
    assert site._operator("Bearer " + "z" * 16, IP) is None
    assert site._operator("", IP) is None
    assert not site._may_post(False, previews=False)
    known.clear()
    assert site._operator("Bearer " + "y" * 16, IP) is None
    assert site._may_post(False, previews=False)


# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "json"])
async def test_what_forms_elsewhere_can_send_is_refused(kind: str) -> None:
    async with asking(FakeState()) as client:
        headers = {"content_type": kind} | AUTHORIZED
        assert (await client.ask("/kill", "POST", b"{}", **headers))[0] == 415


async def test_a_body_of_any_parts_is_read_whole() -> None:
    bodies: list[bytes] = []

    async def note(asked: Asked) -> Answer:
        bodies.append(asked.body)
        return http.text(200, asked.client)

    async with trio.open_nursery() as nursery:
        where = await nursery.start(admin.serve, f"{IP}:0", {"/note": Page(note, "POST")})
        async with connected(int(where.rpartition(":")[2])) as client:
            head = b"POST /note HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            await client.stream.send_all(head + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await client.stream.send_all(b"2\r\nde\r\n0\r\n\r\n")
            answer = await client.stream.receive_some()
            assert answer.endswith(b"\r\n\r\n127.0.0.1\n")
        nursery.cancel_scope.cancel()
    assert bodies == [b"abcde"]


async def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    async with asking(FakeState()) as client:
        _, _, body = await client.ask(
            "/kill", "POST", b"[]", expect="100-continue", **JSON, **AUTHORIZED
        )
        assert body == b"the body has to be an object\n"


async def test_a_body_without_end_is_refused() -> None:
    async with asking(FakeState()) as client:
        body = b" " * (1 << 20)
        assert (await client.ask("/kill", "POST", body, **JSON, **AUTHORIZED))[0] == 400
        status, headers, _ = await client.ask("/kill", "POST", body + b" ", **JSON, **AUTHORIZED)
        assert (status, headers["connection"]) == (413, "close")


async def test_a_query_of_very_many_fields_is_refused() -> None:
    target = "/sessions?" + "&".join(f"a{n}=1" for n in range(51))
    assert (await get(FakeState(), target))[0] == 400


# ---------------------------------------------------------------------- whatever comes


async def test_what_is_no_http_is_refused() -> None:
    async with asking(FakeState()) as client:
        await client.stream.send_all(b"\x10\x00\x00\x00 what\r\n\r\n")
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 400 ")


async def test_a_body_of_two_lengths_is_refused_and_nothing_behind_it_is_read() -> None:
    async with asking(FakeState()) as client:
        both = b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        behind = b"GET /sessions HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        await client.stream.send_all(b"POST /kill HTTP/1.1\r\nhost: 127.0.0.1\r\n" + both + behind)
        answer = b""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await client.stream.receive_some():
                answer += data
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1") == 1


_PIECES = st.sampled_from(
    [
        b"GET /metrics HTTP/1.1\r\n",
        b"POST /sessions?limit=%zz HTTP/1.1\r\n",
        b"POST /kill HTTP/1.1\r\ncontent-type: application/json\r\n",
        b"GET //[::1 HTTP/1.0\r\n",
        b"host: 127.0.0.1\r\n",
        b"host: [\r\n",
        b"authorization: Bearer \xff\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
        b"upgrade: h2c\r\nconnection: upgrade\r\n",
        b"\r\n",
        b"zz\r\n",
        b'{"a"',
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=40), max_size=12))
async def test_no_bytes_are_a_bug(pieces: list[bytes]) -> None:
    log = io.StringIO()
    logs.configure("text", "error", log)
    ours, theirs = trio.testing.memory_stream_pair()

    async def page(asked: Asked) -> Answer:
        return http.text(200, "here")

    site = Site({"/metrics": Page(page), "/kill": Page(page, "POST")}, local_only=True, token="x")
    await ours.send_all(b"".join(pieces))
    await ours.send_eof()
    await site.handle(theirs)  # type: ignore[arg-type]
    assert log.getvalue() == ""


async def test_endless_headers_are_refused() -> None:
    async with asking(FakeState()) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nx: " + b"a" * 20_000)
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 431 ")


async def test_a_bug_in_a_page_is_a_500_and_harms_nobody_else() -> None:
    logs.configure("json", "critical")

    async def broken(asked: Asked) -> Answer:
        raise KeyError("bug")

    async def fine(asked: Asked) -> Answer:
        return http.text(200, "fine")

    async with trio.open_nursery() as nursery:
        table = {"/broken": Page(broken), "/fine": Page(fine)}
        where = await nursery.start(admin.serve, f"{IP}:0", table)
        async with connected(int(where.rpartition(":")[2])) as client:
            assert (await client.ask("/broken"))[0] == 500
            assert (await client.ask("/fine"))[2] == b"fine\n"
        nursery.cancel_scope.cancel()


async def test_a_client_that_resets_harms_nobody_else() -> None:
    async with endpoint(FakeState()) as port:
        async with await trio.open_tcp_stream(IP, port) as stream:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
        async with connected(port) as client:
            assert (await client.ask("/healthz"))[0] == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET /sess", b"GET /sessions HTTP/1.1\r\nhost: localhost\r\n"]
)
async def test_whoever_only_holds_a_connection_makes_room_for_who_asks(said: bytes) -> None:
    async with endpoint(FakeState()) as port, AsyncExitStack() as held:
        clients = [await held.enter_async_context(connected(port)) for _ in range(100)]
        for client in clients:
            await client.stream.send_all(said)
        for target in ("/healthz", "/readyz", "/metrics", "/sessions"):
            async with connected(port) as client:
                assert (await client.ask(target))[0] == 200
        # The first that came are the first to go.
        with suppress(trio.BrokenResourceError):
            assert await clients[0].stream.receive_some() == b""


@pytest.mark.parametrize("idle", [0, 40])
async def test_whoever_does_not_read_an_answer_makes_room_too(idle: int) -> None:
    async def long(_asked: Asked) -> Answer:
        return http.text(200, "x" * 5_000_000)

    async def vital(_asked: Asked) -> Answer:
        return http.text(200, "ok")

    table = {"/": Page(long, vital=True), "/vital": Page(vital, vital=True)}
    site = Site(table, local_only=True)
    listeners = await trio.open_tcp_listeners(0, host=IP)
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery, AsyncExitStack() as held:
        nursery.start_soon(trio.serve_listeners, site.handle, listeners)
        for number in range(80 + idle):
            stream = await held.enter_async_context(await trio.open_tcp_stream(IP, port))
            if number < 80:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert await stream.receive_some(1)
        for _ in range(30):
            async with connected(port) as client:
                assert (await client.ask("/vital"))[0] == 200
        nursery.cancel_scope.cancel()


async def test_while_all_wait_for_their_answers_there_are_places_for_vital_pages() -> None:
    go_on, waiting = trio.Event(), 0

    async def slow(_asked: Asked) -> Answer:
        nonlocal waiting
        waiting += 1
        await go_on.wait()
        return http.text(200, "done")

    async def quick(_asked: Asked) -> Answer:
        return http.text(200, "ok")

    table = {"/slow": Page(slow), "/quick": Page(quick), "/vital": Page(quick, vital=True)}
    site = Site(table, local_only=True)

    async def ask(path: str) -> bytes:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(site.handle, theirs)
        await ours.send_all(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        return (await ours.receive_some())[9:12]

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(ask, "/slow")
        await trio.testing.wait_all_tasks_blocked()
        assert waiting == 64
        assert await ask("/quick") == b"503"
        for _ in range(40):
            assert await ask("/vital") == b"200"
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_client_that_sends_nothing_is_let_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await Site({}, local_only=True).handle(theirs)  # type: ignore[arg-type]
    assert await ours.receive_some() == b""
    assert trio.current_time() == 10


async def test_a_page_that_takes_too_long_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async def endless(asked: Asked) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await ours.send_eof()
    await Site({"/endless": Page(endless)}, local_only=True).handle(theirs)  # type: ignore[arg-type]
    assert (await ours.receive_some()).startswith(b"HTTP/1.1 503 ")
    assert trio.current_time() == 30


async def test_an_address_in_use_is_named() -> None:
    async with endpoint(FakeState()) as port:
        with pytest.raises(OSError, match="in use") as caught:
            await admin.serve(f"{IP}:{port}", {})
        assert caught.value.filename == f"{IP}:{port}"
    with pytest.raises(OSError, match="no host has such a name") as caught:
        await admin.serve("a..b:1", {})
    assert caught.value.filename == "a..b:1"


async def test_ipv6_addresses_are_bracketed() -> None:
    async with trio.open_nursery() as nursery:
        where = await nursery.start(admin.serve, "[::1]:0", {})
        assert where.startswith("[::1]:")
        nursery.cancel_scope.cancel()
