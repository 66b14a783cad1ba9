"""What only upstream knows: who has a role, and who else owns a session's UUID.

Both are asked with the caller's own rights; what those do not reach stays a gap, which the
audit log names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import bson
from bson.errors import BSONError

from proxy.session.identity import user_digest
from proxy.session.patterns import Learnt, Pattern, ids_of_any_owner, needs_roles
from proxy.session.plans import Ask

if TYPE_CHECKING:
    from proxy.session.caller import Caller

_WITH_ROLES: Final = "users with roles"
_OWNERS: Final = "owners of an lsid without uid"

#: Sessions that one listing may return; more stay a gap.
_MAX_LISTED: Final = 10_000


def questions(patterns: Sequence[Pattern], caller: Caller) -> Ask | None:
    """What to ask before ``patterns`` can be resolved; None where nothing would help."""
    commands: list[bytes] = []
    subjects: list[str] = []
    if needs_roles(patterns):
        commands.append(bson.encode({"usersInfo": {"forAllDBs": True}, "$db": "admin"}))
        subjects.append(_WITH_ROLES)
    ids = ids_of_any_owner(patterns)
    if ids and caller.may("listSessions"):
        wanted = [bson.Binary(one, 4) for one in dict.fromkeys(ids)]
        pipeline = [
            {"$listSessions": {"allUsers": True}},
            {"$match": {"_id.id": {"$in": wanted}}},
            {"$limit": _MAX_LISTED},
            {"$project": {"_id": 1}},
        ]
        command = {
            "aggregate": "system.sessions",
            "pipeline": pipeline,
            "cursor": {"batchSize": _MAX_LISTED + 1},
            "$db": "config",
        }
        commands.append(bson.encode(command))
        subjects.append(_OWNERS)
    return Ask(tuple(commands), tuple(subjects)) if commands else None


def note_gaps(patterns: Sequence[Pattern], caller: Caller, learnt: Learnt) -> None:
    """Add what could not even be asked."""
    if ids_of_any_owner(patterns) and not caller.may("listSessions"):
        learnt.gaps.append(f"{_OWNERS}: {caller.name} may not list sessions")


def learn(ask: Ask, replies: Sequence[bytes | None]) -> Learnt:
    """What the replies (documents, None where one never came) to ``ask`` tell."""
    learnt = Learnt()
    for subject, reply in zip(ask.subjects, replies, strict=True):
        try:
            told = {} if reply is None else bson.decode(reply)
            if told.get("ok") != 1:
                raise ValueError(str(told.get("errmsg", "no reply")))
            if subject == _WITH_ROLES:
                for user in told["users"]:
                    roles = frozenset((str(r["role"]), str(r["db"])) for r in user["roles"])
                    learnt.roles[user_digest(str(user["user"]), str(user["db"]))] = roles
            else:
                listed = told["cursor"]["firstBatch"]
                for one in listed:
                    owners = learnt.owners.setdefault(bytes(_raw(one["_id"]["id"])), set())
                    owners.add(bytes(one["_id"]["uid"]))
                if len(listed) >= _MAX_LISTED or told["cursor"]["id"]:
                    raise ValueError(f"more than {_MAX_LISTED} sessions")
        except (BSONError, ValueError, KeyError, TypeError, AttributeError) as error:
            learnt.gaps.append(f"{subject}: {error}")
    return learnt


def _raw(value: object) -> bytes:
    return bytes(getattr(value, "bytes", value))  # type: ignore[call-overload,no-any-return]
