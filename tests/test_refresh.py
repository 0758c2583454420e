"""The refresh loop: what is swept when, how much at a time, and what is published."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refreshing import running, until

from exporter import observe as observe_module
from exporter import refresh as refresh_module
from exporter.config import Config
from exporter.facts import EndpointSweep, Known, Missing, Protocol, Reason
from exporter.probes.tls.resolve import ResolveError, Resolver
from exporter.probes.tls.sweep import SweepJob
from exporter.refresh import Refresh, pause
from exporter.snapshot import ServerSnapshot, Snapshot
from exporter.verdicts import ProfileState

from builders import TLS12_ONLY, config, failed_sweep, swept


@dataclass
class FakeWire:
    """Stands in for the sweep: answers from a script, and remembers what it was asked."""

    answers: dict[int, Callable[[], EndpointSweep]] = field(default_factory=dict)
    jobs: list[SweepJob] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    most_per_server: int = 0
    seconds: float = 0.0
    _servers: list[str] = field(default_factory=list)

    async def sweep(self, job: SweepJob) -> EndpointSweep:
        self.jobs.append(job)
        self._servers.append(job.server_name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.most_per_server = max(self.most_per_server, self._servers.count(job.server_name))
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.at_once -= 1
            self._servers.remove(job.server_name)
        return self.answers.get(job.port, lambda: _now(swept(TLS12_ONLY)))()


def _now(sweep: EndpointSweep) -> EndpointSweep:
    """The same sweep, made just now."""
    now = time.time()
    answers = {
        protocol: Known(fact.value, now, fact.reason, fact.detail) if isinstance(fact, Known) else fact
        for protocol, fact in sweep.accepted.items()
    }
    return EndpointSweep(now, sweep.duration, sweep.address, sweep.door, answers, sweep.connections)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> FakeWire:
    fake = FakeWire()
    monkeypatch.setattr(observe_module, "sweep", fake.sweep)
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 0.01)
    monkeypatch.setattr(refresh_module, "DISCOVERY_INTERVAL", 0.02)
    return fake


def _server(snapshot: Snapshot, name: str = "exch01.test") -> ServerSnapshot:
    return next(server for server in snapshot.servers if server.target.name == name)


def _one(port: int = 443, **settings: Any) -> Config:
    server = {"name": "exch01.test", "address": "127.0.0.1", "endpoints": [{"port": port, "service": "https"}]}
    return config(settings, servers=[server])


async def test_before_the_first_sweep_everything_is_unknown(wire: FakeWire) -> None:
    """The first snapshot names every server and decides nothing."""
    server = _server(Refresh(_one()).store.latest)

    assert {verdict.state for verdict in server.profiles.values()} == {ProfileState.UNKNOWN}
    assert server.facts.endpoints[0].accepted[Protocol.TLS_1_2] == Missing(Reason.NOT_OBSERVED_YET)
    assert wire.jobs == []


async def test_once_sweeps_every_server_and_reports_progress(wire: FakeWire) -> None:
    """What audit does."""
    refresh = Refresh(config(servers=["127.0.0.1", "127.0.0.2"]))
    progress = []

    snapshot = await refresh.once(lambda: progress.append(1))

    assert len(progress) == 2
    assert {job.server_name for job in wire.jobs} == {"127.0.0.1", "127.0.0.2"}
    assert all(server.profiles["wire-tls12-only"].state is ProfileState.READY for server in snapshot.servers)
    assert all(
        server.observations["sweep"].success and server.observations["sweep"].last_success
        for server in snapshot.servers
    )


async def test_a_job_says_all_that_a_sweep_needs(wire: FakeWire) -> None:
    """The name for SNI, the address to connect to."""
    await Refresh(_one(8443, probe={"timeout": "3s"})).once()

    (job,) = wire.jobs
    assert (job.server_name, job.addresses, job.port, job.service, job.timeout) == (
        "exch01.test", ("127.0.0.1",), 8443, "https", 3.0,
    )  # fmt: skip


async def test_concurrency_is_bounded(wire: FakeWire) -> None:
    """By the fleet and by the server."""
    wire.seconds = 0.01
    probe = {"parallel_endpoints": 5, "parallel_endpoints_per_server": 2}

    await Refresh(config({"probe": probe}, servers=[f"127.0.0.{number}" for number in range(1, 9)])).once()

    assert len(wire.jobs) == 8 * 12
    assert wire.most_at_once == 5
    assert wire.most_per_server == 2


async def test_sweeps_repeat_and_changes_are_published(wire: FakeWire) -> None:
    """A server that falls back shows in the next snapshot."""
    async with running(Refresh(_one(probe={"interval": "1s", "timeout": "1s"}))) as refresh:
        await until(refresh, lambda snapshot: _server(snapshot).profiles["wire-tls12-only"].state is ProfileState.READY)
        wire.answers[443] = lambda: _now(swept("001110"))
        snapshot = await until(
            refresh, lambda snapshot: _server(snapshot).profiles["wire-tls12-only"].state is ProfileState.NOT_READY
        )

    assert _server(snapshot).profiles["wire-tls12-only"].blockers == ("endpoints-reject-legacy",)
    assert _server(snapshot).profiles["wire-tls12"].state is ProfileState.READY


async def test_snapshots_are_published_at_most_once_an_interval(
    wire: FakeWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast sweeps come in."""
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 60.0)
    wire.seconds = 0.01
    async with running(Refresh(config(servers=[f"127.0.0.{number}" for number in range(1, 6)]))) as refresh:
        before = refresh.store.latest
        first = await refresh.store.newer_than(before)
        while wire.at_once or len(wire.jobs) < 5 * 12:
            await asyncio.sleep(0.01)

        assert refresh.store.latest is first


async def test_a_fault_of_ours_costs_one_endpoint(wire: FakeWire, capsys: pytest.CaptureFixture[str]) -> None:
    """It is logged and has a reason; the other answers arrive, of the same server and of others."""

    def broken() -> EndpointSweep:
        raise RuntimeError("a bug")

    wire.answers[1] = broken
    endpoints = [{"port": 1, "service": "https"}, {"port": 2, "service": "https"}]
    servers = [{"name": "127.0.0.1", "endpoints": endpoints}, {"name": "127.0.0.2", "endpoints": endpoints[1:]}]

    snapshot = await Refresh(config(servers=servers)).once()

    broken_one, good_one = _server(snapshot, "127.0.0.1").facts.endpoints
    assert broken_one.accepted[Protocol.TLS_1_2].reason is Reason.WORKER_DIED
    assert good_one.accepted[Protocol.TLS_1_2].value is True
    assert _server(snapshot, "127.0.0.1").observations["sweep"].success is False
    assert _server(snapshot, "127.0.0.2").observations["sweep"].success is True
    assert "a bug" in capsys.readouterr().out


@given(st.floats(1, 1e6))
def test_the_pause_between_sweeps_has_jitter(interval: float) -> None:
    """Within a tenth of the interval, and not always the same."""
    pauses = {pause(interval) for _ in range(20)}

    assert all(0.9 * interval <= each <= 1.1 * interval for each in pauses)
    assert len(pauses) > 1


async def test_a_server_with_nothing_to_sweep_is_no_observation() -> None:
    """Role none without endpoints: unknown, and not observed either."""
    snapshot = await Refresh(config(servers=[{"name": "127.0.0.1", "role": "none"}])).once()

    assert _server(snapshot, "127.0.0.1").observations["sweep"].success is None
    assert _server(snapshot, "127.0.0.1").swept
    assert _server(snapshot, "127.0.0.1").profiles["wire-tls12"].reason == "nothing_observed"


class TestFailures:
    async def test_a_failed_endpoint_is_counted_by_reason(self, wire: FakeWire) -> None:
        """And the attempt is no success."""
        wire.answers[443] = failed_sweep

        snapshot = await Refresh(_one()).once()

        assert snapshot.failures == {("sweep", Reason.TCP_REFUSED): 1}
        assert _server(snapshot).observations["sweep"].success is False
        assert _server(snapshot).observations["sweep"].last_success == 0

    async def test_a_partly_decided_endpoint_is_a_success(self, wire: FakeWire) -> None:
        """The reason is on the protocol, not on the attempt."""
        wire.answers[443] = lambda: _now(swept("??0010"))

        snapshot = await Refresh(_one()).once()

        assert snapshot.failures == {}
        assert _server(snapshot).observations["sweep"].success is True

    async def test_a_name_that_does_not_resolve(self, wire: FakeWire) -> None:
        """No connection is tried; every endpoint that counts says dns."""
        snapshot = await Refresh(config(servers=["nothere.invalid"])).once()

        server = _server(snapshot, "nothere.invalid")
        assert wire.jobs == []
        assert {facts.accepted[Protocol.TLS_1_2].reason for facts in server.facts.endpoints if facts.in_use} == {
            Reason.DNS
        }
        assert snapshot.failures == {("sweep", Reason.DNS): 3}
        assert server.profiles["wire-tls12"].state is ProfileState.UNKNOWN


class TestClosedDoors:
    async def test_closed_optional_endpoints_are_left_in_peace(self, wire: FakeWire) -> None:
        """They are tried again after a scan interval only; core ones at every sweep."""
        wire.answers = {port: lambda: _now(failed_sweep()) for port in range(1, 3000) if port not in {443, 25, 587}}
        refresh = Refresh(config(servers=["127.0.0.1"]))

        first = await refresh.once()
        await refresh.once()

        assert sorted(job.port for job in wire.jobs[12:]) == [25, 443, 587]
        assert _server(first, "127.0.0.1").observations["sweep"].success is True
        assert _server(first, "127.0.0.1").profiles["wire-tls12-only"].state is ProfileState.READY

    async def test_they_are_tried_again_after_a_scan_interval(self, wire: FakeWire) -> None:
        """With one more sweep, which costs one connection while they stay closed."""
        long_ago = time.time() - 2 * 86400
        wire.answers = {143: lambda: failed_sweep(at=long_ago)}
        refresh = Refresh(config(servers=["127.0.0.1"]))

        await refresh.once()
        await refresh.once()

        assert [job.port for job in wire.jobs].count(143) == 2


class TestAddresses:
    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: tuple[str, ...] = ("127.0.0.1", "127.0.0.2")

        async def resolve(_: object, _host: str, _timeout: float) -> tuple[str, ...]:
            if not self.addresses:
                raise ResolveError("exch.test: no such name")
            return self.addresses

        monkeypatch.setattr(Resolver, "resolve", resolve)

    def _config(self, address: str | None = None) -> Config:
        server: dict[str, Any] = {"name": "exch.test", "endpoints": [{"port": 443, "service": "https"}]}
        return config(servers=[server | ({"address": address} if address else {})])

    async def test_a_sweep_gets_every_address_to_choose_from(self, wire: FakeWire) -> None:
        """It pins the first that answers."""
        await Refresh(self._config()).once()

        assert [job.addresses for job in wire.jobs] == [("127.0.0.1", "127.0.0.2")]

    async def test_all_makes_an_endpoint_of_each_address(self, wire: FakeWire) -> None:
        """Each has a name of its own."""
        snapshot = await Refresh(self._config("all")).once()

        assert sorted(job.addresses for job in wire.jobs) == [("127.0.0.1",), ("127.0.0.2",)]
        assert [facts.endpoint for facts in snapshot.servers[0].facts.endpoints] == [
            "exch.test:443@127.0.0.1", "exch.test:443@127.0.0.2",
        ]  # fmt: skip

    async def test_an_address_that_is_gone_takes_its_endpoint_with_it(self, wire: FakeWire) -> None:
        """And a new one brings one."""
        refresh = Refresh(self._config("all"))
        await refresh.once()
        self.addresses = ("127.0.0.2", "127.0.0.3")

        snapshot = await refresh.once()

        assert [facts.endpoint for facts in snapshot.servers[0].facts.endpoints] == [
            "exch.test:443@127.0.0.2", "exch.test:443@127.0.0.3",
        ]  # fmt: skip

    async def test_a_resolver_that_fails_leaves_the_endpoints_there(self, wire: FakeWire) -> None:
        """They are not gone, only not observable now."""
        refresh = Refresh(self._config("all"))
        await refresh.once()
        self.addresses = ()

        snapshot = await refresh.once()

        assert [facts.endpoint for facts in snapshot.servers[0].facts.endpoints] == [
            "exch.test:443@127.0.0.1", "exch.test:443@127.0.0.2",
        ]  # fmt: skip
        assert [facts.failure and facts.failure.reason for facts in snapshot.servers[0].facts.endpoints] == [
            Reason.DNS, Reason.DNS,
        ]  # fmt: skip

    async def test_a_name_that_fails_for_a_while_forgets_nothing(self, wire: FakeWire) -> None:
        """The last good answers stand: the servers did not change because the resolver failed."""
        refresh = Refresh(self._config())
        await refresh.once()
        self.addresses = ()

        snapshot = await refresh.once()

        assert snapshot.servers[0].profiles["wire-tls12-only"].state is ProfileState.READY
        assert snapshot.servers[0].observations["sweep"].success is False

    async def test_a_name_that_fails_at_first_hides_no_endpoint(self, wire: FakeWire) -> None:
        """Optional endpoints that could not be tried are tried with the next sweep, not a day later."""
        self.addresses = ()
        refresh = Refresh(config(servers=["exch.test"]))
        before = await refresh.once()
        self.addresses = ("127.0.0.1",)

        await refresh.once()

        assert before.servers[0].profiles["wire-tls12"].reason == "dns"
        assert len(wire.jobs) == 12


class TestDiscovery:
    def _write(self, path: Path, content: str, stamp: int) -> None:
        path.write_text(content, encoding="utf-8")
        os.utime(path, (1_700_000_000 + stamp, 1_700_000_000 + stamp))

    def _config(self, path: Path) -> Config:
        file_sd = {"file_sd_configs": [{"files": [str(path)]}], "probe": {"interval": "1h"}}
        return config(file_sd, servers=["127.0.0.9"])

    async def test_targets_come_and_go_while_it_runs(self, wire: FakeWire, tmp_path: Path) -> None:
        """What is known of the servers that stay is kept."""
        path = tmp_path / "targets.yml"
        self._write(path, "- targets: [127.0.0.1, 127.0.0.2]", 1)
        async with running(Refresh(self._config(path))) as refresh:
            await until(
                refresh, lambda snapshot: all(server.observations["sweep"].success for server in snapshot.servers)
            )
            self._write(path, "- targets: [127.0.0.2, 127.0.0.3]", 2)
            snapshot = await until(
                refresh,
                lambda snapshot: (
                    [server.target.name for server in snapshot.servers] == ["127.0.0.2", "127.0.0.3", "127.0.0.9"]
                    and all(server.observations["sweep"].success for server in snapshot.servers)
                ),
            )

        assert snapshot.discovery["file"].targets == 2
        assert [job.server_name for job in wire.jobs].count("127.0.0.2") == 12
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sweep ")]

    async def test_a_broken_file_keeps_the_targets_and_is_counted(self, wire: FakeWire, tmp_path: Path) -> None:
        """In the metric and in the log."""
        path = tmp_path / "targets.yml"
        self._write(path, "- targets: [127.0.0.1]", 1)
        async with running(Refresh(self._config(path))) as refresh:
            await until(
                refresh, lambda snapshot: all(server.observations["sweep"].success for server in snapshot.servers)
            )
            self._write(path, "- targets: [", 2)
            snapshot = await until(refresh, lambda snapshot: snapshot.discovery["file"].failures == 1)

        assert [server.target.name for server in snapshot.servers] == ["127.0.0.1", "127.0.0.9"]
        assert snapshot.discovery["file"].targets == 1
        assert all(server.observations["sweep"].success for server in snapshot.servers)

    async def test_another_label_is_no_reason_to_sweep(self, wire: FakeWire, tmp_path: Path) -> None:
        """It changes nothing on the wire: nothing is forgotten, and nothing is asked again."""
        path = tmp_path / "targets.yml"
        self._write(path, "- targets: [127.0.0.1]", 1)
        async with running(Refresh(self._config(path))) as refresh:
            await until(
                refresh, lambda snapshot: all(server.observations["sweep"].success for server in snapshot.servers)
            )
            swept_before = len(wire.jobs)
            self._write(path, "- targets: [127.0.0.1]\n  labels: {site: hanoi}", 2)
            snapshot = await until(
                refresh, lambda snapshot: dict(_server(snapshot, "127.0.0.1").target.labels) == {"site": "hanoi"}
            )

        assert _server(snapshot, "127.0.0.1").profiles["wire-tls12-only"].state is ProfileState.READY
        assert len(wire.jobs) == swept_before

    async def test_another_address_is_another_machine(self, wire: FakeWire, tmp_path: Path) -> None:
        """What the old one accepted says nothing about the new one."""
        path = tmp_path / "targets.yml"
        self._write(path, "- targets: [exch01.test]\n  labels: {__address__: 127.0.0.1}", 1)
        async with running(Refresh(self._config(path))) as refresh:
            await until(
                refresh, lambda snapshot: all(server.observations["sweep"].success for server in snapshot.servers)
            )
            wire.seconds = 60
            self._write(path, "- targets: [exch01.test]\n  labels: {__address__: 127.0.0.2}", 2)
            snapshot = await until(refresh, lambda snapshot: _server(snapshot).target.address == "127.0.0.2")

        assert _server(snapshot).profiles["wire-tls12-only"].reason == "not_observed_yet"


async def test_answers_age_without_sweeps(wire: FakeWire) -> None:
    """A sweep that never ends does not keep an old answer alive."""
    async with running(Refresh(_one(probe={"interval": "1s", "timeout": "1s", "max_age": "2s"}))) as refresh:
        await until(refresh, lambda snapshot: _server(snapshot).profiles["wire-tls12"].state is ProfileState.READY)
        wire.seconds = 3600
        snapshot = await until(
            refresh, lambda snapshot: _server(snapshot).profiles["wire-tls12"].state is ProfileState.UNKNOWN
        )

    assert _server(snapshot).profiles["wire-tls12"].reason == "stale"


async def test_cancelling_ends_every_sweep(wire: FakeWire) -> None:
    """SIGTERM does not wait for time-outs."""
    wire.seconds = 3600
    async with running(Refresh(config(servers=["127.0.0.1", "127.0.0.2"]))):
        while wire.at_once < 4:
            await asyncio.sleep(0.01)

    assert wire.at_once == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
