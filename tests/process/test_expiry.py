from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trustme

from proxy.net.certificates import DAY
from proxy.process import expiry
from tests.end_to_end.tools import Log, proxy_before
from tests.running import in_time
from tests.upstreams import RecordingUpstream

NAME = "certificate_expiry_timestamp_seconds"


def _read(running: Any) -> dict[str, float]:
    _, body = running.server.telemetry.page()
    lines = [line for line in body.decode().splitlines() if NAME in line and line[0] != "#"]
    return {line.partition("{")[2].partition("}")[0]: float(line.split()[-1]) for line in lines}


@in_time
async def test_metric_and_warnings_at_start_and_after_a_reload(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    own = tmp_path / "own.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(own)
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    monkeypatch.setattr(expiry, "time", SimpleNamespace(time=lambda: 0.0))
    async with proxy_before(port, log=log, listen={"tls": {"certificate": str(own)}}) as running:
        before = _read(running)
        labels = f'file="{own}",role="server",side="listener"'
        assert list(before) == [labels]
        [warning] = log.lines("certificate")
        assert warning["level"] == "warning"
        assert warning["problem"].startswith(f"listen.tls.certificate: {own}: is not valid before")

        soon = before[labels] - 3.5 * DAY
        monkeypatch.setattr(expiry, "time", SimpleNamespace(time=lambda: soon))
        running.server.reload()
        assert _read(running) == before
        assert ", in 3 days" in log.lines("certificate")[1]["problem"]

        # What cannot be loaded is not in use.
        await trio.Path(own).write_bytes(b"rubbish")
        running.server.reload()
        assert _read(running) == before
        assert len(log.lines("certificate")) == 2
    nursery.cancel_scope.cancel()


def test_those_that_expire_first_are_shown(tmp_path: Path) -> None:
    found = expiry.Expiry(None, None)  # type: ignore[arg-type]
    dated = expiry.certificates.Certificates("upstream")
    for number in range(150):
        for ends in (number + 7.0, number + 0.0):
            file = tmp_path / f"{number}"
            dated.all.append(
                expiry.certificates.Certificate("upstream", "x509", "", file, "", 0.0, ends)
            )
    found._found["upstream"] = dated
    shown = found.ends()
    assert len(shown) == expiry.MOST_SHOWN
    assert shown["upstream", "x509", str(tmp_path / "99")] == 99.0
