from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from policies.stmt_ids import StmtIds
from tests.policies.contexts import context
from tests.session.sessions import lsid

RULE = StmtIds(StmtIds.Settings())


@pytest.mark.parametrize(
    ("fields", "errmsg"),
    [
        ({}, None),
        ({"stmtIds": [0, 1]}, None),
        ({"stmtIds": [5, 5]}, "stmtIds must be strictly increasing"),
        ({"stmtIds": [-1]}, "stmtIds cannot be negative"),
        ({"stmtId": -1}, "stmtId cannot be negative"),
        ({"stmtIds": "x"}, None),
    ],
)
def test_refused_whatever_upstream_does(fields: dict[str, Any], errmsg: str | None) -> None:
    document = {"insert": "c", "lsid": lsid(2), "txnNumber": Int64(1), **fields}
    error = RULE.refuse(context(document))
    assert (error.errmsg if error else None) == errmsg
    if error is not None:
        assert (error.code, error.code_name, error.labels) == (2, "BadValue", ())
