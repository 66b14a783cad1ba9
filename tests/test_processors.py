"""How many processors there are for this process, by what the kernel says of its groups."""

from __future__ import annotations

import os

import pytest

from proxy import processors as module
from proxy.processors import processors


@pytest.fixture(autouse=True)
def many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def having(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "25000 100000\n"}, 0.25),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "9900000 100000\n"}, 64),
        # A group within others: the least of them.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/cpu.max": "max 100000",
                f"{V2}/a/cpu.max": "300000 100000",
                f"{V2}/cpu.max": "800000 100000",
            },
            3,
        ),
        # The host's path, of which the container sees nothing.
        ({"proc/self/cgroup": "0::/../x\n", f"{V2}/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": "0::/kubepods/x\n", f"{V2}/cpu.max": "150000 100000"}, 1.5),
        # The older version.
        (
            {
                "proc/self/cgroup": "7:memory:/x\n4:cpu,cpuacct:/docker/x\n",
                f"{V1}/cpu.cfs_quota_us": "400000\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        # What cannot be read says nothing.
        ({"proc/self/cgroup": "nonsense\n\n0\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": ""}, 64),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "100000 0\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "some words\n"}, 64),
    ],
)
def test_the_least_that_any_group_allows_counts(tmp_path, files, found):
    assert processors(having(tmp_path, files)) == found


def test_a_process_bound_to_some_processors_has_no_more_than_those(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    files = {"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "200000 100000"}
    assert processors(having(tmp_path, files)) == 1


def test_this_machine_has_some():
    assert 0 < module.processors() <= 64
