"""Where settings are read from, once more at each reload."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.settings.config import Config


@dataclass(frozen=True, slots=True)
class Source:
    """``read`` gives the settings as they are now, or a ConfigError; ``files`` what they are in."""

    read: Callable[[], Config]
    files: Callable[[], Iterable[Path]] = tuple

    def changed_by(self, change: Callable[[Config], Config]) -> Source:
        """The same with something done to the settings."""
        return Source(lambda: change(self.read()), self.files)
