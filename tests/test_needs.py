from __future__ import annotations

import pytest

from tests import needs


def test_what_is_there_is_found() -> None:
    assert needs.need("no-such-program", "true").endswith("/true")


@pytest.mark.parametrize(
    ("ci", "ends"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_what_is_lacking_is_skipped_or_fails(
    ci: str, ends: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ends, match="lacking here: no-such-program"):
        needs.need("no-such-program")


def test_the_summary_names_each_once_and_what_brings_them() -> None:
    reasons = ["Skipped: lacking here: b", "Skipped: lacking here: a", "lacking here: b", "other"]
    assert needs.summary(reasons) == [
        "Tests were skipped for want of a, b.",
        "make equipment brings it.",
    ]
    assert needs.summary(["other"]) == []
