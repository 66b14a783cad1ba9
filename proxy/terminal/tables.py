"""Tables of rows, as wide as there is room: texts give way, then whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.terminal.places import told_apart
from proxy.terminal.printable import fitted, folded, printable, width

if TYPE_CHECKING:
    from proxy.terminal.views import Column, Row, View

#: Cells that a text may take before others have what they need, and has at the least.
_WIDEST: Final = 60
_NARROWEST: Final = 6
#: Those of the first digits of an id, and of what says that there are more.
_SHORT_ID: Final = 9
_GAP: Final = "  "
#: By how much is moved in what stands below a row.
_BELOW: Final = 4

_Shown = tuple["Column", list[str]]


def table(
    view: View,
    rows: Sequence[Row],
    cells: int | None = None,
    sort: str = "",
    *,
    short_ids: bool = False,
    proxies: Sequence[str] = (),
) -> list[str]:
    """A heading and one line per row, as wide as needed or at most ``cells``.

    Columns without anything in them are left out; the one that is sorted by has an arrow. Ids stay
    whole, unless ``short_ids`` will do where there is no room. So does what may not be cut. The
    ``proxies`` are all that there are, from which those of the rows have to be told.
    """
    shown, widths = _fit(_filled(view, rows, sort, cells, proxies), cells, short_ids=short_ids)
    return _lines(shown, widths)


def listing(
    view: View,
    rows: Sequence[Row],
    cells: int | None,
    sort: str = "",
    proxies: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """A table, and the titles of the columns that there is no room for. Where the view says so,
    these stand below each row instead, and so does what is cut in it."""
    filled = _filled(view, rows, sort, cells, proxies)
    shown, widths = _fit(filled, cells, short_ids=False)
    lines = _lines(shown, widths)
    missing = [one for one in filled if one not in shown]
    if not view.below or cells is None:
        return lines, [column.title for column, _ in missing]
    given = {column.title: taken for (column, _), taken in zip(shown, widths, strict=True)}
    first = sorted(filled, key=lambda one: -one[0].keep)
    whole: list[str] = lines[:1]
    for at, line in enumerate(lines[1:], 1):
        more = [
            f"{column.title.lower()} {values[at]}"
            for column, values in first
            if values[at] not in ("", "-") and width(values[at]) > given.get(column.title, 0)
        ]
        whole += [line, *folded(" · ".join(more), cells, _BELOW)]
    return whole, []


def _lines(shown: Sequence[_Shown], widths: Sequence[int]) -> list[str]:
    count = len(shown[0][1]) if shown else 0
    return [
        _GAP.join(
            fitted(values[line], taken, right=column.right)
            for (column, values), taken in zip(shown, widths, strict=True)
        ).rstrip()
        for line in range(count)
    ]


def left_out(view: View, rows: Sequence[Row], cells: int | None, sort: str = "") -> list[str]:
    """The titles of columns that have something in them, and no room in :func:`table`."""
    filled = _filled(view, rows, sort, cells)
    shown, _ = _fit(filled, cells, short_ids=False)
    return [column.title for column, values in filled if (column, values) not in shown]


def _filled(
    view: View,
    rows: Sequence[Row],
    sort: str,
    cells: int | None = None,
    proxies: Sequence[str] = (),
) -> list[_Shown]:
    """The columns that have something in them: their headings, and all their cells. The one that
    is sorted by matters most."""
    texts = [[printable(column.cell(row)) for row in rows] for column in view.columns]
    if cells is not None:
        # Addresses take room that others need more.
        texts = [
            told_apart([*values, *proxies])[: len(values)] if column.address else values
            for column, values in zip(view.columns, texts, strict=True)
        ]
    return [
        (
            replace(column, keep=max(column.keep, _ALWAYS)) if _sorts(column, sort) else column,
            [_heading(column, sort), *values],
        )
        for column, values in zip(view.columns, texts, strict=True)
        if any(value not in ("", "-") for value in values) or not (rows or column.rare)
    ]


def _sorts(column: Column, sort: str) -> bool:
    return bool(column.sort) and sort.removeprefix("-") == column.sort


def _heading(column: Column, sort: str) -> str:
    if _sorts(column, sort):
        return f"{column.title} {'↓' if sort.startswith('-') else '↑'}"
    return column.title


def _fit(
    shown: list[_Shown], cells: int | None, *, short_ids: bool
) -> tuple[list[_Shown], list[int]]:
    """The columns that there is room for, and how many cells each gets."""
    wanted = [max(map(width, values)) for _, values in shown]
    if cells is None:
        return shown, wanted
    widths = [
        taken if column.id or column.whole else min(_WIDEST, taken)
        for (column, _), taken in zip(shown, wanted, strict=True)
    ]
    least = [
        _least(column, values[0], taken, short_ids=short_ids)
        for (column, values), taken in zip(shown, widths, strict=True)
    ]
    kept = _chosen([column.keep for column, _ in shown], least, cells)
    shown = [shown[at] for at in kept]
    widths, least = [widths[at] for at in kept], [least[at] for at in kept]
    if _excess(least, cells) > 0:
        # Even of what is never left out there is too much.
        least = [
            taken if column.right else min(taken, _NARROWEST)
            for (column, _), taken in zip(shown, widths, strict=True)
        ]
    _squeeze(widths, least, cells, [column.id for column, _ in shown])
    return shown, widths


def _chosen(keep: Sequence[int], least: Sequence[int], cells: int) -> list[int]:
    """Which columns there is room for: the one that matters most first, then any that fits."""
    kept = [at for at, matters in enumerate(keep) if matters >= _ALWAYS]
    for at in sorted(range(len(keep)), key=lambda at: -keep[at]):
        if at not in kept and _excess([least[one] for one in (*kept, at)], cells) <= 0:
            kept.append(at)
    return sorted(kept)


#: What is never left out.
_ALWAYS: Final = 8


def _least(column: Column, heading: str, taken: int, *, short_ids: bool) -> int:
    """The cells with which a column still says something."""
    if column.id:
        return min(taken, _SHORT_ID) if short_ids else taken
    if column.whole and not short_ids:
        return taken
    return taken if column.right else min(taken, max(column.enough, width(heading)))


def _excess(widths: Sequence[int], cells: int) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1) - cells


def _squeeze(widths: list[int], least: Sequence[int], cells: int, ids: Sequence[bool]) -> None:
    """Take cells from ids, then from the widest that can give any, until all fits."""
    excess = _excess(widths, cells)
    for at, is_id in enumerate(ids):
        if is_id and excess > 0:
            given = min(excess, widths[at] - least[at])
            widths[at] -= given
            excess -= given
    while excess > 0:
        spare = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not spare:
            return
        widths[max(spare, key=widths.__getitem__)] -= 1
        excess -= 1
