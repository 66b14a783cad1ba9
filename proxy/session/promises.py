"""Sessions that are about to be made: limits count them before upstream has confirmed them."""

from __future__ import annotations


class Promise:
    """So many sessions that one command will make for an owner's name and an application."""

    __slots__ = ("application", "left", "name")

    def __init__(self, name: str, application: str) -> None:
        self.name = name
        self.application = application
        #: How many of them are counted still; only :class:`Promises` changes it.
        self.left = 0


class Promises:
    """How many are promised in all, and to whom."""

    __slots__ = ("_applications", "_names", "total")

    def __init__(self) -> None:
        self.total = 0
        self._names: dict[str, int] = {}
        self._applications: dict[str, int] = {}

    def change(self, promise: Promise, by: int) -> None:
        """Count so many more (fewer, below 0) of a promise, which never sinks below none."""
        by = max(by, -promise.left)
        promise.left += by
        self.total += by
        _add(self._names, promise.name, by)
        _add(self._applications, promise.application, by)

    def of_name(self, name: str) -> int:
        """To the owner ``user@db``."""
        return self._names.get(name, 0)

    def of_application(self, application: str) -> int:
        """To ``application.name``."""
        return self._applications.get(application, 0)


def _add(numbers: dict[str, int], key: str, by: int) -> None:
    left = numbers.get(key, 0) + by
    if left:
        numbers[key] = left
    else:
        numbers.pop(key, None)
