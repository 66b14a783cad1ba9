from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from proxy.admin.web import put_together

PARTS = files("proxy.admin") / "page"


def test_the_page_is_one_document_of_all_its_parts() -> None:
    body, _ = put_together(PARTS)
    assert b'<link rel="stylesheet"' not in body
    assert b"<script src" not in body
    parts = [part for part in Path(str(PARTS)).iterdir() if part.suffix in {".js", ".css"}]
    assert len(parts) > 2
    for part in parts:
        assert part.read_bytes() in body, part.name


def test_what_may_run_is_named_by_its_digest() -> None:
    body, policy = put_together(PARTS)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        found = re.findall(rf"<{element}>(.*?)</{element}>".encode(), body, re.DOTALL)
        digests = [f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in found]
        assert rules[directive].split() == digests


def test_a_part_that_is_not_there_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<script src="gone.js"></script>')
    with pytest.raises(FileNotFoundError, match=r"gone\.js"):
        put_together(tmp_path)
