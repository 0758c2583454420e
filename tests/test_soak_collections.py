"""Six hundred visits in a row, to hosts that behave and hosts that do not: nothing may grow, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest
from documents import SERVER
from holdings import Size, assert_nothing_grew, children, size_now
from winrm_hosts import PASSWORD, USER, at_operation, windows

from exporter.collect import Collector
from exporter.demo.winrm import SimulatedHosts
from exporter.demo.winrm.misbehaviour import Close
from exporter.facts import Known, Missing
from exporter.targets import Target

from builders import config

pytestmark = pytest.mark.soak

ROUNDS = 150
AT_ONCE = 4


async def test_six_hundred_visits_leave_nothing_behind(tmp_path: Path) -> None:
    """Memory, descriptors, threads and children of the last third are those of the first; no host has a shell left."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    sizes: list[Size] = []
    with SimulatedHosts() as hosts:
        good, bad = hosts.start(windows()), hosts.start(windows(misbehave=at_operation("Receive", Close(reset=True))))
        reader = {"auth": "ntlm", "username": USER, "password_file": str(password)}
        credentials = {"good": {**reader, "port": good.port}, "bad": {**reader, "port": bad.port}}
        collector = Collector(config({"credentials": credentials, "collect": {"parallel_hosts": AT_ONCE}}))
        targets = [Target(SERVER, role="none", ports=(), address="127.0.0.1", credentials=name) for name in credentials]

        for _ in range(ROUNDS):
            found = await asyncio.gather(*(collector.collect(target) for target in targets * (AT_ONCE // 2)))
            assert [type(each) for each in found] == [Known, Missing] * (AT_ONCE // 2)
            gc.collect()
            sizes.append(size_now())
        await collector.close()

        assert (good.open_shells, bad.open_shells) == (0, 0)
    assert_nothing_grew(sizes)
    assert max(each.children for each in sizes) <= AT_ONCE
    assert children() == []
