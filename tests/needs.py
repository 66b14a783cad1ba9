"""Programs that some tests need and not every machine has.

A developer's machine may lack some: their tests are skipped, and the run ends with what was
lacking and how to bring it. Where CI is set, lacking one is a failure: nothing is left out there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Final, NoReturn

import pytest

#: How the reason of every such skip begins.
LACKING: Final = "lacking here: "


def lacking(what: str) -> NoReturn:
    """Skip this test for want of ``what``, or fail it where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(LACKING + what, pytrace=False)
    pytest.skip(LACKING + what)


def need(*names: str) -> str:
    """The path of a program, under the first of these names that is there."""
    return next(filter(None, map(shutil.which, names)), None) or lacking(names[0])


def summary(reasons: Iterable[str]) -> list[str]:
    """What a run ends with, from the reasons of its skips."""
    found = {reason.partition(LACKING)[2] for reason in reasons if LACKING in reason}
    return (
        [f"Tests were skipped for want of {', '.join(sorted(found))}.", "make equipment brings it."]
        if found
        else []
    )
