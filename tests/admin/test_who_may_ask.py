"""What each page of the admin endpoint says to whom: a page without a row fails."""

from __future__ import annotations

import pytest

from proxy import logs
from proxy.admin.pages import pages
from proxy.admin.process import Process
from proxy.observe.telemetry import Telemetry
from tests.admin.endpoint import TOKEN, FakeState, connected, endpoint

#: By page: what nobody, who has the wrong token and who has the token gets on loopback; and the
#: same elsewhere. ``{}`` is sent to pages that take something, which means nothing: 400.
OPEN = ((200, 200, 200), (200, 200, 200))
LOOKING = ((200, 200, 200), (401, 401, 200))
CHANGING = ((400, 401, 400), (401, 401, 400))
TABLE = {
    "/": OPEN,
    "/connections": LOOKING,
    "/cursors": LOOKING,
    "/groups": LOOKING,
    "/healthz": OPEN,
    "/help": OPEN,
    "/history": LOOKING,
    "/incidents": LOOKING,
    "/kill": CHANGING,
    "/abort": CHANGING,
    "/interrupt": CHANGING,
    "/close": CHANGING,
    "/metrics": LOOKING,
    "/namespaces": LOOKING,
    "/readyz": OPEN,
    "/rules": LOOKING,
    "/runbook": OPEN,
    "/sessions": LOOKING,
    "/summary": LOOKING,
    "/transactions": LOOKING,
    "/upstream": LOOKING,
}
#: And where no token is configured: on loopback kills are only previewed, elsewhere nothing is.
WITHOUT_TOKEN = {
    **{path: ((400,) * 3, (401,) * 3) for path, row in TABLE.items() if row is CHANGING},
    **{path: (row[0], (401,) * 3) for path, row in TABLE.items() if row is LOOKING},
}
GIVEN = (None, "Bearer wrong-wrong-wrong", f"Bearer {TOKEN}")
VITAL = {"/healthz", "/readyz", "/metrics"}


def test_every_page_has_a_row() -> None:
    table = pages(Process(FakeState(), Telemetry("1.2.3"), executes=True))
    assert table.keys() == TABLE.keys()
    assert {path for path, page in table.items() if page.vital} == VITAL


@pytest.mark.parametrize("path", TABLE)
@pytest.mark.parametrize(("place", "address"), [(0, "127.0.0.1:0"), (1, "0.0.0.0:0")])
@pytest.mark.parametrize("token", [TOKEN, None])
async def test_who_gets_what(path: str, place: int, address: str, token: str | None) -> None:
    logs.configure("json", "critical")
    expected = (TABLE if token else {**TABLE, **WITHOUT_TOKEN})[path][place]
    async with endpoint(FakeState(), address, token) as port:
        for authorization, status in zip(GIVEN, expected, strict=True):
            headers = {} if authorization is None else {"authorization": authorization}
            method, body = ("POST", b"{}") if TABLE[path] is CHANGING else ("GET", b"")
            if body:
                headers["content_type"] = "application/json"
            async with connected(port) as client:
                assert (await client.ask(path, method, body, **headers))[0] == status
