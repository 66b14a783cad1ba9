"""Operations in progress: currentOp and killOp, and the test commands that make them linger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, Later, on_cluster
from proxy.embedded.failures import failure

if TYPE_CHECKING:
    from proxy.embedded.engine import Document


def current_operations(call: Call, *, everybody: bool = True) -> list[Document]:
    """The commands in progress as ``currentOp`` shows them, this one included; ``everybody``'s or
    the caller's own."""
    own = {user.full_name for user in call.users}
    return [
        {
            "type": "op",
            "host": call.node.address,
            "desc": "conn",
            "client": operation.client,
            "appName": operation.app_name,
            "active": True,
            "opid": operation.id,
            "secs_running": Int64(int(call.now - operation.started)),
            "microsecs_running": Int64(int((call.now - operation.started) * 1e6)),
            "op": "command",
            "ns": operation.ns,
            "command": operation.body,
            **(
                {"lsid": {"id": operation.body["lsid"]["id"], "uid": operation.session.uid}}
                if operation.session
                else {}
            ),
        }
        for operation in call.node.operations.values()
        if everybody or not own or own & set(operation.users)
    ]


def _current_op(call: Call) -> Answer:
    return {"inprog": current_operations(call)}


def _kill_op(call: Call) -> Answer:
    operation = call.node.operations.get(call.number("op", -1))
    if operation is not None:
        operation.killed = failure(11601, "operation was interrupted")
        call.node.wake()
    return {"info": "attempting to kill op"}


def _may_kill_op(call: Call) -> None:
    operation = call.node.operations.get(call.number("op", -1))
    own = operation is not None and set(operation.users) & {user.full_name for user in call.users}
    if not own and not call.may_on_cluster("killop"):
        raise call.not_authorized()


def _sleep(call: Call) -> Answer:
    seconds = call.number("secs") + call.number("millis") / 1000
    until = call.now + (seconds or 10.0)
    return Later(until, lambda now: {} if now >= until else None)


def _configure_fail_point(call: Call) -> Answer:
    call.node.fail_points.configure(call.body)
    return {"count": 0}


COMMANDS: Final = {
    "currentOp": Command(_current_op, on_cluster("inprog"), admin_only=True),
    "killOp": Command(_kill_op, _may_kill_op, admin_only=True),
    "sleep": Command(_sleep, admin_only=True),
    "configureFailPoint": Command(_configure_fail_point, admin_only=True),
}
