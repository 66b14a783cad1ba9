"""What a kill frees: places in the budgets of sessions, and of whose."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from proxy.listing.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Iterable

    from policies.session_budget import SessionBudget
    from proxy.admin.kill import Target
    from proxy.listing import Row
    from proxy.session.ids import LogicalSessionId
    from proxy.session.store import SessionStore

#: How often, and how many seconds apart, it is looked whether what was interrupted is over.
_TRIES: Final = 20
_BETWEEN: Final = 0.05

#: Owners with their applications that are listed.
_LISTED: Final = 20

#: An owner's name and an application.
_Whose = tuple[str, str]


class Freed:
    """What becomes of the places of sessions that are to be killed."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store
        self._had: dict[LogicalSessionId, _Whose] = {}

    async def look(self, targets: Iterable[Target]) -> int:
        """Remember which of them have a place; how many."""
        for some in in_slices(list(targets)):
            for target in some:
                session = self._store.get(target.key)
                if session is not None and session.place:
                    whose = session.owner.name, session.origin.application
                    self._had[target.key] = whose
            await trio.lowlevel.checkpoint()
        return len(self._had)

    async def rows(self, killed: Iterable[Target], rule: SessionBudget) -> Row:
        """What was freed, and what the kill has left in place since something of it is open. What
        was interrupted has a second to end."""
        left = {one.key: self._had[one.key] for one in killed if one.key in self._had}
        freed: Counter[_Whose] = Counter()
        for _ in range(_TRIES):
            still: dict[LogicalSessionId, _Whose] = {}
            for some in in_slices(list(left.items())):
                for key, whose in some:
                    if self._store.has_place(key):
                        still[key] = whose
                    else:
                        freed[whose] += 1
                await trio.lowlevel.checkpoint()
            left = still
            if not any(map(self._runs, left)):
                break
            await trio.sleep(_BETWEEN)
        return {
            "freed": freed.total(),
            "kept": len(left),
            "freed_by": [
                self._row(*whose, count, rule) for whose, count in freed.most_common(_LISTED)
            ],
        }

    def _runs(self, key: LogicalSessionId) -> bool:
        session = self._store.get(key)
        return (
            session is not None
            and session.activity is not None
            and bool(session.activity.operations)
        )

    def _row(self, owner: str, application: str, count: int, rule: SessionBudget) -> Row:
        budget, store = rule.budget(owner, application), self._store
        return {
            "owner": owner,
            "application": application,
            "freed": count,
            "owner_live": store.owner_live(owner),
            "owner_limit": budget.user.most or None,
            "application_live": store.application_live(application),
            "application_limit": budget.application.most or None,
        }
