"""The embedded upstream as a process of its own; prints its port and serves until its standard
input ends.

usage: python -m tests.clients.embedded_main SET_NAME|- [authorization] [VERSION]
"""

from __future__ import annotations

import sys

import trio

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.users import EmbeddedUser
from proxy.embedded.versions import DEFAULT, VERSIONS

USERS = [
    EmbeddedUser("alice", "app", "pw", (("readWrite", "app"),)),
    EmbeddedUser("root", "admin", "pw", (("root", "admin"),)),
]


async def main() -> None:
    set_name, *options = sys.argv[1:]
    versions = [option for option in options if option in VERSIONS]
    upstream = EmbeddedUpstream(
        authorization="authorization" in options,
        users=USERS,
        set_name=None if set_name == "-" else set_name,
        version=versions[0] if versions else DEFAULT,
    )
    async with trio.open_nursery() as nursery:
        print(await nursery.start(upstream.serve, "127.0.0.1", 0), flush=True)
        # Whoever started it is gone when its standard input ends.
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


trio.run(main)
