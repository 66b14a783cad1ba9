"""The table ``admin``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, PrivateAttr, SecretStr, model_validator

from proxy.settings.kinds import File, Settings, TcpAddress, is_loopback


def _token(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value or len(value) < 16:
        raise ValueError("a token has at least 16 characters of ASCII and no spaces")
    return value


def _secret_token(value: SecretStr) -> SecretStr:
    _token(value.get_secret_value())
    return value


Token = Annotated[SecretStr, AfterValidator(_secret_token)]


class Admin(Settings):
    """Where operators look and act: metrics, health, listings, kills.

    None (an empty string in the file) turns it off. Elsewhere than on loopback a token is
    needed; without one nothing can be killed.
    """

    address: TcpAddress | None = "127.0.0.1:27080"
    token: Token | None = None
    token_file: File | None = None

    #: Read once, with the settings: what somebody writes to the file holds from the next reload on.
    _secret: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_off(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if isinstance(data, Mapping) and data.get("address") == "":
            return {**data, "address": None}
        return data

    @model_validator(mode="after")
    def _token_where_needed(self) -> Admin:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other")
        self._secret = self._read_secret()
        if self._secret is None and self.address is not None and not is_loopback(self.address):
            raise ValueError(f"{self.address} is not loopback, so token or token_file is needed")
        return self

    def secret(self) -> str | None:
        """What callers have to show; None where there is no token."""
        return self._secret

    def _read_secret(self) -> str | None:
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            return _token(self.token_file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(f"token_file cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError("token_file holds none: it is not UTF-8") from error
        except ValueError as error:
            raise ValueError(f"token_file holds none: {error}") from None
