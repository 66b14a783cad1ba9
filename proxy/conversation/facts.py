"""What a conversation may know of the upstream process that it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: logicalSessionTimeoutMinutes of every server by default.
DEFAULT_TIMEOUT_MINUTES: Final = 30

#: transactionLifetimeLimitSeconds of every server by default.
DEFAULT_LIFETIME: Final = 60.0


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """One upstream process. None stands for what could not be found out.

    ``native`` is false where the session commands are missing; ``has_transactions`` is true
    for members of replica sets and for mongos. ``ran_open`` says that it was seen to run without
    authorization and has it on now. ``wire_version`` is hello's maxWireVersion.
    ``needs_api_version`` says that commands without ``apiVersion`` are refused.
    ``transaction_lifetime`` is after how many seconds it ends a transaction that is open; None
    too where it may be for ever.
    """

    authorization: bool | None = None
    native: bool = True
    has_transactions: bool | None = None
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    ran_open: bool = False
    wire_version: int | None = None
    needs_api_version: bool = False
    transaction_lifetime: float | None = None
