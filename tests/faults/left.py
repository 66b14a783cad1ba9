"""What must be left of a fault: nothing, and bystanders that did not notice it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from proxy.listing import EVERYTHING
from proxy.process.server import Running
from tests.patience import until
from tests.running import Bystanders

BYSTANDERS: Final = 50

_DESCRIPTORS: Final = Path("/proc/self/fd")


def held(running: Running) -> dict[str, Any]:
    """What the process holds for clients, as far as it has to come back to where it was."""
    server = running.server
    store = server.clusters[0].sessions_shared.store
    return {
        "connections": sum(1 for _ in server.connections()),
        "buffered": server.common.budget.used,
        "operations": sum(
            len(session.activity.operations)
            for some in store.active(EVERYTHING)
            for session in some
            if session.activity is not None
        ),
        "tasks": len(server.common.serving.child_tasks) if server.common.serving is not None else 0,
        "descriptors": len(os.listdir(_DESCRIPTORS)) if _DESCRIPTORS.exists() else 0,
    }


@contextlib.asynccontextmanager
async def faultless(running: Running, others: Bystanders) -> AsyncIterator[None]:
    """Whatever happens inside, the bystanders go on and nothing is left of it."""
    await others.rest()
    before = held(running)
    yield
    await others.go_on()
    await until(lambda: held(running) == before)
