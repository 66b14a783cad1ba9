from __future__ import annotations

import json
from typing import Any

import pytest

from proxy import cli
from proxy.terminal.pools import POOLS, pools
from proxy.terminal.printable import width
from proxy.terminal.tables import table
from tests.terminal.rows import HOSTILE, who
from tests.terminal.stand_in import standing_in


def connection(number: int, **more: Any) -> dict[str, Any]:
    return who(
        **{
            "conn": number,
            "user": "alice@admin",
            "client": f"10.0.0.1:{40_000 + number}",
            "upstream": "db1:27017",
            "age_seconds": float(number),
            "use": "requests",
            "requests": 1_000,
            "in_flight": 0,
            "received_bytes": 2_000,
            "sent_bytes": 3_000,
        }
        | more
    )


ROWS = [
    connection(1, user="", use="monitor", in_flight=1),
    connection(2, in_flight=1),
    connection(3),
    connection(4, client="[fd00::1]:50000"),
    connection(5),
]


def test_whose_connections_there_are_is_counted_the_most_first() -> None:
    first, monitor, other = pools(ROWS)
    assert (first["connections"], first["user"], first["client"]) == (3, "alice@admin", "10.0.0.1")
    assert (first["in_flight"], first["requests"], first["oldest_seconds"]) == (1, 3_000, 5.0)
    assert (monitor["user"], monitor["monitors"], monitor["in_flight"]) == ("", 1, 0)
    assert other["client"] == "[fd00::1]"


@pytest.mark.parametrize("cells", [60, 80])
def test_who_and_how_many_is_there_however_narrow_it_is(cells: int) -> None:
    lines = table(POOLS, pools(ROWS), cells)
    assert max(map(width, lines)) <= cells
    assert lines[1].split()[:4] == ["3", "alice@admin", "shop", "10.0.0.1"]


def test_names_steer_no_terminal() -> None:
    rows = pools([connection(1, user=HOSTILE, application=HOSTILE, client=HOSTILE)])
    assert all(line.isprintable() for line in table(POOLS, rows))


def test_the_command_asks_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"connections": ROWS, "matched": 5, "total": 5, "next": None}
    with standing_in({"connections": document}) as there:
        asking = ["connections", "--alike", "--user", "*", "--admin", there.address]
        assert cli.main(asking) == 0
        assert "limit=1000" in there.targets()[0]
        assert capsys.readouterr().out.splitlines()[1].split()[0] == "3"
        assert cli.main([*asking, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["connections"]) == 3
