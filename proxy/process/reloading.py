"""Reading settings and certificates again: what that changes, and what stays until a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import ConfigError
from proxy.logs import about
from proxy.process import cautions
from proxy.settings.rules import make_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.rule import Rules
    from proxy.observe.telemetry import Telemetry
    from proxy.process.cluster import Cluster, Common
    from proxy.settings.config import Config

#: Tables of the configuration that take effect without a restart.
RELOADED: Final = ("policies", "limits")


class Reloaded(Protocol):
    """The server, as far as it changes."""

    config: Config
    log: FilteringBoundLogger
    telemetry: Telemetry
    common: Common

    @property
    def clusters(self) -> Sequence[Cluster]: ...


def read_settings(
    server: Reloaded, read: Callable[[], Config], adopt: Callable[[Config, Rules], None]
) -> None:
    """Have ``adopt`` what ``read`` gives; if that is bad, the old stays in place."""
    try:
        config = read()
        rules = make_rules(config.policies)
    except ConfigError as error:
        server.telemetry.reloaded(False, time.time())
        server.log.error("configuration not reloaded", problems=list(map(about, error.problems)))
    else:
        adopt(config, rules)
        cautions.log(config, server.log)


def take_over(server: Reloaded, config: Config, rules: Rules) -> None:
    """Have what takes effect without a restart take effect in this process."""
    server.common.budget.limit = config.limits.buffered_bytes
    server.common.places.limit = config.limits.connections
    early = {"refuse_early": config.sessions.refuse_early}
    taken = {name: getattr(config, name) for name in RELOADED}
    taken["admin"] = config.admin.model_copy(update={"address": server.config.admin.address})
    taken["sessions"] = server.config.sessions.model_copy(update=early)
    server.config = server.config.model_copy(update=taken)
    for cluster in server.clusters:
        cluster.sessions_shared.rules = rules
        cluster.sessions_shared.refuse_early = config.sessions.refuse_early
        cluster.config = cluster.shared.config = server.config
    server.telemetry.reloaded(True, time.time())
    kept = [
        name
        for name in type(config).model_fields
        if getattr(config, name) != getattr(server.config, name)
    ]
    server.log.info("configuration reloaded", needs_restart=kept)


def read_certificates(server: Reloaded) -> list[tuple[Cluster, list[str]]]:
    """Read the certificates' files; for a side where that fails, the old ones stay.

    Returned are the clusters, each with the sides where it did not.
    """
    return [(cluster, _read_certificates(server, cluster)) for cluster in server.clusters]


def _read_certificates(server: Reloaded, cluster: Cluster) -> list[str]:
    done: list[str] = []
    for context in cluster.certificates():
        try:
            context.reload()
        except ConfigError as error:
            server.log.error("certificates not reloaded", problems=error.problems)
        else:
            server.log.info("certificates reloaded", side=context.side)
            done.append(context.side)
    return done
