"""A real proxy in front of the embedded upstream, and something to do to it as its operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from proxy import logs
from proxy.demo import serve_embedded
from proxy.embedded import EmbeddedUser
from proxy.process.server import Running
from proxy.settings.config import load
from tests.patience import PATIENCE

TOKEN = "0123456789abcdef"
ALICE = EmbeddedUser("alice", "admin", "wonderland", (("readWrite", "shop"),))


async def with_running(
    users: tuple[EmbeddedUser, ...], act: Callable[..., object], *arguments: object, **sessions: Any
) -> None:
    """Call ``act`` in a thread with what runs and ``arguments``; ``sessions`` are settings."""
    logs.configure("text", "critical")
    config = load(
        None,
        {
            "listen": {"address": "127.0.0.1:0"},
            "admin": {"address": "127.0.0.1:0", "token": TOKEN},
            "sessions": sessions,
        },
    )
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(serve_embedded, config, users)
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(act, running, *arguments)
        nursery.cancel_scope.cancel()
