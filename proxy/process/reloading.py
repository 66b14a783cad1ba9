"""Reading settings and certificates again: what that changes, and what stays until a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.errors import ConfigError
from proxy.logs import about
from proxy.process import cautions
from proxy.settings.clusters import TABLES
from proxy.settings.rules import make_rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.rule import Rules
    from proxy.observe.telemetry import Telemetry
    from proxy.process.cluster import Cluster as Running
    from proxy.process.common import Common
    from proxy.settings.clusters import Cluster
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
    def clusters(self) -> Sequence[Running]: ...


def rules_of(config: Config) -> dict[str, Rules]:
    """The rules of each cluster, by its name.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    made: dict[str, Rules] = {}
    problems: list[str] = []
    for one in config.each():
        try:
            made[one.name] = make_rules(one.config.policies)
        except ConfigError as error:
            problems += map(one.said, error.problems)
    if problems:
        raise ConfigError(problems)
    return made


def read_settings(
    server: Reloaded,
    read: Callable[[], Config],
    adopt: Callable[[Config, Mapping[str, Rules]], None],
) -> None:
    """Have ``adopt`` what ``read`` gives; if that is bad, the old stays in place."""
    try:
        config = read()
        rules = rules_of(config)
    except ConfigError as error:
        server.telemetry.reloaded(False, time.time())
        server.log.error("configuration not reloaded", problems=list(map(about, error.problems)))
    else:
        adopt(config, rules)
        cautions.log(config, server.log)


def take_over(server: Reloaded, config: Config, rules: Mapping[str, Rules]) -> None:
    """Have what takes effect without a restart take effect in this process."""
    server.common.budget.limit = config.limits.buffered_bytes
    server.common.places.limit = config.limits.connections
    server.config = _in_force(server.config, config)
    for cluster, one in zip(server.clusters, server.config.each(), strict=True):
        cluster.adopt(one.config, rules.get(one.name))
    server.telemetry.reloaded(True, time.time())
    server.log.info("configuration reloaded", needs_restart=_kept(server.config, config))


def _in_force(old: Config, new: Config) -> Config:
    """What is in force from now on: clusters stay, with their new rules."""
    taken = {name: getattr(new, name) for name in RELOADED if name not in TABLES}
    taken["log"] = old.log.model_copy(update={"slow_seconds": new.log.slow_seconds})
    taken["admin"] = new.admin.model_copy(update={"address": old.admin.address})
    if not old.cluster and not new.cluster:
        taken |= _reloaded(old, new)
    given = {one.name: one for one in new.cluster}
    if old.cluster:
        taken["cluster"] = tuple(
            one.model_copy(update=_reloaded(one, given[one.name])) if one.name in given else one
            for one in old.cluster
        )
    return old.model_copy(update=taken)


def _reloaded(old: Config | Cluster, new: Config | Cluster) -> dict[str, Any]:
    """Of what belongs to a cluster, what takes effect without a restart."""
    taken = {name: getattr(new, name) for name in RELOADED if name in TABLES}
    at_once = {name: getattr(new.sessions, name) for name in ("refuse_early", "sign_refusals")}
    return taken | {"sessions": old.sessions.model_copy(update=at_once)}


def _kept(old: Config, new: Config) -> list[str]:
    """What has to wait for a restart, in words."""
    kept = [name for name in _differing(old, new) if name != "cluster"]
    were, are = ({one.name: one for one in config.cluster} for config in (old, new))
    for name in {**were, **are}:
        if name not in are:
            kept.append(f"cluster {name}: removed")
        elif name not in were:
            kept.append(f"cluster {name}: added")
        else:
            kept += [f"cluster {name}: {table}" for table in _differing(were[name], are[name])]
    return kept


def _differing(old: BaseModel, new: BaseModel) -> list[str]:
    return [name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)]


def read_certificates(server: Reloaded) -> list[tuple[Running, list[str]]]:
    """Read the certificates' files; for a side where that fails, the old ones stay.

    Returned are the clusters, each with the sides where it did not.
    """
    return [(cluster, _read_certificates(cluster)) for cluster in server.clusters]


def _read_certificates(cluster: Running) -> list[str]:
    done: list[str] = []
    for context in cluster.certificates():
        try:
            context.reload()
        except ConfigError as error:
            cluster.log.error("certificates not reloaded", problems=error.problems)
        else:
            cluster.log.info("certificates reloaded", side=context.side)
            done.append(context.side)
    return done
