from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from proxy.errors import ConfigError
from proxy.settings.config import Config, load

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
_COMMENTED = re.compile(r"#(\[|\w+ = )")


def uncommented() -> str:
    """The example with every setting that it shows in force."""
    lines = EXAMPLE.read_text().splitlines()
    return "\n".join(line[1:] if _COMMENTED.match(line) else line for line in lines)


def problems(tmp_path: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return [re.sub(rf"^{re.escape(str(path))}:\d+: ", "", one) for one in caught.value.problems]


def table_below(annotation: Any) -> type[BaseModel] | None:
    """The settings model inside ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next(filter(None, map(table_below, get_args(annotation))), None)


def settings_of(model: type[BaseModel], path: str = "") -> dict[str, Any]:
    """Every setting's path and default, tables left out."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name == "cluster":
            continue  # it holds tables that there are without it
        below = table_below(field.annotation)
        if below is None:
            found[f"{path}{name}"] = field.get_default()
        else:
            found |= settings_of(below, f"{path}{name}.")
    return found


def flattened(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        below = value[0] if isinstance(value, list) and value else value
        if isinstance(below, dict) and f"{path}{name}" not in settings_of(Config):
            found |= flattened(below, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value
    return found


def test_example_as_it_stands_changes_nothing() -> None:
    assert load(EXAMPLE) == Config() == load()


def test_example_names_exactly_the_settings_there_are() -> None:
    assert flattened(tomllib.loads(uncommented())).keys() == settings_of(Config).keys()


def test_example_shows_each_default_and_marks_what_has_none() -> None:
    shown = flattened(tomllib.loads(uncommented()))
    defaults = settings_of(Config)
    has_default = {
        path
        for path, value in defaults.items()
        if isinstance(value, str | float | int) or (isinstance(value, tuple) and value)
    }
    for path in has_default:
        assert shown[path] == (list(value) if isinstance(value := defaults[path], tuple) else value)
    lines = EXAMPLE.read_text().splitlines()
    marked = [after for line, after in pairwise(lines) if line == "# e.g."]
    assert len(marked) == len(shown) - len(has_default)
    assert all(_COMMENTED.match(line) for line in marked)


def test_example_with_everything_in_force_is_valid(tmp_path: Path) -> None:
    text = uncommented().replace('certificates = "none"', 'certificates = "required"')
    text = text.replace('address = "127.0.0.1:27017"\n', "")  # excludes [embedded]
    for name in re.findall(r'"([\w-]+\.(?:pem|key))"', text):
        (tmp_path / name).touch()
    text = re.sub(r"(?m)^token = .*\n", "", text)  # excludes token_file
    (tmp_path / "admin.token").write_text("0123456789abcdef\n")
    (tmp_path / "olivia.token").write_text("fedcba9876543210\n")
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    config = load(path)
    assert config.upstream.tls is not None
    assert config.upstream.tls.x509[0].certificate == tmp_path / "app.pem"
    assert config.admin.operators() == (("", "0123456789abcdef"), ("olivia", "fedcba9876543210"))
    assert config.upstream.members[0].advertise == "proxy1.example.net:27018"
    assert config.embedded is not None


def test_settings_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.limits.connections = 1


def test_every_problem_is_reported_with_its_path(tmp_path: Path) -> None:
    text = """
    bogus = 1
    [listen]
    address = "foo"
    backlog = true
    tls = { certificate = "nope.pem" }
    [limits]
    connections = 0
    drain_seconds = nan
    handshake_seconds = "30"
    [upstream]
    hello = "x"
    [[upstream.members]]
    upstream = "a:1"
    listen = "b:1"
    """
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [one.removeprefix(str(path)) for one in caught.value.problems] == [
        ":2: bogus: unknown setting",
        ":4: listen.address: 'foo' has no port",
        ":5: listen.backlog: should be a valid integer, not true",
        f":6: listen.tls.certificate: no such file: {tmp_path / 'nope.pem'}",
        ":8: limits.connections: should be greater than or equal to 1, not 0",
        ":9: limits.drain_seconds: should be a finite number, not nan",
        ":10: limits.handshake_seconds: should be a number of seconds or a time such as "
        """"250ms", "5m" or "1h30m", not '30'""",
        ":12: upstream.hello: should be 'rewrite' or 'pass', not 'x'",
        ":13: upstream.members[0].advertise: is needed",
    ]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('listen.address = "[::1]"', "listen.address"),
        ('listen.address = "::1:27018"', "listen.address"),
        ('listen.address = "localhost:99999"', "listen.address"),
        ("listen.backlog = 0", "listen.backlog"),
        ('listen.advertise = "a/b"', "listen.advertise"),
        ('listen.advertise = " "', "listen.advertise"),
        ('listen.advertise = "proxy:27018"', "listen.advertise"),
        ('listen.advertise = "[::1]"', "listen.advertise"),
        ('listen.address = "/run/mongo"', "listen.address"),
        ('listen.address = "/run/a%20.sock"', "listen.address"),
        (f'listen.address = "/{"a" * 102}.sock"', "listen.address"),
        ("listen.socket.mode = 0o660", "listen.socket.mode"),
        ('listen.socket.mode = "0680"', "listen.socket.mode"),
        ('listen.socket.mode = "4755"', "listen.socket.mode"),
        ('listen.socket.owner = "no such user"', "listen.socket.owner"),
        ('listen.socket.group = "no such group"', "listen.socket.group"),
        ('upstream.address = "mongodb+srv://db.example.net:27017"', "upstream.address"),
        ('upstream.address = "mongodb://a:1,,b:2"', "upstream.address"),
        ('upstream.compression = "zlib"', "upstream.compression"),
        ("upstream.connect_seconds = 0", "upstream.connect_seconds"),
        ("upstream.watch_seconds = -1", "upstream.watch_seconds"),
        ('upstream.tls.verify = "yes"', "upstream.tls.verify"),
        ("upstream.tls.x509 = [{}]", "upstream.tls.x509[0].subject"),
        ('admin.address = "/run/admin.sock"', "admin.address"),
        ('admin.address = "27080"', "admin.address"),
        ("limits.connections = 1.5", "limits.connections"),
        ("limits.connections = 1_000_001", "limits.connections"),
        ("limits.buffered_bytes = 1000", "limits.buffered_bytes"),
        ("limits.frame_seconds = inf", "limits.frame_seconds"),
        ("limits.half_close_seconds = 86_401", "limits.half_close_seconds"),
        ('listen.proxy_protocol = "on"', "listen.proxy_protocol"),
        ("listen.proxy_protocol = true", "listen.proxy_protocol"),
        ('listen.proxy_protocol_from = ["10.0.0.1/8"]', "listen.proxy_protocol_from[0]"),
        ('listen.proxy_protocol_from = ["::1", "balancer"]', "listen.proxy_protocol_from[1]"),
        ('upstream.proxy_protocol = "yes"', "upstream.proxy_protocol"),
        ("sessions.max_sessions = 0", "sessions.max_sessions"),
        ('sessions.authorization = "yes"', "sessions.authorization"),
        ('policies.ownership.mode = "on"', "policies.ownership.mode"),
        ("policies.kill_guard.max_sessions = -1", "policies.kill_guard.max_sessions"),
        ("policies.kill_guard.bogus = 1", "policies.kill_guard.bogus"),
        ("policies.bogus = {}", "policies.bogus"),
        ("policies.custom = [{}]", "policies.custom[0].rule"),
        ('audit.file = "no/such/folder/audit.jsonl"', "audit.file"),
        ('audit.file = "."', "audit.file"),
        ('log.level = "INFO"', "log.level"),
        ('log.format = "xml"', "log.format"),
        ("embedded = true", "embedded"),
        ('embedded.set_name = ""', "embedded.set_name"),
        ('embedded.version = "3.6"', "embedded.version"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, text: str, path: str) -> None:
    assert {problem.partition(": ")[0] for problem in problems(tmp_path, text)} >= {path}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'listen.tls = { certificate = "c.pem", client_certificates = "required" }',
            'listen.tls: client_certificates = "required" needs ca',
        ),
        ('upstream.tls.key = "c.pem"', "upstream.tls: key needs certificate"),
        (
            'upstream.tls.x509 = [{ subject = "CN=a", certificate = "c.pem" }]',
            "upstream.tls.x509 needs listen.tls.client_certificates",
        ),
        (
            'upstream.tls.x509 = [{ subject = "CN=a", certificate = "c.pem" },'
            ' { subject = "CN=a", certificate = "c.pem" }]',
            "upstream.tls: x509 maps one subject twice",
        ),
        (
            'upstream.members = [{ upstream = "a:1", listen = "x:1", advertise = "p:1" },'
            ' { upstream = "a:1", listen = "x:2", advertise = "p:2" }]',
            "upstream: two members have the same upstream: a:1",
        ),
        (
            'upstream.members = [{ upstream = "a:1", listen = "x:1", advertise = "p:1",'
            ' server_name = "db1" }]',
            "upstream: members have a server_name, which needs TLS towards upstream",
        ),
        (
            'listen.primary = "127.0.0.1:27080"',
            "listen.primary: something else listens on 127.0.0.1:27080",
        ),
        (
            'listen.address = "127.0.0.1:27080"',
            "listen.address and admin.address are the same",
        ),
        (
            'listen.address = "/a.sock"\nupstream.address = "mongodb://a,b"',
            "listen.address is one unix socket, and upstream.address has several seeds:"
            " give each a listener in upstream.members",
        ),
        (
            'listen.proxy_protocol = "require"\nlisten.proxy_protocol_from = []',
            "listen: proxy_protocol_from names nobody who may send PROXY headers",
        ),
        (
            'embedded = {}\nupstream.address = "db:27017"',
            "embedded and upstream.address exclude each other",
        ),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "c.pem").touch()
    assert problems(tmp_path, text) == [problem]


def test_who_may_connect_to_a_socket_in_the_systems_numbers() -> None:
    def numbers(**socket: str) -> tuple[int | None, int | None, int | None]:
        return load(None, {"listen": {"socket": socket}}).listen.socket.numbers()

    assert numbers() == (None, None, None)
    assert numbers(mode="660", owner="root", group="0") == (0o660, 0, 0)


def test_all_that_contradicts_itself_is_said_at_once_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(
        '# nothing\nlisten.address = "127.0.0.1:27080"\nupstream.address = "a:1"\n[embedded]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.problems == [
        f"{path}:2: listen.address and admin.address are the same",
        f"{path}:4: embedded and upstream.address exclude each other",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits = 5", "limits: should be a table, not 5"),
        ("[[limits]]", "limits: should be a table, not a list"),
        (
            "[upstream.members]",
            "upstream.members: should be a list of tables, [[upstream.members]], not a table",
        ),
        (
            'policies.session_budget.operators = "a@b"',
            "policies.session_budget.operators: should be a list, not 'a@b'",
        ),
        ("audit.file = 5", "audit.file: should be a path, not 5"),
        (
            "limits.connections = 1979-05-27",
            "limits.connections: should be a valid integer, not 1979-05-27",
        ),
        # Secrets are not repeated.
        ("admin.token = 1234567890123456", "admin.token: should be a valid string"),
        ('log.levl = "info"', "log.levl: unknown setting; did you mean level?"),
        ('log.logLevel = "info"', "log.logLevel: unknown setting; did you mean level?"),
        ("limits.max-sessions = 5", "limits.max-sessions: unknown setting; did you mean "),
        ('[logs]\nlevel = "info"', "logs: unknown table; did you mean log?"),
        ("backlog = 5", "backlog: unknown setting; did you mean listen.backlog?"),
        ("maxCursors = 5", "maxCursors: unknown setting; did you mean sessions.max_cursors?"),
        (
            'address = "a:1"',
            "address: unknown setting; did you mean listen.address, upstream.address or ",
        ),
        ("qqq = 1", "qqq: unknown setting"),
        (
            'log.level = "warn"',
            "log.level: should be 'debug', 'info', 'warning' or 'error', not 'warn'; "
            'did you mean "warning"?',
        ),
    ],
)
def test_what_is_wrong_is_said_in_words_with_what_was_meant(
    tmp_path: Path, text: str, problem: str
) -> None:
    [found] = problems(tmp_path, text)
    assert found.startswith(problem)
    assert problem.endswith((" ", "?")) or found == problem


def test_the_audit_log_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('audit.file = "audit.jsonl"')
    assert load(path).audit.file == tmp_path / "audit.jsonl"


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[limits]\nconnections = 5\ndrain_seconds = 1\n[log]\nlevel = "debug"')
    config = load(path, {"limits": {"connections": 7}, "admin": {"address": ""}})
    assert (config.limits.connections, config.limits.drain_seconds) == (7, 1)
    assert (config.log.level, config.admin.address) == ("debug", None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, ": No such file or directory"),
        (b"\n[listen", ":2: Expected ']' at the end of a table declaration at the end of the file"),
        (b"x = 1\ny = 01", ":2:6: Expected newline or end of document after a statement"),
        (b"x = 1\nx = 2", ":2: Cannot overwrite a value"),
        (b"\n#\n\xff", ":3: not UTF-8 (byte 0xff): save it as UTF-8"),
        ("[log]".encode("utf-16"), ": is UTF-16: save it as UTF-8"),
        (b"x = " + b"[" * 5000, ": nested too deeply"),
    ],
    ids=str,
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "proxy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.problems == [f"{path}{problem}"]


def test_a_mark_of_the_encoding_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'log.level = "debug"')
    assert load(path).log.level == "debug"


def test_a_password_in_a_uri_is_not_repeated(tmp_path: Path) -> None:
    found = problems(tmp_path, 'upstream.address = "mongodb://app:hunter2@db:27017/"')
    assert len(found) == 1
    assert "hunter2" not in found[0]


@pytest.mark.parametrize(
    ("admin", "problem"),
    [
        ({"address": "0.0.0.0:27080"}, "0.0.0.0:27080 is not loopback, so token or token_file"),
        ({"address": "[::]:27080"}, "[::]:27080 is not loopback"),
        ({"address": "db.example.net:1"}, "db.example.net:1 is not loopback"),
        ({"token": "short"}, "a token has at least 16 characters"),
        ({"token": "0123456789 abcdef"}, "a token has at least 16 characters of ASCII"),
        ({"token": "0123456789abcdef\u00e9"}, "a token has at least 16 characters of ASCII"),
        ({"token": "0123456789abcdef", "token_file": "/dev/null"}, "/dev/null"),
        ({"token_file": "nowhere"}, "no such file: nowhere"),
    ],
)
def test_admin_settings_that_would_let_anybody_in_are_refused(
    admin: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {"admin": admin})
    (only,) = caught.value.problems
    assert only.startswith("admin")
    assert problem in only
    assert "0123456789" not in only


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.8.8.8:1", ""])
def test_on_loopback_no_token_is_needed(address: str) -> None:
    assert load(None, {"admin": {"address": address}}).admin.secret() is None


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ('name = "a"', "token or token_file is needed"),
        ('name = "a b"\ntoken = "0123456789abcdef"', "admin.tokens[0].name"),
        ('name = "a"\ntoken = "short"', "admin.tokens[0].token"),
        ('name = "a"\ntoken = "fedcba9876543210"', "have the same token"),
        (
            'name = "a"\ntoken = "0123456789abcde1"\n'
            '[[admin.tokens]]\nname = "a"\ntoken = "0123456789abcde2"',
            "have the same name",
        ),
    ],
)
def test_tokens_have_names_of_their_own(tmp_path: Path, tokens: str, problem: str) -> None:
    text = f'[admin]\ntoken = "fedcba9876543210"\n[[admin.tokens]]\n{tokens}\n'
    (only,) = problems(tmp_path, text)
    assert problem in only
    assert "0123456789" not in only


def test_a_named_token_is_enough_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(
        '[admin]\naddress = "0.0.0.0:1"\n[[admin.tokens]]\nname = "a"\ntoken = "0123456789abcdef"'
    )
    assert load(path).admin.operators() == (("a", "0123456789abcdef"),)


@pytest.mark.parametrize("content", ["0123456789abcdef", "0123456789abcdef\n"])
def test_a_token_may_stand_in_a_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "admin.token"
    path.write_text(content)
    admin = load(None, {"admin": {"address": "0.0.0.0:1", "token_file": str(path)}}).admin
    assert admin.secret() == "0123456789abcdef"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="token_file holds none: a token has at least 16"):
        load(None, {"admin": {"token_file": str(path)}})
    (tmp_path / "proxy.toml").write_text('[admin]\ntoken = "0123456789abcdef"\n')
    config = load(tmp_path / "proxy.toml")
    assert config.admin.secret() == "0123456789abcdef"
    assert "0123456789abcdef" not in repr(config)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://collector/", "https://collector/v1/traces"),
        ("https://collector?key=1", "https://collector/v1/traces?key=1"),
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
        ("http://gateway/otlp/spans", "http://gateway/otlp/spans"),
    ],
)
def test_a_collector_that_is_named_without_a_path(given: str, meant: str) -> None:
    assert load(None, {"traces": {"endpoint": given}}).traces.endpoint == meant
