"""Whether the certificates that endpoints present are sound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exporter.facts import Certificate, EndpointFacts, Known, Missing, MissingFactError, Reason, ServerFacts
from exporter.rules.judged import demand, has_endpoints, judged, left_out, names, nothing_to_judge
from exporter.verdicts import Finding, Rule, Severity

_LEAST_RSA: Final = 2048
_ELLIPTIC: Final = frozenset({"EC", "Ed25519", "Ed448"})
_WEAK_HASHES: Final = frozenset({"md5", "sha1"})
_SOUND_HASHES: Final = frozenset(
    {"", "sha224", "sha256", "sha384", "sha512"}
)  # "": the signature has a hash of its own
_DAY: Final = 86400.0


def _sound(facts: ServerFacts, now: float) -> Finding:
    endpoints = judged(facts)
    faults = {fault: None for endpoint in endpoints for fault in _faults_of(endpoint, now)}
    if faults:
        return Finding(passed=False, evidence=f"{'; '.join(faults)}{left_out(facts)}")
    if not endpoints:
        return nothing_to_judge(facts)
    for endpoint in endpoints:
        for certificate in _presented(endpoint):
            if not certificate.key_type or certificate.signature_hash not in {*_SOUND_HASHES, *_WEAK_HASHES}:
                strange = f"{endpoint.endpoint}: {_called(certificate)} has a key or a signature of an unknown kind"
                raise MissingFactError(Missing(Reason.NOT_OBSERVED_YET, strange))
    return Finding(passed=True, evidence=f"the certificates of {names(endpoints)} are sound{left_out(facts)}")


def _faults_of(endpoint: EndpointFacts, now: float) -> Iterator[str]:
    if endpoint.closed or not isinstance(endpoint.certificates, Known):
        return
    for chain in endpoint.certificates.value:
        for certificate in chain.certificates:
            # Whoever trusts a root trusts the root, not the signature that it made on itself.
            root = certificate is not chain.leaf and certificate.self_issued
            for fault in _faults(certificate, now, signature_counts=not root):
                yield f"{endpoint.endpoint}: {_called(certificate)} {fault}"


def _faults(certificate: Certificate, now: float, *, signature_counts: bool) -> Iterator[str]:
    if certificate.not_after < now:
        yield f"expired {_days(now - certificate.not_after)} ago"
    if certificate.not_before > now:
        yield f"is not valid for another {_days(certificate.not_before - now)}"
    weak_rsa = certificate.key_type == "RSA" and certificate.key_size < _LEAST_RSA
    if weak_rsa or (certificate.key_type and certificate.key_type not in {"RSA", *_ELLIPTIC}):
        yield f"has the key {certificate.public_key}"
    if signature_counts and certificate.signature_hash in _WEAK_HASHES:
        yield f"is signed with {certificate.signature_hash.upper().replace('SHA', 'SHA-')}"


def _days(seconds: float) -> str:
    days = int(seconds / _DAY)
    return "less than a day" if not days else "1 day" if days == 1 else f"{days} days"


def _presented(endpoint: EndpointFacts) -> list[Certificate]:
    chains = demand(endpoint, endpoint.certificates, "certificates")
    return [certificate for chain in chains for certificate in chain.certificates]


def _called(certificate: Certificate) -> str:
    return certificate.subject or f"the certificate {certificate.fingerprint_sha256[:16]}"


CERTIFICATES_SOUND: Final = Rule(
    id="certificates-sound",
    title="Are the certificates valid now, with RSA of 2048 bits or more or EC keys, and not signed with SHA-1?",
    source="CA/Browser Forum Baseline Requirements: Certificate Contents for Baseline SSL",
    severity=Severity.ADVICE,
    applies=has_endpoints,
    check=_sound,
    remedy="Renew the certificate with an RSA key of 2048 bits or more and a SHA-2 signature, and assign it again.",
)
