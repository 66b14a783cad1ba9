"""The table ``admin``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr, model_validator

from proxy.settings.kinds import File, Settings, TcpAddress, is_loopback

if TYPE_CHECKING:
    from pathlib import Path


def _token(value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value or len(value) < 16:
        raise ValueError("a token has at least 16 characters of ASCII and no spaces")
    return value


def _secret_token(value: SecretStr) -> SecretStr:
    _token(value.get_secret_value())
    return value


Token = Annotated[SecretStr, AfterValidator(_secret_token)]


class OperatorToken(Settings):
    """A token of somebody's own: what they kill is audited under ``name``."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9@._-]{1,64}$")]
    token: Token | None = None
    token_file: File | None = None

    #: As of :class:`Admin`.
    _secret: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _one_token(self) -> OperatorToken:
        secret = _secret_of(self.token, self.token_file)
        if secret is None:
            raise ValueError("token or token_file is needed")
        self._secret = secret
        return self

    def secret(self) -> str:
        """What the operator has to show."""
        return self._secret


class Admin(Settings):
    """Where operators look and act: metrics, health, listings, kills.

    None (an empty string in the file) turns it off. Elsewhere than on loopback a token is
    needed; without one nothing can be killed.
    """

    address: TcpAddress | None = "127.0.0.1:27080"
    token: Token | None = None
    token_file: File | None = None
    tokens: tuple[OperatorToken, ...] = ()

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
        self._secret = _secret_of(self.token, self.token_file)
        operators = self.operators()
        if not operators and self.address is not None and not is_loopback(self.address):
            raise ValueError(f"{self.address} is not loopback, so token or token_file is needed")
        for what, given in zip(("names", "tokens"), zip(*operators, strict=True), strict=False):
            if len(set(given)) < len(given):
                raise ValueError(f"tokens: two of them have the same {what.removesuffix('s')}")
        return self

    def secret(self) -> str | None:
        """What callers without a name have to show; None where there is no such token."""
        return self._secret

    def operators(self) -> tuple[tuple[str, str], ...]:
        """Every token behind the name of whose it is, "" for nobody's in particular."""
        unnamed = () if self._secret is None else (("", self._secret),)
        return (*unnamed, *((one.name, one.secret()) for one in self.tokens))


def _secret_of(token: SecretStr | None, token_file: Path | None) -> str | None:
    if token is not None and token_file is not None:
        raise ValueError("token and token_file exclude each other")
    if token_file is None:
        return None if token is None else token.get_secret_value()
    try:
        return _token(token_file.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(f"token_file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("token_file holds none: it is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"token_file holds none: {error}") from None
