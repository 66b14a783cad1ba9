"""Whom a store tells what becomes of sessions, where somebody keeps a record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from proxy.session.records import Child, Owner, Session

STARTED: Final = "session_started"
ENDED: Final = "session_ended"
KILLED: Final = "session_killed"
NOT_TAKEN: Final = "session_not_taken"
BEGUN: Final = "transaction_started"
OVER: Final = "transaction_ended"


class Flight(Protocol):
    """Told while it happens, and between two requests: must not raise, wait or take long."""

    def session(self, event: str, session: Session, now: float) -> None:
        """One of the above has happened to a session. Of several processes all may tell that one
        has begun, and the one that hears of all sessions does: once."""

    def all_killed(self, owner: Owner | None, sessions: int, now: float) -> None:
        """All sessions of an owner, or of everybody, were killed at once."""

    def begun(self, one: Session | Child, number: int, now: float) -> None:
        """The transaction ``number`` is open."""

    def over(
        self,
        one: Session | Child,
        number: int,
        now: float,
        outcome: str,
        seconds: float,
        statements: int,
    ) -> None:
        """It is so no more, for one of :data:`proxy.session.counts.OUTCOMES`.

        ``seconds`` it was open, -1 where that is not known, with ``statements`` that succeeded.
        """
