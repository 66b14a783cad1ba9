"""What is counted by namespace: of those that are used most by their names, of others together.

An ordinary request costs one look-up, by the bytes of its names as they came. Which namespaces have
a name of their own is decided elsewhere (:mod:`proxy.observe.top_namespaces`), for all processes of
a proxy alike.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from proxy.counting import OTHER, Usage
from proxy.observe.labels import COMMANDS, clean
from proxy.wire.namespaces import namespace_of

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: Kinds of commands: like MongoDB's opcounters, but all that reads is a query.
KINDS_OF: Final = {
    **dict.fromkeys(
        ("find", "aggregate", "count", "distinct", "mapReduce", "mapreduce", "geoNear", ""),
        "query",
    ),
    "getMore": "getmore",
    "insert": "insert",
    **dict.fromkeys(("update", "findAndModify", "findandmodify", "bulkWrite"), "update"),
    "delete": "delete",
}

#: For each namespace that is named, so many that are not are told apart, to see which is used more;
#: and for each of both so many ways in which commands write it.
_RIVALS: Final = 4
_WAYS: Final = 40

#: Requests, errors and seconds.
Use = tuple[int, int, float]
#: Use by namespace and kind.
Uses = dict[str, dict[str, Use]]

_NONE: Final[Use] = (0, 0, 0.0)

#: Usages of what was forgotten that are kept, as requests in flight still refer to them.
_MOST_LEFT: Final = 2_000

#: A command's name, and those of its database and collection as strings of BSON.
_Way = tuple[str, bytes, bytes]


class Space:
    """One namespace. What it counts goes by its name only if it is ``named``."""

    __slots__ = ("name", "named", "told", "usages", "ways")

    def __init__(self, name: str) -> None:
        self.name = name
        self.named = False
        self.usages: dict[str, Usage] = {}
        self.ways: list[_Way] = []
        #: By kind, what was told of its use already.
        self.told: dict[str, Use] = {}

    def use(self) -> dict[str, Use]:
        """Its use by kind since the last call."""
        whole: dict[str, Use] = {}
        for command, usage in self.usages.items():
            kind = kind_of(command)
            count, errors, seconds = whole.get(kind, _NONE)
            whole[kind] = count + usage.requests, errors + usage.errors, seconds + usage.sum
        found: dict[str, Use] = {}
        for kind, (count, errors, seconds) in whole.items():
            before = self.told.get(kind, _NONE)
            if count > before[0] or errors > before[1] or seconds > before[2]:
                found[kind] = count - before[0], errors - before[1], seconds - before[2]
        self.told = whole
        return found


class Namespaces:
    """What one process counts of a cluster. ``most`` have names; ``bounds`` are of durations.

    Names are printable and short: two that are alike as far as is shown count as one.
    """

    def __init__(self, most: int, bounds: tuple[float, ...]) -> None:
        self._most = most
        self._bounds = bounds
        self._spaces: dict[str, Space] = {}
        self._found: dict[_Way, Usage] = {}
        #: What has no name, by command.
        self._others: dict[str, Usage] = {}
        #: Of what was forgotten, whose requests may have been in flight then.
        self._left: deque[tuple[str, Usage]] = deque(maxlen=_MOST_LEFT)
        self._named: set[str] = set()
        #: Whether a namespace that was met has a name at once.
        self.admit: Callable[[str], bool] = _no

    def usage(self, request: Request) -> Usage:
        """Where to count a request."""
        message, layout = request.message, request.layout
        # Of a length only the first byte is looked at: none that is longer was ever noted. Nor was
        # what stands there where no field says the database.
        at = request.aside + layout.database
        database = message[at : at + 4 + message[at]]
        at = layout.collection
        if at:
            at += request.body
            way = request.command, database, message[at : at + 4 + message[at]]
        else:
            way = request.command, database, b""
        try:
            return self._found[way]
        except KeyError:
            return self._usage(request, way)

    def _usage(self, request: Request, way: _Way) -> Usage:
        name = clean(namespace_of(request))
        command = request.command
        if command and command not in COMMANDS:
            command = OTHER
        space = self._space(name) if name else None
        if space is None:
            return _of(self._others, command, self._bounds)
        usage = _of(space.usages, command, self._bounds)
        said = request.aside and request.layout.database
        if said and len(space.ways) < _WAYS and all(map(_whole, way[1:])):
            space.ways.append(way)
            self._found[way] = usage
        return usage

    def _space(self, name: str) -> Space | None:
        space = self._spaces.get(name)
        if space is None and len(self._spaces) < self._most * (1 + _RIVALS):
            space = self._spaces[name] = Space(name)
            if name in self._named or self.admit(name):
                space.named = True
                self._named.add(name)
        return space

    # ------------------------------------------------------------------ who has a name

    def name(self, names: Collection[str]) -> None:
        """From now on these have names."""
        self._named = set(names)
        for space in self._spaces.values():
            if space.named != (space.name in self._named):
                # What was counted stays where it was shown: a count never falls.
                self._set_aside(space)
                space.named = not space.named

    def uses(self) -> Uses:
        """Use since the last call; those without a name that had little or none are forgotten."""
        for command, usage in self._left:
            if usage.requests or usage.sent:
                _of(self._others, command, self._bounds).take_over(usage)
        found: Uses = {}
        for space in self._spaces.values():
            use = space.use()
            if use:
                found[space.name] = use
        rivals = Counter({
            name: requests(found.get(name, {}))
            for name, space in self._spaces.items()
            if not space.named
        })  # fmt: skip
        # Half of the room is for others that may come.
        kept = {name for name, count in rivals.most_common(self._most * _RIVALS // 2) if count}
        for name in rivals.keys() - kept:
            self._forget(name)
        return found

    def _forget(self, name: str) -> None:
        space = self._spaces.pop(name)
        self._set_aside(space)
        for way in space.ways:
            del self._found[way]
        self._left += space.usages.items()

    def _set_aside(self, space: Space) -> None:
        for command, usage in space.usages.items():
            _of(self._others, command, self._bounds).take_over(usage)
        space.told.clear()

    # ------------------------------------------------------------------ what was counted

    def counted(self) -> dict[tuple[str, str], Usage]:
        """By namespace and kind, those without a name as :data:`~proxy.counting.OTHER`."""
        found: dict[tuple[str, str], Usage] = {}
        for name, command, usage in self._all():
            key = name, kind_of(command)
            if key not in found:
                found[key] = Usage(self._bounds)
            found[key].count_in(usage)
        return found

    def count_of_requests(self) -> int:
        """How many there were in all."""
        return sum(usage.requests for _, _, usage in self._all())

    def by_command(self) -> dict[str, Usage]:
        """All of it together by command."""
        found: dict[str, Usage] = {}
        for _, command, usage in self._all():
            _of(found, command, self._bounds).count_in(usage)
        return found

    def _all(self) -> Iterator[tuple[str, str, Usage]]:
        for space in self._spaces.values():
            name = space.name if space.named else OTHER
            for command, usage in space.usages.items():
                yield name, command, usage
        for command, usage in self._others.items():
            yield OTHER, command, usage
        for command, usage in self._left:
            if usage.requests or usage.sent:
                yield OTHER, command, usage


def kind_of(command: str) -> str:
    """What a command counts as."""
    return KINDS_OF.get(command, "command")


def _no(_name: str) -> bool:
    return False


def _of(usages: dict[str, Usage], command: str, bounds: tuple[float, ...]) -> Usage:
    usage = usages.get(command)
    if usage is None:
        usage = usages[command] = Usage(bounds)
    return usage


def _whole(name: bytes) -> bool:
    """Whether a string of BSON is as long as it says; or it is none at all."""
    return not name or int.from_bytes(name[:4], "little") == len(name) - 4


def requests(use: dict[str, Use]) -> int:
    """How many there were of all kinds."""
    return sum(one[0] for one in use.values())


def added(uses: Iterable[Uses]) -> Uses:
    """Several together."""
    whole: Uses = {}
    for one in uses:
        for name, by_kind in one.items():
            kinds = whole.setdefault(name, {})
            for kind, (count, errors, seconds) in by_kind.items():
                before = kinds.get(kind, (0, 0, 0.0))
                kinds[kind] = before[0] + count, before[1] + errors, before[2] + seconds
    return whole
