"""One client connection's lookout for uses of sessions that no driver makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.conversation.incidents import (
    concurrent,
    counted_twice,
    mark_of,
    may_be_encrypted,
    of_one_process,
    shared,
)
from proxy.session.records import Operation
from proxy.session.transactions import RETRYABLE_WRITES

if TYPE_CHECKING:
    from proxy.conversation.tracking import Tracked, Tracking
    from proxy.session.ids import LogicalSessionId, Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.records import Session
    from proxy.session.store import SessionStore
    from proxy.session.suspicion import Suspicion
    from proxy.wire.messages import Request


class Lookout:
    """Looks at requests under sessions that are known, once they are judged and noted.

    ``names`` says that users share sessions as far as their keys go, as without authorization.
    """

    __slots__ = ("_store", "_tracking", "alike", "names")

    def __init__(self, store: SessionStore, tracking: Tracking) -> None:
        self._store = store
        self._tracking = tracking
        #: The origin that was looked at last and may be the same process: nobody has to ask again.
        self.alike: Origin | None = None
        self.names = False

    def anew(self, *, names: bool) -> None:
        """Somebody else calls from now on, or says more of what it is."""
        self.alike = None
        self.names = names

    def sees(
        self,
        request: Request,
        info: OperationSessionInfo,
        session: Session,
        tracked: Tracked | None,
    ) -> list[Suspicion]:
        """What is wrong for certain; what shows later is left with the operations.

        ``tracked`` is the request as it went upstream, None where it did not or nobody answers.
        """
        lsid = info.lsid
        assert lsid is not None
        found: list[Suspicion] = []
        if session.group.origin is not self.alike:
            found = self._who(request, session, lsid)
        operation = tracked if isinstance(tracked, Operation) else None
        if info.malformed is not None:
            return found
        if info.txn_number is not None:
            self._numbers(request, info, session, operation, found)
        activity = session.activity
        if operation is not None and activity is not None and len(activity.operations) > 1:
            met = concurrent(operation.use, lsid, operation.connection, activity.operations)
            if met is not None:
                suspicion, other = met
                if suspicion.left:
                    other.suspect(suspicion)
                    operation.suspect(suspicion)
                else:
                    found.append(suspicion)
        return found

    def upheld(self) -> list[Suspicion]:
        """The connection goes on: what of its operations that were answered is certain now."""
        unsettled, self._tracking.unsettled = self._tracking.unsettled, []
        found: list[Suspicion] = []
        for one in unsettled:
            one.left -= 1
            if not one.left:
                found.append(one)
        return found

    def _who(self, request: Request, session: Session, lsid: LogicalSessionId) -> list[Suspicion]:
        made_by, tracking = session.group.origin, self._tracking
        owner, user = session.owner.name, tracking.user
        named = self.names and owner and user and owner != user
        if named or not of_one_process(made_by, tracking.origin):
            return [shared(made_by, owner, tracking.origin, user, request.command, lsid)]
        if not self.names:
            self.alike = made_by
        return []

    def _numbers(
        self,
        request: Request,
        info: OperationSessionInfo,
        session: Session,
        operation: Operation | None,
        found: list[Suspicion],
    ) -> None:
        lsid, number = info.lsid, info.txn_number
        assert lsid is not None
        assert number is not None
        another = False
        if info.autocommit is None and not info.child and request.command in RETRYABLE_WRITES:
            another = self._store.write_sent(session, number, mark_of(request))
            another = another and not may_be_encrypted(request)
        tracker = session.transaction
        if tracker is None or (number > tracker.number and not another):
            return  # As it should be.
        suspicion = counted_twice(request.command, info, lsid, tracker, another)
        if suspicion is None:
            return
        if not suspicion.left:
            found.append(suspicion)
        elif operation is not None:
            operation.suspect(suspicion)
        else:
            self._tracking.unsettled.append(suspicion)
