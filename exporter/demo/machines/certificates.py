"""The certificates of simulated machines, made when they are needed: nothing here is worth keeping secret."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from exporter.demo.machines.machine import CertificateDescription

_HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_SHA256_WITH_RSA: Final = bytes.fromhex("06092a864886f70d01010b")
_SHA1_WITH_RSA: Final = bytes.fromhex("06092a864886f70d010105")
_LIFE: Final = timedelta(days=5 * 365)
"""How long a certificate is valid that Exchange's setup makes for itself."""


@lru_cache(maxsize=1024)
def certificate(description: CertificateDescription, today: date) -> bytes:
    """It in DER, the same one all day long within a process."""
    key = _key(description.key)
    name = x509.Name.from_rfc4514_string(description.subject)
    until = datetime.combine(today, time(12), UTC) + timedelta(days=description.days)
    builder = x509.CertificateBuilder(name, name, key.public_key(), _serial_number(description), until - _LIFE, until)
    if description.names:
        names = x509.SubjectAlternativeName([x509.DNSName(each) for each in description.names])
        builder = builder.add_extension(names, critical=False)
    if description.hash == "sha1":
        return _signed_with_sha1(builder, key)
    return builder.sign(key, _HASHES[description.hash]).public_bytes(Encoding.DER)


def thumbprint(der: bytes) -> bytes:
    """What Windows names a certificate by."""
    return hashlib.sha1(der, usedforsecurity=False).digest()


@lru_cache(maxsize=8)
def _key(kind: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """One key per kind serves all machines: nobody connects to them."""
    if kind == "ec256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, {"rsa1024": 1024, "rsa2048": 2048}[kind])


def _serial_number(description: CertificateDescription) -> int:
    """The same in every process; 127 bits, so that it is positive in DER."""
    return int.from_bytes(hashlib.sha256(repr(description).encode()).digest()[:16]) >> 1


def _signed_with_sha1(builder: x509.CertificateBuilder, key: object) -> bytes:
    """What the builder rightly refuses; it works out because algorithm identifier and signature keep their lengths."""
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("sha1 is for RSA keys here")
    model = builder.sign(key, hashes.SHA256())
    to_sign = model.tbs_certificate_bytes.replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    signature = key.sign(to_sign, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303  # old servers have such
    der = model.public_bytes(Encoding.DER).replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    return der[: -len(signature)] + signature
