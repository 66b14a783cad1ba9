"""Starting the proxy: as one process, or as several under a supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from proxy.errors import ConfigError
from proxy.net import loops, redirected
from proxy.process.server import Server
from proxy.processors import processors
from proxy.settings.process import MOST_WORKERS

if TYPE_CHECKING:
    from proxy.process.beginnings import Beginnings
    from proxy.process.server import Running
    from proxy.process.source import Source
    from proxy.settings.config import Config


def workers(config: Config) -> int:
    """How many processes are to serve clients; ``auto`` is one for each whole processor."""
    wanted = config.process.workers
    return max(1, min(int(processors()), MOST_WORKERS)) if wanted == "auto" else wanted


def clock(config: Config) -> trio.abc.Clock | None:
    """What ``trio.run`` has to be given: several processes tell each other times."""
    if workers(config) == 1:
        return None
    from proxy.process.worker import SharedClock

    return SharedClock()


async def serve(
    config: Config,
    source: Source | None = None,
    beginnings: Beginnings | None = None,
    successor: Sequence[str] | None = None,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As :func:`proxy.process.server.serve`, with as many workers as are configured.

    ``source`` is where the settings are read from again, at SIGHUP and, where they say so, when its
    files change.

    Raises:
        ConfigError: also where the proxy would be its own upstream, or may not do what it has to.
    """
    # Names may have to be looked up.
    wrong: list[str] = []
    for one in config.each():
        wrong += map(one.said, redirected.problems(one.config))
        wrong += map(one.said, await trio.to_thread.run_sync(loops.problems, one.config))
    if wrong:
        raise ConfigError(wrong)
    number = workers(config)
    read = None if source is None else source.read
    if number == 1:
        made = Server(config, read, beginnings, successor)
    else:
        # What one process alone has no use for.
        from proxy.process.supervisor import Supervisor

        made = Supervisor(config, number, read, beginnings, successor)
    if source is None or not config.process.watch:
        await made.run(task_status)
        return
    from proxy.process.watching import Watch

    watch = Watch(made, source.files)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Running]) -> None:
            await made.run(task_status)
            nursery.cancel_scope.cancel()

        running = await nursery.start(run)
        await nursery.start(watch.run)
        task_status.started(running)
