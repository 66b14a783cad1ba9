"""What a transaction leaves behind when it is ended from outside: cursors, which nobody can read
any more. Upstream may keep them (4.0 alone kills them itself)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.session.plans import kill_cursors_command

if TYPE_CHECKING:
    from proxy.session.ids import OpenTransaction
    from proxy.session.store import SessionStore


def kills_of(one: OpenTransaction, upstream: str, store: SessionStore) -> list[bytes]:
    """The commands (BSON) that kill what was opened in a transaction at ``upstream`` (an address)
    and is open still, one for each ``db.collection``."""
    session = store.get(one.key)
    if session is None or session.activity is None or one.child:
        return []
    found: dict[str, list[int]] = {}
    for cursor, namespace in session.activity.cursors.items():
        if cursor.upstream == upstream and store.cursor_number(cursor) == one.number:
            found.setdefault(namespace, []).append(cursor.id)
    return [kill_cursors_command(namespace, ids, one.api) for namespace, ids in found.items()]
