"""What happened, one event in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.terminal.filtering import written
from proxy.terminal.printable import counted, printable, span
from proxy.terminal.views import incident

Row = Mapping[str, Any]


def said(row: Row) -> str:
    """One event in words."""
    event = row["event"]
    known = _SAID.get(event)
    text = event.replace("_", " ") if known is None else known(row)
    times = f" ({row['count']:,} times)" if row.get("count") else ""
    return printable(text + times)


def _over(row: Row) -> str:
    seconds = row.get("seconds")
    lasted = "" if seconds is None else f" after {span(seconds)}"
    statements = counted(row.get("statements", 0), "statement")
    return f"transaction {row['transaction']} {row['outcome']}{lasted}, {statements}"


def _decided(row: Row) -> str:
    by = row.get("rule") or "the proxy"
    would = "would be refused" if row["event"] == "reported" else "refused"
    return f"{row.get('command') or 'request'} {would} by {by}: {row.get('reason', '')}"


def _incident(row: Row) -> str:
    text = incident(row)
    return f"{text}: {row['reason']}" if row.get("reason") else text


def _foreign(row: Row) -> str:
    text = _incident({**row, "kind": "foreign_uid"})
    return f"{row['command']}: {text}" if row.get("command") else text


def _kill(row: Row) -> str:
    by = f" by operator {row['operator']}" if row.get("operator") else ""
    if not by and (row.get("command") == "kill" or row["event"] != "kill"):
        by = " by an operator"
    number = row.get("sessions", row.get("targets")) or 0
    why = f" ({row['reason']})" if row.get("reason") else ""
    what = counted(number, "session") if row["event"] == "kill" else f"conn {row.get('conn')}"
    return f"{row.get('command', 'kill')}{by} {row['kind']}: {what}{_meant(row)}{why}"


def _meant(row: Row) -> str:
    """By which filters an operator said whose sessions to kill, in the words of ``top``."""
    meant = row.get("meant") or {}
    named = [f"{meant['sessions']:,} by id"] if meant.get("sessions") else []
    said = [*map(written, meant.get("patterns", ())), *named]
    return f", meant were {' or '.join(said)}" if said else ""


def _slow(row: Row) -> str:
    where = f" on {row['namespace']}" if row.get("namespace") else ""
    comment = f", comment {row['comment']}" if row.get("comment") else ""
    return (
        f"{row['command'] or 'request'}{where} took {row['seconds']:.3f} s, "
        f"{row['upstream_seconds']:.3f} s upstream: {row['result']}{comment}"
    )


def _topology(row: Row) -> str:
    members = ", ".join(row.get("members") or ())
    text = f"topology: {row['kind']} of {members}, primary {row.get('primary') or 'none'}"
    before = row.get("primary_before")
    return f"{text} (was {before})" if before not in (None, row.get("primary")) else text


def _all_killed(row: Row) -> str:
    whose = "everybody" if row.get("everybody") else row["user"] or "nobody"
    return f"all sessions of {whose} killed: {row['sessions']:,}"


def _stopping(row: Row) -> str:
    return "proxy stopping: " + ("replaced by a new process" if row["replaced"] else "told to")


_SAID: Final[Mapping[str, Callable[[Row], str]]] = {
    "session_not_taken": lambda _: "session refused by upstream",
    "transaction_started": lambda row: f"transaction {row['transaction']} started",
    "transaction_ended": _over,
    "refused": _decided,
    "reported": _decided,
    "foreign_uid": _foreign,
    "incident": _incident,
    "kill": _kill,
    "abort": _kill,
    "interrupt": _kill,
    "close": _kill,
    "sessions_killed": _all_killed,
    "slow": _slow,
    "login_failed": lambda row: f"login failed: {row.get('reason', '')}",
    "topology": _topology,
    "upstream_down": lambda row: f"upstream {row['upstream']} down: {row.get('problem', '')}",
    "upstream_up": lambda row: f"upstream {row['upstream']} up again",
    "proxy_started": lambda row: f"proxy started, version {row['version']}",
    "proxy_stopping": _stopping,
    "reloaded": lambda row: "reloaded" if row["kind"] == "done" else "reload failed: see the log",
    "worker_died": lambda row: (
        f"worker {row['worker']} died, status {row.get('status')}, "
        f"{row.get('connections_lost', 0)} connections lost"
    ),
}
