"""Turns the crank: when to sweep what, how much at a time, and when to publish.

The only place with concurrency. Each server has a task of its own that sweeps it, waits for an interval with jitter,
and sweeps it again; semaphores bound what happens at the same time; a publisher puts the servers' newest pictures
together, at most once a second.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import structlog

from exporter.config import Config
from exporter.facts import Door, EndpointFacts, EndpointSweep, Fact, Missing, Reason, ServerFacts, all_missing
from exporter.probes.tls.resolve import ResolveError, Resolver
from exporter.probes.tls.sweep import SweepJob, sweep
from exporter.rules import PROFILES, RULES
from exporter.snapshot import (
    DiscoveryStatus,
    ObservationSettings,
    ObservationStatus,
    ServerSnapshot,
    Snapshot,
    Store,
)
from exporter.targets import Port, Target, endpoint_name, merge, target_of
from exporter.targets.file_sd import Discovered, FileDiscovery
from exporter.verdicts import judge, judge_profile

PUBLISH_INTERVAL: Final = 1.0
"""Seconds between two snapshots at least."""
DISCOVERY_INTERVAL: Final = 5.0
"""Seconds between two looks at target files."""
_JITTER: Final = 0.1  # of the interval, to either side
_SHUT: Final = frozenset({Reason.TCP_REFUSED, Reason.TCP_TIMEOUT})

log = structlog.get_logger("exporter.refresh")


@dataclass(slots=True)
class _Watched:
    """A server under watch: what is known of it so far."""

    target: Target
    endpoints: Mapping[str, EndpointFacts]
    status: ObservationStatus
    picture: ServerSnapshot
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Refresh:
    """Keeps a store's snapshot up to date.

    Attributes:
        store: where the snapshots are published.
    """

    def __init__(self, config: Config, targets: Sequence[Target] = (), profiles: Sequence[str] = ()) -> None:
        """Watch what the configuration names, and judge by its profiles, or the given ones. Reads the target files."""
        self._config = config
        self._profiles = {name: PROFILES[name] for name in profiles or config.profiles}
        self._rules = tuple(rule for rule in RULES if any(rule.id in rules for rules in self._profiles.values()))
        self._static = tuple(targets) or tuple(target_of(server, config.defaults) for server in config.servers)
        self._discovery = FileDiscovery(config.file_sd_configs, config.defaults, config.profiles)
        self._discovery_status = DiscoveryStatus(targets=0, failures=0)
        self._failures: Counter[tuple[str, Reason]] = Counter()
        self._watched: dict[str, _Watched] = {}
        self._running = False
        self._swept_once = False
        self._changed = asyncio.Event()
        self._slots = asyncio.Semaphore(config.probe.parallel_endpoints)
        self._resolver = Resolver()
        self._client_name = _client_name()
        self._config_loaded_at = time.time()
        self._take_over(self._discovery.look())
        self.store = Store(self._snapshot())

    async def run(self) -> None:
        """Sweep for ever. Ends, and takes every sweep under way with it, when it is cancelled."""
        self._running = True
        for watched in self._watched.values():
            self._start(watched)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._publish_changes())
                group.create_task(self._let_answers_age())
                if self._config.file_sd_configs:
                    group.create_task(self._follow_discovery())
        finally:
            self._running = False
            tasks = [watched.task for watched in self._watched.values() if watched.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def once(self, on_swept: Callable[[], None] = lambda: None) -> Snapshot:
        """Sweep every server once and return the outcome; ``on_swept`` is called after each server."""
        for finished in asyncio.as_completed([self._sweep(watched) for watched in self._watched.values()]):
            await finished
            on_swept()
        self.store.publish(self._snapshot())
        return self.store.latest

    # What is watched

    async def _follow_discovery(self) -> None:
        while True:
            await asyncio.sleep(DISCOVERY_INTERVAL)
            try:
                self._take_over(await asyncio.to_thread(self._discovery.look))
            except Exception:  # a fault of ours: the targets that are known stay
                log.exception("target files could not be looked at")

    def _take_over(self, found: Discovered) -> None:
        """Watch what discovery found beside the configuration's own servers, which win."""
        failures = self._discovery_status.failures + found.broken
        status = DiscoveryStatus(targets=len(found.targets), failures=failures)
        targets, repeated = merge(self._static, found.targets)
        for error in found.errors:
            log.error("target file is not usable, its last good targets stay", error=str(error))
        if status != self._discovery_status:
            self._discovery_status = status
            self._changed.set()
        before = {name: watched.target for name, watched in self._watched.items()}
        if list(targets) == list(before.values()):
            return
        twice = (*found.repeated, *repeated)
        if twice:
            log.warning("servers are named in several places, the first one counts", servers=list(twice))
        known, self._watched = self._watched, {}
        for target in targets:
            self._watch(target, known.pop(target.name, None))
        for gone in known.values():
            gone.stop()
        added, removed = self._watched.keys() - before.keys(), before.keys() - self._watched.keys()
        if self._running:
            log.info("targets changed", servers=len(targets), added=sorted(added), removed=sorted(removed))
        self._changed.set()

    def _watch(self, target: Target, before: _Watched | None) -> None:
        """Watch a target. What was known of it is kept as far as it is still about the same endpoints."""
        if before is not None and _same_endpoints(before.target, target):
            if before.target != target:
                before.target = target
                before.picture = self._picture(target, before.endpoints, before.status)
            self._watched[target.name] = before
            return
        known: Mapping[str, EndpointFacts] = {}
        status = ObservationStatus()
        if before is not None:
            before.stop()
            if (before.target.host, before.target.address) == (target.host, target.address):
                known, status = before.endpoints, before.status
        endpoints = {each.facts.endpoint: each.facts for each in _plan(target, (), known)}
        watched = _Watched(target, endpoints, status, self._picture(target, endpoints, status))
        self._watched[target.name] = watched
        if self._running:
            self._start(watched)

    def _start(self, watched: _Watched) -> None:
        watched.task = asyncio.create_task(self._sweep_for_ever(watched), name=f"sweep {watched.target.name}")

    # Sweeping

    async def _sweep_for_ever(self, watched: _Watched) -> None:
        while True:
            try:
                await self._sweep(watched)
            except Exception:  # a fault of ours: it must not end the watch, and must not go unseen
                log.exception("sweep failed", server=watched.target.name)
            await asyncio.sleep(pause(self._config.probe.interval))

    async def _sweep(self, watched: _Watched) -> None:
        """Sweep one server's endpoints and take in what they showed."""
        started = time.monotonic()
        target, probe = watched.target, self._config.probe
        unresolved: Missing | None = None
        addresses: tuple[str, ...] = ()
        try:
            addresses = await self._resolver.resolve(target.host, probe.timeout)
        except ResolveError as error:
            unresolved = Missing(Reason.DNS, str(error))
        at_once = asyncio.Semaphore(probe.parallel_endpoints_per_server)

        async def observe(plan: _Plan) -> EndpointFacts:
            if not self._due(plan.facts):
                return plan.facts
            if unresolved is not None:
                return plan.facts.after(_untried(unresolved), probe.max_age)
            async with at_once, self._slots:
                return plan.facts.after(await self._sweep_endpoint(target, plan), probe.max_age)

        observed = await asyncio.gather(*map(observe, _plan(target, addresses, watched.endpoints)))
        failed = [facts.failure for facts in observed if facts.in_use and facts.failure is not None]
        self._failures.update(("sweep", failure.reason) for failure in failed)
        watched.endpoints = {facts.endpoint: facts for facts in observed}
        if target.ports:
            watched.status = ObservationStatus(
                success=not failed,
                last_success=watched.status.last_success if failed else time.time(),
                duration=time.monotonic() - started,
            )
        self._redraw(watched)

    async def _sweep_endpoint(self, target: Target, plan: _Plan) -> EndpointSweep:
        job = SweepJob(
            server_name=target.name,
            addresses=plan.addresses,
            port=plan.port.number,
            service=plan.port.service,
            timeout=self._config.probe.timeout,
            client_name=self._client_name,
        )
        try:
            swept = await sweep(job)
        except Exception as error:  # a fault of ours costs this endpoint's answers, not the server's
            log.exception("sweep failed", server=target.name, endpoint=plan.facts.endpoint)
            return _untried(Missing(Reason.WORKER_DIED, repr(error)))
        log.debug(
            "swept",
            server=target.name,
            endpoint=plan.facts.endpoint,
            address=swept.address,
            connections=swept.connections,
            seconds=round(swept.duration, 3),
            **{protocol: _word(fact) for protocol, fact in swept.accepted.items()},
        )
        return swept

    def _due(self, facts: EndpointFacts) -> bool:
        """Whether to sweep an endpoint now: a closed optional one is left in peace for a scan interval."""
        if facts.in_use or facts.failure is None or facts.failure.reason not in _SHUT:
            return True
        return time.time() - facts.tried_at >= self._config.scan.interval

    # Publishing

    def _redraw(self, watched: _Watched) -> None:
        """Judge a server anew and have it published."""
        before = watched.picture
        watched.picture = self._picture(watched.target, watched.endpoints, watched.status)
        for name, verdict in watched.picture.profiles.items():
            was = before.profiles.get(name)
            if was is None or was.state is verdict.state:
                continue
            # The first answers after a start are no news.
            say = log.info if before.sweep.success is not None else log.debug
            say(
                "readiness changed",
                server=watched.target.name,
                profile=name,
                before=was.state,
                now=verdict.state,
                because=",".join(verdict.blockers) or verdict.reason,
            )
        self._changed.set()

    def _picture(
        self, target: Target, endpoints: Mapping[str, EndpointFacts], status: ObservationStatus
    ) -> ServerSnapshot:
        facts = ServerFacts(target.name, tuple(endpoints.values()))
        verdicts = judge(facts, self._rules)
        profiles = {name: judge_profile(verdicts, rules) for name, rules in self._profiles.items()}
        return ServerSnapshot(target, facts, status, verdicts, MappingProxyType(profiles))

    def _snapshot(self) -> Snapshot:
        probe = self._config.probe
        discovery = {"file": self._discovery_status} if self._config.file_sd_configs else {}
        return Snapshot(
            at=time.time(),
            servers=tuple(self._watched[name].picture for name in sorted(self._watched)),
            rules=self._rules,
            profiles=MappingProxyType(self._profiles),
            observations=MappingProxyType({"sweep": ObservationSettings(probe.interval, probe.max_age)}),
            failures=MappingProxyType(dict(self._failures)),
            discovery=MappingProxyType(discovery),
            config_loaded_at=self._config_loaded_at,
        )

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self.store.publish(self._snapshot())
            self._announce_the_first_sweep()
            await asyncio.sleep(PUBLISH_INTERVAL)

    def _announce_the_first_sweep(self) -> None:
        """Say once how the fleet stands, so that a start is not followed by silence."""
        if self._swept_once or not all(server.swept for server in self.store.latest.servers):
            return
        self._swept_once = True
        for profile in self._profiles:
            states = Counter(server.profiles[profile].state.value for server in self.store.latest.servers)
            log.info("every server was swept", profile=profile, **states)

    async def _let_answers_age(self) -> None:
        """Turn answers stale that no sweep renewed, however that came about."""
        max_age = self._config.probe.max_age
        while True:
            await asyncio.sleep(min(max_age / 10, 60))
            for watched in tuple(self._watched.values()):
                now = time.time()
                aged = {name: facts.aged(now, max_age) for name, facts in watched.endpoints.items()}
                if aged != watched.endpoints:
                    watched.endpoints = aged
                    self._redraw(watched)
                await asyncio.sleep(0)  # a large fleet: let scrapes in between


@dataclass(frozen=True, slots=True)
class _Plan:
    """An endpoint to look at: what is known of it, and where it is."""

    port: Port
    addresses: tuple[str, ...]
    facts: EndpointFacts


def _plan(target: Target, addresses: Sequence[str], known: Mapping[str, EndpointFacts]) -> list[_Plan]:
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
            plans.append(_Plan(port, where, facts))
    return plans


def pause(interval: float) -> float:
    """Seconds to wait for the next sweep: servers drift apart instead of being swept all at once."""
    return interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nothing secret


def _same_endpoints(one: Target, other: Target) -> bool:
    return (one.ports, one.host, one.address) == (other.ports, other.host, other.address)


def _client_name() -> str:
    """What to call ourselves in EHLO: a name that looks like one, or an address literal (RFC 5321 4.1.4)."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"


def _untried(missing: Missing) -> EndpointSweep:
    return EndpointSweep(time.time(), 0.0, "", Door.UNTRIED, all_missing(missing), 0)


def _word(fact: Fact[bool]) -> str:
    if isinstance(fact, Missing):
        return f"unknown:{fact.reason}"
    return "accepted" if fact.value else f"rejected:{fact.reason}"
