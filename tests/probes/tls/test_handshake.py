"""What we rely on in sslyze and nassl, and one handshake against servers of every kind, on loopback.

`SslConnection` is no part of sslyze's published interface. An upgrade of which something here does not hold breaks us.
"""

from __future__ import annotations

import inspect
import re
import socket
import socketserver
import struct
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, Self

import pytest
from cryptography.hazmat.primitives.asymmetric import dh
from nassl import _nassl
from nassl.cert_chain_verifier import CertificateChainVerifier
from nassl.legacy_ssl_client import LegacySslClient
from nassl.ssl_client import OpenSslVersionEnum, SslClient
from packaging.requirements import Requirement
from sslyze import errors
from sslyze.connection_helpers import tls_connection
from sslyze.connection_helpers.tls_connection import SslConnection
from sslyze.plugins.openssl_cipher_suites.cipher_suites import CipherSuitesRepository
from sslyze.server_connectivity import TlsVersionEnum
from sslyze.server_setting import ServerNetworkConfiguration, ServerNetworkLocation
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import CipherSuite, ExtensionType
from tlslite.errors import BaseTLSException
from tlslite.messages import ClientHello, ServerHello
from tlslite.utils.codec import Parser

from exporter.demo import begin_tls
from exporter.facts import Known, Protocol, Reason
from exporter.probes.tls.answer import AnswerReader, Refused, Unclear
from exporter.probes.tls.handshake import (
    _REFUSALS,
    Agreed,
    Offer,
    Outcome,
    WeakKey,
    offers,
    shake_hands,
    verify,
    whole_offer,
)
from exporter.probes.tls.hello import WIRE_VERSIONS, hello_for
from exporter.probes.tls.jobs import Place, ScanJob
from exporter.probes.tls.scan import scan

from real_servers import TABLE, Certificate, Row, Server, running

# When a mail server does not begin TLS, sslyze leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

S2, S3, T10, T11, T12, T13 = Protocol
ROOT: Final = Path(__file__).resolve().parents[3]
NAME: Final = "exch01.contoso.test"
CLIENT: Final = "probe.contoso.test"
LIMIT: Final = 10.0
"""Seconds that a wait may take where no wait is expected."""
SLACK: Final = 10.0
"""Seconds that a busy machine may add."""

OFFERS: Final = {
    f"{offer.protocol} {'1.0.2' if offer.legacy else '1.1.1'}": offer for each in Protocol for offer in offers(each)
}
NEW, OLD, LATEST, TEN = (OFFERS[name] for name in ("TLS 1.2 1.1.1", "TLS 1.2 1.0.2", "TLS 1.3 1.1.1", "TLS 1.0 1.0.2"))
EVERY_OFFER = pytest.mark.parametrize("offer", [pytest.param(offer, id=name) for name, offer in OFFERS.items()])
OFFERS_OF_TLS = pytest.mark.parametrize(
    "offer", [pytest.param(offer, id=name) for name, offer in OFFERS.items() if offer.protocol is not S2]
)


# The contract: what is there


def test_the_version_of_sslyze_is_one_that_we_asked_for() -> None:
    """One major version: what is used of it may change with the next."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}

    assert wanted["sslyze"].contains(metadata.version("sslyze"))
    assert not wanted["sslyze"].contains("7.0.0")
    assert not wanted["sslyze"].contains("5.99.0")


def test_a_connection_is_made_of_these_parts() -> None:
    assert [*inspect.signature(SslConnection.__init__).parameters] == [
        *("self", "server_location", "network_configuration", "tls_version", "should_ignore_client_auth"),
        *("should_use_legacy_openssl", "ca_certificates_path", "should_enable_server_name_indication"),
    ]
    assert [*inspect.signature(SslConnection.connect).parameters] == ["self", "should_retry_connection"]
    assert [*inspect.signature(SslConnection.close).parameters] == ["self"]
    assert [each.name for each in fields(ServerNetworkLocation)][:3] == ["hostname", "port", "ip_address"]
    assert {
        *("tls_server_name_indication", "tls_opportunistic_encryption", "smtp_ehlo_hostname", "network_timeout")
    } <= {each.name for each in fields(ServerNetworkConfiguration)}


@pytest.mark.parametrize("client", [SslClient, LegacySslClient])
def test_a_client_of_either_openssl_has_these_methods(client: type) -> None:
    for method in ("set_cipher_list", "get_cipher_list", "get_current_cipher_name", "get_received_chain", "write"):
        assert callable(getattr(client, method))


def test_the_newer_client_has_the_suites_of_tls_1_3_besides() -> None:
    assert [*inspect.signature(SslClient.set_ciphersuites).parameters] == ["self", "cipher_suites"]


def test_the_verifier_reads_a_file_and_verifies_a_chain() -> None:
    assert [*inspect.signature(CertificateChainVerifier.from_file).parameters] == ["trusted_certificates_path"]
    assert [*inspect.signature(CertificateChainVerifier.verify).parameters] == ["self", "certificate_chain"]


def test_the_versions_have_the_numbers_that_nassl_gives_them() -> None:
    spelled = {"SSL_2_0": "SSLV2", "SSL_3_0": "SSLV3", "TLS_1_0": "TLSV1"}
    spelled |= {"TLS_1_1": "TLSV1_1", "TLS_1_2": "TLSV1_2", "TLS_1_3": "TLSV1_3"}

    assert {each.name: OpenSslVersionEnum(each.value).name for each in TlsVersionEnum} == spelled


def test_the_errors_form_the_tree_that_their_reading_relies_on() -> None:
    """A time-out is looked for before its parents; every one says what happened."""
    for error in (
        errors.ConnectionToServerTimedOut,
        errors.ServerRejectedConnection,
        errors.ServerRejectedOpportunisticTlsNegotiation,
        errors.ServerRejectedTlsHandshake,
        errors.ServerTlsConfigurationNotSupported,
        errors.TlsHandshakeTimedOut,
    ):
        assert issubclass(error, errors.ConnectionToServerFailed)
        assert "error_message" in {each.name for each in fields(error)}
    assert not issubclass(errors.ConnectionToServerFailed, OSError)
    assert not issubclass(_nassl.OpenSSLError, OSError)


NO_ANSWERS: Final = {
    "TLS error: excessive message size",
    "TLS error: bad mac decode",
    "TLS error: no cipher match",
    "TLS error: bad decompression",
    "TLS error: peer error no cipher",
    "TLS error: no ciphers list",
    "TLS error: block type is not 01",
    "TLS error: digest check failed",
    "TLS error: Invalid encoding",
    "TLS alert: Decrypt error",
    "TLS alert: bad record mac",
    "TLS alert: Illegal padding",
    "TLS alert: Invalid padding",
    "TLS alert: certificate unknown",
    "Server returned wrong certificate type",
}
"""What sslyze counts as a refusal and we do not: it tells of something else than the version and its suites."""


def test_sslyze_still_has_the_words_that_we_look_for() -> None:
    """And no others: new ones are to be read first."""
    said = set(re.findall(r'error_message="([^"]+)"', inspect.getsource(SslConnection)))
    said |= {text.strip() for text in tls_connection._HANDSHAKE_REJECTED_TLS_ERRORS.values()}

    assert set(_REFUSALS) <= said
    assert said - set(_REFUSALS) - NO_ANSWERS == {
        *("Connection to HTTP Proxy timed out", "Connection to the HTTP proxy failed", "DH key too small"),
        *("Connection to the server timed out", "Connection to the server failed"),
        "Connection to server timed out during the TLS handshake",
    }


# Offers


def sslyze_suites(protocol: Protocol) -> set[str]:
    version = TlsVersionEnum[protocol.replace(" ", "_").replace(".", "_")]
    return {suite.name for suite in CipherSuitesRepository.get_all_cipher_suites(version)}


NOT_ASKED_FOR = {"TLS_DH_anon_WITH_CAMELLIA_128_CBC_SHA256", "TLS_DH_anon_WITH_CAMELLIA_256_CBC_SHA256"}
"""What only OpenSSL 1.1.1 has, which does not tell an anonymous suite if the server then asks for a certificate."""


def can_be_asked_for(protocol: Protocol, suite: str) -> bool:
    """SHA-256 and SHA-384 came with TLS 1.2: sslyze lists those suites for older versions, too."""
    too_new = protocol in {S3, T10, T11} and suite.endswith(("_SHA256", "_SHA384"))
    return not too_new and "_PSK_" not in suite and "_SRP_" not in suite and suite not in NOT_ASKED_FOR


@pytest.mark.parametrize("protocol", Protocol)
def test_the_offers_of_a_version_are_all_the_suites_that_sslyze_has_for_it(protocol: Protocol) -> None:
    """Each in one offer, under its IANA name, and none that needs a shared secret."""
    suites = [suite for offer in offers(protocol) for suite in offer.suites]

    assert len(suites) == len(set(suites))
    assert {suite for suite in sslyze_suites(protocol) if can_be_asked_for(protocol, suite)} == set(suites)
    assert all(re.fullmatch(r"(TLS|SSL)_[A-Za-z0-9_]+", suite) for suite in suites)
    assert not [suite for suite in suites if "PSK" in suite or "SRP" in suite]


@pytest.mark.parametrize(
    ("protocol", "least"), [(S2, 7), (S3, 80), (T10, 80), (T11, 80), (T12, 150), (T13, 5)], ids=str
)
def test_no_version_lost_many_suites(protocol: Protocol, least: int) -> None:
    """As many as there are today, roughly: an OpenSSL built without them would see nothing weak."""
    assert sum(len(offer.suites) for offer in offers(protocol)) >= least


def test_only_tls_1_2_needs_both() -> None:
    """OpenSSL 1.0.2 for what is old, 1.1.1 for TLS 1.3."""
    assert {protocol: [offer.legacy for offer in offers(protocol)] for protocol in Protocol} == {
        **{protocol: [True] for protocol in (S2, S3, T10, T11)},
        T12: [False, True],
        T13: [False],
    }


def test_todays_suites_are_asked_for_with_the_newer_openssl() -> None:
    assert {
        *("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    } <= set(NEW.suites)
    assert {"TLS_RSA_EXPORT_WITH_RC4_40_MD5", "TLS_RSA_WITH_DES_CBC_SHA"} <= set(OLD.suites)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("protocol", Protocol)
def test_a_second_opinion_offers_all_that_one_openssl_has(protocol: Protocol, *, again: bool) -> None:
    offer = whole_offer(protocol, again=again)

    assert offer.protocol is protocol
    assert len(offer.suites) == len(set(offer.suites))
    assert set(offer.suites) <= sslyze_suites(protocol)
    assert len(offer.suites) >= max(len(each.suites) for each in offers(protocol))


# Servers that do what they are told


Script = Callable[[socket.socket], None]


class Peer(socketserver.ThreadingTCPServer):
    """A server on loopback that does what its script says with every connection, in threads; a context manager."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, script: Script, address: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, 0), socketserver.BaseRequestHandler)
        self.script = script
        self.connections = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self.connections += 1
        request.settimeout(30)
        with suppress(OSError, BaseTLSException, SyntaxError):
            self.script(request)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without a word to the client beyond that: a script that wants a reset has closed already."""
        assert isinstance(request, socket.socket)
        request.close()

    def place(self, service: str = "https", name: str = NAME) -> Place:
        address, port = self.server_address[:2]
        return Place(name, str(address), int(port), service, CLIENT)


def read_hello(client: socket.socket) -> bytes:
    """A ClientHello's record, or an SSL 2.0 one."""
    head = client.recv(2, socket.MSG_WAITALL)
    if head[0] & 0x80:
        return head + client.recv((head[0] & 0x7F) << 8 | head[1], socket.MSG_WAITALL)
    head += client.recv(3, socket.MSG_WAITALL)
    return head + client.recv(int.from_bytes(head[3:], "big"), socket.MSG_WAITALL)


def until_it_goes(client: socket.socket) -> None:
    while client.recv(4096):
        pass


def says(data: bytes) -> Script:
    """Answers a hello with this, and waits."""

    def script(client: socket.socket) -> None:
        read_hello(client)
        client.sendall(data)
        until_it_goes(client)

    return script


def closes(client: socket.socket) -> None:
    read_hello(client)


def resets(client: socket.socket) -> None:
    read_hello(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def record(payload: bytes, kind: int = 22, version: tuple[int, int] = (3, 1)) -> bytes:
    return bytes([kind, *version]) + len(payload).to_bytes(2, "big") + payload


def alert(code: int, offer: Offer = NEW, level: int = 2) -> bytes:
    """An alert in a record of the version that is offered: OpenSSL 1.0.2 reads no other."""
    return record(bytes([level, code]), kind=21, version=min(WIRE_VERSIONS[offer.protocol], (3, 3)))


def server_hello(version: tuple[int, int]) -> bytes:
    suite = CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA
    message = ServerHello().create(version, bytearray(32), bytearray(32), suite)
    return record(bytes(message.write()), version=version)


def outcome_of(script: Script, offer: Offer = NEW, service: str = "https", limit: float = LIMIT) -> Outcome:
    """One handshake with a server of this script: one connection, never an exception, never beyond the limit."""
    with Peer(script) as peer:
        started = time.monotonic()
        outcome = shake_hands(peer.place(service), offer, limit)
        assert time.monotonic() - started < limit + SLACK
        assert peer.connections == 1
    return outcome


def refused(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Refused), outcome
    assert outcome.detail
    return outcome.reason


def unclear(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Unclear), outcome
    assert outcome.detail
    return outcome.reason


@EVERY_OFFER
def test_a_connection_closed_after_the_hello_is_a_refusal(offer: Offer) -> None:
    assert refused(outcome_of(closes, offer)) is Reason.CONNECTION_CLOSED


@EVERY_OFFER
def test_a_connection_reset_after_the_hello_is_a_refusal(offer: Offer) -> None:
    assert refused(outcome_of(resets, offer)) is Reason.CONNECTION_RESET


@pytest.mark.parametrize("code", [10, 40, 47, 50, 70, 71, 80])
@OFFERS_OF_TLS
def test_an_alert_that_a_server_refuses_with_is_a_refusal(offer: Offer, code: int) -> None:
    assert refused(outcome_of(says(alert(code, offer)), offer)) is Reason.TLS_ALERT


@pytest.mark.parametrize("code", [21, 48, 49, 90, 112])
@OFFERS_OF_TLS
def test_an_alert_that_tells_of_something_else_is_no_answer(offer: Offer, code: int) -> None:
    """112 most of all, for a name that the server does not know: sslyze's own scans do not expect it."""
    assert unclear(outcome_of(says(alert(code, offer)), offer)) is Reason.TLS_ALERT


@pytest.mark.parametrize("code", [40, 70])
@OFFERS_OF_TLS
def test_a_refusal_in_a_record_of_another_version_is_a_refusal(offer: Offer, code: int) -> None:
    """Servers differ in what they write there. OpenSSL 1.0.2 reads no further then, and says wrong version."""
    for version in ((3, 0), (3, 1), (3, 3)):
        said = record(bytes([2, code]), kind=21, version=version)
        assert refused(outcome_of(says(said), offer)) in {Reason.TLS_ALERT, Reason.WRONG_VERSION}


@pytest.mark.parametrize("offer", [NEW, TEN, LATEST], ids=lambda offer: offer.protocol)
def test_every_alert_is_read_as_the_sweep_reads_it(offer: Offer) -> None:
    """A refusal for both probers, or for neither: otherwise they would contradict each other for ever."""
    differences = {}
    with Peer(closes) as peer:
        for code in range(1, 256):  # 0 says good-bye
            peer.script = says(alert(code, offer))
            shaken = shake_hands(peer.place(), offer, LIMIT)
            swept = AnswerReader(hello_for(offer.protocol, NAME)).feed(alert(code, offer))
            if type(swept) is not type(shaken):
                differences[code] = (swept, shaken)

    assert differences == {}


@OFFERS_OF_TLS
def test_close_notify_after_the_hello_is_a_connection_closed(offer: Offer) -> None:
    assert refused(outcome_of(says(alert(0, offer, level=1)), offer)) is Reason.CONNECTION_CLOSED


HTTP: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<h1>Bad Request</h1>"


@OFFERS_OF_TLS
def test_plain_http_is_not_accepted(offer: Offer) -> None:
    """OpenSSL takes it for a record of another version. It is no refusal: nobody knows what is behind it."""
    assert unclear(outcome_of(says(HTTP), offer)) is Reason.NOT_TLS


@pytest.mark.parametrize("record", [0x0300, 0x0301, 0x0302, 0x0303])
@OFFERS_OF_TLS
def test_alert_112_is_no_refusal_in_whatever_record_it_comes(offer: Offer, record: int) -> None:
    """OpenSSL says "wrong version number" of it where the record is marked with another version."""
    said = bytes([0x15]) + record.to_bytes(2, "big") + bytes([0, 2, 2, 112])

    assert unclear(outcome_of(says(said), offer)) is Reason.TLS_ALERT


@OFFERS_OF_TLS
def test_half_an_answer_is_no_refusal(offer: Offer) -> None:
    """It hung up in the middle of something: that says nothing about the version."""

    def breaks_off(client: socket.socket) -> None:
        read_hello(client)
        client.sendall(alert(70)[:4])

    assert unclear(outcome_of(breaks_off, offer)) is Reason.NOT_TLS


@pytest.mark.parametrize("answered", [S3, T10, T11])
@pytest.mark.parametrize("offer", [NEW, OLD, LATEST], ids=lambda offer: f"{offer.protocol} {offer.legacy}")
def test_a_lower_version_in_the_answer_is_a_refusal(offer: Offer, answered: Protocol) -> None:
    assert refused(outcome_of(says(server_hello(WIRE_VERSIONS[answered])), offer)) is Reason.WRONG_VERSION


def test_tls_1_2_in_answer_to_tls_1_3_is_a_refusal() -> None:
    assert refused(outcome_of(says(server_hello((3, 3))), LATEST)) is Reason.WRONG_VERSION


def test_a_suite_that_was_not_offered_is_no_answer() -> None:
    offer = replace(NEW, suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",))

    assert unclear(outcome_of(says(server_hello((3, 3))), offer)) is Reason.NOT_TLS


def test_nobody_at_the_port_is_no_answer() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, so that nobody else is there either
        place = Place(NAME, "127.0.0.1", nobody.getsockname()[1], "https", CLIENT)

        assert unclear(shake_hands(place, NEW, LIMIT)) is Reason.TCP_REFUSED


def test_no_way_to_the_address_is_no_answer() -> None:
    """The broadcast address of the loopback network: the system refuses to try."""
    place = Place(NAME, "127.255.255.255", 443, "https", CLIENT)

    assert unclear(shake_hands(place, NEW, LIMIT)) is Reason.TCP_UNREACHABLE


def test_one_server_says_nothing_about_the_next(certificate: Certificate) -> None:
    """OpenSSL keeps a queue of errors: what one handshake leaves there must not become the answer of the next."""
    scripts: tuple[tuple[Script, type[Refused | Unclear], Reason], ...] = (
        (says(alert(48)), Unclear, Reason.TLS_ALERT),
        (closes, Refused, Reason.CONNECTION_CLOSED),
        (says(HTTP), Unclear, Reason.NOT_TLS),
        (says(alert(40)), Refused, Reason.TLS_ALERT),
        (resets, Refused, Reason.CONNECTION_RESET),
    )
    for offer in (NEW, OLD, LATEST):
        for script, kind, reason in scripts * 2:
            with pytest.raises(ValueError):
                verify(["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], certificate.chain)
            outcome = outcome_of(script, offer)
            assert (type(outcome), getattr(outcome, "reason", None)) == (kind, reason)


# What goes over the wire


@contextmanager
def listening() -> Iterator[tuple[Peer, list[bytes]]]:
    """A server that writes down the hellos that it is sent, and closes."""
    heard: list[bytes] = []
    with Peer(lambda client: heard.append(read_hello(client))) as peer:
        yield peer, heard


def parsed(hello: bytes) -> ClientHello:
    return ClientHello().parse(Parser(bytearray(hello[6:])))


def suites_in(hello: ClientHello) -> list[int]:
    signalling = {CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV, CipherSuite.TLS_FALLBACK_SCSV}
    return [suite for suite in hello.cipher_suites if suite not in signalling]


@OFFERS_OF_TLS
def test_exactly_the_version_is_offered(offer: Offer) -> None:
    with listening() as (peer, heard):
        shake_hands(peer.place(), offer, LIMIT)
    (hello,) = map(parsed, heard)
    extension = hello.getExtension(ExtensionType.supported_versions)

    assert hello.client_version == min(WIRE_VERSIONS[offer.protocol], (3, 3))
    assert (list(extension.versions) if extension else None) == ([(3, 4)] if offer.protocol is T13 else None)


@pytest.mark.parametrize("offer", [NEW, OLD, LATEST], ids=lambda offer: f"{offer.protocol} {offer.legacy}")
def test_every_suite_of_an_offer_is_in_the_hello(offer: Offer) -> None:
    """OpenSSL leaves out without a word what its security level forbids: a server that accepts it would look sound."""
    with listening() as (peer, heard):
        shake_hands(peer.place(), offer, LIMIT)
    (hello,) = map(parsed, heard)

    assert len(suites_in(hello)) == len(offer.suites)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("protocol", [each for each in Protocol if each is not S2])
def test_a_second_opinion_fits_into_a_hello(protocol: Protocol, *, again: bool) -> None:
    with listening() as (peer, heard):
        shake_hands(peer.place(), whole_offer(protocol, again=again), LIMIT)
    (hello,) = map(parsed, heard)

    assert len(suites_in(hello)) >= 5


@EVERY_OFFER
def test_every_suite_can_be_asked_for_by_itself(offer: Offer) -> None:
    """As it is where the server's Diffie-Hellman key is small. What our side cannot offer must not end a scan."""
    with Peer(closes) as peer:
        outcomes = {suite: shake_hands(peer.place(), replace(offer, suites=(suite,)), LIMIT) for suite in offer.suites}

    assert {suite: outcome for suite, outcome in outcomes.items() if not isinstance(outcome, Refused)} == {}


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("exch01.contoso.test", b"exch01.contoso.test"),
        ("exch01.contoso.test.", b"exch01.contoso.test"),
        ("EXCH01", b"EXCH01"),
        ("büro.contoso.test", b"xn--bro-hoa.contoso.test"),
        ("127.0.0.1", None),
        ("192.0.2.1", None),
        ("::1", None),
    ],
)
@pytest.mark.parametrize("offer", [NEW, OLD, LATEST, TEN], ids=lambda offer: f"{offer.protocol} {offer.legacy}")
def test_a_name_is_sent_as_sni_and_an_address_never(offer: Offer, name: str, sent: bytes | None) -> None:
    """As the sweep does: RFC 6066 wants names in ASCII, without the dot at the end, and no addresses."""
    with listening() as (peer, heard):
        assert refused(shake_hands(peer.place(name=name), offer, LIMIT)) is Reason.CONNECTION_CLOSED
    (hello,) = map(parsed, heard)
    extension = hello.getExtension(ExtensionType.server_name)

    assert ([bytes(each) for each in extension.hostNames] if extension else None) == ([sent] if sent else None)


@dataclass
class Resolver:
    """Stands in for ``socket.getaddrinfo``; it answers for addresses only."""

    real: Callable[..., object]
    asked: list[str]

    def __call__(self, host: str, *args: object, **kwargs: object) -> object:
        self.asked.append(host)
        assert host in {"127.0.0.1", "::1"}, f"{host} was looked up"
        return self.real(host, *args, **kwargs)


@pytest.mark.parametrize("service", ["https", "smtp", "imap", "pop3"])
def test_no_name_is_looked_up(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is the one that the sweep pinned; what servers and clients are called is no question for DNS."""
    resolver = Resolver(socket.getaddrinfo, [])
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(socket, "getfqdn", resolver)
    monkeypatch.setattr(socket, "gethostbyname", resolver)
    with Peer(lambda client: client.sendall(b"554 no\r\n")) as peer:
        shake_hands(peer.place(service), NEW, LIMIT)

    assert resolver.asked == ["127.0.0.1"]


def test_an_ipv6_address_is_connected_to() -> None:
    with Peer(says(alert(70)), "::1") as peer:
        assert refused(shake_hands(peer.place(), NEW, LIMIT)) is Reason.TLS_ALERT
        assert peer.connections == 1


# Mail servers


@dataclass
class Mail:
    """A mail server that gives these replies, the first unasked, then does what is told and waits.

    Attributes:
        replies: what it says, one for each line that it hears.
        then: what it does after the last.
        heard: the lines that it heard.
    """

    replies: tuple[bytes, ...]
    then: Script
    heard: list[bytes]

    def __call__(self, client: socket.socket) -> None:
        for number, reply in enumerate(self.replies):
            if number:
                self.heard.append(self._line(client))
            client.sendall(reply)
        self.then(client)

    def _line(self, client: socket.socket) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = client.recv(1)
            if not byte:
                raise ConnectionError
            line += byte
        return line


GREETING, EHLO, GO_AHEAD = b"220 mail ESMTP\r\n", b"250-mail\r\n250-SIZE\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"


def mail(*replies: bytes, then: Script = until_it_goes) -> Mail:
    return Mail(replies, then, [])


@pytest.mark.parametrize(
    "server",
    [
        pytest.param(mail(b"421 4.3.2 too many connections\r\n"), id="421 in greeting"),
        pytest.param(mail(b"554 5.7.1 go away\r\n"), id="554 in greeting"),
        pytest.param(mail(b"554 refus\xe9\r\n"), id="554 in greeting, no UTF-8"),
        pytest.param(mail(GREETING, b"554 5.5.2 no\r\n"), id="EHLO 554"),
        pytest.param(mail(GREETING, b"554 refus\xe9\r\n"), id="EHLO 554, no UTF-8"),
        pytest.param(mail(GREETING, b"421 slow down\r\n"), id="EHLO 421"),
        pytest.param(mail(GREETING, b"250-mail\r\n250 SIZE\r\n"), id="no STARTTLS"),
        pytest.param(mail(GREETING, b"250-m\xe9l\r\n250 SIZE\r\n"), id="no STARTTLS, no UTF-8"),
        pytest.param(mail(GREETING, EHLO, b"454 4.7.0 not now\r\n"), id="STARTTLS 454"),
        pytest.param(mail(GREETING, EHLO, b"454 pas d\xe9sol\xe9\r\n"), id="STARTTLS 454, no UTF-8"),
        pytest.param(mail(b"220-" + b"x" * 100_000 + b"\r\n"), id="endless line"),
        pytest.param(mail(b"\xff\xfe\x00\r\n"), id="garbage"),
        pytest.param(mail(HTTP), id="HTTP"),
        pytest.param(mail(then=lambda _: None), id="closes at once"),
        pytest.param(mail(GREETING, then=lambda _: None), id="closes after greeting"),
        pytest.param(mail(GREETING, EHLO, then=lambda _: None), id="closes after EHLO"),
    ],
)
def test_an_smtp_server_that_does_not_begin_tls_is_no_answer(server: Mail) -> None:
    """Among them the one whose words are no UTF-8, which sslyze's own scanner waits for for ever."""
    assert unclear(outcome_of(server, service="smtp")) is Reason.STARTTLS_REFUSED
    assert server.heard[:1] in ([], [f"ehlo {CLIENT}\r\n".encode()])


@pytest.mark.parametrize(
    ("service", "server"),
    [
        pytest.param("imap", mail(b"* OK ready\r\n", b". NO not here\r\n"), id="IMAP NO"),
        pytest.param("imap", mail(b"* OK ready\r\n", b". BAD what?\r\n"), id="IMAP BAD"),
        pytest.param("imap", mail(b"* OK pr\xeat\r\n", b". NO d\xe9sol\xe9\r\n"), id="IMAP NO, no UTF-8"),
        pytest.param("imap", mail(b"* BYE busy\r\n", then=lambda _: None), id="IMAP BYE"),
        pytest.param("pop3", mail(b"+OK ready\r\n", b"-ERR not here\r\n"), id="POP3 ERR"),
        pytest.param("pop3", mail(b"+OK pr\xeat\r\n", b"-ERR d\xe9sol\xe9\r\n"), id="POP3 ERR, no UTF-8"),
        pytest.param("pop3", mail(b"-ERR busy\r\n", b"-ERR busy\r\n"), id="POP3 ERR in greeting"),
        pytest.param("pop3", mail(b"+OK ready\r\n", then=lambda _: None), id="POP3 closes"),
    ],
)
def test_an_imap_or_pop3_server_that_does_not_begin_tls_is_no_answer(service: str, server: Mail) -> None:
    assert unclear(outcome_of(server, service=service)) in {Reason.STARTTLS_REFUSED, Reason.TCP_REFUSED}


GO_AHEADS: Final = {
    "smtp": (GREETING, EHLO, GO_AHEAD),
    "imap": (b"* OK ready\r\n", b". OK go ahead\r\n"),
    "pop3": (b"+OK ready\r\n", b"+OK go ahead\r\n"),
}


@pytest.mark.parametrize("service", GO_AHEADS)
def test_what_a_mail_server_does_after_starttls_is_an_answer(service: str) -> None:
    replies = GO_AHEADS[service]

    assert refused(outcome_of(mail(*replies, then=closes), service=service)) is Reason.CONNECTION_CLOSED
    assert refused(outcome_of(mail(*replies, then=resets), service=service)) is Reason.CONNECTION_RESET
    assert refused(outcome_of(mail(*replies, then=says(alert(70))), service=service)) is Reason.TLS_ALERT
    assert unclear(outcome_of(mail(*replies, then=says(alert(48))), service=service)) is Reason.TLS_ALERT


# Silence, which takes its time: everything that waits is tried at the same time


@dataclass(frozen=True)
class Case:
    """A server that leaves the client waiting, in most cases."""

    script: Script
    offer: Offer = NEW
    service: str = "https"


GARBAGE: Final = {
    "HTTP": HTTP,
    "zeros": bytes(200),
    "ones": b"\xff" * 200,
    "all bytes": bytes(range(256)),
    "one byte": b"\x16",
    "half a record": b"\x16\x03\x03\x40\x00abc",
    "a huge record": b"\x16\x03\x03\xff\xff" + b"a" * 70_000,
}
SILENT: Final = {
    **{f"after the hello, {name}": Case(until_it_goes, offer) for name, offer in OFFERS.items()},
    **{
        f"after a warning, {name}": Case(says(alert(112, offer, level=1)), offer)
        for name, offer in OFFERS.items()
        if offer.protocol is not S2
    },
    "in the middle of a ServerHello": Case(says(server_hello((3, 1))[:20]), TEN),
    "after a ServerHello": Case(says(server_hello((3, 1))), TEN),
    "smtp, at once": Case(mail(), service="smtp"),
    "smtp, after the greeting": Case(mail(GREETING), service="smtp"),
    "smtp, after EHLO": Case(mail(GREETING, EHLO), service="smtp"),
    "smtp, after STARTTLS": Case(mail(*GO_AHEADS["smtp"]), service="smtp"),
    "imap, at once": Case(mail(), service="imap"),
    "imap, after the greeting": Case(mail(b"* OK ready\r\n"), service="imap"),
    "imap, after STARTTLS": Case(mail(*GO_AHEADS["imap"]), service="imap"),
    "pop3, at once": Case(mail(), service="pop3"),
    "pop3, after STLS": Case(mail(*GO_AHEADS["pop3"]), service="pop3"),
}
BABBLING: Final = {
    f"{garbage}, {name}": Case(says(data), offer) for garbage, data in GARBAGE.items() for name, offer in OFFERS.items()
}


@pytest.fixture(scope="module")
def ended() -> Mapping[str, Outcome]:
    """What came of each of these, with a second for each wait."""
    cases = {**SILENT, **BABBLING}
    with ThreadPoolExecutor(len(cases)) as pool:
        done = pool.map(lambda case: outcome_of(case.script, case.offer, case.service, 1.0), cases.values())
        return dict(zip(cases, done, strict=True))


@pytest.mark.parametrize("name", SILENT)
def test_silence_ends_within_the_limit_and_is_no_answer(name: str, ended: Mapping[str, Outcome]) -> None:
    """At whatever step, and whatever was said before."""
    assert unclear(ended[name]) is Reason.TLS_TIMEOUT


@pytest.mark.parametrize("name", BABBLING)
def test_garbage_is_never_accepted(name: str, ended: Mapping[str, Outcome]) -> None:
    assert isinstance(ended[name], Refused | Unclear)


def test_a_limit_is_not_rounded_up() -> None:
    """sslyze counts in whole seconds; the end of a scan's time does not."""
    started = time.monotonic()

    assert unclear(outcome_of(until_it_goes, limit=0.01)) is Reason.TLS_TIMEOUT
    assert time.monotonic() - started < 0.9


# Complete handshakes


@dataclass
class Tls:
    """A script that makes a handshake with tlslite-ng, and writes down what it hears inside.

    Attributes:
        certificate: what it presents.
        settings: the versions and suites that it accepts.
        before: what it does before TLS; whether to go on.
        heard: what it heard inside TLS, for each connection.
    """

    certificate: Certificate
    settings: HandshakeSettings
    before: Callable[[socket.socket], object]
    heard: list[bytes]

    def __call__(self, client: socket.socket) -> None:
        chain = X509CertChain()
        chain.parsePemList(self.certificate.chain_pem.decode())
        key = parsePEMKey(self.certificate.key_pem.decode(), private=True)
        self.before(client)
        connection = TLSConnection(client)
        connection.handshakeServer(certChain=chain, privateKey=key, settings=self.settings, alpn=[b"http/1.1"])
        self.heard.append(b"")
        with suppress(OSError, BaseTLSException):
            while data := connection.read(max=100):
                self.heard[-1] += bytes(data)


def tls(
    certificate: Certificate, *versions: Protocol, before: Callable[[socket.socket], object] = lambda _: None
) -> Tls:
    accepted = HandshakeSettings()
    wire = sorted(WIRE_VERSIONS[version] for version in versions or (T12,))
    accepted.minVersion, accepted.maxVersion, accepted.versions = wire[0], wire[-1], wire[::-1]
    if wire[0] == (3, 4):  # it refuses to start with groups that TLS 1.3 does not have
        accepted.eccCurves = ["x25519", "secp256r1", "secp384r1", "secp521r1"]
    return Tls(certificate, accepted, before, [])


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it comes true: a server's thread takes its time."""
    limit = time.monotonic() + SLACK
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize("protocol", [S3, T10, T11, T12, T13])
def test_a_complete_handshake_names_the_suite_and_the_certificate(protocol: Protocol, certificate: Certificate) -> None:
    with Peer(tls(certificate, protocol)) as peer:
        outcome = shake_hands(peer.place(), offers(protocol)[0], LIMIT)

    assert isinstance(outcome, Agreed)
    assert outcome.suite in offers(protocol)[0].suites
    assert [each.split() for each in outcome.chain] == [certificate.chain_pem.decode().split()]


def test_only_the_offered_suites_are_chosen(certificate: Certificate) -> None:
    for suite in ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"):
        with Peer(tls(certificate)) as peer:
            outcome = shake_hands(peer.place(), replace(NEW, suites=(suite,)), LIMIT)
        assert isinstance(outcome, Agreed)
        assert outcome.suite == suite


@pytest.mark.parametrize("protocol", [T10, T12, T13])
@pytest.mark.parametrize(
    ("service", "farewell"), [("smtp", b"QUIT\r\n"), ("imap", b". LOGOUT\r\n"), ("pop3", b"QUIT\r\n")]
)
def test_a_mail_server_is_left_politely(
    service: str, farewell: bytes, protocol: Protocol, certificate: Certificate
) -> None:
    """So that its log does not fill with clients that broke off."""
    script = tls(certificate, protocol, before=mail(*GO_AHEADS[service], then=lambda _: None))
    with Peer(script) as peer:
        assert isinstance(shake_hands(peer.place(service), offers(protocol)[0], LIMIT), Agreed)
        assert eventually(lambda: script.heard == [farewell])


def test_the_demo_server_is_left_politely(certificate: Certificate) -> None:
    script = tls(certificate, before=begin_tls)
    with Peer(script) as peer:
        assert isinstance(shake_hands(peer.place("smtp"), NEW, LIMIT), Agreed)
        assert eventually(lambda: script.heard == [b"QUIT\r\n"])


@pytest.mark.parametrize("service", ["https", "tls"])
def test_other_servers_hear_nothing_inside_tls(service: str, certificate: Certificate) -> None:
    script = tls(certificate)
    with Peer(script) as peer:
        assert isinstance(shake_hands(peer.place(service), NEW, LIMIT), Agreed)
        assert eventually(lambda: script.heard == [b""])


def small_key(certificate: Certificate, protocol: Protocol) -> Tls:
    """A server with a Diffie-Hellman key of 512 bits, and four suites."""
    numbers = dh.generate_parameters(generator=2, key_size=512).parameter_numbers()
    script = tls(certificate, protocol)
    script.settings.dhParams = (numbers.g, numbers.p)
    script.settings.keyExchangeNames = ["dhe_rsa", "rsa"]
    script.settings.cipherNames = ["aes128", "aes256"]
    script.settings.macNames = ["sha"]
    return script


SMALL_KEY_SUITES: Final = {f"TLS_{kx}_WITH_AES_{bits}_CBC_SHA" for kx in ("DHE_RSA", "RSA") for bits in (128, 256)}


@pytest.mark.parametrize("offer", [OLD, TEN], ids=lambda offer: offer.protocol)
def test_a_small_key_is_told_from_a_refusal(offer: Offer, certificate: Certificate) -> None:
    suites = tuple(suite for suite in offer.suites if suite.startswith("TLS_DHE_RSA_WITH_AES_"))
    with Peer(small_key(certificate, offer.protocol)) as peer:
        assert shake_hands(peer.place(), replace(offer, suites=suites), LIMIT) == WeakKey()


@pytest.mark.parametrize("protocol", [S3, T10, T11, T12])
def test_behind_a_small_key_all_suites_are_found(protocol: Protocol, certificate: Certificate) -> None:
    with Peer(small_key(certificate, protocol)) as peer:
        place = peer.place()
        job = ScanJob(place, (protocol,), certificates=False, cipher_suites=True, connections=400)
        found = scan(job, 60.0, partial(shake_hands, place))

    fact = found.cipher_suites[protocol]
    assert isinstance(fact, Known), fact
    assert set(fact.value) == SMALL_KEY_SUITES


# Real servers


EVERYTHING: Final = "ALL:COMPLEMENTOFALL:-PSK:-SRP:@SECLEVEL=0"


def openssl(protocol: Protocol, certificate: str, *options: str) -> Row:
    """A server with every suite that OpenSSL has."""
    version = f"-{protocol.lower().replace(' ', '').removesuffix('.0').replace('.', '_')}"
    return Row(frozenset({protocol}), "openssl", (version, "-cipher", EVERYTHING, *options), certificate=certificate)


SERVERS: Final[Mapping[str, Row]] = {
    "client-certificate": TABLE["openssl-client-certificate"],
    "ipv6": TABLE["openssl-ipv6"],
    **{f"{protocol} {kind}": openssl(protocol, kind) for protocol in (T10, T11, T12) for kind in ("rsa", "ecdsa")},
    "TLS 1.2 rsa, own order": openssl(T12, "rsa", "-serverpref"),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, Server]]:
    with running(SERVERS) as started:
        yield started


def place_of(server: Server) -> Place:
    return Place("localhost", server.row.address, server.port, server.row.service, CLIENT)


@pytest.mark.parametrize("protocol", [T10, T11, T12, T13])
def test_a_server_that_wants_a_client_certificate_is_seen_all_the_same(
    protocol: Protocol, servers: Mapping[str, Server]
) -> None:
    """It ends the handshake after it chose a suite and showed its certificate."""
    outcome = shake_hands(place_of(servers["client-certificate"]), offers(protocol)[0], LIMIT)

    assert isinstance(outcome, Agreed)
    assert len(outcome.chain) == 1


def test_a_server_on_ipv6_is_seen(servers: Mapping[str, Server]) -> None:
    assert isinstance(shake_hands(place_of(servers["ipv6"]), NEW, LIMIT), Agreed)


def configured(protocol: Protocol, certificate: str) -> set[str]:
    """What OpenSSL says of itself that such a server accepts, by the names of IANA."""
    version = f"-{protocol.lower().replace(' ', '').removesuffix('.0').replace('.', '_')}"
    listed = subprocess.run(
        ["openssl", "ciphers", "-s", version, "-stdname", EVERYTHING],
        capture_output=True,
        check=True,
        text=True,
        env={"OPENSSL_CONF": "/dev/null", "PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    names = {line.split()[0] for line in listed.stdout.splitlines()}
    foreign = "_RSA_" if certificate == "ecdsa" else "_ECDSA_"
    return {name for name in names if foreign not in name and "_DSS_" not in name}


@pytest.mark.parametrize("name", [name for name in SERVERS if name.startswith("TLS")])
def test_a_scan_finds_exactly_what_a_real_server_accepts(name: str, servers: Mapping[str, Server]) -> None:
    """Without encryption and without certificates, too: those are the ones that matter."""
    server = servers[name]
    (protocol,) = server.row.accepted
    place = place_of(server)
    job = ScanJob(place, (protocol,), certificates=False, cipher_suites=True, connections=400)
    fact = scan(job, 60.0, partial(shake_hands, place)).cipher_suites[protocol]
    truth = configured(protocol, server.row.certificate) - NOT_ASKED_FOR

    assert isinstance(fact, Known), fact
    assert {"not found": truth - set(fact.value), "found too much": set(fact.value) - truth} == {
        "not found": set(),
        "found too much": set(),
    }
