"""What each path of the operators' endpoint shows."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import trio

from proxy import listing
from proxy.admin.http import JSON, TEXT, Answer, Asked, Page, text
from proxy.admin.kill import Kill, Reach, Result
from proxy.admin.meant import Meant, read_kill, resolve
from proxy.admin.query import QueryError, Selecting, read_query
from proxy.admin.summary import GROUPS, groups, summary
from proxy.scraping import metrics_page
from proxy.slices import in_slices

if TYPE_CHECKING:
    from proxy.listing import Listing, Row
    from proxy.session.records import Session
    from proxy.session.store import SessionStore
    from proxy.telemetry import Telemetry

T = TypeVar("T")

#: Rows made between two turns of other work: some 2 ms.
_SLICE: Final = 250
#: Sessions of a kill that are listed one by one.
_NAMED: Final = 500

#: The page may run its own script, by its digest, and ask this server: nothing else at all.
_POLICY: Final = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)


class State(Reach, Protocol):
    """What the endpoint asks of the running proxy. Rows are JSON-like, newest facts included."""

    @property
    def store(self) -> SessionStore:
        """The sessions that are known."""

    def connections(self) -> Iterable[Row]:
        """One row per open client connection."""

    def policies(self) -> list[Row]:
        """One row per rule, with its mode and settings."""

    def about(self) -> Row:
        """What the process is: version, uptime, connections and their limit."""

    def budgets(self) -> tuple[int, int]:
        """Sessions that one user and one application may have; 0 for any number."""

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""


def pages(state: State, telemetry: Telemetry, token: str | None = None) -> dict[str, Page]:
    """Every path and what makes its page; without a ``token`` nothing can be changed."""
    site = _Pages(state, telemetry, executes=token is not None)
    return {
        "/": Page(site.page, open=True),
        "/connections": Page(site.connections),
        "/cursors": Page(site.cursors),
        "/groups": Page(site.groups),
        "/healthz": Page(site.healthz, open=True),
        "/incidents": Page(site.incidents),
        "/help": Page(site.help, open=True),
        "/kill": Page(site.kill, "POST"),
        "/metrics": Page(site.metrics),
        "/policies": Page(site.policies),
        "/readyz": Page(site.readyz, open=True),
        "/sessions": Page(site.sessions),
        "/summary": Page(site.summary),
        "/transactions": Page(site.transactions),
    }


_HELP: Final = """\
/              the live table of sessions, for browsers
/summary       how much of everything there is
/sessions      sessions; listings take limit, sort (-name: largest first), after (a page's next),
               text, state and filters by column, in which * stands for anything
/groups        sessions by owner, application and driver
/transactions  open transactions
/cursors       open cursors
/connections   client connections
/incidents     who misused sessions or was refused by a rule, the latest first
/policies      the rules, their modes and settings
/kill          POST {"patterns": [{"application": "shop*", "min_idle": 600}], "dry_run": true}
/metrics       for Prometheus
/healthz       whether the process is alive
/readyz        whether upstream can be reached and clients are taken
"""


class _Pages:
    def __init__(self, state: State, telemetry: Telemetry, *, executes: bool) -> None:
        self._state = state
        self._telemetry = telemetry
        self._executes = executes
        # One at a time: many at once would each have their slice before others get their turn.
        self._looking = trio.Lock()
        self._page: Answer | None = None

    # ------------------------------------------------------------------ health and help

    async def page(self, _asked: Asked) -> Answer:
        if self._page is None:
            body = files("proxy.admin").joinpath("page.html").read_bytes()
            policy = _POLICY.format(script=_digest(body, b"script"), style=_digest(body, b"style"))
            headers = (("content-security-policy", policy), ("referrer-policy", "no-referrer"))
            self._page = Answer(200, "text/html; charset=utf-8", body, headers)
        return self._page

    async def help(self, _asked: Asked) -> Answer:
        return Answer(200, TEXT, _HELP.encode())

    async def healthz(self, _asked: Asked) -> Answer:
        return text(200, "ok")

    async def readyz(self, asked: Asked) -> Answer:
        if self._state.draining():
            return text(503, "draining")
        yes, reason = self._state.ready()
        if yes:
            return text(200, "ok")
        # The reason names upstream addresses.
        return text(503, reason if asked.trusted else "not ready")

    async def metrics(self, asked: Asked) -> Answer:
        content_type, body = await metrics_page(self._telemetry, asked.accept)
        return Answer(200, content_type, body)

    # ------------------------------------------------------------------ listings

    async def sessions(self, asked: Asked) -> Answer:
        store = self._state.store
        return await self._list(
            listing.session_listing(store),
            listing.session_batches(store),
            lambda one, now: listing.session_row(one, store.ending(one), now),
            asked,
            len(store),
        )

    async def transactions(self, asked: Asked) -> Answer:
        found = listing.open_transactions(self._state.store)
        return await self._list(
            listing.TRANSACTIONS, [found], listing.transaction_row, asked, len(found)
        )

    async def cursors(self, asked: Asked) -> Answer:
        store = self._state.store
        found = listing.open_cursors(store)
        return await self._list(
            listing.CURSORS, found, listing.cursor_row, asked, store.open_cursors()
        )

    async def connections(self, asked: Asked) -> Answer:
        rows = await _in_turns(self._state.connections())
        return await self._list(
            listing.CONNECTIONS, [rows], lambda row, _now: row, asked, len(rows)
        )

    async def groups(self, asked: Asked) -> Answer:
        per_user, per_application = self._state.budgets()
        async with self._looking:
            store, now = self._state.store, trio.current_time()
            rows = await groups(store, per_user, per_application, now)
        return await self._list(GROUPS, [rows], lambda row, _now: row, asked, len(rows))

    async def policies(self, _asked: Asked) -> Answer:
        return _json({"policies": self._state.policies()})

    async def incidents(self, _asked: Asked) -> Answer:
        now = trio.current_time()
        rows = [
            {
                "seconds": max(0.0, round(now - when, 3)),
                "kind": kind,
                "what": who.what,
                "owner": who.user,
                "application": who.application,
                "driver": who.driver,
            }
            for kind, recent in (
                ("misuse", self._telemetry.offenders),
                ("rule", self._telemetry.refused),
            )
            for who, when in recent.items()
        ]
        rows.sort(key=itemgetter("seconds"))
        return _json({"incidents": rows})

    async def summary(self, _asked: Asked) -> Answer:
        state = self._state
        yes, reason = state.ready()
        per_user, per_application = state.budgets()
        about = state.about() | {
            "ready": yes and not state.draining(),
            "reason": "draining" if state.draining() else reason,
            "kill": "on" if self._executes else "off",
            "sessions_per_user": per_user,
            "sessions_per_application": per_application,
        }
        return _json(about | await summary(state.store, trio.current_time()))

    async def _list(
        self,
        kind: Listing[T],
        batches: Iterable[list[T]],
        row: Callable[[T, float], Row],
        asked: Asked,
        total: int,
    ) -> Answer:
        now = trio.current_time()
        try:
            selecting = Selecting(read_query(kind, asked.query, now))
            async with self._looking:
                for batch in batches:
                    for some in in_slices(batch):
                        selecting.feed(some)
                        await trio.lowlevel.checkpoint()
        except QueryError as error:
            return text(400, str(error))
        items, after = selecting.result()
        parts: list[str] = []
        for some in in_slices(items, _SLICE):
            parts += [_dumps(row(item, now)) for item in some]
            await trio.lowlevel.checkpoint()
        rest = _dumps({"matched": selecting.matched, "total": total, "next": after})
        body = f'{{"{kind.name}": [{", ".join(parts)}], {rest[1:]}\n'
        return Answer(200, JSON, body.encode())

    # ------------------------------------------------------------------ kills

    async def kill(self, asked: Asked) -> Answer:
        store = self._state.store
        now = trio.current_time()
        try:
            meant = read_kill(asked.body, listing.session_listing(store), now)
        except QueryError as error:
            return text(400, str(error))
        if not meant.dry_run and not self._executes:
            self._audit(asked, meant, "refused", "no admin.token is configured", 0)
            return text(403, "killing is off: configure admin.token or admin.token_file")
        async with self._looking:
            targets, unknown = await resolve(meant, store)
        document: Row = {"dry_run": meant.dry_run, "matched": len(targets), "unknown": unknown}
        if meant.dry_run:
            return _json(document | await self._preview(targets, now))
        result = await Kill(targets, store, self._state).run(asked.client)
        reached = f"{len(result.unreachable)} unreachable, {len(result.failed)} failed"
        self._audit(asked, meant, "done", f"{meant.text}: {reached}", len(result.killed))
        return _json(document | self._outcome(result, now))

    def _audit(self, asked: Asked, meant: Meant, decision: str, reason: str, targets: int) -> None:
        self._state.audit(
            conn=None,
            owner="",
            client=asked.client,
            command="kill",
            decision=decision,
            reason=reason,
            rule=None,
            targets=targets,
        )

    async def _preview(self, targets: list[Session], now: float) -> Row:
        operations = cursors = transactions = reachable = 0
        askers = self._state.askers()
        anyone = any(self._state.facts(one).authorization is False for one in askers)
        owners = {owner for known in askers.values() for owner in known}
        for some in in_slices(targets):
            for session in some:
                if session.activity is not None:
                    operations += len(session.activity.operations)
                    cursors += len(session.activity.cursors)
                transactions += listing.in_transaction(session)
                reachable += anyone or session.owner.uid in owners
            await trio.lowlevel.checkpoint()
        return {
            "operations": operations,
            "cursors": cursors,
            "transactions": transactions,
            "reachable": reachable,
            "sessions": self._named(targets, now),
        }

    def _outcome(self, result: Result, now: float) -> Row:
        return {
            "killed": len(result.killed),
            "unreachable": len(result.unreachable),
            "failed": len(result.failed),
            "errors": result.errors,
            "unreachable_sessions": self._named(result.unreachable, now),
            "failed_sessions": self._named(result.failed, now),
        }

    def _named(self, sessions: list[Session], now: float) -> list[Row]:
        store = self._state.store
        return [listing.session_row(one, store.ending(one), now) for one in sessions[:_NAMED]]


def _digest(body: bytes, element: bytes) -> str:
    """What a Content-Security-Policy calls the text of an element (W3C CSP3, 2.3.1)."""
    content = body.partition(b"<%b>" % element)[2].partition(b"</%b>" % element)[0]
    return f"'sha256-{b64encode(sha256(content).digest()).decode()}'"


async def _in_turns(rows: Iterable[T]) -> list[T]:
    made: list[T] = []
    for some in in_slices(rows, _SLICE):
        made += some
        await trio.lowlevel.checkpoint()
    return made


def _dumps(value: object) -> str:
    # Names that clients choose may hold lone surrogates, which only escapes can carry.
    return json.dumps(value)


def _json(document: Mapping[str, Any]) -> Answer:
    return Answer(200, JSON, _dumps(document).encode() + b"\n")
