"""Uses of a session that no driver makes: signs of a bug or of an attack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.counting import OTHER

if TYPE_CHECKING:
    from proxy.session.ids import Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.records import Session


def incidents(session: Session, info: OperationSessionInfo, origin: Origin) -> tuple[str, ...]:
    """What is wrong with a request from ``origin`` under a session that is known; mostly nothing.

    ``shared``: another client process made the session (another host, application or driver).
    ``concurrent``: something is in flight under it, and a session is for one thing at a time.
    ``txn_number_backwards``: a higher txnNumber was seen accepted. Those of child sessions are
    their own.
    """
    found: tuple[str, ...] = ()
    made_by = session.group.origin
    # Where it was not remembered who that was (OTHER), nothing can be said.
    if origin is not made_by and origin != made_by and made_by.client != OTHER:
        found = ("shared",)
    if session.activity is not None and session.activity.operations:
        found += ("concurrent",)
    tracker = session.transaction
    number = info.txn_number
    if tracker is None or number is None or info.child:
        return found
    if 0 <= number < tracker.number:
        found += ("txn_number_backwards",)
    return found
