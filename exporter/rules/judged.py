"""Which endpoints the rules about endpoints look at, and what their evidence has to admit."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.facts import Door, EndpointFacts, Fact, Missing, MissingFactError, ServerFacts, T_co
from exporter.verdicts import Finding


def has_endpoints(facts: ServerFacts) -> bool:
    """Whether there is anything to look at."""
    return bool(facts.endpoints)


def judged(facts: ServerFacts) -> list[EndpointFacts]:
    """The endpoints that count."""
    return [endpoint for endpoint in facts.endpoints if endpoint.in_use]


def nothing_to_judge(facts: ServerFacts) -> Finding:
    """What a rule finds where no endpoint counts."""
    return Finding(passed=None, evidence=f"no endpoint could be judged{left_out(facts)}")


def demand(endpoint: EndpointFacts, fact: Fact[T_co], what: str) -> T_co:
    """The value of a fact about an endpoint. A closed endpoint has none: it says nothing now.

    Raises:
        MissingFactError: there is none; it names the endpoint.
    """
    if endpoint.closed and endpoint.failure is not None:
        reason, detail, where = endpoint.failure.reason, endpoint.failure.detail, endpoint.endpoint
    elif isinstance(fact, Missing):
        reason, detail, where = fact.reason, fact.detail, f"{endpoint.endpoint} {what}"
    else:
        return fact.value
    raise MissingFactError(Missing(reason, f"{where}: {detail or reason}"))


def names(endpoints: Sequence[EndpointFacts]) -> str:
    """Their names, for evidence."""
    return ", ".join(endpoint.endpoint for endpoint in endpoints)


def left_out(facts: ServerFacts) -> str:
    """What the evidence has to admit: the optional endpoints that were not judged."""
    unused = [each for each in facts.endpoints if not each.in_use]
    parts = [
        f"{text}: {names(endpoints)}"
        for text, doors in (
            ("not in use", {Door.REFUSED}),
            ("not observable from here", {Door.UNREACHABLE}),
            ("not tried yet", {Door.UNTRIED}),
        )
        if (endpoints := [each for each in unused if each.door in doors])
    ]
    return "".join(f"; {part}" for part in parts)
