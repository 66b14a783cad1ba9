"""What only upstream knows: who has a role, and who else owns a session's UUID.

Both are asked with the caller's own rights; what those do not reach stays a gap, which the
audit log names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.errors import BSONError

from proxy.errors import WireError
from proxy.session import bsonout
from proxy.session.identity import user_digest
from proxy.session.patterns import Learnt
from proxy.session.plans import Ask
from proxy.session.steps import STEP, Steps, in_one_go
from proxy.texts import shortened
from proxy.wire.fields import DOCUMENT, Element, Fields, elements, walk

if TYPE_CHECKING:
    from proxy.session.caller import Caller

_WITH_ROLES: Final = "users with roles"
_OWNERS: Final = "owners of an lsid without uid"

#: Sessions that one listing may return; more stay a gap.
_MAX_LISTED: Final = 10_000

#: Bytes of an entry of a reply: somebody may have thousands of roles.
_LONGEST: Final = 262_144

#: Roles of all users together, and sessions of all listings, that are kept while one command is
#: decided on; more stay a gap.
_MAX_ROLES: Final = 500_000
_MAX_OWNERS: Final = 100_000

#: UUIDs that one command asks for.
_MAX_ASKED: Final = 1_000


def questions(roles: bool, ids: Collection[bytes], caller: Caller) -> Ask | None:
    """What to ask before patterns can be resolved: who has ``roles``, and who owns each of
    ``ids`` (UUIDs). None where nothing would help."""
    return in_one_go(asking(roles, ids, caller))


def asking(roles: bool, ids: Collection[bytes], caller: Caller) -> Steps[Ask | None]:
    """:func:`questions` in steps."""
    commands: list[bytes] = []
    subjects: list[str] = []
    if roles:
        commands.append(bson.encode({"usersInfo": {"forAllDBs": True}, "$db": "admin"}))
        subjects.append(_WITH_ROLES)
    if caller.may("listSessions"):
        rest = iter(ids)
        while some := list(islice(rest, _MAX_ASKED)):
            yield
            commands.append(_who_owns(some))
            subjects.append(_OWNERS)
    return Ask(tuple(commands), tuple(subjects)) if commands else None


def _who_owns(ids: list[bytes]) -> bytes:
    pipeline = [
        {"$listSessions": {"allUsers": True}},
        {"$match": {"_id.id": {"$in": [bson.Binary(one, 4) for one in ids]}}},
        {"$limit": _MAX_LISTED},
        {"$project": {"_id": 1}},
    ]
    command = {
        "aggregate": "system.sessions",
        "pipeline": pipeline,
        "cursor": {"batchSize": _MAX_LISTED + 1},
        "$db": "config",
    }
    return bson.encode(command)


def note_gaps(ids: Collection[bytes], caller: Caller, learnt: Learnt) -> None:
    """Add what could not even be asked."""
    if ids and not caller.may("listSessions"):
        learnt.gaps.append(f"{_OWNERS}: {caller.name} may not list sessions")


def learn(ask: Ask, replies: Sequence[bytes | None]) -> Learnt:
    """What the replies (documents, None where one never came) to ``ask`` tell."""
    learnt = Learnt()
    for subject, reply in zip(ask.subjects, replies, strict=True):
        in_one_go(learning(subject, reply, learnt))
    return learnt


def learning(subject: str, reply: bytes | None, learnt: Learnt) -> Steps[None]:
    """Add in steps what a reply (a document) to one of the questions tells."""
    try:
        if reply is None:
            raise ValueError("no reply")
        fields = walk(reply, 0, len(reply))
        outcome = _decoded(reply, fields, b"ok", b"errmsg")
        if outcome.get("ok") != 1:
            raise ValueError(str(outcome.get("errmsg", "no reply")))
        if subject == _WITH_ROLES:
            yield from _learn_roles(learnt, reply, fields)
        else:
            yield from _learn_owners(learnt, reply, fields)
    except (BSONError, WireError, ValueError, KeyError, TypeError, AttributeError) as error:
        gap = shortened(f"{subject}: {error}")
        if gap not in learnt.gaps:
            learnt.gaps.append(gap)


def _learn_roles(learnt: Learnt, reply: bytes, fields: Fields) -> Steps[None]:
    learnt_roles = 0
    for number, user in _documents(reply, _field(fields, "users")):
        if number % STEP == STEP - 1:
            yield
        roles = frozenset((str(r["role"]), str(r["db"])) for r in user["roles"])
        learnt_roles += 1 + len(roles)
        if learnt_roles > _MAX_ROLES:
            raise ValueError(f"more than {_MAX_ROLES} roles")
        learnt.roles[user_digest(str(user["user"]), str(user["db"]))] = roles


def _learn_owners(learnt: Learnt, reply: bytes, fields: Fields) -> Steps[None]:
    cursor = _field(fields, "cursor")
    inner = walk(reply, cursor.value, cursor.end)
    listed = 0
    for number, one in _documents(reply, _field(inner, "firstBatch")):
        if number % STEP == STEP - 1:
            yield
        if learnt.listed == _MAX_OWNERS:
            raise ValueError(f"more than {_MAX_OWNERS} sessions")
        owners = learnt.owners.setdefault(bytes(_raw(one["_id"]["id"])), set())
        owners.add(bytes(one["_id"]["uid"]))
        learnt.listed += 1
        listed += 1
    if listed >= _MAX_LISTED or _decoded(reply, inner, b"id")["id"]:
        raise ValueError(f"more than {_MAX_LISTED} sessions")


def _field(fields: Fields, name: str) -> Element:
    found = fields.get(name.encode())
    if found is None:
        raise KeyError(name)
    return found


def _decoded(reply: bytes, fields: Fields, *names: bytes) -> Mapping[str, Any]:
    """Some elements, those of them that are there and no longer than any is."""
    found = [
        reply[one.start : one.end]
        for name in names
        if (one := fields.get(name)) and one.end - one.start <= _LONGEST
    ]
    return bson.decode(bsonout.document(*found))


def _documents(reply: bytes, array: Element) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, (_, one) in enumerate(elements(reply, array.value, array.end)):
        if one.type != DOCUMENT:
            raise ValueError("an entry is no document")
        if one.end - one.value > _LONGEST:
            raise ValueError("an entry is too long")
        yield number, bson.decode(reply[one.value : one.end])


def _raw(value: object) -> bytes:
    return bytes(getattr(value, "bytes", value))  # type: ignore[call-overload,no-any-return]
