"""What a certificate says, whether an endpoint presents it or a host keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from exporter.facts import Certificate
from exporter.probes.printable import printable

MAX_NAMES: Final = 200
"""Subject alternative names of a certificate that are kept."""

_KEY_TYPES: Final[Mapping[type, str]] = {
    rsa.RSAPublicKey: "RSA",
    ec.EllipticCurvePublicKey: "EC",
    dsa.DSAPublicKey: "DSA",
    ed25519.Ed25519PublicKey: "Ed25519",
    ed448.Ed448PublicKey: "Ed448",
}


def certificate_facts(certificate: x509.Certificate) -> Certificate:
    """What a certificate says.

    Raises:
        ValueError: it cannot be read to the end.
    """
    key_type, key_size = _key(certificate)
    return Certificate(
        subject=printable(certificate.subject.rfc4514_string()),
        issuer=printable(certificate.issuer.rfc4514_string()),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint_sha256=certificate.fingerprint(SHA256()).hex(),
        key_type=key_type,
        key_size=key_size,
        signature_hash=_signature_hash(certificate),
    )


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "", 0
    name = next((name for kind, name in _KEY_TYPES.items() if isinstance(key, kind)), "")
    return name, getattr(key, "key_size", 0)


def _signature_hash(certificate: x509.Certificate) -> str:
    try:
        return getattr(certificate.signature_hash_algorithm, "name", "")
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string


def alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    """Its subject alternative names; None where there are none, or none that can be read."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - none, or one that cannot be read: it is for nobody then
        return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = alternative_names(certificate)
    if names is None:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*map(printable, names.get_values_for_type(x509.DNSName)), *map(str, addresses))[:MAX_NAMES]
