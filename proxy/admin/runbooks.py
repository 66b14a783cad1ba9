"""What to do when an alert fires: its section of the manual, which comes with the program."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_MANUAL: Final = "docs/operation.md"
_ALERTS: Final = "\n## Alerts\n"
_SECTION: Final = re.compile(r"^### (\w+)\n", re.MULTILINE)


@cache
def runbooks() -> dict[str, str]:
    """By alert, what to do."""
    # A checkout has it at the top, a wheel among what it ships.
    shipped = _PACKAGE / "shipped"
    root = shipped if shipped.is_dir() else _PACKAGE.parent
    manual = (root / _MANUAL).read_text(encoding="utf-8")
    part = manual.partition(_ALERTS)[2].partition("\n## ")[0]
    _, *found = _SECTION.split(part)
    return dict(zip(found[::2], (text.strip() for text in found[1::2]), strict=True))


def runbook(alert: str) -> str:
    """What to do about an alert; of one that is not known, which there are."""
    known = runbooks()
    if alert in known:
        return f"{alert}\n\n{known[alert]}"
    return "alerts, each with ?alert=NAME:\n\n" + "\n".join(known)
