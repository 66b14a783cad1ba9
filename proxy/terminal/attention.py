"""What an operator should look at first, in lines above the table of ``top``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from proxy.terminal.printable import printable, span
from proxy.terminal.views import driver, incident

if TYPE_CHECKING:
    from proxy.terminal.views import Row


_Found = tuple["Row | None", str]


class Attention(NamedTuple):
    """What an operator should look at; and in short, without the driver."""

    whole: str
    short: str


def attention(
    summary: Row, groups: Sequence[Row], idlest: Sequence[Row], incidents: Sequence[Row]
) -> list[Attention]:
    """What an operator should look at, by owner, application and driver: of each kind the worst
    first, as there may not be room for all."""
    whole: list[_Found] = []
    if not summary["ready"]:
        whole.append((None, f"clients are not served: {summary['reason']}"))
    for one in summary.get("clusters", [summary]):
        if one["sessions"] >= 0.8 * one["sessions_limit"]:
            text = f"{one['sessions']:,} sessions: nearly as many as there may be"
            whole.append((None, f"{one['cluster']}: {text}" if "cluster" in one else text))
    budgets: list[_Found] = [
        (group, f"{group['budget_used'] * 100:.0f} % of the session budget used")
        for group in sorted(groups, key=lambda group: -(group["budget_used"] or 0))
        if (group["budget_used"] or 0) >= 0.8
    ]
    idle: list[_Found] = [
        (one, f"a transaction has been idle for {span(one['idle_seconds'])}")
        for one in idlest
        if one["idle_seconds"] >= 30
    ]
    many: list[_Found] = [
        (group, f"has {group['sessions']:,} sessions; are they ended?")
        for group in groups[:1]
        if group["sessions"] >= max(1_000, summary["sessions"] / 2)
    ]
    done: list[_Found] = [
        (one, f"{incident(one)}, {span(one['age_seconds'])} ago")
        for one in incidents[:3]
        if one["age_seconds"] < 900
    ]
    turns = zip_longest(budgets, idle, many, done)
    return [_attention(*one) for one in [*whole, *chain.from_iterable(turns)] if one is not None]


def _attention(row: Row | None, text: str) -> Attention:
    if row is None:
        return Attention(printable(text), printable(text))
    # An incident has an owner, too: of the session that somebody used.
    whose = row["user"] if "user" in row else row["owner"]
    cluster = [row["cluster"]] if "cluster" in row else []
    names = [*cluster, whose or "nobody", row["application"] or "no application name"]
    lines = (f"{' · '.join(some)}: {text}" for some in ([*names, driver(row)], names))
    return Attention(*map(printable, lines))
