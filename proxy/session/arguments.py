"""The lists that session commands have for an argument, as the server's parsers read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from proxy.errors import CommandError
from proxy.session import idl, refusals
from proxy.session.caller import Caller  # noqa: TC001 - fields', see test_compiled
from proxy.session.ids import LogicalSessionId, OwnedKeys
from proxy.session.patterns import Pattern, reading_pattern
from proxy.session.plainlists import reading_plain_lsids
from proxy.session.steps import MANY, STEP, Steps
from proxy.wire.fields import ARRAY, DOCUMENT, Element
from proxy.wire.messages import Request  # noqa: TC001 - fields', see test_compiled

#: From which version on (7.0, by maxWireVersion) a list has to be an array, and from which on (8.0)
#: null for one is none.
_ARRAYS_FROM: Final = 21
_NULL_IS_NONE_FROM: Final = 25


class Argument(NamedTuple):
    """A session command's argument: the first field of its document."""

    request: Request
    caller: Caller
    element: Element


class Keys(NamedTuple):
    """The sessions that a list of lsids means to the caller, each once and in order.

    ``children`` are what it has of child sessions: their parents, and their own fields.
    """

    keys: OwnedKeys | dict[LogicalSessionId, None]
    children: list[tuple[LogicalSessionId, bytes]]


def _kill_list(argument: Argument, path: str) -> Iterator[tuple[int, Element]]:
    """The elements of a kill command's list; ``null`` and ``{}`` would mean everybody."""
    element = argument.element
    if element.type == DOCUMENT and element.end - element.value == 5:
        raise refusals.wrong_type(path, "object", "array")
    return _documents(argument, path, refuse_absent=True)


def _check_list(argument: Argument, path: str) -> None:
    """What later versions say where a list is none. Earlier ones take documents for lists."""
    caller, kind = argument.caller, argument.element.type
    if kind == ARRAY or not caller.faces(_ARRAYS_FROM):
        return
    if not idl.is_absent(argument.element):
        raise refusals.wrong_type(path, idl.type_name(kind), "array")
    if caller.faces(_NULL_IS_NONE_FROM):
        raise refusals.missing_field(path)


def _documents(
    argument: Argument, path: str, *, refuse_absent: bool = False
) -> Iterator[tuple[int, Element]]:
    """The documents of a list; what is absent comes too, unless it is refused."""
    _check_list(argument, path)
    request, _, element = argument
    for position, entry in idl.entries(request.message, element, request.command, path):
        if entry.type != DOCUMENT and (refuse_absent or not idl.is_absent(entry)):
            kind = idl.type_name(entry.type)
            raise refusals.wrong_type(f"{path}.{position}", kind, "object")
        yield position, entry


def reading_keys(
    argument: Argument, path: str, *actions: str, refuse_absent: bool = False
) -> Steps[Keys]:
    """The sessions of a list of lsids.

    ``actions`` allow the uids of others, besides ``impersonate``. With ``refuse_absent`` the list
    is a kill's.

    Raises:
        CommandError: as the server does.
    """
    data, caller = argument.request.message, argument.caller
    plain = yield from reading_plain_lsids(data, argument.element)
    if plain:
        own = caller.own_digest()
        if len(plain) <= MANY:
            return Keys(OwnedKeys(plain, own), [])
        ids: dict[bytes, None] = {}
        for start in range(0, len(plain), 10 * MANY):
            ids.update(dict.fromkeys(plain[start : start + 10 * MANY]))
            yield
        return Keys(OwnedKeys(ids, own), [])
    entries = _kill_list(argument, path) if refuse_absent else _documents(argument, path)
    # All of it is parsed before anything in it is judged, as on the server.
    given: list[idl.Lsid] = []
    for position, entry in entries:
        if position % STEP == STEP - 1:
            yield
        if entry.type == DOCUMENT:
            given.append(idl.any_lsid(data, entry, path, children=caller.knows_children))
    found = Keys({}, [])
    uids: dict[bytes | None, bytes] = {}
    for number, one in enumerate(given):
        if number % MANY == MANY - 1:
            yield
        if one.is_stray:
            raise refusals.LSID_NUMBER_ALONE.again()
        uid = uids.get(one.uid)
        if uid is None:
            try:
                uid = uids[one.uid] = caller.session_uid(one.uid, *actions)
            except CommandError as error:
                raise (error.of((one.id, one.uid)) if one.uid else error) from None
        key = LogicalSessionId(one.id, uid)
        if one.txn_uuid is not None:
            found.children.append((key, one.child))
        elif isinstance(found.keys, dict):
            found.keys[key] = None
    return found


def reading_users(
    argument: Argument, may: Callable[[tuple[str, str]], bool] = lambda _: True
) -> Steps[dict[tuple[str, str], None]]:
    """The users of a list, each once and in order.

    Raises:
        CommandError: as the server does, or 13 for the first who ``may`` not be named.
    """
    path = "KillAllSessionsCmd.killAllSessions"
    data = argument.request.message
    users: dict[tuple[str, str], None] = {}
    for position, entry in _kill_list(argument, path):
        if position % STEP == STEP - 1:
            yield
        names = idl.name_pair(data, entry, path, "user")
        if names not in users:
            if not may(names):
                raise refusals.unauthorized("not authorized")
            users[names] = None
    return users


def patterns_of(argument: Argument) -> Iterator[Pattern | None]:
    """The patterns, and None where others may have their turn.

    Raises:
        CommandError: as the server does.
    """
    path = "KillAllSessionsByPatternCmd.killAllSessionsByPattern"
    data, children = argument.request.message, argument.caller.knows_children
    for position, entry in _kill_list(argument, path):
        if position % STEP == STEP - 1:
            yield None
        steps = reading_pattern(data, entry, f"{path}.{position}", children=children)
        found: Pattern | None = None
        while found is None:
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
            else:
                yield None
        yield found
