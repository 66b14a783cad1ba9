"""The files that one wants beside the program: an example of every setting, the unit, dashboards.

They lie at the top of the tree. A wheel has copies in ``proxy/shipped/``, which pyproject.toml
lays there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from proxy.errors import ConfigError

EXAMPLE: Final = "config.example.toml"

#: What editors check the configuration file against; made of the settings that there are.
SCHEMA: Final = "config.schema.json"

#: Files, and folders with all that is in them.
SHIPPED: Final = (
    EXAMPLE,
    "deploy/mongo-session-proxy.service",
    "deploy/mongo-session-proxy.socket",
    "deploy/redirect",
    "docs/operation.md",
    "grafana/alerts.yml",
    "grafana/dashboards",
    "grafana/prometheus.yml",
    "grafana/provisioning",
)

_PACKAGE: Final = Path(__file__).resolve().parent


def contents() -> dict[str, bytes]:
    """Every file by its path below the folder that it is written to."""
    shipped = _PACKAGE / "shipped"
    # A checkout has none.
    root = shipped if shipped.is_dir() else _PACKAGE.parent
    found: dict[str, bytes] = {}
    for name in SHIPPED:
        path = root / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                found[file.relative_to(root).as_posix()] = file.read_bytes()
    found[SCHEMA] = _schema(found[EXAMPLE].decode()).encode()
    return found


def schema() -> str:
    """The schema of the configuration file, as JSON for editors."""
    return contents()[SCHEMA].decode()


def _schema(example: str) -> str:
    from proxy.settings.schema import schema

    return json.dumps(schema(example), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path, *, force: bool = False) -> list[Path]:
    """Write them below ``folder``, which is made if it is not there; those that were written.

    Raises:
        ConfigError: with every file that is there, differs, and would be lost without ``force``;
            none is written then.
        OSError: the disk refuses. What was there is there still.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError([f"{folder}: not a folder"])
    wanted = {folder / name: content for name, content in contents().items()}
    stale = {path: content for path, content in wanted.items() if not _holds(path, content)}
    lost = [path for path in stale if path.exists() and not force]
    if lost:
        raise ConfigError([f"{path}: is there and differs; --force replaces it" for path in lost])
    for path, content in stale.items():
        _write(path, content)
    return list(stale)


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
