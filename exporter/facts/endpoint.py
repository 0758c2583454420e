"""What one endpoint shows on the wire: sweeps and scans of it, and what is held to be true after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from exporter.facts.certificate import CertificateChain
from exporter.facts.fact import UNSEEN, Fact, Known, Missing, Reason, T_co, fresh, kept
from exporter.facts.protocol import Protocol

Accepted: TypeAlias = Mapping[Protocol, Fact[bool]]
"""Per protocol version: accepted (True), rejected (False), or missing."""


class Door(StrEnum):
    """What an endpoint's TCP port showed when it was last tried."""

    UNTRIED = "untried"
    OPEN = "open"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class EndpointSweep:
    """One sweep of one endpoint: all six versions, offered once each.

    Attributes:
        at: when it ended, Unix time in seconds.
        duration: seconds that it took.
        address: the IP address that it pinned; "" when no connection came about.
        door: what the TCP port showed; untried when the sweep did not get as far.
        accepted: the answer per version.
        connections: how many TCP connections it cost the server.
        named: the versions that the server refused by naming the version as the cause, with alert 70.
    """

    at: float
    duration: float
    address: str
    door: Door
    accepted: Accepted
    connections: int
    named: frozenset[Protocol] = frozenset()

    @property
    def speaks_tls(self) -> bool:
        """Whether some version was accepted in this sweep."""
        return any(isinstance(fact, Known) and fact.value for fact in self.accepted.values())

    @property
    def failure(self) -> Missing | None:
        """Why this sweep decided nothing at all; None when it decided at least one version."""
        missing = [fact for fact in self.accepted.values() if isinstance(fact, Missing)]
        return missing[0] if len(missing) == len(self.accepted) else None


def all_missing(missing: Missing) -> Accepted:
    """The answers of a sweep that ended before any version could be asked."""
    return MappingProxyType(dict.fromkeys(Protocol, missing))


NOT_OBSERVED_YET = all_missing(UNSEEN)


NOT_WANTED = Missing(Reason.NOT_OBSERVED_YET, "the configuration does not ask for it")
"""What stands for a part of a scan that is switched off."""


@dataclass(frozen=True, slots=True)
class EndpointScan:
    """One scan of one endpoint: what only complete handshakes show.

    Attributes:
        at: when it ended, Unix time in seconds.
        duration: seconds that it took.
        connections: how many TCP connections it cost the server.
        certificates: the chains that it presents, several where it has keys of several types.
        cipher_suites: the suites accepted per version that it accepts, by their IANA names.
    """

    at: float
    duration: float
    connections: int
    certificates: Fact[tuple[CertificateChain, ...]]
    cipher_suites: Mapping[Protocol, Fact[tuple[str, ...]]]

    @property
    def failure(self) -> Missing | None:
        """The first thing that it looked for and could not decide; None when it decided all."""
        facts = (self.certificates, *self.cipher_suites.values())
        return next((fact for fact in facts if isinstance(fact, Missing) and fact != NOT_WANTED), None)


DAY = 86400.0
"""Seconds for which a connection for a second opinion counts."""
REFUSED_FOR_GOOD = 7 * DAY
"""Seconds after which an optional endpoint that was open once, and refused since, counts as not in use again."""


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """What is held to be true of one endpoint, from its sweeps so far.

    Attributes:
        endpoint: its name, ``host:port`` or ``host:port@address``.
        service: https, tls, smtp, imap or pop3.
        origin: configured, core or optional.
        address: the IP address that was observed last; "" before the first connection.
        accepted: the last good answer per version, or why there is none.
        speaks_tls: whether the last sweep saw any version accepted; None before the first.
        door: what the last sweep found.
        failure: why the last sweep decided nothing at all; None when it decided something.
        tried_at: when the last sweep ended; 0 before the first.
        duration: seconds that the last sweep took.
        ever_open: whether a connection came about, and was not refused for seven days since.
        refused_since: the first of the refusals in a row that the last sweep ended; None when it was not refused.
        settled: the last answer per version that was published, however old: what a new one is compared with.
        asked_again: when connections for second opinions were opened within the last day, Unix times.
        certificates: the chains that it presents.
        cipher_suites: the suites per accepted version; versions that no scan looked at are left out.
        scanned_at: when the last scan ended; 0 before the first.
        scan_failure: the first thing that the last scan looked for and could not decide; None when it decided all.
        scan_due: when the next scan is due, Unix time in seconds.
    """

    endpoint: str
    service: str
    origin: str
    address: str = ""
    accepted: Accepted = field(default_factory=lambda: NOT_OBSERVED_YET)
    speaks_tls: bool | None = None
    door: Door = Door.UNTRIED
    failure: Missing | None = None
    tried_at: float = 0.0
    duration: float = 0.0
    ever_open: bool = False
    refused_since: float | None = None
    settled: Mapping[Protocol, bool] = field(default_factory=lambda: MappingProxyType({}))
    asked_again: tuple[float, ...] = ()
    certificates: Fact[tuple[CertificateChain, ...]] = UNSEEN
    cipher_suites: Mapping[Protocol, Fact[tuple[str, ...]]] = field(default_factory=lambda: MappingProxyType({}))
    scanned_at: float = 0.0
    scan_failure: Missing | None = None
    scan_due: float = 0.0

    @property
    def in_use(self) -> bool:
        """Whether the endpoint counts: an optional one only once it was seen open (docs/concepts.md, closed doors)."""
        return self.origin != "optional" or self.ever_open

    @property
    def closed(self) -> bool:
        """Whether the last sweep could not connect."""
        return self.door in {Door.REFUSED, Door.UNREACHABLE}

    @property
    def versions(self) -> tuple[Protocol, ...]:
        """The versions that it is known to accept."""
        return tuple(each for each, fact in self.accepted.items() if isinstance(fact, Known) and fact.value)

    def asked_within_a_day(self, now: float) -> tuple[float, ...]:
        """When connections for second opinions were opened, as far as that still counts."""
        return tuple(at for at in self.asked_again if now - at < DAY)

    def doubtful(self, sweep: EndpointSweep) -> tuple[Protocol, ...]:
        """The versions that a sweep alone must not decide, those first that would change what was published.

        An answer unlike the last one that was published, or one that contradicts itself there; and, where none was
        published, a refusal that does not name the version as its cause.
        """
        new = _values(sweep.accepted)
        changed = [each for each, value in self.settled.items() if _unlike(sweep.accepted[each], value)]
        unnamed = [each for each, value in new.items() if not value and each not in sweep.named]
        return (*changed, *(each for each in unnamed if each not in self.settled))

    def after(self, sweep: EndpointSweep, max_age: float) -> EndpointFacts:
        """These facts, brought up to date with one more sweep.

        A version that the sweep decided takes the new answer. One that it could not decide keeps the last good answer
        until that is older than ``max_age`` seconds; then the sweep's own reason stands.
        """
        tried = sweep.door is not Door.UNTRIED  # otherwise it says nothing about the door: no address, or our own fault
        refused_since = (self.refused_since or sweep.at) if sweep.door is Door.REFUSED else None
        gone = refused_since is not None and sweep.at - refused_since >= REFUSED_FOR_GOOD
        return replace(
            self,
            address=sweep.address or self.address,
            accepted=MappingProxyType(
                {
                    protocol: kept(self.accepted[protocol], new, sweep.at, max_age)
                    for protocol, new in sweep.accepted.items()
                }
            ),
            speaks_tls=sweep.speaks_tls,
            door=sweep.door if tried else self.door,
            failure=sweep.failure,
            tried_at=sweep.at,
            duration=sweep.duration,
            ever_open=(self.ever_open or sweep.door is Door.OPEN) and not gone,
            refused_since=refused_since if tried else self.refused_since,
            settled=MappingProxyType({**self.settled, **_values(sweep.accepted)}),
        )

    def after_scan(self, scan: EndpointScan, max_age: float, due: float = 0.0) -> EndpointFacts:
        """These facts, brought up to date with one more scan, by the same rule as sweeps; the next one is ``due``."""
        suites = {
            protocol: kept(self.cipher_suites.get(protocol, UNSEEN), new, scan.at, max_age)
            for protocol, new in scan.cipher_suites.items()
        }
        return replace(
            self,
            certificates=kept(self.certificates, scan.certificates, scan.at, max_age),
            cipher_suites=MappingProxyType(suites),
            scanned_at=scan.at,
            scan_failure=scan.failure,
            scan_due=due,
        )

    def with_scans_of(self, other: EndpointFacts) -> EndpointFacts:
        """These facts with what scans showed of the same endpoint meanwhile."""
        if self.scanned_at == other.scanned_at:
            return self
        return replace(
            self,
            certificates=other.certificates,
            cipher_suites=other.cipher_suites,
            scanned_at=other.scanned_at,
            scan_failure=other.scan_failure,
            scan_due=other.scan_due,
        )

    def aged(self, now: float, sweep_max_age: float, scan_max_age: float) -> EndpointFacts:
        """These facts with every answer that is older than these ages, in seconds, turned into *stale*."""
        scanned = (self.certificates, *self.cipher_suites.values())
        if not (_some_stale(self.accepted.values(), now, sweep_max_age) or _some_stale(scanned, now, scan_max_age)):
            return self
        return replace(
            self,
            accepted=_aged(self.accepted, now, sweep_max_age),
            certificates=fresh(self.certificates, now, scan_max_age),
            cipher_suites=_aged(self.cipher_suites, now, scan_max_age),
        )


def _values(accepted: Accepted) -> Mapping[Protocol, bool]:
    return {protocol: fact.value for protocol, fact in accepted.items() if isinstance(fact, Known)}


def _unlike(fact: Fact[bool], value: bool) -> bool:  # noqa: FBT001 - it is an answer
    if isinstance(fact, Missing):
        return fact.reason is Reason.CONTRADICTORY
    return fact.value is not value


def _some_stale(facts: Iterable[Fact[object]], now: float, max_age: float) -> bool:
    return any(isinstance(fact, Known) and now - fact.at > max_age for fact in facts)


def _aged(facts: Mapping[Protocol, Fact[T_co]], now: float, max_age: float) -> Mapping[Protocol, Fact[T_co]]:
    return MappingProxyType({protocol: fresh(fact, now, max_age) for protocol, fact in facts.items()})
