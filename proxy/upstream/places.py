"""Which port stands for which member of a replica set.

It follows from the member's name and from nothing else that a proxy has seen: not from when it met
the member, nor from members that have come and gone. So all proxies of a set that have the same
first port give a member the same one, after a restart too; a port that stood for a member does not
come to stand for another, whose connections a driver's pool would then mix. Counting through the
members in any order has neither: who leaves or joins moves the others, or leaves gaps that only
those know who were there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import Final

#: How far above the first listener's port another member's listener may lie.
PORTS: Final = 200


def ports(first: int, names: Iterable[str], taken: Collection[int] = ()) -> dict[str, int]:
    """The port of each member, by its name, above ``first`` and beside those that are ``taken``.

    Of two members that would have the same one (with five members, in one set of thirty), that
    whose name is sorted behind gets the next. There may be no room for all.
    """
    span = min(PORTS, 65_535 - first)
    found: dict[str, int] = {}
    used = set(taken)
    for name in sorted(set(names)):
        home = int.from_bytes(sha256(name.encode()).digest()[:8])
        places = (first + 1 + (home + further) % span for further in range(span))
        port = next((port for port in places if port not in used), None)
        if port is not None:
            found[name] = port
            used.add(port)
    return found
