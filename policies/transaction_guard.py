"""Transactions that stay open too long, or are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from proxy.conversation.rule import Overdue
from proxy.session.refusals import TOO_MANY_SESSIONS, no_such_transaction
from proxy.session.transactions import Step, step_of

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError
    from proxy.session.records import Session
    from proxy.session.transactions import Tracker


_IDLE: Final = "it was idle"


class TransactionGuard:
    """Ends transactions that idle or last too long, and caps those that a user has open.

    Its answer is 251 with TransientTransactionError, for which drivers run the whole transaction
    again. :meth:`overdue` names what is to be aborted upstream.
    """

    name: ClassVar[str] = "transaction_guard"
    judges_routine: ClassVar[bool] = False
    judges_plans: ClassVar[bool] = False
    judges_privileges: ClassVar[bool] = False

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

    @property
    def watches(self) -> bool:
        """Whether anything can become overdue."""
        return bool(self._settings.idle_seconds or self._settings.total_seconds)

    def refuse(self, context: Context) -> CommandError | None:
        info = context.info
        step = step_of(context.request.command, info)
        if step is None or step is Step.WRITE or step is Step.ABORT:
            return None
        session = context.session
        # A child session's transaction is a server's business, and lasts as long as that wants.
        tracker = None if session is None or info.child else session.transaction
        if session is not None and tracker is not None and info.txn_number == tracker.open_number:
            reason = self._over_time(session, tracker, context.now)
            if reason:
                error = no_such_transaction(
                    f"Transaction {info.txn_number} has been aborted: {reason}"
                )
                return error.because(reason, *self._bound(reason))
        return self._over_cap(context, tracker) if step is Step.START else None

    def overdue(self, session: Session, now: float) -> Overdue | None:
        """Whether a session's transaction is open for longer than allowed; no statement of its
        may be running, as that would have to be waited for."""
        tracker = session.transaction
        if tracker is None or _is_running(session):
            return None
        reason = self._over_time(session, tracker, now)
        return Overdue(session, tracker.open_number, reason) if reason else None

    def _over_cap(self, context: Context, tracker: Tracker | None) -> CommandError | None:
        cap, user, store = self._settings.per_user, context.caller.name, context.store
        if context.session is None and len(store) >= store.max_sessions:
            # A transaction that cannot be watched must not begin.
            return TOO_MANY_SESSIONS.because(
                "as many sessions are in use as may be, so that the transaction could not be"
                " watched",
                "max_sessions",
                store.max_sessions,
            )
        if not cap or not user:
            return None
        # A start on a session with an open transaction replaces it.
        replaces = tracker is not None and tracker.counts
        if store.owner_transactions(user) - replaces < cap:
            return None
        reason = f"{user} has {cap} transactions open, which is as many as are allowed"
        return no_such_transaction(reason).because(reason, "per_user", cap)

    def _bound(self, reason: str) -> tuple[str, float]:
        if reason.startswith(_IDLE):
            return "idle_seconds", self._settings.idle_seconds
        return "total_seconds", self._settings.total_seconds

    def _over_time(self, session: Session, tracker: Tracker, now: float) -> str:
        if not tracker.may_be_open:
            return ""
        idle, total = self._settings.idle_seconds, self._settings.total_seconds
        if total and now - tracker.started >= total:
            return f"it was open for more than {total:g} seconds"
        if idle and now - tracker.last_use >= idle and not _is_running(session):
            return f"{_IDLE} for more than {idle:g} seconds"
        return ""


def _is_running(session: Session) -> bool:
    """Whether a statement of the transaction is in flight; what else the session does is not its
    business."""
    activity = session.activity
    return activity is not None and any(
        operation.attempt is not None and not operation.attempt.info.child
        for operation in activity.operations
    )
