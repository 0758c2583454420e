"""The readiness rules, and the profiles that group them."""

from __future__ import annotations

from typing import Final

from exporter.rules.certificates import CERTIFICATES_SOUND
from exporter.rules.cipher_suites import CIPHER_SUITES_RECOMMENDED
from exporter.rules.endpoints import ENDPOINTS_ACCEPT_TLS12, ENDPOINTS_REJECT_LEGACY
from exporter.verdicts import Rule

PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "wire-tls12": (ENDPOINTS_ACCEPT_TLS12.id, CERTIFICATES_SOUND.id),
    "wire-tls12-only": (
        ENDPOINTS_ACCEPT_TLS12.id,
        ENDPOINTS_REJECT_LEGACY.id,
        CERTIFICATES_SOUND.id,
        CIPHER_SUITES_RECOMMENDED.id,
    ),
}
"""Per profile, the ids of its rules."""


def build_rules(*, certificates: bool = True, cipher_suites: bool = True) -> tuple[Rule, ...]:
    """The rules that there are facts for, in the guidance's order: the first blocker that fails is the next step.

    Args:
        certificates: whether endpoints' certificates are looked at.
        cipher_suites: whether their cipher suites are.
    """
    return (
        ENDPOINTS_ACCEPT_TLS12,
        ENDPOINTS_REJECT_LEGACY,
        *([CERTIFICATES_SOUND] if certificates else []),
        *([CIPHER_SUITES_RECOMMENDED] if cipher_suites else []),
    )
