"""Which sessions a request to kill means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy.admin.kill import Target
from proxy.admin.naming import (
    ENOUGH,
    SessionName,
    begun,
    only_one,
    session_name,
    sessions_named,
)
from proxy.admin.query import QueryError, Test, tests
from proxy.listing import session_batches
from proxy.listing.slices import in_slices
from proxy.texts import shown

if TYPE_CHECKING:
    from proxy.listing import Listing
    from proxy.session.records import Session
    from proxy.session.store import SessionStore

#: Shared by the many that have nothing open.
_NOWHERE: Final[frozenset[str]] = frozenset()

#: Sessions that are looked at in one go; each may have a thousand cursors.
_LOOKED_AT: Final = 100

_MOST_PATTERNS: Final = 100
_MOST_SESSIONS: Final = 10_000

#: Of these, and of a text in one, what the audit log has.
_MOST_PATTERNS_SAID: Final = 10
_MOST_SAID: Final = 100


@dataclass(frozen=True, slots=True)
class Pattern:
    """Tests that a session has to pass, all of them. ``begun`` are the first digits of an id, if
    one is named by no more: that has to be the only one. ``named`` is the id, or as much of it as
    was given, where nothing else is asked for."""

    tests: list[Test[Session]]
    begun: str
    named: str = ""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a request to kill says: alternatives, and sessions by id."""

    dry_run: bool
    patterns: tuple[Pattern, ...]
    sessions: tuple[SessionName, ...]
    #: For the audit log: the patterns as given, and how many sessions are named.
    said: dict[str, Any]


def object_in(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises:
        QueryError: it is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise QueryError("the body is not JSON") from None
    if not isinstance(document, dict):
        raise QueryError("the body has to be an object")
    return document


def read_kill(body: bytes, listing: Listing[Session], now: float) -> Meant:
    """The request in ``body``: JSON with ``patterns``, ``sessions`` and ``dry_run``.

    A pattern has the listing's filters as fields, all of which must match; patterns are
    alternatives. In one, ``session`` may be the first 8 digits of an id or more, too. A session is
    its UUID, the same, or ``{"session": UUID, "uid": hex}``. It is a preview unless ``dry_run`` is
    false.

    Raises:
        QueryError: something in it is wrong, or it names nothing.
    """
    document = object_in(body)
    unknown = document.keys() - {"patterns", "sessions", "dry_run"}
    if unknown:
        raise QueryError(f"{min(unknown)}: no such field; there are patterns, sessions, dry_run")
    dry_run = is_preview(document)
    patterns = [_pattern(one, listing, now) for one in _list(document, "patterns", _MOST_PATTERNS)]
    sessions = [_session(one) for one in _list(document, "sessions", _MOST_SESSIONS)]
    if not patterns and not sessions:
        raise QueryError("name sessions or patterns")
    said: dict[str, Any] = {}
    if patterns:
        said["patterns"] = [
            {name: shown(str(value), _MOST_SAID) for name, value in one.items()}
            for one in document["patterns"][:_MOST_PATTERNS_SAID]
        ]
    if sessions:
        said["sessions"] = len(sessions)
    return Meant(dry_run, tuple(patterns), tuple(dict.fromkeys(sessions)), said)


def is_preview(document: Mapping[str, Any]) -> bool:
    """Whether what a request says is only to be shown.

    Raises:
        QueryError: that is no yes or no.
    """
    dry_run = document.get("dry_run", True)
    if not isinstance(dry_run, bool):
        raise QueryError("dry_run: has to be true or false")
    return dry_run


def _list(document: Mapping[str, Any], name: str, most: int) -> list[Any]:
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > most:
        raise QueryError(f"{name}: has to be a list of at most {most}")
    return value


def _pattern(pattern: object, listing: Listing[Session], now: float) -> Pattern:
    if not isinstance(pattern, dict):
        raise QueryError("patterns: each has to be an object")
    if not pattern:
        raise QueryError('patterns: {} would mean everybody; if so, say {"owner": "*"}')
    fields: dict[str, str] = {}
    for name, value in pattern.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise QueryError(f"patterns: {name} has to be a text or a number")
        fields[name] = str(value)
    try:
        first = begun(fields.get("session", ""))
    except ValueError as error:
        raise QueryError(f"session: {error}") from None
    only = fields["session"] if fields.keys() == {"session"} else ""
    if first:
        fields["session"] = f"{first}*"
    return Pattern(tests(listing, fields, now), first, "" if "*" in only else only)


def _session(entry: object) -> SessionName:
    uid: object = None
    if isinstance(entry, dict) and not entry.keys() - {"session", "uid"}:
        uid, entry = entry.get("uid"), entry.get("session")
    try:
        return session_name(entry, uid)
    except ValueError:
        known = f'its first {ENOUGH} digits or more, or {{"session": UUID, "uid": 64 digits}}'
        raise QueryError(f"sessions: each has to be a UUID, {known}") from None


async def resolve(meant: Meant, store: SessionStore) -> tuple[list[Target], list[str]]:
    """The sessions that are meant, and the ids of those that the store does not know.

    Raises:
        QueryError: the beginning of an id is that of several.
    """
    found, missing = await sessions_named(meant.sessions, store)
    unknown = [str(name) for name in missing]
    named = {one.key: _target(one) for one in found}
    targets = list(named.values())
    if meant.patterns:
        of_beginning: dict[str, list[Session]] = {one.begun: [] for one in meant.patterns}
        absent = {one.named: None for one in meant.patterns if one.named}
        for batch in session_batches(store):
            for some in in_slices(batch, _LOOKED_AT):
                for session in some:
                    met = [p for p in meant.patterns if all(test(session) for test in p.tests)]
                    for pattern in met:
                        absent.pop(pattern.named, None)
                        if pattern.begun:
                            of_beginning[pattern.begun].append(session)
                    if met and session.key not in named:
                        targets.append(_target(session))
                await trio.lowlevel.checkpoint()
        for digits, those in of_beginning.items():
            only_one(digits, those)
        unknown += absent
    return targets, unknown


def _target(session: Session) -> Target:
    return Target(session.key, session.owner.name, _open_at(session))


def _open_at(session: Session) -> frozenset[str]:
    """The upstream addresses where something of a session is open."""
    tracker, activity = session.transaction, session.activity
    if activity is None and tracker is None:
        return _NOWHERE
    places: set[str] = set()
    if activity is not None:
        places.update(cursor.upstream for cursor in activity.cursors)
        places.update(operation.upstream for operation in activity.operations)
    for one in session.with_children:
        if one.transaction is not None:
            places.update(may_be.upstream for may_be in one.transaction.open_ones)
    return frozenset(places)
