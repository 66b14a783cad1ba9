from __future__ import annotations

import pytest

from proxy.embedded import sessions
from proxy.embedded.sessions import SessionKey, SessionStore
from proxy.embedded.versions import VERSIONS
from proxy.errors import CommandError
from tests.embedded.support import NOW

ID = bytes(15) + b"\1"
UID = bytes(32)
KEY = SessionKey(ID, UID)


def test_a_session_lives_half_an_hour_after_its_last_use() -> None:
    store = SessionStore(VERSIONS["4.2"])
    store.vivify(KEY, None, NOW)
    store.vivify(KEY, None, NOW + 1000)
    store.expire(NOW + 1000 + 1800)
    assert store.get(KEY) is not None
    store.expire(NOW + 1000 + 1801)
    assert store.get(KEY) is None


def test_use_keeps_what_the_session_is() -> None:
    store = SessionStore(VERSIONS["4.2"])
    first = store.vivify(KEY, "alice@app", NOW)
    assert store.vivify(KEY, "bob@app", NOW + 1) is first
    assert (first.user, first.last_use) == ("alice@app", NOW + 1)


def test_a_full_store_takes_no_new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    store = SessionStore(VERSIONS["4.2"])
    store.vivify(KEY, None, NOW)
    store.vivify(KEY, None, NOW)
    other = SessionKey(bytes(16), UID)
    with pytest.raises(CommandError) as full:
        store.vivify(other, None, NOW)
    assert full.value.code == 261
    assert len(list(store)) == 1
    assert store.vivify(other, None, NOW + 1801).key == other


def test_the_text_form() -> None:
    text = "00000000-0000-0000-0000-000000000001 - AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert KEY.text(VERSIONS["4.2"]) == text
    assert KEY.text(VERSIONS["6.0"]) == f"{text} -  - "
    child = KEY._replace(txn_number=7, txn_uuid=ID)
    assert child.text(VERSIONS["6.0"]) == f"{text} - 7 - 00000000-0000-0000-0000-000000000001"
    assert child.parent == KEY
