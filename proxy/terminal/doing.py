"""What ``top`` does to the rows that are chosen: what is asked, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.acting import QUESTIONS, became, hit, listed, meant, pinned, sure_of
from proxy.terminal.printable import printable

if TYPE_CHECKING:
    from proxy.terminal.client import Endpoint
    from proxy.terminal.several import Several

Row = Mapping[str, Any]

#: What is shown, in lines of so many cells at the most.
Text = Callable[[int], Sequence[str]]

#: The keys of what can be done, and the listings that it can be done in.
COMMANDS: Final = {"K": "kill", "A": "abort", "I": "interrupt", "C": "close"}
_WHERE: Final[Mapping[str, tuple[str, ...]]] = {
    "kill": ("sessions", "groups", "transactions", "cursors", "incidents"),
    "abort": ("sessions", "transactions"),
    "interrupt": ("sessions", "transactions", "connections"),
    "close": ("connections",),
}
#: What a session says of its transaction where that can be aborted.
_MAY_BE_OPEN: Final = ("in progress", "timed out", "unknown")


@dataclass(frozen=True, slots=True)
class Act:
    """Something to do: the endpoint's path and what is sent there, to the proxy of an address."""

    command: str
    body: Mapping[str, Any]
    proxy: str | None
    title: str


def commands(view: str) -> dict[str, str]:
    """By key, what can be done with rows of a listing."""
    return {key: command for key, command in COMMANDS.items() if view in _WHERE[command]}


def act_on(command: str, view: str, rows: Sequence[Row]) -> Act:
    """What it takes to do something to these rows.

    Raises:
        ValueError: that cannot be done to them; the text says why.
    """
    clusters = {row.get("cluster") for row in rows}
    if len(clusters) > 1:
        raise ValueError("the marked rows are of several clusters: do it in each by itself")
    body: dict[str, Any] = {} if None in clusters else {"cluster": clusters.pop()}
    if command == "kill":
        kill, title = _kill(view, rows)
        return Act(command, body | kill, None, title)
    if len(rows) > 1:
        raise ValueError(f"{command}: one at a time; Esc takes the marks away")
    [row] = rows
    proxy = row.get("proxy")
    if view == "connections":
        if command == "interrupt" and not row.get("in_flight"):
            raise ValueError(f"nothing is in flight on connection {row['conn']}")
        what = "connection" if command == "close" else "what is in flight on connection"
        title = f"{command.capitalize()} {what} {row['conn']}"
        return Act(command, body | {"conn": row["conn"]}, proxy, title)
    body |= _named(row)
    whose = f"session {_short(row)} of {_owner(row)}"
    if command == "interrupt":
        if not row["operations"]:
            raise ValueError(f"nothing is in flight in {whose}")
        return Act(command, body, proxy, f"Interrupt what is in flight in {whose}")
    if view == "transactions":
        body |= {"txn_number": row["txn_number"], "child": row.get("child")}
    elif row.get("transaction") not in _MAY_BE_OPEN and not row.get("child_transactions"):
        raise ValueError(f"no transaction is open in {whose}")
    return Act(command, body, proxy, f"Abort the transaction of {whose}")


def _kill(view: str, rows: Sequence[Row]) -> tuple[dict[str, Any], str]:
    if view == "groups":
        names = ("owner", "application", "driver")
        patterns = [{name: row[name] for name in names} for row in rows]
        if any("*" in value for one in patterns for value in one.values()):
            raise ValueError("a name with a star in it means others too: choose its sessions")
        whose = " · ".join(
            printable(rows[0][name] or f"no {name}") for name in ("owner", "application", "driver")
        )
        title = f"Kill the sessions of {whose}"
        return {"patterns": patterns}, title if len(rows) == 1 else f"Kill {len(rows)} groups"
    if not all(row.get("session") for row in rows):
        raise ValueError("there is no session to kill")
    if any(row.get("kind") == "foreign_uid" for row in rows):
        raise ValueError("the session is not of whoever did that: choose theirs among the groups")
    # An incident's is named by who used it, which may be somebody else's.
    sessions = {tuple(_named(row).items()): _named(row) for row in rows}
    title = f"Kill session {_short(rows[0])} of {_owner(rows[0])}"
    if len(sessions) > 1:
        title = f"Kill {len(sessions)} sessions"
    return {"sessions": list(sessions.values())}, title


def _named(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("session", "uid") if row.get(name)}


def _short(row: Row) -> str:
    return printable(row["session"])[:8]


def _owner(row: Row) -> str:
    return printable(row.get("owner") or "nobody")


@dataclass(frozen=True, slots=True)
class Preview:
    """What something would do, and the ``act`` that is just that; None where there is nothing to
    do. ``question`` is to be answered first."""

    text: Text
    act: Act | None
    question: str


def preview(endpoint: Endpoint | Several, act: Act) -> Preview:
    """Ask what something would do."""
    seen = endpoint.at(act.proxy).post(act.command, {**act.body, "dry_run": True})
    if act.command == "kill":
        question = sure_of(seen["matched"])
        known = act if seen["matched"] else None
    else:
        question, known = QUESTIONS[act.command], act
    if known is not None:
        known = replace(act, body={**act.body, **pinned(seen, act.command)})

    def text(cells: int) -> list[str]:
        if act.command != "kill":
            return _with_problems(seen, meant(seen, act.command, cells))
        # There may be more sessions than lines: first how many.
        return [*_with_problems(seen, hit(seen)), "", *listed(seen, cells)]

    return Preview(text, known, question)


def carry_out(endpoint: Endpoint | Several, act: Act) -> Text:
    """Do it, and say what became of it."""
    done = endpoint.at(act.proxy).post(act.command, {**act.body, "dry_run": False})
    return lambda cells: _with_problems(done, became(done, act.command, cells))


def _with_problems(document: Row, lines: Any) -> list[str]:  # noqa: ANN401 - any iterable of texts
    return [*lines, *map(printable, document.get("problems", ()))]
