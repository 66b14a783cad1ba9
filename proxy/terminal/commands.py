"""The commands that print once: listings and kills."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.arguments import filters, order
from proxy.terminal.client import Endpoint, Trouble, find_token
from proxy.terminal.printable import printable
from proxy.terminal.views import VIEWS, table

if TYPE_CHECKING:
    import argparse

#: Rows that are asked for at a time.
_PAGE: Final = 1_000


def run(options: argparse.Namespace) -> int:
    """Carry out one of the commands and return the exit status."""
    try:
        endpoint = Endpoint(options.admin, find_token(options.token_file))
        if options.command == "top":
            from proxy.terminal.top import top

            status = top(endpoint, options)
        elif options.command == "kill":
            status = _kill(endpoint, options)
        elif options.command == "ready":
            endpoint.ready()
            print(json.dumps({"ready": True}) if options.json else "ready")
            status = 0
        else:
            status = _list(endpoint, options)
        sys.stdout.flush()
    except Trouble as trouble:
        print(f"mongo-session-proxy: {trouble}", file=sys.stderr)
        return trouble.status
    except BrokenPipeError:
        # Whoever read along (head, less) has seen enough. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def screen_width() -> int | None:
    """How wide a table may be; None where nobody looks."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _list(endpoint: Endpoint, options: argparse.Namespace) -> int:
    view = VIEWS[options.command]
    fields: dict[str, Any] = filters(options)
    limit = getattr(options, "limit", None)
    sort = order(options, view.sort) if view.sort else ""
    if sort:
        fields["sort"] = sort
    document: dict[str, Any] = {}
    rows: list[Any] = []
    while limit is None or len(rows) < limit:
        if limit is not None:
            fields["limit"] = min(_PAGE, limit - len(rows))
        document = endpoint.get(view.name, fields)
        rows += document[view.name]
        if not document.get("next"):
            break
        fields["after"] = document["next"]
    if options.json:
        print(json.dumps(document | {view.name: rows}))
        return 0
    print("\n".join(table(view, rows, screen_width(), sort)))
    if document.get("next"):
        more = document["matched"] - len(rows)
        print(f"… and {more:,} more: --limit {document['matched']}", file=sys.stderr)
    return 0


def _kill(endpoint: Endpoint, options: argparse.Namespace) -> int:
    wanted: dict[str, Any] = {}
    if options.sessions:
        wanted["sessions"] = options.sessions
    pattern = filters(options)
    cluster = pattern.pop("cluster", None)
    if pattern:
        wanted["patterns"] = [pattern]
    if len(wanted) != 1:
        raise Trouble("say which: sessions by id, or filters such as --application, not both", 2)
    if not (options.dry_run or options.yes) and not (sys.stdin.isatty() and not options.json):
        raise Trouble("say --dry-run to look or --yes to kill", 2)
    if cluster is not None:
        wanted["cluster"] = cluster
    if not options.yes:
        seen = endpoint.post("kill", wanted | {"dry_run": True})
        if options.json:
            print(json.dumps(seen))
            return 0
        _show(seen)
        if options.dry_run or not seen["matched"] or not _sure(seen["matched"]):
            return 0
    done = endpoint.post("kill", wanted | {"dry_run": False})
    if options.json:
        print(json.dumps(done))
    else:
        _report(done)
    return 0 if not (done["unreachable"] or done["failed"] or done["unknown"]) else 1


def _show(seen: dict[str, Any]) -> None:
    if seen["sessions"]:
        print("\n".join(table(VIEWS["sessions"], seen["sessions"], screen_width())))
    left = seen["matched"] - len(seen["sessions"])
    if left:
        print(f"… and {left:,} more")
    print(
        f"{seen['matched']:,} sessions with {seen['operations']:,} commands in flight, "
        f"{seen['transactions']:,} open transactions and {seen['cursors']:,} open cursors"
    )
    _unknown(seen)
    _again(seen)
    if seen["reachable"] < seen["matched"]:
        missing = seen["matched"] - seen["reachable"]
        print(f"{missing:,} of them have an owner without an idle connection to kill them through")


def _sure(count: int) -> bool:
    print(f"Kill these {count:,} sessions? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _report(done: dict[str, Any]) -> None:
    print(
        f"{done['killed']:,} killed, {done['unreachable']:,} unreachable, {done['failed']:,} failed"
    )
    _unknown(done)
    _again(done)
    for error, count in done["errors"].items():
        print(f"{printable(error)}: {count:,} sessions")
    rows = [*done["unreachable_sessions"], *done["failed_sessions"]]
    if rows:
        print("\n".join(table(VIEWS["sessions"], rows, screen_width())))


def _again(document: dict[str, Any]) -> None:
    # A proxy of an earlier version does not say it.
    if before := document.get("killed_before"):
        print(f"{before:,} of them had been killed before, and not been used since")


def _unknown(document: dict[str, Any]) -> None:
    for one in document["unknown"]:
        print(f"{printable(one)}: no such session")
