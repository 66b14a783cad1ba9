"""Structured logs on stderr, as text or JSON, without credentials.

Every line of a client connection carries its ``conn`` id: log through
:func:`connection_logger`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, TextIO

import structlog

REDACTED: Final = "[redacted]"

_SECRET_WORDS: Final = (
    "payload|passw(?:or)?d|passphrase|pwd|secret|token|jwt|credentials?|authorization|signature|"
    "salt|nonce|proof|storedkey|serverkey|privatekey"
)
_SECRET_KEY: Final = re.compile(_SECRET_WORDS, re.IGNORECASE)

#: What gives a secret away inside a text, and what is written in its place.
_SECRET_TEXT: Final = (
    # The password of any URI; it may hold unescaped "/" and "@", so up to the last "@".
    (re.compile(r"(\w://[^\s:/@]*:)\S*@"), rf"\1{REDACTED}@"),
    # JSON web tokens: the encoded header always begins with '{"'.
    (re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), REDACTED),
    # SCRAM (RFC 5802): nonces, salts, proofs and signatures.
    (re.compile(r"\b([rspv])=[^\s,'\"]{8,}"), rf"\1={REDACTED}"),
    # Printed documents and query strings: 'payload': b'…', pwd=…, "token": "…".
    (
        re.compile(
            rf"([\"']?\w*(?:{_SECRET_WORDS})\w*[\"']?\s*[:=]\s*)"
            r"(?:\w*\(?b?'(?:[^'\\]|\\.)*'\)?|\w*\(?b?\"(?:[^\"\\]|\\.)*\"\)?|[^\s,;&}\])]+)",
            re.IGNORECASE,
        ),
        rf"\1{REDACTED}",
    ),
)


def redact(value: Any) -> Any:  # noqa: ANN401 - whatever is logged
    """``value`` without credentials: secret-sounding keys and texts are replaced at any depth.

    Bytes are never shown, only counted. Control characters are escaped, so that nothing a
    client sends can forge a line or reach a terminal.
    """
    if isinstance(value, str):
        return _printable(_redact_text(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {
            redact(key): REDACTED if _is_secret(str(key)) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _redact_text(text: str) -> str:
    # Every pattern needs one of these; most texts have none.
    if "=" not in text and ":" not in text and "eyJ" not in text:
        return text
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # A traceback is ours and keeps its lines.
    traceback = event.pop("exception", None)
    event = redact(event)
    if traceback is not None:
        lines = traceback.splitlines()
        event["exception"] = "\n".join(_printable(_redact_text(line)) for line in lines)
    return event


def _heading_first(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {**{key: event.pop(key) for key in ("timestamp", "level", "event")}, **event}


class _Writer:
    """Writes whole lines; a log that cannot be written must not end a connection."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = msg


def configure(format: str = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process: ``format`` is text or json, ``stream`` stderr by default."""
    stream = sys.stderr if stream is None else stream
    renderer: structlog.typing.Processor
    if format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            _redact_event,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _heading_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Writer(stream),
        cache_logger_on_first_use=False,
    )


def logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger, for what belongs to no connection."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
    return bound


def connection_logger(conn: int) -> structlog.typing.FilteringBoundLogger:
    """A logger whose every line carries the connection's id."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(conn=conn)
    return bound
