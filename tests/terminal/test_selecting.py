from __future__ import annotations

from proxy.terminal.selecting import Selection, key_of


def rows(*names: int) -> list[dict[str, object]]:
    return [{"conn": name, "requests": 0} for name in names]


def test_a_row_that_was_gone_to_stays_chosen_wherever_it_goes() -> None:
    one = Selection()
    one.move(1, "connections", rows(1, 2, 3))
    one.follow("connections", rows(9, 8, 3, 2, 1))
    assert one.at == 3


def test_at_the_top_it_is_whichever_is_first() -> None:
    one = Selection()
    one.follow("connections", rows(1, 2))
    one.follow("connections", rows(2, 1))
    assert one.at == 0
    one.move(1, "connections", rows(2, 1))
    one.move(-3, "connections", rows(2, 1))
    one.follow("connections", rows(1, 2))
    assert one.at == 0


def test_where_it_is_gone_its_place_counts() -> None:
    one = Selection()
    one.move(2, "connections", rows(1, 2, 3))
    one.follow("connections", rows(1, 2))
    assert one.at == 1
    one.follow("connections", rows(2, 1))
    assert one.at == 0
    one.follow("connections", [])
    assert one.at == 0


def test_the_chosen_row_is_on_the_screen() -> None:
    one = Selection()
    assert one.shown(100, 10) == range(10)
    one.move(10, "connections", rows(*range(100)))
    assert one.shown(100, 10) == range(1, 11)
    one.move(5, "connections", rows(*range(100)))
    assert one.shown(100, 10) == range(1, 11)
    one.move(0, "connections", rows(*range(100)))
    assert one.shown(100, 10) == range(10)
    one.move(99, "connections", rows(*range(100)))
    assert one.shown(100, 10) == range(90, 100)
    # The terminal has been made larger, then too small for anything.
    assert one.shown(100, 50) == range(50, 100)
    assert one.shown(100, 0) == range(99, 100)


def test_marks_keep_to_their_rows_and_have_them_as_they_are_now() -> None:
    one = Selection()
    before, after = {"conn": 1, "requests": 0}, {"conn": 1, "requests": 5}
    one.mark("connections", before)
    one.follow("connections", [after])
    assert list(one.marked.values()) == [after]
    one.mark("connections", after)
    assert one.marked == {}


def test_what_tells_rows_apart() -> None:
    row = {"proxy": "a", "conn": 1, "requests": 5}
    assert key_of("connections", row) == key_of("connections", row | {"requests": 6})
    assert key_of("connections", row) != key_of("connections", row | {"proxy": "b"})
