from __future__ import annotations

from dataclasses import is_dataclass

import pytest

import policies
from policies.examples.named_applications import NamedApplications
from proxy.policy import load_policy, make_policy
from tests.policies.contexts import SHOP, context
from tests.session.sessions import AS_ALICE, caller, lsid


@pytest.mark.parametrize("rule", [*policies.POLICIES, NamedApplications])
def test_every_rule_keeps_the_protocol(rule: type) -> None:
    assert is_dataclass(rule.Settings)
    assert rule.Settings.__dataclass_params__.frozen
    made = make_policy(rule, {})
    assert made.refuse(context({"find": "c"})) is None
    assert rule.__doc__


def test_names_are_distinct_and_those_of_the_files() -> None:
    names = [rule.name for rule in policies.POLICIES]
    assert len(set(names)) == len(names) == 8
    assert [rule.__module__ for rule in policies.POLICIES] == [f"policies.{one}" for one in names]


def test_the_example() -> None:
    path = "policies.examples.named_applications:NamedApplications"
    rule = load_policy(path, {"except_users": ("bob@app",)})
    new = {"find": "c", "lsid": lsid(2)}
    error = rule.refuse(context(new, AS_ALICE))
    assert error is not None
    assert error.code == 13
    assert rule.refuse(context(new, AS_ALICE, origin=SHOP)) is None
    assert rule.refuse(context(new, caller("bob@app"))) is None
    assert rule.refuse(context({"find": "c"}, AS_ALICE)) is None
