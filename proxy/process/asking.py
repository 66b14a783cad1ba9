"""What a client connection is used for, and what can be asked upstream between its requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from proxy.listing import seconds_since, uuid_text
from proxy.session.identity import EVERYBODY
from proxy.session.records import Operation

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.conversation.conversation import Conversation
    from proxy.net.relay import Relay
    from proxy.process.membership import Membership
    from proxy.session.ids import Origin
    from proxy.wire.replies import Reply


class Asking:
    """The part of a connection that others use without a word to its client."""

    __slots__ = ()

    id: int
    upstream: Address
    relay: Relay | None
    _conversation: Conversation | None
    _membership: Membership

    @property
    def origin(self) -> Origin | None:
        """Where it comes from, as its sessions say too; None before that is known."""
        return None if self._conversation is None else self._conversation.desk.origin

    @property
    def moved(self) -> int:
        """Bytes that both sides have sent so far."""
        if self.relay is None:
            return 0
        counts = self.relay.byte_counts()
        return counts[0] + counts[2]

    @property
    def rests(self) -> bool:
        """Whether upstream is reached and nothing is under way, not even a monitor's hello."""
        conversation, relay = self._conversation, self.relay
        if conversation is None or relay is None or relay.reason:
            return False
        return relay.connected and conversation.quiet and not relay.busy

    @property
    def balanced(self) -> bool:
        """Whether its driver goes on with a cursor or transaction on the same connection only."""
        return self._conversation is not None and self._conversation.balanced

    def end_idle(self, seconds: float) -> None:
        """Close, if it still rests: nothing was asked for so many seconds."""
        if self.relay is not None and self.rests:
            self.relay.stop(f"idle: for {seconds:g} s")

    @property
    def greets(self) -> bool:
        """Whether it was asked for hello and for nothing else yet."""
        conversation = self._conversation
        return conversation is not None and conversation.requests == conversation.hellos > 0

    @property
    def monitors(self) -> bool:
        """Whether a driver watches the server by it: it said hello more than once."""
        return self.greets and self._conversation is not None and self._conversation.hellos > 1

    @property
    def awaits_news(self) -> bool:
        """Whether a driver watches by it that has taken in what the server said before."""
        return self._conversation is not None and self._conversation.hellos_wait

    @property
    def works(self) -> bool:
        """Whether it was asked for anything but hello."""
        conversation = self._conversation
        return conversation is not None and conversation.requests > conversation.hellos

    @property
    def use(self) -> str:
        """What its client has it for: "requests", "monitor", or "opened" as long as nothing has
        been asked for that is no part of a handshake."""
        if self.monitors:
            return "monitor"
        return "requests" if self._membership.groups else "opened"

    @property
    def speaks_for(self) -> bytes | None:
        """The owner (a digest) as whom :meth:`ask` would work now; None where it would not."""
        conversation = self._conversation
        if (
            conversation is None
            or self.relay is None
            or not self.relay.connected
            or self.relay.reason
            or not conversation.quiet
        ):
            return None
        return conversation.desk.caller.digest

    @property
    def place(self) -> tuple[str, bytes] | None:
        """The upstream address and the owner (a digest) for which :meth:`ask` would work now."""
        owner = self.speaks_for
        return None if owner is None else (str(self.upstream), owner)

    @property
    def acts_for_all(self) -> bool:
        """Whether upstream would take what :meth:`ask` says of anybody's session."""
        return self._conversation is not None and self._conversation.desk.caller.may("impersonate")

    @property
    def kills_for_all(self) -> bool:
        """Whether :meth:`ask` may kill anybody's sessions."""
        if self._conversation is None:
            return False
        desk = self._conversation.desk
        # Where upstream cannot kill sessions itself, that comes to killing cursors and the like.
        enough = ("killAnySession", "impersonate") if desk.upstream_facts.native else ("anyAction",)
        return any(map(desk.caller.may, enough))

    def could_ask(self, upstream: str, uid: bytes) -> bool:
        """Whether :meth:`ask` would work now, upstream and as the owner of ``uid``."""
        return str(self.upstream) == upstream and self.speaks_for == uid

    def at_front(self, now: float) -> dict[str, Any]:
        """What upstream works at for its client: ``operation`` (its number, the
        ``requestID``) and ``operation_seconds``; None for nothing."""
        first = None if self._conversation is None else self._conversation.front
        if first is None:
            return {"operation": None, "operation_seconds": None}
        return {
            "operation": first.request_id,
            "operation_seconds": seconds_since(first.started, now),
        }

    def works_at(self, now: float) -> dict[str, Any]:
        """:meth:`at_front`, and whose session that is under; what an operator should know first."""
        first = None if self._conversation is None else self._conversation.front
        tracked = None if first is None else first.tracked
        if not isinstance(tracked, Operation):
            return self.at_front(now)
        session = tracked.session
        return self.at_front(now) | {
            "session": uuid_text(session.id),
            "uid": session.owner.uid.hex(),
            "owner": session.owner.name,
        }

    def cut(self, request_id: int, why: str) -> bool:
        """Answer what upstream works at with 11601 and close; False if it is another request."""
        if self._conversation is None or self.relay is None:
            return False
        if not self._conversation.interrupt(request_id, trio.current_time(), why):
            return False
        self.relay.flush_soon()
        return True

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Put a command (BSON) to upstream between the client's own requests."""
        self.ask_all((question,), lambda _number, reply, now: handler(reply, now))

    def ask_all(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None]
    ) -> None:
        """As :meth:`ask`, one behind the other; ``handler`` gets each one's number too."""
        assert self._conversation is not None
        assert self.relay is not None
        self._conversation.ask_between(questions, handler, trio.current_time())
        self.relay.flush_soon()


_One = TypeVar("_One", bound=Asking)


def by_owner(connections: Iterable[_One]) -> dict[str, dict[bytes, list[_One]]]:
    """Those that can ask right now, by upstream address and by owner's digest.

    Those that may kill anybody's sessions are also under :data:`EVERYBODY`.
    """
    found: dict[str, dict[bytes, list[_One]]] = {}
    for connection in connections:
        if (place := connection.place) is not None:
            owners = found.setdefault(place[0], {})
            owners.setdefault(place[1], []).append(connection)
            if connection.kills_for_all:
                owners.setdefault(EVERYBODY, []).append(connection)
    return found
