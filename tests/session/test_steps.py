from __future__ import annotations

from proxy.session.steps import Steps, in_one_go


def finding(number: int) -> Steps[int]:
    for _ in range(number):
        yield
    return number


def test_what_is_found_in_steps_is_found_in_one_go() -> None:
    assert in_one_go(finding(0)) == 0
    assert in_one_go(finding(9)) == 9
