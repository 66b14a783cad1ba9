"""Transactions that stay open too long, or are too many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from proxy.conversation.rule import Overdue
from proxy.session.refusals import no_such_transaction
from proxy.session.transactions import State, Step, step_of

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError
    from proxy.session.records import Session
    from proxy.session.store import SessionStore


class TransactionGuard:
    """Ends transactions that idle or last too long, and caps those that a user has open.

    Its answer is 251 with TransientTransactionError, for which drivers run the whole transaction
    again. :meth:`overdue` names what is to be aborted upstream.
    """

    name: ClassVar[str] = "transaction_guard"
    judges_routine: ClassVar[bool] = False

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Seconds between two requests of a transaction; 0 for any.
        idle_seconds: float = 0.0
        #: Seconds from its start; 0 for any (servers end it after 60).
        total_seconds: float = 0.0
        #: Open transactions per ``user@db``; 0 for any number.
        per_user: int = 0

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.idle = not (settings.idle_seconds or settings.total_seconds or settings.per_user)

    def refuse(self, context: Context) -> CommandError | None:
        info = context.info
        step = step_of(context.request.command, info)
        if step is None or step is Step.WRITE or step is Step.ABORT:
            return None
        session = context.session
        if step is Step.START:
            return self._over_cap(context, session)
        if session is None or session.txn_number != info.txn_number:
            return None
        reason = self._over_time(session, context.now)
        if not reason:
            return None
        return no_such_transaction(f"Transaction {info.txn_number} has been aborted: {reason}")

    def overdue(self, store: SessionStore, now: float) -> Iterator[Overdue]:
        """What is open longer than allowed, except what has an operation running."""
        if self._settings.idle_seconds or self._settings.total_seconds:
            for session in store.open_transaction_sessions():
                reason = self._over_time(session, now)
                if reason and not (session.activity and session.activity.operations):
                    yield Overdue(session, session.txn_number, reason)

    def _over_cap(self, context: Context, session: Session | None) -> CommandError | None:
        cap, user = self._settings.per_user, context.caller.name
        if not cap or not user:
            return None
        # A start on a session with an open transaction replaces it.
        replaces = session is not None and session.state is State.IN_PROGRESS
        if context.store.owner_transactions(user) - replaces < cap:
            return None
        return no_such_transaction(
            f"{user} has {cap} transactions open, which is as many as are allowed"
        )

    def _over_time(self, session: Session, now: float) -> str:
        tracker = session.transaction
        if tracker is None or tracker.state is not State.IN_PROGRESS:
            return ""
        idle, total = self._settings.idle_seconds, self._settings.total_seconds
        if total and now - tracker.started >= total:
            return f"it was open for more than {total:g} seconds"
        busy = session.activity is not None and bool(session.activity.operations)
        if idle and not busy and now - tracker.last_use >= idle:
            return f"it was idle for more than {idle:g} seconds"
        return ""
