"""Turns the crank: when to observe what, and when to publish.

Each server has a task of its own that sweeps it, waits for an interval with jitter, and sweeps it again, another
that scans after a sweep what is due for a scan, and one that asks its host about itself, or looks at its facts file,
where that is configured. `exporter.observe` and `exporter.collect` bound how much happens at the same time. A publisher
puts the servers' newest pictures together, at most once a second.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from exporter.collect import Collector
from exporter.config import Config
from exporter.facts import UNSEEN, EndpointFacts, Fact, HostFacts, Missing, Reason, ServerFacts, fresh, kept
from exporter.observe import Observer, plan_endpoints
from exporter.probes.tls.second_opinion import Ruling
from exporter.probes.winrm import script
from exporter.probes.winrm.facts_file import NOT_LOOKED_AT, FactsFile, standing
from exporter.rules import PROFILES, build_rules
from exporter.snapshot import (
    CollectorScript,
    DiscoveryStatus,
    ObservationSettings,
    ObservationStatus,
    ServerSnapshot,
    Snapshot,
    Store,
)
from exporter.targets import Target, merge, target_of
from exporter.targets.file_sd import Discovered, FileDiscovery
from exporter.verdicts import judge, judge_profile

PUBLISH_INTERVAL: Final = 1.0
"""Seconds between two snapshots at least."""
DISCOVERY_INTERVAL: Final = 5.0
"""Seconds between two looks at target files."""
FACTS_FILE_LOOK: Final = 5.0
"""Seconds between two looks at a facts file."""
BLOCKED_LOOK: Final = 10.0
"""Seconds between two looks whether a blocked credential may be used again, which asks nobody but its file."""
_SOONEST: Final = 1 / 16  # of collect.interval: when a host is asked again that failed once
_JITTER: Final = 0.1  # of the interval, to either side

NOBODY_ASKS: Final = Missing(Reason.NOT_OBSERVED_YET, "neither credentials nor a facts_file are configured")
"""What is known of a host that nobody asks."""

log = structlog.get_logger("exporter.refresh")


@dataclass(slots=True)
class _Watched:
    """A server under watch: what is known of it so far."""

    target: Target
    endpoints: Mapping[str, EndpointFacts]
    status: Mapping[str, ObservationStatus]
    picture: ServerSnapshot
    host: Fact[HostFacts]
    facts_file: FactsFile = NOT_LOOKED_AT
    found: Fact[HostFacts] = UNSEEN
    failed_collections: int = 0
    swept: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()


class Refresh:
    """Keeps a store's snapshot up to date.

    Attributes:
        store: where the snapshots are published.
    """

    def __init__(self, config: Config, targets: Sequence[Target] = (), profiles: Sequence[str] = ()) -> None:
        """Watch what the configuration names, and judge by its profiles, or the given ones. Reads the target files."""
        self._config = config
        rules = build_rules(certificates=config.scan.certificates, cipher_suites=config.scan.cipher_suites)
        judged = {rule.id for rule in rules}
        self._profiles = {
            name: tuple(rule for rule in PROFILES[name] if rule in judged) for name in profiles or config.profiles
        }
        self._rules = tuple(rule for rule in rules if any(rule.id in each for each in self._profiles.values()))
        self._static = tuple(targets) or tuple(target_of(server, config.defaults) for server in config.servers)
        self._discovery = FileDiscovery(config.file_sd_configs, config.defaults, config.profiles, config.credentials)
        self._discovery_status = DiscoveryStatus(targets=0, failures=0)
        self._failures: Counter[tuple[str, Reason]] = Counter()
        self._watched: dict[str, _Watched] = {}
        self._running = False
        self._swept_once = False
        self._changed = asyncio.Event()
        self._observer = Observer(config)
        self._collector = Collector(config)
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
            tasks = [task for watched in self._watched.values() for task in watched.tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._observer.close()
            await self._collector.close()

    async def once(self, on_observed: Callable[[], None] = lambda: None) -> Snapshot:
        """Sweep and scan every server once and return the outcome; ``on_observed`` is called after each server."""

        async def observe(watched: _Watched) -> None:
            await self._collect(watched)
            await self._sweep(watched)
            await self._scan(watched)

        try:
            for finished in asyncio.as_completed([observe(watched) for watched in self._watched.values()]):
                await finished
                on_observed()
        finally:
            await self._observer.close()
            await self._collector.close()
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
        """Watch a target. What was known of it is kept as far as it still comes from the same places."""
        if before is not None and _same_sources(before.target, target):
            if before.target != target:
                before.target = target
                before.picture = self._picture(target, before.endpoints, before.host, before.status)
            self._watched[target.name] = before
            return
        known: Mapping[str, EndpointFacts] = {}
        status = dict.fromkeys(self._kinds(target), ObservationStatus())
        host: Fact[HostFacts] = UNSEEN if target.speaks_of_itself else NOBODY_ASKS
        if before is not None:
            before.stop()
            if (before.target.host, before.target.address) == (target.host, target.address):
                known = before.endpoints
                status |= {kind: before.status[kind] for kind in status if kind != "collect"}
            if target.speaks_of_itself and _same_voice(before.target, target):
                host, status["collect"] = before.host, before.status["collect"]
        endpoints = {each.facts.endpoint: each.facts for each in plan_endpoints(target, (), known)}
        watched = _Watched(target, endpoints, status, self._picture(target, endpoints, host, status), host)
        self._watched[target.name] = watched
        if self._running:
            self._start(watched)

    def _start(self, watched: _Watched) -> None:
        name = watched.target.name
        watched.tasks = [asyncio.create_task(self._sweep_for_ever(watched), name=f"sweep {name}")]
        if self._config.scan.wanted:
            watched.tasks.append(asyncio.create_task(self._scan_for_ever(watched), name=f"scan {name}"))
        if watched.target.speaks_of_itself:
            watched.tasks.append(asyncio.create_task(self._collect_for_ever(watched), name=f"collect {name}"))

    # Observing

    async def _sweep_for_ever(self, watched: _Watched) -> None:
        while True:
            try:
                await self._sweep(watched)
            except Exception:  # a fault of ours: it must not end the watch, and must not go unseen
                log.exception("sweep failed", server=watched.target.name)
            watched.swept.set()
            await asyncio.sleep(pause(self._config.probe.interval))

    async def _sweep(self, watched: _Watched) -> None:
        """Sweep one server's endpoints and take in what they showed."""
        started = time.monotonic()
        observed = await self._observer.sweep(watched.target, watched.endpoints)
        watched.endpoints = {
            name: facts.with_scans_of(watched.endpoints.get(name, facts)) for name, facts in observed.items()
        }
        failed = [facts.failure for facts in observed.values() if facts.in_use and facts.failure is not None]
        if watched.target.ports:
            succeeded_at = None if failed else time.time()
            self._note(watched, "sweep", started, [failure.reason for failure in failed], succeeded_at)
        self._redraw(watched)

    async def _scan_for_ever(self, watched: _Watched) -> None:
        while True:
            await watched.swept.wait()
            watched.swept.clear()
            try:
                await self._scan(watched)
            except Exception:  # as above
                log.exception("scan failed", server=watched.target.name)

    async def _scan(self, watched: _Watched) -> None:
        """Scan those of a server's endpoints that are due, one after the other, and take in what they showed."""
        if not self._config.scan.wanted:
            return
        started = time.monotonic()
        failed: list[Reason] = []
        scanned = False
        for plan in plan_endpoints(watched.target, (), watched.endpoints):
            name = plan.facts.endpoint
            facts = watched.endpoints.get(name)  # a sweep may have been there while the one before was scanned
            if facts is None or not facts.versions or facts.closed or time.time() < facts.scan_due:
                continue
            scan = await self._observer.scan(watched.target, plan.port, facts)
            if name in watched.endpoints:
                # A scan follows a sweep: the one that is nearest to the interval's end.
                due = time.time() + pause(self._config.scan.interval - self._config.probe.interval / 2)
                after = watched.endpoints[name].after_scan(scan, self._config.scan.max_age, due)
                watched.endpoints = {**watched.endpoints, name: after}
            failed += [scan.failure.reason] if scan.failure else []
            scanned = True
        if scanned:
            counted = [facts for facts in watched.endpoints.values() if facts.in_use]
            success = all(facts.scanned_at and facts.scan_failure is None for facts in counted)
            self._note(watched, "scan", started, failed, time.time() if success else None)
            self._redraw(watched)

    async def _collect_for_ever(self, watched: _Watched) -> None:
        while True:
            try:
                await self._collect(watched)
            except Exception:  # as above
                log.exception("host facts could not be collected", server=watched.target.name)
            await asyncio.sleep(pause(self._until_next_collection(watched)))

    def _until_next_collection(self, watched: _Watched) -> float:
        """Seconds. A host that fails is asked again soon, then ever later, until it is as rarely as any other."""
        if not watched.target.credentials:
            return FACTS_FILE_LOOK
        if _is_blocked(watched.found):
            return BLOCKED_LOOK
        interval = self._config.collect.interval
        if not watched.failed_collections:
            return interval
        return min(interval, interval * _SOONEST * 2.0 ** min(watched.failed_collections - 1, 10))

    async def _collect(self, watched: _Watched) -> None:
        """Have a server's host say what there is to say of it, and take that in."""
        if watched.target.credentials:
            await self._ask(watched)
        elif watched.target.facts_file:
            await self._look_at_facts_file(watched)

    async def _ask(self, watched: _Watched) -> None:
        """Ask a host over WinRM."""
        started = time.monotonic()
        found = await self._collector.collect(watched.target)
        host = kept(watched.host, found, time.time(), self._config.collect.max_age)
        if _is_blocked(found) and (found, host) == (watched.found, watched.host):
            return  # nobody was asked, and that is known already
        watched.failed_collections = watched.failed_collections + 1 if isinstance(found, Missing) else 0
        self._note_what_was_found(watched, found, started)
        watched.found, watched.host = found, host
        self._redraw(watched)

    async def _look_at_facts_file(self, watched: _Watched) -> None:
        """Look at a server's facts file, and take in what it holds when that is another than before."""
        target = watched.target
        started = time.monotonic()
        watched.facts_file = await self._observer.read_facts_file(target, watched.facts_file)
        path, now = Path(target.facts_file), time.time()
        found = standing(path, watched.facts_file.facts, now, target.facts_max_age)
        host = kept(watched.host, found, now, target.facts_max_age)
        if found != watched.found:
            self._note_what_was_found(watched, found, started)
        elif host == watched.host:
            return
        watched.found, watched.host = found, host
        self._redraw(watched)

    def _note_what_was_found(self, watched: _Watched, found: Fact[HostFacts], started: float) -> None:
        name, source = watched.target.name, "WinRM" if watched.target.credentials else "facts file"
        if isinstance(found, Missing):
            say = log.debug if found == watched.found else log.warning  # once is enough
            say("no host facts", server=name, source=source, reason=found.reason, detail=found.detail)
            self._note(watched, "collect", started, [found.reason], None)
        else:
            log.info("host facts", server=name, source=source, **_about(found.value))
            self._note(watched, "collect", started, [], found.at)

    def _note(
        self, watched: _Watched, kind: str, started: float, failed: Sequence[Reason], succeeded_at: float | None
    ) -> None:
        """Note how an observation of a server went: what failed, and of when it is if it succeeded."""
        self._failures.update((kind, reason) for reason in failed)
        before = watched.status[kind]
        status = ObservationStatus(
            success=succeeded_at is not None,
            last_success=before.last_success if succeeded_at is None else succeeded_at,
            duration=time.monotonic() - started,
        )
        watched.status = {**watched.status, kind: status}

    # Publishing

    def _redraw(self, watched: _Watched) -> None:
        """Judge a server anew and have it published."""
        before = watched.picture
        watched.picture = self._picture(watched.target, watched.endpoints, watched.host, watched.status)
        for name, verdict in watched.picture.profiles.items():
            was = before.profiles.get(name)
            if was is None or was.state is verdict.state:
                continue
            # The first answers after a start are no news.
            say = log.info if before.swept else log.debug
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
        self,
        target: Target,
        endpoints: Mapping[str, EndpointFacts],
        host: Fact[HostFacts],
        status: Mapping[str, ObservationStatus],
    ) -> ServerSnapshot:
        facts = ServerFacts(target.name, tuple(endpoints.values()), host)
        verdicts = judge(facts, self._rules, time.time())
        profiles = {name: judge_profile(verdicts, rules) for name, rules in self._profiles.items()}
        return ServerSnapshot(target, facts, MappingProxyType(status), verdicts, MappingProxyType(profiles))

    def _kinds(self, *targets: Target) -> dict[str, ObservationSettings]:
        """The kinds of observation that are configured for some of these targets."""
        probe, scan = self._config.probe, self._config.scan
        kinds = {"sweep": ObservationSettings(probe.interval, probe.max_age)}
        if scan.wanted:
            kinds["scan"] = ObservationSettings(scan.interval, scan.max_age)
        asked = any(target.credentials for target in targets)
        if asked or any(target.facts_file for target in targets):
            ages = [target.facts_max_age for target in targets]
            kinds["collect"] = ObservationSettings(
                self._config.collect.interval if asked else FACTS_FILE_LOOK,
                max(ages + [self._config.collect.max_age] * asked),
            )
        return kinds

    def _snapshot(self) -> Snapshot:
        rulings = Ruling if self._config.probe.second_opinions else ()
        discovery = {"file": self._discovery_status} if self._config.file_sd_configs else {}
        return Snapshot(
            at=time.time(),
            servers=tuple(self._watched[name].picture for name in sorted(self._watched)),
            rules=self._rules,
            profiles=MappingProxyType(self._profiles),
            observations=MappingProxyType(self._kinds(*(each.target for each in self._watched.values()))),
            failures=MappingProxyType(dict(self._failures)),
            second_opinions=MappingProxyType({each: self._observer.second_opinions[each] for each in rulings}),
            worker_deaths=MappingProxyType({**self._observer.worker_deaths, **self._collector.worker_deaths}),
            credentials_blocked=MappingProxyType(dict(self._collector.credentials_blocked)),
            discovery=MappingProxyType(discovery),
            script=CollectorScript(script.VERSION, script.SHA256),
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
        while True:
            kinds = (self._config.probe, self._config.scan, self._config.collect)
            await asyncio.sleep(min(60.0, *(kind.max_age / 10 for kind in kinds)))
            for watched in tuple(self._watched.values()):
                try:
                    self._age(watched)
                except Exception:  # a fault of ours: as in the other loops
                    log.exception("answers could not be aged", server=watched.target.name)
                await asyncio.sleep(0)  # a large fleet: let scrapes in between

    def _age(self, watched: _Watched) -> None:
        now, probe, scan = time.time(), self._config.probe, self._config.scan
        aged = {name: facts.aged(now, probe.max_age, scan.max_age) for name, facts in watched.endpoints.items()}
        host = watched.host
        if watched.target.credentials:
            host = fresh(host, now, self._config.collect.max_age)
            if host is not watched.host:
                log.warning("host facts are stale", server=watched.target.name)
        if (aged, host) != (watched.endpoints, watched.host):
            watched.endpoints, watched.host = aged, host
            self._redraw(watched)


def pause(interval: float) -> float:
    """Seconds to wait for the next time: servers drift apart instead of being observed all at once."""
    return interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nothing secret


def _about(host: HostFacts) -> dict[str, str]:
    """What the log says of host facts."""
    unread = Counter(missing.reason.value for missing in host.missing)
    return {
        "collected": datetime.fromtimestamp(host.collected_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "script": host.script_version,
        "unread": " ".join(f"{reason}={count}" for reason, count in unread.items()) or "nothing",
        **({"simulation": host.simulation} if host.simulation else {}),
    }


def _is_blocked(fact: Fact[HostFacts]) -> bool:
    return isinstance(fact, Missing) and fact.reason is Reason.CREDENTIAL_BLOCKED


def _same_sources(one: Target, other: Target) -> bool:
    """Whether what is known of the one is known of the other, and as old as it may be there."""
    places = ("ports", "host", "address", "facts_max_age")
    return _same_voice(one, other) and all(getattr(one, each) == getattr(other, each) for each in places)


def _same_voice(one: Target, other: Target) -> bool:
    """Whether what the one said about itself the other says."""
    places = ("facts_file", "credentials", *(("host",) if one.credentials else ()))
    return all(getattr(one, each) == getattr(other, each) for each in places)
