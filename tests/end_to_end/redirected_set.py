"""A replica set of embedded servers, in a process of its own.

    python -m tests.end_to_end.redirected_set 10.0.0.2:27017 10.0.0.3:27017

Each listens on its address and goes by it. The first is the primary; a line ``elect 1`` to stdin
makes it the second one (from 0). They have the user alice and the operator olivia, and nothing is
replicated: what a member holds tells which one it is.
"""

from __future__ import annotations

import sys
from typing import Any

import bson
import trio

from proxy.embedded import EmbeddedUpstream, EmbeddedUser, hello

USERS = (
    EmbeddedUser("alice", "admin", "wonderland", (("readWrite", "app"),)),
    EmbeddedUser("olivia", "admin", "looking-glass", (("root", "admin"),)),
)


class Elected:
    """Who is the primary, as all members say it."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.primary = 0
        self.term = 1
        self._reply = hello._reply

    def reply(self, call: Any) -> dict[str, Any]:
        own = self.addresses.index(call.node.address) == self.primary
        told = self._reply(call)
        told |= {"hosts": self.addresses, "primary": self.addresses[self.primary]}
        told |= {"isWritablePrimary" if call.name == "hello" else "ismaster": own}
        told |= {"secondary": not own}
        # Without the second, drivers ask instead of waiting.
        told.pop("electionId")
        told.pop("topologyVersion", None)
        return told | ({"electionId": bson.ObjectId(f"7fffffff{self.term:016x}")} if own else {})


async def main(addresses: list[str]) -> None:
    elected = Elected(addresses)
    hello._reply = elected.reply  # type: ignore[assignment]
    async with trio.open_nursery() as nursery:
        for address in addresses:
            host, _, port = address.rpartition(":")
            member = EmbeddedUpstream(authorization=True, users=USERS, version="4.4")
            await nursery.start(member.serve, host.strip("[]"), int(port))
        print("ready", flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            elected.primary = int(line.split()[1])
            elected.term += 1
            print("elected", flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
