"""What a connection to the embedded server remembers of its client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.embedded.engine import Document
    from proxy.embedded.scram import Conversation
    from proxy.embedded.users import User


@dataclass(slots=True)
class Client:
    """Who is at the other end. ``address`` is ``host:port``, ``id`` the connection's number."""

    address: str
    id: int
    users: list[User] = field(default_factory=list)
    #: Whose login has expired; only the same user may log in again.
    expired: User | None = None
    #: Another server is at the other end: its hello said so.
    internal: bool = False
    conversation: Conversation | None = None
    conversation_database: str = ""
    metadata: Document | None = None
    #: It has said that it knows of the load balancer which it comes through.
    balanced: bool = False
    compressors: list[str] = field(default_factory=list)
    #: A command asked that the connection close instead of answering.
    closing: bool = False

    @property
    def app_name(self) -> str:
        """``application.name`` of the client's metadata."""
        application = (self.metadata or {}).get("application")
        name = application.get("name", "") if isinstance(application, dict) else ""
        return str(name)
