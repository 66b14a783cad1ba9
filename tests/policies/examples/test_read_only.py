from __future__ import annotations

from typing import Any

import pytest

from policies.examples.read_only import ReadOnly
from proxy.testing import Asking

ASK = Asking(ReadOnly, users=["audit@admin"])


@pytest.mark.parametrize(
    "command",
    [
        {"find": "orders"},
        {"count": "orders"},
        {"aggregate": "orders", "pipeline": [{"$match": {}}]},
        {"listCollections": 1},
        {"ping": 1},
        {"explain": {"delete": "orders"}},
        {"endSessions": []},
    ],
)
@pytest.mark.parametrize("session", [1, None])
def test_reading(command: dict[str, Any], session: int | None) -> None:
    assert ASK(command, user="audit@admin", session=session) is None


@pytest.mark.parametrize(
    "command",
    [
        {"insert": "orders"},
        {"drop": "orders"},
        {"aggregate": "orders", "pipeline": [{"$out": "copies"}]},
        {"mapReduce": "orders", "out": "copies"},
        {"bulkWrite": 1},
        {"createUser": "mallory"},
        {"somethingNew": 1},
    ],
)
@pytest.mark.parametrize("session", [1, None])
def test_writing(command: dict[str, Any], session: int | None) -> None:
    error = ASK(command, user="audit@admin", session=session)
    assert error is not None
    assert error.code == 13
    assert str(error).endswith(f"audit@admin only reads, and {next(iter(command))} may write")
    assert ASK(command, user="shop@admin", session=session) is None
    assert ASK(command, session=session) is None


def test_without_users_it_is_not_asked() -> None:
    assert Asking(ReadOnly).rule.idle
