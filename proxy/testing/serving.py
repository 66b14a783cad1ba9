"""A proxy with a rule, in front of an embedded upstream, for the time of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from proxy import logs
from proxy.errors import ConfigError
from proxy.settings.config import Config, load

if TYPE_CHECKING:
    from proxy.conversation.rule import Rule
    from proxy.process.server import Running

#: Seconds until clients have to be able to connect.
_PATIENCE: Final = 60.0

_LOCAL: Final = "127.0.0.1:0"


class Login(NamedTuple):
    """Somebody who can log in, on the database ``admin``; ``roles`` are ``role@db``."""

    name: str
    password: str
    roles: tuple[str, ...] = ()


@contextmanager
def serving(
    rule: type[Rule] | str,
    /,
    *,
    logins: Sequence[Login] = (),
    mode: str = "enforce",
    **settings: object,
) -> Iterator[str]:
    """Run a proxy with this rule on a free port; what to connect with is the URI that it gives.

    ``rule`` is a class that stands in a module, or ``module:Class``. With ``logins`` the server
    behind the proxy demands that clients log in. It keeps its data in memory, and wants the
    package ``mongomock``.

    Raises:
        ConfigError: the rule cannot be had, or does not take these settings.
    """
    config = load(
        None,
        {
            "listen": {"address": _LOCAL},
            "admin": {"address": ""},
            "embedded": {},
            "policies": {
                "custom": [{"rule": _path(rule), "mode": mode, "settings": settings}],
            },
        },
    )
    logs.configure("text", "error")
    served = _Served(config, logins)
    thread = threading.Thread(target=served.run, name="proxy", daemon=True)
    thread.start()
    try:
        yield served.uri()
    finally:
        served.end()
        thread.join()


def _path(rule: type[Rule] | str) -> str:
    if isinstance(rule, str):
        return rule
    if "." in rule.__qualname__:
        raise ConfigError([f"rule {rule.__qualname__}: does not stand in a module"])
    return f"{rule.__module__}:{rule.__qualname__}"


class _Served:
    """The proxy in a thread of its own."""

    def __init__(self, config: Config, logins: Sequence[Login]) -> None:
        self._config = config
        self._logins = logins
        self._begun = threading.Event()
        self._running: Running | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None

    def run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()

    async def _main(self) -> None:
        from proxy.demo import serve_embedded
        from proxy.embedded import EmbeddedUser

        users = tuple(
            EmbeddedUser(one.name, "admin", one.password, tuple(map(_role, one.roles)))
            for one in self._logins
        )
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            self._running = await nursery.start(serve_embedded, self._config, users)
            self._begun.set()

    def uri(self) -> str:
        """What to connect with, once that is possible."""
        begun = self._begun.wait(_PATIENCE)
        if self._running is not None:
            return self._running.uri
        failure = _only(self._failure)
        raise failure if begun and failure is not None else TimeoutError("the proxy does not begin")

    def end(self) -> None:
        if self._token is not None:
            # It may have ended by itself.
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)


def _only(failure: BaseException | None) -> BaseException | None:
    """The one error in groups of one."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure


def _role(name: str) -> tuple[str, str]:
    role, _, database = name.rpartition("@")
    return role, database
