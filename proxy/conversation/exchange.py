"""What a conversation is told before it begins, and whom it tells what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from proxy.conversation.finished import Finished
    from proxy.conversation.tracking import Doubted
    from proxy.counting import Usage
    from proxy.session.identity import Identity
    from proxy.session.records import InFlight
    from proxy.wire.messages import Request


class Namespaces(Protocol):
    """Counts requests by what they are for."""

    def usage(self, request: Request) -> Usage:
        """Where to count a request."""


class Meter(Protocol):
    """What counts the requests of all conversations; must not raise or wait."""

    #: A request that takes so many seconds or more is slow.
    slow_seconds: float
    #: From so many seconds on, its end is to be told at all: of those with a traceparent always.
    tells_from: float

    @property
    def namespaces(self) -> Namespaces | None:
        """None where nothing is counted by namespace."""

    def request(self, command: str, count: int = 1) -> None:
        """A request was read; ``command`` is "" for what is none."""

    def replied(
        self, command: str, seconds: float, ok: bool, usage: Usage | None = None, sent: int = 0
    ) -> bool:
        """A client's request was answered after so many seconds, with ``ok: 1`` or not, in so many
        bytes; whether its end is to be told. ``usage`` is that of its namespace."""

    def replied_again(
        self, command: str, seconds: float, ok: bool, usage: Usage | None, sent: int
    ) -> bool:
        """As :meth:`replied`, of one more reply to a request that was answered before: for how long
        it is due says nothing."""

    def failed(self, code: int | None, source: str) -> None:
        """A client's request is refused with this error code, by ``proxy`` or ``upstream``."""

    def violation(self, kind: str) -> None:
        """One side broke the protocol in a way that ends the connection."""


class Observer(Protocol):
    """What a conversation tells about itself while it happens; must not raise or wait."""

    @property
    def meter(self) -> Meter:
        """What counts its requests."""

    def identified(self, identity: Identity) -> None:
        """Upstream said anew who is authenticated on this connection."""

    def interrupt(self, operation: InFlight) -> None:
        """A kill hits this operation, and nobody but the proxy can interrupt it."""

    def ask_as(self, owner: bytes, upstream: str, question: bytes) -> bool:
        """Ask ``upstream`` something (BSON) on a connection that works as ``owner`` (a digest).

        Nobody waits for the answer. False where there is no such connection at the moment.
        """

    def later(self, seconds: float, what: Callable[[float], None]) -> None:
        """Call ``what`` with the time after so many seconds, and send what it made the
        conversation say; not at all if the connection ends before."""

    def foreign(self, side: str, protocol: str, problem: str) -> None:
        """One side, ``client`` or ``upstream``, speaks ``protocol`` instead of MongoDB's, a name of
        :mod:`proxy.wire.protocols`; ``problem`` is that in words."""

    def slow(self, request: Finished, now: float) -> None:
        """A request took as long as is slow."""

    def traced(self, request: Finished) -> None:
        """A request is over that has a traceparent."""

    def unknown_member(self) -> None:
        """A hello named a replica-set member that no listener stands for."""

    def another_process(self) -> None:
        """Upstream is another process than the one of which something is known."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """How upstream is shown to clients of one listener.

    ``addresses`` gives the map of upstream names to advertised ones (lower case), or None
    where hello has none to rewrite. ``own`` is this listener's advertised address.
    ``refuse_x509`` is set where the upstream leg shows a certificate that is not the client's.
    ``known`` says whether enough is known of upstream to show a hello that is no error.
    """

    own: str = ""
    addresses: Callable[[], Mapping[str, str] | None] = field(default=lambda: None)
    strip_compression: bool = False
    refuse_x509: bool = False
    known: Callable[[], bool] = field(default=lambda: True)


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a conversation hands requests to, with itself and the time.

    ``commands`` are by name, "" for what cannot be read as a command; ``doubted`` is for what
    upstream must refuse, see :class:`proxy.conversation.tracking.Doubted`.
    """

    commands: Mapping[str, Callable[[Any, Request, float], None]]
    doubted: Callable[[Any, Request, Doubted, float], None]
