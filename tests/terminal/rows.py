"""What an endpoint gives, for tests of what shows it."""

from __future__ import annotations

from typing import Any

HOSTILE = "<b>\x1b[2J\u202e\x9b31m\r\n\ud800é"


def summary(**more: Any) -> dict[str, Any]:
    return {
        "version": "1.2.3",
        "uptime_seconds": 90.0,
        "connections": 4,
        "connections_limit": 10_000,
        "ready": True,
        "reason": "",
        "kill": "on",
        "sessions": 2,
        "sessions_limit": 1_000_000,
        "transactions": 0,
        "transactions_oldest_seconds": 0.0,
        "transactions_idlest_seconds": 0.0,
        "cursors": 0,
        "cursors_oldest_seconds": 0.0,
        "operations": 0,
        "operations_oldest_seconds": 0.0,
    } | more


def who(**more: Any) -> dict[str, Any]:
    return {
        "owner": "alice@admin",
        "application": "shop",
        "driver": "PyMongo|c",
        "driver_version": "4.20.0",
        "client": "10.0.0.1",
    } | more


def session(**more: Any) -> dict[str, Any]:
    return who(
        **{
            "session": "11111111-2222-4333-8444-555555555555",
            "uid": "ab" * 32,
            "age_seconds": 90.0,
            "idle_seconds": 0.5,
            "operations": [],
            "cursors": 0,
            "txn_number": None,
            "transaction": None,
            "ended": None,
        }
        | more
    )


def group(**more: Any) -> dict[str, Any]:
    return who(
        **{
            "live": 2,
            "sessions": 3,
            "transactions": 0,
            "cursors": 0,
            "operations": 0,
            "oldest_seconds": 5.0,
            "idlest_seconds": 5.0,
            "owner_sessions": 3,
            "owner_live": 2,
            "application_sessions": 3,
            "application_live": 2,
            "budget_used": None,
            "bound": None,
            "limit": None,
            "used": None,
        }
        | more
    )


def upstream(**more: Any) -> dict[str, Any]:
    return {
        "upstream": "db1:27017",
        "name": "db1:27017",
        "role": "primary",
        "set": "rs0",
        "up": True,
        "since_seconds": 75.0,
        "problem": "",
        "wire_version": 21,
        "listener": "127.0.0.1:27018",
        "connections": 3,
    } | more


def rule(**more: Any) -> dict[str, Any]:
    return {
        "rule": "session_budget",
        "name": "session_budget",
        "mode": "enforce",
        "settings": {"per_user": 20, "reserved": 0, "operators": ["killAnySession"]},
        "about": "Refuses new sessions over budget.",
        "refused": 4_050,
        "reported": 0,
        "aborted": 0,
    } | more


def event(name: str, **more: Any) -> dict[str, Any]:
    return {
        "time": "2026-03-02T03:12:00.250Z",
        "event": name,
        "user": "shop@admin",
        "application": "shop",
        "driver": "PyMongo",
        "driver_version": "4.20",
        "client": "10.0.0.1",
        "session": "11111111-2222-4333-8444-555555555555",
    } | more


def pages(**more: Any) -> dict[str, dict[str, Any]]:
    """Every page with a row or two."""
    return {
        "summary": summary(),
        "groups": {"groups": [group()], "matched": 1, "total": 1, "next": None},
        "transactions": {"transactions": [], "matched": 0, "total": 0, "next": None},
        "cursors": {"cursors": [], "matched": 0, "total": 0, "next": None},
        "connections": {"connections": [], "matched": 0, "total": 0, "next": None},
        "namespaces": {"namespaces": [], "matched": 0, "total": 0, "next": None},
        "incidents": {"incidents": []},
        "upstream": {"upstream": [upstream()]},
        "rules": {"rules": [rule()]},
        "sessions": {
            "sessions": [session(), session(owner="bob@admin")],
            "matched": 2,
            "total": 2,
            "next": None,
        },
    } | more
