from __future__ import annotations

import trio
import trio.testing

from proxy.observe.scraping import metrics_page, watch_the_loop
from proxy.observe.telemetry import Telemetry
from tests.patience import PATIENCE
from tests.threads import no_thread_left


class Noting:
    def __init__(self) -> None:
        self.lags: list[float] = []

    def late(self, seconds: float) -> None:
        self.lags.append(seconds)


async def test_the_loop_is_looked_at_ten_times_a_second(autojump_clock, nursery) -> None:
    telemetry = Noting()
    nursery.start_soon(watch_the_loop, telemetry)
    await trio.sleep(1.05)
    assert len(telemetry.lags) == 10
    assert max(telemetry.lags) < 1e-6
    nursery.cancel_scope.cancel()


async def test_lag_is_how_much_later_than_due(mock_clock, nursery) -> None:
    telemetry = Noting()
    nursery.start_soon(watch_the_loop, telemetry)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(0.75)
    await trio.testing.wait_all_tasks_blocked()
    assert [round(lag, 6) for lag in telemetry.lags] == [0.65]
    nursery.cancel_scope.cancel()


async def test_the_page_is_the_one_that_would_be_made_in_one_go() -> None:
    telemetry = Telemetry("1.2.3")
    telemetry.request("find")
    with no_thread_left(), trio.fail_after(PATIENCE):
        kind, body = await metrics_page(telemetry, "application/openmetrics-text; version=1.0.0")
    other_kind, other = telemetry.page("application/openmetrics-text; version=1.0.0")
    assert kind == other_kind

    def ours(page: bytes) -> list[bytes]:
        return [line for line in page.splitlines() if b"mongo_session_proxy_" in line]

    assert ours(body) == ours(other)
    assert len(ours(body)) > 100
