"""The embedded upstream as a process of its own; prints its port and serves until it is ended.

usage: python -m tests.clients.embedded_main SET_NAME|- [authorization]
"""

from __future__ import annotations

import sys

import trio

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.users import EmbeddedUser

USERS = [
    EmbeddedUser("alice", "app", "pw", (("readWrite", "app"),)),
    EmbeddedUser("root", "admin", "pw", (("root", "admin"),)),
]


async def main() -> None:
    set_name, *options = sys.argv[1:]
    upstream = EmbeddedUpstream(
        authorization="authorization" in options,
        users=USERS,
        set_name=None if set_name == "-" else set_name,
    )
    async with trio.open_nursery() as nursery:
        print(await nursery.start(upstream.serve, "127.0.0.1", 0), flush=True)


trio.run(main)
