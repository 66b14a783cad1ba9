from __future__ import annotations

from proxy.net.crowds import Crowds, Gathered

ADA, BOB = ("user", "ada"), ("user", "bob")


def test_who_joins_and_leaves_is_counted() -> None:
    crowds = Crowds()
    for group in (ADA, ADA, BOB):
        crowds.join(group)
    assert [crowds.count(group) for group in (ADA, BOB, ("address", "ada"))] == [2, 1, 0]
    crowds.leave(ADA)
    crowds.leave(BOB)
    assert [crowds.count(group) for group in (ADA, BOB)] == [1, 0]
    assert not crowds.news()


def test_what_has_changed_is_told_once_and_in_parts() -> None:
    crowds = Crowds(shared=True)
    crowds.join(ADA)
    crowds.join(BOB)
    crowds.leave(BOB)
    assert crowds.news() == {ADA: 1, BOB: 0}
    assert not crowds.news()
    for number in range(1_200):
        crowds.join(("address", str(number)))
    told = [crowds.news() for _ in range(4)]
    assert [len(one) for one in told] == [500, 500, 200, 0]


def test_each_process_hears_what_all_others_have() -> None:
    gathered = Gathered()
    gathered.heard(0, {ADA: 2, BOB: 1})
    gathered.heard(1, {ADA: 3})
    assert gathered.without(0, [ADA, BOB]) == [{ADA: 3, BOB: 0}]
    assert gathered.without(1, [ADA]) == [{ADA: 2}]
    assert gathered.without(2, gathered.groups()) == [{ADA: 5, BOB: 1}]
    here = Crowds(shared=True)
    here.join(ADA)
    for some in gathered.without(2, gathered.groups()):
        here.take_in(some)
    assert (here.count(ADA), here.count(BOB)) == (6, 1)
    assert gathered.gone(0) == [ADA, BOB]
    for some in gathered.without(2, [ADA, BOB]):
        here.take_in(some)
    assert (here.count(ADA), here.count(BOB)) == (4, 0)
    assert gathered.groups() == [ADA]
    gathered.heard(1, {ADA: 0})
    assert not gathered.groups()
    assert gathered.gone(1) == []
