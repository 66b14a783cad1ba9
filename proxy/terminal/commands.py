"""The commands that print once: listings; and which command is where."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.arguments import ACTIONS, filters, order
from proxy.terminal.client import Endpoint, Trouble, find_token
from proxy.terminal.printable import screen_width
from proxy.terminal.tables import left_out, table
from proxy.terminal.views import VIEWS

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.views import View

#: Rows that are asked for at a time.
_PAGE: Final = 1_000


def run(options: argparse.Namespace) -> int:
    """Carry out one of the commands and return the exit status."""
    try:
        endpoint = Endpoint(options.admin, find_token(options.token_file))
        if options.command == "top":
            from proxy.terminal.top import top

            status = top(endpoint, options)
        elif options.command in ACTIONS:
            from proxy.terminal.acting import act

            status = act(endpoint, options)
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


def _say_none(view: View, fields: dict[str, Any], document: dict[str, Any]) -> None:
    """Say that there is nothing: to people, not to what reads the rows."""
    name, total = view.title.lower(), document.get("total", 0)
    narrowed = fields.keys() - {"sort", "limit"} and total
    text = f"no {name} match: there are {total:,} in all" if narrowed else f"no {name}"
    print(text, file=sys.stderr)


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
    if not rows:
        _say_none(view, fields, document)
        return 0
    width = screen_width()
    print("\n".join(table(view, rows, width, sort)))
    if missing := left_out(view, rows, width):
        print(f"(no room for {', '.join(missing)}: a pipe and --json have all)", file=sys.stderr)
    if document.get("next"):
        more = document["matched"] - len(rows)
        print(f"… and {more:,} more: --limit {document['matched']}", file=sys.stderr)
    return 0
