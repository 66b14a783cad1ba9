"""``failCommand``, the servers' test hook: make commands fail, block or hang up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.embedded.failures import code_name, failure
from proxy.errors import CommandError


@dataclass(slots=True)
class Fault:
    """What happens to the next command that matches; ``remaining`` is None for always."""

    commands: frozenset[str]
    remaining: int | None
    error: CommandError | None = None
    close: bool = False
    block_seconds: float = 0.0
    app_name: str | None = None
    write_concern_error: Mapping[str, Any] | None = None


@dataclass(slots=True)
class FailPoints:
    """At most one ``failCommand`` at a time, as on the server."""

    _fault: Fault | None = field(default=None)

    def configure(self, body: Mapping[str, Any]) -> None:
        """Apply a ``configureFailPoint`` command."""
        name, mode = body.get("configureFailPoint"), body.get("mode", "alwaysOn")
        if name != "failCommand":
            raise failure(26, f"{name} not found")
        if mode == "off":
            self._fault = None
            return
        data = body.get("data") or {}
        remaining = int(mode["times"]) if isinstance(mode, Mapping) and "times" in mode else None
        error = None
        if "errorCode" in data:
            code = int(data["errorCode"])
            labels = tuple(data.get("errorLabels", ()))
            error = CommandError(
                code, code_name(code), "Failing command via 'failCommand' failpoint", labels
            )
        self._fault = Fault(
            frozenset(data.get("failCommands", ())),
            remaining,
            error,
            bool(data.get("closeConnection", False)),
            float(data.get("blockTimeMS", 0)) / 1000 if data.get("blockConnection") else 0.0,
            data.get("appName"),
            data.get("writeConcernError"),
        )

    def hit(self, command: str, app_name: str) -> Fault | None:
        """The fault for this command, counted down; None where it may run."""
        fault = self._fault
        if fault is None or command not in fault.commands or command == "configureFailPoint":
            return None
        if fault.app_name is not None and fault.app_name != app_name:
            return None
        if fault.remaining is not None:
            if fault.remaining <= 0:
                return None
            fault.remaining -= 1
        return fault
