"""The stages ``$listLocalSessions`` and ``$listSessions``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Binary

from proxy.embedded.failures import failure, type_mismatch
from proxy.embedded.lsids import missing_field, unknown_field
from proxy.embedded.node import milliseconds
from proxy.embedded.printing import type_name
from proxy.embedded.sessions import Session, user_digest

if TYPE_CHECKING:
    from proxy.embedded.call import Call
    from proxy.embedded.engine import Document

_LOCAL: Final = "$listLocalSessions"
_STORED: Final = "$listSessions"


def is_listing(stage: str) -> bool:
    """Whether a stage lists sessions."""
    return stage in (_LOCAL, _STORED)


class _Wanted:
    """The stage's options: everybody's sessions, or those of some users (None: the caller's)."""

    def __init__(self, stage: str, spec: object) -> None:
        if not isinstance(spec, dict):
            raise failure(
                14, f"{stage} options must be specified in an object, but found: {type_name(spec)}"
            )
        self.all = False
        self.users: list[tuple[str, str]] | None = None
        for name, value in spec.items():
            if name == "allUsers":
                self.all = bool(value)
            elif name == "users":
                self.users = [_user(stage, user) for user in value or ()]
            else:
                raise unknown_field(stage, name)
        if self.all and self.users:
            raise failure(
                12,
                f"{stage} may not specify {{allUsers:true}} and {{users:[...]}} at the same time",
            )


def _user(stage: str, user: object) -> tuple[str, str]:
    if not isinstance(user, dict):
        raise type_mismatch(f"{stage}.users.0", user, "object")
    for name in ("user", "db"):
        if name not in user:
            raise missing_field(f"{stage}.users", name)
    return (str(user["user"]), str(user["db"]))


def check_listing(call: Call, stage: str, spec: object) -> None:
    """Refuse the stage in the wrong place, with wrong options, or about others without leave."""
    name = call.body["aggregate"]
    wanted = _Wanted(stage, spec)
    own = None if wanted.all or not call.node.authorization else call.only_user()
    if stage == _STORED and (call.database, name) != ("config", "system.sessions"):
        raise failure(73, "$listSessions may only be run against config.system.sessions")
    if stage == _LOCAL and isinstance(name, str):
        raise failure(
            73,
            "$listLocalSessions must be run against the database with {aggregate: 1}, "
            "not a collection",
        )
    if own is not None and all(user == (own.name, own.database) for user in wanted.users or ()):
        return
    if not call.may_on_cluster("listSessions"):
        raise call.not_authorized()


def list_sessions(call: Call, stage: str, spec: object) -> list[Document]:
    """The sessions that the stage asks for."""
    wanted = _Wanted(stage, spec)
    if wanted.all:
        found = list(call.node.sessions)
    else:
        digests = {user_digest(*user) for user in wanted.users or ()}
        if wanted.users is None or not digests:
            digests = {call.own_digest(check_length=False)}
        found = call.node.sessions.matching(lambda key: key.uid in digests)
    if stage == _STORED:
        return [_stored(session) for session in found if session.stored]
    return [_local(session) for session in found if session.local]


def _id(session: Session) -> Document:
    return {"id": Binary(session.key.id, 4), "uid": session.key.uid}


def _local(session: Session) -> Document:
    shown: Document = {"_id": _id(session), "lastUse": milliseconds(session.last_use)}
    if session.user is not None:
        shown["user"] = session.user
    return shown


def _stored(session: Session) -> Document:
    shown: Document = {"_id": _id(session), "lastUse": milliseconds(session.stored_use)}
    if session.user is not None:
        shown["user"] = {"name": session.user}
    return shown
