"""The processes upstream as rows for people: which there are, which listener leads where, and who
does not answer since when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from proxy.upstream.topology import PRIMARY

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.topology import Topology
    from proxy.upstream.watcher import Watcher


def standing_rows(
    topology: Topology,
    watcher: Watcher,
    upstreams: Upstreams,
    listeners: Mapping[Address, Address],
    connections: Mapping[str, int],
    now: float,
) -> list[dict[str, Any]]:
    """One row per process that is watched, seeds first, and one for a listener that follows the
    primary. ``listeners`` are where each is listened for; ``connections`` how many clients have."""
    rows = [
        _row(address, topology, watcher, upstreams, now)
        | {
            "listener": _text(listeners.get(address)),
            "connections": connections.get(str(address), 0),
        }
        for address in topology.targets()
    ]
    if PRIMARY in listeners:
        primary = topology.primary
        # Its clients are counted where they were led to.
        rows.append(
            {
                "upstream": _text(primary),
                "role": "follows the primary",
                "set": topology.set_name,
                "up": primary is not None,
                "listener": _text(listeners[PRIMARY]),
            }
        )
    return rows


def _row(
    address: Address, topology: Topology, watcher: Watcher, upstreams: Upstreams, now: float
) -> dict[str, Any]:
    seen = topology.seen(address)
    up, since, problem = watcher.standing(address)
    role = "" if seen is None else seen.role if seen.kind == "replica set" else seen.kind
    if role == "primary" and topology.primary != address:
        # It was when it last answered.
        role = ""
    return {
        "upstream": str(address),
        "name": topology.name_of(address),
        "role": role,
        "set": seen.set_name if seen is not None else "",
        "up": up,
        "since_seconds": None if since is None else round(max(0.0, now - since), 3),
        "problem": problem,
        "wire_version": upstreams.of(address).wire_version,
    }


def _text(address: Address | None) -> str | None:
    return None if address is None else str(address)
