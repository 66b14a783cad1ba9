"""Seeds from a DNS server: what is believed of its answers."""

from __future__ import annotations

import dns.rcode
import pytest

from proxy.addresses import Address, Srv
from proxy.errors import LookUpError
from proxy.upstream.srv import find, hosts, same_domain
from tests.nameserver import named
from tests.patience import PATIENCE

NAME = "set.shop.test"
SRV = Srv(NAME)


async def test_seeds_and_options(monkeypatch):
    async with named(monkeypatch) as zone:
        zone.seeds(NAME, "db2.shop.test:27018", "DB1.shop.test:27017", "db2.shop.test:27018")
        zone.records[NAME, "TXT"] = ['"replicaSet=rs%2B0&" "authSource=app"']
        found = await find(SRV, PATIENCE)
        assert found.seeds == (Address("db1.shop.test", 27017), Address("db2.shop.test", 27018))
        assert found.options == {"replicaset": "rs+0", "authsource": "app"}
        assert found.seconds == 60
        zone.ttl = 5
        assert (await hosts(SRV, PATIENCE)).seconds == 60, "not more often"
        zone.ttl = 300
        assert (await hosts(SRV, PATIENCE)).seconds == 300


async def test_options_there_need_not_be(monkeypatch):
    async with named(monkeypatch) as zone:
        zone.seeds(NAME, "db1.shop.test:1")
        assert (await find(SRV, PATIENCE)).options == {}
        zone.records[NAME, "A"] = ["127.0.0.1"]
        assert (await find(SRV, PATIENCE)).options == {}


async def test_another_service(monkeypatch):
    async with named(monkeypatch) as zone:
        zone.seeds(NAME, "db1.shop.test:1", service="other")
        assert (await find(Srv(NAME, "other"), PATIENCE)).seeds == (Address("db1.shop.test", 1),)
        with pytest.raises(LookUpError, match="does not exist"):
            await find(SRV, PATIENCE)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["replicaSet=a", "replicaSet=b"], "more than one TXT record"),
        (["tls=false"], "'tls', which is not allowed"),
        (["replicaSet="], "not allowed"),
        (["loadBalanced=maybe"], "true or false"),
        (["loadBalanced=true"], "more than one host"),
    ],
)
async def test_options_that_are_wrong(monkeypatch, texts, why):
    async with named(monkeypatch) as zone:
        zone.seeds(NAME, "db1.shop.test:1", "db2.shop.test:1")
        zone.records[NAME, "TXT"] = [f'"{text}"' for text in texts]
        with pytest.raises(LookUpError, match=why):
            await find(SRV, PATIENCE)


async def test_hosts_elsewhere_are_nobody_to_be_led_to(monkeypatch):
    async with named(monkeypatch) as zone:
        zone.seeds(NAME, "db1.shop.test:1", "db.evil.test:1")
        with pytest.raises(LookUpError, match=r"db\.evil\.test is not in the same domain"):
            await find(SRV, PATIENCE)
        # Later on, the others are still good.
        found = await hosts(SRV, PATIENCE)
        assert (found.seeds, found.strange) == ((Address("db1.shop.test", 1),), ("db.evil.test",))
        zone.seeds(NAME, "db.evil.test:1")
        with pytest.raises(LookUpError, match="not in the same domain"):
            await hosts(SRV, PATIENCE)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, dns.rcode.REFUSED])
async def test_no_answer(monkeypatch, rcode):
    async with named(monkeypatch) as zone:
        zone.rcode = rcode
        with pytest.raises(LookUpError, match=NAME):
            await find(SRV, 0.3)


@pytest.mark.parametrize(
    ("host", "name", "same"),
    [
        ("db1.shop.test", "set.shop.test", True),
        ("a.db1.shop.test", "set.shop.test", True),
        ("shop.test", "set.shop.test", False),
        ("db1.otshop.test", "set.shop.test", False),
        ("db1.test", "set.shop.test", False),
        ("db1.shop.test", "shop.test", True),
        ("shop.test", "shop.test", False),
        ("db1.other.test", "shop.test", False),
        ("db1.localhost", "localhost", True),
        ("localhost", "localhost", False),
    ],
)
def test_the_same_domain(host, name, same):
    assert same_domain(host, name) is same
