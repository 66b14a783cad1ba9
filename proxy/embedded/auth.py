"""Logging in and out, and who one is: sasl*, authenticate, logout, connectionStatus."""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from proxy.embedded.call import Answer, Call, Command
from proxy.embedded.failures import failure
from proxy.embedded.scram import MECHANISMS, Conversation, Credential

if TYPE_CHECKING:
    from proxy.embedded.engine import Document
    from proxy.embedded.roles import Privileges
    from proxy.embedded.users import User

_REFUSED: Final = "Authentication failed."


def _payload(body: Document) -> bytes:
    payload = body.get("payload", b"")
    if isinstance(payload, str):
        try:
            return b64decode(payload, validate=True)
        except ValueError as error:
            raise failure(18, _REFUSED) from error
    if not isinstance(payload, bytes):
        raise failure(14, "payload must be binary data or a string")
    return bytes(payload)


def _start(call: Call, database: str, body: Document) -> Document:
    mechanism = body.get("mechanism")
    client = call.client
    client.conversation = None
    if mechanism == "PLAIN" and database == "$external":
        return _plain(call, body)
    if not isinstance(mechanism, str) or mechanism not in MECHANISMS:
        raise failure(
            334, f"Received authentication for mechanism {mechanism} which is not enabled"
        )

    def credential(name: str) -> Credential | None:
        user = call.node.users.find(name, database)
        return None if user is None else user.credentials.get(mechanism)

    options = body.get("options")
    skip = isinstance(options, dict) and options.get("skipEmptyExchange") is True
    client.conversation = Conversation(mechanism, credential, skip)
    client.conversation_database = database
    return _advance(call, body)


def _plain(call: Call, body: Document) -> Document:
    parts = _payload(body).split(b"\0")
    if len(parts) != 3:
        raise failure(18, _REFUSED)
    name, password = parts[1].decode("utf-8", "replace"), parts[2]
    user = call.node.users.find(name, "$external")
    if user is None or not hmac.compare_digest(user.password.encode(), password):
        raise failure(18, _REFUSED)
    _log_in(call, user)
    return {"conversationId": 1, "done": True, "payload": b""}


def _advance(call: Call, body: Document) -> Document:
    client = call.client
    conversation = client.conversation
    assert conversation is not None
    try:
        answer = conversation.step(_payload(body))
    except Exception:
        client.conversation = None
        raise
    if conversation.done:
        client.conversation = None
        _log_in(call, call.node.users.get(conversation.user, client.conversation_database))
    return {"conversationId": 1, "done": conversation.done, "payload": answer}


def _log_in(call: Call, user: User) -> None:
    """One user per database: a second one of the same database takes the first one's place.

    From 6.0 on it is one per connection.

    Raises:
        CommandError: 5626701 or 5626702, for another one.
    """
    users = call.client.users
    if call.version.one_user:
        known = call.client.expired or (users[0] if users else None)
        if known is not None and known.full_name != user.full_name:
            raise failure(
                5626701 if known.database == user.database else 5626702,
                "Each client connection may only be authenticated once. Previously authenticated "
                f"as: {known.full_name}",
            )
        users[:] = [user]
        call.client.expired = None
        return
    for index, other in enumerate(users):
        if other.database == user.database:
            users[index] = user
            return
    users.append(user)


def speculative(call: Call, body: Document) -> Document:
    """The answer to a saslStart inside hello; raises where the server leaves it out."""
    database = body.get("db")
    if "saslStart" not in body or not isinstance(database, str):
        raise failure(2, "speculativeAuthenticate needs saslStart and db")
    return _start(call, database, body)


def _sasl_start(call: Call) -> Answer:
    return _start(call, call.database, call.body)


def _sasl_continue(call: Call) -> Answer:
    client = call.client
    if client.conversation is None:
        raise failure(17, "No SASL session state found")
    if call.body.get("conversationId") != 1:
        raise failure(17, "sasl: Mismatched conversation id")
    if call.database != client.conversation_database:
        raise failure(17, "Attempt to switch database target during SASL authentication.")
    return _advance(call, call.body)


def _authenticate(call: Call) -> Answer:
    mechanism = call.body.get("mechanism")
    raise failure(334, f"Received authentication for mechanism {mechanism} which is not enabled")


def _logout(call: Call) -> Answer:
    users = call.client.users
    users[:] = [user for user in users if user.database != call.database]
    expired = call.client.expired
    if expired is not None and expired.database == call.database:
        call.client.expired = None
    return {}


def _get_nonce(call: Call) -> Answer:
    return {"nonce": secrets.token_hex(8)}


def shown_privileges(privileges: Privileges) -> list[Any]:
    """Privileges as connectionStatus and usersInfo show them."""
    return [
        {"resource": dict(resource), "actions": sorted(actions)}
        for resource, actions in privileges.items()
    ]


def _connection_status(call: Call) -> Answer:
    users = call.users
    roles = [role for user in users for role in user.roles]
    info: Document = {
        "authenticatedUsers": [{"user": user.name, "db": user.database} for user in users],
        "authenticatedUserRoles": [{"role": role, "db": database} for role, database in roles],
    }
    if call.option("showPrivileges"):
        info["authenticatedUserPrivileges"] = shown_privileges(call.privileges())
    return {"authInfo": info}


COMMANDS: Final = {
    "saslStart": Command(_sasl_start, public=True),
    "saslContinue": Command(_sasl_continue, public=True),
    "authenticate": Command(_authenticate, public=True),
    "logout": Command(_logout, public=True),
    "getnonce": Command(_get_nonce, public=True),
    "connectionStatus": Command(_connection_status, public=True),
}
