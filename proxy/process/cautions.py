"""All that is allowed and probably not meant, of settings and of the files they name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.settings import cautions

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.settings.config import Config


def found(config: Config) -> list[str]:
    """Each as ``path.to.setting: what``, for check-config."""
    return cautions.cautions(config)


def log(config: Config, to: FilteringBoundLogger) -> None:
    """Say of the settings at a start or a reload what may not be meant."""
    for problem in cautions.cautions(config):
        to.warning("configuration", problem=problem)
