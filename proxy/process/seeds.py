"""Seeds that DNS knows: looked up at the start, and again while the process runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from proxy import logs
from proxy.errors import ConfigError, LookUpError
from proxy.upstream import srv as dns
from proxy.upstream.srv import SOONEST, Found

if TYPE_CHECKING:
    from proxy.addresses import Address, Srv
    from proxy.settings.upstream import Upstream
    from proxy.upstream.topology import Topology


async def find_seeds(srv: Srv, settings: Upstream) -> tuple[tuple[Address, ...], str | None]:
    """The seeds, and the replica set's name where DNS has that.

    Raises:
        ConfigError: DNS has none, or none that may be believed.
    """
    try:
        found = await dns.find(srv, settings.connect_seconds)
    except LookUpError as error:
        raise ConfigError([f"upstream.address: {error}"]) from error
    logs.logger().info("seeds", name=srv.name, seeds=_shown(found), options=dict(found.options))
    return found.seeds, found.options.get("replicaset")


class Seeded(Protocol):
    """What has seeds, and can have others."""

    seeds: tuple[Address, ...]
    topology: Topology

    def follow(self, seeds: tuple[Address, ...]) -> None:
        """Have these from now on."""


async def keep_seeds(srv: Srv, settings: Upstream, seeded: Seeded) -> None:
    """Look again from time to time, and have others followed; until cancelled.

    Members of a replica set are told by their own hello. While DNS has no answer, the seeds are
    what they were.
    """
    log = logs.logger()
    problem = ""
    wait = SOONEST
    while True:
        await trio.sleep(wait)
        wait = SOONEST
        if seeded.topology.kind in ("replica set", "standalone"):
            continue
        try:
            found = await dns.hosts(srv, settings.connect_seconds)
        except LookUpError as error:
            wait = settings.watch_seconds
            if str(error) != problem:
                problem = str(error)
                log.warning("seeds not found", name=srv.name, problem=problem)
            continue
        problem, wait = "", found.seconds
        if found.strange:
            log.warning("seeds of another domain", name=srv.name, hosts=list(found.strange[:10]))
        if found.seeds != seeded.seeds:
            log.info("seeds", name=srv.name, seeds=_shown(found))
            seeded.follow(found.seeds)


def _shown(found: Found) -> list[str]:
    return [str(seed) for seed in found.seeds]
