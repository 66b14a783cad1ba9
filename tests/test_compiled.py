"""What the compiler of the optional build cannot follow must not be in the modules it compiles.

mypyc 2.4 compiles each of these without a word, into something else than Python makes of it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_build import COMPILED, compiled_modules
from proxy.build import VERSION

ROOT = Path(__file__).parent.parent
MODULES = [str(path.relative_to(ROOT)) for path in compiled_modules(ROOT)]

#: Tests that may set anything.
TESTS = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("test_*.py"))]

#: What may be called twice without harm.
HARMLESS = {"len", "_int32"}

#: Functions within functions that are gone when those return.
SHORT_LIVED = {"place"}


def names_of_two_errors(tree: ast.AST) -> Iterator[str]:
    """A name has one type in a function: the second error is a TypeError where it is caught."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            caught: dict[str, str] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    kind = ast.unparse(node.type)
                    if caught.setdefault(node.name, kind) != kind:
                        yield f"{node.lineno}: {node.name}"


def calls_in_slices(tree: ast.AST) -> Iterator[str]:
    """The bounds of a slice of a memoryview or a bytearray are evaluated twice."""
    for bounds in ast.walk(tree):
        if isinstance(bounds, ast.Slice):
            for node in ast.walk(bounds):
                called = node.func if isinstance(node, ast.Call) else None
                if isinstance(called, ast.Name) and called.id in HARMLESS:
                    continue
                if called is not None or isinstance(node, ast.NamedExpr | ast.Await):
                    yield f"{bounds.lineno}: {ast.unparse(node)}"


def fields_of_absent_types(tree: ast.Module) -> Iterator[str]:
    """The fields of a dataclass and a NamedTuple are looked up when it is made: a class that is not
    there crashes."""
    absent = {
        name.asname or name.name
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for imported in node.body
        if isinstance(imported, ast.Import | ast.ImportFrom)
        for name in imported.names
    }
    for made in tree.body:
        if not isinstance(made, ast.ClassDef):
            continue
        tuples = any(ast.unparse(base) == "NamedTuple" for base in made.bases)
        data = any("dataclass" in ast.unparse(decorator) for decorator in made.decorator_list)
        if tuples or data:
            for field in made.body:
                if isinstance(field, ast.AnnAssign):
                    kind = ast.unparse(field.annotation).partition("[")[0]
                    if kind in absent:
                        yield f"{field.lineno}: {ast.unparse(field)}"
            # Nor can one be made where it has a base.
            if data:
                yield from (f"{made.lineno}: {made.name}" for _ in made.bases)


def functions_that_keep(tree: ast.Module) -> Iterator[str]:
    """A function within a function is one cycle with its variables. Those of connections would
    stay for good, as full collections are put off (:mod:`proxy.memory`)."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                    node is not function and node.name not in SHORT_LIVED
                ):
                    yield f"{node.lineno}: {node.name}"


def tuples_of_floats_read_early(tree: ast.Module) -> Iterator[str]:
    """A constant whose type is found to be a tuple of so many floats is unset outside of functions:
    the program does not start. One of ``Final[tuple[float, ...]]`` is there."""
    made = {
        ast.unparse(node.target)
        for node in tree.body
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.annotation) == "Final"
        and isinstance(node.value, ast.Tuple)
        and any(isinstance(getattr(one, "value", None), float) for one in node.value.elts)
    }
    for statement in tree.body:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                    name = ast.unparse(node).partition(".")[0]
                    if name in made:
                        yield f"{node.lineno}: {name}"


def yields_while_handling(tree: ast.Module) -> Iterator[str]:
    """A generator leaves the error that it handles behind: each later one refers to it, and so on,
    for good."""
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler):
            for node in ast.walk(handler):
                if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await):
                    yield f"{node.lineno}: {ast.unparse(node)}"


def heirs_of_abstract_classes(tree: ast.Module) -> Iterator[str]:
    """A class does not get a registry of its own: everything of the base is an instance of it."""
    abstract = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("abc", "collections.abc")
        for name in node.names
    }
    for made in tree.body:
        if isinstance(made, ast.ClassDef):
            for base in made.bases:
                if ast.unparse(base).partition("[")[0] in abstract:
                    yield f"{made.lineno}: {made.name}"


def is_final(module: str, name: str) -> bool:
    """Whether the compiler takes what is assigned there to be always the same."""
    return any(
        isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) == name
        and ast.unparse(node.annotation).startswith("Final")
        for node in ast.parse((ROOT / module).read_text()).body
    )


def heirs_of_compiled_classes(tree: ast.Module) -> Iterator[str]:
    """What is compiled takes no instance of a class that Python makes of a compiled one."""
    imported = {
        name.asname or name.name: f"{node.module}".replace(".", "/") + ".py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    for made in ast.walk(tree):
        if isinstance(made, ast.ClassDef):
            for base in made.bases:
                if imported.get(ast.unparse(base).partition("[")[0]) in MODULES:
                    yield f"{made.lineno}: {made.name}"


def constants_set(tree: ast.Module) -> Iterator[str]:
    """A constant is compiled into where it is used: a test that sets it there changes nothing."""
    imported = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            where, name = (
                one.value if isinstance(one, ast.Constant) else "" for one in node.args[:2]
            )
            if where:
                module, _, name = str(where).rpartition(".")
            else:
                module = imported.get(ast.unparse(node.args[0]), "")
            module = module.replace(".", "/") + ".py"
            if module in MODULES and is_final(module, str(name)):
                yield f"{node.lineno}: {module}: {name}"


def test_each_module_is_compiled_once() -> None:
    assert len(MODULES) == len(set(MODULES))


@pytest.mark.parametrize("file", TESTS, ids=str)
def test_no_test_sets_what_the_compiler_has_fixed(file: Path) -> None:
    assert list(constants_set(ast.parse((ROOT / file).read_text()))) == []


def test_a_constant_that_a_test_sets_is_found() -> None:
    source = "from proxy.net import readiness\nm.setattr(readiness, 'BULK_SIZE', 1)"
    assert list(constants_set(ast.parse(source))) == ["2: proxy/net/readiness.py: BULK_SIZE"]
    source = "m.setattr('proxy.net.readiness.BULK_SIZE', 1)"
    assert list(constants_set(ast.parse(source))) == ["1: proxy/net/readiness.py: BULK_SIZE"]


def test_no_class_of_what_stays_python_has_a_compiled_base() -> None:
    paths = [path for wing in ("proxy", "policies") for path in (ROOT / wing).rglob("*.py")]
    found = {
        name: list(heirs_of_compiled_classes(ast.parse(path.read_text())))
        for path in paths
        if (name := str(path.relative_to(ROOT))) not in MODULES
    }
    assert {name: heirs for name, heirs in found.items() if heirs} == {}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "rule",
    [
        names_of_two_errors,
        calls_in_slices,
        fields_of_absent_types,
        functions_that_keep,
        heirs_of_abstract_classes,
        tuples_of_floats_read_early,
        yields_while_handling,
    ],
)
def test_the_compiler_follows(rule, module: str) -> None:
    assert list(rule(ast.parse((ROOT / module).read_text()))) == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (
            names_of_two_errors,
            "def f():\n try: pass\n except A as e: pass\n except B as e: pass",
        ),
        (calls_in_slices, "rest[send(rest) :]"),
        (functions_that_keep, "async def f():\n def g(): pass"),
        (
            heirs_of_compiled_classes,
            "from proxy.net.transport import SocketTransport\nclass C(SocketTransport): pass",
        ),
        (
            heirs_of_abstract_classes,
            "from collections.abc import Set\nclass C(Set[int]): pass",
        ),
        (
            yields_while_handling,
            "def f():\n try: pass\n except A as e: yield e",
        ),
        (
            tuples_of_floats_read_early,
            "A: Final = (0.5, 1.0)\nB: Final = tuple(map(str, A))",
        ),
        (
            fields_of_absent_types,
            "if TYPE_CHECKING:\n from m import C\nclass D(NamedTuple):\n one: C",
        ),
        (
            fields_of_absent_types,
            "if TYPE_CHECKING:\n from m import C\n@dataclass(slots=True)\nclass D:\n one: C",
        ),
    ],
)
def test_the_rules_find_what_they_look_for(rule, source: str) -> None:
    assert len(list(rule(ast.parse(source)))) == 1


def test_patterns_name_files() -> None:
    assert all(list(ROOT.glob(pattern)) for pattern in COMPILED)


@pytest.mark.skipif("+compiled" not in VERSION, reason="this is not the compiled build")
@pytest.mark.parametrize("module", MODULES)
def test_each_can_be_the_first_that_is_imported(module: str) -> None:
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    program = f"import {name} as it, sys; sys.exit(it.__file__.endswith('.py'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert done.returncode == 0
