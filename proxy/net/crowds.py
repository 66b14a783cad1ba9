"""How many connections each client address and each user has in use, over several processes too."""

from __future__ import annotations

from typing import Final, TypeVar

#: What connections are counted by, ``"address"`` or ``"user"``, and which one.
Group = tuple[str, str]

_Key = TypeVar("_Key")

#: Groups that are told of at a time.
_TOLD_AT_ONCE: Final = 500


class Crowds:
    """The count of each group. ``shared`` is with others, which have to be told of it."""

    __slots__ = ("_changed", "_elsewhere", "_here", "_shared")

    def __init__(self, *, shared: bool = False) -> None:
        self._here: dict[Group, int] = {}
        self._elsewhere: dict[Group, int] = {}
        self._changed: dict[Group, None] = {}
        self._shared = shared

    def count(self, group: Group) -> int:
        """How many there are here, and elsewhere by what others told last."""
        return self._here.get(group, 0) + self._elsewhere.get(group, 0)

    def join(self, group: Group) -> None:
        """One more."""
        self._set(group, self._here.get(group, 0) + 1)

    def leave(self, group: Group) -> None:
        """One less."""
        self._set(group, self._here[group] - 1)

    def _set(self, group: Group, count: int) -> None:
        _put(self._here, group, count)
        if self._shared:
            self._changed[group] = None

    def news(self) -> dict[Group, int]:
        """The counts here of some groups that have changed since the last call; empty for none."""
        told = list(self._changed)[:_TOLD_AT_ONCE]
        for group in told:
            del self._changed[group]
        return {group: self._here.get(group, 0) for group in told}

    def take_in(self, elsewhere: dict[Group, int]) -> None:
        """Others have so many by now."""
        for group, count in elsewhere.items():
            _put(self._elsewhere, group, count)


class Gathered:
    """The counts of several processes, by what each has told, for the others."""

    def __init__(self) -> None:
        self._by_group: dict[Group, dict[int, int]] = {}

    def heard(self, slot: int, told: dict[Group, int]) -> None:
        """The process in this place has so many."""
        for group, count in told.items():
            slots = self._by_group.setdefault(group, {})
            _put(slots, slot, count)
            if not slots:
                del self._by_group[group]

    def gone(self, slot: int) -> list[Group]:
        """The process in this place has none any more; which it had."""
        had = [group for group, slots in self._by_group.items() if slot in slots]
        self.heard(slot, dict.fromkeys(had, 0))
        return had

    def groups(self) -> list[Group]:
        """All that are known."""
        return list(self._by_group)

    def without(self, slot: int, groups: list[Group]) -> list[dict[Group, int]]:
        """What all but the one in this place have, some groups at a time."""
        return [
            {
                group: sum(self._by_group.get(group, {}).values())
                - self._by_group.get(group, {}).get(slot, 0)
                for group in groups[start : start + _TOLD_AT_ONCE]
            }
            for start in range(0, len(groups), _TOLD_AT_ONCE)
        ]


def _put(counts: dict[_Key, int], key: _Key, count: int) -> None:
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)
