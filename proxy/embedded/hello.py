"""``hello`` and ``isMaster``: who the server is, what it can, and waiting for that to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bson import encode

from proxy.embedded import auth
from proxy.embedded.call import Answer, Call, Command, Later
from proxy.embedded.failures import failure
from proxy.embedded.node import ELECTION_ID, milliseconds
from proxy.embedded.sessions import TIMEOUT_MINUTES
from proxy.errors import CommandError
from proxy.wire.opcodes import MAX_MESSAGE_SIZE

if TYPE_CHECKING:
    from proxy.embedded.engine import Document

_COMPRESSORS: Final = ("snappy", "zlib", "zstd")
_MAX_METADATA: Final = 512
_MAX_APP_NAME: Final = 128


def _hello(call: Call) -> Answer:
    _know_balancer(call)
    _take_metadata(call)
    version = call.option("topologyVersion")
    wait = call.option("maxAwaitTimeMS")
    if (version is None) != (wait is None):
        raise failure(
            31368,
            "A request with a 'topologyVersion' must include 'maxAwaitTimeMS'"
            if wait is None
            else "A request with 'maxAwaitTimeMS' must include a 'topologyVersion'",
        )
    if version is None or wait is None or not call.version.topology_version:
        return _reply(call)
    return _awaitable(call, version, wait)


def _know_balancer(call: Call) -> None:
    client = call.client
    client.balanced = client.balanced or bool(call.option("loadBalanced"))
    if call.node.service_id is not None and not client.balanced:
        raise failure(
            354,
            "The server is being accessed through a load balancer, but this driver does not have "
            "load balancing enabled",
        )


def _awaitable(call: Call, version: object, wait: object) -> Answer:
    node = call.node
    if not isinstance(version, dict) or not isinstance(wait, int | float) or wait < 0:
        raise failure(
            14, "topologyVersion must be an object, maxAwaitTimeMS a number of at least 0"
        )
    # Every reply of a stream waits in its own right, so the stream begins with an immediate answer
    # only where the client's version is out of date.
    counter = version.get("counter")
    if not isinstance(counter, int):
        raise failure(14, "topologyVersion.counter must be a number")
    current = node.topology_version()
    call.more_to_come = call.exhaust
    if version.get("processId") != current["processId"]:
        return _streamed(call)
    if counter > current["counter"]:
        raise failure(
            31382,
            f"Received a topology version with counter: {counter} which is greater than the "
            f"server topology version counter: {current['counter']}",
        )
    if counter < current["counter"]:
        return _streamed(call)
    until = call.now + wait / 1000

    def attempt(now: float) -> Document | None:
        changed = node.topology_counter != counter
        return _streamed(call) if changed or now >= until else None

    return Later(until, attempt)


def _streamed(call: Call) -> Document:
    if call.more_to_come:
        # What the server would be asked next: the same, with the version just given.
        call.body = {**call.body, "topologyVersion": call.node.topology_version()}
    return _reply(call)


def _take_metadata(call: Call) -> None:
    metadata = call.option("client")
    if metadata is not None:
        if call.client.metadata is not None:
            raise failure(
                186, "The client metadata document may only be sent in the first isMaster"
            )
        if not isinstance(metadata, dict):
            raise failure(14, "The client metadata document must be a document")
        for name in ("driver", "os"):
            if name not in metadata:
                raise failure(
                    183, f"Missing required sub-document '{name}' in the client metadata document"
                )
        if len(encode(metadata)) > _MAX_METADATA * 2:
            raise failure(
                185, "The client metadata document must be less then or equal to 512bytes"
            )
        application = metadata.get("application") or {}
        if len(str(application.get("name", "")).encode()) > _MAX_APP_NAME:
            raise failure(
                184,
                "The 'client.application.name' field must be less then or equal to 128 bytes in "
                "length",
            )
        call.client.metadata = metadata
    if isinstance(call.option("internalClient"), dict):
        call.client.internal = True
    offered = call.body.get("compression")
    if isinstance(offered, list):
        call.client.compressors = [name for name in offered if name in _COMPRESSORS]


def _reply(call: Call) -> Document:
    node = call.node
    reply: Document = {}
    if call.option("helloOk"):
        reply["helloOk"] = True
    primary = "isWritablePrimary" if call.name == "hello" else "ismaster"
    topology: Document = {}
    if node.version.topology_version:
        topology = {"topologyVersion": node.topology_version()}
    if node.service_id is not None:
        reply |= {primary: True, "msg": "isdbgrid", "serviceId": node.service_id} | topology
    elif node.replica_set:
        written = milliseconds(int(node.written_at))
        reply |= topology | {
            "hosts": [node.address],
            "setName": node.set_name,
            "setVersion": 1,
            primary: True,
            "secondary": False,
            "primary": node.address,
            "me": node.address,
            "electionId": ELECTION_ID,
            "lastWrite": {
                "opTime": node.op_time(),
                "lastWriteDate": written,
                "majorityOpTime": node.op_time(),
                "majorityWriteDate": written,
            },
        }
    else:
        reply |= {primary: True} | topology
    reply |= {
        "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": MAX_MESSAGE_SIZE,
        "maxWriteBatchSize": 100_000,
        "localTime": milliseconds(call.now),
        "logicalSessionTimeoutMinutes": TIMEOUT_MINUTES,
        "connectionId": call.client.id,
        "minWireVersion": 0,
        "maxWireVersion": node.version.wire,
        "readOnly": False,
    }
    if "compression" in call.body and call.client.compressors:
        reply["compression"] = call.client.compressors
    mechanisms = call.option("saslSupportedMechs")
    if isinstance(mechanisms, str):
        database, _, name = mechanisms.partition(".")
        user = node.users.find(name, database)
        if user is not None:
            reply["saslSupportedMechs"] = list(user.mechanisms)
    speculative = call.option("speculativeAuthenticate")
    if isinstance(speculative, dict) and node.version.speculative_login:
        # Failing is not said: the client then starts over with saslStart.
        try:
            reply["speculativeAuthenticate"] = auth.speculative(call, speculative)
        except CommandError:
            call.client.conversation = None
    return reply


COMMANDS: Final = {
    name: Command(_hello, public=True, awaits=True) for name in ("hello", "isMaster", "ismaster")
}
