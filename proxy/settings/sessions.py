"""The table ``sessions``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from proxy.settings.kinds import SecondsOrNone, Settings


class SessionSettings(Settings):
    """What is tracked of sessions, and what is known of upstream without finding out.

    ``authorization`` and ``commands`` are found out per upstream process with "auto",
    ``transaction_lifetime_seconds`` without a value.
    """

    tracking: StrictBool = True
    max_sessions: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = 1_000_000
    max_cursors: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] = 200_000
    authorization: Literal["auto", "on", "off"] = "auto"
    commands: Literal["auto", "native", "emulated"] = "auto"
    transaction_lifetime_seconds: SecondsOrNone | None = None
    refuse_early: StrictBool = False
    sign_refusals: StrictBool = True
