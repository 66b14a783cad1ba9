"""The table ``listen``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from proxy.settings.kinds import Address, File, HostName, Settings


class ListenTls(Settings):
    """TLS towards clients; ``key`` may stand in the certificate's own file (PEM)."""

    certificate: File
    key: File | None = None
    ca: File | None = None
    client_certificates: Literal["none", "optional", "required"] = "none"

    @model_validator(mode="after")
    def _certificates_need_an_authority(self) -> ListenTls:
        if self.client_certificates != "none" and self.ca is None:
            raise ValueError(f'client_certificates = "{self.client_certificates}" needs ca')
        return self


class Listen(Settings):
    """Where clients reach the proxy; ``advertise`` is the host name that hello gives them."""

    address: Address = "127.0.0.1:27018"
    advertise: HostName | None = None
    backlog: Annotated[int, Field(strict=True, ge=1, le=65_535)] = 1024
    tls: ListenTls | None = None
