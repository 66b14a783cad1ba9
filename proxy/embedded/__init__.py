"""A small MongoDB server in this process: equipment for demonstrations and tests.

It speaks the wire protocol itself and lets mongomock evaluate queries. It is a real peer for
drivers and for the proxy, not a database: data lives in memory, there is one member, and it
runs only where somebody asks for it. Which server version it plays is asked for too;
``versions`` says what each does otherwise.
"""

from __future__ import annotations

from proxy.embedded.server import EmbeddedUpstream
from proxy.embedded.users import EmbeddedRole, EmbeddedUser

__all__ = ["EmbeddedRole", "EmbeddedUpstream", "EmbeddedUser"]
