"""Session commands of a server, which go upstream as they came: whom they hit there.

A mongos passes each kill on to every shard as one killAllSessionsByPattern. ``users`` and ``roles``
in it say who asked, for the audit log, and select nothing: a server goes by the uid, else by the
lsid, else it means everybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection

#: Of a longer command nothing is noted: routers send a few hundred bytes.
LONGEST: Final = 262_144

_ANY_TEXT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    unicode_decode_error_handler="surrogateescape"
)
_EVERYBODY: Final = Selection(everything=True)


def hit(document: bytes, own: bytes | None) -> Selection:
    """The sessions that a kill (BSON) hits on upstream, sent by the owner of ``own`` (a digest).

    Nothing where that cannot be read, so that what is known never says too much.
    """
    command = _decoded(document)
    name = next(iter(command), "")
    entries = list(_documents(command.get(name)))
    if name == "killAllSessionsByPattern":
        return _of_patterns(entries)
    if name == "killAllSessions":
        uids = {user_digest(str(one.get("user")), str(one.get("db"))) for one in entries}
        return Selection(uids=frozenset(uids)) if entries else _EVERYBODY
    if entries:
        return Selection(keys=frozenset(_keys(entries, own)))
    return Selection(uids=frozenset((own,))) if own is not None else Selection()


def named(document: bytes, own: bytes | None) -> list[LogicalSessionId]:
    """The sessions that endSessions or refreshSessions (BSON) names."""
    command = _decoded(document)
    return list(_keys(list(_documents(command.get(next(iter(command), "")))), own))


def _of_patterns(patterns: list[Mapping[str, Any]]) -> Selection:
    if not patterns:
        return _EVERYBODY
    uids: set[bytes] = set()
    keys: set[LogicalSessionId] = set()
    for pattern in patterns:
        uid, lsid = pattern.get("uid"), pattern.get("lsid")
        if isinstance(uid, bytes):
            uids.add(uid)
        elif isinstance(lsid, Mapping):
            keys.update(_keys([lsid], None))
        else:
            return _EVERYBODY
    return Selection(uids=frozenset(uids), keys=frozenset(keys))


def _keys(entries: list[Mapping[str, Any]], own: bytes | None) -> Iterator[LogicalSessionId]:
    for entry in entries:
        session_id, uid = entry.get("id"), entry.get("uid", own)
        if isinstance(session_id, bytes) and isinstance(uid, bytes):
            yield LogicalSessionId(bytes(session_id), bytes(uid))


def _documents(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, Mapping))


def _decoded(document: bytes) -> Mapping[str, Any]:
    if len(document) > LONGEST:
        return {}
    try:
        return bson.decode(document, _ANY_TEXT)
    except (BSONError, ValueError, OverflowError, RecursionError):
        return {}
