"""The table ``history``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from proxy.settings.kinds import AS_SIZE, OutputFile, Settings


class History(Settings):
    """What is remembered of the last ``hours``, in ``bytes`` at the most; 0 hours for nothing.

    It is in memory unless a ``file`` is named: the beginning of several files' names.
    """

    hours: Annotated[float, Field(strict=True, ge=0, le=744, allow_inf_nan=False)] = 24.0
    bytes: Annotated[int, Field(strict=True, ge=1 << 20, le=1 << 40), AS_SIZE] = 16 << 20
    file: OutputFile | None = None
