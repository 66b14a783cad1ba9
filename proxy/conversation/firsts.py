"""What handles requests until the first that is no part of a handshake: then somebody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from proxy.conversation.hello import HELLO_COMMANDS

if TYPE_CHECKING:
    from proxy.errors import CommandError
    from proxy.wire.messages import Request

    Handler = Callable[[Any, Request, float], None]

#: What drivers say before they use a connection: who breaks off there has not used it.
HANDSHAKE: Final = HELLO_COMMANDS | {"authenticate", "getnonce", "saslContinue", "saslStart"}


class Firsts(Mapping[str, "Handler"]):
    """Handlers, as :class:`~proxy.conversation.exchange.Handlers` has them.

    ``first`` is called at each request that is not a handshake's, and gives an error with which
    that is answered, or None. The connection stays: a driver that finds it closed when it uses it
    next gives up all others that it has.
    """

    def __init__(
        self, handlers: Mapping[str, Handler], first: Callable[[], CommandError | None]
    ) -> None:
        self._handlers = handlers
        self._first = first

    def get(self, command: str, default: Any = None) -> Any:  # noqa: ANN401 - as a mapping's
        if command in HANDSHAKE:
            return self._handlers.get(command, default)
        error = self._first()
        return self._handlers.get(command, default) if error is None else partial(_refuse, error)

    def __getitem__(self, command: str) -> Handler:
        return self._handlers[command]

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)


def _refuse(error: CommandError, conversation: Any, request: Request, now: float) -> None:  # noqa: ANN401 - it imports this
    conversation.refuse(request, error, now)
