"""Handing over to a new process of the program, once it is ready; one attempt at a time."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from proxy import logs
from proxy.process import successor
from proxy.process.program import Files

if TYPE_CHECKING:
    from proxy.process.beginnings import Predecessor
    from proxy.process.found import Found
    from proxy.process.notify import Notifier
    from proxy.process.successor import Left, Successor


#: How often it is looked whether upstream was reached.
_LOOK_SECONDS: Final = 0.02

_NOT_OURS: Final = "what has an embedded upstream or runs inside another program"

#: What the predecessor waits longer than this process may take: so that it hears the reason.
_MARGIN: Final = 5.0


class Handover:
    """Starts the successor by ``command``; None where there can be none.

    ``left`` says what it gets, and ``done`` is called when it is ready: this process then has to
    stop accepting and to call :meth:`release`. What that tells is ``found``.
    """

    def __init__(
        self,
        command: Sequence[str] | None,
        notifier: Notifier,
        left: Callable[[], Left],
        done: Callable[[], None],
        found: Found,
    ) -> None:
        self._command = command if os.getpid() != 1 else None
        self._notifier = notifier
        self._left = left
        self._done = done
        self._found = found
        self._files = None if self._command is None else Files()
        self._attempt: trio.CancelScope | None = None
        self._successor: Successor | None = None
        self._log = logs.logger()

    @property
    def done(self) -> bool:
        """Whether there is a successor."""
        return self._successor is not None

    def due(self) -> bool:
        """Whether the program's files are others than those that this process runs."""
        return self._files is not None and self._files.changed()

    def give_up(self) -> None:
        """This process is to end: what is being started ends too."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def run(self) -> None:
        """Start a successor, and wait for its end where it becomes one."""
        if self._command is None:
            why = "process 1 of a container" if os.getpid() == 1 else _NOT_OURS
            self._log.error("not handed over", reason=f"{why} cannot be replaced")
            return
        if self._attempt is not None or self.done:
            self._log.warning("not handed over", reason="a new process is being started already")
            return
        self._log.info("handing over", command=self._command)
        with trio.CancelScope() as self._attempt, self._notifier.reloading():
            try:
                self._successor = await successor.start(self._command, self._left())
            except successor.NotReadyError as error:
                self._log.error("not handed over", reason=str(error))
            else:
                self._notifier.hand_over(self._successor.pid)
                self._log.info("handed over", pid=self._successor.pid)
                self._done()
        self._attempt = None
        if self._successor is not None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._found.hear, self._successor.channel)
                await self._successor.reap()

    def release(self, **told: int) -> None:
        """Let the successor accept, if there is one: this process does not any more."""
        if self._successor is not None:
            self._successor.release(**told)


async def relieve(
    predecessor: Predecessor | None, ready: Callable[[], tuple[bool, str]], stop: trio.Event
) -> int | None:
    """Wait until this process is as ``ready`` as the one before it, which then accepts nobody.

    The number of the first connection; None where ``stop`` has ended the waiting: that one goes on.

    Raises:
        OSError: upstream cannot be reached by this process, and could be by the one before.
    """
    numbers: int | None = None
    if predecessor is None:
        return 1
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            await stop.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        until = trio.current_time() + predecessor.seconds - _MARGIN
        while not ready()[0]:
            if trio.current_time() > until:
                raise OSError(errno.ETIMEDOUT, ready()[1], "upstream")
            await trio.sleep(_LOOK_SECONDS)
        predecessor.ready()
        numbers = (await predecessor.released()).get("numbers", 1)
        nursery.cancel_scope.cancel()
    return numbers
