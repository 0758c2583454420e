"""One immutable picture of the fleet, and the place where the newest one is found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from exporter.facts import Reason, ServerFacts
from exporter.targets import Target
from exporter.verdicts import ProfileVerdict, Rule, Verdict


@dataclass(frozen=True, slots=True)
class ObservationStatus:
    """How the last attempt to observe a server went.

    Attributes:
        success: whether it succeeded for every endpoint that counts; None before the first attempt. A sweep succeeds
            when it decides something, a scan when it decides all that it looked for.
        last_success: Unix time in seconds; 0 before the first.
        duration: seconds that the last attempt took.
    """

    success: bool | None = None
    last_success: float = 0.0
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """One server: what it is, what was seen, what that means.

    ``observations`` says per kind of observation that is configured how the last attempt went.
    """

    target: Target
    facts: ServerFacts
    observations: Mapping[str, ObservationStatus]
    verdicts: tuple[Verdict, ...]
    profiles: Mapping[str, ProfileVerdict]

    @property
    def swept(self) -> bool:
        """Whether it was swept at least once, or has nothing to sweep."""
        return self.observations["sweep"].success is not None or not self.target.ports


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """How often a kind of observation is made, in seconds, and how long it stands."""

    interval: float
    max_age: float


@dataclass(frozen=True, slots=True)
class DiscoveryStatus:
    """What a discovery mechanism found, and how often it failed since the start."""

    targets: int
    failures: int


@dataclass(frozen=True, slots=True)
class CollectorScript:
    """The script that asks hosts about themselves: its version, and the SHA-256 of its bytes in hexadecimal."""

    version: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at one moment.

    Attributes:
        at: when it was taken, Unix time in seconds.
        servers: in the order of their names.
        rules: every rule of every profile in use.
        profiles: per profile in use, the ids of its rules.
        observations: per kind of observation that is configured, its settings.
        failures: per kind and reason, endpoint observations that failed since the start.
        second_opinions: per outcome, second opinions on one version since the start.
        worker_deaths: per kind of work and reason, child processes that died of it since the start.
        credentials_blocked: per configured credential, whether it is not used because it was refused.
        discovery: per mechanism in use.
        script: the collector script that comes with this exporter.
        config_loaded_at: when the configuration was loaded successfully, Unix time in seconds.
        config_ok: whether the last attempt to load it succeeded.
    """

    at: float
    servers: tuple[ServerSnapshot, ...] = ()
    rules: tuple[Rule, ...] = ()
    profiles: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    observations: Mapping[str, ObservationSettings] = field(default_factory=lambda: MappingProxyType({}))
    failures: Mapping[tuple[str, Reason], int] = field(default_factory=lambda: MappingProxyType({}))
    second_opinions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    worker_deaths: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    credentials_blocked: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    discovery: Mapping[str, DiscoveryStatus] = field(default_factory=lambda: MappingProxyType({}))
    script: CollectorScript = field(default_factory=CollectorScript)
    config_loaded_at: float = 0.0
    config_ok: bool = True


class Store:
    """Holds the newest snapshot. Publishing replaces one reference; readers keep what they hold."""

    def __init__(self, first: Snapshot) -> None:
        self._latest = first
        self._published = asyncio.Event()

    @property
    def latest(self) -> Snapshot:
        """The newest snapshot."""
        return self._latest

    def publish(self, snapshot: Snapshot) -> None:
        """Make this the newest snapshot."""
        self._latest = snapshot
        self._published.set()

    async def newer_than(self, seen: Snapshot | None) -> Snapshot:
        """The newest snapshot, once it is another than the one seen. For one waiter."""
        while self._latest is seen:
            self._published.clear()
            await self._published.wait()
        return self._latest
