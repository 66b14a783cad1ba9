from __future__ import annotations

from proxy.counting import OTHER, Cells, Distribution, Names, Recent, Tally


def test_a_tally_counts_from_nought_and_remembers_only_what_was_counted() -> None:
    tally: Tally[str] = Tally()
    assert tally["never"] == 0
    assert not tally
    tally["once"] += 1
    assert tally == {"once": 1}


def test_known_names_stand_for_themselves() -> None:
    names = Names(frozenset(("find", "insert")))
    assert [names[name] for name in ("find", "FIND", "", "x" * 100)] == ["find", *[OTHER] * 3]
    assert len(names) == 2


def test_cells_of_what_is_not_known_are_the_same() -> None:
    cells = Cells(frozenset(("find", "insert")), 2)
    for name in ("find", "FIND", "", OTHER):
        cells[name][1] += 1
    assert cells == {"find": [0, 1], "insert": [0, 0], OTHER: [0, 3]}


def test_the_first_names_are_learnt() -> None:
    names = Names(most=2)
    assert [names[name] for name in "abcab"] == ["a", "b", OTHER, "a", "b"]


def test_values_on_a_bound_count_below_it() -> None:
    distribution = Distribution((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        distribution.observe(value)
    assert distribution.counts == [2, 2, 1]
    assert distribution.sum == 14.0


def test_what_came_last_is_kept() -> None:
    recent: Recent[str] = Recent(2)
    for now, key in enumerate("abac"):
        recent.note(key, float(now))
    assert recent.items() == [("a", 2.0), ("c", 3.0)]
