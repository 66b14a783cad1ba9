"""Session commands of a server, which go upstream as they came: whom they hit there.

A mongos passes each kill on to every shard as one killAllSessionsByPattern. ``users`` and ``roles``
in it say who asked, for the audit log, and select nothing: a server goes by the uid, else by the
lsid, else it means everybody.

All of it is for commands that upstream has carried out, so that their form is right for its
version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from proxy.wire.fields import ARRAY, DOCUMENT, true_value
from proxy.wire.opcodes import INT32

if TYPE_CHECKING:
    from proxy.session.caller import Caller
    from proxy.wire.messages import Request

#: Of a longer list nothing is noted: routers send a few hundred bytes.
LONGEST: Final = 262_144

_ANY_TEXT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    unicode_decode_error_handler="surrogateescape"
)
_EVERYBODY: Final = Selection(everything=True)
_NONE: Final = Selection()

_Entry = Mapping[str, Any]


def is_help(request: Request) -> bool:
    """Whether upstream may have told about the command instead of carrying it out."""
    return true_value(request.message, request.fields.get(b"help"))


def hit(request: Request, caller: Caller) -> Selection:
    """The sessions that a kill has hit on upstream.

    Nothing where its list cannot be read, so that what is known never says too much: what stays
    open here ends by its own limits.
    """
    entries = _listed(request)
    if entries is None:
        return _NONE
    if request.command == "killAllSessionsByPattern":
        return _of_patterns(entries)
    if request.command == "killAllSessions":
        uids = {user_digest(str(one.get("user")), str(one.get("db"))) for one in entries}
        return Selection(uids=frozenset(uids)) if entries else _EVERYBODY
    if entries:
        # Servers hold a child session against parents alone, of which it is none.
        parents = (entry for entry in entries if not _is_child(entry))
        return Selection(keys=frozenset(_keys(parents, caller.digest)))
    # Without authorization nobody owns anything, so that one's own are everybody's.
    return _EVERYBODY if caller.authorization is False else Selection(uids=caller.users)


def named(request: Request, caller: Caller) -> list[LogicalSessionId]:
    """The sessions that endSessions or refreshSessions names: of a child its parent."""
    return list(_keys(_listed(request) or (), caller.digest))


def _of_patterns(patterns: list[_Entry]) -> Selection:
    uids: set[bytes] = set()
    keys: set[LogicalSessionId] = set()
    for pattern in patterns:
        uid, lsid = pattern.get("uid"), pattern.get("lsid")
        if isinstance(uid, bytes):
            uids.add(uid)
        elif isinstance(lsid, Mapping):
            if not _is_child(lsid):
                keys.update(_keys((lsid,), None))
        else:
            return _EVERYBODY
    return Selection(uids=frozenset(uids), keys=frozenset(keys)) if patterns else _EVERYBODY


def _is_child(lsid: _Entry) -> bool:
    return lsid.get("txnUUID") is not None


def _keys(entries: Iterable[_Entry], own: bytes | None) -> Iterator[LogicalSessionId]:
    for entry in entries:
        session_id, uid = entry.get("id"), entry.get("uid")
        if uid is None:
            uid = own
        if isinstance(session_id, bytes) and isinstance(uid, bytes):
            yield LogicalSessionId(bytes(session_id), bytes(uid))


def _listed(request: Request) -> list[_Entry] | None:
    """The documents of a command's list, without the nulls, which servers skip; None where it
    cannot be read. Servers to 4.4 take a document for a list."""
    argument = next(iter(request.fields.values()), None)
    if argument is None or argument.type not in (ARRAY, DOCUMENT):
        return None
    element = request.message[argument.start : argument.end]
    if len(element) > LONGEST:
        return None
    try:
        # Of this element alone: what else is in the command is nothing to it.
        document = bson.decode(INT32.pack(len(element) + 5) + element + b"\0", _ANY_TEXT)
    except (BSONError, ValueError, OverflowError, RecursionError):
        return None
    (found,) = document.values()
    every = found.values() if isinstance(found, dict) else found
    entries = [one for one in every if one is not None]
    return entries if all(isinstance(one, dict) for one in entries) else None
