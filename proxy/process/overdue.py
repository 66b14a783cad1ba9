"""Ending transactions that are late, on idle connections of those who own them, or of servers.

Each second all that is overdue is found and given to the connections that can ask for its owners,
many at a time on each, one behind the other. Upstream may keep the cursors of what it has ended,
though nobody can read them: it is asked to kill them right behind that. No turn of the loop has
more to do than one slice of sessions, one of connections or one batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from policies.transaction_guard import TransactionGuard
from proxy.conversation.killed import close_killed
from proxy.conversation.overload import is_overload
from proxy.listing.slices import in_slices
from proxy.session.identity import EVERYBODY
from proxy.session.ids import OpenTransaction
from proxy.session.left import kills_of
from proxy.session.plans import abort_command
from proxy.session.transactions import STEPPED_DOWN, State

if TYPE_CHECKING:
    from proxy.conversation.rule import Overdue
    from proxy.conversation.sharing import Sessions
    from proxy.session.records import Session
    from proxy.session.tracker import Open
    from proxy.wire.replies import Reply

#: Seconds between two rounds, and the longest that one may last.
INTERVAL: Final = 1.0

#: Transactions that one connection is asked to abort at a time. Its client waits meanwhile.
_BATCH: Final = 50

#: Seconds after which a question without an answer counts as lost with its connection.
_PATIENCE: Final = 10.0

#: After how many refusals of one abort it is given up, and how many seconds pass after the first;
#: after each further one twice as many.
_MOST_REFUSALS: Final = 5
_PAUSE: Final = 1.0

#: Seconds for which another process's transactions are left to it.
_HELP_AFTER: Final = 2.0

#: NoSuchTransaction, TransactionTooOld, TransactionCommitted: it was over already, the second of
#: these as a newer one has begun.
_GONE: Final = (251, 225)
_COMMITTED: Final = 256

#: An upstream address and the owner (a digest) as whom something is to be asked there.
Place = tuple[str, bytes]


class Asker(Protocol):
    """A connection that can put questions to its upstream."""

    @property
    def place(self) -> Place | None:
        """Where and as whom it could ask now; None where it could not."""

    @property
    def acts_for_all(self) -> bool:
        """Whether upstream would take what it says of anybody's session."""

    def ask_all(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None]
    ) -> None:
        """Send commands (BSON); ``handler`` gets each one's number and reply, if they come."""


async def end_overdue(
    sessions: Sessions,
    connections: Callable[[], Collection[Asker]],
    own: Callable[[int], bool] = lambda _: True,
) -> None:
    """Every :data:`INTERVAL` end what is overdue, until cancelled.

    With several processes each begins with transactions of its ``own`` connections, and the
    others help where it has nobody who could ask.
    """
    rounds = _Rounds(sessions, own)
    while True:
        await trio.sleep(INTERVAL)
        for rule in sessions.rules.enforced(TransactionGuard):
            if rule.watches:
                waiting = await rounds.find(rule)
                if waiting:
                    await rounds.end(waiting, connections())


def _transaction(overdue: Overdue) -> OpenTransaction:
    """What is to be aborted, as its first command has begun it."""
    may_be = _may_be_open(overdue.session, overdue.txn_number)
    api = b"" if may_be is None else may_be.api
    return OpenTransaction(overdue.session.key, overdue.txn_number, api)


def _may_be_open(session: Session, number: int) -> Open | None:
    """What is known of a session's transaction, if it may be open."""
    tracker = session.transaction
    found = () if tracker is None else tracker.open_ones
    return next((one for one in found if one.number == number), None)


class _Refused(NamedTuple):
    """How often upstream has refused to abort a transaction, and when it may be asked again."""

    times: int
    again: float


class _Rounds:
    def __init__(self, sessions: Sessions, own: Callable[[int], bool]) -> None:
        self._sessions = sessions
        self._own = own
        #: Since when another process's is seen to be overdue.
        self._others: dict[Session, float] = {}
        #: Since when an answer is awaited.
        self._asked: dict[Session, float] = {}
        #: By session and txnNumber.
        self._refused: dict[tuple[Session, int], _Refused] = {}
        self._ready: deque[tuple[Place, Asker]] = deque()
        self._answered = trio.Event()

    async def find(self, rule: TransactionGuard) -> dict[Place, deque[Overdue]]:
        """All that is overdue and not asked about yet, by where and as whom to ask."""
        found: dict[Place, deque[Overdue]] = {}
        others: dict[Session, float] = {}
        for watched in self._sessions.store.transactions_to_watch():
            for some in in_slices(watched):
                now = trio.current_time()
                for session in some:
                    overdue = rule.overdue(session, now)
                    if overdue is None or now - self._asked.get(session, -_PATIENCE) < _PATIENCE:
                        continue
                    tracker = session.transaction
                    may_be = self._next(session, now)
                    if tracker is None or may_be is None:
                        continue
                    if not self._own(tracker.connection):
                        since = others[session] = self._others.get(session, now)
                        if now - since < _HELP_AFTER:
                            continue
                    place = may_be.upstream, session.owner.uid
                    which = overdue._replace(txn_number=may_be.number)
                    found.setdefault(place, deque()).append(which)
                await trio.lowlevel.checkpoint()
        self._others = others
        await self._forget_refusals()
        return found

    def _next(self, session: Session, now: float) -> Open | None:
        """The oldest that may be open of a late session's, but for what upstream has refused to
        abort: it may have begun nothing, and a later one be what is open."""
        tracker = session.transaction
        for one in () if tracker is None else reversed(tracker.open_ones):
            refused = self._refused.get((session, one.number))
            if refused is None or now >= refused.again:
                return one
        return None

    async def _forget_refusals(self) -> None:
        """Keep no refusal longer than its transaction may be open."""
        for some in in_slices(list(self._refused)):
            for session, number in some:
                if (
                    _may_be_open(session, number) is None
                    or self._sessions.store.get(session.key) is not session
                ):
                    self._refused.pop((session, number), None)
            await trio.lowlevel.checkpoint()

    async def end(
        self, waiting: dict[Place, deque[Overdue]], connections: Collection[Asker]
    ) -> None:
        """Ask until nothing waits, nobody is left to be asked or the time is over."""
        self._ready.clear()
        until = trio.current_time() + INTERVAL
        stand_ins: list[tuple[str, Asker]] = []
        for some in in_slices(list(connections)):
            for asker in some:
                place = asker.place
                if place is not None and place in waiting:
                    self._ready.append((place, asker))
                if place is not None and asker.acts_for_all:
                    stand_ins.append((place[0], asker))
            await trio.lowlevel.checkpoint()
        self._let_others_ask(stand_ins, waiting)
        under_way = 0
        while trio.current_time() < until:
            while self._ready:
                under_way += self._ask(*self._ready.popleft(), waiting)
                await trio.lowlevel.checkpoint()
            if not any(waiting.values()) or not under_way:
                break
            self._answered = trio.Event()
            with trio.move_on_at(until):
                await self._answered.wait()
        self._ready.clear()
        now = trio.current_time()
        self._asked = {one: at for one, at in self._asked.items() if now - at < _PATIENCE}

    def _let_others_ask(
        self, stand_ins: list[tuple[str, Asker]], waiting: dict[Place, deque[Overdue]]
    ) -> None:
        """Put what nobody can ask as its owner together for those who may ask it all the same."""
        served = {place for place, _ in self._ready}
        for upstream in {upstream for upstream, _ in stand_ins}:
            left: deque[Overdue] = deque()
            for place, queue in waiting.items():
                if place[0] == upstream and place not in served:
                    left.extend(queue)
                    queue.clear()
            waiting[upstream, EVERYBODY] = left
        self._ready += [((upstream, EVERYBODY), asker) for upstream, asker in stand_ins]

    def _ask(self, place: Place, asker: Asker, waiting: dict[Place, deque[Overdue]]) -> bool:
        """Give a connection its batch; False if it has none or is not idle any more."""
        # Of an answer that has come late, nothing may wait in this round.
        queue = waiting.get(place)
        upstream, uid = asker.place or ("", EVERYBODY)
        stands_in = place == (upstream, EVERYBODY) and asker.acts_for_all
        if not queue or not (stands_in or place == (upstream, uid)):
            return False
        batch = [queue.popleft() for _ in range(min(_BATCH, len(queue)))]
        questions = [abort_command(_transaction(one), uid) for one in batch]
        now = trio.current_time()
        for one in batch:
            self._asked[one.session] = now
        asker.ask_all(questions, partial(self._told, batch, place, asker, []))
        return True

    def _told(
        self,
        batch: list[Overdue],
        place: Place,
        asker: Asker,
        left: list[bytes],
        number: int,
        reply: Reply,
        now: float,
    ) -> None:
        overdue = batch[number]
        self._asked.pop(overdue.session, None)
        ok, code = reply.ok(), reply.integer(b"code")
        ended = ok or code in (*_GONE, _COMMITTED) or code in STEPPED_DOWN
        if ended:
            how = State.COMMITTED if code == _COMMITTED else State.ABORTED
            store = self._sessions.store
            left += kills_of(_transaction(overdue), place[0], store)
            store.settle_transaction(overdue.session, overdue.txn_number, now, how)
        decision = "aborted" if ok else "over" if ended else "failed"
        self._sessions.recorder.late(overdue, decision, None if ok else code, now)
        if not ended and not is_overload(reply):
            self._note_refusal(overdue, code, now)
        if number < len(batch) - 1:
            return
        if left:
            del left[_BATCH:]
            asker.ask_all(left, partial(self._killed, left, place, asker))
        else:
            self._go_on(place, asker)

    def _killed(
        self,
        left: list[bytes],
        place: Place,
        asker: Asker,
        number: int,
        reply: Reply,
        _now: float,
    ) -> None:
        """Upstream has said which cursors are no more."""
        close_killed(self._sessions.store, place[0], reply)
        if number == len(left) - 1:
            self._go_on(place, asker)

    def _go_on(self, place: Place, asker: Asker) -> None:
        """A connection can be asked again."""
        self._ready.append((place, asker))
        self._answered.set()

    def _note_refusal(self, overdue: Overdue, code: int | None, now: float) -> None:
        """Upstream would not abort it, and will probably not: it is asked a few times more."""
        which = overdue.session, overdue.txn_number
        before = self._refused.get(which)
        times = 1 if before is None else 1 + before.times
        again = now + _PAUSE * 2 ** (times - 1)
        if times >= _MOST_REFUSALS:
            again = inf
            self._sessions.recorder.gave_up(overdue, code, now)
        self._refused[which] = _Refused(times, again)
