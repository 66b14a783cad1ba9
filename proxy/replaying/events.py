"""Lines of the audit log, and rows of the history, as what rules are asked about."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from proxy.errors import ConfigError
from proxy.observe.flight import OF_TRANSACTION
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId, Origin
from proxy.texts import shown

#: What the history says of a session's life and a transaction's.
SESSION_STARTED: Final = "session_started"
SESSION_OVER: Final = ("session_ended", "session_killed", "session_not_taken")
TRANSACTION_STARTED: Final = "transaction_started"
TRANSACTION_ENDED: Final = "transaction_ended"

#: What a row begins with in the files of a history (:data:`proxy.observe.flight.Row`).
_OF_BLOCK: Final = (
    *("time", "event", "cluster", "user", "application", "driver", "driver_version", "client"),
    "session",
)
_GZIP: Final = b"\x1f\x8b"

#: What became of a request, of those that rules are asked about.
_DECIDED: Final = ("refused", "reported", "done", "failed")


@dataclass(slots=True)
class Event:
    """Something that somebody asked for, or that became of it.

    ``time`` is in seconds since 1970. ``kind`` is one of the above, or ``command`` for a request of
    which the command is known. ``targets`` are the known sessions that a kill meant, None where
    that is not written down. ``seconds`` is how long a transaction was open.
    """

    time: float
    kind: str
    user: str
    origin: Origin
    command: str = ""
    session: LogicalSessionId | None = None
    number: int | None = None
    upstream: str = ""
    targets: int | None = None
    seconds: float | None = None
    outcome: str = ""
    decision: str = ""
    rule: str = ""
    namespaces: tuple[str, ...] | None = None
    writes: bool | None = None


@dataclass(slots=True)
class Written:
    """What was read, the oldest first. ``left_out`` counts lines that no rule is asked about, by
    what they are. ``lives`` says that the lives of sessions are among the events, and ``clusters``
    of which they are, where the proxy has several."""

    events: list[Event] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    lives: bool = False
    clusters: set[str] = field(default_factory=set)


def read(files: Iterable[tuple[str, bytes]], cluster: str | None = None) -> Written:
    """The events of audit logs, of what ``history --json`` printed, and of the files of a history.

    Each is given with its name, for the text of an error. With ``cluster`` those of others are left
    out: sessions and users of the same name have nothing to do with each other there.

    Raises:
        ConfigError: it is none of these.
    """
    written = Written()
    rows = [row for name, data in files for row in _rows(_text(data, name), name)]
    started = {
        (row.get("session"), row.get("transaction"))
        for _, row in rows
        if row.get("event") == TRANSACTION_STARTED
    }
    for where, row in rows:
        of = row.get("cluster") or ""
        if cluster is not None and of not in ("", cluster):
            written.left_out[f"of cluster {shown(str(of))}"] += 1
            continue
        try:
            events = list(_events(row, started))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError([f"{where}: is no line of an audit log or a history"]) from error
        if not events:
            written.left_out[_what(row)] += 1
        elif of:
            written.clusters.add(shown(str(of)))
        written.events += events
    written.lives = any(event.kind == SESSION_STARTED for event in written.events)
    written.events.sort(key=lambda event: event.time)
    return written


def _text(data: bytes, name: str) -> str:
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError([f"{name}: is damaged: {error}"]) from error
    return data.decode("utf-8", "replace")


def _rows(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        for number, row in enumerate((*whole["events"], *whole.get("open_meanwhile", ())), 1):
            if not isinstance(row, dict):
                raise ConfigError([f"{name}: event {number} is no table"])
            yield f"{name}: event {number}", row
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, list) and all(isinstance(one, list) and len(one) > 1 for one in row):
            yield from ((f"{name}:{number}", _of_block(one)) for one in row if _is_event(one))
        elif isinstance(row, dict):
            yield f"{name}:{number}", row
        else:
            raise ConfigError([f"{name}:{number}: is no JSON, as each line of an audit log is"])


def _is_event(row: list[Any]) -> bool:
    """Whether a row of a history's file is one, and no sample of the numbers."""
    return len(row) == len(_OF_BLOCK) + 1 and all(isinstance(one, str) for one in row[1:-1])


def _of_block(row: list[Any]) -> dict[str, Any]:
    """A row as it is in a history's file, as ``history --json`` has it."""
    *known, more = row
    found = dict(zip(_OF_BLOCK, known, strict=True))
    if isinstance(more, list):
        more = dict(zip(OF_TRANSACTION, more, strict=False))
        if more.get("seconds", 0) < 0:
            more["seconds"] = None
    moment = datetime.fromtimestamp(found["time"] / 1000, UTC).isoformat()
    return {**found, "time": moment, **(more or {})}


def _events(row: Mapping[str, Any], started: Iterable[object]) -> Iterator[Event]:
    kind = row.get("event")
    if kind is None:
        yield from _of_audit(row)
    elif kind in (SESSION_STARTED, TRANSACTION_STARTED, *SESSION_OVER):
        yield _event(row, kind)
    elif kind == TRANSACTION_ENDED:
        over = _event(row, kind)
        if (row.get("session"), row.get("transaction")) not in started and over.seconds is not None:
            # One that is over at once has no line for its start.
            start = _event(row, TRANSACTION_STARTED)
            start.time -= over.seconds
            yield start
        yield over
    elif kind in ("refused", "reported"):
        count = int(row.get("count", 1))
        # Of several the latest only has its namespaces here.
        known = {} if count == 1 else {"namespaces": None, "writes": None}
        for _ in range(count):
            yield _event({**row, **known, "decision": kind}, "command")
    elif kind == "kill" and not row.get("operator"):
        yield _event({**row, "decision": row.get("kind")}, "command")


def _of_audit(row: Mapping[str, Any]) -> Iterator[Event]:
    decision, command = row["decision"], row["command"]
    by_clients = row.get("conn") is not None and not row.get("operator") and "claimed" not in row
    if by_clients and command and decision in _DECIDED:
        yield _event(row, "command")


def _event(row: Mapping[str, Any], kind: str) -> Event:
    user = row["user"]
    names = ("client", "application", "driver", "driver_version")
    return Event(
        datetime.fromisoformat(row["time"]).timestamp(),
        kind,
        user,
        Origin(*(str(row.get(name) or "") for name in names)),
        str(row.get("command") or ""),
        _session(row.get("session"), user),
        row.get("transaction"),
        str(row.get("upstream") or ""),
        row.get("targets", row.get("sessions")),
        row.get("seconds"),
        str(row.get("outcome") or ""),
        str(row.get("decision") or ""),
        str(row.get("rule") or ""),
        None if row.get("namespaces") is None else tuple(map(str, row["namespaces"])),
        row.get("writes"),
    )


def _session(text: str | None, user: str) -> LogicalSessionId | None:
    if not text:
        return None
    uuid, _, uid = text.partition(" - ")
    name, _, database = user.rpartition("@")
    digest = b64decode(uid) if uid else user_digest(name, database)
    return LogicalSessionId(UUID(uuid).bytes, digest)


def _what(row: Mapping[str, Any]) -> str:
    """What a line is about that no rule is asked about."""
    if "event" in row:
        return str(row["event"]).replace("_", " ")
    if "claimed" in row:
        return "login failed"
    return "operator" if row.get("conn") is None or row.get("operator") else "other"
