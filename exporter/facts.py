"""What was seen, without opinion: frozen values that know neither the network nor Prometheus.

A fact is ``Known(value)`` or ``Missing(reason, detail)``. Reading ``.value`` of a missing fact raises
`MissingFactError`, which `exporter.verdicts.judge` catches in one place: a failure that a rule forgets about becomes
*unknown*, never ready.

Times are Unix timestamps in seconds, and always arguments: nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, NoReturn, TypeAlias, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Protocol(StrEnum):
    """A protocol version, spelled as the Schannel registry keys and Go's ``tls.VersionName`` spell it."""

    SSL_2_0 = "SSL 2.0"
    SSL_3_0 = "SSL 3.0"
    TLS_1_0 = "TLS 1.0"
    TLS_1_1 = "TLS 1.1"
    TLS_1_2 = "TLS 1.2"
    TLS_1_3 = "TLS 1.3"


LEGACY_PROTOCOLS = (Protocol.SSL_2_0, Protocol.SSL_3_0, Protocol.TLS_1_0, Protocol.TLS_1_1)
"""What part 3 of the guidance switches off."""


class Reason(StrEnum):
    """Why an answer is negative or missing. The closed list of the metrics' ``reason`` label, see docs/concepts.md."""

    NOT_OBSERVED_YET = "not_observed_yet"
    STALE = "stale"
    DNS = "dns"
    TCP_REFUSED = "tcp_refused"
    TCP_TIMEOUT = "tcp_timeout"
    TCP_UNREACHABLE = "tcp_unreachable"
    TLS_TIMEOUT = "tls_timeout"
    DEADLINE = "deadline"
    NOT_TLS = "not_tls"
    STARTTLS_REFUSED = "starttls_refused"
    STARTTLS_MISSING = "starttls_missing"
    RATE_LIMITED = "rate_limited"
    CONNECTION_CLOSED = "connection_closed"
    CONNECTION_RESET = "connection_reset"
    TLS_ALERT = "tls_alert"
    WRONG_VERSION = "wrong_version"
    ALL_REJECTED = "all_rejected"
    CONTRADICTORY = "contradictory"
    WORKER_DIED = "worker_died"


class MissingFactError(Exception):
    """The value of a missing fact was read."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(f"{missing.reason}: {missing.detail}")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Known(Generic[T_co]):
    """A fact that was observed.

    Attributes:
        value: what was seen.
        at: when, Unix time in seconds.
        reason: how a negative showed itself on the wire (``connection_reset``, ``tls_alert``); None for positives.
        detail: the same for people, for logs and reports.
    """

    value: T_co
    at: float
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that we do not have, and why."""

    reason: Reason
    detail: str = ""

    @property
    def value(self) -> NoReturn:
        """Raise `MissingFactError`: there is no value to read."""
        raise MissingFactError(self)


Fact: TypeAlias = Known[T_co] | Missing

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
    """

    at: float
    duration: float
    address: str
    door: Door
    accepted: Accepted
    connections: int

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


NOT_OBSERVED_YET = all_missing(Missing(Reason.NOT_OBSERVED_YET))


REFUSED_FOR_GOOD = 7 * 86400.0
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

    @property
    def in_use(self) -> bool:
        """Whether the endpoint counts: an optional one only once it was seen open (docs/concepts.md, closed doors)."""
        return self.origin != "optional" or self.ever_open

    @property
    def closed(self) -> bool:
        """Whether the last sweep could not connect."""
        return self.door in {Door.REFUSED, Door.UNREACHABLE}

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
        )

    def aged(self, now: float, max_age: float) -> EndpointFacts:
        """These facts with every answer older than ``max_age`` seconds turned into *stale*."""
        stale = Missing(Reason.STALE, f"the last answer is older than {max_age:.0f} s")
        fresh = {
            protocol: fact if isinstance(fact, Missing) else kept(fact, stale, now, max_age)
            for protocol, fact in self.accepted.items()
        }
        return replace(self, accepted=MappingProxyType(fresh))


def kept(old: Fact[T_co], new: Fact[T_co], now: float, max_age: float) -> Fact[T_co]:
    """The fact that stands after ``new`` came in: a known one always, else the old one while it is young enough.

    A contradiction is news as well: what was known before is in doubt.
    """
    if isinstance(new, Known) or isinstance(old, Missing) or new.reason is Reason.CONTRADICTORY:
        return new
    return old if now - old.at <= max_age else new


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Everything that is known of one server; what rules judge."""

    server: str
    endpoints: tuple[EndpointFacts, ...] = ()
