"""What a conversation may know of the upstream process that it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: logicalSessionTimeoutMinutes of every server by default.
DEFAULT_TIMEOUT_MINUTES: Final = 30


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One upstream process. None stands for what could not be found out.

    ``native`` is false where the session commands are missing; ``has_transactions`` is true
    for members of replica sets and for mongos.
    """

    authorization: bool | None = None
    native: bool = True
    has_transactions: bool | None = None
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
