from __future__ import annotations

import io
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import logs
from proxy.texts import MOST_SHOWN
from tests.effort import milliseconds

SECRET = "hunter2hunter2"


class _Full(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def lines(format: str = "json", level: str = "debug", conn: int | None = None) -> Any:
    """A logger and the stream that its lines go to."""
    stream = io.StringIO()
    logs.configure(format, level, stream)
    return logs.logger() if conn is None else logs.connection_logger(conn), stream


def test_json_lines_hold_the_event_and_its_fields() -> None:
    log, stream = lines()
    log.info("client connected", client="127.0.0.1:5", requests=3)
    line = json.loads(stream.getvalue())
    assert list(line) == ["time", "level", "event", "client", "requests"]
    time = line.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", time)
    assert line == {
        "event": "client connected",
        "level": "info",
        "client": "127.0.0.1:5",
        "requests": 3,
    }


def test_text_lines_are_one_line_each() -> None:
    log, stream = lines("text")
    log.info("client connected", client="127.0.0.1:5")
    log.warning("client gone", reason="bye")
    first, second = stream.getvalue().splitlines()
    assert "client connected" in first
    assert "client=127.0.0.1:5" in first
    assert "warning" in second


def test_every_line_of_a_worker_says_of_which_one() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream, worker=3)
    logs.logger().info("started")
    logs.connection_logger(7, "orders").info("gone")
    assert [json.loads(line)["worker"] for line in stream.getvalue().splitlines()] == [3, 3]


def test_what_is_said_seldom_can_be_an_error() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    full = logs.Seldom(logs.logger(), "cannot accept", error=True)
    for now in (0.0, 0.1, 9.9, 10.1):
        full.warn(now, problem="too many")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["level"], one.get("left_out")) for one in said] == [("error", None), ("error", 2)]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_another_process_says_is_for_debugging(level: str) -> None:
    stream = io.StringIO()
    logs.configure("json", level, stream)
    log = logs.quietly(logs.of_cluster("shop"))
    log.info("topology", kind="sharded")
    log.warning("member", problem="no answer in time")
    log.error("no way")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    known = [(one["event"], one["level"], one["cluster"]) for one in said]
    events = ["topology", "member", "no way"] if level == "debug" else []
    assert known == [(event, "debug", "shop") for event in events]


@pytest.mark.parametrize("format", ["text", "json"])
def test_every_line_of_a_connection_has_its_id(format: str) -> None:
    log, stream = lines(format, conn=42)
    log.debug("one")
    log.bind(client="x").info("two")
    log.error("three")
    found = stream.getvalue().splitlines()
    assert len(found) == 3
    assert all(re.search(r'conn=42\b|"conn": 42\b', line) for line in found)


def test_the_level_is_a_floor() -> None:
    log, stream = lines(level="warning")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes too")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        "yes",
        "yes too",
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"mongodb://app:{SECRET}@db:27017/",
        f"mongodb+srv://app:{SECRET}@db/",
        f"mongodb://app:p@ss/{SECRET}@db:27017/?x=1",
        f"mongodb://:{SECRET}@db",
        f"authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
        f"tlsCertificateKeyFilePassword={SECRET}&x=1",
        f"{{'saslStart': 1, 'payload': b'n,,n=u,r={SECRET}'}}",
        f"{{'payload': Binary(b'{SECRET}', 0), 'x': 1}}",
        f"{{'pwd': '{SECRET}'}}",
        f"{{'pwd': 'it\\'s {SECRET}'}}",
        f'{{"password": "{SECRET}"}}',
        f"pwd={SECRET}",
        f"Authorization: {SECRET}",
        f"c=biws,r=abc,p={SECRET}",
        f"v={SECRET}=",
        f"r=abcdefgh,s={SECRET}==,i=15000",
        f"bearer eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
    ],
)
@pytest.mark.parametrize("format", ["text", "json"])
def test_no_credential_in_a_text_is_written(format: str, text: str) -> None:
    log, stream = lines(format, conn=1)
    log.info(text)
    log.info("seen", text=text, deep={"list": [{"text": text}]}, error=ValueError(text))
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed")
    assert SECRET not in stream.getvalue()
    assert logs.REDACTED in stream.getvalue()


@pytest.mark.parametrize(
    "key",
    [
        "payload",
        "pwd",
        "password",
        "Password",
        "client_password",
        "jwt",
        "access_token",
        "secretAccessKey",
        "credential",
        "storedKey",
        "serverSignature",
        "salt",
    ],
)
def test_no_value_under_a_secret_name_is_written(key: str) -> None:
    log, stream = lines()
    log.info("seen", **{key: SECRET})
    log.info("seen", document={"saslStart": 1, "inner": [{key: {"bytes": SECRET}}]})
    assert SECRET not in stream.getvalue()


def test_bytes_are_counted_not_shown() -> None:
    assert logs.redact({"frame": b"secret", "more": [bytearray(3), memoryview(b"12")]}) == {
        "frame": "<6 bytes>",
        "more": ["<3 bytes>", "<2 bytes>"],
    }


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:27017", "mongodb://a:27017,b:27017/?replicaSet=rs0", "find", "[::1]:5", "r=1"],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert logs.redact(text) == text


@given(st.text())
def test_no_text_forges_a_line_or_steers_a_terminal(text: str) -> None:
    log, stream = lines("text", conn=1)
    log.info("seen", application=text)
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written[:-1].isprintable()


def test_a_traceback_keeps_its_lines() -> None:
    log, stream = lines("text")
    try:
        raise ValueError("first\x1b[31m\nsecond")
    except ValueError:
        log.exception("failed")
    assert "Traceback" in stream.getvalue()
    assert "\nValueError: first\\x1b[31m\nsecond" in stream.getvalue()


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    stream = _Full()
    logs.configure("json", "info", stream)
    logs.logger().info("lost")
    assert stream.getvalue() == ""


def test_a_closed_stream_ends_nothing() -> None:
    log, stream = lines()
    stream.close()
    log.info("lost")
    assert stream.closed


@pytest.mark.parametrize(
    "text",
    [
        f"mongodb://app:{SECRET * 500}@db",
        f"{'x' * 400} mongodb://app:{SECRET * 500}",
        f"{'x ' * 240} pwd='{'a b ' * 1000}{SECRET}'",
        f"{'x ' * 240} pwd='{SECRET} {SECRET}",
        f"{'x ' * 960} pwd='{SECRET} {SECRET * 100}'",
        f"{'x ' * 240} eyJ{SECRET * 500}.{SECRET}",
    ],
)
def test_a_secret_that_is_cut_is_not_written_either(text: str) -> None:
    assert SECRET[:8] not in logs.redact(text)


#: What makes patterns that go back take quadratic time, or cubic.
HOSTILE = [
    *("token", "x", "token:", "a://", "a://x:", "a://x:@", "eyJ", "eyJ-", "eyJ.", "r=", "r=x "),
    *("pwd='", "pwd='\\", 'pwd="', "pwd: ", " ", "a ", "\t=", "pwd(", "pwd=a(", "\u202e", "\\"),
]


@pytest.mark.parametrize("end", ["", ":", "=", "'", "@", ": eyJ=", "\n"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_is_searched_for_long_whatever_it_is_made_of(hostile: str, end: str) -> None:
    text = hostile * (1_000_000 // len(hostile)) + end
    longest = (hostile * logs._MOST_SEARCHED)[: logs._MOST_SEARCHED - len(end)] + end
    assert milliseconds(lambda: (logs.redact(text), logs.redact(longest))) < 4
    assert len(logs.redact(text)) <= 10 * MOST_SHOWN


def test_a_process_without_a_stderr_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    logs.configure("text", "info")
    logs.logger().info("nobody reads this")
    sys.stderr.close()


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (
            "proxy.toml:3: admin.token_file: no such file: /x",
            "proxy.toml:3: admin.token_file - no such file: /x",
        ),
        ("/run/MSP_ADMIN__TOKEN: a token has", "/run/MSP_ADMIN__TOKEN - a token has"),
        ("admin.token: should be", "admin.token - should be"),
        ("limits.connections: should be", "limits.connections: should be"),
        # Only what it is about: what others say further on may be anything.
        ("rule x: ValueError: token: abcdef", "rule x: ValueError: token: [redacted]"),
        ("policies.x: token=abcdef", "policies.x: token=[redacted]"),
    ],
)
def test_what_a_problem_is_about_is_no_secret(problem: str, shown: str) -> None:
    assert logs.redact(logs.about(problem)) == shown


def test_what_was_redacted_stays_as_it_is() -> None:
    once = logs.redact("signature: { hash: 1 }, password: x, (token=abc)")
    assert logs.redact(once) == once
