"""What a connection counts for while it is used: its client's address, and its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from proxy.conversation.overload import RATE_LIMITED
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.process.shared import Shared

#: Nothing was looked at: drivers that know of it ask again, later and later, and none takes it for
#: a server that is away.
_LABELS: Final = ("SystemOverloadedError", "RetryableError")


class Membership:
    """One connection's. It counts from the first request that is no part of a handshake."""

    __slots__ = ("_over", "_shared", "groups")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._over = False
        #: The address and the user that it is counted for.
        self.groups: dict[str, str] = {}

    def join(self, peer: str, user: str) -> CommandError | None:
        """Count it for ``peer``'s address and for a user, "" for nobody; or why it is one too
        many, and then it is counted as before."""
        crowds, limits = self._shared.crowds, self._shared.config.limits
        # Through a unix socket all come from the same place.
        host = peer.rpartition(":")[0]
        most = {"address": limits.connections_per_address, "user": limits.connections_per_user}
        wanted = {kind: name for kind, name in (("address", host), ("user", user)) if name}
        for kind, name in wanted.items():
            is_new = self.groups.get(kind) != name
            if is_new and most[kind] and crowds.count((kind, name)) >= most[kind]:
                return self._refused(peer, kind, name, most[kind])
        for group in wanted.items() - self.groups.items():
            crowds.join(group)
        for group in self.groups.items() - wanted.items():
            crowds.leave(group)
        self.groups = wanted
        return None

    def leave(self) -> None:
        """It is over."""
        for group in self.groups.items():
            self._shared.crowds.leave(group)
        self.groups = {}

    def _refused(self, peer: str, kind: str, name: str, most: int) -> CommandError:
        if not self._over:
            self._over = True
            self._shared.telemetry.over(kind)
            self._shared.crowded.warn(
                trio.current_time(),
                client=peer,
                reason=f"limits.connections_per_{kind}",
                **{kind: name},
            )
        text = f"too many connections in use: {kind} {name} may have {most}"
        return CommandError(RATE_LIMITED, "IngressRequestRateLimitExceeded", text, _LABELS)
