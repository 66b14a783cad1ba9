"""Spans of requests whose clients ask for them, sent to a collector (OTLP over HTTP).

Everything of OpenTelemetry happens in a thread of its own, which is handed plain data in a queue of
so many places; it is imported only where a collector is configured.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from proxy.build import VERSION
from proxy.errors import ConfigError
from proxy.observe.labels import code_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.conversation.desk import Desk
    from proxy.conversation.finished import Finished

#: Spans that wait to be sent, and how many go at a time at the most.
MOST_WAITING: Final = 2_048
_MOST_SENT: Final = 512

#: Seconds between two sendings, for a collector to answer, and for the last spans at the end.
_PAUSE: Final = 1.0
_PATIENCE: Final = 5.0
_FAREWELL: Final = 2.0

#: W3C Trace Context, 3.2: version, trace id, parent id, flags.
_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

#: A parent, when the request came and was over in nanoseconds since 1970, a name, attributes, and
#: the error if it was none.
_Told = tuple[str, int, int, str, dict[str, Any], str]


class Traces:
    """Sends spans to ``endpoint``. ``count`` is told how many were ``exported``, ``failed`` or
    ``dropped`` for want of room, from whichever thread.

    Raises:
        ConfigError: what is needed for it is not installed.
    """

    def __init__(self, endpoint: str, count: Callable[[str, int], None]) -> None:
        try:
            self._sender = _Sender(endpoint)
        except ImportError as error:
            wanted = "pip install 'mongo-session-proxy[otel]'"
            raise ConfigError([f"traces.endpoint: needs the extra otel: {wanted}"]) from error
        self._count = count
        self._waiting: queue.Queue[_Told] = queue.Queue(MOST_WAITING)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="traces", daemon=True)
        self._thread.start()

    def tell(self, request: Finished, desk: Desk) -> None:
        """A request is over whose comment carries a traceparent."""
        ended = time.time_ns()
        began = ended - round(request.seconds * 1e9)
        database, _, collection = request.namespace.partition(".")
        attributes: dict[str, Any] = {
            "db.system.name": "mongodb",
            "db.operation.name": request.command,
            "db.namespace": database,
            "server.address": desk.upstream,
            "mongo_session_proxy.upstream_seconds": request.upstream_seconds,
            "mongo_session_proxy.proxy_seconds": request.seconds - request.upstream_seconds,
            "mongo_session_proxy.refused": request.refused,
            "mongo_session_proxy.conn": desk.connection,
        }
        if collection and collection != "$cmd":
            attributes["db.collection.name"] = collection
        if request.session is not None:
            # Whoever reads traces need not be able to use the session.
            named = sha256(request.session.id + request.session.uid).hexdigest()
            attributes["mongo_session_proxy.session_hash"] = named[:16]
        error = ""
        if not request.ok:
            error = "no answer" if request.ok is None else code_name(request.code)
            attributes["error.type"] = error
        if request.code is not None:
            attributes["db.response.status_code"] = str(request.code)
        name = f"{request.command} {request.namespace}".strip()
        try:
            self._waiting.put_nowait((request.parent, began, ended, name, attributes, error))
        except queue.Full:
            self._count("dropped", 1)

    def close(self) -> None:
        """Send what waits, for as long as that may take; not to be called on the loop."""
        self._ended.set()
        self._thread.join(_FAREWELL)

    def _send(self) -> None:
        while True:
            last = self._ended.wait(_PAUSE)
            while told := self._some():
                try:
                    sent = self._sender.send(told)
                except Exception:
                    sent = False
                self._count("exported" if sent else "failed", len(told))
                if last and not sent:
                    return
            if last:
                return

    def _some(self) -> list[_Told]:
        told: list[_Told] = []
        with suppress(queue.Empty):
            while len(told) < _MOST_SENT:
                told.append(self._waiting.get_nowait())
        return told


class _Sender:
    """All that needs OpenTelemetry."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import SpanExportResult

        ended: list[ReadableSpan] = []

        class Collecting(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                ended.append(span)

        resource = Resource.create(
            {"service.name": "mongo-session-proxy", "service.version": VERSION}
        )
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(Collecting())
        self._tracer = provider.get_tracer("mongo-session-proxy", VERSION)
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE)
        self._success = SpanExportResult.SUCCESS
        self._trace = trace
        self._ended = ended

    def send(self, told: list[_Told]) -> bool:
        """Whether the collector has taken all of them."""
        for one in told:
            self._span(*one)
        spans = self._ended[:]
        self._ended.clear()
        return not spans or self._exporter.export(spans) is self._success

    def _span(
        self, parent: str, began: int, ended: int, name: str, attributes: dict[str, Any], error: str
    ) -> None:
        trace = self._trace
        found = _PARENT.fullmatch(parent)
        assert found is not None
        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        context = trace.SpanContext(
            trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags)
        )
        above = trace.set_span_in_context(trace.NonRecordingSpan(context))
        span = self._tracer.start_span(
            name, above, kind=trace.SpanKind.SERVER, attributes=attributes, start_time=began
        )
        if error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, error))
        span.end(ended)
