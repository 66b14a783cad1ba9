"""Real drivers see the same through the proxy as directly.

Each case runs a client's script against an upstream and against another one of the same kind
behind the proxy, and compares every line they print.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from functools import partial

import pytest

from tests.clients import harness
from tests.clients.harness import (
    GO,
    JAVA,
    MONGOSH,
    NODE,
    PYMONGO,
    PYMONGO_ASYNC,
    RUST,
    compare,
    embedded,
    ferretdb,
    java_server,
    proxied,
    secantus,
)

UPSTREAMS = {
    "replica set": embedded,
    "authorization": partial(embedded, authorization=True),
    "standalone": partial(embedded, set_name=None),
    "8.0": partial(embedded, version="8.0"),
    # Some drivers' floor is above the 8 that it would announce by itself.
    "mongo-java-server": partial(java_server, 9),
    "SecantusDB": secantus,
    "SecantusDB with authorization": partial(secantus, authorization=True),
    "FerretDB": ferretdb,
}

#: mongo-java-server hangs up on moreToCome and exhaustAllowed: when that is noticed is a race.
UNSTABLE_IN_JAVA_SERVER = {
    "28_exhaust", "29_exhaust_left_early", "30_unacknowledged", "31_unacknowledged_then_closed",
    "exhaust", "unacknowledged",
}  # fmt: skip

#: mongo-java-server knows neither sessions nor transactions and ignores their fields, where the
#: proxy brings session control about and judges the fields as any mongod does.
ADDED_TO_JAVA_SERVER = {
    "50_retryable_write_repeated", "61_start_session", "65_bad_session_list", "66_bad_lsid",
    "retriedWrite", "sessionCommands", "startSession", "killSessions", "badSessionList",
    "retried write", "refresh and end", "start session", "bad session list",
    "refreshAndEnd", "refreshSessions", "killOther",
}  # fmt: skip

#: FerretDB lacks the session commands, which the proxy brings about, and takes any lsid. Nobody can
#: tell whether it demands a login, so that killing everybody's sessions is refused.
ADDED_TO_FERRETDB = {
    "60_session_commands", "61_start_session", "62_kill_sessions", "65_bad_session_list", "kill",
    "closed",
}  # fmt: skip

#: A standalone, it should refuse transaction numbers: the proxy does (20), where it ignores them or
#: stumbles over the fields.
JUDGED_FOR_FERRETDB = {
    "40_transaction_commit", "41_transaction_abort", "42_transaction_error_inside",
    "43_transaction_after_abort_by_command", "44_transaction_callback_retried",
    "45_transaction_committed_twice", "46_transaction_numbers_must_grow",
    "47_commit_without_transaction", "48_write_conflict", "50_retryable_write_repeated",
    "51_retryable_find_and_modify", "52_older_txn_number", "53_retryable_with_statement_ids",
}  # fmt: skip

#: FerretDB answers what wants no answer: a driver takes that for the next reply, the proxy hangs
#: up. Its features it lists in another order each time.
ODD_IN_FERRETDB = {"02_build_info", "30_unacknowledged", "31_unacknowledged_then_closed"}

#: SecantusDB takes what every mongod refuses: entries of killSessions that are no session ids. What
#: it refuses for the Stable API comes without the cluster's times.
ADDED_TO_SECANTUSDB = {
    "65_bad_session_list", "badSessionList", "bad session list",
    "modern_21_outside_the_stable_api", "outsideStableApi",
}  # fmt: skip

#: What servers that others wrote leave to the proxy, or do by chance.
TABLED = {
    "mongo-java-server": UNSTABLE_IN_JAVA_SERVER | ADDED_TO_JAVA_SERVER,
    "FerretDB": ADDED_TO_FERRETDB | JUDGED_FOR_FERRETDB | ODD_IN_FERRETDB,
    "SecantusDB": ADDED_TO_SECANTUSDB,
    "SecantusDB with authorization": ADDED_TO_SECANTUSDB,
}

#: The proxy's own rule: a kill command is never its own victim, so it answers ok where a server
#: interrupts it (11601).
NEVER_ITS_OWN_VICTIM = {"63_kill_all_sessions", "64_kill_by_pattern", "killOwn"}

#: An lsid whose id is null is refused by the proxy, as some versions take it: without the cluster's
#: times, and whether or not somebody is logged in.
REFUSED_HERE = {"66_bad_lsid"}


#: What the proxy says of a session that is used as no driver does.
NO_DRIVERS = re.compile("(session|transaction) used (by|for) two ")


@pytest.fixture(scope="module")
def deployments(tmp_path_factory):
    """Starts, once per kind and way, an upstream, its twin, and the proxy in front of the twin.

    Nothing that a driver does is an incident, but for numbers that scenarios make up.
    """
    logs = []
    with ExitStack() as stack:
        started = {}

        def start(kind: str, *options: str):
            if (kind, options) not in started:
                if (kind, ()) in started:
                    direct, hidden, _ = started[kind, ()]
                else:
                    direct = stack.enter_context(UPSTREAMS[kind]())
                    hidden = stack.enter_context(UPSTREAMS[kind]())
                log = tmp_path_factory.mktemp("proxy") / "log"
                logs.append(log)
                through = stack.enter_context(proxied(hidden, log, *options))
                started[kind, options] = direct, hidden, through
            return started[kind, options]

        yield start
    for log in logs:
        lines = log.read_text().splitlines()
        # What scenarios send by hand, on connections that name no driver, is none's.
        said = [line for line in lines if NO_DRIVERS.search(line) and " driver= " not in line]
        assert said == []


def check(deployments, client, kind, *arguments, proxy=(), leaving_out=(), **options):
    client.require()
    direct, hidden, through = deployments(kind, *proxy)
    leaving_out = {*leaving_out, *NEVER_ITS_OWN_VICTIM, *REFUSED_HERE, *TABLED.get(kind, ())}
    seen = compare(
        client, direct, through, *arguments, hidden=hidden, leaving_out=leaving_out, **options
    )
    for line in seen:
        if line["step"] in NEVER_ITS_OWN_VICTIM:
            assert "11601" not in json.dumps(line), "a kill command killed itself"
    return seen


@pytest.mark.parametrize(
    "kind", ["replica set", "authorization", "mongo-java-server", "SecantusDB"]
)
@pytest.mark.parametrize(
    "client", [PYMONGO, PYMONGO_ASYNC, NODE, GO, JAVA, MONGOSH, RUST], ids=lambda c: c.name
)
def test_a_driver_sees_the_same(deployments, client, kind):
    seen = check(deployments, client, kind)
    if kind != "mongo-java-server":
        # What the driver discovered is the proxy; that it is nothing else, compare() has seen.
        _, _, through = deployments(kind)
        assert through.address in json.dumps(seen[0])


def test_pymongo_sees_the_same_of_ferretdb(deployments):
    check(deployments, PYMONGO, "FerretDB")


def test_pymongo_sees_the_same_of_secantusdb_with_authorization(deployments):
    check(deployments, PYMONGO, "SecantusDB with authorization")


@pytest.mark.parametrize(
    ("client", "options"),
    [
        (PYMONGO, {"compressors": "zstd"}),
        (PYMONGO, {"directConnection": "true", "compressors": "zlib"}),
        (PYMONGO, {"replicaSet": ""}),
        (NODE, {"compressors": "zlib"}),
        (GO, {"compressors": "snappy"}),
    ],
    ids=lambda value: value.name if isinstance(value, harness.Client) else repr(value),
)
def test_with_options(deployments, client, options):
    check(deployments, client, "replica set", **options)


def test_another_set_name_is_refused_alike(deployments):
    check(
        deployments,
        PYMONGO,
        "replica set",
        "topology",
        replicaSet="another",
        serverSelectionTimeoutMS="1000",
    )


def test_compression_with_authorization(deployments):
    check(deployments, GO, "authorization", compressors="snappy,zlib,zstd")


def test_stripped_compression_is_only_seen_in_hello(deployments):
    check(
        deployments,
        PYMONGO,
        "replica set",
        proxy=("--compression", "strip"),
        leaving_out={"01_hello_offers_compression"},
        compressors="zlib,zstd",
    )


def test_hello_passed_on_is_the_upstream_s_own(deployments):
    check(deployments, PYMONGO, "standalone", proxy=("--hello", "pass"))


@pytest.mark.parametrize("kind", ["replica set", "8.0", "SecantusDB"])
def test_failures_on_the_way_are_judged_alike(deployments, kind):
    """Commands that fail, hang up or are late: retries and the drivers' view of the server."""
    check(deployments, PYMONGO, kind, "failing")


@pytest.mark.parametrize("kind", ["8.0", "SecantusDB"])
@pytest.mark.parametrize("client", [PYMONGO, NODE], ids=lambda c: c.name)
def test_what_drivers_and_servers_got_since(deployments, client, kind):
    """Writes to several collections, the Stable API, snapshots, change streams where there are."""
    check(deployments, client, kind, "modern")


def test_100_000_documents_and_messages_of_48_megabytes(deployments):
    check(deployments, PYMONGO, "mongo-java-server", "heavy")


def test_session_control_works_in_front_of_a_server_that_lacks_it(deployments):
    seen = {line["step"]: line["saw"] for line in check(deployments, MONGOSH, "mongo-java-server")}
    for step in ("refreshSessions", "killOther", "killOwn"):
        assert seen[step]["ok"] == {"$numberInt": "1"}, step
    assert seen["startSession"]["timeoutMinutes"] == {"$numberInt": "30"}
    assert seen["badSessionList"]["codeName"] == "TypeMismatch"
