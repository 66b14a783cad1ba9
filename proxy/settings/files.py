"""The files that settings name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from proxy.addresses import parse_upstream
from proxy.settings.kinds import READ


def files_in(table: BaseModel) -> Iterator[Path]:
    """Every file that is read because a setting names it; not those that are written."""
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, BaseModel):
                yield from files_in(one)
            elif isinstance(one, Path):
                if READ in field.metadata or _reads(field.annotation):
                    yield one
            elif isinstance(one, str) and one.startswith("mongodb://"):
                uri = parse_upstream(one)
                named = (uri.tls_ca_file, uri.tls_certificate_key_file)
                yield from (Path(file) for file in named if file is not None)


def _reads(annotation: Any) -> bool:  # noqa: ANN401 - any annotation
    return READ in getattr(annotation, "__metadata__", ()) or any(map(_reads, get_args(annotation)))
