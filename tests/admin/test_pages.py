from __future__ import annotations

import io
import json
from typing import Any

import pytest
import trio

from proxy import logs
from proxy.admin import Process
from proxy.observe.telemetry import Telemetry
from proxy.session.info import OperationSessionInfo
from proxy.session.transactions import Outcome, Step
from tests.admin.endpoint import TOKEN, FakeState, asking, connected, endpoint, get

ROWS = [
    {"conn": 1, "client": "10.0.0.1:5", "upstream": "db:1", "age_seconds": 3.0},
    {
        **{"conn": 2, "client": "10.0.0.2:6", "upstream": "db:1", "age_seconds": 2.0},
        **{"user": "alice@admin", "application": "shop", "driver": "PyMongo"},
        **{
            "driver_version": "4.20",
            "use": "requests",
            "requests": 7,
            "in_flight": 1,
            "command": "find",
        },
        **{"received_bytes": 100, "sent_bytes": 5000},
    },
]


async def test_metrics_are_served() -> None:
    status, headers, body = await get(FakeState(), "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert b'mongo_session_proxy_build_info{python="' in body


async def test_metrics_follow_the_accept_header() -> None:
    _, headers, body = await get(
        FakeState(), "/metrics", accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1"
    )
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_help_names_every_page_and_each_is_there() -> None:
    async with asking(FakeState()) as client:
        _, _, text = await client.ask("/help")
        paths = [line.split()[0] for line in text.decode().splitlines() if line[0] == "/"]
        assert len(paths) == 20
        for path in paths:
            if path not in ("/kill", "/abort", "/interrupt", "/close"):
                assert (await client.ask(path))[0] == 200


async def test_the_page_may_load_nothing_from_anywhere() -> None:
    status, headers, body = await get(FakeState(), "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "'unsafe-eval'" not in headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert b"innerHTML" not in body


@pytest.mark.parametrize(
    ("ready", "draining", "status", "body"),
    [
        ((True, ""), False, 200, b"ok\n"),
        ((False, "db:1: refused"), False, 503, b"db:1: refused\n"),
        ((True, ""), True, 503, b"draining\n"),
    ],
)
async def test_readiness(ready: tuple[bool, str], draining: bool, status: int, body: bytes) -> None:
    state = FakeState()
    state.is_ready, state.is_draining = ready, draining
    async with asking(state) as client:
        answer = await client.ask("/readyz")
        assert (answer[0], answer[2]) == (status, body)
        assert (await client.ask("/healthz"))[0] == 200


async def test_elsewhere_readiness_tells_strangers_no_addresses() -> None:
    state = FakeState()
    state.is_ready = (False, "db:1: refused")
    async with endpoint(state, "0.0.0.0:0") as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await stream.receive_some()).endswith(b"\r\n\r\nnot ready\n")


def in_transaction(state: FakeState, number: int, age: float) -> None:
    session = state.add(number, age=age)
    info = OperationSessionInfo(session.key, 1, False, True)
    now = trio.current_time() - age
    state.store.transaction_step(session, Step.START, Outcome.OK, info, now, "db:1", 4)


async def test_sessions_are_shown_with_whose_they_are() -> None:
    state = FakeState()
    state.add(1, command="find", age=30)
    state.add(2, "bob@admin", application="é\n\ud800", age=20)
    async with asking(state) as client:
        page = await client.rows("/sessions?sort=-age")
        first, second = page["sessions"]
        assert (page["matched"], page["total"], page["next"]) == (2, 2, None)
        assert first["owner"] == "alice@admin"
        assert (first["application"], first["driver"], first["client"]) == (
            *("shop", "PyMongo"),
            "10.0.0.1",
        )
        assert [one["command"] for one in first["operations"]] == ["find"]
        assert (first["idle_seconds"], second["idle_seconds"] >= 20) == (0.0, True)
        assert second["application"] == "é\n\ud800"
        assert len(second["uid"]) == 64


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", "4312"),
        ("?sort=idle", "3124"),
        ("?sort=-age", "4213"),
        ("?sort=age&limit=2", "31"),
        ("?owner=bob*", "2"),
        ("?state=transaction", "4"),
        ("?state=operation,cursor", "31"),
        ("?state=idle", "2"),
        ("?text=FIND", "3"),
        ("?text=shop.orders", "1"),
        ("?text=00000004", "4"),
        ("?min_idle=25", "4"),
        ("?min_age=5&application=shop", "412"),
        ("?sort=-transaction&limit=1", "4"),
        ("?sort=-cursors&limit=1", "1"),
        ("?sort=-operations&limit=1", "3"),
        ("?uid=00*", ""),
    ],
)
async def test_sessions_are_filtered_and_sorted(query: str, numbers: str) -> None:
    state = FakeState()
    state.add(1, age=10, cursor=7)
    state.add(2, "bob@admin", age=20)
    state.add(3, command="find")
    in_transaction(state, 4, age=30)
    async with asking(state) as client:
        page = await client.rows(f"/sessions{query}")
        assert "".join(row["session"][-1] for row in page["sessions"]) == numbers


async def test_pages_lead_from_one_to_the_next() -> None:
    state = FakeState()
    for number in range(1, 8):
        state.add(number, age=number)
    async with asking(state) as client:
        seen, after = "", ""
        for rows in (3, 3, 1):
            page = await client.rows(f"/sessions?sort=age&limit=3{after}")
            assert len(page["sessions"]) == rows
            seen += "".join(row["session"][-1] for row in page["sessions"])
            after = f"&after={page['next']}"
        assert (seen, page["next"]) == ("1234567", None)


@pytest.mark.parametrize("path", ["sessions", "transactions", "cursors", "connections", "groups"])
async def test_a_wrong_query_is_refused_in_words(path: str) -> None:
    async with asking(FakeState()) as client:
        for query, word in (("limit=0", b"limit"), ("ownr=x", b"ownr"), ("sort=x", b"sort")):
            status, _, body = await client.ask(f"/{path}?{query}")
            assert status == 400
            assert body.startswith(word)


async def test_transactions_are_shown_with_their_age_and_place() -> None:
    state = FakeState()
    in_transaction(state, 1, age=30)
    in_transaction(state, 2, age=60)
    state.add(3)
    async with asking(state) as client:
        page = await client.rows("/transactions")
        assert [row["session"][-1] for row in page["transactions"]] == ["2", "1"]
        row = page["transactions"][0]
        assert row["age_seconds"] >= 60
        assert row["idle_seconds"] >= 60
        assert (row["upstream"], row["conn"], row["txn_number"]) == ("db:1", 4, 1)
        assert (row["owner"], row["driver"]) == ("alice@admin", "PyMongo")
        assert len((await client.rows("/transactions?min_idle=45"))["transactions"]) == 1


async def test_cursors_are_shown_with_their_session() -> None:
    state = FakeState()
    state.add(1, age=30, cursor=2**62 + 1)
    state.add(2, "bob@admin", age=60, cursor=8)
    async with asking(state) as client:
        page = await client.rows("/cursors")
        assert [row["cursor"] for row in page["cursors"]] == ["8", str(2**62 + 1)]
        row = page["cursors"][1]
        assert (row["owner"], row["namespace"]) == ("alice@admin", "shop.orders")
        assert row["age_seconds"] >= 30
        assert (await client.rows("/cursors?namespace=*.x"))["cursors"] == []


async def test_connections_are_shown_also_before_they_said_anything() -> None:
    state = FakeState()
    state.rows = ROWS
    async with asking(state) as client:
        page = await client.rows("/connections?sort=conn")
        assert page["connections"] == ROWS
        for query, numbers in (
            ("user=alice*", [2]),
            ("state=operation", [2]),
            ("state=idle", [1]),
            ("state=opened", [1]),
            ("state=requests", [2]),
            ("state=monitor", []),
            ("sort=-sent", [2, 1]),
            ("sort=age", [2, 1]),
            ("text=find", [2]),
            ("client=10.0.0.1:*", [1]),
        ):
            found = (await client.rows(f"/connections?{query}"))["connections"]
            assert [row["conn"] for row in found] == numbers


async def test_groups_name_who_has_what_and_how_much_of_a_budget() -> None:
    state = FakeState()
    for number in range(1, 7):
        state.add(number, application="leaking" if number < 5 else "shop")
    state.add(7, "bob@admin", command="find", cursor=3)
    async with asking(state) as client:
        first, second, third = (await client.rows("/groups"))["groups"]
        assert [first[n] for n in ("owner", "application", "driver", "sessions")] == [
            *("alice@admin", "leaking", "PyMongo"),
            4,
        ]
        assert (first["owner_sessions"], second["owner_sessions"]) == (6, 6)
        assert (third["operations"], third["cursors"]) == (1, 1)
        assert first["budget_used"] is None
        state.per_user, state.per_application = 8, 5
        first, second, third = (await client.rows("/groups?sort=-budget_used"))["groups"]
        assert [first["budget_used"], second["budget_used"]] == [0.8, 0.75]
        assert third["owner"] == "bob@admin"


async def test_the_summary_counts_what_there_is() -> None:
    state = FakeState()
    state.add(1, command="find", age=5)
    state.add(2, cursor=7, age=3)
    in_transaction(state, 3, age=60)
    async with asking(state) as client:
        seen = await client.rows("/summary")
        counts = ("sessions", "operations", "cursors", "transactions", "kill", "version", "ready")
        assert [seen[name] for name in counts] == [3, 1, 1, 1, "on", "1.2.3", True]
        assert seen["transactions_oldest_seconds"] >= 60
        assert seen["transactions_idlest_seconds"] >= 60
        assert seen["operations_oldest_seconds"] >= 5
        assert seen["cursors_oldest_seconds"] >= 3
        state.is_draining = True
        seen = await client.rows("/summary")
        assert (seen["ready"], seen["reason"]) == (False, "draining")


@pytest.mark.parametrize(
    ("authorization", "said"), [(None, "none"), (f"Bearer {TOKEN}", "right"), ("Bearer x", "wrong")]
)
async def test_the_summary_says_what_the_token_is_worth(
    authorization: str | None, said: str
) -> None:
    headers = {"authorization": authorization} if authorization else {}
    status, _, body = await get(FakeState(), "/summary", **headers)
    assert (status, json.loads(body)["token"]) == (200, said)


async def test_a_wrong_token_is_told_from_none() -> None:
    async with endpoint(FakeState(), "0.0.0.0:0") as port, connected(port) as client:
        status, _, body = await client.ask("/summary", authorization="Bearer x")
    assert (status, body.partition(b":")[0]) == (401, b"wrong token")
    async with endpoint(FakeState(), "0.0.0.0:0") as port, connected(port) as client:
        status, _, body = await client.ask("/summary")
    assert (status, body.partition(b":")[0]) == (401, b"a token is needed")


async def test_upstream_is_shown() -> None:
    async with asking(FakeState()) as client:
        [row] = (await client.rows("/upstream"))["upstream"]
    assert row == {
        **{"upstream": "db:27017", "role": "primary", "up": True},
        "listener": "127.0.0.1:1",
    }


async def test_rules_are_shown_with_their_settings_and_what_they_have_decided() -> None:
    telemetry = Telemetry("1", ("ownership",))
    process = Process(FakeState(), telemetry, executes=False)
    for decision in ("refused", "reported", "reported", "aborted"):
        telemetry.ruled("ownership", decision)
    [row] = await process.rules()
    assert (row["rule"], row["refused"], row["reported"]) == ("ownership", 1, 2)
    assert row["aborted"] == 1


async def test_a_bug_is_logged_and_told_to_nobody() -> None:
    class Broken(FakeState):
        async def connection_rows(self) -> Any:
            raise KeyError("bug")

    log = io.StringIO()
    logs.configure("json", "error", log)
    async with asking(Broken()) as client:
        status, _, body = await client.ask("/connections")
        assert (status, body) == (500, b"failed; the log says why\n")
    assert json.loads(log.getvalue())["path"] == "/connections"


async def test_others_get_their_turn_while_many_sessions_are_looked_at() -> None:
    state = FakeState()
    for number in range(5_000):
        state.add(number)
    async with asking(state) as client, trio.open_nursery() as nursery:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(other)
        await client.ask("/healthz")
        before = turns
        await client.ask("/sessions?limit=5000")
        # One for each 1,000 sessions looked at and each 250 rows made.
        assert turns - before >= 25
        nursery.cancel_scope.cancel()
