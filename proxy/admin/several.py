"""What a process answers to the operators' questions about several clusters.

Listings are put together; what changes something is for one cluster, which has to be named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.admin.meant import object_in
from proxy.admin.overview import Listed
from proxy.admin.query import ROWS, QueryError

if TYPE_CHECKING:
    from proxy.admin.history import Remembered
    from proxy.admin.overview import By
    from proxy.admin.process import Process
    from proxy.listing import Row
    from proxy.observe.scraping import Scraping

#: Of a summary: what adds up, and of what the largest is shown.
_SUMS: Final = (
    "sessions",
    "sessions_live",
    "sessions_limit",
    "transactions",
    "cursors",
    "operations",
)
_MOST: Final = (
    "transactions_oldest_seconds",
    "transactions_idlest_seconds",
    "cursors_oldest_seconds",
    "operations_oldest_seconds",
)
#: What each cluster's row of the summary says.
_OWN: Final = ("ready", "reason", "sessions_per_user", "sessions_per_application", *_SUMS, *_MOST)


class Whole(Protocol):
    """The process."""

    def ready(self) -> tuple[bool, str]:
        """Whether clients of all clusters can be served, and if not, which and why."""

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""


class Several:
    """The :class:`~proxy.admin.overview.Overview` of several clusters, by their names."""

    def __init__(self, whole: Whole, clusters: Mapping[str, Process], scraping: Scraping) -> None:
        self._whole = whole
        self._clusters = clusters
        self._scraping = scraping
        self.remembered: Remembered | None = None

    def ready(self, cluster: str | None = None) -> tuple[bool, str]:
        return self._whole.ready() if cluster is None else self._known(cluster).ready()

    @property
    def executes(self) -> bool:
        return any(one.executes for one in self._clusters.values())

    @executes.setter
    def executes(self, executes: bool) -> None:
        for one in self._clusters.values():
            one.executes = executes

    def draining(self) -> bool:
        return self._whole.draining()

    async def rules(self) -> list[Row]:
        decided = await self._scraping.decisions()
        return [
            row
            for name, one in self._clusters.items()
            for row in one.rules_known(decided.get(name, {}))
        ]

    async def upstream(self) -> list[Row]:
        return [row for one in self._clusters.values() for row in await one.upstream()]

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        return await self._scraping.metrics(accept)

    async def incidents(self) -> list[Row]:
        await self._scraping.gather()
        rows = [row for one in self._clusters.values() for row in one.incidents_known()]
        return sorted(rows, key=itemgetter("age_seconds"))

    async def summary(self) -> Row:
        each = {name: await one.summary() for name, one in self._clusters.items()}
        first, *_ = each.values()
        yes, reason = self.ready()
        budgets = [
            [one[f"sessions_per_{who}"] for one in each.values()] for who in ("user", "application")
        ]
        return {
            **first,
            "ready": yes and not self.draining(),
            "reason": "draining" if self.draining() else reason,
            # Each cluster has its own; one that all have alike is shown.
            "sessions_per_user": budgets[0][0] if len(set(budgets[0])) == 1 else 0,
            "sessions_per_application": budgets[1][0] if len(set(budgets[1])) == 1 else 0,
            **{name: sum(one[name] for one in each.values()) for name in _SUMS},
            **{name: max(one[name] for one in each.values()) for name in _MOST},
            "clusters": [
                {"cluster": name} | {what: one[what] for what in _OWN} for name, one in each.items()
            ],
        }

    async def listed(self, kind: str, fields: Mapping[str, str]) -> Listed:
        found = [await one.listed(kind, fields) for one in self._clusters.values()]
        sort = found[0].sort
        ranked = sorted(
            chain.from_iterable(zip(one.ranks, one.rows, strict=True) for one in found),
            key=itemgetter(0),
            reverse=sort.startswith("-"),
        )
        limit = int(fields.get("limit", ROWS))
        shown = ranked[:limit]
        return Listed(
            sort,
            [row for _, row in shown],
            [rank for rank, _ in shown],
            len(ranked) > limit or any(one.more for one in found),
            sum(one.matched for one in found),
            sum(one.total for one in found),
        )

    async def act(self, action: str, body: bytes, by: By) -> dict[str, Any]:
        cluster, rest = self._named(body)
        return {"cluster": cluster} | await self._clusters[cluster].act(action, rest, by)

    def _named(self, body: bytes) -> tuple[str, bytes]:
        """The cluster that a request to do something names, and the request for that.

        Raises:
            QueryError: it names none that there is.
        """
        document = object_in(body)
        if "cluster" not in document:
            known = ", ".join(self._clusters)
            raise QueryError(f"cluster: has to be said, as there are several: {known}")
        cluster = document.pop("cluster")
        self._known(cluster)
        return cluster, json.dumps(document).encode()

    def _known(self, cluster: object) -> Process:
        """The cluster of this name.

        Raises:
            QueryError: there is none.
        """
        if not isinstance(cluster, str) or cluster not in self._clusters:
            raise QueryError(f"cluster: no such cluster; there are {', '.join(self._clusters)}")
        return self._clusters[cluster]
