"""What the children that use sslyze are asked, what they answer, and how both travel: as one line of JSON each.

JSON rather than pickle: a child talks to servers with an old OpenSSL; what it says is checked before it is believed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, TypeAdapter

from exporter.facts import EndpointScan, Fact, Known, Protocol

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is and how to talk to it.

    Attributes:
        server_name: for SNI, and what certificates are compared with.
        address: the IP address to connect to: the one that the sweep pinned.
        port: the TCP port.
        service: https, tls, smtp, imap or pop3.
        client_name: how the prober calls itself in EHLO.
    """

    server_name: str
    address: str
    port: int
    service: str
    client_name: str


@dataclass(frozen=True, slots=True)
class OpinionJob:
    """Make one complete handshake for each of these versions.

    Attributes:
        place: the endpoint.
        protocols: the versions, in this order.
        again: whether this is the second attempt, which uses the other OpenSSL where there is a choice.
    """

    place: Place
    protocols: tuple[Protocol, ...]
    again: bool = False
    kind: Literal["opinion"] = "opinion"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What came of the handshakes: accepted, rejected, or why neither is known."""

    accepted: Mapping[Protocol, Fact[bool]]


@dataclass(frozen=True, slots=True)
class ScanJob:
    """Look at what only complete handshakes show.

    Attributes:
        place: the endpoint.
        protocols: the versions that it accepts.
        certificates: whether to look at certificates.
        cipher_suites: whether to find the cipher suites of each version.
        connections: TCP connections that it may cost at most.
        ca_file: the certificates to trust, or None.
    """

    place: Place
    protocols: tuple[Protocol, ...]
    certificates: bool
    cipher_suites: bool
    connections: int
    ca_file: str | None = None
    kind: Literal["scan"] = "scan"


_LATEST: Final = 253402300799.0  # the end of the year 9999, the last that X.509 can write
SKEW: Final = 60.0  # seconds by which a clock may be set back between a child's word and now
_MAX_TEXT: Final = 20_000
_MAX_ITEMS: Final = 1_000


def _believable(outcome: T) -> T:
    """An outcome with nothing in it that would disturb those who read it: no shape can say all of that."""
    if isinstance(outcome, EndpointScan) and isinstance(outcome.certificates, Known):
        chains = outcome.certificates.value
        if not chains or not all(chain.certificates for chain in chains):
            raise ValueError("a chain without a certificate")
    _check(outcome, time.time())
    return outcome


def _check(value: object, now: float) -> None:
    if isinstance(value, float) and not -_LATEST <= value <= _LATEST:  # which infinity and no number are not
        raise ValueError(f"{value} is no time")
    if isinstance(value, str) and not (len(value) <= _MAX_TEXT and value.isprintable()):
        raise ValueError(f"not a text to show: {value[:100]!r}")
    if isinstance(value, Known) and value.at > now + SKEW:
        raise ValueError("seen in the future")
    if isinstance(value, tuple | Mapping) and len(value) > _MAX_ITEMS:
        raise ValueError(f"{len(value)} items")
    for part in _parts(value):
        _check(part, now)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, tuple):
        return value
    return (getattr(value, each.name) for each in fields(value)) if is_dataclass(value) else ()


JOB: Final[TypeAdapter[OpinionJob | ScanJob]] = TypeAdapter(OpinionJob | ScanJob)
OPINION: Final[TypeAdapter[Opinion]] = TypeAdapter(Annotated[Opinion, AfterValidator(_believable)])
SCAN: Final[TypeAdapter[EndpointScan]] = TypeAdapter(Annotated[EndpointScan, AfterValidator(_believable)])
