"""What the program says of what goes wrong, held against the page that explains it.

Of logs it is every line above ``info``; of starts and connections the texts of their errors, as
they stand in the code. What is put in at run time is left out of both.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "howto" / "what-it-says.md"

#: Where starts and connections are carried out, and where settings are read.
WINGS = ("process", "net", "upstream", "observe", "admin", "settings")
LOUD = {"warning", "error", "exception", "critical"}
#: Calls that end a connection with a reason, besides errors.
ENDING = frozenset({"stop", "_client_gone", "end"})
#: What says that a setting is wrong.
SETTING = frozenset({"append", "ValueError"})
#: As short as this, it is a word between two names.
SHORT = 6


def pieces(node: ast.expr) -> list[str]:
    """What a text is made of before anything is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [part for one in node.values for part in pieces(one)]
    if isinstance(node, ast.BinOp):
        return pieces(node.left) + pieces(node.right)
    if isinstance(node, ast.IfExp):
        return pieces(node.body) + pieces(node.orelse)
    return []


def said() -> Iterator[tuple[str, str]]:
    """Where in the code, and a piece of what is said there."""
    for wing in WINGS:
        for path in sorted((ROOT / "proxy" / wing).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    for text in texts(node, wing):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def texts(call: ast.Call, wing: str) -> Iterator[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in LOUD and isinstance(call.func, ast.Attribute):
        told = call.args[:1]
    elif name == "Seldom":
        told = call.args[1:2]
    elif name in {"settings": SETTING, "admin": frozenset()}.get(wing, ENDING) or (
        wing != "admin" and name.endswith("Error") and name != "ValueError"
    ):
        told = call.args
    else:
        return
    for argument in told:
        for piece in pieces(argument):
            text = piece.strip(" :;,.'\"")
            if (len(text) > SHORT and " " in text) or name in LOUD or name == "Seldom":
                yield text


def plain(text: str) -> str:
    """Without what Markdown adds, in one line."""
    return re.sub(r"\s+", " ", text.replace("`", "").replace("\\|", "|"))


SAID = dict.fromkeys(said())


def test_texts_are_found() -> None:
    found = {text for _, text in SAID}
    assert {"client rejected", "member", "handshake timeout", "connect timeout"} <= found
    assert len(found) > 90


@pytest.mark.parametrize("wing", WINGS)
def test_the_page_has_everything_that_is_said(wing: str) -> None:
    page = plain(PAGE.read_text())
    missing = [
        f"{where}: {text}"
        for where, text in SAID
        if where.startswith(f"proxy/{wing}/") and plain(text) not in page
    ]
    assert missing == [], "explain it in docs/howto/what-it-says.md"
