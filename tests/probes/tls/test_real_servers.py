"""The sweep against real servers. The oracle is what each server is configured to accept, see `real_servers.TABLE`."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tlslite.constants import ExtensionType
from tlslite.messages import ClientHello

from exporter.facts import Door, EndpointSweep, Fact, Missing, Protocol
from exporter.probes.tls.hello import PROTOCOLS_BY_WIRE_VERSION
from exporter.probes.tls.sweep import MAX_CONNECTIONS, SweepJob, sweep

from real_servers import S2, S3, T10, T11, T12, T13, TABLE, Certificate, Server, TlsliteServer

MODERN = frozenset({T10, T11, T12, T13})
"""What the opening hello of a sweep offers."""


def _told(fact: Fact[bool]) -> bool | str:
    """An answer in one word; what is unknown shows its reason, which equals neither answer."""
    return f"{fact.reason}: {fact.detail}" if isinstance(fact, Missing) else fact.value


@pytest.mark.parametrize("name", TABLE)
def test_every_version_is_answered_as_the_server_is_configured(name: str, swept: Mapping[str, EndpointSweep]) -> None:
    """Accepted or rejected for each of the six versions, and nothing unknown."""
    answers = {protocol: _told(fact) for protocol, fact in swept[name].accepted.items()}
    assert answers == {protocol: protocol in TABLE[name].accepted for protocol in Protocol}


@pytest.mark.parametrize("name", TABLE)
def test_a_server_sees_seven_connections(name: str, swept: Mapping[str, EndpointSweep]) -> None:
    """Eight, which is the most, only where the opening hello offers nothing that the server accepts."""
    assert swept[name].connections == (7 if TABLE[name].accepted & MODERN else MAX_CONNECTIONS)
    assert swept[name].door is Door.OPEN


@pytest.mark.parametrize("name", TABLE)
def test_the_pinned_address_is_where_the_server_listens(
    name: str, swept: Mapping[str, EndpointSweep], real_servers: Mapping[str, Server]
) -> None:
    assert swept[name].address == real_servers[name].row.address


def test_the_table_has_every_version_accepted_and_rejected() -> None:
    """Each version occurs both ways, and IPv6 and each service occur at all: the table proves what it is meant to."""
    for protocol in Protocol:
        assert {protocol in row.accepted for row in TABLE.values()} == {True, False}, protocol
    assert {row.service for row in TABLE.values()} == {"https", "tls", "smtp", "imap", "pop3"}
    assert {row.address for row in TABLE.values()} == {"127.0.0.1", "::1"}
    assert {row.certificate for row in TABLE.values()} == {"rsa", "ecdsa"}


def _job(port: int, *addresses: str, server_name: str = "mail.example.test") -> SweepJob:
    return SweepJob(
        server_name=server_name,
        addresses=addresses or ("127.0.0.1",),
        port=port,
        service="https",
        timeout=30.0,
        client_name="probe.example.test",
    )


def _offers(hello: ClientHello | None) -> set[Protocol]:
    """The versions that a hello asks for."""
    if hello is None:
        return {S2}
    versions = hello.getExtension(ExtensionType.supported_versions)
    wire = versions.versions if versions else [hello.client_version]
    return {PROTOCOLS_BY_WIRE_VERSION[version] for version in wire}


def _server_names(server: TlsliteServer) -> list[bytes | None]:
    """The SNI of each hello that can have one; SSL 2.0 and 3.0 have no extensions."""
    names = []
    for hello in server.hellos:
        if hello is not None and hello.client_version > (3, 0):
            extension = hello.getExtension(ExtensionType.server_name)
            names.append(bytes(extension.hostNames[0]) if extension else None)
    return names


async def test_the_order_of_the_hellos(certificate: Certificate) -> None:
    """Everything at once, then each version but the one that was chosen, and that one at the end."""
    with TlsliteServer(certificate, frozenset({T10, T11, T12})) as server:
        swept = await sweep(_job(server.port))
    assert [_offers(hello) for hello in server.hellos] == [set(MODERN), {T13}, {T11}, {T10}, {S3}, {S2}, {T12}]
    assert server.connections == swept.connections == 7


async def test_the_order_of_the_hellos_to_a_server_of_ssl3(certificate: Certificate) -> None:
    """What refuses the opening hello is asked for all six versions, and again for the first that it accepted."""
    with TlsliteServer(certificate, frozenset({S3})) as server:
        swept = await sweep(_job(server.port))
    expected = [set(MODERN), {T10}, {S3}, {T12}, {T11}, {T13}, {S2}, {S3}]
    assert [_offers(hello) for hello in server.hellos] == expected
    assert server.connections == swept.connections == MAX_CONNECTIONS


async def test_of_several_addresses_the_one_that_answers_is_pinned(certificate: Certificate) -> None:
    """The first address refuses once and is not tried again; the second sees a whole sweep."""
    with TlsliteServer(certificate, frozenset({T12, T13})) as server:
        swept = await sweep(_job(server.port, "127.0.0.9", "127.0.0.1"))
    assert (swept.address, swept.door) == ("127.0.0.1", Door.OPEN)
    assert (server.connections, swept.connections) == (7, 8)
    assert {protocol for protocol, fact in swept.accepted.items() if _told(fact) is True} == {T12, T13}


async def test_of_two_families_the_one_that_answers_is_pinned(certificate: Certificate) -> None:
    """A name with an IPv6 address where nothing listens is swept over IPv4."""
    with TlsliteServer(certificate, frozenset({T12})) as server:
        swept = await sweep(_job(server.port, "::1", "127.0.0.1"))
    assert (swept.address, server.connections) == ("127.0.0.1", 7)


async def test_an_explicit_address_is_connected_to_with_the_name_of_the_server(certificate: Certificate) -> None:
    """Every hello that can carry SNI names the server, whatever address it goes to."""
    with TlsliteServer(certificate, frozenset({T10, T11, T12, T13})) as server:
        await sweep(_job(server.port, "127.0.0.1", server_name="mail.example.test"))
    assert _server_names(server) == [b"mail.example.test"] * 5


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_never_sent_as_a_name(certificate: Certificate, address: str) -> None:
    """RFC 6066 forbids addresses in SNI: there is none when the server is called by its address."""
    with TlsliteServer(certificate, frozenset({T10, T11, T12, T13})) as server:
        await sweep(_job(server.port, "127.0.0.1", server_name=address))
    assert _server_names(server) == [None] * 5
