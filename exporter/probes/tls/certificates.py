"""What a chain that an endpoint presents says: PEM in, facts out. Runs in child processes."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Sequence

from cryptography import x509
from service_identity import CertificateError
from service_identity.hazmat import DNS_ID, DNSPattern

from exporter.facts import CertificateChain, Fact, Known, Missing, Reason
from exporter.probes.certificates import alternative_names, certificate_facts
from exporter.probes.tls.hello import ascii_name

Verify = Callable[[Sequence[str], str], str | None]
"""Whether a chain is trusted by a file: `exporter.probes.tls.handshake.verify`."""


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
        certificates=tuple(map(certificate_facts, loaded)),
        matches_name=_is_for(loaded[0], server_name),
        trusted=_trusted(chain, ca_file, verify, at),
    )


def _is_for(certificate: x509.Certificate, server_name: str) -> bool:
    """Whether one of the names matches; those that no name can match, of which there are many, do not disturb it."""
    names = alternative_names(certificate)
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
