from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy import cli
from tests.terminal.rows import HOSTILE, event
from tests.terminal.stand_in import standing_in


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
    assert first.endswith(f"{OVER['session']}  transaction 3 committed after 1.5 s, 2 statements")
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


def test_names_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(document(event("refused", user=HOSTILE, rule=HOSTILE, reason=HOSTILE, command=HOSTILE)))
    assert capsys.readouterr().out.replace("\n", "").isprintable()
