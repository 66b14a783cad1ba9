"""A DNS server of the tests' own, on loopback, and the names that lead there."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio


class Zone:
    """What is known by (name, type): texts, as in a zone's file. ``rcode`` is for every answer."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.ttl = 60
        self.rcode = dns.rcode.NOERROR
        self.asked: list[tuple[str, str]] = []

    def seeds(self, name: str, *hosts: str, service: str = "mongodb") -> None:
        """Hosts as ``host:port``."""
        targets = (host.rpartition(":") for host in hosts)
        self.records[f"_{service}._tcp.{name}", "SRV"] = [
            f"0 0 {port} {host}." for host, _, port in targets
        ]

    async def serve(self, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            await sock.bind(("127.0.0.1", 0))
            task_status.started(sock.getsockname()[1])
            while True:
                data, peer = await sock.recvfrom(4096)
                await sock.sendto(self._answer(dns.message.from_wire(data)).to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            values = self.records.get((name, kind), [])
            if values:
                one = dns.rrset.from_text(question.name, self.ttl, "IN", kind, *values)
                response.answer.append(one)
            elif not any(known == name for known, _ in self.records):
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response


class Loopback(trio.abc.HostnameResolver):
    """Every name leads to this machine."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]

    async def getnameinfo(self, sockaddr: Any, _flags: int) -> Any:
        return sockaddr


@asynccontextmanager
async def named(monkeypatch: Any) -> AsyncIterator[Zone]:
    """A zone that is asked instead of the system's servers."""
    zone = Zone()
    async with trio.open_nursery() as nursery:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = await nursery.start(zone.serve)
        monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
        before = trio.socket.set_custom_hostname_resolver(Loopback())
        yield zone
        trio.socket.set_custom_hostname_resolver(before)
        nursery.cancel_scope.cancel()
