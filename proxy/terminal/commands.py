"""The commands that print once: listings; and which command is where."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.arguments import ACTIONS, DEFAULT_ADMIN, begun, filters, order
from proxy.terminal.client import Endpoint, Trouble, find_token
from proxy.terminal.filtering import has_cluster, matching
from proxy.terminal.history import history
from proxy.terminal.places import all_places, resolved
from proxy.terminal.printable import screen_width, warn
from proxy.terminal.tables import listing
from proxy.terminal.views import VIEWS

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.several import Several
    from proxy.terminal.views import View

#: Rows that are looked at where all that are alike have one line.
_ALL: Final = 1_000_000

#: Where proxies are, if no flag says so.
ADMIN_VARIABLE: Final = "MONGO_SESSION_PROXY_ADMIN"


def run(options: argparse.Namespace) -> int:
    """Carry out one of the commands and return the exit status."""
    try:
        endpoint = _endpoint(options.admin, find_token(options.token_file))
        if options.command == "top":
            from proxy.terminal.top import top

            status = top(endpoint, options)
        elif options.command == "history":
            status = history(endpoint, options, screen_width())
        elif options.command in ACTIONS:
            from proxy.terminal.acting import act

            status = act(endpoint, options)
        elif options.command == "ready":
            endpoint.ready()
            print(json.dumps({"ready": True}) if options.json else "ready")
            status = 0
        else:
            status = _list(endpoint, options)
    except Trouble as trouble:
        print(f"mongo-session-proxy: {trouble}", file=sys.stderr)
        return trouble.status
    return status


def _endpoint(said: list[str] | None, token: str | None) -> Endpoint | Several:
    """Whom to ask: by the flags, else by the environment."""
    name = "--admin" if said else ADMIN_VARIABLE
    texts = said or [os.environ.get(ADMIN_VARIABLE) or DEFAULT_ADMIN]
    try:
        places = list(all_places(texts))
    except ValueError as error:
        raise Trouble(f"{name}: {error}", 2) from error
    if len(places) == 1 and resolved(places[0]) == places:
        return Endpoint(places[0], token)
    # Takes a few milliseconds to import.
    from proxy.terminal.several import Several

    return Several(places, token)


def _say_none(view: View, fields: dict[str, Any], document: dict[str, Any]) -> None:
    """Say that there is nothing: to people, not to what reads the rows."""
    name, total = view.title.lower(), document.get("total", 0)
    narrowed = fields.keys() - {"sort", "limit"} and total
    text = f"no {name} match: there are {total:,} in all" if narrowed else f"no {name}"
    print(text, file=sys.stderr)


def _list(endpoint: Endpoint | Several, options: argparse.Namespace) -> int:
    view = VIEWS[options.command]
    fields: dict[str, Any] = filters(options)
    if "session" in fields:
        fields["session"] = begun(fields["session"])
    alike = getattr(options, "alike", False)
    limit = _ALL if alike else getattr(options, "limit", None)
    sort = order(options, view.sort) if view.sort else ""
    if sort:
        fields["sort"] = sort
    document = endpoint.rows(view.name, fields if view.sort else {}, limit)
    rows = document[view.name]
    if fields and not view.sort:
        # These the endpoint does not narrow.
        document |= {"total": len(rows), view.name: matching(rows, fields)}
        rows = document[view.name]
    if not rows and "cluster" in fields:
        has_cluster(endpoint.get("summary"), fields["cluster"])
    if alike:
        from proxy.terminal.pools import POOLS, pools

        view, sort, rows = POOLS, "", pools(rows)
        document = document | {"connections": rows}
    status = 1 if warn(document.get("problems", ())) else 0
    if options.json:
        print(json.dumps(document))
        return status
    if not rows:
        _say_none(view, fields, document)
        return status
    width = screen_width()
    lines, missing = listing(view, rows, width, sort, endpoint.proxies)
    print("\n".join(lines))
    if missing:
        print(f"(left out: {', '.join(missing)}; a pipe has all)", file=sys.stderr)
    if document.get("next"):
        more = document["matched"] - len(rows)
        print(f"… and {more:,} more: --limit {document['matched']}", file=sys.stderr)
    return status
