"""The commands against a real proxy with real drivers: whatever an operator has to find is found
and named, and what is killed is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.browser.scene import BUDGET, TOKEN, scene
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def admin() -> Iterator[str]:
    with scene() as pages:
        yield pages.split("/")[2]


def run(admin: str, *arguments: str, token: str = TOKEN) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments, "--admin", admin],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "MONGO_SESSION_PROXY_TOKEN": token},
    )
    return done.returncode, done.stdout + done.stderr


def line(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if word in line)


def test_top_names_who_needs_attention(admin: str) -> None:
    status, text = run(admin, "top")
    assert status == 0
    assert "bob@admin · leaky-importer · PyMongo" in line(text, "90 % of the session budget")
    assert "mallory@admin" in line(text, "foreign uid")


def test_a_leak_is_at_the_top_of_the_groups(admin: str) -> None:
    _, text = run(admin, "groups")
    first = text.splitlines()[1]
    assert first.split()[:3] == ["bob@admin", "leaky-importer", "PyMongo|c"]


def test_an_open_transaction_is_named(admin: str) -> None:
    _, text = run(admin, "transactions")
    assert line(text, "monthly-reports").split()[0] == "olivia@admin"
    _, text = run(admin, "cursors")
    assert len([one for one in text.splitlines() if "monthly-reports" in one]) == 2


def test_what_is_running_is_seen(admin: str) -> None:
    _, text = run(admin, "sessions", "--state", "operation")
    assert "count" in line(text, "stock-keeper")
    _, text = run(admin, "connections", "--application", "stock-keeper", "--state", "operation")
    assert "alice@admin" in text


def test_kills_need_the_token_and_then_kill(admin: str) -> None:
    leak = ("--application", "leaky-*")
    assert run(admin, "kill", *leak, "--yes", token="") == (
        2,
        "mongo-session-proxy: a token is needed: --token-file FILE or MONGO_SESSION_PROXY_TOKEN\n",
    )
    status, text = run(admin, "kill", *leak, "--dry-run", "--json")
    assert (status, json.loads(text)["reachable"]) == (0, json.loads(text)["matched"])
    assert json.loads(text)["matched"] >= BUDGET - 5
    status, text = run(admin, "kill", *leak, "--yes")
    assert status == 0
    assert " killed, 0 unreachable, 0 failed\nplaces freed in the session budget: " in text
    assert (
        f"bob@admin · leaky-importer: {BUDGET - 4}; the owner has 0 of {BUDGET} still in use"
        in text
    )
    _, text = run(admin, "sessions", *leak, "--json", "--state", "killed")
    assert json.loads(text)["matched"] >= BUDGET - 5


def test_what_works_behind_a_connection_can_be_killed_through_another(admin: str) -> None:
    status, text = run(admin, "kill", "--application", "monthly-reports", "--yes")
    assert (status, text.splitlines()[:2]) == (
        0,
        ["1 killed, 0 unreachable, 0 failed", "places freed in the session budget: 1"],
    )
    _, text = run(admin, "transactions")
    assert "monthly-reports" not in text
