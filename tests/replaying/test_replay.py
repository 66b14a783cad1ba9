"""What rules would have refused of what was written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from proxy import cli
from proxy.conversation.rule import Context
from proxy.errors import CommandError, ConfigError
from proxy.observe.blocks import packed
from proxy.replaying.events import read
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId

UUIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(9)]


class NoDrops:
    """Looks at whatever its settings name."""

    name = "no_drops"
    judges = "all"

    @dataclass(frozen=True)
    class Settings:
        looks_at: str = "command"
        word: str = "drop"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def refuse(self, context: Context) -> CommandError | None:
        found: Any = context
        for name in self._settings.looks_at.split("."):
            if name == "broken":
                raise ZeroDivisionError("by zero")
            found = getattr(found, name)
        if str(found) == self._settings.word:
            return CommandError(13, "Unauthorized", "nothing is dropped here")
        return None


def audited(command: str = "drop", **more: Any) -> dict[str, Any]:
    line = {
        "time": "2026-11-21T10:18:05.252+00:00", "conn": 2, "user": "olivia@admin",
        "client": "10.0.0.7", "application": "shop", "driver": "PyMongo", "driver_version": "4",
        "upstream": "db1:27017", "command": command, "decision": "reported", "reason": "because",
        "rule": "kill_guard", "targets": None, "session": None, "owner": None, "count": 1,
    }  # fmt: skip
    return line | more


def happened(event: str, second: float, session: int | None = 1, **more: Any) -> dict[str, Any]:
    row = {
        "time": f"2026-11-21T10:18:{second:06.3f}Z", "event": event, "user": "alice@app",
        "application": "shop", "driver": "PyMongo", "driver_version": "4", "client": "10.0.0.7",
        "session": None if session is None else UUIDS[session],
    }  # fmt: skip
    return row | more


def looking_at(name: str = "command", word: str = "drop") -> str:
    rule = f'rule = "{__name__}:NoDrops"'
    return f'[[policies.custom]]\n{rule}\nsettings = {{ looks_at = "{name}", word = "{word}" }}\n'


@pytest.fixture
def replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command on lines or a history; gives what it prints, as JSON unless told else."""

    def run(
        rules: str, *lines: dict[str, Any], history: bool = False, flags: str = "--json"
    ) -> Any:
        text = json.dumps({"events": lines}) if history else "\n".join(map(json.dumps, lines))
        (tmp_path / "rules.toml").write_text(rules)
        (tmp_path / "written").write_text(text)
        rules_file, written = str(tmp_path / "rules.toml"), str(tmp_path / "written")
        assert cli.main(["replay", written, "--rules", rules_file, *flags.split()]) == 0
        said = capsys.readouterr().out
        return json.loads(said) if flags == "--json" else said

    return run


def test_an_audit_log(replayed) -> None:
    login = audited("saslStart", claimed="x@admin", decision="failed")
    operator = audited("killSessions", conn=None, operator="night", decision="done")
    late = audited("abortTransaction", conn=None, decision="aborted")
    found = replayed(
        looking_at(), audited(), audited("find"), audited(count=2), login, operator, late
    )
    assert found["judged"] == 3
    assert [one["command"] for one in found["refused"]] == ["drop", "drop"]
    first = found["refused"][0]
    assert (first["rule"], first["user"], first["application"]) == (
        "no_drops",
        "olivia@admin",
        "shop",
    )
    assert (first["time"], first["was"]) == ("2026-11-21T10:18:05.252000+00:00", "reported")
    assert found["left_out"] == {"login failed": 1, "operator": 2}
    assert found["unknown"] == []


def test_what_is_not_written_down_is_not_guessed(replayed) -> None:
    for name, what in (
        ("namespaces", "the namespaces"),
        ("caller.identity.roles", "roles"),
        ("info.txn_number", "the txnNumber"),
        ("store.max_sessions", "which sessions there were"),
        ("request.fields", "fields"),
    ):
        found = replayed(looking_at(name), audited(session=f"{UUIDS[1]} - {'A' * 43}="))
        assert found["refused"] == []
        assert found["unknown"] == [{"rule": "no_drops", "looks_at": what, "count": 1}]
    found = replayed(looking_at("writes", "True"), audited(), audited("find"), audited("aggregate"))
    assert len(found["refused"]) == 1
    assert found["unknown"][0]["looks_at"] == "whether it writes"
    assert replayed(looking_at("broken"), audited())["failed"] == {"no_drops": "by zero"}


def test_namespaces_are_written_down_by_now(replayed) -> None:
    about = {"namespaces": ["db.c"], "writes": True}
    found = replayed(looking_at("namespaces", "('db.c',)"), audited("aggregate", **about))
    assert len(found["refused"]) == 1
    found = replayed(looking_at("writes", "True"), audited("aggregate", **about))
    assert len(found["refused"]) == 1
    # Of several that were the same in a history the latest only has them.
    rows = [happened("reported", 1, None, command="drop", count=count, **about) for count in (1, 2)]
    found = replayed(looking_at("namespaces", "('db.c',)"), *rows, history=True)
    assert (len(found["refused"]), found["unknown"][0]["count"]) == (1, 2)


BUDGET = "[policies.session_budget]\nper_user = 1\n"


def test_sessions_of_a_history_and_what_comes_after_a_refusal(replayed) -> None:
    rows = (
        happened("session_started", 1, 1),
        happened("session_started", 2, 2),
        happened("transaction_started", 3, 2, transaction=1),
        happened("session_ended", 4, 2),
        happened("session_started", 5, 3, user="bob@app"),
        happened("proxy_started", 6, None),
    )
    found = replayed(BUDGET, *rows, history=True)
    assert [one["session"][:8] for one in found["refused"]] == ["00000002"]
    assert (found["judged"], found["after"]) == (3, 2)
    assert found["left_out"] == {"proxy started": 1}
    # One for each line is the same.
    assert replayed(BUDGET, *rows) == found


def test_transactions_of_a_history(replayed) -> None:
    rows = [
        happened("session_started", 0, 1),
        happened("session_started", 0, 2),
        happened("transaction_started", 1, 1, transaction=1),
        happened("transaction_ended", 2, 2, transaction=1, seconds=0.5, outcome="aborted"),
        happened("transaction_ended", 9, 1, transaction=1, seconds=8.0, outcome="committed"),
        happened("transaction_ended", 9.5, 1, transaction=2, seconds=0.2, outcome="committed"),
    ]
    guard = "[policies.transaction_guard]\n"
    found = replayed(f"{guard}per_user = 1\n", *rows, history=True)
    assert [(one["event"], one["session"][:8]) for one in found["refused"]] == [
        ("transaction_started", "00000002")
    ]
    found = replayed(f"{guard}total_seconds = 5\n", *rows, history=True)
    (late,) = found["refused"]
    assert (late["event"], late["reason"]) == (
        "transaction_ended",
        "it was open for more than 5 seconds",
    )
    assert found["judged"] == 6
    found = replayed(f"{guard}idle_seconds = 5\n", *rows, history=True)
    assert found["refused"] == []
    assert found["unknown"][0]["looks_at"] == "when the statements of a transaction came"


def test_refusals_and_kills_of_a_history(replayed) -> None:
    rows = [
        happened("reported", 1, None, command="drop", count=3, rule="other"),
        happened("kill", 2, None, command="killAllSessions", kind="done", targets=9),
        happened("kill", 3, None, command="killSessions", kind="done", targets=1),
        happened("kill", 4, None, command="killSessions", kind="done", operator="night"),
    ]
    found = replayed(f"{looking_at()}[policies.kill_guard]\nmax_sessions = 5", *rows, history=True)
    assert [one["rule"] for one in found["refused"]] == ["no_drops"] * 3 + ["kill_guard"]
    found = replayed('[policies.kill_guard]\npermission = "root@admin"', *rows, history=True)
    assert {one["looks_at"] for one in found["unknown"]} == {"kills_everybody"}


def test_the_table_says_what_it_does_not_know(replayed) -> None:
    said = replayed(
        looking_at() + BUDGET, audited(), audited(decision="refused", rule="mine"),
        audited("find", session=f"{UUIDS[1]} - {'A' * 43}="), flags="--utc --limit 1",
    )  # fmt: skip
    heading, line, *rest = said.splitlines()
    assert heading.split() == ["TIME", "RULE", "USER", "APPLICATION", "CLIENT", "WHAT"]
    assert line.startswith("2026-11-21 10:18:05  no_drops  olivia@admin  shop")
    assert line.endswith("drop: nothing is dropped here")
    assert rest == [
        "2 of 3 events would be refused: 2 no_drops",
        "  events: 2 reported, 1 refused; of other requests nothing is written down",
        "  whose: 2 olivia@admin · shop",
        "  asked: session_budget, no_drops",
        "  session_budget could not judge 1: it looks at which sessions there were, which is not"
        " written down",
    ]


@pytest.mark.parametrize(
    ("rules", "flags", "problem"),
    [
        ("policies = 3", "", "rules.toml:1: policies: should be a table, not 3"),
        ('[[policies.custom]]\nrule = "x"', "", "policies.custom[0].rule: "),
        ("[policies.session_budget]\nper_user = -1", "", "rules.toml:2: policies.session_budget"),
        ("[[cluster]]\nname = 'a'", "--cluster b", "--cluster: should be the name of one"),
        ("a =", "", "rules.toml:1"),
    ],
)
def test_rules_that_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rules: str, flags: str, problem: str
) -> None:
    (tmp_path / "rules.toml").write_text(rules)
    (tmp_path / "audit").write_text("")
    arguments = [str(tmp_path / "audit"), "--rules", str(tmp_path / "rules.toml"), *flags.split()]
    assert cli.main(["replay", *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_the_rules_of_a_cluster(replayed) -> None:
    rules = looking_at().replace("[[policies", "[[cluster.policies")
    clusters = f'[[cluster]]\nname = "a"\n[[cluster]]\nname = "b"\n{rules}'
    said = replayed(clusters, audited(), flags="--cluster b")
    assert "1 of 1 event would be refused: 1 no_drops" in said


def test_events_of_another_cluster_are_not_judged_with_those_of_one(replayed) -> None:
    rows = [audited("find", cluster=name, session=f"{UUIDS[n]} - {'A' * 43}=")
            for n, name in enumerate(("a", "b", "b"))]  # fmt: skip
    said = replayed(looking_at(), *rows, flags="--utc")
    assert "  of several clusters, judged as if they were one: a, b; --cluster takes one's" in said
    said = replayed(looking_at(), *rows, audited("find"), flags="--cluster b")
    assert "0 of 3 events would be refused" in said
    assert "left out, as no rule is asked about them: 1 of cluster a" in said
    assert "of several clusters" not in said


def test_the_files_of_a_history() -> None:
    who = ("", "alice@app", "shop", "PyMongo", "4", "10.0.0.7", UUIDS[1].replace("-", ""))
    lives = [
        (2000, "session_started", *who, None),
        (3500, "transaction_ended", *who, [1, "aborted", 1.5, 1]),
    ]
    lost = [(4000, "transaction_ended", *who, [2, "expired", -1, 0])]
    rare = [(1000, "reported", *who[:-1], "", {"command": "drop", "rule": "x"})]
    samples = [(1000, "", 3, 4, 5, 6, 7, 8, 9, 10), (2000, "", 3)]
    written = read([("a", packed(lives) + packed(lost)), ("b", packed(rare) + packed(samples))])
    assert [(event.time, event.kind, event.command) for event in written.events] == [
        (1.0, "command", "drop"),
        (2.0, "session_started", ""),
        (2.0, "transaction_started", ""),
        (3.5, "transaction_ended", ""),
        (4.0, "transaction_ended", ""),
    ]
    assert written.events[1].session == LogicalSessionId(
        UUID(UUIDS[1]).bytes, user_digest("alice", "app")
    )
    with pytest.raises(ConfigError, match="a: is damaged"):
        read([("a", packed(lives)[:-9])])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing", "x:1: is no JSON, as each line of an audit log is"),
        ("[1]", "x:1: is no JSON, as each line of an audit log is"),
        ('{"time": 3}', "x:1: is no line of an audit log or a history"),
        ('{"events": [3]}', "x: event 1 is no table"),
        ('{"events": [{"event": "session_started"}]}', "x: event 1: is no line"),
    ],
)
def test_files_that_are_neither(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read([("x", text.encode())])
    assert caught.value.problems[0].startswith(problem)


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.touch()
    assert cli.main(["replay", str(tmp_path / "none"), "--policy", str(rules)]) == 1
    assert "No such file" in capsys.readouterr().err


def test_how_many_lines_are_shown_is_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", "-", "--rules", "x", "--limit", "-1"])
    assert "--limit: has to be a number from 1 to 1000000" in capsys.readouterr().err
