from __future__ import annotations

from pathlib import Path

import pytest

from proxy import cli
from proxy.terminal.client import TOKEN_VARIABLE, Endpoint, Trouble, find_token
from tests.terminal.stand_in import standing_in


def test_pages_are_asked_for_with_fields_and_token() -> None:
    with standing_in({"sessions": {"sessions": []}}) as there:
        endpoint = Endpoint(there.address, "0123456789abcdef")
        assert endpoint.get("sessions", {"owner": "a&b*", "limit": 3}) == {"sessions": []}
        method, target, headers, _ = there.asked[0]
    assert (method, target) == ("GET", "/sessions?owner=a%26b%2A&limit=3")
    assert headers["authorization"] == "Bearer 0123456789abcdef"


def test_documents_are_sent_as_json() -> None:
    with standing_in({"kill": {"killed": 1}}) as there:
        assert Endpoint(there.address).post("kill", {"dry_run": True}) == {"killed": 1}
        method, _, headers, body = there.asked[0]
    assert (method, headers["content-type"], body) == (
        "POST",
        "application/json",
        {"dry_run": True},
    )
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("answer", "token", "said", "status"),
    [
        ((401, "x"), None, f"a token is needed: --token-file FILE or {TOKEN_VARIABLE}", 2),
        (
            (401, "x"),
            "t",
            f"wrong token, the proxy has others: --token-file FILE or {TOKEN_VARIABLE}",
            2,
        ),
        ((400, "sort: no\nmore"), None, "--sort: no", 2),
        ((400, "\x1b[2J"), None, "\\x1b[2J", 2),
        ((403, "killing is off"), None, "killing is off", 2),
        ((404, "x"), None, "{}: answers, but not as mongo-session-proxy does", 1),
        ((503, "busy"), None, "{}: 503 busy", 1),
        ((200, "<html>"), None, "{}: answers, but not as mongo-session-proxy does", 1),
        ((200, b"\xff"), None, "{}: answers, but not as mongo-session-proxy does", 1),
        ((200, "[]"), None, "{}: answers, but not as mongo-session-proxy does", 1),
    ],
)
def test_refusals_in_one_line(
    answer: tuple[int, str], token: str | None, said: str, status: int
) -> None:
    with standing_in({"page": answer}) as there:
        with pytest.raises(Trouble) as caught:
            Endpoint(there.address, token).get("page")
        assert (str(caught.value), caught.value.status) == (said.format(there.address), status)


def test_nobody_there() -> None:
    with pytest.raises(Trouble, match=r"^127.0.0.1:1: Connection refused; does the proxy run"):
        Endpoint("127.0.0.1:1").get("summary")


@pytest.mark.parametrize("address", ["host:port", "a b", "/run/x.sock", "127.0.0.1:99999"])
def test_a_wrong_address(address: str) -> None:
    with pytest.raises(Trouble, match=r"^--admin: ") as caught:
        Endpoint(address)
    assert caught.value.status == 2


def test_an_address_without_a_port_means_the_usual_one() -> None:
    assert Endpoint("[::1]").address == "[::1]:27080"


def test_a_token_that_no_header_can_hold() -> None:
    with standing_in({}) as there, pytest.raises(Trouble, match="the token cannot be sent"):
        Endpoint(there.address, "a\nb").get("summary")


def test_tokens_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert find_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-environment")
    assert find_token(None) == "from-environment"
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert find_token(str(path)) == "from-file"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"a\x01b", b"a\nb"])
def test_files_without_a_token(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(Trouble, match="does not hold a token") as caught:
        find_token(str(path))
    assert caught.value.status == 2
    with pytest.raises(Trouble, match="No such file"):
        find_token(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ((200, "ok"), 0, "ready\n"),
        ((503, "draining"), 1, "not ready: draining"),
        ((503, "db1:27017: Connection refused"), 1, "not ready: db1:27017: Connection refused"),
        ((503, "not ready"), 1, ": not ready\n"),
        ((404, "nothing here"), 1, "answers, but not as mongo-session-proxy does"),
    ],
)
def test_a_health_check(
    answer: tuple[int, str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({"readyz": answer}) as there:
        assert cli.main(["ready", "--admin", there.address]) == status
        assert there.targets() == ["/readyz"]
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_https_where_the_proxy_speaks_http(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in({"readyz": (200, "ok")}) as there:
        assert cli.main(["ready", "--admin", f"https://{there.address}"]) == 1
    said = f"mongo-session-proxy: https://{there.address}: speaks no TLS: take http://\n"
    assert capsys.readouterr().err == said
