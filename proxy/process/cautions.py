"""All that is allowed and probably not meant, of settings and of the files they name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from proxy.logs import about
from proxy.net import certificates
from proxy.settings import cautions

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.settings.config import Config
    from proxy.settings.reading import Read


def found(read: Read[Config]) -> list[str]:
    """Each as ``path.to.setting: what``, for check-config."""
    config = read.settings
    found = cautions.cautions(config) + cautions.of_places(read)
    for one in config.each():
        found += [one.path + text for text in certificates.warnings(one.config, time.time())]
    return found


def log(config: Config, to: FilteringBoundLogger) -> None:
    """Say of the settings at a start or a reload what may not be meant.

    What is to be said of certificates is said when they are loaded (:mod:`proxy.process.expiry`).
    """
    for problem in cautions.cautions(config):
        to.warning("configuration", problem=about(config.by_name(problem)))
