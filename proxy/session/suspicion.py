"""What may be wrong with how a session is used, until it is known whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId


class Suspicion:
    """An incident's ``kind`` and ``reason`` (in words), the ``command`` that gave rise to it and
    the session.

    ``left`` is how many of the connections in question have yet to go on: one that is left with a
    request unanswered, as by a driver that asks again elsewhere, never does.
    """

    __slots__ = ("command", "kind", "left", "lsid", "reason")

    def __init__(
        self, kind: str, reason: str, command: str, lsid: LogicalSessionId, left: int = 0
    ) -> None:
        self.kind = kind
        self.reason = reason
        self.command = command
        self.lsid = lsid
        self.left = left
