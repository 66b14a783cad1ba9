"""What handles requests where upstream is not dialled: each is refused with the same error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.errors import CommandError
    from proxy.wire.messages import Request


class Refusing(Mapping[str, "Callable[[Any, Request, float], None]"]):
    """Handlers for any command at all, as :class:`~proxy.conversation.exchange.Handlers` has
    them."""

    def __init__(self, error: CommandError) -> None:
        self._error = error

    def __getitem__(self, _command: str) -> Callable[[Any, Request, float], None]:
        return self._refuse

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def _refuse(self, conversation: Any, request: Request, now: float) -> None:  # noqa: ANN401 - it imports this
        conversation.refuse(request, self._error, now)
        conversation.ending = f"upstream not dialled: {self._error.errmsg}"
        if not conversation.in_flight:
            conversation.close = conversation.ending
