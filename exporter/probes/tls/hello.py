"""What a client says first: a ClientHello for each protocol version.

The hellos look like a mainstream client's, because Schannel judges them: it refuses a TLS 1.2 hello without the
renegotiation signal (rbsec/sslscan PR #280), and servers of 2008 know nothing newer than AES-CBC, 3DES and RC4. A hello
for one version offers that version *at most*: before TLS 1.3 a server may answer with a lower one, and then that is the
answer (RFC 5246, E.1).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tlslite import extensions as ext
from tlslite.constants import (
    CipherSuite,
    ContentType,
    ECPointFormat,
    ExtensionType,
    GroupName,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tlslite.messages import ClientHello, RecordHeader2, RecordHeader3

from exporter.facts import Protocol

WIRE_VERSIONS: Final = {
    Protocol.SSL_3_0: (3, 0),
    Protocol.TLS_1_0: (3, 1),
    Protocol.TLS_1_1: (3, 2),
    Protocol.TLS_1_2: (3, 3),
    Protocol.TLS_1_3: (3, 4),
}
"""The version numbers in records and hellos (RFC 6101, 2246, 4346, 5246, 8446)."""

PROTOCOLS_BY_WIRE_VERSION: Final = {wire: protocol for protocol, wire in WIRE_VERSIONS.items()}

# Strongest first, as browsers do. RSA key exchange, 3DES and RC4 are for servers of the 2008 era.
_TLS13_SUITES: Final[tuple[int, ...]] = (
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
)
_TLS12_SUITES: Final[tuple[int, ...]] = (
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
    CipherSuite.TLS_DHE_RSA_WITH_AES_256_CBC_SHA256,
    CipherSuite.TLS_DHE_RSA_WITH_AES_128_CBC_SHA256,
    CipherSuite.TLS_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite.TLS_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite.TLS_RSA_WITH_AES_256_CBC_SHA256,
    CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA256,
)
_OLD_SUITES: Final[tuple[int, ...]] = (
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_DHE_RSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_DHE_RSA_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_DHE_DSS_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_DHE_DSS_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_RSA_WITH_AES_256_CBC_SHA,
    CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA,
    CipherSuite.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
    CipherSuite.TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA,
    CipherSuite.TLS_DHE_DSS_WITH_3DES_EDE_CBC_SHA,
    CipherSuite.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
    CipherSuite.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
    CipherSuite.TLS_ECDHE_RSA_WITH_RC4_128_SHA,
    CipherSuite.TLS_RSA_WITH_RC4_128_SHA,
    CipherSuite.TLS_RSA_WITH_RC4_128_MD5,
)
SUITES: Final[dict[Protocol, tuple[int, ...]]] = {
    Protocol.SSL_3_0: _OLD_SUITES,
    Protocol.TLS_1_0: _OLD_SUITES,
    Protocol.TLS_1_1: _OLD_SUITES,
    Protocol.TLS_1_2: _TLS12_SUITES + _OLD_SUITES,
    Protocol.TLS_1_3: _TLS13_SUITES,
}
"""The cipher suites that are offered for each version, and that an answer of that version may choose."""
_SCSV: Final[int] = CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV

_SSL2_CIPHER_KINDS: Final = (
    0x010080,  # SSL_CK_RC4_128_WITH_MD5
    0x020080,  # SSL_CK_RC4_128_EXPORT40_WITH_MD5
    0x030080,  # SSL_CK_RC2_128_CBC_WITH_MD5
    0x040080,  # SSL_CK_RC2_128_CBC_EXPORT40_WITH_MD5
    0x050080,  # SSL_CK_IDEA_128_CBC_WITH_MD5
    0x060040,  # SSL_CK_DES_64_CBC_WITH_MD5
    0x0700C0,  # SSL_CK_DES_192_EDE3_CBC_WITH_MD5
)

_GROUPS: Final[tuple[int, ...]] = (
    GroupName.x25519,
    GroupName.secp256r1,
    GroupName.secp384r1,
    GroupName.secp521r1,
)
_SIGNATURES: Final[tuple[Any, ...]] = (
    SignatureScheme.ecdsa_secp256r1_sha256,
    SignatureScheme.rsa_pss_rsae_sha256,
    SignatureScheme.rsa_pkcs1_sha256,
    SignatureScheme.ecdsa_secp384r1_sha384,
    SignatureScheme.rsa_pss_rsae_sha384,
    SignatureScheme.rsa_pkcs1_sha384,
    SignatureScheme.ecdsa_secp521r1_sha512,
    SignatureScheme.rsa_pss_rsae_sha512,
    SignatureScheme.rsa_pkcs1_sha512,
    SignatureScheme.ecdsa_sha1,
    SignatureScheme.rsa_pkcs1_sha1,
    SignatureScheme.dsa_sha1,
)

_INTOLERABLE: Final = range(256, 512)  # sizes of a hello that hang some load balancers: padded, RFC 7685
_RANDOM: Final = slice(11, 43)  # record header 5, handshake header 4, client_version 2, then 32 bytes of random


@dataclass(frozen=True, slots=True)
class Hello:
    """One ClientHello, ready to send.

    Attributes:
        offers: the versions that an answer may have; highest first.
        wire: the record with a random of zeros; `fresh` gives the bytes to send. The session id and the key share are
            random, but the same for all uses of a hello: no handshake is ever finished.
    """

    offers: tuple[Protocol, ...]
    wire: bytes

    def fresh(self) -> bytes:
        """The bytes to send, with a random of their own."""
        if self.offers == (Protocol.SSL_2_0,):
            return self.wire[:-16] + os.urandom(16)
        return self.wire[: _RANDOM.start] + os.urandom(32) + self.wire[_RANDOM.stop :]


# Writing a hello costs ten times what sending it does, and a fleet's names are asked for again every interval.
@lru_cache(maxsize=8192)
def hello_for(protocol: Protocol, server_name: str) -> Hello:
    """The hello that offers one version (and by the rules of TLS before 1.3, nothing above it).

    Args:
        protocol: the version to offer.
        server_name: what the server is called. Sent as SNI if it is a name; RFC 6066 forbids addresses there.
    """
    if protocol is Protocol.SSL_2_0:
        return Hello((protocol,), _ssl2())
    return _hello((protocol,), server_name)


@lru_cache(maxsize=2048)
def hello_for_any(server_name: str) -> Hello:
    """The hello that today's clients send: TLS 1.0 to 1.3 at once, the server chooses."""
    offers = (Protocol.TLS_1_3, Protocol.TLS_1_2, Protocol.TLS_1_1, Protocol.TLS_1_0)
    return _hello(offers, server_name)


def _hello(offers: tuple[Protocol, ...], server_name: str) -> Hello:
    highest = WIRE_VERSIONS[offers[0]]
    tls13 = offers[0] is Protocol.TLS_1_3
    # TLS 1.3 brings the older suites along: a server that ignores supported_versions can answer TLS 1.2 then, which
    # says more than an alert.
    suites = SUITES[offers[0]] + (SUITES[Protocol.TLS_1_2] if tls13 else ())
    message = ClientHello().create(
        version=min(highest, (3, 3)),
        random=bytearray(32),
        session_id=bytearray(os.urandom(32)) if tls13 else bytearray(),  # middlebox compatibility, RFC 8446 D.4
        cipher_suites=[*suites, _SCSV],
        extensions=None if offers[0] is Protocol.SSL_3_0 else _extensions(offers, server_name),
    )
    body = message.write()
    if _INTOLERABLE.start <= len(body) < _INTOLERABLE.stop and message.extensions is not None:
        padding = max(_INTOLERABLE.stop - len(body) - 4, 1)  # 4 for the extension's own type and length
        message.extensions.append(ext.PaddingExtension().create(padding))
        body = message.write()
    # A first record says TLS 1.0 at most: some servers drop what claims more (RFC 8446 D.1, RFC 5246 E.1).
    header = RecordHeader3().create(min(highest, (3, 1)), ContentType.handshake, len(body))
    return Hello(offers, bytes(header.write() + body))


def _extensions(offers: Sequence[Protocol], server_name: str) -> list[Any]:
    highest = offers[0]
    chosen = [_sni(server_name)] if is_name(server_name) else []
    chosen += [
        ext.TLSExtension(extType=ExtensionType.extended_master_secret).create(bytearray()),
        ext.SupportedGroupsExtension().create(list(_GROUPS)),
        ext.ECPointFormatsExtension().create([ECPointFormat.uncompressed]),
        ext.SessionTicketExtension().create(bytearray()),
    ]
    if highest in {Protocol.TLS_1_2, Protocol.TLS_1_3}:
        chosen.append(ext.SignatureAlgorithmsExtension().create(list(_SIGNATURES)))
    if highest is Protocol.TLS_1_3:
        # Any 32 bytes are an X25519 public key, and this handshake is never finished.
        share = ext.KeyShareEntry().create(GroupName.x25519, bytearray(os.urandom(32)))
        chosen += [
            ext.SupportedVersionsExtension().create([WIRE_VERSIONS[offer] for offer in offers]),
            ext.PskKeyExchangeModesExtension().create([PskKeyExchangeMode.psk_dhe_ke]),
            ext.ClientKeyShareExtension().create([share]),
        ]
    return chosen


def _sni(server_name: str) -> Any:
    return ext.SNIExtension().create(bytearray(ascii_name(server_name).encode()))


def ascii_name(server_name: str) -> str:
    """A server's name as it is sent as SNI and written in certificates."""
    return server_name.rstrip(".").encode("idna").decode()


def is_name(server_name: str) -> bool:
    """Whether it can be sent as SNI."""
    try:
        ipaddress.ip_address(server_name)
    except ValueError:
        return True
    return False


def _ssl2() -> bytes:
    """CLIENT-HELLO of SSL 2.0 (draft-hickman-netscape-ssl-00, 2.5): all seven cipher kinds, a challenge of 16 bytes."""
    message = ClientHello(ssl2=True).create(
        version=(0, 2),
        random=bytearray(16),
        session_id=bytearray(),
        cipher_suites=list(_SSL2_CIPHER_KINDS),
    )
    body = message.write()
    return bytes(RecordHeader2().create(len(body)).write() + body)
