"""The server's errors that the session code gives, with their exact texts.

Source: recorded answers of a server 4.2; where none was recorded, the texts that the servers
of 3.6 to 4.2 share.
"""

from __future__ import annotations

from proxy.errors import CommandError

TRANSIENT = ("TransientTransactionError",)


def _location(code: int, errmsg: str) -> CommandError:
    return CommandError(code, f"Location{code}", errmsg)


def bad_value(errmsg: str) -> CommandError:
    return CommandError(2, "BadValue", errmsg)


def too_long(what: str) -> CommandError:
    """For what servers take and nobody sends: to look at it would hold up everybody else."""
    return bad_value(f"too much in one command: {what}")


def unauthorized(errmsg: str) -> CommandError:
    return CommandError(13, "Unauthorized", errmsg)


def type_mismatch(errmsg: str) -> CommandError:
    return CommandError(14, "TypeMismatch", errmsg)


def invalid_options(errmsg: str) -> CommandError:
    return CommandError(72, "InvalidOptions", errmsg)


def not_in_transactions(errmsg: str) -> CommandError:
    return CommandError(263, "OperationNotSupportedInTransaction", errmsg)


def wrong_type(path: str, found: str, expected: str) -> CommandError:
    return type_mismatch(
        f"BSON field '{path}' is the wrong type '{found}', expected type '{expected}'"
    )


def wrong_subtype(path: str, found: str, expected: str) -> CommandError:
    return type_mismatch(
        f"BSON field '{path}' is the wrong bindData type '{found}', expected type '{expected}'"
    )


def duplicate_field(path: str) -> CommandError:
    return _location(40413, f"BSON field '{path}' is a duplicate field")


def missing_field(path: str) -> CommandError:
    return _location(40414, f"BSON field '{path}' is missing but a required field")


def unknown_field(path: str) -> CommandError:
    return _location(40415, f"BSON field '{path}' is an unknown field.")


def array_field_name(path: str, name: str) -> CommandError:
    return _location(
        40422,
        f"BSON array field '{path}' has an invalid value '{name}' for an array field name.",
    )


def array_field_order(path: str, found: int, expected: int) -> CommandError:
    return _location(
        40423,
        f"BSON array field '{path}' has a non-sequential value '{found}' for an array field"
        f" name, expected value '{expected}'.",
    )


def not_an_array(name: str) -> CommandError:
    return _location(10065, f"invalid parameter: expected an object ({name})")


def no_sequences(command: str) -> CommandError:
    return _location(40472, f"The {command} command does not support document sequences.")


def requires_authentication(command: str) -> CommandError:
    return unauthorized(f"command {command} requires authentication")


def digest_length(length: int) -> CommandError:
    return CommandError(12, "UnsupportedFormat", f"Unsupported SHA256Block hash length: {length}")


def duplicate_key(name: str) -> CommandError:
    return CommandError(
        9, "FailedToParse", f"Parsed command object contains duplicate top level key: {name}"
    )


def not_retryable(command: str) -> CommandError:
    return _location(
        50768,
        "txnNumber may only be provided for multi-document transactions and retryable write"
        f" commands. autocommit:false was not provided, and {command} is not a retryable write"
        " command.",
    )


def transaction_too_old(number: int, lsid: object, newer: int) -> CommandError:
    return CommandError(
        225,
        "TransactionTooOld",
        f"Cannot start transaction {number} on session {lsid} because a newer transaction"
        f" {newer} has already started.",
    )


def no_such_transaction(errmsg: str) -> CommandError:
    """251, which drivers retry as a whole transaction because of its label."""
    return CommandError(251, "NoSuchTransaction", errmsg, TRANSIENT)


INVALID_UUID = CommandError(
    207, "InvalidUUID", "uuid must be a 16-byte binary field with UUID (4) subtype"
)
FOREIGN_DIGEST = unauthorized("Unauthorized to set user digest in LogicalSessionId")
NO_USERS = unauthorized("there are no users authenticated")
TOO_MANY_USERS = unauthorized("too many users are authenticated")
NAME_TOO_LONG = bad_value("Username too long to use with logical sessions")
NO_IMPERSONATION = unauthorized("Not authorized to impersonate in killAllSessionsByPattern")
TOO_MANY_SESSIONS = CommandError(261, "TooManyLogicalSessions", "cannot add session into the cache")
INTERRUPTED = CommandError(11601, "Interrupted", "operation was interrupted")
NO_WRITE_CONCERN = invalid_options("Command does not support writeConcern")

TXN_ILLEGAL_HERE = _location(50889, "It is illegal to provide a txnNumber for this command")
AUTOCOMMIT_ILLEGAL_HERE = not_in_transactions("This command is not supported in transactions")
TXN_WITHOUT_LSID = invalid_options("Transaction number requires a session ID to also be specified")
TXN_ON_STANDALONE = CommandError(
    20,
    "IllegalOperation",
    "Transaction numbers are only allowed on a replica set member or mongos",
)
TXN_NEGATIVE = invalid_options("Transaction number cannot be negative")
AUTOCOMMIT_WITHOUT_TXN = invalid_options(
    "'autocommit' field requires a transaction number to also be specified"
)
AUTOCOMMIT_TRUE = invalid_options("Specifying autocommit=true is not allowed.")
START_WITHOUT_AUTOCOMMIT = invalid_options(
    "'startTransaction' field requires 'autocommit' field to also be specified"
)
START_FALSE = invalid_options("Specifying startTransaction=false is not allowed.")
#: Of 6.0 and later, where servers have sessions of their own below a client's.
LSID_NUMBER_ALONE = invalid_options("Cannot specify txnNumber in lsid without specifying txnUUID")
CHILD_OF_CLIENT = invalid_options("Internal sessions are only allowed for internal clients")
CHILD_WITHOUT_TRANSACTION = invalid_options(
    "Internal sessions are not supported outside of transactions"
)
CHILD_IN_PATTERN = invalid_options("Cannot kill a child session")
RETRY_COUNTER_OF_CLIENT = invalid_options("txnRetryCounter is only allowed for internal clients")
RETRY_COUNTER_WITHOUT_TRANSACTION = invalid_options(
    "txnRetryCounter is only supported in transactions"
)
RETRY_COUNTER_NEGATIVE = invalid_options("Transaction retry counter cannot be negative")
BOTH_STMT_ID_FORMS = invalid_options("May not specify both stmtId and stmtIds in write command")
