"""The store against a plain model, with time as one of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId, Ending, Operation, Selection
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from tests.session.sessions import uuid

TIMEOUT = 60
MAX_SESSIONS = 12

#: Two users each with two names' worth of digests, and few UUIDs, so that they collide.
UIDS = (b"a" * 32, b"b" * 32, b"c" * 32)
USERS = ("alice@app", "bob@app", "")
KEYS = [LogicalSessionId(uuid(n), uid) for n in range(6) for uid in UIDS]
APPLICATIONS = ("app1", "app2")
ORIGINS = (Origin("h1", "app1"), Origin("h2", "app1"), Origin("h3", "app2"))
UPSTREAMS = ("one:27017", "two:27017")

keys = st.sampled_from(KEYS)
upstreams = st.sampled_from(UPSTREAMS)
selections = st.one_of(
    st.just(Selection(everything=True)),
    st.builds(
        Selection,
        everything=st.just(False),
        uids=st.frozensets(st.sampled_from(UIDS), max_size=2),
        keys=st.frozensets(keys, max_size=4),
    ),
)


@dataclass
class Model:
    """What is known of one session, in the plainest form."""

    user: str
    origin: Origin
    first_use: int
    last_use: int
    ended: Ending | None = None
    operations: list[Operation] = field(default_factory=list)
    #: Those of which it depends whether there is such a session.
    first: list[Operation] = field(default_factory=list)
    cursors: dict[CursorId, str] = field(default_factory=dict)
    number: int = -1
    state: State = State.NONE
    upstream: str = ""
    unanswered: bool = False


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.store = SessionStore(TIMEOUT, MAX_SESSIONS)
        self.model: dict[LogicalSessionId, Model] = {}
        self.untracked = 0

    def chosen(self, within: Selection) -> list[LogicalSessionId]:
        return [
            key
            for key in self.model
            if within.everything or key.uid in within.uids or key in within.keys
        ]

    def used(self, key: LogicalSessionId, user: str, origin: Origin) -> Model | None:
        model = self.model.get(key)
        if model is None:
            if len(self.model) >= MAX_SESSIONS:
                self.untracked += 1
                return None
            model = self.model[key] = Model(user, origin, self.now, self.now)
        model.last_use = self.now
        model.ended = None
        return model

    @rule(seconds=st.integers(0, 90), budget=st.integers(1, 6))
    def time_passes(self, seconds: int, budget: int) -> None:
        self.now += seconds
        before = len(self.store)
        forgotten = 0
        for _ in range(1000):
            swept = self.store.expire(self.now, budget)
            assert swept.forgotten <= budget
            forgotten += swept.forgotten
            if not swept.more:
                break
        for key, model in list(self.model.items()):
            if model.last_use + TIMEOUT > self.now:
                continue
            if model.operations:
                model.last_use = self.now
            else:
                del self.model[key]
        assert forgotten == before - len(self.model)

    @rule(key=keys, user=st.sampled_from(USERS), origin=st.sampled_from(ORIGINS))
    def use(self, key: LogicalSessionId, user: str, origin: Origin) -> None:
        session = self.store.use(key, self.now, user, origin)
        model = self.used(key, user, origin)
        assert (session is None) == (model is None)
        if model is not None:
            model.first.clear()

    @rule(
        some=st.lists(keys, max_size=6, unique=True),
        user=st.sampled_from(USERS),
        origin=st.sampled_from(ORIGINS),
    )
    def use_all(self, some: list[LogicalSessionId], user: str, origin: Origin) -> None:
        self.store.use_all(some, self.now, user, origin)
        for key in some:
            model = self.used(key, user, origin)
            if model is not None:
                model.first.clear()

    @rule(key=keys, user=st.sampled_from(USERS), upstream=upstreams)
    def start_operation(self, key: LogicalSessionId, user: str, upstream: str) -> None:
        new = key not in self.model
        operation = self.store.operation_started(key, self.now, user=user, upstream=upstream)
        model = self.used(key, user, Origin())
        assert (operation is None) == (model is None)
        if operation is not None and model is not None:
            if new or model.first:
                model.first.append(operation)
            assert operation.vivified == (operation in model.first)
            model.operations.append(operation)

    @precondition(lambda self: any(model.operations for model in self.model.values()))
    @rule(data=st.data(), refused=st.booleans())
    def finish_operation(self, data: st.DataObject, refused: bool) -> None:
        key = data.draw(st.sampled_from([k for k, m in self.model.items() if m.operations]))
        model = self.model[key]
        operation = data.draw(st.sampled_from(model.operations))
        self.store.operation_finished(operation, self.now, refused)
        self.store.operation_finished(operation, self.now, refused)
        model.operations.remove(operation)
        idle = not model.operations and not model.cursors and model.number < 0
        if not refused:
            model.first.clear()
            model.last_use = self.now
            if model.ended is Ending.ENDED:
                # It may have come behind the end.
                model.ended = None
        elif operation in model.first:
            model.first.remove(operation)
            if idle:
                del self.model[key]

    @precondition(lambda self: self.model)
    @rule(data=st.data(), upstream=upstreams, number=st.integers(1, 5))
    def open_cursor(self, data: st.DataObject, upstream: str, number: int) -> None:
        key = data.draw(st.sampled_from(list(self.model)))
        session = self.store.get(key)
        assert session is not None
        cursor = CursorId(upstream, number)
        self.store.cursor_opened(cursor, session, "db.c", self.now)
        for model in self.model.values():
            model.cursors.pop(cursor, None)
        self.model[key].cursors[cursor] = "db.c"

    @rule(upstream=upstreams, number=st.integers(1, 5), close=st.booleans())
    def use_or_close_cursor(self, upstream: str, number: int, close: bool) -> None:
        cursor = CursorId(upstream, number)
        owners = [key for key, model in self.model.items() if cursor in model.cursors]
        found = self.store.cursor_session(cursor)
        assert [found.key] == owners if found is not None else not owners
        if close:
            self.store.cursor_closed(cursor)
            for key in owners:
                del self.model[key].cursors[cursor]
        else:
            used = self.store.cursor_used(cursor, self.now)
            assert used is found
            for key in owners:
                self.model[key].last_use = self.now
                self.model[key].ended = None

    @precondition(lambda self: self.model)
    @rule(
        data=st.data(),
        number=st.integers(1, 4),
        upstream=upstreams,
        step=st.sampled_from([Step.START, Step.COMMIT, Step.WRITE]),
    )
    def transaction_succeeds(
        self, data: st.DataObject, number: int, upstream: str, step: Step
    ) -> None:
        key = data.draw(st.sampled_from(list(self.model)))
        session = self.store.get(key)
        assert session is not None
        info = OperationSessionInfo(txn_number=number)
        self.store.transaction_step(session, step, Outcome.OK, info, self.now, upstream)
        model = self.model[key]
        ours = step is Step.WRITE and number == model.number and model.state is not State.NONE
        if number < model.number or ours:
            return
        model.number = number
        model.state = {
            Step.START: State.IN_PROGRESS,
            Step.COMMIT: State.COMMITTED,
            Step.WRITE: State.NONE,
        }[step]
        if step is Step.START:
            model.upstream = upstream

    @rule(chosen=st.lists(keys, max_size=4))
    def end(self, chosen: list[LogicalSessionId]) -> None:
        self.store.end(chosen, self.now)
        for key in chosen:
            if key in self.model:
                self.model[key].ended = Ending.ENDED

    @rule(within=selections, upstream=st.none() | upstreams)
    def kill(self, within: Selection, upstream: str | None) -> None:
        self.store.kill(within, self.now, upstream)
        for key in self.chosen(within):
            model = self.model[key]
            model.ended = Ending.KILLED
            model.cursors = {
                cursor: namespace
                for cursor, namespace in model.cursors.items()
                if upstream not in (None, cursor.upstream)
            }
            if model.state is State.IN_PROGRESS and upstream in (None, model.upstream):
                model.state = State.ABORTED

    @invariant()
    def sessions_agree(self) -> None:
        assert len(self.store) == len(self.model)
        assert self.store.untracked == self.untracked
        for key in KEYS:
            session = self.store.get(key)
            model = self.model.get(key)
            assert (session is None) == (model is None)
            if session is None or model is None:
                continue
            assert session.key == key
            assert (session.owner.name, session.origin) == (model.user, model.origin)
            assert (session.first_use, session.last_use) == (model.first_use, model.last_use)
            assert (session.txn_number, session.state) == (model.number, model.state)
            ending = self.store.ending(session)
            assert (ending[0] if ending else None) is model.ended
            activity = session.activity
            assert list(activity.operations if activity else ()) == model.operations
            assert dict(activity.cursors if activity else {}) == model.cursors

    @rule(chosen=keys)
    def end_late(self, chosen: LogicalSessionId) -> None:
        """What was used since upstream was asked to end it has not ended."""
        self.store.end([chosen], self.now - 1)
        model = self.model.get(chosen)
        if model is not None and model.last_use < self.now:
            model.ended = Ending.ENDED

    @rule(key=keys)
    def use_without_an_answer(self, key: LogicalSessionId) -> None:
        session = self.store.use(key, self.now, "alice@app", ORIGINS[0])
        model = self.used(key, "alice@app", ORIGINS[0])
        if session is not None and model is not None:
            self.store.unanswered(session)
            model.first.clear()
            model.unanswered = True

    @invariant()
    def places_agree(self) -> None:
        by_user: dict[str, int] = {}
        by_application: dict[str, int] = {}
        for key, model in self.model.items():
            over = model.ended is not None and not (
                model.operations or model.cursors or model.state is State.IN_PROGRESS
            )
            if not over or model.unanswered:
                by_user[model.user] = by_user.get(model.user, 0) + 1
                application = model.origin.application
                by_application[application] = by_application.get(application, 0) + 1
                assert self.store.has_place(key)
            else:
                assert not self.store.has_place(key)
        assert self.store.live() == sum(by_user.values())
        for user in USERS:
            assert self.store.owner_live(user) == by_user.get(user, 0)
        for application in (*APPLICATIONS, ""):
            live = self.store.application_live(application)
            assert live == by_application.get(application, 0)

    @invariant()
    def counts_agree(self) -> None:
        by_user: dict[str, int] = {}
        by_application: dict[str, int] = {}
        opened: dict[str, int] = {}
        for model in self.model.values():
            by_user[model.user] = by_user.get(model.user, 0) + 1
            application = model.origin.application
            by_application[application] = by_application.get(application, 0) + 1
            if model.state is State.IN_PROGRESS:
                opened[model.user] = opened.get(model.user, 0) + 1
        assert {user: self.store.owner_sessions(user) for user in USERS} == {
            user: by_user.get(user, 0) for user in USERS
        }
        assert {name: self.store.application_sessions(name) for name in APPLICATIONS} == {
            name: by_application.get(name, 0) for name in APPLICATIONS
        }
        assert {owner.name for owner in self.store.owners()} == set(by_user)
        assert self.store.open_transactions == sum(opened.values())
        assert {user: self.store.owner_transactions(user) for user in USERS} == {
            user: opened.get(user, 0) for user in USERS
        }
        in_progress = {
            session.key for some in self.store.open_transaction_sessions() for session in some
        }
        assert in_progress == {
            key for key, model in self.model.items() if model.state is State.IN_PROGRESS
        }

    @invariant()
    def indexes_agree(self) -> None:
        for user in USERS:
            assert set(self.store.made_by(user)) == {
                key for key, model in self.model.items() if model.user == user
            }
        for number in range(6):
            assert {s.key for s in self.store.with_id(uuid(number))} == {
                key for key in self.model if key.id == uuid(number)
            }
        assert {s.key for s in self.store.page().sessions} == set(self.model)

    @rule(budget=st.integers(1, 6))
    def look_for_the_longest_idle(self, budget: int) -> None:
        idle = [model.last_use for model in self.model.values() if not model.operations]
        *slices, found = self.store.longest_idle(budget)
        assert slices == [None] * len(slices)
        assert (None if found is None else found.last_use) == min(idle, default=None)

    @invariant()
    def lives_and_transactions_add_up(self) -> None:
        counts = self.store.counts
        assert counts.started - counts.expired - counts.refused == len(self.store)
        ended = sum(counts.transactions.values())
        assert counts.transactions_started - ended == self.store.open_transactions
        assert ended == sum(sum(one.counts) for one in counts.durations.values())
        opened = self.store._cursors._opened
        assert list(opened) == list(self.store._cursors._sessions)
        assert self.store.oldest_cursor() == min(opened.values(), default=None)

    @invariant()
    def what_limits_count_is_what_may_be_open(self) -> None:
        for owner in self.store.owners():
            counting = {
                session
                for session in owner.sessions
                if session.transaction is not None and session.transaction.counts
            }
            assert owner.counted_transactions == len(counting)
            assert counting <= owner.active.keys()

    @rule(within=selections)
    def selections_agree(self, within: Selection) -> None:
        chosen = self.chosen(within)
        assert self.store.count(within) == len(chosen)
        active = [session.key for some in self.store.active(within) for session in some]
        assert len(active) == len(set(active))
        assert set(active) == {
            key
            for key in chosen
            if (model := self.model[key]).operations
            or model.cursors
            or model.state is State.IN_PROGRESS
        }


TestStoreModel = StoreMachine.TestCase
TestStoreModel.settings = settings(max_examples=250, stateful_step_count=50)
