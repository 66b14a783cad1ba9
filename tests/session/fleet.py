"""Processes that tell each other of their sessions, all of them in this one."""

from __future__ import annotations

import pickle
from typing import Any

from proxy.session.hub import Hub
from proxy.session.replica import SharedStore
from proxy.session.telling import acts_of


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
            while told := acts_of(self.hub.news()) or self.hub.sometime():
                quiet = False
                for store in self.stores:
                    store.take_in(pickle.loads(pickle.dumps(told)))

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
