"""What a command handler is given, and how it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.embedded.engine import Document, Engine, Namespace
from proxy.embedded.failures import failure, unauthorized
from proxy.embedded.printing import printed_command, type_name
from proxy.embedded.roles import CLUSTER, Privileges, Resource, collection, covers
from proxy.embedded.sessions import NO_OWNER, ClientLsid, Session, SessionKey, user_digest

if TYPE_CHECKING:
    from proxy.embedded.client import Client
    from proxy.embedded.node import Node, Operation
    from proxy.embedded.transactions import Transaction
    from proxy.embedded.users import User
    from proxy.embedded.versions import Version

#: ``user@db`` in bytes must stay below this for a session to be keyed by it.
MAX_USER_NAME = 10_000


@dataclass(slots=True)
class Later:
    """A command that waits: ``attempt(now)`` gives its reply, or None to wait on.

    It is called whenever something changed and at ``deadline`` (Unix time). It may also give
    another thing to wait for.
    """

    deadline: float
    attempt: Callable[[float], Answer | None]


Answer = Document | Later


@dataclass(slots=True)
class Call:
    """One command of one client. ``now`` is Unix time in seconds."""

    node: Node
    client: Client
    name: str
    database: str
    body: Document
    now: float
    sequences: tuple[str, ...] = ()
    exhaust: bool = False
    session: Session | None = None
    #: The key of the command's session, a child's own; ``session`` is the child's parent then.
    key: SessionKey | None = None
    txn_number: int | None = None
    #: The open multi-document transaction that this command belongs to.
    transaction: Transaction | None = None
    operation: Operation | None = None
    #: Statements of a retryable write that an earlier attempt has carried out.
    retried: list[int] = field(default_factory=list)
    more_to_come: bool = field(default=False)

    @property
    def version(self) -> Version:
        """What the server does as a server of its version."""
        return self.node.version

    @property
    def state(self) -> Transaction | None:
        """The transaction state of the command's session or child session."""
        if self.session is None or self.key is None:
            return None
        return self.session.state(self.key)

    @property
    def users(self) -> list[User]:
        """Everybody authenticated on the connection."""
        return self.client.users

    def privileges(self) -> Privileges:
        """What the users' roles grant together."""
        roles = [role for user in self.users for role in user.roles]
        return self.node.users.privileges(roles)

    def may(self, resource: Resource, *actions: str) -> bool:
        """Whether every one of ``actions`` is allowed; always, with authorization off."""
        if not self.node.authorization or self.makes_first_user:
            return True
        granted = self.privileges()
        return all(covers(granted, resource, action) for action in actions)

    @property
    def makes_first_user(self) -> bool:
        """The localhost exception: while there are no users, anybody may make the first one."""
        return self.name == "createUser" and not len(self.node.users)

    def may_on_cluster(self, *actions: str) -> bool:
        """As :meth:`may`, on the cluster resource."""
        return self.may(CLUSTER, *actions)

    def need(self, resource: Resource, *actions: str) -> None:
        """Refuse (13, the command printed) what :meth:`may` does not allow."""
        if not self.may(resource, *actions):
            raise self.not_authorized()

    def not_authorized(self) -> Exception:
        """13 with the whole command printed."""
        return unauthorized(
            f"not authorized on {self.database} to execute command {printed_command(self.body)}"
        )

    def own_digest(self, *, check_length: bool = True) -> bytes:
        """The uid of the caller's own sessions.

        Raises:
            CommandError: 13 where not exactly one user is authenticated, 2 for a name too long.
        """
        if not self.node.authorization:
            return NO_OWNER
        user = self.only_user()
        if check_length and len(user.full_name.encode()) >= MAX_USER_NAME:
            raise failure(2, "Username too long to use with logical sessions")
        return user_digest(user.name, user.database)

    def only_user(self) -> User:
        """The one user authenticated.

        Raises:
            CommandError: 13 for none or several.
        """
        if not self.users:
            raise unauthorized(
                "Logical sessions require authentication"
                if self.version.sessions_want_login
                else "there are no users authenticated"
            )
        if len(self.users) > 1:
            raise unauthorized("too many users are authenticated")
        return self.users[0]

    def owner_name(self, key: SessionKey) -> str | None:
        """What the record of a new session says of its owner: nothing where it is somebody else,
        and nothing with authorization off.
        """
        if not self.node.authorization or len(self.users) != 1:
            return None
        user = self.users[0]
        return user.full_name if key.uid == user_digest(user.name, user.database) else None

    def session_key(self, lsid: ClientLsid, *actions: str) -> SessionKey:
        """The session that an ``lsid`` names. One of ``actions`` allows a foreign uid."""
        if lsid.txn_number is not None and lsid.txn_uuid is None:
            raise failure(72, "Cannot specify txnNumber in lsid without specifying txnUUID")
        own = self.own_digest()
        if lsid.uid is not None and lsid.uid != own:
            if not any(self.may_on_cluster(action) for action in actions):
                raise unauthorized("Unauthorized to set user digest in LogicalSessionId")
            own = lsid.uid
        return SessionKey(lsid.id, own, lsid.txn_number, lsid.txn_uuid)

    @property
    def ns(self) -> Namespace:
        """The namespace that the command's first value names.

        Raises:
            CommandError: 73 where it is no collection's name.
        """
        name = self.body[self.name]
        if not isinstance(name, str):
            raise failure(73, f"collection name has invalid type {type_name(name)}")
        if not name or name.startswith(".") or "\0" in name:
            raise failure(73, f"Invalid namespace specified '{self.database}.{name}'")
        return (self.database, name)

    @property
    def resource(self) -> Resource:
        """The collection that the command names, as a resource."""
        return collection(*self.ns)

    def engine(self, ns: Namespace) -> Engine:
        """Where to read and write ``ns``: the transaction's own view or the shared one."""
        if self.transaction is None:
            return self.node.engine
        return self.transaction.engine(self.node.engine, ns)

    def option(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - a BSON value
        """A field's value; ``default`` where it is missing or null."""
        value = self.body.get(name)
        return default if value is None else value

    def number(self, name: str, default: int = 0) -> int:
        """A numeric field as an int.

        Raises:
            CommandError: 14.
        """
        value = self.option(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise failure(14, f"Failed to parse: {name}: '{name}' field must be numeric.")
        return int(value)

    def document(self, name: str) -> Document:
        """A field that is a document; empty where missing or null.

        Raises:
            CommandError: 14.
        """
        value = self.option(name, {})
        if not isinstance(value, dict):
            raise failure(
                14,
                f"Expected field '{name}' to be of type object, found {type_name(value)}",
            )
        return value


Handler = Callable[[Call], Answer]
Check = Callable[[Call], None]


def nothing(call: Call) -> None:
    """A command that needs no privilege."""


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the command table.

    ``check`` raises 13 where privileges lack; ``parse`` judges the arguments before anything else
    does. ``public`` commands run unauthenticated.
    """

    run: Handler
    check: Check = nothing
    parse: Check | None = None
    public: bool = False
    admin_only: bool = False
    sequences: tuple[str, ...] = ()
    in_transaction: bool = False
    #: Changes what there is; some versions allow that in transactions.
    schema: bool = False
    #: Takes no session of its own where the version's kills are detached.
    kills: bool = False
    retryable: bool = False
    write_concern: bool = False
    read_concern: bool = False
    ends_transaction: bool = False
    #: ``maxTimeMS`` says how long to wait for news, not how long the command may take.
    awaits: bool = False

    def serves_anybody(self, call: Call) -> bool:
        """Whether ``call`` needs no login."""
        return self.public or call.version.lets_in(call.name)


def on_cluster(*actions: str) -> Check:
    """A check for actions on the cluster."""

    def check(call: Call) -> None:
        if not call.may_on_cluster(*actions):
            raise call.not_authorized()

    return check


def on_collection(*actions: str) -> Check:
    """A check for actions on the collection that the command names."""

    def check(call: Call) -> None:
        call.need(call.resource, *actions)

    return check


def on_database(*actions: str) -> Check:
    """A check for actions on the whole database."""

    def check(call: Call) -> None:
        call.need(collection(call.database, ""), *actions)

    return check
