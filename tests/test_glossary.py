"""One word for each thing: what the glossary replaced is gone from the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.observe.labels import COMMAND_DECISIONS, INITIATORS, RULE_DECISIONS, SESSION_INCIDENTS

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"

#: What is looked through, at the top of the tree.
PLACES = (
    *("proxy", "policies", "tests", "grafana", "benchmarks", "docs", "deploy"),
    *("README.md", "config.example.toml"),
)
KINDS = {".py", ".html", ".css", ".js", ".md", ".toml", ".yml", ".yaml", ".json", ".service"}
#: Recorded conversations, what is installed or left over, and what has to name the old words.
SKIPPED = ("tests/data/", "tests/clients/", "node_modules", "__pycache__", "/.")
NAMING = (GLOSSARY, Path(__file__))

#: What nobody says any more, by the word that replaced it; and the files where it means
#: something else.
GONE: dict[str, tuple[str, tuple[str, ...]]] = {
    # A transaction holds the lock on a document, a connection a share of the buffers.
    "owner": (
        r"(?i)holders?\b(?<!placeholder)(?<!placeholders)",
        ("proxy/embedded/", "proxy/net/limits.py", "tests/net/"),
    ),
    "owner of a session": (r"\buser_(sessions|open_transactions|transactions)\b", ()),
    "group": (r"(?i)\bwho(ever)? holds (how|what|which)", ()),
    # What a browser is told in Content-Security-Policy, an API of Kubernetes, and another name of a
    # flag.
    "rule": (
        r"(?i)\bpolicy\b|policy_|\bpolicies\.md|\b(the|all|of|by|several|some|these) policies\b"
        r"|[\"`(/]/?policies(?=[\"`] *(:|,) *(Page|self|site))|_polic(y|ies)\b",
        (
            *("proxy/admin/web.py", "proxy/admin/pages.py", "tests/admin/"),
            *("deploy/kubernetes/base/", "proxy/replaying/arguments.py", "tests/replaying/"),
        ),
    ),
    "incident": (r"(?i)\bmisus|offender", ()),
    "admin endpoint": (r"(?i)operators?.? endpoint", ()),
    "refused": (r"refused_by_rule", ()),
    "reported": (r"[\"'`]noticed[\"'`]", ()),
    "initiator": (r"initiator=\"(policy|own)\"", ()),
    "source": (r"errors_total[^\n]{0,40}origin", ()),
    "rejected": (r"(?i)turned away", ()),
    "expired": (r"[\"'`]forgotten[\"'`]", ()),
    "idlest": (r"idle_oldest", ()),
    # There it is what drivers send.
    "driver": (
        r"PyMongo/c\b|PyMongo\|c\||[\"' ]4\.\d+\.\d+\|(?!\d)",
        ("proxy/conversation/hello.py", "tests/conversation/test_hello.py"),
    ),
    "session command": (r"(?i)session-control command", ()),
    "embedded upstream": (r"(?i)built-?in upstream", ()),
    "a list of what needs a restart": (r"needs_restart=[\"']", ()),
}


def texts() -> dict[str, str]:
    """Every file that people read or write, by its path in the tree."""
    found: dict[str, str] = {}
    for place in PLACES:
        top = ROOT / place
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in KINDS and not any(part in name for part in SKIPPED):
                found[name] = "" if path in NAMING else path.read_text(encoding="utf-8")
    return found


TEXTS = texts()


def test_the_tree_is_looked_through() -> None:
    for name in ("proxy/admin/page/page.html", "grafana/dashboards/rules.json", "docs/metrics.md"):
        assert TEXTS[name]
    assert len(TEXTS) > 300


@pytest.mark.parametrize("word", GONE)
def test_replaced_words_are_gone(word: str) -> None:
    pattern, elsewhere = GONE[word]
    left = [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found.group()}"
        for name, text in TEXTS.items()
        if not name.startswith(elsewhere)
        for found in re.finditer(pattern, text)
    ]
    assert not left, f"say {word}:\n" + "\n".join(left)


def rows() -> dict[str, str]:
    """The glossary's words with the rest of their lines."""
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    named = [(line.split(" | ")[0].removeprefix("| "), line) for line in lines]
    return {name: line for name, line in named if name != "Word"}


def test_every_line_says_what_a_word_is_and_where_it_shows() -> None:
    for word, line in rows().items():
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        assert len(cells) == 4, word
        assert all(cell.strip() for cell in cells[:3]), word


def test_the_words_of_decisions_incidents_and_kills_are_the_programs() -> None:
    known = rows()
    for decision in {*RULE_DECISIONS, *COMMAND_DECISIONS}:
        assert decision in known
    for kind in SESSION_INCIDENTS:
        assert f"`{kind}`" in known["incident"]
    for initiator in INITIATORS:
        assert f"`{initiator}`" in known["initiator"]


def test_metrics_that_the_glossary_names_exist() -> None:
    metrics = set(re.findall(r"^\| `(\w+)` \|", TEXTS["docs/metrics.md"], re.MULTILINE))
    for words in rows().values():
        shown = re.split(r"(?<!\\)\|", words)[3]
        for name in re.findall(r"`(\w+_(?:total|ratio|open|info|sessions))`", shown):
            assert name in metrics, name
