"""Whether TLS 1.2 and 1.3 are offered with the recommended cipher suites alone."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

import yaml

from exporter.facts import EndpointFacts, Known, Missing, MissingFactError, Protocol, Reason, ServerFacts
from exporter.rules.judged import demand, has_endpoints, judged, left_out, names, nothing_to_judge
from exporter.verdicts import Finding, Rule, Severity

_TABLE: Final[dict[str, Any]] = yaml.safe_load(
    resources.files(__package__).joinpath("cipher_suites.yaml").read_text(encoding="utf-8")
)
RECOMMENDED: Final = {Protocol(name): frozenset(suites) for name, suites in _TABLE["recommended"].items()}
"""Per version, the recommended suites. Older versions have none: whether they are on is another rule's question."""
_ON_2012: Final = {Protocol(name): frozenset(suites) for name, suites in _TABLE["windows_server_2012"].items()}
_ONLY_ON_2012: Final = frozenset[str]().union(*_ON_2012.values())


def _recommended(facts: ServerFacts, _now: float) -> Finding:
    endpoints = judged(facts)
    others = {each.endpoint: suites for each in endpoints if (suites := _others(each))}
    found = {endpoint: bad for endpoint, suites in others.items() if (bad := suites - _ONLY_ON_2012)}
    if found:
        alike = {suites: [name for name, each in found.items() if each == suites] for suites in found.values()}
        text = "; ".join(f"{', '.join(who)}: {', '.join(sorted(suites))}" for suites, who in alike.items())
        return Finding(passed=False, evidence=f"not recommended: {text}{left_out(facts)}")
    if not endpoints:
        return nothing_to_judge(facts)
    offering = [each for each in endpoints if [protocol for protocol in RECOMMENDED if _offers(each, protocol)]]
    if not offering:
        return Finding(passed=None, evidence=f"no endpoint accepts TLS 1.2 or TLS 1.3{left_out(facts)}")
    for name, suites in others.items():
        detail = f"{name}: {', '.join(sorted(suites))}: recommended on Windows Server 2012 and 2012 R2 only"
        raise MissingFactError(Missing(Reason.NOT_OBSERVED_YET, f"{detail}, and which Windows this is is not known"))
    return Finding(passed=True, evidence=f"recommended suites alone on {names(offering)}{left_out(facts)}")


def _offers(endpoint: EndpointFacts, protocol: Protocol) -> bool:
    """Whether it accepts the version; then its suites must be known as well."""
    if not demand(endpoint, endpoint.accepted[protocol], protocol):
        return False
    unseen = Missing(Reason.NOT_OBSERVED_YET, "not scanned yet")
    return bool(demand(endpoint, endpoint.cipher_suites.get(protocol, unseen), f"{protocol} cipher suites"))


def _others(endpoint: EndpointFacts) -> frozenset[str]:
    """The suites that were seen, of versions that are accepted, and are not recommended everywhere."""
    if endpoint.closed:
        return frozenset()
    off = {protocol for protocol, fact in endpoint.accepted.items() if isinstance(fact, Known) and not fact.value}
    seen = {protocol: endpoint.cipher_suites.get(protocol) for protocol in RECOMMENDED if protocol not in off}
    return frozenset(
        suite
        for protocol, fact in seen.items()
        if isinstance(fact, Known)
        for suite in fact.value
        if suite not in RECOMMENDED[protocol]
    )


CIPHER_SUITES_RECOMMENDED: Final = Rule(
    id="cipher-suites-recommended",
    title="Do TLS 1.2 and TLS 1.3 offer only the cipher suites that Microsoft recommends for Exchange?",
    source=_TABLE["source"],
    severity=Severity.ADVICE,
    applies=has_endpoints,
    check=_recommended,
    remedy=(
        "Set the cipher suite order by group policy, or with Disable-TlsCipherSuite and Enable-TlsCipherSuite on "
        "Windows Server 2016 and newer, to the recommended list, and restart."
    ),
)
