"""What the documentation says of settings, files and commands, held against those."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import policies
from proxy.cli import _parser
from proxy.errors import CommandError
from proxy.settings.config import Config
from proxy.testing import Asking

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
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
    assert f"({path.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


# ------------------------------------------------------------------ files and modules

#: Everything in which somebody may have named a file or a module.
NAMING = sorted(
    path
    for pattern in (
        "*.md", "*.py", "*.toml", "Makefile", "docs/**/*.md", "grafana/*.yml",
        "proxy/**/*.py", "policies/**/*.py", "tests/**/*.py", "benchmarks/**/*.py",
        "grafana/**/*.py",
    )
    for path in ROOT.glob(pattern)
    # Not what the test equipment brings.
    if path != Path(__file__) and ".build" not in path.parts
)  # fmt: skip

#: Nobody wrote these: Python's, and what only a wheel has.
MADE = re.compile("__pycache__|proxy/shipped")

#: From the top of the tree: no other path, name or address goes before it.
NAMED_FILE = re.compile(
    r"(?<![\w./:}-])((?:proxy|policies|tests|benchmarks|grafana|deploy|docs)/[\w./*-]+)"
)
#: With two dots at least where the page is no Python: one is a file's ending or a setting too.
NAMED_MODULE = re.compile(r"(?<![\w./-])((?:proxy|policies)(?:\.\w+){2,})")
REFERENCE = re.compile(r":(?:mod|class|func|meth|data|attr):`[~!]?((?:proxy|policies)\.[\w.]+)`")
BESIDE = re.compile(r"``([a-z_]+\.(?:py|html))``")


def known(module: str) -> bool:
    """Whether there is such a module, or such a name in one."""
    names = module.split(".")
    for length in range(len(names), 0, -1):
        path = ROOT.joinpath(*names[:length])
        if path.is_dir() or path.with_suffix(".py").exists():
            found: Any = importlib.import_module(".".join(names[:length]))
            try:
                for name in names[length:]:
                    found = getattr(found, name)
            except AttributeError:
                return False
            return True
    return False


def wrongly_named(path: Path, text: str) -> Iterator[str]:
    for found in NAMED_FILE.findall(text):
        name = found.rstrip(".-*/")
        if not MADE.search(name) and not list(ROOT.glob(name)):
            yield found
    dotted = REFERENCE.findall(text)
    if path.suffix == ".md":
        dotted += [name for name in NAMED_MODULE.findall(text) if not name.startswith("policies.")]
    yield from (name for name in dict.fromkeys(dotted) if not known(name))
    if path.name == "__init__.py":
        for name in BESIDE.findall(text):
            if not list(path.parent.glob(name)):
                yield name


@pytest.mark.parametrize("path", NAMING, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_modules_that_are_named_exist(path: Path) -> None:
    assert list(wrongly_named(path, path.read_text())) == []


def test_what_does_not_exist_is_found() -> None:
    text = "see `proxy/nowhere.py`, :mod:`proxy.wire.nowhere`, proxy.nowhere.Name, ``nowhere.py``"
    page = list(wrongly_named(ROOT / "README.md", text))
    assert page == ["proxy/nowhere.py", "proxy.wire.nowhere", "proxy.nowhere.Name"]
    wing = list(wrongly_named(ROOT / "proxy" / "wire" / "__init__.py", text))
    assert wing == ["proxy/nowhere.py", "proxy.wire.nowhere", "nowhere.py"]


@pytest.mark.parametrize(
    "wing", sorted((ROOT / "proxy").glob("*/__init__.py")), ids=lambda path: path.parent.name
)
def test_every_wing_is_in_the_architecture(wing: Path) -> None:
    assert f"| `proxy/{wing.parent.name}/` |" in (ROOT / "docs" / "architecture.md").read_text()


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
        if name == "cluster":
            # The tables in it are those that there are without it.
            yield f"[[{inner}]]", {"name": table.model_fields["name"]}
            continue
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
    from proxy.process.reloading import RELOADED

    for heading, rows in documented().items():
        table = heading.strip("[]").split(".")[0]
        for name, _, when in rows:
            assert when in WHEN, name
            taken_over = table in RELOADED or (table, name) in {
                ("sessions", "refuse_early"),
                ("sessions", "sign_refusals"),
                ("log", "slow_seconds"),
                ("admin", "token"),
                ("admin", "token_file"),
                ("admin", "name"),
            }
            assert (when != "restart") == taken_over, f"{heading} {name}"


# ------------------------------------------------------------------ rules


def test_every_rule_has_a_section() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    described = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    assert described == [rule.name for rule in policies.RULES]


def test_the_rule_for_all_requests_forbids_what_it_says() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    [shown] = re.findall(r"^    class NoDrops:\n(?:(?:    .*)?\n)+", text, re.MULTILINE)
    names: dict[str, Any] = {"dataclass": dataclass, "CommandError": CommandError}
    exec(re.sub(r"^    ", "", shown, flags=re.MULTILINE), names)
    ask = Asking(names["NoDrops"])
    for session in (1, None):
        for command in (
            {"drop": "c", "$db": "production"},
            {"dropDatabase": 1, "$db": "production"},
            {"renameCollection": "production.a", "to": "x.a", "$db": "admin"},
            {"applyOps": [], "$db": "admin"},
        ):
            assert ask(command, session=session) is not None
        assert ask({"drop": "c", "$db": "test"}, session=session) is None
        assert ask({"find": "c", "$db": "production"}, session=session) is None


def test_the_rule_that_is_shown_is_the_one_that_is_there() -> None:
    text = (ROOT / "docs" / "rules.md").read_text()
    source = (ROOT / "policies" / "examples" / "named_applications.py").read_text()
    [shown] = re.findall(r"^    class NamedApplications:\n(?:(?:    .*)?\n)+", text, re.MULTILINE)
    assert re.sub(r"^    ", "", shown, flags=re.MULTILINE).strip() in source
