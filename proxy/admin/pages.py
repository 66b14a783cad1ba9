"""What each path of the admin endpoint shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy.admin.http import Asked, Page
from proxy.admin.messages import JSON, TEXT, UNAUTHORIZED, Answer, text
from proxy.admin.narrowing import narrowed
from proxy.admin.overview import By, KillingIsOffError, TokenNeededError
from proxy.admin.query import QueryError, position
from proxy.admin.runbooks import runbook
from proxy.admin.web import put_together
from proxy.listing.slices import in_slices

if TYPE_CHECKING:
    from proxy.admin.overview import Overview
    from proxy.listing import Row

#: Rows written between two turns of other work: some 2 ms.
_SLICE: Final = 250


def pages(overview: Overview) -> dict[str, Page]:
    """Every path and what makes its page."""
    site = _Pages(overview)
    return {
        "/": Page(site.page, open=True),
        "/connections": Page(partial(site.listing, "connections")),
        "/cursors": Page(partial(site.listing, "cursors")),
        "/groups": Page(partial(site.listing, "groups")),
        "/healthz": Page(site.healthz, open=True, vital=True),
        "/history": Page(site.history),
        "/incidents": Page(site.incidents),
        "/help": Page(site.help, open=True),
        **{
            f"/{action}": Page(partial(site.act, action), "POST", previews=True)
            for action in ("abort", "close", "interrupt", "kill")
        },
        "/metrics": Page(site.metrics, vital=True),
        "/namespaces": Page(partial(site.listing, "namespaces")),
        "/readyz": Page(site.readyz, open=True, vital=True),
        "/rules": Page(site.rules),
        "/runbook": Page(site.runbook, open=True),
        "/sessions": Page(partial(site.listing, "sessions")),
        "/summary": Page(site.summary),
        "/transactions": Page(partial(site.listing, "transactions")),
        "/upstream": Page(site.upstream),
    }


_HELP: Final = """\
/              the live table of sessions, for browsers
/summary       how much of everything there is
/sessions      sessions; listings take limit, sort (-name: largest first), after (a page's next),
               text, state and filters by column, in which * stands for anything; cluster is one
               where there are several
/groups        sessions by owner, application and driver
/transactions  open transactions
/cursors       open cursors
/connections   client connections
/namespaces    requests, errors, bytes and times by database.collection and kind of command
/incidents     who used sessions as no driver does, was refused by a rule or would have been, the
               latest first
/history       what happened: since, until (03:12 in UTC, 2026-03-01T03:12Z, 20m for so long ago),
               event, user, application, driver, client, session, text, sort (-time: the latest
               first), limit, skip (a page's next), points
/upstream      the processes upstream, who does not answer since when, which listener leads where
/rules         the rules, their modes and settings, how often each refused or would have
/kill          POST {"patterns": [{"application": "shop*", "min_idle": 600}], "dry_run": true},
               or {"sessions": [ID]}, of which the first 8 digits are enough
/abort         POST {"session": ID, "dry_run": true}: end its open transaction
/interrupt     POST {"conn": NUMBER, "dry_run": true}: end what is in flight there
/close         POST {"conn": NUMBER, "dry_run": true}: close that connection. These four take
               "cluster": NAME where there are several
/metrics       for Prometheus
/runbook       what to do about an alert: ?alert=NAME
/healthz       whether the process is alive
/readyz        whether upstream can be reached and clients are taken; ?cluster=NAME asks for one
"""


class _Pages:
    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._page: Answer | None = None

    # ------------------------------------------------------------------ health and help

    async def page(self, _asked: Asked) -> Answer:
        if self._page is None:
            body, policy = put_together(files("proxy.admin") / "page")
            headers = (("content-security-policy", policy), ("referrer-policy", "no-referrer"))
            self._page = Answer(200, "text/html; charset=utf-8", body, headers)
        return self._page

    async def help(self, _asked: Asked) -> Answer:
        return Answer(200, TEXT, _HELP.encode())

    async def runbook(self, asked: Asked) -> Answer:
        return text(200, runbook(asked.query.get("alert", "")))

    async def healthz(self, _asked: Asked) -> Answer:
        return text(200, "ok")

    async def readyz(self, asked: Asked) -> Answer:
        if self._overview.draining():
            return text(503, "draining")
        try:
            yes, reason = self._overview.ready(asked.query.get("cluster"))
        except QueryError as error:
            # It may name the clusters that there are.
            return text(404, str(error) if asked.trusted else "no such cluster")
        if yes:
            return text(200, "ok")
        # The reason names upstream addresses.
        return text(503, reason if asked.trusted else "not ready")

    async def metrics(self, asked: Asked) -> Answer:
        content_type, body = await self._overview.metrics(asked.accept)
        return Answer(200, content_type, body)

    # ------------------------------------------------------------------ sessions

    async def summary(self, asked: Asked) -> Answer:
        shown = {"token": asked.token, "operator": asked.operator or None}
        return _json(await self._overview.summary() | shown)

    async def rules(self, asked: Asked) -> Answer:
        return _whole("rules", await self._overview.rules(), asked)

    async def upstream(self, asked: Asked) -> Answer:
        return _whole("upstream", await self._overview.upstream(), asked)

    async def incidents(self, asked: Asked) -> Answer:
        return _whole("incidents", await self._overview.incidents(), asked)

    async def history(self, asked: Asked) -> Answer:
        if self._overview.remembered is None:
            return text(400, "history: is off, by the setting history.hours = 0")
        try:
            return _json(await self._overview.remembered.answer(asked.query))
        except QueryError as error:
            return text(400, str(error))

    async def listing(self, kind: str, asked: Asked) -> Answer:
        try:
            found = await self._overview.listed(kind, asked.query)
        except QueryError as error:
            return text(400, str(error))
        parts: list[str] = []
        for some in in_slices(found.rows, _SLICE):
            parts += map(_dumps, some)
            await trio.lowlevel.checkpoint()
        after = position(found.sort, found.ranks[-1]) if found.more else None
        rest = _dumps({"matched": found.matched, "total": found.total, "next": after})
        body = f'{{"{kind}": [{", ".join(parts)}], {rest[1:]}\n'
        return Answer(200, JSON, body.encode())

    async def act(self, action: str, asked: Asked) -> Answer:
        by = By(asked.client, asked.operator, asked.authorized)
        try:
            return _json(await self._overview.act(action, asked.body, by))
        except QueryError as error:
            return text(400, str(error))
        except KillingIsOffError as error:
            return text(403, str(error))
        except TokenNeededError:
            return UNAUTHORIZED


def _dumps(value: object) -> str:
    # Names that clients choose may hold lone surrogates, which only escapes can carry.
    return json.dumps(value)


def _whole(page: str, rows: Sequence[Row], asked: Asked) -> Answer:
    try:
        return _json({page: narrowed(page, rows, asked.query)})
    except QueryError as error:
        return text(400, str(error))


def _json(document: Mapping[str, Any]) -> Answer:
    return Answer(200, JSON, _dumps(document).encode() + b"\n")
