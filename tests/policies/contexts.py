"""Contexts for the rules' tests."""

from __future__ import annotations

from typing import Any

from proxy.conversation.rule import Context
from proxy.session.caller import Caller
from proxy.session.ids import Origin
from proxy.session.info import read_operation_session_info
from proxy.session.plans import Plan
from proxy.session.store import SessionStore
from tests.session.sessions import AS_ALICE, deciding, request


def context(
    document: dict[str, Any],
    who: Caller = AS_ALICE,
    store: SessionStore | None = None,
    *,
    now: float = 0.0,
    **how: Any,
) -> Context:
    """What a rule sees of ``document``; session commands come with their plan."""
    one = request(document, "app")
    store = SessionStore() if store is None else store
    info = read_operation_session_info(one, who)
    session = None if info.lsid is None else store.get(info.lsid)
    plan = None
    if one.command.endswith(("Session", "Sessions", "Pattern")):
        decision = deciding(one, who, store)
        assert isinstance(decision, Plan), decision
        plan = decision
    return Context(one, info, who, store, now, session, plan, **how)


SHOP = Origin("10.0.0.1", "shop")
