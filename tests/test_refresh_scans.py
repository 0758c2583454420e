"""The refresh loop's scans: what is scanned when, and what sweeps and scans leave of each other's facts."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from refreshing import running, until

from exporter import observe as observe_module
from exporter import refresh as refresh_module
from exporter.config import Config
from exporter.exposition.prometheus import Renderer
from exporter.facts import EndpointFacts, EndpointScan, EndpointSweep, Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls import jobs
from exporter.probes.tls.jobs import JOB, SCAN, ScanJob
from exporter.probes.tls.resolve import Resolver
from exporter.probes.tls.sweep import SweepJob
from exporter.refresh import Refresh
from exporter.snapshot import ObservationSettings, ObservationStatus, ServerSnapshot, Snapshot
from exporter.workers import Death, WorkerDied

from builders import (
    RECOMMENDED_SUITES,
    TLS10_TO_12,
    TLS12_ONLY,
    certificate,
    chain,
    config,
    failed_scan,
    failed_sweep,
    scan,
    swept,
)

FASTER = 100
"""Pauses are made this much shorter than they are: intervals of seconds, which is what a configuration can have."""
T10, T12 = Protocol.TLS_1_0, Protocol.TLS_1_2
BOTH = {"certificates": True, "cipher_suites": True}
OFTEN = {"interval": "1s", "timeout": "1s", "max_age": "1h"}
SELDOM = {"interval": "1h", "max_age": "3h"}


@dataclass
class Outside:
    """Stands in for all that is outside: sweeps, and child processes that scan.

    Attributes:
        sweeps: what a sweep finds per port.
        scans: what a scan finds per port, or why it does not.
        log: what began and ended, in order.
        sweeping: closed, a sweep does not end.
        scanning: the same of scans.
        jobs: the scans that were asked for, in order.
        times: when each of them began, by the monotonic clock.
        at_once: how many scans are under way, for each server.
    """

    sweeps: dict[int, Callable[[], EndpointSweep]] = field(default_factory=dict)
    scans: dict[int, Callable[[], EndpointScan]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    sweeping: asyncio.Event = field(default_factory=asyncio.Event)
    scanning: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: list[ScanJob] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    most_of_a_server: int = 0
    most_servers: int = 0
    workers: list[FakeWorkers] = field(default_factory=list)

    async def sweep(self, job: SweepJob) -> EndpointSweep:
        self.log.append(f"sweep {job.port}")
        await self.sweeping.wait()
        self.log.append(f"swept {job.port}")
        return self.sweeps.get(job.port, sees(TLS12_ONLY))()

    async def scan(self, job: ScanJob) -> bytes:
        self.jobs.append(job)
        self.times.append(time.monotonic())
        self.log.append(f"scan {job.place.port}")
        with self._under_way(job.place.server_name):
            await asyncio.sleep(0)
            await self.scanning.wait()
        self.log.append(f"scanned {job.place.port}")
        return SCAN.dump_json(self.scans.get(job.place.port, finds())()) + b"\n"

    @contextmanager
    def _under_way(self, server: str) -> Iterator[None]:
        self.at_once[server] += 1
        self.most_of_a_server = max(self.most_of_a_server, self.at_once[server])
        self.most_servers = max(self.most_servers, len(self.at_once))
        try:
            yield
        finally:
            self.at_once[server] -= 1
            self.at_once += Counter()  # without those that are zero

    def start(self, _module: str, _at_most: int) -> FakeWorkers:
        self.workers.append(FakeWorkers(self))
        return self.workers[-1]

    def scans_of(self, port: int) -> int:
        return sum(job.place.port == port for job in self.jobs)


@dataclass
class FakeWorkers:
    """Stands in for `exporter.workers.Workers`. Nobody needs second opinions here."""

    outside: Outside
    deaths: Counter[Death] = field(default_factory=Counter)
    closed: bool = False

    async def run(self, job: bytes, timeout: float, patience: float | None = None) -> bytes:
        asked = JOB.validate_json(job)
        assert isinstance(asked, ScanJob)
        try:
            return await self.outside.scan(asked)
        except WorkerDied as death:
            self.deaths[death.reason] += 1
            raise

    async def close(self) -> None:
        self.closed = True


def sees(pattern: str) -> Callable[[], EndpointSweep]:
    """A sweep, made at the moment."""
    return lambda: swept(pattern, time.time(), "127.0.0.1")


def finds(*suites: str, days_left: float = 90) -> Callable[[], EndpointScan]:
    """A scan, made at the moment."""

    def look() -> EndpointScan:
        now = time.time()
        valid = certificate(not_before=now - 86400, not_after=now + days_left * 86400)
        return scan(chain(valid), suites=suites or RECOMMENDED_SUITES, at=now)

    return look


def fails(reason: Reason = Reason.TLS_TIMEOUT) -> Callable[[], EndpointScan]:
    return lambda: failed_scan(reason, time.time())


def dies(reason: Death = Death.DIED) -> Callable[[], EndpointScan]:
    def die() -> EndpointScan:
        raise WorkerDied(reason, "signal 9")

    return die


def breaks() -> EndpointScan:
    raise RuntimeError("a bug")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    fake = Outside()
    fake.sweeping.set()
    fake.scanning.set()
    monkeypatch.setattr(observe_module, "sweep", fake.sweep)
    monkeypatch.setattr(jobs, "SKEW", 1e9)  # the facts of tests have a time of their own
    monkeypatch.setattr(observe_module, "Workers", fake.start)
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 0.001)
    monkeypatch.setattr(refresh_module, "DISCOVERY_INTERVAL", 0.02)
    pause = refresh_module.pause
    monkeypatch.setattr(refresh_module, "pause", lambda interval: pause(interval) / FASTER)
    return fake


async def wait_for(condition: Callable[[], bool]) -> None:
    """Until something is so outside."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def one(*ports: int, scan: Mapping[str, Any] | None = None, probe: Mapping[str, Any] | None = None) -> Config:
    """One server, often swept, and often scanned for everything."""
    endpoints = [{"port": port, "service": "https"} for port in ports or (443,)]
    servers = [{"name": "exch01.test", "address": "127.0.0.1", "endpoints": endpoints}]
    return config({"scan": BOTH | OFTEN | dict(scan or {}), "probe": OFTEN | dict(probe or {})}, servers=servers)


def _server(snapshot: Snapshot, name: str = "exch01.test") -> ServerSnapshot:
    return next(server for server in snapshot.servers if server.target.name == name)


def _endpoint(snapshot: Snapshot, port: int = 443) -> EndpointFacts:
    return next(each for each in _server(snapshot).facts.endpoints if each.endpoint == f"exch01.test:{port}")


def _status(snapshot: Snapshot) -> ObservationStatus:
    return _server(snapshot).observations["scan"]


def _suites(snapshot: Snapshot, port: int = 443) -> Fact[tuple[str, ...]] | None:
    return _endpoint(snapshot, port).cipher_suites.get(T12)


def _accepts(snapshot: Snapshot, protocol: Protocol) -> bool:
    return protocol in _endpoint(snapshot).versions


def _text(snapshot: Snapshot) -> str:
    return gzip.decompress(Renderer().render(snapshot).answer("", CollectorRegistry())[0]).decode()


def _verdict(snapshot: Snapshot, rule: str) -> str:
    return next(each.state for each in _server(snapshot).verdicts if each.rule.id == rule)


class TestWhen:
    async def test_before_the_first_scan_nothing_is_known(self, outside: Outside) -> None:
        """Neither is it a failure."""
        snapshot = Refresh(one()).store.latest

        assert _endpoint(snapshot).certificates == Missing(Reason.NOT_OBSERVED_YET)
        assert _status(snapshot) == ObservationStatus()
        assert outside.jobs == []

    async def test_a_server_is_scanned_after_its_first_sweep(self, outside: Outside) -> None:
        """Not beside it: the sweep says which versions there are, and where."""
        outside.sweeps[443] = sees(TLS10_TO_12)
        async with running(Refresh(one(scan=SELDOM))) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot).success is True)

        assert outside.log[:4] == ["sweep 443", "swept 443", "scan 443", "scanned 443"]
        assert outside.jobs[0].protocols == (T10, Protocol.TLS_1_1, T12)
        assert outside.jobs[0].place.address == "127.0.0.1"

    async def test_the_sweep_is_published_before_the_scan_ends(self, outside: Outside) -> None:
        """What is slow does not hold up what is quick."""
        outside.scanning.clear()
        async with running(Refresh(one())) as refresh:
            snapshot = await until(refresh, lambda snapshot: _server(snapshot).swept)

            assert _endpoint(snapshot).accepted[T12].value is True
            assert _endpoint(snapshot).certificates == Missing(Reason.NOT_OBSERVED_YET)

    async def test_one_endpoint_of_a_server_at_a_time(self, outside: Outside) -> None:
        """Of several servers there are several."""
        outside.scanning.clear()
        endpoints = [{"port": port, "service": "https"} for port in range(1, 6)]
        servers = [{"name": f"127.0.0.{number}", "endpoints": endpoints} for number in (1, 2, 3)]
        async with running(Refresh(config({"scan": BOTH, "probe": OFTEN}, servers=servers))) as refresh:
            await wait_for(lambda: outside.at_once.total() == 3)
            outside.scanning.set()
            await until(
                refresh, lambda snapshot: all(server.observations["scan"].success for server in snapshot.servers)
            )

        assert len(outside.jobs) == 15
        assert outside.most_servers == 3
        assert outside.most_of_a_server == 1

    async def test_not_again_before_its_interval(self, outside: Outside) -> None:
        """However often it is swept meanwhile."""
        async with running(Refresh(one(443, 444, scan=SELDOM))):
            await wait_for(lambda: outside.log.count("swept 443") >= 10)

        assert [job.place.port for job in outside.jobs] == [443, 444]

    async def test_again_after_its_interval(self, outside: Outside) -> None:
        """With jitter: at least nine tenths of it lie between two, less half of the pause between sweeps."""
        async with running(Refresh(one(scan={"interval": "5s"}))):
            await wait_for(lambda: len(outside.jobs) >= 5)

        between = [after - before for before, after in pairwise(outside.times)]
        assert min(between) >= 0.9 * (5 - 0.5) / FASTER
        assert outside.log.count("swept 443") > len(outside.jobs)

    async def test_each_endpoint_has_an_interval_of_its_own(self, outside: Outside) -> None:
        """One that comes later is scanned when it comes, and the other is not scanned along with it."""
        outside.sweeps[444] = failed_sweep
        async with running(Refresh(one(443, 444, scan=SELDOM))) as refresh:
            await wait_for(lambda: outside.scans_of(443) == 1 and outside.log.count("sweep 444") > 3)
            outside.sweeps[444] = sees(TLS12_ONLY)
            await until(refresh, lambda snapshot: isinstance(_suites(snapshot, 444), Known))

        assert [job.place.port for job in outside.jobs] == [443, 444]

    @pytest.mark.parametrize(
        ("sweep", "why"),
        [
            (failed_sweep, "closed"),
            (sees("000000"), "accepts nothing"),
            (sees("??????"), "says nothing clear"),
        ],
    )
    async def test_what_speaks_no_tls_is_not_scanned(
        self, outside: Outside, sweep: Callable[[], EndpointSweep], why: str
    ) -> None:
        """Until it does."""
        outside.sweeps[443] = sweep
        async with running(Refresh(one(scan=SELDOM))) as refresh:
            await wait_for(lambda: outside.log.count("swept 443") >= 5)
            before = list(outside.jobs)
            status = _status(refresh.store.latest)
            outside.sweeps[443] = sees(TLS12_ONLY)
            await until(refresh, lambda snapshot: _status(snapshot).success is True)

        assert before == []
        assert status == ObservationStatus()
        assert len(outside.jobs) == 1

    async def test_what_is_closed_now_is_not_scanned(self, outside: Outside) -> None:
        """Although it is known what it accepted."""
        async with running(Refresh(one())) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot).success is True)
            outside.sweeps[443] = lambda: failed_sweep(at=time.time())
            await until(refresh, lambda snapshot: _endpoint(snapshot).closed)
            await asyncio.sleep(0)
            before = len(outside.jobs)
            swept_before = outside.log.count("swept 443")
            await wait_for(lambda: outside.log.count("swept 443") >= swept_before + 5)
            facts = _endpoint(refresh.store.latest)

        assert len(outside.jobs) == before
        assert facts.accepted[T12].value is True

    async def test_versions_that_are_new_are_in_the_next_scan(self, outside: Outside) -> None:
        """And those that are gone are not."""
        async with running(Refresh(one())):
            await wait_for(lambda: len(outside.jobs) == 1)
            outside.sweeps[443] = sees("001001")
            await wait_for(lambda: outside.jobs[-1].protocols == (T10, Protocol.TLS_1_3))

        assert outside.jobs[0].protocols == (T12,)

    async def test_what_a_sweep_saw_meanwhile_counts(self, outside: Outside) -> None:
        """An endpoint whose turn comes late is scanned for what it accepts then, if it is open then."""
        outside.scanning.clear()
        async with running(Refresh(one(443, 444, 445))) as refresh:
            await wait_for(lambda: outside.scans_of(443) == 1)
            outside.sweeps |= {444: sees(TLS10_TO_12), 445: lambda: failed_sweep(at=time.time())}
            await until(
                refresh,
                lambda snapshot: T10 in _endpoint(snapshot, 444).versions and _endpoint(snapshot, 445).closed,
            )
            outside.scanning.set()
            await wait_for(lambda: outside.scans_of(443) == 2)

        assert outside.jobs[1].protocols == (T10, Protocol.TLS_1_1, T12)
        assert outside.scans_of(445) == 0

    async def test_the_slow_scan_of_one_server_holds_up_no_sweep(self, outside: Outside) -> None:
        """Neither its own nor others'."""
        outside.scanning.clear()
        async with running(Refresh(one())):
            await wait_for(lambda: outside.log.count("swept 443") >= 5)

        assert outside.log.count("scan 443") == 1
        assert "scanned 443" not in outside.log


class TestFacts:
    async def test_what_a_scan_finds_is_published_and_judged(self, outside: Outside) -> None:
        """Certificates and suites, and the rules that rest on them."""
        outside.scans[443] = finds("TLS_RSA_WITH_3DES_EDE_CBC_SHA", days_left=-1)

        snapshot = await Refresh(one()).once()

        certificates = _endpoint(snapshot).certificates
        assert isinstance(certificates, Known)
        assert certificates.value[0].leaf.subject == "CN=exch01.test"
        assert _suites(snapshot) == Known(("TLS_RSA_WITH_3DES_EDE_CBC_SHA",), certificates.at)
        assert _verdict(snapshot, "certificates-sound") == "failed"
        assert _verdict(snapshot, "cipher-suites-recommended") == "failed"
        assert _verdict(await Refresh(one(444)).once(), "cipher-suites-recommended") == "passed"

    async def test_a_sweep_that_ends_while_a_scan_is_under_way(self, outside: Outside) -> None:
        """Neither loses what it saw."""
        outside.scanning.clear()
        async with running(Refresh(one(scan=SELDOM))) as refresh:
            await wait_for(lambda: len(outside.jobs) == 1)
            outside.sweeps[443] = sees(TLS10_TO_12)
            await until(refresh, lambda snapshot: _accepts(snapshot, T10))
            outside.sweeping.clear()
            outside.scanning.set()
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is True)

        assert isinstance(_endpoint(snapshot).certificates, Known)
        assert isinstance(_suites(snapshot), Known)
        assert [fact.value for fact in _endpoint(snapshot).accepted.values()] == [
            mark == "1" for mark in TLS10_TO_12
        ]  # fmt: skip

    async def test_a_scan_that_ends_while_a_sweep_is_under_way(self, outside: Outside) -> None:
        """Neither loses what it saw."""
        outside.scanning.clear()
        async with running(Refresh(one(scan=SELDOM))) as refresh:
            await wait_for(lambda: len(outside.jobs) == 1)
            outside.sweeping.clear()
            await wait_for(lambda: outside.log[-1] == "sweep 443")
            outside.scanning.set()
            scanned = await until(refresh, lambda snapshot: isinstance(_suites(snapshot), Known))
            outside.sweeps[443] = sees(TLS10_TO_12)
            outside.sweeping.set()
            snapshot = await until(refresh, lambda snapshot: _accepts(snapshot, T10))

        assert isinstance(_suites(scanned), Known)
        assert _endpoint(snapshot).cipher_suites == _endpoint(scanned).cipher_suites
        assert _endpoint(snapshot).certificates == _endpoint(scanned).certificates
        assert _endpoint(snapshot).scanned_at == _endpoint(scanned).scanned_at > 0

    async def test_one_endpoint_s_scan_does_not_touch_another_s(self, outside: Outside) -> None:
        """Each has its own facts."""
        outside.scans = {443: finds("TLS_AES_128_GCM_SHA256"), 444: fails()}

        snapshot = await Refresh(one(443, 444)).once()

        suites = _suites(snapshot)
        assert isinstance(suites, Known)
        assert suites.value == ("TLS_AES_128_GCM_SHA256",)
        assert _suites(snapshot, 444) == Missing(Reason.TLS_TIMEOUT, "the scan: tls_timeout")

    @pytest.mark.parametrize("failure", [fails(), dies()], ids=["server", "child"])
    async def test_a_failed_scan_keeps_the_last_good_facts(
        self, outside: Outside, failure: Callable[[], EndpointScan]
    ) -> None:
        """While they are young enough, by the age of scans, not of sweeps."""
        outside.scans[443] = lambda: scan(at=time.time() - 2 * 3600)
        async with running(Refresh(one(scan={"max_age": "3h"}))) as refresh:
            good = await until(refresh, lambda snapshot: _status(snapshot).success is True)
            outside.scans[443] = failure
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)

        before, after = _endpoint(good), _endpoint(snapshot)
        assert isinstance(after.certificates, Known)
        assert (after.certificates, after.cipher_suites) == (before.certificates, before.cipher_suites)
        assert after.scan_failure is not None

    async def test_until_they_are_too_old(self, outside: Outside) -> None:
        """Then the failure's reason takes their place."""
        long_ago = time.time() - 3 * 3600 - 10
        outside.scans[443] = lambda: scan(at=long_ago)
        async with running(Refresh(one(scan=SELDOM))) as refresh:
            await until(refresh, lambda snapshot: isinstance(_suites(snapshot), Known))
            watched = refresh._watched["exch01.test"]
            watched.endpoints = {name: replace(facts, scan_due=0.0) for name, facts in watched.endpoints.items()}
            outside.scans[443] = dies(Death.DEADLINE)
            snapshot = await until(refresh, lambda snapshot: isinstance(_suites(snapshot), Missing))

        assert _endpoint(snapshot).certificates == Missing(Reason.DEADLINE, "the child process: signal 9")
        assert _suites(snapshot) == Missing(Reason.DEADLINE, "the child process: signal 9")

    async def test_they_age_without_scans(self, outside: Outside) -> None:
        """A scan that never ends does not keep an old answer alive; sweeps have an age of their own."""
        long_ago = time.time() - 10
        outside.scans[443] = lambda: scan(at=long_ago)
        settings = {"interval": "1s", "timeout": "1s", "max_age": "2s"}
        async with running(Refresh(one(scan=settings, probe={"max_age": "1h"}))) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot).success is True)
            outside.scanning.clear()
            snapshot = await until(refresh, lambda snapshot: _endpoint(snapshot).certificates.reason is Reason.STALE)

        suites = _suites(snapshot)
        assert suites is not None
        assert suites.reason is Reason.STALE
        assert _endpoint(snapshot).accepted[T12].value is True
        assert _verdict(snapshot, "certificates-sound") == "unknown"
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"


class TestStatus:
    async def test_a_success(self, outside: Outside) -> None:
        """With its time and its duration."""
        before = time.time()

        snapshot = await Refresh(one()).once()

        status = _status(snapshot)
        assert status.success is True
        assert before <= status.last_success <= time.time()
        assert 0 < status.duration < 60
        assert snapshot.failures == {}

    @pytest.mark.parametrize(
        ("failure", "reason"),
        [
            (fails(Reason.TLS_TIMEOUT), Reason.TLS_TIMEOUT),
            (dies(Death.DIED), Reason.WORKER_DIED),
            (dies(Death.MEMORY), Reason.WORKER_DIED),
            (dies(Death.DEADLINE), Reason.DEADLINE),
        ],
    )
    async def test_a_failure_is_counted_by_its_reason(
        self, outside: Outside, failure: Callable[[], EndpointScan], reason: Reason
    ) -> None:
        """One for each endpoint; it is no success."""
        outside.scans = {444: failure, 445: failure}

        snapshot = await Refresh(one(443, 444, 445)).once()

        text = _text(snapshot)
        assert snapshot.failures == {("scan", reason): 2}
        assert f'tls_readiness_observation_failures_total{{kind="scan",reason="{reason}"}} 2.0' in text
        assert _status(snapshot).success is False
        assert _status(snapshot).last_success == 0
        assert _server(snapshot).observations["sweep"].success is True

    async def test_one_part_that_is_missing_makes_it_a_failure(self, outside: Outside) -> None:
        """What was found of the rest stands."""
        missing = Missing(Reason.DEADLINE, "the scan's 100 connections are used up")
        outside.scans[443] = lambda: replace(finds()(), cipher_suites={T12: missing})

        snapshot = await Refresh(one()).once()

        assert snapshot.failures == {("scan", Reason.DEADLINE): 1}
        assert _status(snapshot).success is False
        assert isinstance(_endpoint(snapshot).certificates, Known)

    async def test_the_last_success_stays_when_one_fails(self, outside: Outside) -> None:
        """It is what alerts compare with the age."""
        async with running(Refresh(one())) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot).success is True)
            outside.scans[443] = fails()
            failed = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            last = _status(failed).last_success
            outside.scans[443] = finds()
            mended = await until(refresh, lambda snapshot: _status(snapshot).success is True)

        assert 0 < last < _status(mended).last_success

    async def test_deaths_are_in_the_snapshot(self, outside: Outside) -> None:
        """By the way that the child ended."""
        outside.scans = {443: dies(Death.MEMORY), 444: dies(Death.DIED), 445: dies(Death.DIED)}

        snapshot = await Refresh(one(443, 444, 445)).once()

        assert {key: count for key, count in snapshot.worker_deaths.items() if count} == {
            ("scan", "memory"): 1, ("scan", "died"): 2,
        }  # fmt: skip

    async def test_an_optional_endpoint_that_is_closed_is_no_failure(self, outside: Outside) -> None:
        """It does not count, for scans either."""
        outside.sweeps = {port: lambda: failed_sweep(at=time.time()) for port in range(1, 3000)}
        outside.sweeps |= dict.fromkeys((443, 25, 587), sees(TLS12_ONLY))

        snapshot = await Refresh(config({"scan": BOTH}, servers=["127.0.0.1"])).once()

        assert _server(snapshot, "127.0.0.1").observations["scan"].success is True
        assert {job.place.port for job in outside.jobs} == {443, 25, 587}


class TestParts:
    async def test_the_settings_are_in_the_snapshot(self, outside: Outside) -> None:
        """For alerts."""
        snapshot = Refresh(one(scan={"interval": "2h", "timeout": "1m", "max_age": "5h"})).store.latest

        assert snapshot.observations["scan"] == ObservationSettings(7200, 18000)

    async def test_with_both_off_there_is_nothing_of_scans(self, outside: Outside) -> None:
        """No scan, no kind, no rule."""
        settings = one(scan={"certificates": False, "cipher_suites": False})
        async with running(Refresh(settings)) as refresh:
            await wait_for(lambda: outside.log.count("swept 443") >= 3)
            tasks = [task.get_name() for task in asyncio.all_tasks()]
            snapshot = refresh.store.latest

        text = _text(snapshot)
        assert outside.jobs == []
        assert not [name for name in tasks if name.startswith("scan ")]
        assert set(snapshot.observations) == set(_server(snapshot).observations) == {"sweep"}
        assert [rule.id for rule in snapshot.rules] == ["endpoints-accept-tls12", "endpoints-reject-legacy"]
        assert snapshot.profiles == {
            "wire-tls12": ("endpoints-accept-tls12",),
            "wire-tls12-only": ("endpoints-accept-tls12", "endpoints-reject-legacy"),
        }
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        assert not [line for line in samples if 'kind="scan"' in line]
        assert not [line for line in samples if "certificates-sound" in line or "cipher-suites" in line]
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"

    async def test_once_does_not_scan_then(self, outside: Outside) -> None:
        """What audit does with such a configuration."""
        snapshot = await Refresh(one(scan={"certificates": False, "cipher_suites": False})).once()

        assert outside.jobs == []
        assert _server(snapshot).swept

    @pytest.mark.parametrize(
        ("part", "rule"),
        [("certificates", "certificates-sound"), ("cipher_suites", "cipher-suites-recommended")],
    )
    async def test_with_one_off_its_rule_alone_is_gone(self, outside: Outside, part: str, rule: str) -> None:
        """From the rules, from the profiles and from the job; the rest is scanned."""
        everything = Refresh(one()).store.latest
        refresh = Refresh(one(scan={part: False}))

        snapshot = await refresh.once()

        (job,) = outside.jobs
        assert (job.certificates, job.cipher_suites) == (part != "certificates", part != "cipher_suites")
        ids = [each.id for each in everything.rules]
        assert rule in ids
        assert [each.id for each in snapshot.rules] == [each for each in ids if each != rule]
        assert snapshot.profiles == {
            name: tuple(each for each in rules if each != rule) for name, rules in everything.profiles.items()
        }
        assert "scan" in snapshot.observations


class TestOnce:
    async def test_it_scans_every_server(self, outside: Outside) -> None:
        """What audit does: progress is reported when both are done."""
        servers = [{"name": f"127.0.0.{n}", "endpoints": [{"port": 443, "service": "https"}]} for n in (1, 2)]
        progress: list[int] = []

        snapshot = await Refresh(config({"scan": BOTH}, servers=servers)).once(
            lambda: progress.append(outside.log.count("scanned 443"))
        )

        assert len(outside.jobs) == 2
        assert len(progress) == 2
        assert progress[0] >= 1
        assert all(server.observations["scan"].success for server in snapshot.servers)
        assert [workers.closed for workers in outside.workers] == [True]

    async def test_a_fault_of_ours_costs_one_endpoint(
        self, outside: Outside, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As in sweeps: it is logged, has a reason, and the other answers arrive, of the same server and of others."""
        outside.scans[1] = breaks
        endpoints = [{"port": 1, "service": "https"}, {"port": 2, "service": "https"}]
        servers = [{"name": "127.0.0.1", "endpoints": endpoints}, {"name": "127.0.0.2", "endpoints": endpoints[1:]}]

        snapshot = await Refresh(config({"scan": BOTH}, servers=servers)).once()

        broken_one, good_one = _server(snapshot, "127.0.0.1").facts.endpoints
        assert broken_one.certificates.reason is Reason.WORKER_DIED
        assert isinstance(good_one.certificates, Known)
        assert _server(snapshot, "127.0.0.1").observations["scan"].success is False
        assert _server(snapshot, "127.0.0.2").observations["scan"].success is True
        assert "a bug" in capsys.readouterr().out

    async def test_the_children_end_whatever_happens(self, outside: Outside) -> None:
        """Also when it is broken off."""
        outside.scanning.clear()
        task = asyncio.create_task(Refresh(one()).once())
        await wait_for(lambda: len(outside.jobs) == 1)

        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert [workers.closed for workers in outside.workers] == [True]


class TestEnds:
    async def test_cancelling_ends_every_scan(self, outside: Outside) -> None:
        """SIGTERM does not wait for time-outs; the children that wait for work end as well."""
        outside.scanning.clear()
        servers = [f"127.0.0.{number}" for number in (1, 2, 3)]
        async with running(Refresh(config({"scan": BOTH}, servers=servers))):
            await wait_for(lambda: outside.at_once.total() == 3)

        assert outside.at_once.total() == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [workers.closed for workers in outside.workers] == [True]

    async def test_a_target_that_is_removed_while_it_is_scanned(self, outside: Outside, tmp_path: Path) -> None:
        """Its scan ends with it, and the others' go on."""
        path = tmp_path / "targets.yml"
        self._write(path, "- targets: [127.0.0.1, 127.0.0.2]", 1)
        outside.scanning.clear()
        settings = {"file_sd_configs": [{"files": [str(path)]}], "scan": BOTH, "probe": OFTEN}
        async with running(Refresh(config(settings, servers=["127.0.0.9"]))) as refresh:
            await wait_for(lambda: outside.at_once.total() == 3)
            self._write(path, "- targets: [127.0.0.2]", 2)
            await until(refresh, lambda snapshot: len(snapshot.servers) == 2)
            await wait_for(lambda: outside.at_once.total() == 2)
            outside.scanning.set()
            snapshot = await until(
                refresh, lambda snapshot: all(server.observations["scan"].success for server in snapshot.servers)
            )
            tasks = {task.get_name() for task in asyncio.all_tasks()}

        assert [server.target.name for server in snapshot.servers] == ["127.0.0.2", "127.0.0.9"]
        assert [job.place.server_name for job in outside.jobs].count("127.0.0.1") == 1
        assert not [name for name in tasks if name.endswith(" 127.0.0.1")]

    async def test_another_label_keeps_what_was_scanned(self, outside: Outside, tmp_path: Path) -> None:
        """It changes nothing on the wire, and is no reason to scan again."""
        path = tmp_path / "targets.yml"
        target = "- targets: [exch01.test]\n  labels: {__address__: 127.0.0.1, __role__: domain-controller%s}"
        self._write(path, target % "", 1)
        settings = {"file_sd_configs": [{"files": [str(path)]}], "scan": BOTH, "probe": {"interval": "1h"}}
        async with running(Refresh(config(settings, servers=["127.0.0.9"]))) as refresh:
            await until(
                refresh, lambda snapshot: all(server.observations["scan"].success for server in snapshot.servers)
            )
            before = len(outside.jobs)
            self._write(path, target % ", site: hanoi", 2)
            snapshot = await until(refresh, lambda snapshot: dict(_server(snapshot).target.labels) == {"site": "hanoi"})

        assert all(isinstance(each.certificates, Known) for each in _server(snapshot).facts.endpoints)
        assert _status(snapshot).success is True
        assert len(outside.jobs) == before

    async def test_another_role_keeps_what_was_scanned_of_the_endpoints_that_stay(
        self, outside: Outside, tmp_path: Path
    ) -> None:
        """Port 25 is the same port 25."""
        path = tmp_path / "targets.yml"
        target = "- targets: [exch01.test]\n  labels: {__address__: 127.0.0.1, __role__: %s}"
        self._write(path, target % "mailbox", 1)
        settings = {"file_sd_configs": [{"files": [str(path)]}], "scan": BOTH}
        async with running(Refresh(config(settings, servers=["127.0.0.9"]))) as refresh:
            before = await until(
                refresh, lambda snapshot: all(server.observations["scan"].success for server in snapshot.servers)
            )
            outside.sweeping.clear()
            self._write(path, target % "edge", 2)
            snapshot = await until(refresh, lambda snapshot: _server(snapshot).target.role == "edge")

        assert _endpoint(snapshot, 25) == _endpoint(before, 25)
        assert isinstance(_endpoint(snapshot, 25).certificates, Known)
        assert _status(snapshot) == _status(before)

    def _write(self, path: Path, content: str, stamp: int) -> None:
        """At once, as whoever writes target files has to: half of one names other targets."""
        new = path.with_suffix(".new")
        new.write_text(content, encoding="utf-8")
        os.utime(new, (1_700_000_000 + stamp, 1_700_000_000 + stamp))
        new.replace(path)


class TestFaults:
    async def test_an_exception_does_not_end_the_watch(
        self, outside: Outside, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is logged, sweeps go on, and so do scans."""
        outside.scans[443] = breaks
        async with running(Refresh(one())) as refresh:
            await wait_for(lambda: len(outside.jobs) >= 2)
            outside.scans[443] = finds()
            outside.sweeps[443] = sees(TLS10_TO_12)
            snapshot = await until(
                refresh,
                lambda snapshot: isinstance(_suites(snapshot), Known) and _accepts(snapshot, T10),
            )

        assert _status(snapshot).success is True
        assert "a bug" in capsys.readouterr().out

    async def test_it_does_not_cost_the_server_s_other_endpoints(self, outside: Outside) -> None:
        """They are scanned all the same."""
        outside.scans[443] = breaks
        async with running(Refresh(one(443, 444))):
            await wait_for(lambda: len(outside.jobs) >= 4)

        assert outside.scans_of(444) >= 1


def _names(snapshot: Snapshot) -> list[str]:
    return [each.endpoint for each in snapshot.servers[0].facts.endpoints]


class TestAddresses:
    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: tuple[str, ...] = ("127.0.0.1", "127.0.0.2")

        async def resolve(_: object, _host: str, _timeout: float) -> tuple[str, ...]:
            return self.addresses

        monkeypatch.setattr(Resolver, "resolve", resolve)

    @pytest.fixture
    def all_of_them(self, outside: Outside, monkeypatch: pytest.MonkeyPatch) -> Config:
        async def sweep(job: SweepJob) -> EndpointSweep:
            await outside.sweep(job)
            return swept(TLS12_ONLY, time.time(), job.addresses[0])

        monkeypatch.setattr(observe_module, "sweep", sweep)
        server = {"name": "exch.test", "address": "all", "endpoints": [{"port": 443, "service": "https"}]}
        return config({"scan": BOTH, "probe": OFTEN}, servers=[server])

    async def test_each_address_is_scanned(self, outside: Outside, all_of_them: Config) -> None:
        """At the address that its endpoint is called after."""
        snapshot = await Refresh(all_of_them).once()

        assert [job.place.address for job in outside.jobs] == ["127.0.0.1", "127.0.0.2"]
        assert all(isinstance(each.certificates, Known) for each in snapshot.servers[0].facts.endpoints)

    async def test_an_address_that_goes_while_another_is_scanned(
        self, outside: Outside, all_of_them: Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Is left out, and costs the others nothing."""
        outside.scanning.clear()
        async with running(Refresh(all_of_them)) as refresh:
            await wait_for(lambda: len(outside.jobs) == 1)
            self.addresses = ("127.0.0.1",)
            await until(refresh, lambda snapshot: _names(snapshot) == ["exch.test:443@127.0.0.1"])
            outside.scanning.set()
            snapshot = await until(refresh, lambda snapshot: snapshot.servers[0].observations["scan"].success is True)

        assert [job.place.address for job in outside.jobs][:1] == ["127.0.0.1"]
        assert isinstance(snapshot.servers[0].facts.endpoints[0].certificates, Known)
        assert "scan failed" not in capsys.readouterr().out

    async def test_an_address_that_goes_while_it_is_scanned(
        self, outside: Outside, all_of_them: Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its scan does not bring it back."""
        outside.scanning.clear()
        async with running(Refresh(all_of_them)) as refresh:
            await wait_for(lambda: len(outside.jobs) == 1)
            self.addresses = ("127.0.0.2",)
            await until(refresh, lambda snapshot: _names(snapshot) == ["exch.test:443@127.0.0.2"])
            outside.scanning.set()
            snapshot = await until(refresh, lambda snapshot: snapshot.servers[0].observations["scan"].success is True)

        assert _names(snapshot) == ["exch.test:443@127.0.0.2"]
        assert "scan failed" not in capsys.readouterr().out
