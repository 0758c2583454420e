"""What the hellos say, read back with tlslite-ng's own parser: a server must take them for a mainstream client's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlslite.constants import CipherSuite, ContentType, ExtensionType, GroupName, SignatureScheme
from tlslite.messages import ClientHello, RecordHeader2, RecordHeader3
from tlslite.utils.codec import Parser

from exporter.facts import Protocol
from exporter.probes.tls.hello import SUITES, WIRE_VERSIONS, Hello, hello_for, hello_for_any

NAME = "exch01.contoso.test"
MODERN = (Protocol.TLS_1_3, Protocol.TLS_1_2, Protocol.TLS_1_1, Protocol.TLS_1_0)
WITH_EXTENSIONS = MODERN
OVER_TLS_RECORDS = (*MODERN, Protocol.SSL_3_0)

RC4_3DES_CBC = {
    CipherSuite.TLS_RSA_WITH_RC4_128_MD5,
    CipherSuite.TLS_RSA_WITH_RC4_128_SHA,
    CipherSuite.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
    CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_RSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_DHE_RSA_WITH_AES_256_CBC_SHA,
}
TLS12_ONLY = {
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA256,
}
TLS13_ONLY = {
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
}


def split(wire: bytes) -> tuple[Any, bytes]:
    """The header of the one record that the bytes are, and its payload."""
    header = RecordHeader3().parse(Parser(bytearray(wire[:5])))
    assert header.type == ContentType.handshake
    assert header.length == len(wire) - 5
    return header, wire[5:]


def parsed(wire: bytes) -> Any:
    """The ClientHello in the bytes; its handshake header must fit exactly."""
    _, payload = split(wire)
    assert payload[0] == 1
    assert int.from_bytes(payload[1:4], "big") == len(payload) - 4
    parser = Parser(bytearray(payload[1:]))
    message = ClientHello().parse(parser)
    assert parser.getRemainingLength() == 0
    return message


def parsed_for(protocol: Protocol, name: str = NAME) -> Any:
    return parsed(hello_for(protocol, name).fresh())


def sni_of(message: Any) -> list[bytes]:
    extension = message.getExtension(ExtensionType.server_name)
    return [] if extension is None else [bytes(name) for name in extension.hostNames]


@pytest.mark.parametrize("protocol", OVER_TLS_RECORDS)
def test_the_client_version_is_the_offered_one_and_1_2_for_tls_1_3(protocol: Protocol) -> None:
    assert parsed_for(protocol).client_version == min(WIRE_VERSIONS[protocol], (3, 3))


@pytest.mark.parametrize("protocol", Protocol)
def test_a_hello_offers_the_one_version_that_it_was_asked_to(protocol: Protocol) -> None:
    assert hello_for(protocol, NAME).offers == (protocol,)


def test_the_opening_hello_offers_tls_1_0_to_1_3() -> None:
    hello = hello_for_any(NAME)
    versions = parsed(hello.fresh()).getExtension(ExtensionType.supported_versions).versions
    assert hello.offers == MODERN
    assert versions == [WIRE_VERSIONS[protocol] for protocol in MODERN]


def test_the_tls_1_3_hello_offers_only_tls_1_3() -> None:
    versions = parsed_for(Protocol.TLS_1_3).getExtension(ExtensionType.supported_versions).versions
    assert versions == [(3, 4)]


@pytest.mark.parametrize("protocol", [Protocol.TLS_1_0, Protocol.TLS_1_1, Protocol.TLS_1_2])
def test_nothing_of_tls_1_3_is_in_an_older_hello(protocol: Protocol) -> None:
    message = parsed_for(protocol)
    assert message.getExtension(ExtensionType.supported_versions) is None
    assert message.getExtension(ExtensionType.key_share) is None
    assert message.getExtension(ExtensionType.psk_key_exchange_modes) is None
    assert bytes(message.session_id) == b""


@pytest.mark.parametrize("hello", [hello_for_any(NAME), *(hello_for(each, NAME) for each in OVER_TLS_RECORDS)])
def test_the_first_record_says_tls_1_0_at_most(hello: Hello) -> None:
    """Some servers drop a first record that claims more."""
    header, _ = split(hello.wire)
    assert header.version == min(WIRE_VERSIONS[hello.offers[0]], (3, 1))


@pytest.mark.parametrize("hello", [hello_for_any(NAME), *(hello_for(each, NAME) for each in OVER_TLS_RECORDS)])
def test_the_renegotiation_signal_is_there_and_no_fallback_signal(hello: Hello) -> None:
    """Schannel refuses TLS 1.2 without the first, and any lower version with the second (RFC 7507)."""
    suites = parsed(hello.wire).cipher_suites
    assert suites.count(CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV) == 1
    assert CipherSuite.TLS_FALLBACK_SCSV not in suites


@pytest.mark.parametrize("hello", [hello_for_any(NAME), *(hello_for(each, NAME) for each in OVER_TLS_RECORDS)])
def test_the_suites_on_the_wire_are_those_that_an_answer_may_choose(hello: Hello) -> None:
    suites = parsed(hello.wire).cipher_suites
    choosable = {suite for protocol in hello.offers for suite in SUITES[protocol]}
    assert choosable <= set(suites)
    if Protocol.TLS_1_3 not in hello.offers:  # that brings older suites along for servers that do not know it
        assert set(suites) == {*choosable, CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV}
    assert suites[-1] == CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV
    assert len(set(suites)) == len(suites)


@pytest.mark.parametrize("protocol", OVER_TLS_RECORDS)
def test_suites_go_from_rc4_to_what_the_version_knows(protocol: Protocol) -> None:
    suites = set(parsed_for(protocol).cipher_suites)
    assert suites >= RC4_3DES_CBC
    assert (suites >= TLS12_ONLY) is (protocol in {Protocol.TLS_1_2, Protocol.TLS_1_3})
    assert (suites >= TLS13_ONLY) is (protocol is Protocol.TLS_1_3)


@pytest.mark.parametrize("protocol", [Protocol.SSL_3_0, Protocol.TLS_1_0, Protocol.TLS_1_1])
def test_no_suite_of_a_newer_version_is_in_an_older_hello(protocol: Protocol) -> None:
    assert not set(parsed_for(protocol).cipher_suites) & (TLS12_ONLY | TLS13_ONLY)


def test_the_tls_1_2_hello_has_no_suite_of_tls_1_3() -> None:
    assert not set(parsed_for(Protocol.TLS_1_2).cipher_suites) & TLS13_ONLY


@pytest.mark.parametrize("protocol", OVER_TLS_RECORDS)
def test_only_null_compression_is_offered(protocol: Protocol) -> None:
    assert list(parsed_for(protocol).compression_methods) == [0]


@pytest.mark.parametrize("protocol", WITH_EXTENSIONS)
def test_every_tls_hello_has_a_mainstream_clients_extensions(protocol: Protocol) -> None:
    message = parsed_for(protocol)
    assert message.getExtension(ExtensionType.extended_master_secret) is not None
    assert message.getExtension(ExtensionType.ec_point_formats).formats == [0]
    groups = message.getExtension(ExtensionType.supported_groups).groups
    assert {GroupName.x25519, GroupName.secp256r1, GroupName.secp384r1} <= set(groups)
    kinds = [extension.extType for extension in message.extensions]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("protocol", WITH_EXTENSIONS)
def test_signature_algorithms_come_with_tls_1_2_and_newer(protocol: Protocol) -> None:
    extension = parsed_for(protocol).getExtension(ExtensionType.signature_algorithms)
    if protocol in {Protocol.TLS_1_0, Protocol.TLS_1_1}:
        assert extension is None
        return
    wanted = {
        SignatureScheme.rsa_pkcs1_sha256,
        SignatureScheme.rsa_pkcs1_sha1,  # certificates of old servers
        SignatureScheme.rsa_pkcs1_sha512,
        SignatureScheme.rsa_pss_rsae_sha256,
        SignatureScheme.ecdsa_secp256r1_sha256,
    }
    assert wanted <= set(extension.sigalgs)


def test_the_ssl_3_0_hello_has_no_extensions() -> None:
    """Servers of that time do not know of extensions, and may refuse them."""
    message = parsed_for(Protocol.SSL_3_0)
    assert message.extensions is None


@pytest.mark.parametrize("hello", [hello_for_any(NAME), hello_for(Protocol.TLS_1_3, NAME)])
def test_tls_1_3_comes_with_an_x25519_key_share_and_a_session_id(hello: Hello) -> None:
    message = parsed(hello.wire)
    shares = message.getExtension(ExtensionType.key_share).client_shares
    assert [(share.group, len(share.key_exchange)) for share in shares] == [(GroupName.x25519, 32)]
    assert message.getExtension(ExtensionType.psk_key_exchange_modes).modes == [1]
    assert len(message.session_id) == 32


@pytest.mark.parametrize("protocol", WITH_EXTENSIONS)
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (NAME, NAME.encode()),
        ("exch01", b"exch01"),
        ("exch01.contoso.test.", NAME.encode()),  # RFC 6066: without the trailing dot
        ("exch_01.contoso.test", b"exch_01.contoso.test"),
        ("bücher.test", b"xn--bcher-kva.test"),
        ("1.2.3", b"1.2.3"),
    ],
)
def test_a_name_is_sent_as_sni(protocol: Protocol, name: str, sent: bytes) -> None:
    assert sni_of(parsed_for(protocol, name)) == [sent]


@pytest.mark.parametrize("protocol", WITH_EXTENSIONS)
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::1", "::ffff:192.0.2.1", "fe80::1%eth0"])
def test_an_address_is_not_sent_as_sni(protocol: Protocol, address: str) -> None:
    """RFC 6066 forbids addresses there."""
    assert parsed_for(protocol, address).getExtension(ExtensionType.server_name) is None
    assert parsed(hello_for_any(address).wire).getExtension(ExtensionType.server_name) is None


def test_the_ssl_2_0_hello_is_a_client_hello_of_ssl_2_0() -> None:
    hello = hello_for(Protocol.SSL_2_0, NAME)
    wire = hello.fresh()
    header = RecordHeader2().parse(Parser(bytearray(wire[:2])))
    assert header.length == len(wire) - 2
    assert wire[2] == 1
    message = ClientHello(ssl2=True).parse(Parser(bytearray(wire[3:])))
    assert message.client_version == (0, 2)
    assert len(message.random) == 32  # tlslite-ng pads the challenge of 16 bytes
    assert bytes(message.random).endswith(wire[-16:])
    assert bytes(message.session_id) == b""
    assert len(message.cipher_suites) == 7


@pytest.mark.parametrize("protocol", OVER_TLS_RECORDS)
def test_fresh_changes_the_random_and_nothing_else(protocol: Protocol) -> None:
    hello = hello_for(protocol, NAME)
    first, second = hello.fresh(), hello.fresh()
    assert parsed(first).random != parsed(second).random
    assert parsed(first).random == first[11:43]
    assert first[:11] + first[43:] == second[:11] + second[43:] == hello.wire[:11] + hello.wire[43:]


def test_fresh_changes_the_challenge_of_ssl_2_0_and_nothing_else() -> None:
    hello = hello_for(Protocol.SSL_2_0, NAME)
    first, second = hello.fresh(), hello.fresh()
    assert first[-16:] != second[-16:]
    assert first[:-16] == second[:-16] == hello.wire[:-16]


@given(
    name=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,20}){0,5}", fullmatch=True),
    protocol=st.sampled_from(OVER_TLS_RECORDS),
)
def test_every_hello_parses_whatever_the_server_is_called(name: str, protocol: Protocol) -> None:
    message = parsed_for(protocol, name)
    assert message.client_version == min(WIRE_VERSIONS[protocol], (3, 3))
    assert len(hello_for(protocol, name).wire) < 1200  # one packet: not every middlebox puts two together


@pytest.mark.parametrize("name", ["a.b", NAME, "a" * 60 + ".contoso.test", ".".join(["a" * 60] * 4)])
def test_no_hello_has_a_size_that_hangs_load_balancers(name: str) -> None:
    """Between 256 and 511 bytes some old ones wait for more (RFC 7685)."""
    for hello in (hello_for_any(name), *(hello_for(protocol, name) for protocol in Protocol)):
        message = len(hello.wire) - (2 if hello.offers == (Protocol.SSL_2_0,) else 5)
        assert not 256 <= message < 512
