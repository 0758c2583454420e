"""Facts and snapshots with defaults, for tests that care about one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from exporter.config import Config, parse_config
from exporter.demo.machines import load
from exporter.demo.machines.document import output
from exporter.facts import (
    UNSEEN,
    Certificate,
    CertificateChain,
    Door,
    EndpointFacts,
    EndpointScan,
    EndpointSweep,
    Fact,
    HostFacts,
    Known,
    Missing,
    Protocol,
    Reason,
    ServerFacts,
)
from exporter.probes.winrm.document import read_document
from exporter.rules import PROFILES, build_rules
from exporter.snapshot import ObservationSettings, ObservationStatus, ServerSnapshot, Snapshot
from exporter.targets import Port, Target
from exporter.verdicts import judge, judge_profile

NOW = 1_800_000_000.0
RULES = build_rules()

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
    return EndpointSweep(at, 0.25, address, Door.OPEN, accepted(pattern, at), 7, named=frozenset(Protocol))


def failed_sweep(reason: Reason = Reason.TCP_REFUSED, door: Door = Door.REFUSED, at: float = NOW) -> EndpointSweep:
    """One sweep that decided nothing."""
    missing: Fact[bool] = Missing(reason, f"192.0.2.1 port 443: {reason}")
    return EndpointSweep(at, 0.01, "", door, dict.fromkeys(Protocol, missing), 1)


RECOMMENDED_SUITES = ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")


def certificate(**changes: Any) -> Certificate:
    """A certificate that nothing is wrong with, valid for 90 days more."""
    facts: dict[str, Any] = {
        "subject": "CN=exch01.test",
        "issuer": "CN=Test CA",
        "names": ("exch01.test",),
        "not_before": NOW - 10 * 86400,
        "not_after": NOW + 90 * 86400,
        "fingerprint_sha256": "0123456789abcdef" * 4,
        "key_type": "RSA",
        "key_size": 2048,
        "signature_hash": "sha256",
    }
    return Certificate(**facts | changes)


def chain(*certificates: Certificate, matches_name: bool = True, trusted: Fact[bool] | None = None) -> CertificateChain:
    """A chain of these, or of one that nothing is wrong with."""
    return CertificateChain(certificates or (certificate(),), matches_name, trusted or Known(value=True, at=NOW))


def scan(*chains: CertificateChain, suites: Sequence[str] = RECOMMENDED_SUITES, at: float = NOW) -> EndpointScan:
    """One scan that found all that it looked for; TLS 1.2 with these suites."""
    return EndpointScan(
        at=at,
        duration=1.5,
        connections=6,
        certificates=Known(chains or (chain(),), at),
        cipher_suites={Protocol.TLS_1_2: Known(tuple(suites), at)},
    )


def failed_scan(reason: Reason = Reason.DEADLINE, at: float = NOW) -> EndpointScan:
    """One scan that found nothing."""
    missing = Missing(reason, f"the scan: {reason}")
    return EndpointScan(at, 0.5, 1, missing, {Protocol.TLS_1_2: missing})


def host_facts(machine: str = "exchange-2016-cu23-on-2016", **changes: Any) -> HostFacts:
    """What a simulated machine said about itself just now, its SMTP logs included."""
    return replace(_host(machine), **changes)


@cache
def _host(machine: str) -> HostFacts:
    described = load(machine)
    printed = output(described, datetime.fromtimestamp(NOW, UTC), usage_megabytes=1)
    facts = read_document(printed.encode("ascii"), described.fqdn)
    assert isinstance(facts, Known)
    return facts.value


def server_facts(*endpoints: EndpointFacts) -> ServerFacts:
    """A server with these endpoints."""
    return ServerFacts("exch01.test", endpoints)


def server_snapshot(
    *endpoints: EndpointFacts,
    name: str = "exch01.test",
    success: bool | None = True,
    scanned: bool | None = None,
    scans: bool = True,
    host: HostFacts | Missing | None = None,
    **target: Any,
) -> ServerSnapshot:
    """A server as the refresh loop pictures it; ``success`` and ``scanned`` say how its last sweep and scan went.

    ``host`` is what is known of the host, or why it is not; None where nobody asks it.
    """
    known = Known(host, host.collected_at) if isinstance(host, HostFacts) else host or UNSEEN
    facts = ServerFacts(name, endpoints, known)
    verdicts = judge(facts, RULES, NOW)
    profiles = {profile: judge_profile(verdicts, rules) for profile, rules in PROFILES.items()}
    settings: dict[str, Any] = {"role": "mailbox", "ports": (Port(443, "https", "core"),)}
    observations = {"sweep": ObservationStatus(success, NOW if success else 0.0, 0.5)}
    if scans:
        finished = ObservationStatus(scanned, NOW if scanned else 0.0, 1.5)
        observations["scan"] = ObservationStatus() if scanned is None else finished
    if host is not None:
        collected_at = known.at if isinstance(known, Known) else 0.0
        observations["collect"] = ObservationStatus(isinstance(known, Known), collected_at, 0.25)
    return ServerSnapshot(Target(name, **settings | target), facts, observations, verdicts, MappingProxyType(profiles))


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


NO_SCANS = {"certificates": False, "cipher_suites": False}


def config(document: Mapping[str, Any] | None = None, servers: Sequence[Any] = ("exch01.test",)) -> Config:
    """A valid configuration. No scans, and no second opinions, unless it says so."""
    settings = {"servers": list(servers), **(document or {})}
    settings["scan"] = NO_SCANS | settings.get("scan", {})
    settings["probe"] = {"second_opinions": 0} | settings.get("probe", {})
    return parse_config(settings, PROFILES)
