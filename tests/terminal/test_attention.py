from __future__ import annotations

from proxy.terminal.attention import attention
from tests.terminal.rows import HOSTILE, group, summary, who


def test_names_are_made_printable() -> None:
    lines = attention(summary(), [group(owner=HOSTILE, budget_used=1.0)], [], [])
    assert lines
    assert all(text.isprintable() for line in lines for text in line)


def test_that_nobody_is_served_comes_first() -> None:
    away = summary(ready=False, reason="db1:27017: Connection refused", sessions=900_000)
    first, *_ = attention(away, [group(budget_used=1.0)], [], [])
    assert first.short == "clients are not served: db1:27017: Connection refused"


def test_nothing_needs_attention_where_all_is_well() -> None:
    assert attention(summary(), [group(budget_used=0.79)], [], []) == []


def test_what_needs_attention_is_named_by_user_application_and_driver() -> None:
    idle = who(idle_seconds=31.0)
    stale = who(kind="shared", rule=None, age_seconds=901.0)
    theft = who(user="mallory@admin", kind="foreign_uid", rule=None, age_seconds=5.0)
    lines = attention(
        summary(sessions=900_000),
        [group(sessions=500_000, owner="bob@admin"), group(budget_used=0.8)],
        [idle],
        [theft, stale],
    )
    assert lines[1].short == "alice@admin · shop: 80 % of the session budget used"
    assert [line.whole for line in lines] == [
        "900,000 sessions: nearly as many as there may be",
        "alice@admin · shop · PyMongo|c 4.20.0: 80 % of the session budget used",
        "alice@admin · shop · PyMongo|c 4.20.0: a transaction has been idle for 31.0 s",
        "bob@admin · shop · PyMongo|c 4.20.0: has 500,000 sessions; are they ended?",
        "mallory@admin · shop · PyMongo|c 4.20.0: tried a session of alice@admin (foreign uid), "
        "5.0 s ago",
    ]


def test_many_budgets_hide_nothing_else() -> None:
    full = [group(owner=f"u{number}@admin", budget_used=number / 10) for number in range(8, 12)]
    idle = who(idle_seconds=31.0)
    theft = who(user="mallory@admin", kind="foreign_uid", rule=None, age_seconds=5.0)
    said = [one.short for one in attention(summary(), full, [idle], [theft])]
    assert said[0].startswith("u11@admin")
    assert "idle for" in said[1]
    assert said[2].startswith("mallory@admin")
    assert len(said) == 6
