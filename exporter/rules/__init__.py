"""The readiness rules, and the profiles that group them."""

from __future__ import annotations

from typing import Final

from exporter.rules.endpoints import ENDPOINTS_ACCEPT_TLS12, ENDPOINTS_REJECT_LEGACY
from exporter.verdicts import Rule

RULES: Final[tuple[Rule, ...]] = (ENDPOINTS_ACCEPT_TLS12, ENDPOINTS_REJECT_LEGACY)
"""Every rule, in the guidance's order: the first blocker that fails is the next step."""

PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "wire-tls12": (ENDPOINTS_ACCEPT_TLS12.id,),
    "wire-tls12-only": (ENDPOINTS_ACCEPT_TLS12.id, ENDPOINTS_REJECT_LEGACY.id),
}
"""Per profile, the ids of its rules."""
