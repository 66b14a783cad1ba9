"""Privileges of the built-in roles (MongoDB manual, "Built-In Roles"; shapes of a 4.2 server)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from proxy.embedded.failures import failure
from proxy.embedded.words import words

Resource = tuple[tuple[str, Any], ...]
Privileges = dict[Resource, frozenset[str]]

CLUSTER: Final[Resource] = (("cluster", True),)
ANY: Final[Resource] = (("anyResource", True),)


def resource_of(document: Mapping[str, Any]) -> Resource:
    """A resource document as a key.

    Raises:
        CommandError: 9 where it names none.
    """
    if document.get("cluster"):
        return CLUSTER
    if document.get("anyResource"):
        return ANY
    if "db" in document and "collection" in document:
        return collection(str(document["db"]), str(document["collection"]))
    raise failure(9, "resource must have db and collection, cluster or anyResource")


def collection(database: str, name: str) -> Resource:
    """A collection as a resource; the empty string stands for any."""
    return (("db", database), ("collection", name))


_READ: Final = words(
    "changeStream collStats dbHash dbStats find killCursors listCollections "
    "listIndexes planCacheRead"
)
_READ_WRITE: Final = _READ | words(
    "convertToCapped createCollection createIndex dropCollection dropIndex "
    "emptycapped insert remove renameCollectionSameDB update"
)
_DB_ADMIN: Final = words(
    "bypassDocumentValidation collMod collStats compact convertToCapped "
    "createCollection createIndex dbStats dropCollection dropDatabase dropIndex "
    "enableProfiler indexStats listCollections listIndexes planCacheIndexFilter "
    "planCacheRead planCacheWrite reIndex renameCollectionSameDB storageDetails "
    "validate"
)
_DB_ADMIN_PROFILE: Final = words(
    "changeStream collStats convertToCapped createCollection dbHash dbStats "
    "dropCollection find killCursors listCollections listIndexes planCacheRead"
)
_USER_ADMIN: Final = words(
    "changeCustomData changePassword createRole createUser dropRole dropUser "
    "grantRole revokeRole setAuthenticationRestriction viewRole viewUser"
)
_HOST_MANAGER: Final = words(
    "applicationMessage connPoolSync cpuProfiler dropConnections fsync "
    "invalidateUserCache killAnyCursor killAnySession killop logRotate resync "
    "setParameter shutdown touch unlock"
)
_CLUSTER_MONITOR: Final = words(
    "checkFreeMonitoringStatus connPoolStats getCmdLineOpts getLog getParameter "
    "getShardMap hostInfo inprog listDatabases listSessions listShards netstat "
    "replSetGetConfig replSetGetStatus serverStatus setFreeMonitoring shardingState "
    "top"
)
_CLUSTER_MANAGER: Final = words(
    "addShard appendOplogNote applicationMessage authSchemaUpgrade cleanupOrphaned "
    "flushRouterConfig listSessions listShards removeShard replSetConfigure "
    "replSetGetConfig replSetGetStatus replSetResizeOplog replSetStateChange resync "
    "setFeatureCompatibilityVersion trafficRecord"
)


def _read(db: str) -> Privileges:
    return {collection(db, "system.js"): _READ, collection(db, ""): _READ}


def _read_write(db: str) -> Privileges:
    return {collection(db, "system.js"): _READ_WRITE, collection(db, ""): _READ_WRITE}


def _db_admin(db: str) -> Privileges:
    return {collection(db, ""): _DB_ADMIN, collection(db, "system.profile"): _DB_ADMIN_PROFILE}


def _user_admin(db: str) -> Privileges:
    return {collection(db, ""): _USER_ADMIN}


def _db_owner(db: str) -> Privileges:
    return merged((_read_write(db), _db_admin(db), _user_admin(db)))


def _host_manager(_: str) -> Privileges:
    return {CLUSTER: _HOST_MANAGER}


def _cluster_monitor(_: str) -> Privileges:
    return {
        CLUSTER: _CLUSTER_MONITOR,
        collection("", ""): words("collStats dbStats getDatabaseVersion indexStats"),
        collection("config", ""): _READ,
        collection("local", "system.replset"): words("find"),
    }


def _cluster_manager(_: str) -> Privileges:
    sharding = words(
        "enableSharding getDatabaseVersion getShardVersion moveChunk splitChunk splitVector"
    )
    return {
        CLUSTER: _CLUSTER_MANAGER,
        collection("", ""): sharding,
        collection("config", ""): _READ,
    }


def _cluster_admin(_: str) -> Privileges:
    drop: Privileges = {collection("", ""): words("dropDatabase")}
    return merged((_cluster_manager(""), _cluster_monitor(""), _host_manager(""), drop))


def _read_any(_: str) -> Privileges:
    return merged((_read(""), {CLUSTER: words("listDatabases")}))


def _read_write_any(_: str) -> Privileges:
    return merged((_read_write(""), {CLUSTER: words("listDatabases")}))


def _db_admin_any(_: str) -> Privileges:
    cluster = words("applicationMessage listDatabases")
    return merged((_db_admin(""), {CLUSTER: cluster}))


def _user_admin_any(_: str) -> Privileges:
    cluster = words("authSchemaUpgrade invalidateUserCache listDatabases viewUser")
    users = _READ | words("createIndex dropIndex")
    return {
        CLUSTER: cluster,
        collection("", ""): _USER_ADMIN | {"listCachedAndActiveUsers"},
        collection("admin", "system.users"): users,
        collection("admin", "system.roles"): users,
        collection("admin", "system.version"): _READ,
        collection("admin", "system.new_users"): _READ,
        collection("admin", "system.backup_users"): _READ,
    }


def _restore(_: str) -> Privileges:
    actions = words(
        "bypassDocumentValidation collMod convertToCapped createCollection createIndex "
        "dropCollection insert"
    )
    users = actions | _READ
    everywhere = collection("", "")
    return {
        CLUSTER: words("forceUUID useUUID getParameter"),
        ANY: words("listCollections"),
        everywhere: actions | _USER_ADMIN,
        collection("", "system.js"): actions,
        collection("", "system.users"): users | {"remove", "update"},
        collection("local", ""): actions | _USER_ADMIN,
        collection("config", ""): actions | _USER_ADMIN,
        **{
            collection("admin", name): users
            for name in ("system.backup_users", "system.new_users", "system.version")
        },
        collection("admin", "tempusers"): words("find"),
        collection("admin", "temproles"): words("find"),
    }


def _backup(_: str) -> Privileges:
    return {
        CLUSTER: words("appendOplogNote getParameter listDatabases serverStatus"),
        ANY: words("collStats listCollections listIndexes"),
        collection("local", ""): _READ,
        collection("config", ""): _READ,
        collection("local", "system.js"): _READ,
        collection("config", "system.js"): _READ,
        collection("local", "system.replset"): _READ,
        collection("", "system.users"): _READ,
        collection("config", "settings"): words("find insert update"),
    }


def _root(_: str) -> Privileges:
    # What 4.2 shows for root beyond the roles that it is made of.
    extra: Privileges = {
        ANY: words("collStats listCollections listIndexes validate"),
        collection("local", ""): _CLUSTER_LOCAL,
        collection("config", ""): _CLUSTER_LOCAL,
    }
    parts = (_read_write_any, _db_admin_any, _user_admin_any, _cluster_admin, _restore, _backup)
    return merged((*(part("") for part in parts), extra))


_CLUSTER_LOCAL: Final = words(
    "enableSharding getDatabaseVersion getShardVersion indexStats moveChunk remove "
    "splitChunk splitVector update"
)


def _system(_: str) -> Privileges:
    return {ANY: words("anyAction")}


def merged(parts: Iterable[Mapping[Resource, frozenset[str]]]) -> Privileges:
    """The union of privileges, by resource."""
    union: Privileges = {}
    for part in parts:
        for resource, actions in part.items():
            union[resource] = union.get(resource, frozenset()) | actions
    return union


#: Built-in roles that every database has.
_EVERYWHERE: Final[dict[str, Callable[[str], Privileges]]] = {
    "read": _read,
    "readWrite": _read_write,
    "dbAdmin": _db_admin,
    "dbOwner": _db_owner,
    "userAdmin": _user_admin,
}
_ADMIN: Final[dict[str, Callable[[str], Privileges]]] = {
    "readAnyDatabase": _read_any,
    "readWriteAnyDatabase": _read_write_any,
    "dbAdminAnyDatabase": _db_admin_any,
    "userAdminAnyDatabase": _user_admin_any,
    "clusterAdmin": _cluster_admin,
    "clusterManager": _cluster_manager,
    "clusterMonitor": _cluster_monitor,
    "hostManager": _host_manager,
    "backup": _backup,
    "restore": _restore,
    "root": _root,
    "__system": _system,
}


def built_in(role: str, database: str) -> Privileges | None:
    """A built-in role's privileges; None where ``database`` has no such role."""
    make = _EVERYWHERE.get(role)
    if make is None and database == "admin":
        make = _ADMIN.get(role)
    return None if make is None else make(database)


def covers(privileges: Mapping[Resource, frozenset[str]], resource: Resource, action: str) -> bool:
    """Whether ``action`` on ``resource`` is granted, through wider resources too."""
    anywhere = privileges.get(ANY, frozenset())
    if "anyAction" in anywhere or action in anywhere or action in privileges.get(resource, ()):
        return True
    if resource == CLUSTER:
        return False
    database, name = (value for _, value in resource)
    wider = [collection("", name)]
    if not name.startswith("system."):
        wider += [collection(database, ""), collection("", "")]
    return any(action in privileges.get(candidate, ()) for candidate in wider)
