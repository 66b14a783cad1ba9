"""The commands that change something: each shows first what it means, and asks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.arguments import filters
from proxy.terminal.client import Trouble
from proxy.terminal.printable import counted, printable, screen_width, span, warn
from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.client import Endpoint
    from proxy.terminal.several import Several

_Document = dict[str, Any]


def act(endpoint: Endpoint | Several, options: argparse.Namespace) -> int:
    """Carry out one of them and return the exit status."""
    if not (options.dry_run or options.yes) and not (sys.stdin.isatty() and not options.json):
        raise Trouble(f"say --dry-run to look or --yes to {options.command}", 2)
    if options.command == "kill":
        return _kill(endpoint, options)
    wanted = _wanted(options)
    if not options.yes:
        seen = endpoint.post(options.command, wanted | {"dry_run": True})
        if options.json:
            print(json.dumps(seen))
            return 0
        print("\n".join(meant(seen, options.command, screen_width())))
        wanted |= pinned(seen, options.command)
        if options.dry_run or not _sure(QUESTIONS[options.command]):
            return 0
    done = endpoint.post(options.command, wanted | {"dry_run": False})
    if options.json:
        print(json.dumps(done))
    else:
        print("\n".join(became(done, options.command, screen_width())))
    return 1 if done["outcome"] in ("committed", "failed", "unreachable") else 0


QUESTIONS: Final = {
    "abort": "End this transaction?",
    "interrupt": "Interrupt this?",
    "close": "Close this connection?",
}


def _wanted(options: argparse.Namespace) -> _Document:
    wanted: _Document = {}
    if options.filter_cluster is not None:
        wanted["cluster"] = options.filter_cluster
    if options.command == "abort":
        wanted["session"] = options.session
        if options.child is not None:
            wanted["child"] = options.child
    elif options.command == "close":
        wanted["conn"] = options.conn
    elif (options.conn is None) is (options.session is None):
        raise Trouble("say which: CONN or --session ID", 2)
    else:
        named = {"conn": options.conn, "session": options.session}
        wanted |= {name: value for name, value in named.items() if value is not None}
    return wanted


def meant(seen: _Document, command: str, cells: int | None) -> Iterator[str]:
    """A preview in lines that take ``cells`` at the most."""
    if command == "kill":
        yield from _hit(seen, cells)
    elif command == "abort":
        row = seen["transaction"]
        yield from table(VIEWS["transactions"], [row], cells)
        if row["operations"]:
            yield "What is in flight in it is interrupted."
        if not seen["reachable"]:
            yield "Its owner has no idle connection, and nobody else may end it."
    else:
        row = seen["connection"]
        yield from table(VIEWS["connections"], [row], cells)
        if command == "close":
            yield "Its sessions, and what they have open upstream, stay as they are."
        elif row.get("session"):
            whose = printable(row.get("owner") or "nobody")
            yield f"{_flight(row)} in session {printable(row['session'])} of {whose}"


def pinned(seen: _Document, command: str) -> _Document:
    """What to add to what was asked for it to be what a preview showed and nothing else."""
    if command == "abort":
        row = seen["transaction"]
        return {"txn_number": row["txn_number"], "child": row["child"]}
    if command == "interrupt":
        return {"operation": seen["connection"]["operation"]}
    return {}


def _flight(row: _Document) -> str:
    return f"{printable(row['command'])} for {span(row['operation_seconds'])}"


def became(done: _Document, command: str, cells: int | None) -> Iterator[str]:
    """What became of it, in lines."""
    if command == "kill":
        yield from _killed(done, cells)
    else:
        yield _became(done, command)


def _became(done: _Document, command: str) -> str:
    outcome = done["outcome"]
    if command == "abort":
        row = done["transaction"]
        what = f"transaction {row['txn_number']} of session {printable(row['session'])}"
        problem = printable(done["problem"])
        said = {
            "aborted": "is aborted",
            "over": "was over already",
            "committed": "has been committed in the meantime",
        }
        return f"{what} {said.get(outcome, f'is not ended: {problem}')}"
    row = done["connection"]
    if command == "close":
        return f"connection {row['conn']} {'is closed' if outcome == 'closed' else 'was gone'}"
    if outcome == "over":
        return "it was over already"
    how = {
        "killOp": "upstream has ended it; its connection lives",
        "closed": "the client was told so, and its connection closed",
    }
    return f"{printable(row['command'])} on connection {row['conn']} is interrupted: {how[outcome]}"


# ------------------------------------------------------------------ sessions


def _kill(endpoint: Endpoint | Several, options: argparse.Namespace) -> int:
    wanted: _Document = {}
    if options.sessions:
        wanted["sessions"] = options.sessions
    pattern = filters(options)
    cluster = pattern.pop("cluster", None)
    if pattern:
        wanted["patterns"] = [pattern]
    if len(wanted) != 1:
        raise Trouble("say which: sessions by id, or filters such as --application, not both", 2)
    if cluster is not None:
        wanted["cluster"] = cluster
    if not options.yes:
        seen = endpoint.post("kill", wanted | {"dry_run": True})
        if options.json:
            print(json.dumps(seen))
            return 0
        print("\n".join(meant(seen, "kill", screen_width())))
        warn(seen.get("problems", ()))
        sure = sure_of(seen["matched"])
        if options.dry_run or not seen["matched"] or not _sure(sure):
            return 0
        named = options.sessions or pattern.keys() == {"session"}
        if named and len(seen["sessions"]) == seen["matched"]:
            # Those, whoever else's id begins so by now.
            wanted.pop("patterns", None)
            wanted["sessions"] = [
                {name: row[name] for name in ("session", "uid")} for row in seen["sessions"]
            ]
    done = endpoint.post("kill", wanted | {"dry_run": False})
    if options.json:
        print(json.dumps(done))
    else:
        print("\n".join(became(done, "kill", screen_width())))
    missed = done["unreachable"] or done["failed"] or done["unknown"]
    return 1 if warn(done.get("problems", ())) or missed else 0


def _hit(seen: _Document, cells: int | None) -> Iterator[str]:
    yield from listed(seen, cells)
    yield from hit(seen)


def listed(seen: _Document, cells: int | None) -> Iterator[str]:
    """The sessions that a kill would hit."""
    if seen["sessions"]:
        yield from table(VIEWS["sessions"], seen["sessions"], cells)
    left = seen["matched"] - len(seen["sessions"])
    if left:
        yield f"… and {left:,} more"


def hit(seen: _Document) -> Iterator[str]:
    """What a kill would hit, in numbers."""
    yield (
        f"{counted(seen['matched'], 'session')} with "
        f"{counted(seen['operations'], 'command')} in flight, "
        f"{counted(seen['transactions'], 'open transaction')} and "
        f"{counted(seen['cursors'], 'open cursor')}"
    )
    yield from _unknown(seen)
    yield from _again(seen)
    if seen["reachable"] < seen["matched"]:
        missing = seen["matched"] - seen["reachable"]
        yield f"{missing:,} of them cannot be killed: their owners have no idle connection for it"


def sure_of(sessions: int) -> str:
    """What is asked before so many are killed."""
    return "Kill this session?" if sessions == 1 else f"Kill these {sessions:,} sessions?"


def _sure(question: str) -> bool:
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _killed(done: _Document, cells: int | None) -> Iterator[str]:
    if not done["matched"] and not done["unknown"]:
        yield "no sessions match"
        return
    yield (
        f"{done['killed']:,} killed, {done['unreachable']:,} unreachable, {done['failed']:,} failed"
    )
    yield from _freed(done)
    yield from _unknown(done)
    yield from _again(done)
    for error, count in done["errors"].items():
        yield f"{printable(error)}: {counted(count, 'session')}"
    if done["unreachable"]:
        yield "unreachable: their owners have no idle connection to kill them through"
    rows = [*done["unreachable_sessions"], *done["failed_sessions"]]
    if rows:
        yield from table(VIEWS["sessions"], rows, cells)


def _freed(done: _Document) -> Iterator[str]:
    # A proxy of an earlier version does not say it.
    if "freed" not in done:
        return
    if done["freed"]:
        yield f"places freed in the session budget: {done['freed']:,}"
    for row in done["freed_by"]:
        whose = f"{row['owner'] or 'nobody'} · {row['application'] or 'no application name'}"
        if "proxy" in row:
            whose = f"{row['proxy']} · {whose}"
        left = [
            f"{who} has {row[f'{name}_live']:,} of {row[f'{name}_limit']:,} still in use"
            for who, name in (("the owner", "owner"), ("the application", "application"))
            if row[f"{name}_limit"]
        ]
        yield printable("  " + "; ".join([f"{whose}: {row['freed']:,}", *left]))
    if done["kept"]:
        yield f"places kept, since something is open still: {done['kept']:,}"


def _again(document: _Document) -> Iterator[str]:
    # A proxy of an earlier version does not say it.
    if before := document.get("killed_before"):
        yield f"{before:,} of them had been killed before, and not been used since"


def _unknown(document: _Document) -> Iterator[str]:
    for one in document["unknown"]:
        yield f"{printable(one)}: no such session"
