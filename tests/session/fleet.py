"""Processes that tell each other of their sessions, all of them in this one."""

from __future__ import annotations

import pickle
from typing import Any

from proxy.session.hub import Hub
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.replica import SharedStore
from proxy.session.store import SessionStore
from proxy.session.telling import Told, acts_of
from proxy.session.transactions import Outcome, Step
from tests.session.sessions import ALICE, BOB, uuid

KEYS = [LogicalSessionId(uuid(number), uid) for number in range(4) for uid in (ALICE, BOB)]
NAMES = {ALICE: "alice@app", BOB: "bob@app"}
UPSTREAM = "one:27017"
SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


def begin(store: SessionStore, key: LogicalSessionId, number: int, now: float) -> None:
    step(store, key, Step.START, Outcome.OK, number, now)


def step(
    store: SessionStore,
    key: LogicalSessionId,
    what: Step,
    outcome: Outcome,
    number: int,
    now: float,
) -> None:
    session = store.use(key, now, NAMES[key.uid], SHOP)
    assert session is not None
    info = OperationSessionInfo(key, number, False, what is Step.START)
    statements = [range(1)] if what is Step.WRITE else None
    store.transaction_step(session, what, outcome, info, now, UPSTREAM, 7, statements)


class Fleet:
    """Processes with a hub in their midst. What one says arrives as other processes get it."""

    def __init__(self, number: int = 3, **limits: int) -> None:
        self.hub = Hub(**limits)
        self.stores = [SharedStore(**limits) for _ in range(number)]
        self.passed = 0

    def talk(self, most: int = 500) -> None:
        """Until nobody has any news."""
        quiet = False
        while not quiet:
            quiet = True
            for number, store in enumerate(self.stores):
                while told := store.news(most):
                    quiet = False
                    self.tell(number, told)
            while told := self.acts() or self.hub.sometime():
                quiet = False
                for store in self.stores:
                    store.take_in(pickle.loads(pickle.dumps(told)))

    def acts(self) -> Told:
        """What the hub has done itself."""
        told = self.hub.news()
        return acts_of(told)._replace(closed=told.closed)

    def tell(self, number: int, told: Any) -> None:
        passed = self.hub.heard(pickle.loads(pickle.dumps(told)), number)
        if not passed:
            return
        self.passed += len(passed.records)
        for other, store in enumerate(self.stores):
            heard = passed if other != number else acts_of(passed)
            store.take_in(pickle.loads(pickle.dumps(heard)))

    def joins(self) -> SharedStore:
        """Another process begins."""
        store = SharedStore()
        for told in self.hub.all_news(2):
            store.take_in(pickle.loads(pickle.dumps(told)))
        self.stores.append(store)
        return store

    def gone(self, process: int, now: float = 1000.0) -> int:
        """A process is no more; how many operations it had in flight."""
        return self.hub.gone(process, now)
