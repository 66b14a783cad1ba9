"""The replica set as its only member describes it."""

from __future__ import annotations

from typing import Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, on_cluster
from proxy.embedded.failures import failure
from proxy.embedded.node import milliseconds


def _replica_set_status(call: Call) -> Answer:
    node = call.node
    if not node.replica_set:
        raise failure(76, "not running with --replSet")
    member = {
        "_id": 0,
        "name": node.address,
        "health": 1.0,
        "state": 1,
        "stateStr": "PRIMARY",
        "uptime": int(call.now - node.started),
        "optime": node.op_time(),
        "optimeDate": milliseconds(int(node.written_at)),
        "electionTime": node.written,
        "configVersion": 1,
        "self": True,
    }
    return {
        "set": node.set_name,
        "date": milliseconds(call.now),
        "myState": 1,
        "term": Int64(1),
        "heartbeatIntervalMillis": Int64(2000),
        "members": [member],
    }


def _replica_set_config(call: Call) -> Answer:
    node = call.node
    if not node.replica_set:
        raise failure(76, "not running with --replSet")
    member = {"_id": 0, "host": node.address, "priority": 1.0, "votes": 1, "hidden": False}
    return {"config": {"_id": node.set_name, "version": 1, "members": [member]}}


COMMANDS: Final = {
    "replSetGetStatus": Command(
        _replica_set_status, on_cluster("replSetGetStatus"), admin_only=True
    ),
    "replSetGetConfig": Command(
        _replica_set_config, on_cluster("replSetGetConfig"), admin_only=True
    ),
}
