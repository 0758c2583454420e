"""Certificates, as endpoints present them and as hosts keep them."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.facts.fact import Fact


@dataclass(frozen=True, slots=True)
class Certificate:
    """One X.509 certificate as an endpoint presented it.

    Attributes:
        subject: its distinguished name, as RFC 4514 writes them; may be "".
        issuer: its issuer's.
        names: the subject alternative names, DNS names and IP addresses.
        not_before: from when it is valid, Unix time in seconds.
        not_after: until when.
        fingerprint_sha256: of the whole certificate, in lower-case hexadecimal.
        key_type: RSA, EC, Ed25519, Ed448 or DSA; "" when it is none that we know.
        key_size: in bits; 0 when unknown.
        signature_hash: the hash that it is signed with: sha256, sha1, md5; "" for signatures without one (Ed25519), the
            signature algorithm's object identifier where that is not known here.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint_sha256: str
    key_type: str
    key_size: int
    signature_hash: str

    @property
    def public_key(self) -> str:
        """Type and size of the key, such as ``RSA 2048``."""
        return f"{self.key_type or 'unknown'} {self.key_size or ''}".strip()

    @property
    def sha512_signed(self) -> bool:
        """Whether Windows before Server 2016 needs KB2973337 to use it with TLS 1.2 (part 1 of the guidance)."""
        return self.signature_hash == "sha512"

    @property
    def self_issued(self) -> bool:
        """Whether it names itself as its issuer, as roots and self-signed certificates do."""
        return self.subject == self.issuer


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """What an endpoint presented to prove who it is.

    Attributes:
        certificates: as the server sent them, its own (the leaf) first; at least that one.
        matches_name: whether the leaf is for the server's configured name (RFC 9525: the subject alone does not count).
        trusted: whether OpenSSL verifies it by ``scan.ca_file``; missing where there is no such file.
    """

    certificates: tuple[Certificate, ...]
    matches_name: bool
    trusted: Fact[bool]

    @property
    def leaf(self) -> Certificate:
        """The server's own certificate."""
        return self.certificates[0]
