"""Complete handshakes, with sslyze's own OpenSSL: the only importer of sslyze and nassl, and only in child processes.

Of sslyze we use one thing, `SslConnection`: one handshake with one version. Its scan commands cost 535 connections an
endpoint, turn a stall into "not supported", and may never return (sslyze issues 718 and 628). `SslConnection` is no
part of sslyze's published interface: tests/probes/tls/test_handshake.py says what we rely on.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from nassl import _nassl
from nassl.cert_chain_verifier import CertificateChainVerificationFailed, CertificateChainVerifier
from nassl.legacy_ssl_client import LegacySslClient
from nassl.ssl_client import BaseSslClient, OpenSslVersionEnum, SslClient
from sslyze.connection_helpers.opportunistic_tls_helpers import ProtocolWithOpportunisticTlsEnum as StartTls
from sslyze.connection_helpers.tls_connection import SslConnection
from sslyze.errors import (
    ConnectionToServerFailed,
    ConnectionToServerTimedOut,
    ServerRejectedConnection,
    ServerRejectedOpportunisticTlsNegotiation,
    ServerRejectedTlsHandshake,
    ServerTlsConfigurationNotSupported,
    TlsHandshakeTimedOut,
)
from sslyze.plugins.openssl_cipher_suites.cipher_suites import CipherSuitesRepository
from sslyze.server_connectivity import TlsVersionEnum
from sslyze.server_setting import ServerNetworkConfiguration, ServerNetworkLocation

from exporter.facts import Protocol, Reason
from exporter.probes.printable import printable
from exporter.probes.tls.answer import MAX_ANSWER, REFUSALS, AnswerReader, Refused, Unclear
from exporter.probes.tls.hello import Hello, ascii_name, hello_for, is_name
from exporter.probes.tls.jobs import Place

_VERSIONS: Final = {
    Protocol.SSL_2_0: TlsVersionEnum.SSL_2_0,
    Protocol.SSL_3_0: TlsVersionEnum.SSL_3_0,
    Protocol.TLS_1_0: TlsVersionEnum.TLS_1_0,
    Protocol.TLS_1_1: TlsVersionEnum.TLS_1_1,
    Protocol.TLS_1_2: TlsVersionEnum.TLS_1_2,
    Protocol.TLS_1_3: TlsVersionEnum.TLS_1_3,
}
_START_TLS: Final = {"smtp": StartTls.SMTP, "imap": StartTls.IMAP, "pop3": StartTls.POP3}
_FAREWELLS: Final = {"smtp": b"QUIT\r\n", "imap": b". LOGOUT\r\n", "pop3": b"QUIT\r\n"}


@dataclass(frozen=True, slots=True)
class Offer:
    """A version to offer by itself, and with which cipher suites.

    Attributes:
        protocol: the version.
        legacy: whether to use OpenSSL 1.0.2 (up to TLS 1.2) rather than 1.1.1 (TLS 1.2 and 1.3).
        suites: the suites, by their IANA names.
    """

    protocol: Protocol
    legacy: bool
    suites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreed:
    """The server chose a suite.

    Attributes:
        suite: the cipher suite that the server chose, by its IANA name.
        chain: the certificates that it presented, PEM, its own first.
        ended: what ended the handshake after that; None if it was completed. A server that insists on a certificate of
            ours ends it after presenting its own.
    """

    suite: str
    chain: tuple[str, ...]
    ended: Refused | Unclear | None = None


@dataclass(frozen=True, slots=True)
class WeakKey:
    """The server chose a suite of those offered, but OpenSSL finds its Diffie-Hellman key too small to go on."""


Outcome: TypeAlias = Agreed | WeakKey | Refused | Unclear

Connect: TypeAlias = Callable[[Offer, float], Outcome]
"""`shake_hands` with a place, or a test's stand-in: given an offer and the seconds that any one wait may take."""


def offers(protocol: Protocol) -> tuple[Offer, ...]:
    """Every suite of a version that can be tried, in one offer for each OpenSSL that is needed.

    For TLS 1.2 that is both. OpenSSL 1.1.1 knows the newer suites, and the curves and signatures that go with ephemeral
    elliptic curves; OpenSSL 1.0.2 knows the weak ones, and tells which it is even where the handshake fails later.
    """
    if protocol is Protocol.TLS_1_3:
        return (Offer(protocol, legacy=False, suites=_IANA_1_3),)
    legacy = tuple(_openssl_names(protocol, legacy=True))
    if protocol is not Protocol.TLS_1_2:
        older = tuple(name for name in legacy if not name.endswith(("_SHA256", "_SHA384")))  # those came with TLS 1.2
        return (Offer(protocol, legacy=True, suites=older),)
    modern = tuple(
        name
        for name in _openssl_names(protocol, legacy=False)
        if "_anon_" not in name and (name.startswith("TLS_ECDHE_") or name not in legacy)
    )
    rest = tuple(name for name in legacy if name not in modern)
    return Offer(protocol, legacy=False, suites=modern), Offer(protocol, legacy=True, suites=rest)


def whole_offer(protocol: Protocol, *, again: bool) -> Offer:
    """What to offer to find out whether a version is accepted: all of one OpenSSL's suites, next time the other's."""
    if protocol is not Protocol.TLS_1_2:
        return offers(protocol)[0]
    return Offer(protocol, legacy=again, suites=tuple(_openssl_names(protocol, legacy=again)))


_IANA_1_3: Final = tuple(
    sorted(suite.name for suite in CipherSuitesRepository.get_all_cipher_suites(TlsVersionEnum.TLS_1_3))
)


@cache
def _openssl_names(protocol: Protocol, *, legacy: bool) -> Mapping[str, str]:
    """Per suite that one OpenSSL has for a version, by its IANA name, the name that OpenSSL has for it.

    In that OpenSSL's own order, the stronger first. PSK and SRP need secrets, and nobody's Exchange has them.
    """
    known = {
        suite.openssl_name: suite.name for suite in CipherSuitesRepository.get_all_cipher_suites(_VERSIONS[protocol])
    }
    client = (LegacySslClient if legacy else SslClient)(ssl_version=OpenSslVersionEnum(_VERSIONS[protocol].value))
    client.set_cipher_list("ALL:COMPLEMENTOFALL:-PSK:-SRP")
    return {known[name]: name for name in client.get_cipher_list() if name in known}


def shake_hands(place: Place, offer: Offer, limit: float) -> Outcome:
    """Connect, ask for TLS where that is needed, and make one handshake.

    Args:
        place: the endpoint.
        offer: what to offer.
        limit: seconds that any one wait may take. A server that trickles takes longer: the child's timer sees to that.

    Returns:
        What came of it. A refusal is what the server said or did after our hello, and no more than that.
    """
    connection = _connection(place, offer, limit)
    client = connection.ssl_client
    heard = _listen_in(client)
    try:
        connection.connect(should_retry_connection=False)
    except ServerTlsConfigurationNotSupported:
        return WeakKey()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - sslyze lets through whatever came up; none of it is an answer
        outcome = _why_not(error)
        suite = client.get_current_cipher_name()
        if suite and outcome.reason is not Reason.TLS_TIMEOUT:
            return Agreed(_iana_name(offer, suite), _chain(client), outcome)
        return _doubted(outcome, heard, hello_for(offer.protocol, place.server_name))
    else:
        _take_leave(client, place.service)
        return Agreed(_iana_name(offer, client.get_current_cipher_name()), _chain(client))
    finally:
        with contextlib.suppress(Exception):
            connection.close()


class _Ear:
    """A socket that remembers what came in first."""

    def __init__(self, sock: socket.socket, heard: bytearray) -> None:
        self._sock = sock
        self._heard = heard

    def recv(self, size: int) -> bytes:
        data = self._sock.recv(size)
        self._heard += data[: MAX_ANSWER - len(self._heard)]
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _listen_in(client: BaseSslClient) -> bytearray:
    """What the server will have said after our hello. Before it, STARTTLS has a socket of its own."""
    heard = bytearray()
    take = client.set_underlying_socket
    client.set_underlying_socket = lambda sock: take(_Ear(sock, heard))  # type: ignore[method-assign, arg-type]
    return heard


def _doubted(outcome: Refused | Unclear, heard: bytearray, hello: Hello) -> Refused | Unclear:
    """What a refusal comes to, given the bytes that it was: "wrong version number" is OpenSSL's word for any of them.

    HTTP, half an answer, an alert about something else are no refusals of the version.
    """
    if isinstance(outcome, Unclear):
        return outcome
    reader = AnswerReader(hello)
    answer = (reader.feed(bytes(heard)) if heard else None) or reader.ended(Reason.CONNECTION_CLOSED)
    if isinstance(answer, Refused):
        return replace(outcome, explicit=answer.explicit)
    said = answer.detail if isinstance(answer, Unclear) else "the version was chosen"
    return Unclear(answer.reason if isinstance(answer, Unclear) else outcome.reason, f"{outcome.detail}: {said}")


def _connection(place: Place, offer: Offer, limit: float) -> SslConnection:
    start_tls = _START_TLS.get(place.service)
    connection = SslConnection(
        server_location=ServerNetworkLocation(place.server_name, place.port, place.address),
        network_configuration=ServerNetworkConfiguration(
            tls_server_name_indication=ascii_name(place.server_name),
            tls_opportunistic_encryption=start_tls,
            smtp_ehlo_hostname=place.client_name if start_tls is StartTls.SMTP else None,
            network_timeout=max(0.05, limit),  # type: ignore[arg-type]  # for socket.settimeout, which takes both
        ),
        tls_version=_VERSIONS[offer.protocol],
        should_ignore_client_auth=True,
        should_use_legacy_openssl=offer.legacy,
        should_enable_server_name_indication=is_name(place.server_name),
    )
    _set_suites(connection.ssl_client, offer)
    return connection


def _set_suites(client: BaseSslClient, offer: Offer) -> None:
    # OpenSSL 1.1.1 leaves out of its hello what its security level finds too weak, and ends handshakes for weak keys.
    level = () if offer.legacy else ("@SECLEVEL=0",)
    if isinstance(client, SslClient) and offer.protocol is Protocol.TLS_1_3:
        client.set_cipher_list(":".join(("ALL", *level)))
        client.set_ciphersuites(":".join(offer.suites))
    else:
        names = _openssl_names(offer.protocol, legacy=offer.legacy)
        client.set_cipher_list(":".join((*(names[suite] for suite in offer.suites), *level)))


def _iana_name(offer: Offer, openssl_name: str) -> str:
    if offer.protocol is Protocol.TLS_1_3:
        return openssl_name
    return next(
        name for name, other in _openssl_names(offer.protocol, legacy=offer.legacy).items() if other == openssl_name
    )


def _chain(client: Any) -> tuple[str, ...]:
    try:
        return tuple(client.get_received_chain())
    except ValueError:  # there is none: an anonymous suite
        return ()


def _take_leave(client: Any, service: str) -> None:
    """Say good-bye, so that the mail server does not log a client that broke off."""
    if service in _FAREWELLS:
        with contextlib.suppress(Exception):
            client.write(_FAREWELLS[service])


def _why_not(error: Exception) -> Refused | Unclear:
    """What follows from an exception: sslyze's own, nassl's, or whatever else a server's words set off."""
    said = printable(str(getattr(error, "error_message", error)).strip())
    if isinstance(error, ServerRejectedTlsHandshake):
        reason = _REFUSALS.get(said)
        return Refused(reason, said) if reason else Unclear(Reason.NOT_TLS, said)
    if isinstance(error, _nassl.OpenSSLError):
        return _openssl_error(said)
    kinds = ((reason, text) for kind, reason, text in _NO_ANSWERS if isinstance(error, kind))
    reason, text = next(kinds, (Reason.NOT_TLS, f"{type(error).__name__}: {said}"))
    if reason is Reason.STARTTLS_REFUSED and "timed out" in said:  # smtplib's words
        reason = Reason.TLS_TIMEOUT
    return Unclear(reason, text or said)


_NO_ANSWERS: Final = (
    (TimeoutError, Reason.TLS_TIMEOUT, "the time was over"),
    (ConnectionToServerTimedOut, Reason.TLS_TIMEOUT, "no connection, or silence before TLS"),
    (TlsHandshakeTimedOut, Reason.TLS_TIMEOUT, "connected, then silence"),
    (ServerRejectedConnection, Reason.TCP_REFUSED, ""),
    (ServerRejectedOpportunisticTlsNegotiation, Reason.STARTTLS_REFUSED, ""),
    (UnicodeError, Reason.STARTTLS_REFUSED, "the server declined in words that are not UTF-8"),
    ((ConnectionToServerFailed, OSError), Reason.TCP_UNREACHABLE, ""),
)


# What sslyze 6 says of a server that refused, and what that is. Whatever else it counts as a refusal (a bad MAC, a
# certificate that OpenSSL cannot read) is a handshake that went wrong, and says nothing about the version.
_REFUSALS: Final = {
    "Server rejected the connection": Reason.CONNECTION_RESET,
    "Server interrupted the TLS handshake": Reason.CONNECTION_CLOSED,
    "Server closed the connection during the TLS handshake": Reason.CONNECTION_CLOSED,
    "TLS alert: handshake failure": Reason.TLS_ALERT,
    "TLS alert: Internal error": Reason.TLS_ALERT,
    "TLS alert: Illegal parameter": Reason.TLS_ALERT,
    "TLS alert: Decode error": Reason.TLS_ALERT,
    "TLS error: insufficient security": Reason.TLS_ALERT,
    "TLS alert: protocol version": Reason.TLS_ALERT,
    "TLS error: wrong version number": Reason.WRONG_VERSION,
    "TLS error: wrong SSL version": Reason.WRONG_VERSION,
    "TLS error: no cipher match": Reason.TLS_ALERT,  # an SSL 2.0 server lists its suites, and none is ours
}


def _openssl_error(said: str) -> Refused | Unclear:
    """The same for what sslyze does not know: OpenSSL's own words, after ``error:`` and a code."""
    if "unsupported protocol" in said:
        return Refused(Reason.WRONG_VERSION, said)
    code = re.match(r"error:([0-9A-F]{8}):", said)
    alert = (int(code[1], 16) & 0xFFF) - _ALERTS if code else 0
    if alert in REFUSALS:
        return Refused(Reason.TLS_ALERT, said)
    return Unclear(Reason.TLS_ALERT if alert > 0 else Reason.NOT_TLS, said)


_ALERTS: Final = 1000  # an alert that came is this reason in OpenSSL's codes plus its number (SSL_AD_REASON_OFFSET)


def verify(chain: Sequence[str], ca_file: str) -> str | None:
    """Whether OpenSSL trusts a chain by the certificates of a file: None, or what it has against it.

    The name is not looked at; the time is.

    Args:
        chain: PEM, the leaf first.
        ca_file: PEM, the certificates to trust.

    Raises:
        OSError, ValueError, OpenSSLError: the file cannot be used.
    """
    verifier = CertificateChainVerifier.from_file(Path(ca_file))
    try:
        verifier.verify([_nassl.X509(each) for each in chain])
    except CertificateChainVerificationFailed as error:
        return str(error.openssl_error_string)
    return None
