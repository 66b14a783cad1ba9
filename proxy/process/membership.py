"""What a connection counts for while it is used: its client's address, and its user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from proxy.conversation.overload import RATE_LIMITED
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.conversation.recorder import Asker
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

    def join(self, peer: str, desk: Asker) -> CommandError | None:
        """Count it for ``peer``'s address and for who is logged in there, if anybody is; or why it
        is one too many, and then it is counted as before."""
        user = desk.identity.name
        crowds, limits = self._shared.crowds, self._shared.config.limits
        # Through a unix socket all come from the same place.
        host = peer.rpartition(":")[0]
        most = {"address": limits.connections_per_address, "user": limits.connections_per_user}
        wanted = {kind: name for kind, name in (("address", host), ("user", user)) if name}
        for kind, name in wanted.items():
            is_new = self.groups.get(kind) != name
            if is_new and most[kind] and crowds.count((kind, name)) >= most[kind]:
                return self._refused(peer, desk, kind, most[kind])
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

    def _refused(self, peer: str, desk: Asker, kind: str, most: int) -> CommandError:
        name = desk.identity.name if kind == "user" else peer.rpartition(":")[0]
        text = f"too many connections in use: {kind} {name} may have {most}"
        error = CommandError(RATE_LIMITED, "IngressRequestRateLimitExceeded", text, _LABELS)
        if not self._over:
            self._over = True
            shared, bound, now = self._shared, f"connections_per_{kind}", trio.current_time()
            shared.telemetry.over(kind)
            shared.crowded.warn(now, client=peer, reason=f"limits.{bound}", **{kind: name})
            shared.sessions.recorder.crowded(error.because(text, bound, most), now, desk)
        return error
