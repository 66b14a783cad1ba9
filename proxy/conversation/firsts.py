"""What handles requests until the first that is no part of a handshake: then somebody is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.conversation.hello import HELLO_COMMANDS
from proxy.conversation.refusing import Refusing

if TYPE_CHECKING:
    from proxy.errors import CommandError
    from proxy.wire.messages import Request

    Handler = Callable[[Any, Request, float], None]

#: What drivers say before they use a connection: who breaks off there has not used it.
HANDSHAKE: Final = HELLO_COMMANDS | {"authenticate", "getnonce", "saslContinue", "saslStart"}


class Firsts(Mapping[str, "Handler"]):
    """Handlers, as :class:`~proxy.conversation.exchange.Handlers` has them.

    ``first`` is called at the first request that is not a handshake's, and gives back the handlers
    from there on in its place; or an error, with which that request is answered before the
    connection ends.
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
        return self._handlers.get(command, default) if error is None else Refusing(error)[command]

    def __getitem__(self, command: str) -> Handler:
        return self._handlers[command]

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)
