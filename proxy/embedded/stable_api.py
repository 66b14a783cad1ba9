"""The Stable API: ``apiVersion``, ``apiStrict``, ``apiDeprecationErrors``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.embedded.failures import failure, type_mismatch
from proxy.embedded.printing import printed
from proxy.embedded.words import words

if TYPE_CHECKING:
    from proxy.embedded.call import Call
    from proxy.embedded.engine import Document
    from proxy.embedded.transactions import Transaction

_TYPES: Final = {
    "apiVersion": (str, "string"),
    "apiStrict": (bool, "bool"),
    "apiDeprecationErrors": (bool, "bool"),
}

#: The commands of API version 1 that this server has.
_VERSION_1: Final = words(
    "abortTransaction aggregate authenticate bulkWrite collMod commitTransaction count create "
    "createIndexes delete drop dropDatabase dropIndexes endSessions explain find findAndModify "
    "getMore hello insert killCursors listCollections listDatabases listIndexes ping "
    "refreshSessions saslContinue saslStart update"
)
_MORE: Final = (
    ". Information on supported commands and migrations in API Version 1 can be found at "
    "https://dochub.mongodb.org/core/manual-versioned-api."
)


def parameters(body: Document) -> Document:
    """The API parameters that a command has."""
    return {name: body[name] for name in _TYPES if body.get(name) is not None}


def check(call: Call) -> None:
    """Judge a command's API parameters.

    Raises:
        CommandError: 14, 322, 323, 4886600 or 498870.
    """
    version = call.version
    if not version.stable_api:
        return
    given = parameters(call.body)
    for name, value in given.items():
        kind, expected = _TYPES[name]
        if not isinstance(value, kind):
            raise type_mismatch(f"APIParametersFromClient.{name}", value, expected)
    if "apiVersion" not in given:
        exempt = version.internal_exempt and call.client.internal
        if call.node.parameters.get("requireApiVersion") and not exempt:
            raise failure(
                498870,
                "The apiVersion parameter is required, please configure your MongoClient's API "
                "version",
            )
        if given:
            raise failure(
                4886600,
                "Provided apiStrict and/or apiDeprecationErrors without passing apiVersion",
            )
        return
    if given["apiVersion"] != "1":
        raise failure(322, f"Cannot accept API version {given['apiVersion']}")
    if given.get("apiStrict") and call.name not in _VERSION_1:
        raise failure(
            323,
            f"Provided apiStrict:true, but the command {call.name} is not in API Version 1"
            f"{_MORE if version.says_where_api else ''}",
        )


def check_first_only(call: Call) -> None:
    """Before the transaction is looked at: 4.9 wants API parameters in its first command only."""
    if call.version.stable_api and not call.version.api_repeated and parameters(call.body):
        raise failure(
            4937700,
            "API parameters are only allowed in the first command of a multi-document transaction",
        )


def check_same(call: Call, transaction: Transaction) -> None:
    """A later command of a transaction repeats the parameters of its first one (347)."""
    given = parameters(call.body)
    if call.version.api_repeated and given != transaction.api:
        raise failure(
            347,
            f"API parameter mismatch: {call.name} used params {printed(given)}, the transaction's "
            f"first command used {printed(transaction.api)}",
        )
