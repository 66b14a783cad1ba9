"""Unix sockets: who may connect, and what becomes of paths."""

from __future__ import annotations

import errno
import os
import socket
import stat

import pytest

from proxy.net.unix import Access, open_unix


@pytest.fixture
def chowned(monkeypatch):
    """Files are given to nobody really: that takes privileges."""
    given = []
    monkeypatch.setattr(
        os, "chown", lambda path, *to, follow_symlinks: given.append((path, *to, follow_symlinks))
    )
    return given


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777, 0o000])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(tmp_path, mode):
    path = tmp_path / "a.sock"
    before = os.umask(0o077)
    try:
        with open_unix(str(path), 8, Access(mode)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_nobody_can_connect_before_all_is_set(tmp_path, monkeypatch):
    path = str(tmp_path / "a.sock")
    tried = []

    def chmod(of, _mode):
        with socket.socket(socket.AF_UNIX) as client:
            tried.append(client.connect_ex(of))

    monkeypatch.setattr(os, "chmod", chmod)
    with open_unix(path, 8, Access(0o600)):
        assert tried == [errno.ECONNREFUSED]


@pytest.mark.parametrize(
    ("access", "given"),
    [
        (Access(), []),
        (Access(owner=7), [(7, -1)]),
        (Access(group=8), [(-1, 8)]),
        (Access(0o600, 0, 0), [(0, 0)]),
    ],
)
def test_owner_and_group(tmp_path, chowned, access, given):
    path = str(tmp_path / "a.sock")
    with open_unix(path, 8, access):
        assert chowned == [(path, *to, False) for to in given]


def test_what_may_not_be_set_leaves_no_socket_behind(tmp_path, monkeypatch):
    def chown(*_, **__):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", chown)
    path = tmp_path / "a.sock"
    with pytest.raises(PermissionError, match="owner or group of the socket cannot be set") as why:
        open_unix(str(path), 8, Access(owner=0))
    assert why.value.errno == errno.EPERM
    assert not path.exists()
