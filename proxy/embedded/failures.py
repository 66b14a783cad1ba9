"""Server errors by number: the names that MongoDB gives to its codes."""

from __future__ import annotations

from typing import Final

from proxy.embedded.printing import type_name
from proxy.errors import CommandError

TRANSIENT: Final = "TransientTransactionError"

_NAMES: Final = {
    2: "BadValue",
    8: "UnknownError",
    9: "FailedToParse",
    11: "UserNotFound",
    12: "UnsupportedFormat",
    13: "Unauthorized",
    14: "TypeMismatch",
    16: "InvalidLength",
    17: "ProtocolError",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    22: "InvalidBSON",
    26: "NamespaceNotFound",
    27: "IndexNotFound",
    31: "RoleNotFound",
    43: "CursorNotFound",
    48: "NamespaceExists",
    50: "MaxTimeMSExpired",
    52: "DollarPrefixedFieldName",
    59: "CommandNotFound",
    61: "ShardKeyNotFound",
    66: "ImmutableField",
    67: "CannotCreateIndex",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    76: "NoReplicationEnabled",
    85: "IndexOptionsConflict",
    86: "IndexKeySpecsConflict",
    112: "WriteConflict",
    96: "OperationFailed",
    115: "CommandNotSupported",
    117: "ConflictingOperationInProgress",
    125: "CommandFailed",
    168: "InvalidPipelineOperator",
    183: "ClientMetadataMissingField",
    184: "ClientMetadataAppNameTooLarge",
    185: "ClientMetadataDocumentTooLarge",
    186: "ClientMetadataCannotBeMutated",
    207: "InvalidUUID",
    225: "TransactionTooOld",
    237: "CursorKilled",
    238: "NotImplemented",
    251: "NoSuchTransaction",
    217: "IncompleteTransactionHistory",
    256: "TransactionCommitted",
    261: "TooManyLogicalSessions",
    262: "ExceededTimeLimit",
    263: "OperationNotSupportedInTransaction",
    288: "ChecksumMismatch",
    322: "APIVersionError",
    323: "APIStrictError",
    334: "MechanismUnavailable",
    347: "APIMismatchError",
    352: "UnsupportedOpQueryCommand",
    354: "LoadBalancerSupportMismatch",
    391: "ReauthenticationRequired",
    462: "IngressRequestRateLimitExceeded",
    11000: "DuplicateKey",
    11600: "InterruptedAtShutdown",
    11601: "Interrupted",
}


def code_name(code: int) -> str:
    """The symbolic name of an error code; ``Location<n>`` where it has none."""
    return _NAMES.get(code, f"Location{code}")


def failure(code: int, errmsg: str, *labels: str) -> CommandError:
    """A :class:`CommandError` with the server's name for ``code``."""
    return CommandError(code, code_name(code), errmsg, labels)


def type_mismatch(path: str, value: object, expected: str) -> CommandError:
    """14, as the server's IDL parsers put it. ``path`` is the dotted field with its root."""
    return failure(
        14,
        f"BSON field '{path}' is the wrong type '{type_name(value)}', expected type '{expected}'",
    )


def unauthorized(errmsg: str) -> CommandError:
    """13 with this text."""
    return failure(13, errmsg)
