"""What the children that use sslyze are asked, what they answer, and how both travel: as one line of JSON each.

JSON rather than pickle: a child talks to servers with an old OpenSSL; what it says is checked before it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import TypeAdapter

from exporter.facts import EndpointScan, Fact, Protocol


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


JOB: Final[TypeAdapter[OpinionJob | ScanJob]] = TypeAdapter(OpinionJob | ScanJob)
OPINION: Final = TypeAdapter(Opinion)
SCAN: Final = TypeAdapter(EndpointScan)
