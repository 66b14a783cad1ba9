"""Starting the proxy: as one process, or as several under a supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from proxy.errors import ConfigError
from proxy.net import loops
from proxy.process import server

if TYPE_CHECKING:
    from proxy.process.beginnings import Beginnings
    from proxy.process.server import Running
    from proxy.settings.config import Config


def workers(config: Config) -> int:
    """How many processes are to serve clients; ``auto`` is one for each processor."""
    wanted = config.process.workers
    return len(os.sched_getaffinity(0)) if wanted == "auto" else wanted


def clock(config: Config) -> trio.abc.Clock | None:
    """What ``trio.run`` has to be given: several processes tell each other times."""
    if workers(config) == 1:
        return None
    from proxy.process.worker import SharedClock

    return SharedClock()


async def serve(
    config: Config,
    reload: Callable[[], Config] | None = None,
    beginnings: Beginnings | None = None,
    successor: Sequence[str] | None = None,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As :func:`proxy.process.server.serve`, with as many workers as are configured.

    Raises:
        ConfigError: also where the proxy would be its own upstream.
    """
    # Names may have to be looked up.
    wrong = await trio.to_thread.run_sync(loops.problems, config)
    if wrong:
        raise ConfigError(wrong)
    number = workers(config)
    if number == 1:
        await server.serve(config, reload, beginnings, successor, task_status=task_status)
        return
    # What one process alone has no use for.
    from proxy.process.supervisor import Supervisor

    await Supervisor(config, number, reload, beginnings, successor).run(task_status)
