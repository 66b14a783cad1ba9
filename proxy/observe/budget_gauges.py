"""What the metrics say of the budgets of sessions, and of who uses how much of theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.observe.labels import clean

if TYPE_CHECKING:
    from collections import Counter

    from policies.session_budget import Bound, SessionBudget
    from proxy.observe.families import Page
    from proxy.session.store import SessionStore

#: Who is named: those that use most of their budget.
TOP: Final = 20

#: Names whose bounds are looked up before others have their turn, which takes two milliseconds.
_AT_ONCE: Final = 500
#: Where all have the same bounds, of so many that have most.
_MOST: Final = 200

#: Sessions of one owner whose applications are looked at: his bound may hang on them.
_LOOKED_AT: Final = 20


class BudgetReading:
    """The budgets of one reading. Users and applications without a name have none."""

    def __init__(self, store: SessionStore, rule: SessionBudget, page: Page) -> None:
        self._store = store
        self._rule = rule
        self._page = page
        self._limits: dict[tuple[str, ...], float] = {}
        self._used: dict[tuple[str, ...], float] = {}

    def users(self, live: Counter[str], known: Counter[str]) -> Iterator[None]:
        """``live`` and ``known`` are how many sessions each has, with and without those over."""

        def bounds(name: str) -> Iterable[tuple[Bound, Bound]]:
            for application in self._applications(name):
                budget = self._rule.budget(name, application)
                yield budget.user, budget.user_remembered

        yield from self._read("user", "owner", live, known, bounds)

    def applications(self, live: Counter[str], known: Counter[str]) -> Iterator[None]:
        """The same of applications, by the bounds that hold whoever the user is."""

        def bounds(name: str) -> Iterable[tuple[Bound, Bound]]:
            budget = self._rule.budget("", name)
            yield budget.application, budget.application_remembered

        yield from self._read("application", "application", live, known, bounds)

    def _applications(self, name: str) -> Iterable[str]:
        """Applications that the bounds of a user are looked up with."""
        if not any(one.applications for one in self._rule.settings.bounds):
            return ("",)
        keys = islice(self._store.made_by(name), _LOOKED_AT)
        sessions = (self._store.get(key) for key in keys)
        return {one.origin.application for one in sessions if one is not None} or ("",)

    def _read(
        self,
        scope: str,
        label: str,
        live: Counter[str],
        known: Counter[str],
        bounds: Callable[[str], Iterable[tuple[Bound, Bound]]],
    ) -> Iterator[None]:
        settings = self._rule.settings
        names = [name for name in known if name]
        if not settings.bounds:
            most = {*nlargest(_MOST, names, key=live.__getitem__)}
            names = [*most.union(nlargest(_MOST, names, key=known.__getitem__))]
        used: dict[str, float] = {}
        for number, name in enumerate(names if self._rule.counts else ()):
            if number % _AT_ONCE == _AT_ONCE - 1:
                yield
            shares = [
                count / bound.most
                for pair in bounds(name)
                for bound, count in zip(pair, (live[name], known[name]), strict=True)
                if bound.most
            ]
            if shares:
                used[name] = max(shares)
        if self._rule.counts:
            self._used[scope,] = max(used.values(), default=0.0)
        limit = getattr(settings, f"per_{scope}")
        if limit:
            self._limits[scope,] = limit
        named: dict[tuple[str, ...], float] = {}
        for name, share in nlargest(TOP, used.items(), key=_share):
            named[clean(name),] = max(named.get((clean(name),), 0.0), share)
        self._page.gauge(
            f"{label}_budget_used_ratio",
            f"Share of the {scope}'s own budget that is used, of those that use most of theirs.",
            (label,),
            named,
        )

    def shown(self) -> None:
        """How much of each budget is used, by whoever uses most of it."""
        store = self._store
        self._limits["process",] = store.max_sessions
        self._used["process",] = len(store) / store.max_sessions
        self._page.gauge(
            "session_budget_limit",
            "Sessions that one user, one application and the process may have; without a limit, "
            "none is shown.",
            ("scope",),
            self._limits,
        )
        self._page.gauge(
            "session_budget_used_ratio",
            "Share of the budget that is used by whoever uses most of it.",
            ("scope",),
            self._used,
        )


def _share(item: tuple[str, float]) -> float:
    return item[1]
