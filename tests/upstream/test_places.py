"""Which port a member has, whoever asks and whenever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.places import PORTS, ports

NAMES = st.lists(st.from_regex(r"[a-z]{1,3}:[1-9]\d{0,4}", fullmatch=True), max_size=60)


def test_a_few_members() -> None:
    """Other versions of the proxy in front of the same set have to agree."""
    names = [f"db{number}.example.net:27017" for number in (1, 2, 3)]
    assert ports(27018, names) == {
        "db1.example.net:27017": 27143,
        "db2.example.net:27017": 27170,
        "db3.example.net:27017": 27030,
    }


def test_one_who_leaves_and_one_who_joins_move_nobody() -> None:
    before = ports(27018, ["a:1", "b:1", "c:1", "d:1"])
    after = ports(27018, ["d:1", "e:1", "c:1", "a:1"])
    assert {name: after[name] for name in ("a:1", "c:1", "d:1")} == {
        name: before[name] for name in ("a:1", "c:1", "d:1")
    }
    assert after["e:1"] not in before.values()


@given(NAMES, st.integers(1, 65_535), st.sets(st.integers(27_000, 27_300)), st.randoms())
def test_the_order_does_not_matter(names, first, taken, random) -> None:
    found = ports(first, names, taken)
    random.shuffle(names)
    assert ports(first, names, taken) == found
    places = list(found.values())
    assert len(set(places)) == len(places)
    assert not set(places) & taken
    assert all(first < place <= min(first + PORTS, 65_535) for place in places)


def test_of_two_that_collide_one_goes_on() -> None:
    everybody = [f"m{number}:1" for number in range(PORTS)]
    assert sorted(ports(1000, everybody).values()) == list(range(1001, 1001 + PORTS))
    assert len(ports(1000, [*everybody, "one:more"])) == PORTS
    assert ports(65_535, everybody) == {}
    assert ports(65_534, everybody, {65_535}) == {}
