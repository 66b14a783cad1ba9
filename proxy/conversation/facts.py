"""What a conversation may know of the upstream process that it leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    too where it may be for ever. ``process`` is the ``topologyVersion.processId`` of the one that
    was asked whether it demands logins; b"" where it has none (before 4.4).
    """

    authorization: bool | None = None
    native: bool = True
    has_transactions: bool | None = None
    timeout_minutes: int = DEFAULT_TIMEOUT_MINUTES
    ran_open: bool = False
    wire_version: int | None = None
    needs_api_version: bool = False
    transaction_lifetime: float | None = None
    process: bytes = b""


class Newcomer:
    """What is known of the process with the id ``process``, which stands where ``find`` tells of
    another one: whether it demands logins is open until it was asked itself, where that one did
    not.

    Whoever does not log in is none the better off where it does, and upstream says so itself; both
    may also stand behind one address for good, and neither demand any.
    """

    __slots__ = ("_before", "_find", "_process", "_seen")

    def __init__(self, find: Callable[[], UpstreamFacts], process: bytes) -> None:
        self._find = find
        self._process = process
        self._before = self._seen = find()

    @property
    def is_known(self) -> bool:
        """Whether it is the one that was asked, as far as one knows."""
        return self._find().process in (b"", self._process)

    def finder(self, *, logs_in: bool) -> Callable[[], UpstreamFacts]:
        """Tells what holds for a client that has logged in, or has not."""
        return self._now if logs_in else self._find

    def _now(self) -> UpstreamFacts:
        """The same object until something changes."""
        facts = self._find()
        if facts.process in (b"", self._process) or facts.authorization is not False:
            return facts
        if facts is not self._before or self._seen is facts:
            self._before, self._seen = facts, replace(facts, authorization=None)
        return self._seen
