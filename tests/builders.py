"""Facts and snapshots with defaults, for tests that care about one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from exporter.config import Config, parse_config
from exporter.facts import Door, EndpointFacts, EndpointSweep, Fact, Known, Missing, Protocol, Reason, ServerFacts
from exporter.rules import PROFILES, RULES
from exporter.snapshot import ObservationSettings, ObservationStatus, ServerSnapshot, Snapshot
from exporter.targets import Port, Target
from exporter.verdicts import judge, judge_profile

NOW = 1_800_000_000.0

ACCEPTS_ALL = "111111"
TLS12_ONLY = "000010"
TLS10_TO_12 = "001110"


def accepted(pattern: str, at: float = NOW) -> Mapping[Protocol, Fact[bool]]:
    """Answers from six characters, SSL 2.0 first: 1 accepted, 0 rejected, ? unknown."""
    facts: dict[str, Fact[bool]] = {
        "1": Known(value=True, at=at),
        "0": Known(value=False, at=at, reason=Reason.CONNECTION_RESET, detail="the connection ended after the hello"),
        "?": Missing(Reason.TLS_TIMEOUT, "connected, then silence"),
    }
    return MappingProxyType({protocol: facts[each] for protocol, each in zip(Protocol, pattern, strict=True)})


def endpoint_facts(pattern: str = TLS12_ONLY, port: int = 443, **changes: Any) -> EndpointFacts:
    """An endpoint that was just swept and found open."""
    facts: dict[str, Any] = {
        "endpoint": f"exch01.test:{port}",
        "service": "https",
        "origin": "core",
        "address": "192.0.2.1",
        "accepted": accepted(pattern),
        "speaks_tls": "1" in pattern,
        "door": Door.OPEN,
        "tried_at": NOW,
        "duration": 0.25,
        "ever_open": True,
    }
    return EndpointFacts(**facts | changes)


def closed_endpoint(port: int = 443, origin: str = "core", door: Door = Door.REFUSED) -> EndpointFacts:
    """An endpoint that was tried once and never open."""
    reason = Reason.TCP_REFUSED if door is Door.REFUSED else Reason.TCP_TIMEOUT
    sweep = failed_sweep(reason, door)
    return EndpointFacts(f"exch01.test:{port}", "https", origin).after(sweep, max_age=3600)


def swept(pattern: str = TLS12_ONLY, at: float = NOW, address: str = "192.0.2.1") -> EndpointSweep:
    """One sweep that connected."""
    return EndpointSweep(at, 0.25, address, Door.OPEN, accepted(pattern, at), 7)


def failed_sweep(reason: Reason = Reason.TCP_REFUSED, door: Door = Door.REFUSED, at: float = NOW) -> EndpointSweep:
    """One sweep that decided nothing."""
    missing: Fact[bool] = Missing(reason, f"192.0.2.1 port 443: {reason}")
    return EndpointSweep(at, 0.01, "", door, dict.fromkeys(Protocol, missing), 1)


def server_facts(*endpoints: EndpointFacts) -> ServerFacts:
    """A server with these endpoints."""
    return ServerFacts("exch01.test", endpoints)


def server_snapshot(
    *endpoints: EndpointFacts, name: str = "exch01.test", success: bool | None = True, **target: Any
) -> ServerSnapshot:
    """A server as the refresh loop pictures it."""
    facts = ServerFacts(name, endpoints)
    verdicts = judge(facts, RULES)
    profiles = {profile: judge_profile(verdicts, rules) for profile, rules in PROFILES.items()}
    settings: dict[str, Any] = {"role": "mailbox", "ports": (Port(443, "https", "core"),)}
    status = ObservationStatus(success, NOW if success else 0.0, 0.5)
    return ServerSnapshot(Target(name, **settings | target), facts, status, verdicts, MappingProxyType(profiles))


def fleet(*servers: ServerSnapshot, **changes: Any) -> Snapshot:
    """A snapshot of these servers."""
    settings: dict[str, Any] = {
        "at": NOW,
        "servers": servers,
        "rules": RULES,
        "profiles": PROFILES,
        "observations": {"sweep": ObservationSettings(3600.0, 10800.0)},
        "config_loaded_at": NOW - 60,
    }
    return Snapshot(**settings | changes)


def config(document: Mapping[str, Any] | None = None, servers: Sequence[Any] = ("exch01.test",)) -> Config:
    """A valid configuration."""
    return parse_config({"servers": list(servers), **(document or {})}, PROFILES)
