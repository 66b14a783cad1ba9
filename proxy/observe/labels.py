"""The values that labels of metrics may have: whatever clients send, there are only so many."""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.counting import OTHER
from proxy.observe.code_names import CODE_NAMES
from proxy.texts import shown

#: Commands of servers 3.6 to 8.2 (MongoDB manual, "Database Commands", and what mongos and members
#: send each other in the course of transactions) that are counted under their own name.
COMMANDS: Final = frozenset((
    "_isSelf", "abortReshardCollection", "abortTransaction", "addShard", "addShardToZone",
    "aggregate", "analyze", "analyzeShardKey", "appendOplogNote", "applyOps", "authenticate",
    "autoCompact", "autoSplitVector", "availableQueryOptions", "balancerCollectionStatus",
    "balancerStart", "balancerStatus", "balancerStop", "buildInfo", "bulkWrite",
    "checkShardingIndex", "cleanupOrphaned", "cleanupReshardCollection",
    "cleanupStructuredEncryptionData", "clearJumboChunk", "clone", "cloneCollectionAsCapped",
    "collMod", "collStats", "commitReshardCollection", "commitTransaction", "compact",
    "compactStructuredEncryptionData", "configureCollectionBalancing", "configureFailPoint",
    "connectionStatus", "connPoolStats", "connPoolSync", "convertToCapped",
    "coordinateCommitTransaction", "copydb", "copydbgetnonce", "copydbsaslstart", "count",
    "create", "createIndexes", "createRole", "createSearchIndexes", "createUser", "currentOp",
    "dataSize", "dbHash", "dbStats", "dbstats", "delete", "distinct", "driverOIDCTest", "drop",
    "dropAllRolesFromDatabase", "dropAllUsersFromDatabase", "dropConnections", "dropDatabase",
    "dropIndexes", "dropRole", "dropSearchIndex", "dropUser", "enableSharding", "endSessions",
    "eval", "explain", "features", "filemd5", "find", "findAndModify", "findandmodify",
    "flushRouterConfig", "fsync", "fsyncUnlock", "geoNear", "geoSearch", "getAuditConfig",
    "getClusterParameter", "getCmdLineOpts", "getDatabaseVersion", "getDefaultRWConcern",
    "getDiagnosticData", "getFreeMonitoringStatus", "getLastError", "getLog", "getMore",
    "getnonce", "getParameter", "getPrevError", "getShardMap", "getShardVersion",
    "grantPrivilegesToRole", "grantRolesToRole", "grantRolesToUser", "group", "hello", "hostInfo",
    "insert", "internalRenameIfOptionsAndIndexesMatch", "invalidateUserCache", "isdbgrid",
    "isMaster", "ismaster", "killAllSessions", "killAllSessionsByPattern", "killCursors",
    "killOp", "killSessions", "listCollections", "listCommands", "listDatabases", "listIndexes",
    "listSearchIndexes", "listShards", "lockInfo", "logout", "logRotate", "mapReduce",
    "mapreduce", "mergeAllChunksOnShard", "mergeChunks", "moveChunk", "moveCollection",
    "movePrimary", "moveRange", "netstat", "parallelCollectionScan", "ping", "planCacheClear",
    "planCacheClearFilters", "planCacheListFilters", "planCacheSetFilter", "prepareTransaction",
    "profile", "refineCollectionShardKey", "refreshSessions", "reIndex", "releaseMemory",
    "removeQuerySettings", "removeShard", "removeShardFromZone", "renameCollection",
    "repairCursor", "repairDatabase", "replSetAbortPrimaryCatchUp", "replSetFreeze",
    "replSetGetConfig", "replSetGetRBID", "replSetGetStatus", "replSetHeartbeat",
    "replSetInitiate", "replSetMaintenance", "replSetReconfig", "replSetRequestVotes",
    "replSetResizeOplog", "replSetStepDown", "replSetStepUp", "replSetSyncFrom", "replSetTest",
    "replSetUpdatePosition", "resetError", "reshardCollection", "revokePrivilegesFromRole",
    "revokeRolesFromRole", "revokeRolesFromUser", "rolesInfo", "rotateCertificates",
    "saslContinue", "saslStart", "serverStatus", "setAllowMigrations", "setAuditConfig",
    "setClusterParameter", "setDefaultRWConcern", "setFeatureCompatibilityVersion",
    "setIndexCommitQuorum", "setParameter", "setProfilingFilterGlobally", "setQuerySettings",
    "setShardVersion", "setUserWriteBlockMode", "shardCollection", "shardConnPoolStats",
    "shutdown", "split", "splitChunk", "splitVector", "startSession", "top", "touch",
    "transitionFromDedicatedConfigServer", "transitionToDedicatedConfigServer",
    "transitionToShardedCluster", "unshardCollection", "untrackUnshardedCollection", "update",
    "updateRole", "updateSearchIndex", "updateUser", "updateZoneKeyRange", "usersInfo",
    "validate", "validateDBMetadata", "voteCommitIndexBuild", "waitForFailPoint", "whatsmysni",
    "whatsmyuri",
))  # fmt: skip

#: What somebody can do with a session that nobody should (:mod:`proxy.conversation.incidents`).
SESSION_INCIDENTS: Final = (
    *("shared", "concurrent", "concurrent_in_transaction"),
    *("txn_number_backwards", "txn_number_reused", "foreign_uid"),
)
COMMAND_DECISIONS: Final = ("done", "refused", "failed")
RULE_DECISIONS: Final = ("refused", "reported", "aborted", "over", "failed", "given_up")
#: Who refused where it was no rule; no rule can be called that.
ITSELF: Final = "the proxy"
#: The owner by a command of their own; somebody else by a command; the admin endpoint.
INITIATORS: Final = ("owner", "other", "admin")

#: Characters of a user's or an application's name that a label holds.
_LONGEST: Final = 100


class Incident(NamedTuple):
    """What operators should know, and whose doing it was, as label values.

    ``kind`` is one of :data:`SESSION_INCIDENTS`, or what ``rule`` decided.
    """

    kind: str
    rule: str
    user: str
    application: str
    driver: str
    driver_version: str


def code_name(code: int | None) -> str:
    """What errors with this code are counted as; None is a reply without a code."""
    return OTHER if code is None else CODE_NAMES.get(code, OTHER)


def clean(name: str) -> str:
    """A name that a client or a user chose as the value of a label: short, and printable."""
    return shown(name, _LONGEST)


#: The commands of logins that can fail.
LOGINS: Final = ("saslStart", "saslContinue", "authenticate")
