"""Several proxies as one: by several addresses, or a name that is that of several."""

from __future__ import annotations

import io
import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy import cli
from proxy.terminal.client import Endpoint, Trouble
from proxy.terminal.places import Place, place_of
from proxy.terminal.several import Several
from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS
from tests.terminal.rows import group, pages, session, summary, who
from tests.terminal.stand_in import StandIn, standing_in

ID = "11111111-2222-4333-8444-555555555555"
OTHER = "11111111-9999-4333-8444-555555555555"
NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_SESSION_PROXY_TOKEN", raising=False)
    monkeypatch.delenv("MONGO_SESSION_PROXY_ADMIN", raising=False)


@contextmanager
def two(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[StandIn, StandIn]]:
    with standing_in(pages(**first)) as one, standing_in(pages(**second)) as other:
        yield one, other


def several(*there: StandIn) -> Several:
    return Several([place_of(one.address) for one in there])


def listed(name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = {"matched": len(rows), "total": len(rows), "next": None}
    return {name: {name: list(rows)} | counts | more}


# ---------------------------------------------------------------------- listings


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("age", [1.0, 2.0, 3.0]),
        ("-age", [3.0, 2.0, 1.0]),
        ("-idle", [2.0, 1.0, 3.0]),  # what has something in flight is not idle
        ("activity", [3.0, 2.0, 1.0]),
        ("owner", [3.0, 1.0, 2.0]),
        ("-operations", [3.0, 1.0, 2.0]),
    ],
)
def test_rows_are_in_one_order(sort: str, expected: list[float]) -> None:
    flight = [{"conn": 1, "command": "find", "seconds": 3.0, "upstream": "db:1"}]
    rows = [
        session(owner="b", age_seconds=1.0, idle_seconds=5.0),
        session(owner="a", age_seconds=3.0, idle_seconds=0.0, operations=flight),
        session(owner="c", age_seconds=2.0, idle_seconds=9.0, cursors=1),
    ]
    with two(listed("sessions", *rows[:2]), listed("sessions", rows[2])) as there:
        document = several(*there).rows("sessions", {"sort": sort}, 100)
        assert [row["age_seconds"] for row in document["sessions"]] == expected
        by_proxy = {row["age_seconds"]: row["proxy"] for row in document["sessions"]}
        assert by_proxy == {1.0: there[0].address, 3.0: there[0].address, 2.0: there[1].address}
        assert (document["matched"], document["total"]) == (3, 3)
        document = several(*there).get("sessions", {"sort": sort, "limit": 2})
        assert [row["age_seconds"] for row in document["sessions"]] == expected[:2]
        assert document["next"]


def test_a_group_that_several_have_is_one() -> None:
    mine = group(sessions=3, owner_sessions=5, budget_used=0.3, oldest_seconds=9.0)
    theirs = group(sessions=4, owner_sessions=4, budget_used=0.8, oldest_seconds=7.0)
    with two(listed("groups", mine, group(owner="bob@admin")), listed("groups", theirs)) as there:
        document = several(*there).rows("groups", {"sort": "-sessions"}, 100)
    whole, other = document["groups"]
    assert (whole["sessions"], whole["owner_sessions"], whole["budget_used"]) == (7, 9, 0.8)
    assert (whole["oldest_seconds"], whole["proxy"]) == (9.0, "2 proxies")
    assert (other["owner"], other["proxy"]) == ("bob@admin", there[0].address)


def test_an_incident_that_several_have_is_one() -> None:
    def seen(age: float, count: int, **more: Any) -> dict[str, Any]:
        row = who(kind="refused", rule="session_budget", user="bob", age_seconds=age, count=count)
        return row | {"first": f"2026-01-0{count}T00:00:00Z", "conn": count, "limit": 10} | more

    one = {"incidents": {"incidents": [seen(5.0, 2), seen(1.0, 3, user="eve")]}}
    with two(one, {"incidents": {"incidents": [seen(3.0, 4)]}}) as there:
        eve, bob = several(*there).get("incidents")["incidents"]
    assert (eve["user"], eve["count"], eve["proxy"]) == ("eve", 3, there[0].address)
    assert (bob["count"], bob["age_seconds"], bob["proxy"]) == (6, 3.0, "2 proxies")
    assert (bob["conn"], bob["limit"], bob["first"]) == (4, 10, "2026-01-02T00:00:00Z")


def test_no_proxys_reason_hides_anothers() -> None:
    def seen(age: float, bound: str, *before: dict[str, Any]) -> dict[str, Any]:
        row = who(kind="refused", rule="session_budget", user="bob", age_seconds=age, count=2)
        said = {
            "bound": bound,
            "limit": 2,
            "reason": f"{bound} reached",
            "command": "find",
            "before": [*before],
        }
        return row | said | {"last": f"2026-01-01T00:00:{50 - int(age)}Z"}

    earlier = {"count": 1, "last": "2026-01-01T00:00:01Z", "reason": "older", "command": "find"}
    mine = {"incidents": {"incidents": [seen(5.0, "per_user", earlier)]}}
    with two(mine, {"incidents": {"incidents": [seen(3.0, "per_application")]}}) as there:
        [row] = several(*there).get("incidents")["incidents"]
    assert row["reason"] == "per_application reached"
    assert [one["reason"] for one in row["before"]] == ["per_user reached", "older"]
    lines = table(VIEWS["incidents"], [row])
    assert (
        "per_application reached; before: find: per_user reached; before: 1 time find: older"
        in lines[1]
    )


def test_the_summary_adds_up() -> None:
    mine = summary(sessions=900_000, transactions_oldest_seconds=3.0, uptime_seconds=5.0)
    theirs = summary(sessions=2, transactions_oldest_seconds=9.0, version="1.3.0")
    theirs |= {"ready": False, "reason": "draining"}
    with two({"summary": mine}, {"summary": theirs}) as there:
        document = several(*there).get("summary")
    assert (document["sessions"], document["sessions_limit"]) == (900_002, 2_000_000)
    assert (document["transactions_oldest_seconds"], document["uptime_seconds"]) == (9.0, 5.0)
    assert (document["version"], document["ready"]) == ("1.2.3, 1.3.0", False)
    assert document["reason"] == f"{there[1].address}: draining"
    assert [one["cluster"] for one in document["clusters"]] == [one.address for one in there]


def test_one_that_is_away_is_named_and_the_others_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with standing_in(pages()) as there:
        arguments = ["--admin", f"{there.address},{NOBODY}"]
        assert cli.main(["sessions", *arguments]) == 1
        captured = capsys.readouterr()
        heading, *rows = captured.out.splitlines()
        assert heading.split()[0] == "PROXY"
        assert [row.split()[0] for row in rows] == [there.address] * 2
        assert captured.err == (
            f"mongo-session-proxy: {NOBODY}: Connection refused; does the proxy run there?\n"
        )
        document = Several([place_of(there.address), place_of(NOBODY)]).get("summary")
        assert (document["ready"], document["reason"][: len(NOBODY)]) == (False, NOBODY)
        assert cli.main(["top", *arguments]) == 0
        assert "alice@admin" in capsys.readouterr().out
    assert cli.main(["sessions", "--admin", NOBODY, "--admin", "127.0.0.1:2"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.count(NOBODY) == line.count("127.0.0.1:2") == 1


def test_where_it_is_may_be_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({"readyz": (200, "ok")}) as one, standing_in({"readyz": (503, "no")}) as two:
        monkeypatch.setenv("MONGO_SESSION_PROXY_ADMIN", one.address)
        assert cli.main(["ready"]) == 0
        monkeypatch.setenv("MONGO_SESSION_PROXY_ADMIN", f"{one.address},{two.address}")
        assert cli.main(["ready"]) == 1
        assert f"{two.address}: not ready: no" in capsys.readouterr().err
        assert cli.main(["ready", "--admin", f"http://{one.address}/"]) == 0
        monkeypatch.setenv("MONGO_SESSION_PROXY_ADMIN", "ftp://x")
        assert cli.main(["ready"]) == 2
    assert "MONGO_SESSION_PROXY_ADMIN: 'ftp://x': a URL has to begin" in capsys.readouterr().err


def test_a_name_of_one_machine_alone_is_one_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(pages()) as there:
        where = there.address.replace("127.0.0.1", "localhost")
        alone = Several([place_of(where)])
        assert (alone.address, "proxy" in alone.get("sessions")["sessions"][0]) == (where, False)


def test_a_name_of_several_is_several(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(pages()) as there:
        port = int(there.address.rpartition(":")[2])

        def look_up(place: Place) -> list[Place]:
            return [place._replace(host="proxies", ip=ip) for ip in ("127.0.0.1", "127.0.0.2")]

        monkeypatch.setattr("proxy.terminal.several.resolved", look_up)
        found = Several([Place("proxies", port)])
        assert found.address == "2 proxies"
        document = found.get("sessions")
        assert {one["proxy"] for one in document["sessions"]} == {f"127.0.0.1:{port}"}
        assert document["problems"][0].startswith(f"127.0.0.2:{port}: ")
        assert there.asked[0][2]["host"] == f"proxies:{port}"


# ---------------------------------------------------------------------- TLS


def test_https_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with standing_in(pages(), tls=context) as there:
        url = f"https://{there.address.replace('127.0.0.1', 'localhost')}/behind"
        there.answers = {"behind/summary": summary()}
        with pytest.raises(
            Trouble, match=r"^https://localhost:\d+/behind: .*verif|self.signed|issuer"
        ):
            Endpoint(url).get("summary")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca"))
        assert Endpoint(url).get("summary")["version"] == "1.2.3"
        with pytest.raises(Trouble, match=r"(?i)mismatch|not valid for"):
            Endpoint(f"https://{there.address}/behind").get("summary")


# ---------------------------------------------------------------------- actions


def seen(*ids: str, **more: Any) -> dict[str, Any]:
    rows = [session(session=one) for one in ids]
    counts = {"matched": len(rows), "operations": 0, "cursors": 0, "transactions": 0}
    return (
        {"dry_run": True, "reachable": len(rows), "unknown": [], "sessions": rows} | counts | more
    )


def done(killed: int, **more: Any) -> dict[str, Any]:
    none: dict[str, Any] = {"unreachable_sessions": [], "failed_sessions": [], "errors": {}}
    counts = {"matched": killed, "killed": killed, "unreachable": 0, "failed": 0}
    return {"dry_run": False, "unknown": []} | none | counts | more


def test_a_kill_is_of_all() -> None:
    errors = {"failed": 1, "errors": {"db:1: upstream refused: 13": 1}}
    with two({"kill": done(2)}, {"kill": done(1, **errors)}) as there:
        pattern = {"patterns": [{"owner": "a"}], "dry_run": False}
        document = several(*there).post("kill", pattern)
    assert (document["killed"], document["failed"], document["unknown"]) == (3, 1, [])
    assert document["errors"] == {f"{there[1].address}: db:1: upstream refused: 13": 1}


def test_what_one_knows_is_not_unknown() -> None:
    with two({"kill": seen(ID)}, {"kill": seen(unknown=[ID, OTHER])}) as there:
        document = several(*there).post("kill", {"sessions": [ID]})
        assert (document["unknown"], document["matched"]) == ([], 1)
        assert document["sessions"][0]["proxy"] == there[0].address


def test_the_beginning_of_an_id_is_of_one_on_all_of_them() -> None:
    with two({"kill": seen(ID)}, {"kill": seen(OTHER)}) as there:
        with pytest.raises(Trouble, match=f"^{ID[:8]}: several ids begin so: {ID}, {OTHER}"):
            several(*there).post("kill", {"sessions": [ID[:8]], "dry_run": False})
        assert [len(one.asked) for one in there] == [1, 1]
        several(*there).post("kill", {"sessions": [ID], "dry_run": False})
        assert [one.asked[-1][3]["dry_run"] for one in there] == [False, False]


def test_a_transaction_is_ended_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    row = who(session=ID, child=None, txn_number=7, age_seconds=1.0, idle_seconds=1.0, conn=12,
              operations=[], cursors=0, statements=2, upstream="db:1")  # fmt: skip
    open_one = {"dry_run": True, "transaction": row, "reachable": True}
    ended = {"outcome": "aborted", "problem": "", "transaction": row}
    nothing = (400, f"{ID}: no such session")
    with two({"abort": nothing}, {"abort": [open_one, ended]}) as there:
        where = ",".join(one.address for one in there)
        assert cli.main(["abort", ID, "--yes", "--admin", where]) == 0
        assert "is aborted" in capsys.readouterr().out
        assert [len(one.asked) for one in there] == [1, 2]
    with (
        two({"abort": open_one}, {"abort": open_one}) as there,
        pytest.raises(Trouble, match="all have it: say which one by --admin"),
    ):
        several(*there).post("abort", {"session": ID, "dry_run": False})
    committed = (400, f"{ID}: no transaction is open; its last one, 7, is committed")
    with (
        two({"abort": nothing}, {"abort": committed}) as there,
        pytest.raises(Trouble, match="is committed"),
    ):
        several(*there).post("abort", {"session": ID, "dry_run": False})


def test_a_connection_s_number_is_each_proxy_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    with two({}, {}) as there:
        where = ",".join(one.address for one in there)
        assert cli.main(["close", "12", "--yes", "--admin", where]) == 2
        assert there[0].asked == there[1].asked == []
    assert "each proxy has its own numbers: say which one by --admin" in capsys.readouterr().err


class Typing(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_has_the_proxy_of_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Typing(""))
    with two({}, {}) as there:
        where = ",".join(one.address for one in there)
        assert cli.main(["sessions", "--json", "--admin", where]) == 0
        document = json.loads(capsys.readouterr().out)
    assert {row["proxy"] for row in document["sessions"]} == {one.address for one in there}
