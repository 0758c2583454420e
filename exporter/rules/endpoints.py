"""What can be said from the wire alone: which versions the endpoints accept."""

from __future__ import annotations

from typing import Final

from exporter.facts import LEGACY_PROTOCOLS, EndpointFacts, Known, Protocol, ServerFacts
from exporter.rules.judged import demand, has_endpoints, judged, left_out, names, nothing_to_judge
from exporter.verdicts import Finding, Rule, Severity

_PART_2: Final = "Exchange Server TLS guidance, part 2: Enabling TLS 1.2 and Identifying Clients Not Using It"
_PART_3: Final = "Exchange Server TLS guidance, part 3: Turning Off TLS 1.0/1.1"


def _accept_tls12(facts: ServerFacts, _now: float) -> Finding:
    endpoints = judged(facts)
    refusing = [each.endpoint for each in endpoints if _says(each, Protocol.TLS_1_2) is False]
    if refusing:
        return Finding(passed=False, evidence=f"TLS 1.2 is refused by {', '.join(refusing)}{left_out(facts)}")
    if not endpoints:
        return nothing_to_judge(facts)
    for endpoint in endpoints:
        demand(endpoint, endpoint.accepted[Protocol.TLS_1_2], Protocol.TLS_1_2)
    return Finding(passed=True, evidence=f"TLS 1.2 is accepted by {names(endpoints)}{left_out(facts)}")


def _reject_legacy(facts: ServerFacts, _now: float) -> Finding:
    endpoints = judged(facts)
    accepting = [
        f"{endpoint.endpoint} ({', '.join(accepted)})"
        for endpoint in endpoints
        if (accepted := [protocol for protocol in LEGACY_PROTOCOLS if _says(endpoint, protocol)])
    ]
    if accepting:
        return Finding(passed=False, evidence=f"still accepted: {'; '.join(accepting)}{left_out(facts)}")
    if not endpoints:
        return nothing_to_judge(facts)
    for endpoint in endpoints:
        for protocol in LEGACY_PROTOCOLS:
            demand(endpoint, endpoint.accepted[protocol], protocol)
    return Finding(passed=True, evidence=f"SSL 2.0 to TLS 1.1 are refused by {names(endpoints)}{left_out(facts)}")


def _says(endpoint: EndpointFacts, protocol: Protocol) -> bool | None:
    """The last good answer; None where there is none, or where the endpoint is closed now: it says nothing then."""
    fact = endpoint.accepted[protocol]
    return fact.value if isinstance(fact, Known) and not endpoint.closed else None


ENDPOINTS_ACCEPT_TLS12: Final = Rule(
    id="endpoints-accept-tls12",
    title="Does every TLS endpoint accept TLS 1.2?",
    source=_PART_2,
    severity=Severity.BLOCKER,
    applies=has_endpoints,
    check=_accept_tls12,
    remedy=(
        "Install what part 1 of the guidance asks for, enable TLS 1.2 for Schannel server and client as part 2 says, "
        "and restart. If the registry says that it is enabled: a load balancer, or a restart that is due."
    ),
)

ENDPOINTS_REJECT_LEGACY: Final = Rule(
    id="endpoints-reject-legacy",
    title="Does no endpoint accept SSL 2.0, SSL 3.0, TLS 1.0 or TLS 1.1?",
    source=_PART_3,
    severity=Severity.BLOCKER,
    applies=has_endpoints,
    check=_reject_legacy,
    remedy=(
        "Only once every server has passed parts 1 and 2: disable SSL 2.0 to TLS 1.1 for Schannel server and client "
        "as part 3 of the guidance says, and restart."
    ),
)
