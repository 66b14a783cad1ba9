"""What the documentation says of settings, files and commands, held against those."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import policies
from proxy.cli import _parser
from proxy.settings.config import Config

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", ROOT / "config.example.toml", *DOCS]

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?<![\w-])mongo-session-proxy [a-z-][^`\n]*")
WHEN = {"at once", "next connection", "restart"}

# ------------------------------------------------------------------ links


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[(?=.*\]\()", "", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}


def links() -> Iterator[tuple[Path, str]]:
    for path in TEXTS:
        for target in LINK.findall(path.read_text()):
            if "://" not in target:
                yield path, target


@pytest.mark.parametrize(
    ("path", "target"), [pytest.param(*link, id=f"{link[0].name}:{link[1]}") for link in links()]
)
def test_links_lead_somewhere(path: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    found = (path.parent / name).resolve() if name else path
    assert found.exists()
    assert found.is_relative_to(ROOT)
    if anchor:
        assert anchor in anchors(found.read_text())


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_page_is_found_from_the_readme(path: Path) -> None:
    assert f"(docs/{path.name})" in (ROOT / "README.md").read_text()


# ------------------------------------------------------------------ commands


def commands() -> Iterator[tuple[str, str]]:
    for path in TEXTS:
        for line in re.sub(r" *\\\n *", " ", path.read_text()).splitlines():
            for shown in COMMAND.findall(line):
                yield path.name, re.split(r" {2,}|; | > | \| ", shown)[0].rstrip(" .,:")


def understood(words: list[str]) -> bool:
    try:
        _parser().parse_args(words)
    except SystemExit as error:
        return not error.code
    return True


@pytest.mark.parametrize(
    ("page", "shown"), [pytest.param(*one, id=": ".join(one)) for one in dict.fromkeys(commands())]
)
def test_commands_are_understood(page: str, shown: str) -> None:
    assert understood(shlex.split(shown)[1:]), page


def test_commands_are_found() -> None:
    found = list(commands())
    assert ("operation.md", "mongo-session-proxy serve --config") in [
        (page, shown.rpartition(" ")[0]) for page, shown in found
    ]
    assert "README.md" in dict(found)
    assert not understood(["serve", "--no-such-flag"])


# ------------------------------------------------------------------ settings


def below(annotation: Any) -> type[BaseModel] | None:
    """The table inside ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next(filter(None, map(below, get_args(annotation))), None)


def tables(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, dict[str, FieldInfo]]]:
    """Every table's heading in TOML, with its settings."""
    own: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        table = below(field.annotation)
        if table is None:
            own[name] = field
            continue
        inner = f"{path}.{name}".lstrip(".")
        many = isinstance(field.get_default(), tuple)
        found = list(tables(table, inner))
        yield (f"[[{inner}]]" if many else f"[{inner}]"), dict(found.pop()[1])
        yield from found
    yield "", own


def written(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    default = field.get_default()
    if default is None:
        return "none"
    return f"`{json.dumps(default)}`"


def documented() -> dict[str, list[tuple[str, str, str]]]:
    """(name, default, when a change takes effect) of every row below each table's heading."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    heading = ""
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines():
        if line.startswith("#"):
            heading = line.strip("#` ")
        elif line.startswith("| `") and heading.startswith("["):
            name, default, when, about = (cell.strip() for cell in line.strip("|").split("|", 3))
            assert about.rstrip(" |"), line
            found.setdefault(heading, []).append((name.strip("`"), default, when))
    return found


def test_every_setting_is_described_with_its_default() -> None:
    expected = {
        heading: [(name, written(field)) for name, field in fields.items()]
        for heading, fields in tables(Config)
        if fields
    }
    shown = {
        heading: [(name, default) for name, default, _ in rows]
        for heading, rows in documented().items()
    }
    assert shown == expected


def test_every_setting_says_what_a_reload_does() -> None:
    from proxy.process.server import _RELOADED

    for heading, rows in documented().items():
        table = heading.strip("[]").split(".")[0]
        for name, _, when in rows:
            assert when in WHEN, name
            taken_over = table in _RELOADED or (table, name) == ("sessions", "refuse_early")
            assert (when != "restart") == taken_over, f"{heading} {name}"


# ------------------------------------------------------------------ rules


def test_every_rule_has_a_section() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    described = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    assert described == [rule.name for rule in policies.POLICIES]


def test_the_rule_that_is_shown_is_the_one_that_is_there() -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    source = (ROOT / "policies" / "examples" / "named_applications.py").read_text()
    [shown] = re.findall(r"^    class NamedApplications:\n(?:(?:    .*)?\n)+", text, re.MULTILINE)
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE).strip() in source
