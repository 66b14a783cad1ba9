"""Several processes' sessions behind the interfaces that one process answers alone.

The processes are stores in one process, but only pickled plain data passes between them and
whoever asks.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.admin.overview import Listed, Overview
from proxy.admin.query import ROWS
from proxy.session.records import Hit, Open
from proxy.session.store import SessionStore


def sent(value: Any) -> Any:
    """What arrives of it in another process."""
    if isinstance(value, Iterator):
        value = list(value)
    return pickle.loads(pickle.dumps(value))


class Stores:
    """What :mod:`proxy.session.across` asks; of single sessions the first store's are known."""

    def __init__(self, *stores: SessionStore) -> None:
        self.stores = stores

    def ask(self, name: str, *told: Any) -> list[Any]:
        return [sent(getattr(store, name)(*sent(told))) for store in self.stores]

    @property
    def full(self) -> bool:
        return any(store.full for store in self.stores)

    @property
    def max_sessions(self) -> int:
        return sum(store.max_sessions for store in self.stores)

    def __len__(self) -> int:
        return sum(map(len, self.stores))

    def owner_sessions(self, name: str) -> int:
        return sum(self.ask("owner_sessions", name))

    def owner_transactions(self, name: str) -> int:
        return sum(self.ask("owner_transactions", name))

    def application_sessions(self, application: str) -> int:
        return sum(self.ask("application_sessions", application))

    def owners_of(self, session_id: bytes) -> set[bytes]:
        return {uid for found in self.ask("owners_of", session_id) for uid in found}

    def made_by(self, name: str) -> list[Any]:
        return [key for found in self.ask("made_by", name) for key in found]

    def promised(self) -> int:
        return sum(self.ask("promised"))

    def count(self, within: Any) -> int:
        return sum(self.ask("count", within))

    def hit(self, within: Any) -> Hit:
        return Hit(*map(sum, zip(*self.ask("hit", within), strict=True)))

    def open_at(self, upstream: str, within: Any) -> Open:
        whole = Open({}, [], [])
        for found in self.ask("open_at", upstream, within):
            for key, ids in found.cursors.items():
                whole.cursors.setdefault(key, []).extend(ids)
            whole.transactions.extend(found.transactions)
            whole.operations.extend(found.operations)
        return whole

    def __contains__(self, lsid: Any) -> bool:
        return lsid in self.stores[0]

    def get(self, lsid: Any) -> Any:
        return self.stores[0].get(lsid)

    def kill(self, within: Any, now: float, upstream: str | None = None) -> None:
        self.ask("kill", within, now, upstream)


class Processes:
    """An :class:`Overview` of several; what is the process's own is the first one's."""

    def __init__(self, *processes: Overview) -> None:
        self.processes = processes
        self.ready = processes[0].ready
        self.draining = processes[0].draining
        self.rules = processes[0].rules
        self.incidents = processes[0].incidents
        self.kill = processes[0].kill

    async def ask(self, name: str, *told: Any) -> list[Any]:
        return [sent(await getattr(one, name)(*sent(told))) for one in self.processes]

    async def summary(self) -> dict[str, Any]:
        first, *others = await self.ask("summary")
        for name in ("sessions", "transactions", "cursors", "operations"):
            first[name] += sum(one[name] for one in others)
        return first

    async def listed(self, kind: str, fields: Mapping[str, str]) -> Listed:
        parts: list[Listed] = await self.ask("listed", kind, dict(fields))
        sort, limit = parts[0].sort, int(fields.get("limit", ROWS))
        ranked = [pair for one in parts for pair in zip(one.ranks, one.rows, strict=True)]
        ranked.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))
        return Listed(
            sort,
            [row for _, row in ranked[:limit]],
            [rank for rank, _ in ranked[:limit]],
            any(one.more for one in parts) or len(ranked) > limit,
            sum(one.matched for one in parts),
            sum(one.total for one in parts),
        )
