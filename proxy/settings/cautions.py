"""What is allowed and probably not meant, for check-config, a start and a reload to say.

:data:`CHECKS` is the place for more of them: each takes a :class:`Config` that is right in itself,
as of one cluster, and yields ``path.to.setting: what``; those of :data:`OF_PROCESS` look at what
all clusters have in common. What takes more than settings to know (certificates) is added
by :mod:`proxy.process.cautions`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from policies.bounds import never_reached
from proxy.addresses import parse_upstream
from proxy.settings import meant
from proxy.settings.fields import written
from proxy.settings.kinds import is_loopback

if TYPE_CHECKING:
    from proxy.settings.config import Config
    from proxy.settings.reading import Read

#: Actions that roles may grant on the cluster, of servers 3.6 to 8.2 (manual, "Privilege Actions").
_ACTIONS: Final = (
    "addShard advanceClusterTime anyAction appendOplogNote applicationMessage auditConfigure "
    "authSchemaUpgrade bypassDefaultMaxTimeMS bypassWriteBlockingMode checkFreeMonitoringStatus "
    "checkMetadataConsistency cleanupOrphaned closeAllDatabases connPoolStats connPoolSync "
    "cpuProfiler dropConnections enableSharding flushRouterConfig forceUUID fsync "
    "getClusterParameter getCmdLineOpts getDefaultRWConcern getLog getParameter getShardMap "
    "getShardVersion hostInfo impersonate inprog internal invalidateUserCache "
    "issueDirectShardOperations killAnyCursor killAnySession killop listCachedAndActiveUsers "
    "listClusterCatalog listDatabases listSampledQueries listSessions listShards logRotate "
    "moveChunk moveCollection netstat oidReset operationMetrics queryStatsRead "
    "queryStatsReadTransformed removeShard replSetConfigure replSetGetConfig replSetGetStatus "
    "replSetHeartbeat replSetReconfig replSetResizeOplog replSetStateChange resync "
    "rotateCertificates runTenantMigration serverStatus setClusterParameter setDefaultRWConcern "
    "setFeatureCompatibilityVersion setFreeMonitoring setParameter setUserWriteBlockMode "
    "shardingState shutdown top touch trafficRecord transitionFromDedicatedConfigServer "
    "transitionToDedicatedConfigServer unlock unshardCollection useTenant useUUID viewUser"
)
CLUSTER_ACTIONS: Final = frozenset(_ACTIONS.split(" "))


def cautions(config: Config) -> list[str]:
    """All of them, each as ``path.to.setting: what``."""
    found = [text for check in OF_PROCESS for text in check(config)]
    for one in config.each():
        found += [one.path + text for check in CHECKS for text in check(one.config)]
    return found


def of_places(read: Read[Config]) -> list[str]:
    """What is to be said of the places that settings are from."""
    found: list[str] = []
    tokens = enumerate(read.settings.admin.tokens)
    paths = [("admin", "tokens", n, "token") for n, one in tokens if one.token is not None]
    for path in (("admin", "token"), *paths):
        kind, where = read.origin(path)
        place = where.rpartition(":")[0] if kind == "file" else where
        if kind in ("file", "secret") and _read_by_all(Path(place)):
            said = f"{place} can be read by everybody on this machine: chmod o-r"
            found.append(f"{written(path)}: {said}")
    return found


def _permissions(config: Config) -> Iterator[str]:
    guard, budget = config.policies.kill_guard, config.policies.session_budget
    if guard.mode != "off" and guard.permission:
        yield from _permission("policies.kill_guard.permission", guard.permission)
    if budget.mode != "off":
        for permission in budget.operators:
            yield from _permission("policies.session_budget.operators", permission)


def _permission(path: str, permission: str) -> Iterator[str]:
    role, at, database = permission.rpartition("@")
    if (at and role and database) or permission in CLUSTER_ACTIONS:
        return
    near = meant.closest(permission, CLUSTER_ACTIONS)
    what = "neither an action on the cluster that servers know nor role@db, so nobody has it"
    yield f"{path}: {permission!r} is {what}{meant.asked(near)}"


def _reserved(config: Config) -> Iterator[str]:
    budget, most = config.policies.session_budget, config.sessions.max_sessions
    if budget.mode != "off" and budget.reserved >= most:
        yield (
            f"policies.session_budget.reserved: {budget.reserved} leaves nothing of "
            f"sessions.max_sessions ({most}), so only operators get sessions"
        )


def _bounds(config: Config) -> Iterator[str]:
    """Patterns that match nobody, as an earlier entry takes all that they mean."""
    for name in ("session_budget", "transaction_guard"):
        table = getattr(config.policies, name)
        if table.mode == "off":
            continue
        path = f"policies.{name}.bounds"
        for where, taker in never_reached(table.bounds):
            yield f"{path}{where}: matches nobody, since bounds[{taker}] takes all that it means"
        for number, one in enumerate(table.bounds):
            said = one.model_dump(exclude_none=True, exclude={"users", "applications", "exempt"})
            if one.exempt and said:
                names = ", ".join(said)
                yield f"{path}[{number}].exempt: leaves {names} beside it without a meaning"
            elif not (one.exempt or said):
                yield f"{path}[{number}]: says nothing: no bound, and not exempt"


def _token_file(config: Config) -> Iterator[str]:
    named = [(f"tokens[{n}].", one.token_file) for n, one in enumerate(config.admin.tokens)]
    for at, path in (("", config.admin.token_file), *named):
        if path is not None and _read_by_all(path):
            yield (
                f"admin.{at}token_file: {path} can be read by everybody on this machine: chmod o-r"
            )


def _keys(config: Config) -> Iterator[str]:
    """Private keys that everybody can read, by the settings that name them."""
    listener, upstream = config.listen.tls, config.upstream.tls
    pairs: list[tuple[str, Path | None, Path | None]] = []
    if listener is not None:
        pairs.append(("listen.tls", listener.certificate, listener.key))
    if upstream is not None:
        pairs.append(("upstream.tls", upstream.certificate, upstream.key))
        for number, one in enumerate(upstream.x509):
            pairs.append((f"upstream.tls.x509[{number}]", one.certificate, one.key))
    for table, certificate, key in pairs:
        # A certificate is for everybody to read, but for the key that may stand behind it.
        file = key or certificate
        if file is not None and _read_by_all(file):
            setting = f"{table}.{'key' if key else 'certificate'}"
            what = "" if key else ", and the key is in it"
            yield f"{setting}: {file} can be read by everybody on this machine{what}: chmod o-r"
    uri = parse_upstream(config.upstream.address)
    named = uri.tls_certificate_key_file
    if named is not None and _read_by_all(Path(named)):
        yield f"upstream.address: {named} can be read by everybody on this machine: chmod o-r"


def _read_by_all(path: Path) -> bool:
    """Whether its mode lets everybody, and that of each folder on the way to it."""
    try:
        real = path.resolve()
        if not real.stat().st_mode & stat.S_IROTH:
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except OSError:
        return False


def _outputs(config: Config) -> Iterator[str]:
    """Files to write that whoever asks this may not write."""
    if config.audit.file is not None and not config.audit.to_stdout:
        yield from _unwritable("audit.file", config.audit.file, config.audit.file)
    # These are written under other names first, or are several.
    for setting, file in (
        ("history.file", config.history.file),
        ("process.pid_file", config.process.pid_file),
    ):
        if file is not None:
            yield from _unwritable(setting, file, file.parent)


def _unwritable(setting: str, file: Path, written: Path) -> Iterator[str]:
    try:
        place = written if written.exists() else written.parent
    except OSError:
        place = written.parent
    if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        yield f"{setting}: {file} cannot be written by this user: {place} is not writable"


def _one_name(config: Config) -> Iterator[str]:
    """For mongos, and where clients have one member, no name is given to anybody."""
    upstream, name = config.upstream, config.listen.advertise
    uri = parse_upstream(upstream.address)
    if name is None or upstream.members or upstream.hello == "pass" or uri.direct:
        return
    if uri.replica_set or uri.srv or len(uri.seeds) > 1:
        yield (
            f"listen.advertise: if {name} leads to several proxies, all need the same port in"
            " listen.address and the same seeds, for a port to be one member's at all of them;"
            " upstream.members says which port is whose"
        )


def _balancers(config: Config) -> Iterator[str]:
    listen = config.listen
    if listen.proxy_protocol == "off":
        return
    path = "listen.proxy_protocol_from"
    networks = [ip_network(network) for network in listen.proxy_protocol_from]
    for network in networks:
        if not network.prefixlen:
            yield f"{path}: {network} lets everybody claim any address"
    nobody = networks and all(network.is_loopback for network in networks)
    if nobody and not listen.address.startswith("/") and not is_loopback(listen.address):
        yield f"{path}: only this machine is named, so that no balancer elsewhere may send headers"


def _forgotten(config: Config) -> Iterator[str]:
    history = config.history
    if history.file is not None and not history.hours:
        yield "history.file: nothing is written to it, as history.hours is 0"


CHECKS: Final[tuple[Callable[[Config], Iterator[str]], ...]] = (
    _permissions,
    _reserved,
    _bounds,
    _one_name,
    _balancers,
    _keys,
)

OF_PROCESS: Final[tuple[Callable[[Config], Iterator[str]], ...]] = (
    _token_file,
    _forgotten,
    _outputs,
)
