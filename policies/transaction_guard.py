"""Transactions that stay open too long, or are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from policies.bounds import Bounds
from proxy.conversation.rule import Overdue
from proxy.session.refusals import TOO_MANY_SESSIONS, no_such_transaction
from proxy.session.transactions import Step, step_of

if TYPE_CHECKING:
    from proxy.conversation.rule import Context
    from proxy.errors import CommandError
    from proxy.session.records import Session
    from proxy.session.tracker import Tracker


@dataclass(frozen=True, slots=True)
class TransactionBound:
    """Other bounds for some; what it does not say stays as it is for everybody."""

    #: Patterns of ``user@db``; none for everybody.
    users: tuple[str, ...] = ()
    #: Patterns of ``application.name``; none for all.
    applications: tuple[str, ...] = ()
    idle_seconds: float | None = None
    total_seconds: float | None = None
    per_user: int | None = None
    #: They have no bound at all.
    exempt: bool = False


class _Limits(NamedTuple):
    """What holds for some: each bound (0: none) with the setting that it is from."""

    idle: tuple[float, str]
    total: tuple[float, str]
    cap: tuple[int, str]


class _Late(NamedTuple):
    reason: str
    bound: tuple[str, float]


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
        #: Other bounds for some users and applications; the first that matches decides.
        bounds: tuple[TransactionBound, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self._bounds = Bounds(settings.bounds)
        self._general = _limits(settings)
        self._own = [
            _limits(settings, one, f"bounds[{number}].")
            for number, one in enumerate(settings.bounds)
        ]
        every = (self._general, *self._own)
        self._watches = any(one.idle[0] or one.total[0] for one in every)
        self.idle = not (self._watches or any(one.cap[0] for one in every))

    @property
    def watches(self) -> bool:
        """Whether anything can become overdue."""
        return self._watches

    def refuse(self, context: Context) -> CommandError | None:
        info = context.info
        step = step_of(context.request.command, info)
        if step is None or step is Step.WRITE or step is Step.ABORT:
            return None
        session = context.session
        # A child session's transaction is a server's business, and lasts as long as that wants.
        tracker = None if session is None or info.child else session.transaction
        if (
            session is not None
            and tracker is not None
            and info.txn_number is not None
            and tracker.may_go_on(info.txn_number)
        ):
            late = self._over_time(session, tracker, context.now)
            if late is not None:
                error = no_such_transaction(
                    f"Transaction {info.txn_number} has been aborted: {late.reason}"
                )
                return error.because(late.reason, *late.bound)
        return self._over_cap(context, tracker) if step is Step.START else None

    def overdue(self, session: Session, now: float) -> Overdue | None:
        """Whether a session's transaction is open for longer than allowed; no statement of its
        may be running, as that would have to be waited for."""
        tracker = session.transaction
        if tracker is None or _is_running(session):
            return None
        late = self._over_time(session, tracker, now)
        # The oldest first: what came later may have begun nothing, and more of that may come.
        return None if late is None else Overdue(session, tracker.open_ones[-1].number, *late)

    def _over_cap(self, context: Context, tracker: Tracker | None) -> CommandError | None:
        user, store = context.caller.name, context.store
        cap, setting = self._limits_of(user, context.origin.application).cap
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
        known = store.owner_transactions(user) - replaces
        if known < cap:
            return None
        reason = f"user {user} has {known} of {cap} open transactions and starts another one"
        return no_such_transaction(reason).because(reason, setting, cap)

    def _limits_of(self, user: str, application: str) -> _Limits:
        found = self._bounds.find(user, application)
        return self._general if found is None else self._own[found[0]]

    def _over_time(self, session: Session, tracker: Tracker, now: float) -> _Late | None:
        if not tracker.may_be_open:
            return None
        limits = self._limits_of(session.owner.name, session.group.origin.application)
        (idle, idle_setting), (total, total_setting) = limits.idle, limits.total
        if total and now - tracker.started >= total:
            reason = f"it was open for more than {total:g} seconds"
            return _Late(reason, (total_setting, total))
        if idle and now - tracker.last_use >= idle and not _is_running(session):
            return _Late(f"it was idle for more than {idle:g} seconds", (idle_setting, idle))
        return None


def _limits(
    general: TransactionGuard.Settings, own: TransactionBound | None = None, path: str = ""
) -> _Limits:
    """The bounds for everybody, or for those whose entry is at ``path`` in the settings."""

    def bound(name: str) -> tuple[Any, str]:
        said = None if own is None else getattr(own, name)
        if own is not None and own.exempt:
            return 0, name
        return (getattr(general, name), name) if said is None else (said, path + name)

    return _Limits(bound("idle_seconds"), bound("total_seconds"), bound("per_user"))


def _is_running(session: Session) -> bool:
    """Whether a statement of the transaction is in flight; what else the session does is not its
    business."""
    activity = session.activity
    return activity is not None and any(
        operation.attempt is not None and not operation.attempt.info.child
        for operation in activity.operations
    )
