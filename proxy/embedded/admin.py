"""What operators and drivers' start-up code ask: build, status, parameters, log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import Int64

from proxy.embedded.call import Answer, Call, Command, on_cluster
from proxy.embedded.failures import failure
from proxy.embedded.node import milliseconds

if TYPE_CHECKING:
    from proxy.embedded.engine import Document

_BUILD: Final[Document] = {
    "version": "",
    "gitVersion": "embedded",
    "modules": ["embedded"],
    "allocator": "system",
    "javascriptEngine": "none",
    "sysInfo": "deprecated",
    "versionArray": [],
    "openssl": {"running": "disabled", "compiled": "disabled"},
    "buildEnvironment": {},
    "bits": 64,
    "debug": False,
    "maxBsonObjectSize": 16_777_216,
    "storageEngines": ["ephemeralForTest"],
}

_PARAMETERS: Final[Document] = {
    "authenticationMechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
    "enableTestCommands": 1,
    "localLogicalSessionTimeoutMinutes": 30,
    "logicalSessionRefreshMillis": 300_000,
    "maxSessions": 1_000_000,
    "transactionLifetimeLimitSeconds": 60,
    "wiredTigerMaxCacheOverflowSizeGB": 0.0,
}


def _whats_my_uri(call: Call) -> Answer:
    return {"you": call.client.address}


def _ping(call: Call) -> Answer:
    return {}


def _build_info(call: Call) -> Answer:
    parts = [int(part) for part in call.version.name.split(".")]
    return {**_BUILD, "version": f"{call.version.name}.0", "versionArray": [*parts, 0, 0]}


def _last_error(call: Call) -> Answer:
    return {"connectionId": Int64(call.client.id), "n": 0, "err": None}


def _server_status(call: Call) -> Answer:
    node = call.node
    uptime = call.now - node.started
    host, _, port = node.address.rpartition(":")
    status: Document = {
        "host": f"{host}:{port}",
        "version": f"{call.version.name}.0",
        "process": "mongod",
        "pid": Int64(0),
        "uptime": uptime,
        "uptimeMillis": Int64(int(uptime * 1000)),
        "uptimeEstimate": Int64(int(uptime)),
        "localTime": milliseconds(call.now),
        "connections": {
            "current": node.connections,
            "available": 100_000 - node.connections,
            "totalCreated": node.connections,
            "active": len(node.operations),
        },
        "opcounters": {
            "insert": node.counters["insert"],
            "query": node.counters["find"],
            "update": node.counters["update"],
            "delete": node.counters["delete"],
            "getmore": node.counters["getMore"],
            "command": sum(node.counters.values()),
        },
        "logicalSessionRecordCache": {"activeSessionsCount": sum(1 for _ in node.sessions)},
        "transactions": {
            "retriedStatementsCount": Int64(node.counters["retried statements"]),
            "currentOpen": Int64(sum(record.open_transactions() for record in node.sessions)),
        },
        "metrics": {"cursor": {"open": {"total": Int64(len(node.cursors))}}},
        "storageEngine": {"name": "ephemeralForTest", "persistent": False},
    }
    if node.replica_set:
        status["repl"] = {
            "setName": node.set_name,
            "ismaster": True,
            "secondary": False,
            "primary": node.address,
            "me": node.address,
            "hosts": [node.address],
        }
    return status


def _get_parameter(call: Call) -> Answer:
    wanted = call.body["getParameter"]
    known: Document = {
        **_PARAMETERS,
        "featureCompatibilityVersion": {"version": call.version.name},
        **call.node.parameters,
    }
    if wanted == "*":
        return known
    found = {name: known[name] for name in call.body if name in known}
    if not found:
        raise failure(72, "no option found to get")
    return found


def _set_parameter(call: Call) -> Answer:
    names = [name for name in call.body if name in _PARAMETERS]
    if call.version.stable_api and "requireApiVersion" in call.body:
        names.append("requireApiVersion")
    if not names:
        raise failure(72, "no option found to set, use help:true to see options ")
    was = call.node.parameters.get(names[0], _PARAMETERS.get(names[0], False))
    for name in names:
        call.node.parameters[name] = call.body[name]
    return {"was": was}


def _host_info(call: Call) -> Answer:
    return {
        "system": {
            "currentTime": milliseconds(call.now),
            "hostname": call.node.address,
            "cpuAddrSize": 64,
            "memSizeMB": Int64(0),
            "numCores": 1,
            "cpuArch": "x86_64",
            "numaEnabled": False,
        },
        "os": {"type": "embedded", "name": "embedded", "version": ""},
        "extra": {},
    }


def _get_log(call: Call) -> Answer:
    if call.body["getLog"] == "*":
        return {"names": ["global", "startupWarnings"]}
    if call.body["getLog"] not in ("global", "startupWarnings"):
        raise failure(96, f"no RamLog named: {call.body['getLog']}")
    return {"totalLinesWritten": 0, "log": []}


def _command_line(call: Call) -> Answer:
    options: Document = {"net": {"port": int(call.node.address.rpartition(":")[2] or 0)}}
    if call.node.replica_set:
        options["replication"] = {"replSet": call.node.set_name}
    if call.node.authorization:
        options["security"] = {"authorization": "enabled"}
    return {"argv": ["embedded"], "parsed": options}


def _free_monitoring(call: Call) -> Answer:
    return {"state": "disabled"}


def _features(call: Call) -> Answer:
    return {"oidMachine": 0}


def _top(call: Call) -> Answer:
    return {"totals": {}}


def _refresh_cache(call: Call) -> Answer:
    call.node.flush_sessions(call.now)
    return {}


COMMANDS: Final = {
    "ping": Command(_ping, public=True),
    "whatsmyuri": Command(_whats_my_uri, public=True),
    "buildInfo": Command(_build_info, public=True),
    "buildinfo": Command(_build_info, public=True),
    "getLastError": Command(_last_error, public=True),
    "getlasterror": Command(_last_error, public=True),
    "serverStatus": Command(_server_status, on_cluster("serverStatus")),
    "getParameter": Command(_get_parameter, on_cluster("getParameter"), admin_only=True),
    "setParameter": Command(_set_parameter, on_cluster("setParameter"), admin_only=True),
    "hostInfo": Command(_host_info, on_cluster("hostInfo")),
    "getLog": Command(_get_log, on_cluster("getLog"), admin_only=True),
    "getCmdLineOpts": Command(_command_line, on_cluster("getCmdLineOpts"), admin_only=True),
    "getFreeMonitoringStatus": Command(
        _free_monitoring, on_cluster("checkFreeMonitoringStatus"), admin_only=True
    ),
    "features": Command(_features),
    "top": Command(_top, on_cluster("top"), admin_only=True),
    "refreshLogicalSessionCacheNow": Command(_refresh_cache),
}
