"""Who reads cursors, or is about to: by where sessions come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from proxy.session.ids import Origin
    from proxy.session.store import SessionStore

    Origins = AbstractSet[Origin | None]

#: Commands whose replies may open a cursor, or have one to be read on.
_READING: Final = frozenset(
    {"aggregate", "bulkWrite", "find", "getMore", "listCollections", "listIndexes"}
)


class Reading(NamedTuple):
    """What is read of an origin's cursors. ``mark`` is another one when other requests are in
    flight or other cursors open; the oldest of those is open for so many ``seconds``."""

    mark: int
    seconds: float = 0.0


Readings = Mapping["Origin | None", Reading]


def readings(store: SessionStore, origins: Origins, now: float) -> dict[Origin | None, Reading]:
    """Who of these has cursors open by the time ``now``, or may have some soon."""
    if not origins:
        return {}
    reads: defaultdict[Origin | None, set[tuple[object, ...]]] = defaultdict(set)
    oldest: dict[Origin | None, float] = {}
    for some in store.active():
        for session in some:
            activity = session.activity
            if activity is None or session.origin not in origins:
                continue
            running = [one for one in activity.operations if one.command in _READING]
            if running or activity.cursors:
                reading = reads[session.origin]
                reading.update((one.connection, one.request_id) for one in running)
                reading.update(activity.cursors)
                opened = map(store.cursor_opened_at, activity.cursors)
                since = min([oldest.get(session.origin, now), *filter(None, opened)])
                oldest[session.origin] = since
    return {
        origin: Reading(hash(frozenset(reading)), now - oldest[origin])
        for origin, reading in reads.items()
    }


def together(one: Readings, other: Readings) -> dict[Origin | None, Reading]:
    """What is read in two processes."""
    found = dict(one)
    for origin, reading in other.items():
        here = found.get(origin, Reading(0))
        seconds = max(here.seconds, reading.seconds)
        found[origin] = Reading(hash((here.mark, reading.mark)), seconds)
    return found
