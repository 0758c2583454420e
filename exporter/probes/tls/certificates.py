"""What the certificates that an endpoint presents say: PEM in, facts out. Runs in child processes."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, DNSPattern

from exporter.facts import Certificate, CertificateChain, Fact, Known, Missing, Reason
from exporter.probes.tls.hello import ascii_name
from exporter.probes.tls.printable import printable

Verify = Callable[[Sequence[str], str], str | None]
"""Whether a chain is trusted by a file: `exporter.probes.tls.handshake.verify`."""

MAX_NAMES: Final = 200
"""Subject alternative names of a certificate that are kept."""

_KEY_TYPES: Final[Mapping[type, str]] = {
    rsa.RSAPublicKey: "RSA",
    ec.EllipticCurvePublicKey: "EC",
    dsa.DSAPublicKey: "DSA",
    ed25519.Ed25519PublicKey: "Ed25519",
    ed448.Ed448PublicKey: "Ed448",
}


def chain_facts(
    chain: Sequence[str], server_name: str, ca_file: str | None, verify: Verify, at: float
) -> CertificateChain:
    """What a chain says.

    Args:
        chain: PEM, the leaf first.
        server_name: what the leaf should be for.
        ca_file: the certificates to trust, or None.
        verify: how to find out whether it is trusted.
        at: when it was seen, Unix time in seconds.

    Raises:
        ValueError: the leaf, or another certificate, is not X.509 as cryptography reads it.
    """
    loaded = [x509.load_pem_x509_certificate(each.encode()) for each in chain]
    return CertificateChain(
        certificates=tuple(map(_certificate, loaded)),
        matches_name=_is_for(loaded[0], server_name),
        trusted=_trusted(chain, ca_file, verify, at),
    )


def _certificate(certificate: x509.Certificate) -> Certificate:
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


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001 - none, or one that cannot be read: it is for nobody then
        return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _alternative_names(certificate)
    if names is None:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*map(printable, names.get_values_for_type(x509.DNSName)), *map(str, addresses))[:MAX_NAMES]


def _is_for(certificate: x509.Certificate, server_name: str) -> bool:
    """Whether one of the names matches; those that no name can match, of which there are many, do not disturb it."""
    names = _alternative_names(certificate)
    if names is None:
        return False
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(server_name) in names.get_values_for_type(x509.IPAddress)
    name = DNS_ID(ascii_name(server_name))
    for pattern in names.get_values_for_type(x509.DNSName):
        with contextlib.suppress(CertificateError, ValueError):  # no name at all, or one with *. beside a short name
            if name.verify(DNSPattern.from_bytes(pattern.encode("ascii"))):
                return True
    return False


def _trusted(chain: Sequence[str], ca_file: str | None, verify: Verify, at: float) -> Fact[bool]:
    if ca_file is None:
        return Missing(Reason.NOT_OBSERVED_YET, "scan.ca_file is not set")
    try:
        objection = verify(chain, ca_file)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - OpenSSL's own error has no parent but this
        return Missing(Reason.NOT_OBSERVED_YET, f"scan.ca_file cannot be used: {error}")
    return Known(objection is None, at, detail=objection or "")
