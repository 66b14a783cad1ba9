"""Which sessions a session command means to a server: a second reading, from its bytes alone.

Where the manual counts instead of servers (``docs/differences.md``) it is not said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.reading import documents
from tests.reading.documents import ARRAY, LONG, OBJECT, STRING, Broken, Document, Element
from tests.reading.envelopes import V60, V70, Closed, Refused, unpack
from tests.reading.model import digest, index, read, uuid

ALL = "everybody's"
_LISTS = (b"killSessions", b"endSessions", b"refreshSessions")


@dataclass(frozen=True)
class Caller:
    """Who asks: the digest of their own sessions, and whether they may name others'."""

    own: bytes
    authorization: bool
    may_all: bool


@dataclass(frozen=True)
class Meant:
    """``sessions`` are :data:`ALL`, digests, and (id, digest) pairs."""

    sessions: frozenset[str | bytes | tuple[bytes, bytes]]

    @staticmethod
    def of(found: set[str | bytes | tuple[bytes, bytes]]) -> Meant:
        """Without what something else in it says already."""
        if ALL in found:
            return Meant(frozenset((ALL,)))
        return Meant(
            frozenset(one for one in found if not isinstance(one, tuple) or one[1] not in found)
        )


class Differs(Exception):
    """The manual counts here, not what servers do."""


def meant(frame: bytes, version: int, caller: Caller) -> Meant | None:
    """What a server of that version would carry out for that caller; None where it refuses."""
    if read(frame, version).outcome != "command":
        return None
    try:
        body = unpack(frame, version).body
        assert body is not None
        found = _meant(body[0], version, caller)
    except (Broken, Closed, Refused):
        return None
    return Meant.of(found)


def _meant(
    argument: Element, version: int, caller: Caller
) -> set[str | bytes | tuple[bytes, bytes]]:
    found: set[str | bytes | tuple[bytes, bytes]] = set()
    kills = argument.name.startswith(b"kill")
    if argument.name.startswith(b"killAll") and not caller.may_all:
        raise Refused(13)
    entries = list(_listed(argument, version))
    if kills and (None in entries or (argument.type == OBJECT and not entries)):
        raise Differs
    for entry in entries:
        if entry is None:
            continue
        if argument.name in _LISTS:
            is_child, key = _key(entry, version, caller.own)
            if key[1] != caller.own and not caller.may_all:
                raise Refused(13)
            if is_child and argument.name == b"endSessions":
                raise Refused(72)
            if not (is_child and kills):
                found.add(key)
        elif argument.name == b"killAllSessions":
            found.add(_owner(entry))
        else:
            found.add(_matching(entry, version))
    if kills and not entries:
        one_s_own = argument.name == b"killSessions" and caller.authorization
        found.add(caller.own if one_s_own else ALL)
    return found


def _listed(argument: Element, version: int) -> Iterator[Document | None]:
    if argument.type != ARRAY and (argument.type != OBJECT or version >= V70):
        raise Refused(14)
    for position, entry in enumerate(documents.whole(argument.value)):
        if index(entry.name) != position:
            raise Refused(40422)
        if documents.is_nothing(entry):
            yield None
        elif entry.type != OBJECT:
            raise Refused(14)
        else:
            yield documents.whole(entry.value)


def _strict(document: Document, known: tuple[bytes, ...]) -> dict[bytes, Element]:
    names = [element.name for element in document]
    if len(set(names)) < len(names) or not set(names) <= set(known):
        raise Refused(40415)
    return {one.name: one for one in document if not documents.is_nothing(one)}


def _key(document: Document, version: int, own: bytes) -> tuple[bool, tuple[bytes, bytes]]:
    """Whether it is a child's, and (id, digest)."""
    more = (b"txnNumber", b"txnUUID") if version >= V60 else ()
    fields = _strict(document, (b"id", b"uid", *more))
    child, number = fields.get(b"txnUUID"), fields.get(b"txnNumber")
    if child is not None:
        uuid(child)
    if number is not None and (number.type != LONG or child is None):
        raise Refused(72)
    owner = fields.get(b"uid")
    return child is not None, (uuid(fields.get(b"id")), own if owner is None else digest(owner))


def _owner(document: Document) -> bytes:
    fields = _strict(document, (b"user", b"db"))
    if len(fields) < 2 or any(one.type != STRING for one in fields.values()):
        raise Refused(14)
    name = documents.text(fields[b"user"]) + b"@" + documents.text(fields[b"db"])
    return hashlib.sha256(b"" if name == b"@" else name).digest()


def _matching(pattern: Document, version: int) -> str | bytes | tuple[bytes, bytes]:
    fields = _strict(pattern, (b"lsid", b"uid", b"users", b"roles"))
    if len(fields) < len(pattern) or len(fields) > 1 or fields.keys() & {b"users", b"roles"}:
        raise Differs
    if b"uid" in fields:
        return digest(fields[b"uid"])
    if b"lsid" not in fields:
        return ALL
    if fields[b"lsid"].type != OBJECT:
        raise Refused(14)
    lsid = documents.whole(fields[b"lsid"].value)
    if documents.is_nothing(documents.first(lsid, b"uid")):
        raise Differs
    is_child, key = _key(lsid, version, b"")
    if is_child:
        raise Refused(72)
    return key
