"""Which sessions an id means, or the beginning of one, as pages and the terminal show it."""

from __future__ import annotations

from base64 import b64decode
from string import hexdigits
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import trio

from proxy.admin.query import QueryError
from proxy.listing import session_batches, uuid_text
from proxy.listing.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.session.records import Session
    from proxy.session.store import SessionStore

#: Hexadecimal digits of an id, and how many of them are enough to name it.
_ALL: Final = 32
ENOUGH: Final = 8

#: Sessions that are listed where one has to be chosen.
_LISTED: Final = 10


class SessionName(NamedTuple):
    """What names a session: the first ``digits`` of its id, all 32 as a rule, and perhaps the
    owner's digest."""

    digits: str
    uid: bytes | None = None

    @property
    def whole(self) -> bool:
        """Whether that is all of the id."""
        return len(self.digits) == _ALL

    def __str__(self) -> str:
        return uuid_text(bytes.fromhex(self.digits)) if self.whole else self.digits


def session_name(entry: object, uid: object = None) -> SessionName:
    """The name that two texts are: an id or the beginning of one, and a digest. The digest may also
    stand behind the id, as incidents and the audit log say it.

    Raises:
        ValueError: they are none.
    """
    owner = bytes.fromhex(uid) if isinstance(uid, str) else None
    if not isinstance(entry, str) or (uid is not None and len(owner or b"") != _ALL):
        raise ValueError("no id and digest")
    entry, said, digest = entry.partition(" - ")
    if said and owner is None:
        owner = b64decode(digest, validate=True)
        if len(owner) != _ALL:
            raise ValueError("no digest")
    digits = entry.lower().replace("-", "")
    if not ENOUGH <= len(digits) < _ALL or not set(digits) <= set(hexdigits):
        digits = UUID(entry).hex
    return SessionName(digits, owner)


def begun(text: str) -> str:
    """The first digits of an id that a filter names; "" where it is a whole one or none.

    Raises:
        ValueError: there are too few of them.
    """
    digits = text.partition(" - ")[0].lower().replace("-", "")
    if not digits or len(digits) >= _ALL or not set(digits) <= set(hexdigits):
        return ""
    if len(digits) < ENOUGH:
        raise ValueError(f"give an id, {ENOUGH} or more of its first digits, or a * behind fewer")
    return digits


def only_one(name: object, sessions: Sequence[Session]) -> None:
    """Make sure that what begins as ``name`` is one id.

    Raises:
        QueryError: there are several; the text lists them.
    """
    if len({one.id for one in sessions}) > 1:
        raise QueryError(f"{name}: several ids begin so: {listed(sessions)}; give more of it")


async def sessions_named(
    names: Iterable[SessionName], store: SessionStore
) -> tuple[list[Session], list[SessionName]]:
    """The sessions that are known by these names, and the names by which none is.

    A whole id means the sessions of all who use it. The beginning of one may mean one id only.

    Raises:
        QueryError: it means several; the text lists them.
    """
    named: dict[SessionName, list[Session]] = {}
    begun: dict[bytes, list[SessionName]] = {}
    for name in names:
        named[name] = []
        if name.whole:
            known = store.with_id(bytes.fromhex(name.digits))
            named[name] = [one for one in known if name.uid in (None, one.owner.uid)]
        else:
            begun.setdefault(bytes.fromhex(name.digits[:ENOUGH]), []).append(name)
    for batch in session_batches(store) if begun else ():
        for some in in_slices(batch):
            for session in some:
                for name in begun.get(session.id[: ENOUGH // 2], ()):
                    right = name.uid in (None, session.owner.uid)
                    if right and session.id.hex().startswith(name.digits):
                        named[name].append(session)
            await trio.lowlevel.checkpoint()
    for name, found in named.items():
        only_one(name, found)
    sessions = {one.key: one for found in named.values() for one in found}
    return list(sessions.values()), [name for name, found in named.items() if not found]


def listed(sessions: Sequence[Session]) -> str:
    """Some sessions in one line."""
    shown = [f"{uuid_text(one.id)} of {one.owner.name or 'nobody'}" for one in sessions[:_LISTED]]
    more = len(sessions) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)
