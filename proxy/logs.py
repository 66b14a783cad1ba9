"""Structured logs on stderr, as text or JSON, without credentials.

Every line of a client connection carries its ``conn`` id: log through
:func:`connection_logger`.
"""

from __future__ import annotations

import math
import os
import re
import sys
import weakref
from collections.abc import Mapping, MutableMapping
from functools import lru_cache, partial
from typing import Any, Final, TextIO, cast

import structlog

from proxy.texts import CUT, MOST_SHOWN, printable, shortened

REDACTED: Final = "[redacted]"

_SECRET_KEY: Final = re.compile(
    "payload|passw(?:or)?d|passphrase|pwd|secret|token|jwt|credentials?|authorization|signature|"
    "salt|nonce|proof|storedkey|serverkey|privatekey",
    re.IGNORECASE,
)

# Clients choose what is searched with these. Each goes over a text once, whatever it holds: none
# can begin inside what it has passed in vain, and none goes back (possessive quantifiers).

#: What stands in front of the password in a URI.
_URI_USER: Final = re.compile(r"\w://[^\s:/@]*+:")
_WORDS: Final = re.compile(r"\S++")
#: JSON web tokens: the encoded header always begins with '{"'.
_DOTTED: Final = re.compile(r"[\w.-]++")
_WEB_TOKEN: Final = re.compile(r"\beyJ")
#: SCRAM (RFC 5802): nonces, salts, proofs and signatures.
_SCRAM: Final = re.compile(r"\b([rspv])=[^\s,'\"]{8,}+")
#: Printed documents and query strings: 'payload': b'…', pwd=…, "token": "…".
_KEY: Final = re.compile(r"(?<!\w)(\w++)[\"']?+\s*+[:=]\s*+")
#: Where a problem of ours says what it is about: ``proxy.toml:3: admin.token: should be …``.
_ABOUT: Final = re.compile(r"((?:[^\s:]++:\d++: )?[^\s:]++): (?=\w)")
#: What stands behind a key. A quotation that does not end was cut.
_VALUE: Final = re.compile(
    r"\w*+\(?+\w?+(?:'(?:[^'\\]|\\.)*+(?:'\)?+|\\?\Z)|\"(?:[^\"\\]|\\.)*+(?:\"\)?+|\\?\Z))"
    r"|[^\s,;&}\])]++",
    re.DOTALL,
)

#: Characters that are searched for secrets. Some more than are shown: what a secret ends with
#: should be there.
_MOST_SEARCHED: Final = 4 * MOST_SHOWN

#: Characters of a traceback.
_MOST_TRACED: Final = 20_000


def redact(value: Any) -> Any:  # noqa: ANN401 - whatever is logged
    """``value`` without credentials: secret-sounding keys and texts are replaced at any depth.

    Bytes are never shown, only counted. Texts are cut, and control characters in them escaped, so
    that nothing a client sends can forge a line, fill a disk or reach a terminal.
    """
    if isinstance(value, str):
        return printable(_redact_text(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {
            redact(key): REDACTED if _is_secret(shortened(str(key))) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


def about(problem: str) -> str:
    """A problem with a setting for the log, whose name must not be taken for a secret's key."""
    found = _ABOUT.match(problem)
    if found is None or not _is_secret(found[1]):
        return problem
    return f"{found[1]} - {problem[found.end() :]}"


@lru_cache(1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _redact_text(text: str) -> str:
    """``text`` without secrets, and short."""
    text = shortened(text, _MOST_SEARCHED)
    # Each search needs one of these; most texts have none.
    if "=" in text or ":" in text or "eyJ" in text:
        if "://" in text:
            text = _WORDS.sub(_without_password, text)
        if "eyJ" in text:
            text = _DOTTED.sub(_without_web_token, text)
        text = _without_values(_SCRAM.sub(rf"\1={REDACTED}", text))
    return shortened(text)


def _without_password(match: re.Match[str]) -> str:
    """A word without the password of a URI; that may hold unescaped "/" and "@", and be cut."""
    word = match[0]
    user = _URI_USER.search(word)
    if user is None:
        return word
    end = word.rfind("@", user.end())
    if end < 0:
        if not word.endswith(CUT):
            return word
        end = len(word)
    return word[: user.end()] + REDACTED + word[end:]


def _without_web_token(match: re.Match[str]) -> str:
    dotted = match[0]
    begun = _WEB_TOKEN.search(dotted)
    if begun is None:
        return dotted
    if "." not in dotted[begun.end() :] and not match.string.startswith(CUT, match.end()):
        return dotted
    return dotted[: begun.start()] + REDACTED


def _without_values(text: str) -> str:
    """A text without the values of what has a secret's name."""
    parts: list[str] = []
    done = 0
    for key in _KEY.finditer(text):
        if key.start() >= done and _is_secret(key[1]) and not text.startswith(REDACTED, key.end()):
            value = _VALUE.match(text, key.end())
            if value is not None:
                parts += (text[done : key.end()], REDACTED)
                done = value.end()
    return "".join((*parts, text[done:]))


def _redact_event(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # A traceback is ours and keeps its lines.
    traceback = event.pop("exception", None)
    event = redact(event)
    if traceback is not None:
        lines = traceback[-_MOST_TRACED:].splitlines()
        event["exception"] = "\n".join(printable(_redact_text(line)) for line in lines)
    return event


def _of_worker(
    worker: int, _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["worker"] = worker
    return event


def _heading_first(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {**{key: event.pop(key) for key in ("time", "level", "event")}, **event}


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


def configure(
    format: str = "text",
    level: str = "info",
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Set up logging for the process: ``format`` is text or json, ``stream`` stderr by default.

    Every line of one of several processes carries its number, ``worker``.

    A process that was started without a stderr gets one that goes nowhere: otherwise a client's
    socket could have its number.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    stream = sys.stderr if stream is None else stream
    renderer: structlog.typing.Processor
    if format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            pad_event_to=0,
            timestamp_key="time",
            exception_formatter=structlog.dev.plain_traceback,
        )
    structlog.configure(
        processors=[
            *(() if worker is None else (partial(_of_worker, worker),)),
            structlog.processors.format_exc_info,
            _redact_event,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _heading_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Writer(stream),
        cache_logger_on_first_use=False,
    )


#: Between two lines that strangers can bring about.
SELDOM_SECONDS: Final = 10.0


def logger() -> structlog.typing.FilteringBoundLogger:
    """The process's logger, for what belongs to no connection."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()
    return bound


def of_cluster(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose every line carries the cluster's name, if it has one."""
    return logger().bind(cluster=name) if name else logger()


def connection_logger(conn: int, cluster: str = "") -> structlog.typing.FilteringBoundLogger:
    """A logger whose every line carries the connection's id, and the cluster's name if any."""
    return of_cluster(cluster).bind(conn=conn)


class _Quietly:
    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self.debug = self.info = self.warning = self.error = log.debug


def quietly(log: structlog.typing.FilteringBoundLogger) -> structlog.typing.FilteringBoundLogger:
    """One whose lines are all for debugging: another process of the proxy says the same."""
    return cast("structlog.typing.FilteringBoundLogger", _Quietly(log))


#: All that there are.
_seldom: Final[weakref.WeakSet[Seldom]] = weakref.WeakSet()


def look(now: float) -> None:
    """Have the log say what was left out of what has not happened again since."""
    for one in list(_seldom):
        one.look(now)


class Seldom:
    """A warning, or an error, that strangers can bring about as often as they like: one line in so
    many seconds, which says how many were left out before it. What is left out at the end is said
    when the time is over, see :func:`look`."""

    __slots__ = ("__weakref__", "_again", "_event", "_left_out", "_say")

    def __init__(
        self, log: structlog.typing.FilteringBoundLogger, event: str, *, error: bool = False
    ) -> None:
        self._say = log.error if error else log.warning
        self._event = event
        self._again = -math.inf
        self._left_out = 0
        _seldom.add(self)

    def look(self, now: float) -> None:
        """Say what was left out, if the time is over."""
        if self._left_out and now >= self._again:
            self._say("lines left out", about=self._event, left_out=self._left_out)
            self._again, self._left_out = now + SELDOM_SECONDS, 0

    def warn(self, now: float, **what: object) -> None:
        """Log it, or count it; ``now`` is in seconds."""
        if now < self._again:
            self._left_out += 1
            return
        more = {"left_out": self._left_out} if self._left_out else {}
        self._again, self._left_out = now + SELDOM_SECONDS, 0
        self._say(self._event, **what, **more)
