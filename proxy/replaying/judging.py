"""Rules are asked about one event after the other, and what they refuse does not come about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import policies
from proxy.conversation.rule import Mode, judges_all
from proxy.replaying.events import (
    SESSION_OVER,
    SESSION_STARTED,
    TRANSACTION_ENDED,
    TRANSACTION_STARTED,
)
from proxy.replaying.glimpse import Glimpse, UnknownError, first_statement
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.refusals import no_such_transaction
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step

if TYPE_CHECKING:
    from proxy.conversation.rule import Context, Rule
    from proxy.errors import CommandError
    from proxy.replaying.events import Event, Written
    from proxy.session.ids import LogicalSessionId

#: Rules that come with the proxy and judge by fields that nobody writes down.
_BY_FIELDS: Final = frozenset(
    ("ownership", "ownerless_sessions", "stmt_ids", "txn_number", "user_name_length")
)

#: Sessions looked at between two events, for those that a server has forgotten by then.
_SWEPT: Final = 100


@dataclass(slots=True)
class Refused:
    """One event that a rule would refuse."""

    event: Event
    rule: str
    error: CommandError


@dataclass(slots=True)
class Outlook:
    """What the rules say of it all. ``kinds`` counts the events that were ``judged``, by what they
    are. ``unknown`` counts events that a rule could not judge, by the rule and what it looked at in
    vain. ``after`` are those of sessions and transactions that would not have begun."""

    kinds: Counter[str] = field(default_factory=Counter)
    after: int = 0
    refused: list[Refused] = field(default_factory=list)
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: dict[str, Exception] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """How many events rules were asked about."""
        return self.kinds.total()


class Judging:
    """``rules`` are asked in order, but for those that are off or can refuse nothing, and those
    of :data:`_BY_FIELDS`."""

    def __init__(self, rules: Iterable[tuple[Rule, Mode]]) -> None:
        self.rules: Final = [
            (rule, mode)
            for rule, mode in rules
            if mode is not Mode.OFF
            and not getattr(rule, "idle", False)
            and rule.name not in _BY_FIELDS
        ]
        self._store = SessionStore()
        #: What was refused, so that what follows in it is not judged again.
        self._sessions: set[LogicalSessionId] = set()
        self._transactions: set[tuple[LogicalSessionId, int | None]] = set()

    def judge(self, written: Written) -> Outlook:
        """What the rules say of the events."""
        outlook = Outlook()
        for event in written.events:
            self._store.expire(event.time, _SWEPT)
            if self._is_after(event):
                outlook.after += 1
                continue
            if event.kind in SESSION_OVER or event.kind == TRANSACTION_ENDED:
                refused = self._late(event, outlook)
                outlook.kinds[_kind(event)] += refused is not None
            else:
                outlook.kinds[_kind(event)] += 1
                refused = self._ask(event, written.lives, outlook)
            if refused is None:
                self._happened(event)
                continue
            outlook.refused.append(refused)
            if event.kind == TRANSACTION_ENDED:
                self._happened(event)
            elif event.kind == TRANSACTION_STARTED and event.session is not None:
                self._transactions.add((event.session, event.number))
            elif event.kind == SESSION_STARTED and event.session is not None:
                self._sessions.add(event.session)
        return outlook

    def _is_after(self, event: Event) -> bool:
        session = event.session
        if session is None:
            return False
        return session in self._sessions or (
            event.kind == TRANSACTION_ENDED and (session, event.number) in self._transactions
        )

    def _ask(self, event: Event, lives: bool, outlook: Outlook) -> Refused | None:
        plain = event.session is None and event.command not in SESSION_COMMANDS
        store = self._store
        glimpses = [Glimpse(event, store, lives=lives, own=own) for own in (False, True)]
        for rule, _ in self.rules:
            if plain and not judges_all(rule):
                continue
            try:
                own = type(rule) not in policies.RULES
                error = rule.refuse(cast("Context", glimpses[own]))
            except UnknownError as unknown:
                outlook.unknown[rule.name, str(unknown)] += 1
                continue
            except Exception as failure:
                outlook.failed.setdefault(rule.name, failure)
                continue
            if error is not None:
                return Refused(event, rule.name, error)
        return None

    def _late(self, event: Event, outlook: Outlook) -> Refused | None:
        """Whether a rule would have ended a transaction before it ended."""
        session = None if event.session is None else self._store.get(event.session)
        if event.kind != TRANSACTION_ENDED or session is None:
            return None
        for rule, _ in self.rules:
            overdue = getattr(rule, "overdue", None)
            found = None if overdue is None else overdue(session, event.time)
            if found is None:
                continue
            if "idle" in found.reason:
                outlook.unknown[rule.name, "when the statements of a transaction came"] += 1
                continue
            error = no_such_transaction(f"Transaction {event.number} has been aborted")
            return Refused(event, rule.name, error.because(found.reason))
        return None

    def _happened(self, event: Event) -> None:
        """Note what came about."""
        store, session, now = self._store, event.session, event.time
        if session is None or event.kind == "command":
            return
        if event.kind in SESSION_OVER:
            store.end([session], now)
            return
        known = store.use(session, now, event.user, event.origin)
        if known is None or event.number is None:
            return
        if event.kind == TRANSACTION_STARTED:
            info = first_statement(event)
            store.transaction_step(known, Step.START, Outcome.OK, info, now)
        elif event.kind == TRANSACTION_ENDED:
            step = Step.COMMIT if event.outcome == "committed" else Step.ABORT
            info = first_statement(event)
            info.start_transaction = None
            store.transaction_step(known, step, Outcome.OK, info, now)


def _kind(event: Event) -> str:
    """What people call an event that rules are asked about, behind how many there are."""
    if event.kind in (SESSION_STARTED, TRANSACTION_STARTED, TRANSACTION_ENDED):
        return event.kind
    return event.decision if event.decision in ("refused", "reported") else "session command"
