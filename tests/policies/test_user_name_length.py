from __future__ import annotations

from typing import Any

import pytest

from policies.user_name_length import UserNameLength
from proxy.session.caller import Caller
from tests.policies.contexts import context
from tests.session.sessions import caller, lsid

FIND = {"find": "c", "lsid": lsid(2)}
AT_LIMIT = caller("a" * 9994 + "@admin")
BELOW = caller("a" * 9993 + "@admin")


@pytest.mark.parametrize(
    ("who", "document", "refused"),
    [
        (AT_LIMIT, FIND, True),
        (AT_LIMIT, {"find": "c"}, False),
        (BELOW, FIND, False),
        (caller("é" * 4997 + "@admin"), FIND, True),
    ],
)
def test_the_manuals_limit(who: Caller, document: dict[str, Any], refused: bool) -> None:
    early = UserNameLength(UserNameLength.Settings(refuse_early=True))
    error = early.refuse(context(document, who))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name) == (2, "BadValue")
        assert error.errmsg == "Username too long to use with logical sessions"
    late = UserNameLength(UserNameLength.Settings())
    assert late.refuse(context(document, who)) is None
    assert (late.refuse(context(document, who, upstream_checks=False)) is not None) is refused


@pytest.mark.parametrize(
    ("who", "document", "refused"),
    [
        (caller("alice@app"), FIND, True),
        (caller("alice@a"), FIND, False),
        (caller("alice@app"), {"find": "c"}, False),
        (caller("alice@app"), {"endSessions": [lsid(2)]}, True),
        (caller("alice@app"), {"endSessions": []}, False),
        (caller("alice@app"), {"killSessions": []}, False),
        (caller("alice@app"), {"startSession": 1}, False),
        (caller("alice@app", authorization=False), FIND, False),
    ],
)
def test_a_lower_limit(who: Caller, document: dict[str, Any], refused: bool) -> None:
    rule = UserNameLength(UserNameLength.Settings(limit=9))
    assert (rule.refuse(context(document, who)) is not None) is refused


@pytest.mark.parametrize("limit", [0, 10_001])
def test_limits_that_make_no_sense(limit: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 10000"):
        UserNameLength.Settings(limit=limit)
