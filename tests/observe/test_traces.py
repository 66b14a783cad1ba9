"""Spans of requests with a traceparent, as a collector gets them."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from proxy.conversation.desk import Desk
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.finished import Finished
from proxy.conversation.rule import Rules
from proxy.conversation.sharing import Sessions
from proxy.observe import traces
from proxy.session.ids import LogicalSessionId
from tests.talk import Watching

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LSID = LogicalSessionId(bytes(range(16)), bytes(32))
FINISHED = Finished(
    "find", "shop.orders", None, LSID, 0.5, 0.4, True, None, False, f"00-{TRACE}-{SPAN}-01"
)


class Collector(HTTPServer):
    """Takes what is posted, and answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        gzipped = self.headers.get("content-encoding") == "gzip"
        self.server.bodies.append(gzip.decompress(body) if gzipped else body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_what: object) -> None: ...


@contextmanager
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def desk() -> Desk:
    return Desk(Sessions(Rules(()), Watching()), 7, "10.0.0.1", "db:1", UpstreamFacts)


def sent(server: Collector, *finished: Finished) -> Counter[str]:
    """What was counted when these were told of and sent."""
    counted: Counter[str] = Counter()
    one = traces.Traces(server.url, lambda result, count: counted.update({result: count}))
    for request in finished:
        one.tell(request, desk())
    one.close()
    return counted


def attributes(span: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes
    }


def test_a_span_is_a_child_of_the_one_that_was_named() -> None:
    with collector() as server:
        assert sent(server, FINISHED) == {"exported": 1}
        [span] = server.spans()
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert span.name == "find shop.orders"
    assert span.end_time_unix_nano - span.start_time_unix_nano == 500_000_000
    said = attributes(span)
    named = said.pop("mongo_session_proxy.session_hash")
    assert len(named) == 16
    assert said.pop("mongo_session_proxy.proxy_seconds") == pytest.approx(0.1)
    assert said == {
        "db.system.name": "mongodb",
        "db.operation.name": "find",
        "db.namespace": "shop",
        "db.collection.name": "orders",
        "server.address": "db:1",
        "mongo_session_proxy.upstream_seconds": 0.4,
        "mongo_session_proxy.refused": False,
        "mongo_session_proxy.conn": 7,
    }


def test_an_error_says_which_and_whose() -> None:
    refused = FINISHED._replace(ok=False, code=13, refused=True, namespace="admin.$cmd")
    lost = FINISHED._replace(ok=None, session=None)
    with collector() as server:
        sent(server, refused, lost)
        first, second = map(attributes, server.spans())
        assert [span.status.code for span in server.spans()] == [2, 2]
    assert first["error.type"] == "Unauthorized"
    assert first["db.response.status_code"] == "13"
    assert first["mongo_session_proxy.refused"] is True
    assert "db.collection.name" not in first
    assert second["error.type"] == "no answer"
    assert "mongo_session_proxy.session_hash" not in second


def test_what_the_client_does_not_sample_is_not_sent() -> None:
    with collector() as server:
        sent(server, FINISHED._replace(parent=f"00-{TRACE}-{SPAN}-00"))
        assert server.spans() == []


def test_a_collector_that_refuses_or_is_gone_is_counted() -> None:
    with collector() as server:
        server.status = 400
        assert sent(server, FINISHED, FINISHED) == {"failed": 2}


def test_what_is_too_much_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MOST_WAITING", 10)
    monkeypatch.setattr(traces, "_PAUSE", 60.0)
    with collector() as server:
        assert sent(server, *[FINISHED] * 25) == {"dropped": 15, "exported": 10}


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    program = (
        "import sys; import proxy.process.server, proxy.process.worker, proxy.cli;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
