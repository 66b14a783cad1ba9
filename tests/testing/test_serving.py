"""A proxy with a rule of one's own, in a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pymongo
import pytest
from pymongo.errors import OperationFailure

from policies.examples.read_only import ReadOnly
from proxy.errors import ConfigError
from proxy.testing import Login, serving

LOGINS = (Login("audit", "secret-1", ("root@admin",)), Login("shop", "secret-2", ("root@admin",)))


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with serving(ReadOnly, logins=LOGINS, users=["audit@admin"]) as uri:
        yield uri


def test_a_user_that_only_reads(uri: str) -> None:
    for login in reversed(LOGINS):
        with pymongo.MongoClient(uri, username=login.name, password=login.password) as client:
            if login.name == "shop":
                client.test.orders.insert_one({"_id": 1})
            else:
                with pytest.raises(OperationFailure, match="only reads, and insert may write"):
                    client.test.orders.insert_one({"_id": 2})
            assert client.test.orders.count_documents({}) == 1


def test_rules_that_cannot_be_had() -> None:
    class Local(ReadOnly):
        pass

    with pytest.raises(ConfigError, match="does not stand in a module"), serving(Local):
        pass
    with pytest.raises(ConfigError, match="should be a list"), serving(ReadOnly, users="audit"):
        pass
