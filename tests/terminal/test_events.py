from __future__ import annotations

from typing import Any

import pytest

from proxy.terminal.events import said
from tests.terminal.rows import event

WORDS: list[tuple[str, dict[str, Any], str]] = [
    ("session_started", {}, "session started"),
    ("transaction_started", {"transaction": 4}, "transaction 4 started"),
    (
        "transaction_ended",
        {"transaction": 4, "outcome": "unknown", "seconds": None, "statements": 1},
        "transaction 4 unknown, 1 statement",
    ),
    (
        "reported",
        {"rule": "ownership", "reason": "why", "command": "find"},
        "find would be refused by ownership: why",
    ),
    ("incident", {"kind": "shared"}, "used one session from two client processes"),
    (
        "foreign_uid",
        {"command": "killSessions", "owner": "bob@app", "reason": "no"},
        "killSessions: tried a session of bob@app (foreign uid): no",
    ),
    (
        "incident",
        {"kind": "aborted", "rule": "transaction_guard", "reason": "it was idle"},
        "left a transaction open too long: aborted by the rule transaction_guard: it was idle",
    ),
    (
        "kill",
        {"kind": "done", "command": "killSessions", "sessions": 1},
        "killSessions done: 1 session",
    ),
    (
        "kill",
        {"kind": "done", "command": "kill", "operator": "ann", "targets": 3, "reason": "0 failed"},
        "kill by operator ann done: 3 sessions (0 failed)",
    ),
    (
        "kill",
        {
            **{"kind": "done", "command": "kill", "operator": "ann", "targets": 3},
            "meant": {
                "patterns": [{"owner": "a@b", "application": "my shop"}, {"min_idle": "5m"}],
                "sessions": 2,
            },
        },
        'kill by operator ann done: 3 sessions, meant were owner=a@b application="my shop" or'
        " min_idle=5m or 2 by id",
    ),
    (
        "close",
        {"kind": "done", "command": "close", "operator": None, "conn": 4, "targets": 1},
        "close by an operator done: conn 4",
    ),
    ("sessions_killed", {"sessions": 1200}, "all sessions of shop@admin killed: 1,200"),
    (
        "sessions_killed",
        {"sessions": 3, "everybody": True},
        "all sessions of everybody killed: 3",
    ),
    (
        "slow",
        {
            **{"command": "find", "namespace": "shop.orders", "seconds": 2.5, "comment": "page"},
            **{"upstream_seconds": 2.0, "proxy_seconds": 0.5, "result": "ok"},
        },
        "find on shop.orders took 2.500 s, 2.000 s upstream: ok, comment page",
    ),
    (
        "slow",
        {"command": "ping", "seconds": 2.5, "upstream_seconds": 2.0, "result": "no answer"},
        "ping took 2.500 s, 2.000 s upstream: no answer",
    ),
    (
        "login_failed",
        {"reason": "18 AuthenticationFailed"},
        "login failed: 18 AuthenticationFailed",
    ),
    (
        "topology",
        {
            **{"kind": "replica set", "members": ["a:1", "b:1"]},
            **{"primary": "b:1", "primary_before": "a:1"},
        },
        "topology: replica set of a:1, b:1, primary b:1 (was a:1)",
    ),
    (
        "upstream_down",
        {"upstream": "a:1", "problem": "refused"},
        "upstream a:1 down: refused",
    ),
    ("upstream_up", {"upstream": "a:1"}, "upstream a:1 up again"),
    ("proxy_started", {"version": "1"}, "proxy started, version 1"),
    ("proxy_stopping", {"replaced": True}, "proxy stopping: replaced by a new process"),
    ("reloaded", {"kind": "failed"}, "reload failed: see the log"),
    (
        "worker_died",
        {"worker": 1, "status": -9, "connections_lost": 5},
        "worker 1 died, status -9, 5 connections lost",
    ),
    ("what_comes_later", {}, "what comes later"),
]


@pytest.mark.parametrize(("name", "more", "text"), WORDS)
def test_in_words(name: str, more: dict[str, Any], text: str) -> None:
    assert said(event(name, **more)) == text
