"""The values that labels of metrics may have: whatever clients send, there are only so many."""

from __future__ import annotations

from typing import Final

from proxy.counting import OTHER
from proxy.texts import shown

#: Command names (MongoDB manual, "Database Commands") that are counted under their own name.
COMMANDS: Final = frozenset((
    "abortTransaction", "aggregate", "authenticate", "autoSplitVector", "balancerStart",
    "balancerStatus", "balancerStop", "buildInfo", "bulkWrite", "collMod", "collStats",
    "commitTransaction", "compact", "configureFailPoint", "connPoolStats", "connectionStatus",
    "convertToCapped", "count", "create", "createIndexes", "createRole", "createUser",
    "currentOp", "dataSize", "dbHash", "dbStats", "delete", "distinct", "drop", "dropDatabase",
    "dropIndexes", "dropRole", "dropUser", "enableSharding", "endSessions", "explain", "find",
    "findAndModify", "fsync", "fsyncUnlock", "getCmdLineOpts", "getFreeMonitoringStatus",
    "getLastError", "getLog", "getMore", "getParameter", "getnonce", "grantPrivilegesToRole",
    "grantRolesToRole", "grantRolesToUser", "hello", "hostInfo", "insert", "isMaster", "ismaster",
    "isdbgrid", "killAllSessions", "killAllSessionsByPattern", "killCursors", "killOp",
    "killSessions", "listCollections", "listCommands", "listDatabases", "listIndexes",
    "listShards", "lockInfo", "logRotate", "logout", "mapReduce", "mapreduce", "moveChunk",
    "ping", "planCacheClear", "profile", "reIndex", "refreshSessions", "renameCollection",
    "replSetGetConfig", "replSetGetStatus", "replSetHeartbeat", "replSetInitiate",
    "replSetReconfig", "replSetStepDown", "replSetUpdatePosition", "revokeRolesFromUser",
    "rolesInfo", "saslContinue", "saslStart", "serverStatus", "setFeatureCompatibilityVersion",
    "setParameter", "shardCollection", "shutdown", "split", "startSession", "top", "update",
    "updateUser", "usersInfo", "validate", "whatsmyuri",
))  # fmt: skip

#: The servers' error codes that are counted under their own name (the manual's "Error Codes").
CODE_NAMES: Final = {
    1: "InternalError", 2: "BadValue", 4: "NoSuchKey", 5: "GraphContainsCycle",
    6: "HostUnreachable", 7: "HostNotFound", 8: "UnknownError", 9: "FailedToParse",
    10: "CannotMutateObject", 11: "UserNotFound", 12: "UnsupportedFormat", 13: "Unauthorized",
    14: "TypeMismatch", 17: "ProtocolError", 18: "AuthenticationFailed", 20: "IllegalOperation",
    22: "InvalidBSON", 24: "LockTimeout", 26: "NamespaceNotFound", 27: "IndexNotFound",
    28: "PathNotViable", 31: "RoleNotFound", 40: "ConflictingUpdateOperators", 43: "CursorNotFound",
    48: "NamespaceExists", 50: "MaxTimeMSExpired", 51: "DollarPrefixedFieldName",
    52: "DollarPrefixedFieldName", 57: "DottedFieldName", 59: "CommandNotFound",
    63: "StaleShardVersion", 64: "WriteConcernFailed", 66: "ImmutableField",
    67: "CannotCreateIndex", 70: "ShardNotFound", 72: "InvalidOptions", 73: "InvalidNamespace",
    79: "UnknownReplWriteConcern", 85: "IndexOptionsConflict", 86: "IndexKeySpecsConflict",
    89: "NetworkTimeout", 91: "ShutdownInProgress", 94: "NotYetInitialized", 96: "OperationFailed",
    100: "UnsatisfiableWriteConcern", 112: "WriteConflict", 115: "CommandNotSupported",
    117: "ConflictingOperationInProgress", 121: "DocumentValidationFailure", 125: "CommandFailed",
    133: "FailedToSatisfyReadPreference", 134: "ReadConcernMajorityNotAvailableYet",
    136: "CappedPositionLost", 146: "ExceededMemoryLimit", 150: "StaleEpoch",
    166: "CommandNotSupportedOnView", 175: "QueryPlanKilled",
    186: "CommandOnShardedViewNotSupportedOnMongod", 189: "PrimarySteppedDown",
    191: "InvalidSSLConfiguration", 202: "NetworkInterfaceExceededTimeLimit", 206: "NoSuchSession",
    207: "InvalidUUID", 211: "KeyNotFound", 213: "DuplicateSession",
    217: "IncompleteTransactionHistory", 225: "TransactionTooOld", 228: "ElectionInProgress",
    233: "TooManyDocumentSequences", 234: "RetryChangeStream", 237: "CursorKilled",
    238: "NotImplemented", 239: "SnapshotTooOld", 244: "TransactionAborted",
    246: "SnapshotUnavailable", 248: "ProducerConsumerQueueBatchTooLarge", 251: "NoSuchTransaction",
    256: "TransactionCommitted", 257: "TransactionTooLarge", 261: "TooManyLogicalSessions",
    262: "ExceededTimeLimit", 263: "OperationNotSupportedInTransaction",
    267: "PreparedTransactionInProgress", 280: "ChangeStreamFatalError",
    286: "ChangeStreamHistoryLost", 290: "TransactionExceededLifetimeLimitSeconds",
    292: "QueryExceededMemoryLimitNoDiskUseAllowed", 314: "ObjectIsBusy",
    318: "MovePrimaryInProgress", 322: "APIVersionError", 323: "APIStrictError",
    391: "ReauthenticationRequired", 9001: "SocketException",
    10003: "CannotGrowDocumentInCappedNamespace", 10107: "NotWritablePrimary",
    10334: "BSONObjectTooLarge", 11000: "DuplicateKey", 11600: "InterruptedAtShutdown",
    11601: "Interrupted", 11602: "InterruptedDueToReplStateChange", 13388: "StaleConfig",
    13435: "NotPrimaryNoSecondaryOk", 13436: "NotPrimaryOrSecondary", 20250: "ConversionFailure",
}  # fmt: skip

#: What somebody can do with a session that nobody should (:mod:`proxy.conversation.incidents`).
SESSION_INCIDENTS: Final = ("concurrent", "shared", "txn_number_backwards", "foreign_uid")
CONTROL_RESULTS: Final = ("done", "refused", "failed")
RULE_DECISIONS: Final = ("refused", "reported", "aborted", "failed")
#: The owner by a command of their own; somebody else by a command; the admin endpoint.
INITIATORS: Final = ("owner", "other", "admin")

#: Characters of a user's or an application's name that a label holds.
_LONGEST: Final = 100


def code_name(code: int | None) -> str:
    """What errors with this code are counted as; None is a reply without a code."""
    return OTHER if code is None else CODE_NAMES.get(code, OTHER)


def clean(name: str) -> str:
    """A name that a client or a user chose as the value of a label: short, and printable."""
    return shown(name, _LONGEST)
