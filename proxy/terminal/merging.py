"""What several proxies say, as one document: rows in one order, numbers added up, and one row of
budgets and incidents that several have.

Each proxy is known by its address, which rows have as ``proxy``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

from proxy.texts import kind_of

Document = dict[str, Any]
#: By proxy.
Documents = Mapping[str, Document]

#: What tells rows apart that several proxies may have alike.
_ALIKE: Final[Mapping[str, tuple[str, ...]]] = {
    "groups": ("cluster", "owner", "application", "driver", "driver_version"),
    "incidents": (*("cluster", "kind", "rule", "user", "application", "driver", "driver_version"),),
}


def merged(path: str, documents: Documents, fields: Mapping[str, Any]) -> Document:
    """What a page says, of all of them together."""
    if path == "summary":
        return _summary(documents)
    if path == "history":
        return _history(documents, int(fields["limit"]))
    rows = [
        {"proxy": proxy} | row for proxy, document in documents.items() for row in document[path]
    ]
    alike = _ALIKE.get(path)
    if alike is not None:
        rows = [_one(same) for same in _grouped(rows, alike)]
    sort = str(fields.get("sort", ""))
    if sort:
        rows.sort(key=_key(sort.removeprefix("-")), reverse=sort.startswith("-"))
    elif path == "incidents":
        rows.sort(key=lambda row: float(row["age_seconds"]))
    limit = int(fields.get("limit", len(rows)))
    document: Document = {path: rows[:limit]}
    for name in ("matched", "total"):
        if all(name in one for one in documents.values()):
            document[name] = sum(one[name] for one in documents.values())
    if alike is not None and "matched" in document:
        document["matched"] = max(len(rows), *(one["matched"] for one in documents.values()))
    if any(one.get("next") for one in documents.values()) or len(rows) > limit:
        document["next"] = "more"
    return document


def killed(documents: Documents) -> Document:
    """What a kill would hit, or what became of it."""
    whole: Document = {}
    for proxy, document in documents.items():
        for name, value in document.items():
            if isinstance(value, bool) or name == "cluster":
                whole[name] = value
            elif isinstance(value, int):
                whole[name] = whole.get(name, 0) + value
            elif isinstance(value, dict):
                named = {f"{proxy}: {text}": count for text, count in value.items()}
                whole[name] = whole.get(name, {}) | named
            elif isinstance(value, list) and name != "unknown":
                rows = [{"proxy": proxy} | one if isinstance(one, dict) else one for one in value]
                whole[name] = [*whole.get(name, []), *rows]
    lists = [document["unknown"] for document in documents.values()]
    whole["unknown"] = [one for one in lists[0] if all(one in other for other in lists)]
    return whole


def _history(documents: Documents, limit: int) -> Document:
    """What has happened at all of them: the first ``limit`` events, without a way to the next."""
    first = next(iter(documents.values()))
    whole: Document = {**first, "next": None, "counts": {}}
    whole["matched"] = sum(one["matched"] for one in documents.values())
    since = [one["remembered_since"] for one in documents.values() if one["remembered_since"]]
    whole["remembered_since"] = max(since, default=None)
    for name in ("events", "open_meanwhile"):
        rows = [{"proxy": proxy} | row for proxy, one in documents.items() for row in one[name]]
        whole[name] = sorted(rows, key=lambda row: str(row["time"]))[:limit]
    samples: dict[str, Document] = {}
    for document in documents.values():
        for name, count in document["counts"].items():
            whole["counts"][name] = whole["counts"].get(name, 0) + count
        for one in document["samples"]:
            sums = samples.setdefault(one["time"], {"time": one["time"]})
            for name, value in one.items():
                if name != "time":
                    sums[name] = sums.get(name, 0) + value
    whole["samples"] = [samples[time] for time in sorted(samples)]
    return whole


# ---------------------------------------------------------------------- rows


def _grouped(rows: Iterable[Document], names: Sequence[str]) -> list[list[Document]]:
    groups: dict[tuple[Any, ...], list[Document]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return list(groups.values())


def _one(rows: list[Document]) -> Document:
    """Rows that are alike as one: numbers add up, and of times and shares the largest counts. What
    says how it was the last time is of the latest."""
    if len(rows) == 1:
        return rows[0]
    latest = min(rows, key=lambda row: float(row.get("age_seconds", 0.0)))
    whole = dict(latest)
    for name, value in latest.items():
        values = [row[name] for row in rows if row.get(name) is not None]
        if name in ("age_seconds", "first"):
            whole[name] = min(values)
        elif name not in _LAST and isinstance(value, int | float) and not isinstance(value, bool):
            largest = name.endswith("_seconds") or name == "budget_used"
            whole[name] = max(values) if largest else sum(values)
        elif name == "budget_used":
            whole[name] = max(values, default=None)
    if "before" in whole:
        whole["before"] = _reasons(latest, rows)
    fullest = max(rows, key=lambda row: float(row.get("budget_used") or 0))
    # Each proxy has bounds of its own.
    whole |= {name: fullest[name] for name in ("bound", "limit", "used") if "used" in fullest}
    whole["proxy"] = f"{len(rows)} proxies"
    return whole


def _reasons(latest: Document, rows: list[Document]) -> list[Document]:
    """What there was beside the latest reason: of the others also the one that is latest there."""
    found = [one for row in rows for one in row.get("before", ())]
    others = [{name: row.get(name) for name in _SAID} for row in rows if row is not latest]
    found += [one for one in others if _kind(one) != _kind(latest)]
    return sorted(found, key=lambda one: str(one["last"]), reverse=True)


def _kind(row: Document) -> tuple[Any, ...]:
    return row.get("error"), row.get("bound") or kind_of(row.get("reason") or "")


#: What is said of reasons before the latest.
_SAID: Final = ("last", "reason", "bound", "limit", "error", "command", "session", "owner")

#: Numbers of an incident that say how it was the last time.
_LAST: Final = frozenset(("conn", "limit"))


def _key(order: str) -> Callable[[Document], Any]:
    """What the endpoint sorts rows by, as far as rows tell."""

    def number(row: Document, *names: str) -> float:
        found = next((row[name] for name in names if row.get(name) is not None), -inf)
        return float(found) if isinstance(found, int | float) else -inf

    def key(row: Document) -> Any:  # noqa: ANN401 - of one type for each order
        operations = row.get("operations")
        if order == "activity":
            level = 4 * (row.get("transaction") == "in progress" or "child_transactions" in row)
            level += 2 * bool(operations) + bool(row.get("cursors"))
            return -level, row["idle_seconds"]
        if order == "operations" and isinstance(operations, list):
            return max((one["seconds"] for one in operations), default=-inf)
        if order == "idle":
            return -inf if operations else number(row, "idle_seconds")
        if order == "transaction":
            return number(row, "transaction_seconds")
        if isinstance(row.get(order), str):
            return row[order]
        return number(row, f"{order}_seconds", f"{order}_bytes", order)

    return key


# ---------------------------------------------------------------------- the summary


def _summary(documents: Documents) -> Document:
    first, *_ = documents.values()
    whole = dict(first)
    for name, value in first.items():
        values = [one[name] for one in documents.values() if name in one]
        if isinstance(value, bool):
            whole[name] = all(values)
        elif name.startswith("sessions_per_"):
            # Each proxy has its own; one that all have alike is shown.
            whole[name] = value if len(set(values)) == 1 else 0
        elif isinstance(value, int | float):
            largest = name.endswith("_seconds")
            whole[name] = max(values) if largest else sum(values)
        elif isinstance(value, str):
            whole[name] = ", ".join(dict.fromkeys(values))
    whole["uptime_seconds"] = min(one["uptime_seconds"] for one in documents.values())
    away = [f"{proxy}: {one['reason']}" for proxy, one in documents.items() if not one["ready"]]
    whole["reason"] = "; ".join(away)
    whole["clusters"] = [
        cluster | {"cluster": " ".join([proxy, *filter(None, [cluster.get("cluster")])])}
        for proxy, one in documents.items()
        for cluster in one.get("clusters", [one])
    ]
    whole["proxies"] = [{"proxy": proxy} | one for proxy, one in documents.items()]
    return whole
