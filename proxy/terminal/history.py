"""What happened, on a terminal: the command ``history``.

People say and read times of their own machine's zone; between them and the endpoint there are
seconds since 1970.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.alike import alike, told
from proxy.terminal.client import Trouble
from proxy.terminal.events import said
from proxy.terminal.filtering import has_cluster
from proxy.terminal.printable import counted, fitted, warn, width
from proxy.terminal.stretch import FILTERS
from proxy.terminal.tables import left_out, table
from proxy.terminal.views import Column, View, driver

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.client import Endpoint
    from proxy.terminal.several import Several

Row = Mapping[str, Any]

#: On a terminal that is narrower than this so many characters of a session's id are shown, which
#: are enough to find it by.
_WIDE: Final = 160
_SHORT: Final = 8

#: And on one that is narrower than this times are shown without their fractions.
_NARROW: Final = 100

#: Fields that are always asked for.
_TIMES: Final = 2

#: Events that are looked at where all that are alike have one line.
_ALL: Final = 1_000_000

#: Events that are asked for at a time.
_PAGE: Final = 10_000


def history(endpoint: Endpoint | Several, options: argparse.Namespace, cells: int | None) -> int:
    """Print what is asked for and return the exit status. A line takes ``cells`` at the most."""
    from proxy.settings.moments import moment

    zone = UTC if options.utc else None
    now = time.time()
    name = "--since"
    try:
        since = moment(options.since, now, zone)
        name = "--until"
        until = moment(options.until, now, zone, after=since)
    except ValueError as error:
        raise Trouble(f"{name}: {error}", 2) from error
    if until < since:
        late = "--since: is in the future" if since > now else "--until: is before --since"
        raise Trouble(late, 2)
    fields: dict[str, Any] = {"since": since, "until": until}
    for name in FILTERS:
        value = getattr(options, f"filter_{name}")
        if value is not None:
            fields[name] = value
    document = _gather(endpoint, fields, _ALL if options.alike else options.limit)
    if "cluster" in fields and not document["matched"]:
        has_cluster(endpoint.get("summary"), fields["cluster"])
    rows = [*document["events"], *document["open_meanwhile"]]
    groups = alike(rows) if options.alike else []
    if options.json:
        whole = document if not options.alike else document | {"alike": groups, "events": []}
        print(json.dumps(whole))
        return 0
    print("\n".join(_told(document, zone)), file=sys.stderr)
    missing: list[str] = []
    if groups:
        lines = told(groups, lambda text: _when(text, zone), cells)
    else:
        lines = list(_lines(rows, zone, cells, missing))
    if lines:
        print("\n".join(lines))
        if missing:
            print(f"(left out: {', '.join(missing)}; a pipe has all)", file=sys.stderr)
    else:
        print("no events match" if len(fields) > _TIMES else "no events", file=sys.stderr)
    warn(document.get("problems", ()))
    more = document["matched"] - len(document["events"])
    if more > 0:
        few = "" if options.alike else ", or --alike for a line for all that are alike"
        print(f"… and {more:,} more: --limit {document['matched']}{few}", file=sys.stderr)
    return 0


def _gather(endpoint: Endpoint | Several, fields: dict[str, Any], limit: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    events: list[Row] = []
    while len(events) < limit:
        asked: dict[str, Any] = {"limit": min(_PAGE, limit - len(events)), "skip": len(events)}
        found = endpoint.get("history", fields | asked)
        document = document or found
        events += found["events"]
        document["next"] = found["next"]
        if found["next"] is None or not found["events"]:
            break
    return document | {"events": events}


def _told(document: Row, zone: tzinfo | None) -> list[str]:
    """What the whole stretch comes to, in a line or a few."""
    since, until = (_when(document[name], zone) for name in ("since", "until"))
    of = "UTC" if zone is UTC else since.strftime("%Z") or "local time"
    same = until.date() == since.date()
    end = until.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M:%S")
    events = counted(document["matched"], "event")
    lines = [f"{since:%Y-%m-%d %H:%M:%S} to {end} {of}: {events}"]
    if document["counts"]:
        kinds = (f"{count:,} {name}" for name, count in document["counts"].items())
        lines.append("  " + ", ".join(kinds))
    if document["samples"]:
        most = [
            f"{max(one[name] for one in document['samples']):,} {said}"
            for name, said in (
                ("sessions", "sessions"),
                ("transactions", "open transactions"),
                ("cursors", "cursors"),
                ("connections", "connections"),
            )
        ]
        requests = max(one["requests"] for one in document["samples"]) / document["step_seconds"]
        lines.append(f"  at the most {', '.join(most)}, {requests:,.0f} requests a second")
    begin = document["remembered_since"]
    if begin is None:
        lines.append("  nothing is remembered yet")
    elif begin > document["since"]:
        lines.append(f"  remembered since {_when(begin, zone):%Y-%m-%d %H:%M:%S} only")
    return lines


def _lines(
    rows: Sequence[Row], zone: tzinfo | None, cells: int | None, missing: list[str]
) -> Iterable[str]:
    """A table with what happened as its last column, of which nothing is cut. ``missing`` gets the
    columns that there is no room for."""
    if not rows:
        return
    days = {_when(one["time"], zone).date() for one in rows}
    form = "%H:%M:%S" if len(days) == 1 else "%m-%d %H:%M:%S"
    view = View("history", "History", "", tuple(_columns(zone, form, cells)))
    # What happened has nearly half of the line, if it is as narrow as that.
    room = None if cells is None else max(30, cells // 2 + 6)
    who = table(view, rows, room)
    missing += left_out(view, rows, room)
    longest = max(map(width, who))
    for line, what in zip(who, ["WHAT", *map(said, rows)], strict=True):
        first, *others = [what] if cells is None else wrap(what, max(20, cells - longest - 4))
        yield f"{fitted(line, longest)}  {first}"
        for other in others:
            yield " " * (longest + 4) + other


def _columns(zone: tzinfo | None, form: str, cells: int | None) -> Iterable[Column]:
    """As many as there is room for."""
    # What stands on the right is never cut.
    exact = cells is None or cells >= _NARROW

    def moment(row: Row) -> str:
        when = _when(row["time"], zone)
        return f"{when:{form}}.{when.microsecond // 1000:03d}" if exact else f"{when:{form}}"

    yield Column("TIME", moment, right=True, keep=9)
    yield Column("PROXY", lambda row: row.get("proxy", ""), rare=True, enough=9)
    yield Column("CLUSTER", lambda row: row.get("cluster", ""), rare=True, keep=8, enough=6)
    yield Column("USER", lambda row: row["user"] or "-", enough=6, keep=8)
    yield Column("APPLICATION", lambda row: row["application"] or "-", enough=8, keep=8)
    yield Column("DRIVER", driver, enough=8, keep=2)
    yield Column("CLIENT", lambda row: row["client"] or "-", enough=9, keep=3)
    short = None if cells is None or cells >= _WIDE else _SHORT
    yield Column("SESSION", lambda row: (row["session"] or "-")[:short], right=True, keep=9)


def _when(text: str, zone: tzinfo | None) -> datetime:
    return datetime.fromisoformat(text).astimezone(zone)
