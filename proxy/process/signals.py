"""Signals: what each of them is for stands in :class:`proxy.process.server.Server`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import trio


async def obey(
    orders: Mapping[int, Callable[[], object]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call for each signal what ``orders`` have for it, until cancelled.

    Does nothing without orders, and in a thread that is not the main one, which gets no signals.
    """
    if not orders or threading.current_thread() is not threading.main_thread():
        task_status.started()
        return
    with trio.open_signal_receiver(*orders) as signals:
        task_status.started()
        async for number in signals:
            orders[number]()
