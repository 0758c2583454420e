"""Observes one server: sweeps its endpoints, has what is new confirmed, scans them, and reads its facts file.

When that happens is `exporter.refresh`'s business; here is how much of it happens at the same time.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, TypeVar

import structlog
from pydantic import TypeAdapter

from exporter.config import Config
from exporter.facts import (
    NOT_WANTED,
    Door,
    EndpointFacts,
    EndpointScan,
    EndpointSweep,
    Fact,
    Missing,
    Protocol,
    Reason,
    all_missing,
)
from exporter.probes.printable import printable
from exporter.probes.tls.jobs import JOB, OPINION, SCAN, OpinionJob, Place, ScanJob
from exporter.probes.tls.resolve import ResolveError, Resolver
from exporter.probes.tls.second_opinion import PAUSE, NotAskedError, Ruling, left_of, settle, spend
from exporter.probes.tls.sweep import SweepJob, sweep
from exporter.probes.winrm.facts_file import FactsFile, look, not_read
from exporter.targets import Port, Target, endpoint_name
from exporter.threads import DaemonThreads, TooManyThreadsError
from exporter.workers import Death, WorkerDied, Workers

WORKER: Final = "exporter.probes.tls.worker"
"""The module that the child processes run."""
_OPINIONS_AT_ONCE: Final = 4  # children for second opinions, which must not wait for scans to end
_PATIENCE: Final = 300.0  # seconds to wait for one of them: many endpoints that are slow to answer must not stop all
_FILES_AT_ONCE: Final = 32  # facts files that are read at the same time
_FILE_THREADS: Final = 1024  # the same, with those that hang
_FILE_TIMEOUT: Final = 10.0  # seconds to wait for one
_SHUT: Final = frozenset({Reason.TCP_REFUSED, Reason.TCP_TIMEOUT})

_NOT_SAID: Final = Missing(Reason.WORKER_DIED, "the child process left it out")
T = TypeVar("T")

log = structlog.get_logger("exporter.observe")


class _Limits(TypedDict):
    """Seconds that a job may take, and that it may wait for a child."""

    timeout: float
    patience: float | None


class Observer:
    """Observes servers, as many at the same time as ask for it, within the configured limits.

    Attributes:
        second_opinions: per ruling, versions that a second opinion was due for.
    """

    def __init__(self, config: Config) -> None:
        self.second_opinions: Counter[Ruling] = Counter()
        self._probe = config.probe
        self._scan = config.scan
        self._resolver = Resolver()
        self._client_name = _client_name()
        patience = min(_PATIENCE, config.probe.interval / 2)
        self._limits: dict[str, _Limits] = {
            "second_opinion": {"timeout": config.probe.timeout, "patience": patience},
            "scan": {"timeout": config.scan.timeout, "patience": None},
        }
        self._files = DaemonThreads(_FILE_THREADS)
        self._file_slots = asyncio.Semaphore(_FILES_AT_ONCE)
        self._readings: dict[tuple[str, str], asyncio.Future[FactsFile]] = {}
        self._slots = asyncio.Semaphore(config.probe.parallel_endpoints)
        self._workers = {}
        if config.probe.second_opinions:
            self._workers["second_opinion"] = Workers(WORKER, _OPINIONS_AT_ONCE)
        if config.scan.wanted:
            self._workers["scan"] = Workers(WORKER, config.scan.parallel_endpoints)

    @property
    def worker_deaths(self) -> Mapping[tuple[str, str], int]:
        """Per kind of work, and per way to die, the children that died of it; every one that can occur is there."""
        return {(kind, death): workers.deaths[death] for kind, workers in self._workers.items() for death in Death}

    async def close(self) -> None:
        """End the child processes that wait for work."""
        for workers in self._workers.values():
            await workers.close()

    # Sweeps

    async def sweep(self, target: Target, known: Mapping[str, EndpointFacts]) -> dict[str, EndpointFacts]:
        """Sweep a server's endpoints once. What is known of each afterwards."""
        unresolved: Missing | None = None
        addresses: tuple[str, ...] = ()
        try:
            addresses = await self._resolver.resolve(target.host, self._probe.timeout)
        except ResolveError as error:
            unresolved = Missing(Reason.DNS, str(error))
        at_once = asyncio.Semaphore(self._probe.parallel_endpoints_per_server)

        async def observe(plan: Plan) -> EndpointFacts:
            if not self._due(plan.facts):
                return plan.facts
            if unresolved is not None:
                return plan.facts.after(_untried(unresolved), self._probe.max_age)
            async with at_once:
                return await self._sweep_endpoint(target, plan)

        observed = await asyncio.gather(*map(observe, plan_endpoints(target, addresses, known)))
        return {facts.endpoint: facts for facts in observed}

    async def _sweep_endpoint(self, target: Target, plan: Plan) -> EndpointFacts:
        job = SweepJob(
            server_name=target.name,
            addresses=plan.addresses,
            port=plan.port.number,
            service=plan.port.service,
            timeout=self._probe.timeout,
            client_name=self._client_name,
        )
        facts = plan.facts
        try:
            async with self._slots:
                swept = await sweep(job)
            log.debug(
                "swept",
                server=target.name,
                endpoint=facts.endpoint,
                address=swept.address,
                connections=swept.connections,
                seconds=round(swept.duration, 3),
                **{protocol: _word(fact) for protocol, fact in swept.accepted.items()},
            )
            if self._probe.second_opinions and facts.doubtful(swept):
                facts, swept = await self._second_opinion(target, plan.port, facts, swept)
        except Exception as error:  # a fault of ours costs this endpoint's answers, not the server's
            log.exception("sweep failed", server=target.name, endpoint=facts.endpoint)
            swept = _untried(Missing(Reason.WORKER_DIED, repr(error)))
        return facts.after(swept, self._probe.max_age)

    async def _second_opinion(
        self, target: Target, port: Port, facts: EndpointFacts, swept: EndpointSweep
    ) -> tuple[EndpointFacts, EndpointSweep]:
        """The sweep with what is new in it confirmed or unknown, and the facts with what that cost."""
        place = self._place(target, port, swept.address)

        async def ask(protocols: tuple[Protocol, ...], again: bool) -> Mapping[Protocol, Fact[bool]]:  # noqa: FBT001
            job = OpinionJob(place, protocols, again)
            try:
                said = await self._have_done("second_opinion", facts.endpoint, job, OPINION)
            except _NothingCameOfIt as nothing:
                if not nothing.connected:
                    raise NotAskedError(nothing.missing) from nothing
                return dict.fromkeys(protocols, nothing.missing)
            return {protocol: said.accepted.get(protocol, _NOT_SAID) for protocol in protocols}

        settled = await settle(facts, swept, ask, left_of(self._probe.second_opinions, facts, swept.at), PAUSE)
        self.second_opinions.update(settled.rulings.values())
        spent = spend(facts, settled.connections, swept.at)
        for protocol, ruling in settled.rulings.items():
            say = log.info if protocol in facts.settled else log.debug  # at first sight there are many, and no news
            if ruling is not Ruling.AGREED:
                say = log.warning
            say(
                "second opinion",
                server=target.name,
                endpoint=facts.endpoint,
                protocol=protocol,
                outcome=ruling,
                sweep=_word(swept.accepted[protocol]),
                handshake=_word(settled.opinions[protocol]) if protocol in settled.opinions else "",
                connections_left=left_of(self._probe.second_opinions, spent, swept.at),
            )
        return spent, settled.sweep

    def _due(self, facts: EndpointFacts) -> bool:
        """Whether to sweep an endpoint now: a closed optional one is left in peace for a scan interval."""
        if facts.in_use or facts.failure is None or facts.failure.reason not in _SHUT:
            return True
        return time.time() - facts.tried_at >= self._scan.interval

    # Scans

    async def scan(self, target: Target, port: Port, facts: EndpointFacts) -> EndpointScan:
        """Scan an endpoint that accepts some version."""
        job = ScanJob(
            place=self._place(target, port, facts.address),
            protocols=facts.versions,
            certificates=self._scan.certificates,
            cipher_suites=self._scan.cipher_suites,
            connections=self._scan.connections,
            ca_file=self._scan.ca_file,
        )
        try:
            scanned = await self._have_done("scan", facts.endpoint, job, SCAN)
        except _NothingCameOfIt as nothing:
            scanned = _unscanned(job, nothing.missing)
        failure = scanned.failure
        say = log.info if failure else log.debug
        say(
            "scanned",
            server=target.name,
            endpoint=facts.endpoint,
            connections=scanned.connections,
            seconds=round(scanned.duration, 3),
            failure=f"{failure.reason}: {failure.detail}" if failure else "",
        )
        return scanned

    # Facts files

    async def read_facts_file(self, target: Target, before: FactsFile) -> FactsFile:
        """What the target's facts file holds now. One that hangs is left alone until it comes back."""
        key, path = (target.name, target.facts_file), Path(target.facts_file)
        try:
            if key in self._readings:  # one that hangs, or that somebody stopped waiting for
                return await _in_time(self._readings[key])
            async with self._file_slots:
                reading = self._files.start(f"facts of {target.name}", lambda: look(path, target.name, before))
                self._readings[key] = reading
                reading.add_done_callback(lambda _: self._readings.pop(key))
                return await _in_time(reading)
        except TooManyThreadsError as error:
            return not_read(path, str(error))
        except TimeoutError:
            return not_read(path, f"not read within {_FILE_TIMEOUT:g} s")

    def _place(self, target: Target, port: Port, address: str) -> Place:
        return Place(target.name, address, port.number, port.service, self._client_name)

    async def _have_done(self, kind: str, endpoint: str, job: OpinionJob | ScanJob, outcome: TypeAdapter[T]) -> T:
        """Have a child do a job. What keeps it from that costs this one observation, whatever it is."""
        try:
            said = await self._workers[kind].run(JOB.dump_json(job), **self._limits[kind])
            return outcome.validate_json(said)
        except WorkerDied as death:
            log.warning("a child process died", kind=kind, endpoint=endpoint, reason=death.reason, detail=death.detail)
            reason = Reason.DEADLINE if death.reason is Death.DEADLINE else Reason.WORKER_DIED
            missing = Missing(reason, f"the child process: {death.detail}")
            raise _NothingCameOfIt(missing, connected=death.reason is not Death.NOT_STARTED) from death
        except TimeoutError as error:
            missing = Missing(Reason.DEADLINE, "no child process was free in time")
            raise _NothingCameOfIt(missing, connected=False) from error
        except Exception as error:  # a fault of ours, or words that make no sense
            log.exception("a child process could not be used", kind=kind, endpoint=endpoint)
            raise _NothingCameOfIt(Missing(Reason.WORKER_DIED, printable(repr(error)))) from error


class _NothingCameOfIt(Exception):  # noqa: N818 - it says what happened
    def __init__(self, missing: Missing, *, connected: bool = True) -> None:
        super().__init__()
        self.missing = missing
        self.connected = connected  # or may have


@dataclass(frozen=True, slots=True)
class Plan:
    """An endpoint to look at: what is known of it, and where it is."""

    port: Port
    addresses: tuple[str, ...]
    facts: EndpointFacts


def plan_endpoints(target: Target, addresses: Sequence[str], known: Mapping[str, EndpointFacts]) -> list[Plan]:
    """The endpoints that a target has, given the addresses of its host; with ``all``, one for each address."""
    plans = []
    for port in target.ports:
        name = endpoint_name(target.name, port.number)
        places = {name: tuple(addresses)}
        if target.address == "all" and addresses:
            places = {endpoint_name(target.name, port.number, address): (address,) for address in addresses}
        elif target.address == "all":  # the name does not resolve now: the endpoints that were known stay
            before = [each for each in known if each.startswith(f"{name}@")]
            places = dict.fromkeys(before, ()) or places
        for place, where in places.items():
            facts = known.get(place)
            if facts is None or (facts.service, facts.origin) != (port.service, port.origin):
                facts = EndpointFacts(place, port.service, port.origin)
            plans.append(Plan(port, where, facts))
    return plans


def _client_name() -> str:
    """What to call ourselves in EHLO: a name that looks like one, or an address literal (RFC 5321 4.1.4)."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


async def _in_time(reading: asyncio.Future[FactsFile]) -> FactsFile:
    async with asyncio.timeout(_FILE_TIMEOUT):
        return await asyncio.shield(reading)  # the time-out is ours, the reading goes on


def _untried(missing: Missing) -> EndpointSweep:
    return EndpointSweep(time.time(), 0.0, "", Door.UNTRIED, all_missing(missing), 0)


def _unscanned(job: ScanJob, missing: Missing) -> EndpointScan:
    suites: dict[Protocol, Fact[tuple[str, ...]]] = dict.fromkeys(job.protocols if job.cipher_suites else (), missing)
    return EndpointScan(time.time(), 0.0, 0, missing if job.certificates else NOT_WANTED, suites)


def _word(fact: Fact[bool]) -> str:
    if isinstance(fact, Missing):
        return f"unknown:{fact.reason}"
    return "accepted" if fact.value else f"rejected:{fact.reason}"
