"""What was seen, without opinion: frozen values that know neither the network nor Prometheus.

A fact is ``Known(value)`` or ``Missing(reason, detail)``. Reading ``.value`` of a missing fact raises
`MissingFactError`, which `exporter.verdicts.judge` catches in one place: a failure that a rule forgets about becomes
*unknown*, never ready.

Times are Unix timestamps in seconds, and always arguments: nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.facts.certificate import Certificate, CertificateChain
from exporter.facts.endpoint import (
    DAY,
    NOT_OBSERVED_YET,
    NOT_WANTED,
    REFUSED_FOR_GOOD,
    Accepted,
    Door,
    EndpointFacts,
    EndpointScan,
    EndpointSweep,
    all_missing,
)
from exporter.facts.fact import UNSEEN, Fact, Known, Missing, MissingFactError, Reason, T_co, fresh, kept
from exporter.facts.host import (
    CLR_2,
    CLR_4,
    REBOOT_KINDS,
    Binding,
    DotNet,
    DotNetSwitches,
    Dword,
    Exchange,
    HostFacts,
    Hotfix,
    KeyExchange,
    Order,
    Package,
    Peer,
    PendingUpdate,
    RemoteDesktop,
    Schannel,
    SchannelValues,
    Side,
    SmtpUsage,
    StoredCertificate,
    Version,
    View,
    Windows,
    dotted,
)
from exporter.facts.protocol import LEGACY_PROTOCOLS, Protocol

__all__ = [
    "CLR_2",
    "CLR_4",
    "DAY",
    "LEGACY_PROTOCOLS",
    "NOT_OBSERVED_YET",
    "NOT_WANTED",
    "REBOOT_KINDS",
    "REFUSED_FOR_GOOD",
    "UNSEEN",
    "Accepted",
    "Binding",
    "Certificate",
    "CertificateChain",
    "Door",
    "DotNet",
    "DotNetSwitches",
    "Dword",
    "EndpointFacts",
    "EndpointScan",
    "EndpointSweep",
    "Exchange",
    "Fact",
    "HostFacts",
    "Hotfix",
    "KeyExchange",
    "Known",
    "Missing",
    "MissingFactError",
    "Order",
    "Package",
    "Peer",
    "PendingUpdate",
    "Protocol",
    "Reason",
    "RemoteDesktop",
    "Schannel",
    "SchannelValues",
    "ServerFacts",
    "Side",
    "SmtpUsage",
    "StoredCertificate",
    "T_co",
    "Version",
    "View",
    "Windows",
    "all_missing",
    "dotted",
    "fresh",
    "kept",
]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Everything that is known of one server; what rules judge."""

    server: str
    endpoints: tuple[EndpointFacts, ...] = ()
    host: Fact[HostFacts] = UNSEEN
