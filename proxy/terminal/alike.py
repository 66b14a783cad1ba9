"""What happened in a stretch of time on one screen: a row for all events that are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.events import said
from proxy.terminal.tables import listing
from proxy.terminal.views import Column, View, brief_incident

if TYPE_CHECKING:
    from datetime import datetime

Row = Mapping[str, Any]

#: What events that are alike have in common.
_ALIKE: Final = (
    *("event", "cluster", "user", "application", "kind", "rule", "bound", "limit", "outcome"),
    *("operator", "replaced", "namespace", "upstream", "worker", "owner", "result"),
)


def alike(events: Iterable[Row]) -> list[dict[str, Any]]:
    """A row for all that are alike, the one that began first at the top: how many there were, the
    first and the last time, the latest of them, and of several ``proxies`` at which."""
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for event in events:
        group = groups.setdefault(
            tuple(str(event.get(name)) for name in _ALIKE),
            {name: event.get(name) for name in ("event", "user", "application")}
            | {name: event[name] for name in ("cluster",) if name in event}
            | {"count": 0, "first": event["time"], "last": event["time"]},
        )
        if "proxy" in event and event["proxy"] not in (proxies := group.setdefault("proxies", [])):
            proxies.append(event["proxy"])
        group["count"] += event.get("count") or 1
        group["first"] = min(group["first"], event["time"])
        if event["time"] >= group["last"]:
            group |= {"last": event["time"], "latest": event}
    return sorted(groups.values(), key=lambda group: str(group["first"]))


def told(
    rows: list[dict[str, Any]], when: Callable[[str], datetime], cells: int | None
) -> list[str]:
    """The rows as lines of ``cells`` at the most; ``when`` gives the time that is shown."""
    days = {when(row[name]).date() for row in rows for name in ("first", "last")}
    form = "%H:%M:%S" if len(days) == 1 else "%m-%d %H:%M:%S"

    def moment(name: str) -> Callable[[Row], object]:
        return lambda row: f"{when(row[name]):{form}}"

    view = View(
        "history",
        "History",
        "",
        (
            Column("FIRST", moment("first"), right=True, keep=9),
            Column("LAST", moment("last"), right=True, keep=8),
            Column("TIMES", lambda row: f"{row['count']:,}", right=True, keep=9),
            Column("WHAT", _what, keep=9, enough=26),
            Column("PROXY", _proxy, keep=6, enough=9, rare=True, address=True),
            Column("CLUSTER", lambda row: row.get("cluster", ""), keep=8, rare=True),
            Column("USER", lambda row: row["user"] or "-", keep=8),
            Column("APPLICATION", lambda row: row["application"] or "-", keep=7, enough=10),
            Column("LATEST", _latest, keep=7, whole=True),
        ),
        below=True,
    )
    return listing(view, rows, cells)[0]


def _what(row: Row) -> str:
    """What such events are, in few words."""
    one = row["latest"]
    event = one["event"]
    if event in ("refused", "reported", "incident", "foreign_uid"):
        kind = one.get("kind") if event == "incident" else event
        return brief_incident({**one, "kind": kind, "rule": one.get("rule") or _PROXY.get(event)})
    if event == "transaction_ended":
        return f"transaction {one['outcome']}"
    return _WORDS.get(event, str(event).replace("_", " "))


def _proxy(row: Row) -> str:
    proxies = row.get("proxies", [])
    return f"{len(proxies)} proxies" if len(proxies) > 1 else "".join(proxies)


def _latest(row: Row) -> str:
    text = said(row["latest"])
    return "-" if text == _what(row) else text


#: Who refused where no rule did.
_PROXY: Final = {"refused": "the proxy"}
_WORDS: Final = {"slow": "slow request", "login_failed": "login failed"}
