from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.channels import pair


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What an old and a new process speak over: the old one's end first."""
    with pair() as both:
        yield both
