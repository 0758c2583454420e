"""What can be said from the wire alone: which versions the endpoints accept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from exporter.facts import (
    LEGACY_PROTOCOLS,
    Door,
    EndpointFacts,
    Known,
    Missing,
    MissingFactError,
    Protocol,
    ServerFacts,
)
from exporter.verdicts import Finding, Rule, Severity

_PART_2: Final = "Exchange Server TLS guidance, part 2: Enabling TLS 1.2 and Identifying Clients Not Using It"
_PART_3: Final = "Exchange Server TLS guidance, part 3: Turning Off TLS 1.0/1.1"


def _has_endpoints(facts: ServerFacts) -> bool:
    return bool(facts.endpoints)


def _accept_tls12(facts: ServerFacts) -> Finding:
    judged = _judged(facts)
    refusing = [each.endpoint for each in judged if _says(each, Protocol.TLS_1_2) is False]
    if refusing:
        return Finding(passed=False, evidence=f"TLS 1.2 is refused by {', '.join(refusing)}{_left_out(facts)}")
    if not judged:
        return Finding(passed=None, evidence=f"no endpoint could be judged{_left_out(facts)}")
    for endpoint in judged:
        _demand(endpoint, Protocol.TLS_1_2)
    return Finding(passed=True, evidence=f"TLS 1.2 is accepted by {_names(judged)}{_left_out(facts)}")


def _reject_legacy(facts: ServerFacts) -> Finding:
    judged = _judged(facts)
    accepting = [
        f"{endpoint.endpoint} ({', '.join(accepted)})"
        for endpoint in judged
        if (accepted := [protocol for protocol in LEGACY_PROTOCOLS if _says(endpoint, protocol)])
    ]
    if accepting:
        return Finding(passed=False, evidence=f"still accepted: {'; '.join(accepting)}{_left_out(facts)}")
    if not judged:
        return Finding(passed=None, evidence=f"no endpoint could be judged{_left_out(facts)}")
    for endpoint in judged:
        for protocol in LEGACY_PROTOCOLS:
            _demand(endpoint, protocol)
    return Finding(passed=True, evidence=f"SSL 2.0 to TLS 1.1 are refused by {_names(judged)}{_left_out(facts)}")


def _judged(facts: ServerFacts) -> list[EndpointFacts]:
    return [endpoint for endpoint in facts.endpoints if endpoint.in_use]


def _says(endpoint: EndpointFacts, protocol: Protocol) -> bool | None:
    """The last good answer; None where there is none, or where the endpoint is closed now: it says nothing then."""
    fact = endpoint.accepted[protocol]
    return fact.value if isinstance(fact, Known) and not endpoint.closed else None


def _demand(endpoint: EndpointFacts, protocol: Protocol) -> None:
    """Raise MissingFactError, naming the endpoint, unless there is an answer."""
    fact = endpoint.failure if endpoint.closed else endpoint.accepted[protocol]
    if isinstance(fact, Missing):
        where = endpoint.endpoint if endpoint.closed else f"{endpoint.endpoint} {protocol}"
        raise MissingFactError(Missing(fact.reason, f"{where}: {fact.detail or fact.reason}"))


def _names(endpoints: Sequence[EndpointFacts]) -> str:
    return ", ".join(endpoint.endpoint for endpoint in endpoints)


def _left_out(facts: ServerFacts) -> str:
    """What the evidence has to admit: the optional endpoints that were not judged."""
    unused = [each for each in facts.endpoints if not each.in_use]
    parts = [
        f"{text}: {_names(endpoints)}"
        for text, doors in (
            ("not in use", {Door.REFUSED}),
            ("not observable from here", {Door.UNREACHABLE}),
            ("not tried yet", {Door.UNTRIED}),
        )
        if (endpoints := [each for each in unused if each.door in doors])
    ]
    return "".join(f"; {part}" for part in parts)


ENDPOINTS_ACCEPT_TLS12: Final = Rule(
    id="endpoints-accept-tls12",
    title="Does every TLS endpoint accept TLS 1.2?",
    source=_PART_2,
    severity=Severity.BLOCKER,
    applies=_has_endpoints,
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
    applies=_has_endpoints,
    check=_reject_legacy,
    remedy=(
        "Only once every server has passed parts 1 and 2: disable SSL 2.0 to TLS 1.1 for Schannel server and client "
        "as part 3 of the guidance says, and restart."
    ),
)
