"""Memory and time of the session store at its cap.

    python benchmarks/session_memory.py [sessions]

Fills a store (1,000,000 sessions by default) as many drivers would: 200 users, 50 applications,
each session with a txnNumber. Prints bytes per session, the whole process's resident size, the
cost of one use, of reading a request's session fields, of planning a killSessions of 10,000 ids,
and the longest that one slice of the sweep and one insertion held the loop. Python's collector
leaves its oldest generation alone: one collection of it holds the loop for 0.3 s at a million
sessions and finds nothing, as the store leaves no cycles behind. A server should do the same.
"""

from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import bson

from proxy.session.caller import Caller
from proxy.session.commands import Facts, decide
from proxy.session.identity import Identity
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo, read_operation_session_info
from proxy.session.known import KnownUsers
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from proxy.wire.messages import read_request
from proxy.wire.replies import command_frame


def resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def micros(call: Callable[[], object], times: int = 20_000) -> float:
    rounds = []
    for _ in range(5):
        begin = perf_counter()
        for _ in range(times):
            call()
        rounds.append((perf_counter() - begin) / times * 1e6)
    return statistics.median(rounds)


def main(count: int) -> None:
    callers = [Caller.of(Identity((((f"user{n}"), "app"),)), True) for n in range(200)]
    origins = [Origin(f"10.0.0.{n}", f"application{n}", "PyMongo", "4.15") for n in range(50)]
    store = SessionStore()
    gc.collect()
    gc.set_threshold(700, 10, 1_000_000)
    before = resident()
    longest = 0.0
    total = 0.0
    info = OperationSessionInfo(txn_number=1)
    keys = []
    for number in range(count):
        caller = callers[number % 200]
        assert caller.digest is not None
        key = LogicalSessionId(os.urandom(16), caller.digest)
        begin = perf_counter()
        session = store.use(key, number / 1000, caller.name, origins[number % 50])
        assert session is not None
        store.transaction_step(session, Step.WRITE, Outcome.OK, info, number / 1000)
        took = perf_counter() - begin
        total += took
        longest = max(longest, took)
        if number % 1000 == 0:
            keys.append(key)
    used = resident() - before
    print(f"sessions                   {len(store):>12,}")
    print(f"bytes per session          {used / count:>12,.0f}")
    print(f"resident size              {resident() / 2**20:>12,.0f} MiB")
    print(f"new session, mean          {total / count * 1e6:>12.2f} us")
    print(f"new session, longest       {longest * 1e3:>12.2f} ms")
    known = iter(keys * 1000)
    print(f"use of a known session     {micros(lambda: store.use(next(known), 1.0)):>12.2f} us")

    caller = callers[0]
    lsid = {"id": bson.Binary(os.urandom(16), 4)}
    plain = read_request(command_frame(1, {"find": "c", "filter": {}, "$db": "app"}))
    ours = read_request(command_frame(1, {"find": "c", "filter": {}, "lsid": lsid, "$db": "app"}))
    without = micros(lambda: read_operation_session_info(plain, caller))
    with_lsid = micros(lambda: read_operation_session_info(ours, caller))
    print(f"fields, no lsid            {without:>12.2f} us")
    print(f"fields, lsid               {with_lsid:>12.2f} us")

    many = {"killSessions": [{"id": bson.Binary(os.urandom(16), 4)} for _ in range(10_000)]}
    kill = read_request(command_frame(1, {**many, "$db": "admin"}))
    facts = Facts(caller, store, KnownUsers(), lambda: os.urandom(16))
    fields = read_operation_session_info(kill, caller)
    plan = micros(lambda: decide(kill, fields, facts), 3) / 1e3
    print(f"plan of 10,000 ids         {plan:>12.2f} ms")

    longest = 0.0
    slices = 0
    begin = perf_counter()
    more = True
    while more:
        start = perf_counter()
        more = store.expire(1e9).more
        longest = max(longest, perf_counter() - start)
        slices += 1
    print(f"expire, all                {perf_counter() - begin:>12.2f} s in {slices:,} slices")
    print(f"expire, longest slice      {longest * 1e3:>12.2f} ms")
    assert len(store) == 0


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
