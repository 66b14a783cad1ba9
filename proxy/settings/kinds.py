"""What a setting can be: addresses, files, times, names, and a table of such."""

from __future__ import annotations

import os
import stat
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from proxy.addresses import parse_address
from proxy.settings import quantities

#: The longest time that a setting may be, in seconds.
DAY: Final = 86_400.0

#: What the kernel has room for, without the NUL at the end.
_LONGEST_PATH: Final = 107


def _address(value: str) -> str:
    parse_address(value, default_port=None)
    return value


def _listen_address(value: str) -> str:
    path = parse_address(value, default_port=None).path
    if path and not path.endswith(".sock"):
        raise ValueError(f"{value!r} has to end in .sock: by that drivers know a unix socket")
    if "%" in path:
        raise ValueError(f"{value!r} has a %, which some drivers take for an escape twice")
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"the path of a unix socket has {_LONGEST_PATH} bytes at the most")
    return value


def _tcp_address(value: str) -> str:
    if parse_address(value, default_port=None).path:
        raise ValueError(f"{value!r} is not host:port")
    return value


#: What stands for stdout in the place of a file.
STDOUT: Final = Path("-")


def _placed(value: Path, info: ValidationInfo) -> Path:
    """Where a path leads: a relative one starts at the configuration file's folder."""
    if "\0" in str(value):
        raise ValueError("has a NUL, which no path can have")
    return Path((info.context or {}).get("folder", ".")) / value


def _file(value: Path, info: ValidationInfo) -> Path:
    """A readable file; a relative path starts at the configuration file's folder."""
    path = _placed(value, info)
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"no such file: {path}") from None
    except OSError as error:
        raise ValueError(f"{error.strerror}: {path}") from error
    if stat.S_ISDIR(kind):
        raise ValueError(f"is a folder: {path}")
    # What has no end, or waits for a writer, would keep the start waiting.
    if not stat.S_ISREG(kind):
        raise ValueError(f"is no regular file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"not readable: {path}")
    return path


def _output(value: Path, info: ValidationInfo) -> Path:
    """A file to write in a folder that is there; a relative path as in :func:`_file`."""
    path = _placed(value, info)
    try:
        if not path.parent.is_dir():
            raise ValueError(f"no such folder: {path.parent}")
        if path.exists() and path.is_dir():
            raise ValueError(f"is a folder: {path}")
    except OSError as error:
        raise ValueError(f"{error.strerror}: {path}") from error
    return path


def _output_or_stdout(value: Path, info: ValidationInfo) -> Path:
    """As :func:`_output`, or "-" for stdout."""
    return value if value == STDOUT else _output(value, info)


def _name(value: str) -> str:
    try:
        if ":" in value:
            IPv6Address(value)
        elif parse_address(value).path:
            raise ValueError
    except ValueError:
        raise ValueError("not a host name: no port, no brackets, nothing else") from None
    return value


def _network(value: str) -> str:
    ip_network(value)
    return value


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it."""
    host = parse_address(address).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Address = Annotated[str, AfterValidator(_address)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
TcpAddress = Annotated[str, AfterValidator(_tcp_address)]
#: What a setting has that names a file to read.
READ = AfterValidator(_file)
File = Annotated[Path, READ]
OutputFile = Annotated[Path, AfterValidator(_output)]
OutputFileOrStdout = Annotated[Path, AfterValidator(_output_or_stdout)]
HostName = Annotated[str, AfterValidator(_name)]
Network = Annotated[str, AfterValidator(_network)]

#: Plain numbers, or texts such as "5m" and "64MiB".
AS_SECONDS = BeforeValidator(quantities.seconds)
AS_SIZE = BeforeValidator(quantities.size)

Seconds = Annotated[float, Field(strict=True, gt=0, le=DAY, allow_inf_nan=False), AS_SECONDS]
SecondsOrNone = Annotated[float, Field(strict=True, ge=0, le=DAY, allow_inf_nan=False), AS_SECONDS]
Text = Annotated[str, Field(min_length=1)]


class SeveralError(ValueError):
    """Several things are wrong between settings; each text begins with the path of one of them."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__("; ".join(texts))
        self.texts = texts


class Settings(BaseModel):
    """One table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
