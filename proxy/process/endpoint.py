"""The admin endpoint as the process runs it: opened early, answering late, and handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from proxy import admin
from proxy.addresses import parse_address
from proxy.net.inherited import Placed

if TYPE_CHECKING:
    import socket

    from proxy.admin.http import Operators
    from proxy.admin.overview import Overview
    from proxy.net.inherited import Inherited
    from proxy.net.listeners import Listener
    from proxy.settings.admin import Admin


class Endpoint:
    """What ``settings`` say of it; with no address there is none."""

    def __init__(self, settings: Admin) -> None:
        self._settings = settings
        self._listener: Listener | None = None
        self._scope = trio.CancelScope()
        self._overview: Overview | None = None

    async def open(self, inherited: Inherited) -> None:
        """Listen, or take what is ``inherited``; nobody is answered yet.

        Raises:
            OSError: nothing can listen there; ``filename`` is the address.
        """
        if self._settings.address is not None:
            self._listener = await admin.listen(self._settings.address, inherited)

    async def serve(
        self,
        make_overview: Callable[..., Overview],
        refused: Callable[[], None],
        *,
        task_status: trio.TaskStatus[str | None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer until cancelled or closed; ``started`` gets the address, None without one.

        ``make_overview`` is told by keyword whether it ``executes`` kills; ``refused`` is called
        for each wrong token.
        """
        if self._listener is None:
            task_status.started(None)
            return
        self._overview = make_overview(executes=bool(self._operators()))
        table = admin.pages(self._overview)
        with self._scope:
            await admin.serve(
                self._listener, table, self._operators, refused, task_status=task_status
            )

    def adopt(self, settings: Admin) -> None:
        """Ask for the tokens of these settings from now on; the address stays what it was."""
        self._settings = settings
        if self._overview is not None:
            self._overview.executes = bool(self._operators())

    def _operators(self) -> Operators:
        return self._settings.operators()

    def close(self) -> None:
        """Answer nobody any more."""
        self._scope.cancel()
        if self._listener is not None:
            self._listener.close()

    def placed(self) -> list[tuple[Placed, list[socket.socket]]]:
        """Its place and its sockets, for a successor."""
        if self._listener is None or self._settings.address is None:
            return []
        wanted = parse_address(self._settings.address)
        return [(Placed(None, wanted, self._listener.address), self._listener.sockets)]
