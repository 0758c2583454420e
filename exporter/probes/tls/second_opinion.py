"""No answer flips because one prober misread a server: what a sweep says anew is confirmed before it is published."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeAlias

from exporter.facts import EndpointFacts, EndpointSweep, Fact, Known, Missing, Protocol, Reason

PAUSE: Final = 5.0
"""Seconds between a disagreement and the second attempt: what was only busy has recovered then."""


class Ruling(StrEnum):
    """What came of a second opinion on one version. The closed list of the metric's ``outcome`` label."""

    AGREED = "agreed"
    CONTRADICTORY = "contradictory"
    UNDECIDED = "undecided"
    BUDGET_SPENT = "budget_spent"


class NotAskedError(Exception):
    """The other prober could not be asked at all, and nothing was spent on it."""

    def __init__(self, missing: Missing) -> None:
        super().__init__()
        self.missing = missing


Ask: TypeAlias = Callable[[tuple[Protocol, ...], bool], Awaitable[Mapping[Protocol, Fact[bool]]]]
"""Gets the other prober's answer for each of some versions; whether this is the second attempt. `NotAskedError` is all
that it raises."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A sweep after its doubtful answers were asked for once more.

    Attributes:
        sweep: with those answers unknown that were not confirmed.
        rulings: per version that was doubtful, what came of it.
        opinions: per version that the other prober was asked for, its answer.
        connections: that it cost, at most.
    """

    sweep: EndpointSweep
    rulings: Mapping[Protocol, Ruling]
    opinions: Mapping[Protocol, Fact[bool]]
    connections: int


def left_of(budget: int, facts: EndpointFacts, now: float) -> int:
    """Connections that an endpoint's budget of a day has left."""
    return max(0, budget - len(facts.asked_within_a_day(now)))


def spend(facts: EndpointFacts, connections: int, now: float) -> EndpointFacts:
    """The facts with this many connections spent now."""
    return replace(facts, asked_again=(*facts.asked_within_a_day(now), *[now] * connections))


async def settle(facts: EndpointFacts, sweep: EndpointSweep, ask: Ask, connections: int, pause: float) -> Settled:
    """Have a sweep's doubtful answers confirmed.

    Where both probers agree the answer stands. Where they do not the other one is asked once more after a pause, and if
    it does not agree then the answer is unknown, *contradictory*. A sweep that contradicts itself about what was
    published is confirmed or not in the same way.

    Args:
        facts: what is known of the endpoint so far.
        sweep: what was seen now.
        ask: gets the other prober's answers.
        connections: how many may be spent; one for each version asked for.
        pause: seconds until the second attempt.
    """
    claims = {protocol: _claim(facts, sweep, protocol) for protocol in facts.doubtful(sweep)}
    opinions: dict[Protocol, Fact[bool]] = {}
    spent = 0
    for again in (False, True):
        disputed = [each for each in claims if _disputed(claims[each], opinions.get(each))]
        asked = tuple(disputed if again else claims)[: connections - spent]
        if not asked:
            break
        if again:
            await asyncio.sleep(pause)
        try:
            said = await ask(asked, again)
            spent += len(asked)
        except NotAskedError as nothing:
            said = dict.fromkeys(asked, nothing.missing)
        # A second attempt that decided nothing leaves the first standing.
        opinions |= {each: fact for each, fact in said.items() if isinstance(fact, Known) or not again}
    rulings = {each: _ruling(claim, opinions.get(each)) for each, claim in claims.items()}
    answers = {
        each: _answer(sweep.accepted[each], ruling, opinions.get(each), known=each in facts.settled)
        for each, ruling in rulings.items()
    }
    settled = replace(sweep, accepted=MappingProxyType({**sweep.accepted, **answers}))
    return Settled(settled, rulings, opinions, spent)


def _claim(facts: EndpointFacts, sweep: EndpointSweep, protocol: Protocol) -> bool:
    """What there is to confirm: the sweep's answer, or what was published where the sweep contradicts itself."""
    fact = sweep.accepted[protocol]
    return fact.value if isinstance(fact, Known) else facts.settled[protocol]


def _disputed(claim: bool, opinion: Fact[bool] | None) -> bool:  # noqa: FBT001 - it is an answer
    return isinstance(opinion, Known) and opinion.value is not claim


def _ruling(claim: bool, opinion: Fact[bool] | None) -> Ruling:  # noqa: FBT001 - it is an answer
    if opinion is None:
        return Ruling.BUDGET_SPENT
    if isinstance(opinion, Missing):
        return Ruling.UNDECIDED
    return Ruling.CONTRADICTORY if _disputed(claim, opinion) else Ruling.AGREED


def _answer(swept: Fact[bool], ruling: Ruling, opinion: Fact[bool] | None, *, known: bool) -> Fact[bool]:
    """What is published of a version that was doubtful."""
    if ruling is Ruling.AGREED and opinion is not None:
        return swept if isinstance(swept, Known) else opinion
    claim = f"the sweep says {_word(swept)}"
    if isinstance(opinion, Missing):
        return Missing(opinion.reason, f"{claim}, and a second opinion could not be had: {opinion.detail}")
    if opinion is not None:
        return Missing(Reason.CONTRADICTORY, f"{claim}, a complete handshake says {_word(opinion)}")
    # Unlike what was published: then that is in doubt, too.
    reason = Reason.CONTRADICTORY if known else Reason.NOT_OBSERVED_YET
    return Missing(
        reason, f"{claim}, and the day's connections for second opinions (probe.second_opinions) are used up"
    )


def _word(fact: Fact[bool]) -> str:
    if isinstance(fact, Missing):
        return f"unknown ({fact.detail or fact.reason})"
    how = f" ({fact.detail})" if fact.detail else ""
    return ("accepted" if fact.value else "rejected") + how
