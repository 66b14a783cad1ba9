"""The table ``limits``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from proxy.settings.kinds import AS_SIZE, Seconds, SecondsOrNone, Settings


class Limits(Settings):
    """Bounds on what clients may take. Sizes in bytes, times in seconds."""

    connections: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10_000
    connections_per_address: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    connections_per_user: Annotated[int, Field(strict=True, ge=0, le=1_000_000)] = 0
    handshake_seconds: Seconds = 30.0
    frame_seconds: Seconds = 30.0
    buffered_bytes: Annotated[int, Field(strict=True, ge=65_536, le=1 << 40), AS_SIZE] = 268_435_456
    before_login_bytes: Annotated[int, Field(strict=True, ge=16_384, le=48_000_000), AS_SIZE] = (
        262_144
    )
    idle_seconds: SecondsOrNone = 0.0
    half_close_seconds: Seconds = 10.0
    drain_seconds: Seconds = 30.0
    drain_delay_seconds: SecondsOrNone = 0.0
    drain_idle_seconds: Seconds = 1.0
