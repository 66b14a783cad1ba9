from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy import cli
from proxy.terminal import history
from tests.terminal.rows import HOSTILE
from tests.terminal.stand_in import standing_in

ID = "11111111-2222-4333-8444-555555555555"


def event(name: str, **more: Any) -> dict[str, Any]:
    return {
        "time": "2026-03-02T03:12:00.250Z",
        "event": name,
        "user": "shop@admin",
        "application": "shop",
        "driver": "PyMongo",
        "driver_version": "4.20",
        "client": "10.0.0.1",
        "session": ID,
    } | more


def document(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = {one["event"]: 1 for one in events}
    samples = [
        {"time": "1", "sessions": 5, "transactions": 2, "cursors": 0, "connections": 3,
         "requests": 400, "errors": 0, "refused": 0, "started": 1},
        {"time": "2", "sessions": 7, "transactions": 1, "cursors": 0, "connections": 3,
         "requests": 100, "errors": 0, "refused": 0, "started": 1},
    ]  # fmt: skip
    return {
        "since": "2026-03-02T03:00:00.000Z",
        "until": "2026-03-02T03:20:00.000Z",
        "remembered_since": "2026-03-01T03:00:00.000Z",
        "matched": len(events),
        "next": None,
        "counts": counts,
        "events": list(events),
        "open_meanwhile": [],
        "step_seconds": 10.0,
        "samples": samples,
    } | more


def run(answer: Any, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    with standing_in({"history": answer}) as there:
        status = cli.main(["history", *arguments, "--admin", there.address])
        queries = [parse_qs(urlsplit(target).query) for target in there.targets()]
    return status, [{name: value for name, (value,) in one.items()} for one in queries]


OVER = event("transaction_ended", transaction=3, outcome="committed", seconds=1.5, statements=2)


def test_what_happened_is_a_table_and_its_sum_goes_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = event("refused", rule="session_budget", reason="full", command="find", count=7)
    status, _ = run(document(OVER, refused), "--utc")
    assert status == 0
    out, err = capsys.readouterr()
    heading, first, second = out.splitlines()
    assert heading.split() == ["TIME", "USER", "APPLICATION", "DRIVER", "CLIENT", "SESSION", "WHAT"]
    assert first.startswith("03:12:00.250  shop@admin")
    assert first.endswith(f"{ID}  transaction 3 committed after 1.5 s, 2 statements")
    assert second.endswith("find refused by session_budget: full (7 times)")
    assert err.splitlines() == [
        "2026-03-02 03:00:00 to 03:20:00 UTC: 2 events",
        "  1 transaction_ended, 1 refused",
        "  at the most 7 sessions, 2 open transactions, 0 cursors, 3 connections, "
        "40 requests a second",
    ]


def test_times_are_told_in_seconds_and_filters_as_they_are() -> None:
    filters = ["--user", "a*", "--application", "shop", "--session", "1111", "--event", "kill"]
    times = ["--since", "2026-03-02T03:00Z", "--until", "03:20", "--utc"]
    _, [asked] = run(document(), *times, *filters)
    since = 1772420400.0
    assert (float(asked.pop("since")), float(asked.pop("until"))) == (since, since + 1200)
    assert asked == {
        **{"user": "a*", "application": "shop", "session": "1111", "event": "kill"},
        **{"limit": "1000", "skip": "0"},
    }


def test_more_than_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [
        document(*[OVER] * 10_000, matched=15_000, next=10_000),
        document(*[OVER] * 2_000, matched=15_000, next=12_000),
    ]
    _, asked = run(answers, "--limit", "12000")
    assert [(one["limit"], one["skip"]) for one in asked] == [("10000", "0"), ("2000", "10000")]
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 12_001
    assert "… and 3,000 more: --limit 15000" in err


def test_of_several_proxies_it_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    early = OVER | {"time": "2026-03-02T03:11:00.000Z"}
    late, soon = {"history": document(OVER)}, {"history": document(early)}
    with standing_in(late) as one, standing_in(soon) as other:
        where = ["--admin", one.address, "--admin", other.address]
        assert cli.main(["history", "--utc", *where]) == 0
    out, err = capsys.readouterr()
    _, first, second = out.splitlines()
    assert first.split()[:2] == ["03:11:00.000", other.address]
    assert second.split()[:2] == ["03:12:00.250", one.address]
    assert "2 events" in err
    assert "2 transaction_ended" in err
    assert "at the most 14 sessions" in err


def test_nothing_and_what_is_not_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    run(document(remembered_since="2026-03-02T03:10:00.000Z", samples=[]), "--utc")
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "no events")
    assert "remembered since 2026-03-02 03:10:00 only" in err
    run(document(remembered_since=None), "--user", "a")
    err = capsys.readouterr().err
    assert "nothing is remembered yet" in err
    assert err.endswith("no events match\n")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    run(document(OVER), "--json")
    assert json.loads(capsys.readouterr().out)["events"] == [OVER]


@pytest.mark.parametrize("flags", [("--since", "soon"), ("--until", "25:00")])
def test_a_wrong_time(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["history", *flags]) == 2
    assert f"{flags[0]}: should be a time such as" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--since", "2200-01-01"), "--since: is in the future"),
        (("--since", "10m", "--until", "20m"), "--until: is before --since"),
    ],
)
def test_a_stretch_that_is_none(
    flags: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["history", *flags]) == 2
    assert said in capsys.readouterr().err


def test_what_the_endpoint_refuses_is_called_by_its_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run((400, "event: 'nosuch' is none of refused, kill"), "--event", "nosuch")[0] == 2
    said = "mongo-session-proxy: --event: 'nosuch' is none of refused, kill\n"
    assert capsys.readouterr().err == said


def test_it_may_be_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert run((400, "history: is off, by the setting history.hours = 0"))[0] == 2
    assert "history: is off" in capsys.readouterr().err


def test_a_narrow_terminal_has_all_of_what_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.terminal.commands.screen_width", lambda: 80)
    reason = "application shop has 6 of 6 sessions and asks for another one " * 2
    run(document(event("refused", rule="session_budget", reason=reason, command="find")))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "11111111 " in lines[1]
    assert " ".join(" ".join(lines[1:]).split()).count("asks for another one") == 2


@pytest.mark.parametrize("cells", [80, 120])
def test_a_narrow_terminal_says_of_which_cluster_and_which_user(
    cells: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.terminal.commands.screen_width", lambda: cells)
    long = {"user": "a-very-long-name-of-a-user@admin", "application": "an-application"}
    run(document(event("session_started", cluster="web", **long)))
    said = capsys.readouterr()
    heading, line = said.out.splitlines()
    assert heading.split() == ["TIME", "CLUSTER", "USER", *heading.split()[3:]]
    assert " web " in line
    assert " a-very" in line
    assert "11111111  session started" in line
    assert "(left out: DRIVER" in said.err


WORDS: list[tuple[str, dict[str, Any], str]] = [
    ("session_started", {}, "session started"),
    ("transaction_started", {"transaction": 4}, "transaction 4 started"),
    (
        "transaction_ended",
        {"transaction": 4, "outcome": "unknown", "seconds": None, "statements": 1},
        "transaction 4 unknown, 1 statement",
    ),
    (
        "reported",
        {"rule": "ownership", "reason": "why", "command": "find"},
        "find would be refused by ownership: why",
    ),
    ("incident", {"kind": "shared"}, "used one session from two client processes"),
    (
        "foreign_uid",
        {"command": "killSessions", "owner": "bob@app", "reason": "no"},
        "killSessions: tried a session of bob@app (foreign uid): no",
    ),
    (
        "incident",
        {"kind": "aborted", "rule": "transaction_guard", "reason": "it was idle"},
        "left a transaction open too long: aborted by the rule transaction_guard: it was idle",
    ),
    (
        "kill",
        {"kind": "done", "command": "killSessions", "sessions": 1},
        "killSessions done: 1 session",
    ),
    (
        "kill",
        {"kind": "done", "command": "kill", "operator": "ann", "targets": 3, "reason": "0 failed"},
        "kill by operator ann done: 3 sessions (0 failed)",
    ),
    (
        "kill",
        {
            **{"kind": "done", "command": "kill", "operator": "ann", "targets": 3},
            "meant": {
                "patterns": [{"owner": "a@b", "application": "my shop"}, {"min_idle": "5m"}],
                "sessions": 2,
            },
        },
        'kill by operator ann done: 3 sessions, meant were owner=a@b application="my shop" or'
        " min_idle=5m or 2 by id",
    ),
    (
        "close",
        {"kind": "done", "command": "close", "operator": None, "conn": 4, "targets": 1},
        "close by an operator done: conn 4",
    ),
    ("sessions_killed", {"sessions": 1200}, "all sessions of shop@admin killed: 1,200"),
    (
        "sessions_killed",
        {"sessions": 3, "everybody": True},
        "all sessions of everybody killed: 3",
    ),
    (
        "slow",
        {
            **{"command": "find", "namespace": "shop.orders", "seconds": 2.5, "comment": "page"},
            **{"upstream_seconds": 2.0, "proxy_seconds": 0.5, "result": "ok"},
        },
        "find on shop.orders took 2.500 s, 2.000 s upstream: ok, comment page",
    ),
    (
        "slow",
        {"command": "ping", "seconds": 2.5, "upstream_seconds": 2.0, "result": "no answer"},
        "ping took 2.500 s, 2.000 s upstream: no answer",
    ),
    (
        "login_failed",
        {"reason": "18 AuthenticationFailed"},
        "login failed: 18 AuthenticationFailed",
    ),
    (
        "topology",
        {
            **{"kind": "replica set", "members": ["a:1", "b:1"]},
            **{"primary": "b:1", "primary_before": "a:1"},
        },
        "topology: replica set of a:1, b:1, primary b:1 (was a:1)",
    ),
    (
        "upstream_down",
        {"upstream": "a:1", "problem": "refused"},
        "upstream a:1 down: refused",
    ),
    ("upstream_up", {"upstream": "a:1"}, "upstream a:1 up again"),
    ("proxy_started", {"version": "1"}, "proxy started, version 1"),
    ("proxy_stopping", {"replaced": True}, "proxy stopping: replaced by a new process"),
    ("reloaded", {"kind": "failed"}, "reload failed: see the log"),
    (
        "worker_died",
        {"worker": 1, "status": -9, "connections_lost": 5},
        "worker 1 died, status -9, 5 connections lost",
    ),
    ("what_comes_later", {}, "what comes later"),
]


@pytest.mark.parametrize(("name", "more", "text"), WORDS)
def test_in_words(name: str, more: dict[str, Any], text: str) -> None:
    assert history.said(event(name, **more)) == text


def test_names_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(document(event("refused", user=HOSTILE, rule=HOSTILE, reason=HOSTILE, command=HOSTILE)))
    assert capsys.readouterr().out.replace("\n", "").isprintable()
