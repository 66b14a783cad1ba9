"""Counts of logins that fail: by what failed, and by who claimed to be whom."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from proxy.counting import OTHER
from proxy.observe.labels import LOGINS, clean

if TYPE_CHECKING:
    from proxy.observe.families import Declared

#: Users with an application that are counted by name, the first that come: whoever cannot log in
#: chooses the names. All others are counted together.
MOST_CLAIMED: Final = 20


class Logins:
    """What somebody who is not let in leaves behind."""

    def __init__(self, declared: Declared) -> None:
        self._steps = declared.counter(
            "login_failures_total",
            "Steps of logins that upstream refused, or the proxy in its place.",
            "command",
            start=product(LOGINS),
        )
        self._claimed = declared.counter(
            "user_login_failures_total",
            "The same by who claimed to be whom: the first users and applications that came.",
            "user",
            "application",
            start=((OTHER, OTHER),),
        )

    def failed(self, command: str, claimed: str, application: str) -> None:
        """Somebody who ``claimed`` to be a user was not let in."""
        self._steps[(command if command in LOGINS else OTHER,)] += 1
        whose = clean(claimed), clean(application)
        if whose not in self._claimed and len(self._claimed) > MOST_CLAIMED:
            whose = OTHER, OTHER
        self._claimed[whose] += 1
