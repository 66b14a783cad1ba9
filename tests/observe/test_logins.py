from __future__ import annotations

from proxy.counting import OTHER
from proxy.observe.families import Declared
from proxy.observe.logins import MOST_CLAIMED, Logins

HOSTILE = "\x1b[2J" + "x" * 500


def claimed(declared: Declared) -> dict[tuple[str, str], float]:
    [family] = [one for one in declared.families() if one.name.endswith("user_login_failures")]
    return {
        (one.labels["user"], one.labels["application"]): one.value
        for one in family.samples
        if one.name.endswith("_total")
    }


def test_the_first_that_come_have_names_and_all_others_are_one() -> None:
    declared = Declared()
    logins = Logins(declared)
    for number in range(100):
        logins.failed("saslStart", f"u{number}@app", "shop")
        logins.failed("saslStart", "u0@app", "shop")
    found = claimed(declared)
    assert len(found) == MOST_CLAIMED + 1
    assert found["u0@app", "shop"] == 101
    assert found[OTHER, OTHER] == 100 - MOST_CLAIMED
    assert sum(found.values()) == 200


def test_names_are_short_and_printable() -> None:
    declared = Declared()
    Logins(declared).failed("saslStart", HOSTILE, HOSTILE)
    [(user, application)] = claimed(declared).keys() - {(OTHER, OTHER)}
    assert user == application
    assert user.isprintable()
    assert len(user) < 120
