"""What a process answers to the operators' questions about one cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import trio

from proxy import listing
from proxy.admin.actions import Actions
from proxy.admin.freed import Freed
from proxy.admin.interrupting import Connections
from proxy.admin.kill import Kill, Result, Target
from proxy.admin.meant import Meant, read_kill, resolve
from proxy.admin.overview import By, KillingIsOffError, Listed, TokenNeededError
from proxy.admin.query import QueryError, Selecting, read_query
from proxy.admin.summary import GROUPS, group_row, groups, summary
from proxy.listing.kinds import of_cluster
from proxy.listing.namespaces import NAMESPACES, namespace_rows
from proxy.listing.slices import drained, in_slices
from proxy.observe.refusals import Whose
from proxy.observe.scraping import Scraping
from proxy.session.identity import EVERYBODY
from proxy.session.records import Ending, Selection

if TYPE_CHECKING:
    from policies.session_budget import SessionBudget
    from proxy.admin.history import Remembered
    from proxy.listing import Listing, Row
    from proxy.observe.namespaces import Uses
    from proxy.observe.telemetry import Telemetry

T = TypeVar("T")

#: Rows made between two turns of other work: some 2 ms.
_SLICE: Final = 250
#: Sessions of a kill that are listed one by one.
_NAMED: Final = 500


class State(Connections, Protocol):
    """What is asked of the running proxy. Rows are JSON-like, newest facts included."""

    async def connection_rows(self) -> list[Row]:
        """One row per open client connection."""

    async def upstream_rows(self) -> list[Row]:
        """One row per process upstream."""

    def namespaces_lately(self) -> tuple[Uses, float]:
        """What namespaces were used for of late, and in how many seconds that was."""

    def rules(self) -> list[Row]:
        """One row per rule, with its mode and settings."""

    def about(self) -> Row:
        """What the process is: version, uptime, connections and their limit."""

    def budget(self) -> SessionBudget:
        """The rule that bounds sessions, as it is set; without bounds where it is off."""

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""


class Process:
    """The :class:`~proxy.admin.overview.Overview` of one cluster; kills only if it ``executes``.

    Where a process has several clusters, each has one, and rows say which ``cluster`` they are of.
    """

    def __init__(
        self,
        state: State,
        telemetry: Telemetry,
        scraping: Scraping | None = None,
        *,
        executes: bool,
        cluster: str = "",
    ) -> None:
        self._state = state
        self._telemetry = telemetry
        self._scraping = scraping or Scraping(telemetry)
        self._cluster = cluster
        self.executes = executes
        self.remembered: Remembered | None = None
        # One at a time: many at once would each have their slice before others get their turn.
        self._looking = trio.Lock()
        actions = Actions(state, self._allow, self._of_cluster, self._looking)
        self._acts: dict[str, Callable[[bytes, By], Awaitable[Row]]] = {
            "kill": self._kill,
            "abort": actions.abort,
            "interrupt": actions.interrupt,
            "close": actions.close,
        }
        self._kinds = {
            "sessions": self._sessions,
            "transactions": self._transactions,
            "cursors": self._cursors,
            "connections": self._connections,
            "groups": self._groups,
            "namespaces": self._namespaces,
        }

    def ready(self, cluster: str | None = None) -> tuple[bool, str]:
        if cluster not in (None, self._cluster):
            raise QueryError("cluster: there is but one, which has no name")
        return self._state.ready()

    def draining(self) -> bool:
        return self._state.draining()

    async def rules(self) -> list[Row]:
        return self.rules_known((await self._scraping.decisions()).get(self._cluster, {}))

    def rules_known(self, decided: Mapping[tuple[str, str], int]) -> list[Row]:
        """The rules, of whose decisions so many were counted."""
        return [
            self._of_cluster(row)
            | {
                one: decided.get((row["name"], one), 0)
                for one in ("refused", "reported", "aborted")
            }
            for row in self._state.rules()
        ]

    async def upstream(self) -> list[Row]:
        return [self._of_cluster(row) for row in await self._state.upstream_rows()]

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        return await self._scraping.metrics(accept)

    async def incidents(self) -> list[Row]:
        await self._scraping.gather()
        return self.incidents_known()

    def incidents_known(self) -> list[Row]:
        """Those that are known here by now."""
        now = trio.current_time()
        rows = [
            {
                "age_seconds": listing.seconds_since(when, now),
                "kind": one.kind,
                "rule": one.rule or None,
                "user": one.user,
                "application": one.application,
                "driver": one.driver,
                "driver_version": one.driver_version,
            }
            | self._telemetry.refusals.row(Whose(*one[:4]))
            for recent in (self._telemetry.session_incidents, self._telemetry.rule_incidents)
            for one, when in recent.items()
        ]
        rows.sort(key=itemgetter("age_seconds"))
        return [self._of_cluster(row) for row in rows]

    async def summary(self) -> Row:
        state = self._state
        yes, reason = state.ready()
        general = state.budget().settings
        about = state.about() | {
            "ready": yes and not state.draining(),
            "reason": "draining" if state.draining() else reason,
            "kill": "on" if self.executes else "off",
            "sessions_per_user": general.per_user,
            "sessions_per_application": general.per_application,
        }
        return about | await summary(state.store, trio.current_time())

    # ------------------------------------------------------------------ listings

    async def listed(self, kind: str, fields: Mapping[str, str]) -> Listed:
        return await self._kinds[kind](fields)

    async def _sessions(self, fields: Mapping[str, str]) -> Listed:
        store = self._state.store
        return await self._list(
            listing.session_listing(store),
            listing.session_batches(store),
            lambda one, now: listing.session_row(one, store.ending(one), now),
            fields,
            len(store),
        )

    async def _transactions(self, fields: Mapping[str, str]) -> Listed:
        store = self._state.store
        return await self._list(
            listing.TRANSACTIONS,
            listing.open_transactions(store),
            listing.transaction_row,
            fields,
            store.open_transactions,
        )

    async def _cursors(self, fields: Mapping[str, str]) -> Listed:
        store = self._state.store
        found = listing.open_cursors(store)
        return await self._list(
            listing.CURSORS, found, listing.cursor_row, fields, store.open_cursors()
        )

    async def _connections(self, fields: Mapping[str, str]) -> Listed:
        rows = await self._state.connection_rows()
        return await self._list(listing.CONNECTIONS, [rows], _as_it_is, fields, len(rows))

    async def _namespaces(self, fields: Mapping[str, str]) -> Listed:
        counted = (await self._scraping.namespaces()).get(self._cluster, [])
        rows = namespace_rows(counted, *self._state.namespaces_lately())
        return await self._list(NAMESPACES, [rows], _as_it_is, fields, len(rows))

    async def _groups(self, fields: Mapping[str, str]) -> Listed:
        async with self._looking:
            found = await groups(self._state.store, self._state.budget())
        return await self._list(GROUPS, drained(found), group_row, fields, len(found))

    async def _list(
        self,
        kind: Listing[T],
        batches: Iterable[list[T]],
        row: Callable[[T, float], Row],
        fields: Mapping[str, str],
        total: int,
    ) -> Listed:
        now = trio.current_time()
        query = read_query(of_cluster(kind, self._cluster), fields, now)
        selecting = Selecting(query)
        async with self._looking:
            for batch in batches:
                for some in in_slices(batch):
                    selecting.feed(some)
                    await trio.lowlevel.checkpoint()
                if not batch:
                    await trio.lowlevel.checkpoint()
        items, ranks, more = selecting.result()
        rows: list[Row] = []
        for part in in_slices(items, _SLICE):
            rows += [self._of_cluster(row(item, now)) for item in part]
            await trio.lowlevel.checkpoint()
        return Listed(query.sort, rows, ranks, more, selecting.matched, total)

    # ------------------------------------------------------------------ kills

    async def act(self, action: str, body: bytes, by: By) -> dict[str, Any]:
        return await self._acts[action](body, by)

    def _allow(self, action: str, by: By, meant: Meant | None = None) -> None:
        if not self.executes:
            said = {} if meant is None else meant.said
            self._audit(action, by, said, "refused", "no admin.token is configured", 0)
            raise KillingIsOffError("killing is off: configure admin.token or admin.token_file")
        if not by.authorized:
            raise TokenNeededError

    async def _kill(self, body: bytes, by: By) -> dict[str, Any]:
        store = self._state.store
        sessions = of_cluster(listing.session_listing(store), self._cluster)
        meant = read_kill(body, sessions, trio.current_time())
        if not meant.dry_run:
            self._allow("kill", by, meant)
        async with self._looking:
            targets, unknown = await resolve(meant, store)
            if unknown and await self._state.catch_up():
                targets, unknown = await resolve(meant, store)
        document: Row = {
            "dry_run": meant.dry_run,
            "matched": len(targets),
            "unknown": unknown,
            "killed_before": await self._killed_before(targets),
        }
        freed = Freed(store)
        document["places"] = await freed.look(targets)
        if meant.dry_run:
            return document | await self._preview(targets)
        result = await Kill(targets, store, self._state).run(by.client, by.operator)
        document |= await freed.rows(result.killed, self._state.budget())
        reached = f"{len(result.unreachable)} unreachable, {len(result.failed)} failed"
        places = document["freed"]
        reason = f"{reached}, {places} {'place' if places == 1 else 'places'} freed"
        self._audit("kill", by, meant.said, "done", reason, len(result.killed))
        return document | self._outcome(result)

    def _audit(
        self, action: str, by: By, meant: Row, decision: str, reason: str, targets: int
    ) -> None:
        self._state.audit(
            conn=None,
            user="",
            operator=by.operator or None,
            client=by.client,
            command=action,
            decision=decision,
            reason=reason,
            rule=None,
            targets=targets,
            meant=meant,
        )

    async def _killed_before(self, targets: list[Target]) -> int:
        """How many of them were killed already, and have not been used since."""
        store, count = self._state.store, 0
        for some in in_slices(targets):
            found = (store.get(one.key) for one in some)
            endings = (store.ending(one) for one in found if one is not None)
            count += sum(ending is not None and ending[0] is Ending.KILLED for ending in endings)
            await trio.lowlevel.checkpoint()
        return count

    async def _preview(self, targets: list[Target]) -> Row:
        operations = cursors = transactions = reachable = 0
        askers = await self._state.askers()
        owners = {owner for known in askers.values() for owner in known}
        anyone = EVERYBODY in owners or any(
            self._state.facts(one).authorization is False for one in askers
        )
        for some in in_slices(targets):
            hit = self._state.store.hit(Selection(keys=frozenset(one.key for one in some)))
            operations += hit.operations
            cursors += hit.cursors
            transactions += hit.transactions
            reachable += sum(anyone or one.key.uid in owners for one in some)
            await trio.lowlevel.checkpoint()
        return {
            "operations": operations,
            "cursors": cursors,
            "transactions": transactions,
            "reachable": reachable,
            "sessions": self._named(targets),
        }

    def _outcome(self, result: Result) -> Row:
        return {
            "killed": len(result.killed),
            "unreachable": len(result.unreachable),
            "failed": len(result.failed),
            "errors": result.errors,
            "unreachable_sessions": self._named(result.unreachable),
            "failed_sessions": self._named(result.failed),
        }

    def _named(self, targets: list[Target]) -> list[Row]:
        store, now = self._state.store, trio.current_time()
        found = [store.get(one.key) for one in targets[:_NAMED]]
        rows = (listing.session_row(one, store.ending(one), now) for one in found if one)
        return [self._of_cluster(row) for row in rows]

    def _of_cluster(self, row: Row) -> Row:
        return {"cluster": self._cluster} | row if self._cluster else row


def _as_it_is(row: Row, _now: float) -> Row:
    return row
