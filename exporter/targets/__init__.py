"""What is looked at: servers and their endpoints, from the configuration and from discovery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from exporter.config import Defaults, ServerConfig, name_key


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port of a server and what speaks there.

    Attributes:
        number: the TCP port.
        service: https, tls, smtp, imap or pop3.
        origin: ``configured`` by hand, ``core`` of the role, or ``optional`` there: counted once it was seen open.
    """

    number: int
    service: str
    origin: str


@dataclass(frozen=True, slots=True)
class Target:
    """A server to look at.

    Attributes:
        name: the ``server`` label, and SNI.
        role: mailbox, edge, domain-controller or none.
        ports: where TLS is expected.
        address: where to connect: "" for the name itself, ``all`` for each of its addresses, else a host.
        labels: configured ones.
        facts_file: the file with what the host says about itself; "" for none.
        facts_max_age: seconds for which its document stands.
        credentials: the name of those with which it is asked about itself over WinRM; "" where it is not.
        expect: the profile that it is declared to meet; "" for none.
    """

    name: str
    role: str
    ports: tuple[Port, ...]
    address: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    facts_file: str = ""
    facts_max_age: float = 0.0
    credentials: str = ""
    expect: str = ""

    @property
    def host(self) -> str:
        """The host whose addresses are connected to."""
        return self.name if self.address in {"", "all"} else self.address

    @property
    def speaks_of_itself(self) -> bool:
        """Whether there is a way to what the host says about itself."""
        return bool(self.facts_file or self.credentials)


def _core(*ports: tuple[int, str]) -> tuple[Port, ...]:
    return tuple(Port(number, service, "core") for number, service in ports)


def _optional(*ports: tuple[int, str]) -> tuple[Port, ...]:
    return tuple(Port(number, service, "optional") for number, service in ports)


# Ports: Microsoft's "Network ports for clients and mail flow in Exchange" and the bindings and connectors in
# HealthChecker's captures. 465 is the Client Proxy connector: STARTTLS, not TLS from the first byte.
PRESETS: Final[dict[str, tuple[Port, ...]]] = {
    "mailbox": (
        *_core((443, "https"), (25, "smtp"), (587, "smtp")),
        *_optional((110, "pop3"), (143, "imap"), (993, "tls"), (995, "tls")),
        *_optional((444, "tls"), (465, "smtp"), (475, "smtp"), (717, "smtp"), (2525, "smtp")),
    ),
    "edge": (*_core((25, "smtp")), *_optional((50636, "tls"))),
    "domain-controller": _core((636, "tls"), (3269, "tls")),
    "none": (),
}
"""The endpoints of each role."""


def target_of(server: ServerConfig, defaults: Defaults) -> Target:
    """The target that a server's configuration describes."""
    role = server.role or defaults.role
    configured = tuple(Port(each.port, each.service, "configured") for each in server.endpoints or ())
    return Target(
        name=server.name,
        role=role,
        ports=configured or PRESETS[role],
        address=server.address or "",
        labels=MappingProxyType(dict(server.labels)),
        facts_file=server.facts_file.path if server.facts_file else "",
        facts_max_age=server.facts_file.max_age if server.facts_file else 0.0,
        credentials=defaults.credentials_of(server),
        expect=server.expect or "",
    )


def endpoint_name(host: str, port: int, address: str = "") -> str:
    """How an endpoint is called: ``host:port``, or ``host:port@address`` where each address is one of its own."""
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{port}" + (f"@{address}" if address else "")


def merge(*sources: Iterable[Target]) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """All targets, each name once: the source named first wins. And the names that came twice."""
    merged: dict[str, Target] = {}
    repeated = []
    for target in (target for source in sources for target in source):
        key = name_key(target.name)
        if key in merged:
            repeated.append(target.name)
        else:
            merged[key] = target
    return tuple(merged.values()), tuple(repeated)
