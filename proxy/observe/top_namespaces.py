"""Which namespaces are counted by their names: those that are used most, and few new ones a day.

Every name that a metric has had stays with whoever keeps metrics. So a place is given to another
namespace only if that is used far more, and to so many and no more in a day.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from proxy.observe.namespaces import Uses, added, requests

#: Seconds between two looks at what was used.
ROUND: Final = 10.0

#: What is shown as of lately is of so many rounds: a minute.
_LATELY: Final = 6

#: Use of ten minutes ago counts half.
_FADES: Final = 0.5 ** (ROUND / 600.0)

#: A place is given away for so many times as much use.
_MORE: Final = 2.0

#: In a day as many places are given away as there are, and as many at once.
_PER_ROUND: Final = ROUND / 86_400.0


class TopNamespaces:
    """Chooses at most ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most
        #: Use of those that have a name, and of others, fading.
        self._named: dict[str, float] = {}
        self._rivals: dict[str, float] = {}
        self._changes = float(most)
        self._lately: deque[Uses] = deque(maxlen=_LATELY)

    @property
    def names(self) -> list[str]:
        """Those that have been chosen."""
        return list(self._named)

    def admit(self, names: Iterable[str]) -> bool:
        """Choose these as long as there is room; whether there was."""
        before = len(self._named)
        for name in names:
            if len(self._named) < self._most:
                self._named.setdefault(name, self._rivals.pop(name, 0.0))
        return len(self._named) > before

    def look(self, uses: Uses) -> bool:
        """See what was used since the last look; whether others have names from now on."""
        self._lately.append(uses)
        self._changes = min(self._most, self._changes + self._most * _PER_ROUND)
        for known in (self._named, self._rivals):
            for name in known:
                known[name] *= _FADES
        for name, use in uses.items():
            known = self._named if name in self._named else self._rivals
            known[name] = known.get(name, 0.0) + requests(use)
        ranked = sorted(self._rivals, key=self._rivals.__getitem__, reverse=True)
        changed = False
        for name in ranked:
            if self.admit((name,)):
                changed = True
            elif not self._displaces(name):
                break
            else:
                changed = True
        self._rivals = {
            name: self._rivals[name] for name in ranked[: 4 * self._most] if name in self._rivals
        }
        return changed

    def _displaces(self, name: str) -> bool:
        least = min(self._named, key=self._named.__getitem__, default=None)
        if least is None or self._changes < 1.0:
            return False
        if self._rivals[name] <= _MORE * self._named[least]:
            return False
        self._changes -= 1.0
        self._named[name], self._rivals[least] = self._rivals.pop(name), self._named.pop(least)
        return True

    def lately(self) -> tuple[Uses, float]:
        """Use of the last minute, or of less, and of how many seconds that is."""
        return added(self._lately), len(self._lately) * ROUND
