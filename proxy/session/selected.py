"""Sessions as a kill selects them: how many, what they have open, and where.

Some of all this is long: whatever takes more than a few milliseconds is done in steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.session.ids import OpenTransaction
from proxy.session.index import SessionIndex
from proxy.session.records import Child, Hit, Open, Owner, Selection, Session
from proxy.session.steps import MANY, Steps, in_one_go
from proxy.session.transactions import State

_EVERYTHING: Final = Selection(everything=True)


class Selected(NamedTuple):
    """What a selection means now: ``owners`` with all they have, None for everybody, and
    ``others``, single sessions beside theirs."""

    owners: list[Owner] | None
    others: list[Session]


class SelectedSessions(SessionIndex):
    """Sessions, found by what a command means."""

    def count(self, within: Selection) -> int:
        """How many sessions are selected."""
        return self._count_in(in_one_go(self._selecting(within)))

    def hit(self, within: Selection) -> Hit:
        """How much a kill of the selected sessions would hit, on all upstreams together."""
        return in_one_go(self.hitting(within))

    def hitting(self, within: Selection) -> Steps[Hit]:
        """:meth:`hit` in steps."""
        selected = yield from self._selecting(within)
        operations = cursors = transactions = 0
        for sessions in self._active_in(selected):
            for session in sessions:
                if session.activity is not None:
                    operations += len(session.activity.operations)
                    cursors += len(session.activity.cursors)
                transactions += session.state is State.IN_PROGRESS
                for child in session.children:
                    transactions += child.state is State.IN_PROGRESS
            yield
        return Hit(self._count_in(selected), operations, cursors, transactions)

    def open_at(self, upstream: str, within: Selection) -> Open:
        """What the selected sessions have open at ``upstream`` (an address)."""
        return in_one_go(self.opening_at(upstream, within))

    def opening_at(self, upstream: str, within: Selection) -> Steps[Open]:
        """:meth:`open_at` in steps."""
        found = Open({}, [], [])
        selected = yield from self._selecting(within)
        looked_at = 0
        for sessions in self._active_in(selected):
            for session in sessions:
                uid, activity = session.owner.uid, session.activity
                if activity is not None:
                    cursors = list(activity.cursors.items())
                    for operation in list(activity.operations):
                        looked_at += 1
                        if looked_at % MANY == 0:
                            yield
                        if operation.upstream == upstream:
                            found.operations.append(operation.place)
                    for cursor, namespace in cursors:
                        looked_at += 1
                        if looked_at % MANY == 0:
                            yield
                        if cursor.upstream == upstream:
                            found.cursors.setdefault((uid, namespace), []).append(cursor.id)
                for one in session.with_children:
                    looked_at += 1
                    tracker = one.transaction
                    if tracker is not None and tracker.may_be_open:
                        found.transactions.extend(
                            OpenTransaction(session.key, may_be.number, may_be.api, one.child)
                            for may_be in tracker.open_ones
                            if may_be.upstream == upstream
                        )
            yield
        return found

    def active(self, within: Selection = _EVERYTHING) -> Iterator[list[Session]]:
        """The selected sessions that have operations, cursors or a transaction open, some at a
        time.

        Sessions may come and go between two lists.
        """
        return self._active_in(in_one_go(self._selecting(within)))

    def open_transaction_sessions(self) -> Iterator[list[Session | Child]]:
        """The sessions and child sessions with a transaction in progress, as :meth:`active` gives
        them."""
        for owner in list(self._active):
            if owner.open_transactions:
                for sessions in _some_of(list(owner.active)):
                    yield [
                        one
                        for session in sessions
                        for one in session.with_children
                        if one.state is State.IN_PROGRESS
                    ]

    def _selecting(self, within: Selection) -> Steps[Selected]:
        if within.everything:
            return Selected(None, [])
        owners: list[Owner] = []
        found: list[Session] = []
        for number, uid in enumerate(within.uids):
            if number % MANY == MANY - 1:
                yield
            owners += self._by_uid.get(uid, ())
        for number, key in enumerate(within.keys):
            if number % MANY == MANY - 1:
                yield
            if key.uid not in within.uids:
                session = self.get(key)
                if session is not None:
                    found.append(session)
        return Selected(owners, found)

    def _active_in(self, selected: Selected) -> Iterator[list[Session]]:
        """What a kill can hit of what is selected: some at a time, or now and then nothing."""
        owners, others = selected
        for number, owner in enumerate(list(self._active) if owners is None else owners):
            if number % MANY == MANY - 1:
                yield []
            if owner.active:
                yield from _some_of(list(owner.active))
        for sessions in _some_of(others):
            yield [one for one in sessions if _is_active(one)]

    def _count_in(self, selected: Selected) -> int:
        owners, others = selected
        if owners is None:
            return self._count
        return sum([owner.sessions.count for owner in owners]) + len(others)


def _some_of(sessions: list[Session]) -> Iterator[list[Session]]:
    for start in range(0, len(sessions), MANY):
        yield sessions[start : start + MANY]


def _is_active(session: Session) -> bool:
    tracker = session.transaction
    return session.activity is not None or (tracker is not None and tracker.counts)
