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
DAY: Final = 86400.0
"""Seconds that connections count for in the budget."""


class Outcome(StrEnum):
    """What came of a second opinion on one version. The closed list of the metric's ``outcome`` label."""

    AGREED = "agreed"
    CONTRADICTORY = "contradictory"
    UNDECIDED = "undecided"
    BUDGET_SPENT = "budget_spent"


Ask: TypeAlias = Callable[[tuple[Protocol, ...], bool], Awaitable[Mapping[Protocol, Fact[bool]]]]
"""Gets the other prober's answers for some versions; whether this is the second attempt. Never raises."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A sweep after its doubtful answers were asked for once more.

    Attributes:
        sweep: with those answers unknown that were not confirmed.
        outcomes: per version that was doubtful, what came of it.
        opinions: per version that the other prober was asked for, its last answer.
        connections: that it cost, at most.
    """

    sweep: EndpointSweep
    outcomes: Mapping[Protocol, Outcome]
    opinions: Mapping[Protocol, Fact[bool]]
    connections: int


def left_of(budget: int, facts: EndpointFacts, now: float) -> int:
    """Connections that an endpoint's budget of a day has left."""
    return max(0, budget - sum(now - at < DAY for at in facts.asked_again))


def spend(facts: EndpointFacts, connections: int, now: float) -> EndpointFacts:
    """The facts with this many connections spent now."""
    recent = tuple(at for at in facts.asked_again if now - at < DAY)
    return replace(facts, asked_again=(*recent, *[now] * connections))


async def settle(facts: EndpointFacts, sweep: EndpointSweep, ask: Ask, connections: int, pause: float) -> Settled:
    """Have a sweep's doubtful answers confirmed.

    Where both probers agree the answer stands. Where they do not they are asked once more after a pause, and if they
    still do not the answer is unknown, *contradictory*.

    Args:
        facts: what is known of the endpoint so far.
        sweep: what was seen now.
        ask: gets the other prober's answers.
        connections: how many may be spent; one for each version asked for.
        pause: seconds until the second attempt.
    """
    doubtful = facts.doubtful(sweep)
    opinions: dict[Protocol, Fact[bool]] = {}
    spent = 0
    asked = doubtful[:connections]
    for again in (False, True):
        if again:
            asked = tuple(each for each in asked if _contradicts(sweep, each, opinions))[: connections - spent]
            if asked:
                await asyncio.sleep(pause)
        if asked:
            spent += len(asked)
            said = await ask(asked, again)
            # A second attempt that decided nothing leaves the first standing.
            opinions |= {each: fact for each, fact in said.items() if isinstance(fact, Known) or not again}
    outcomes = {each: _outcome(sweep, each, opinions) for each in doubtful}
    accepted = {
        protocol: _unconfirmed(fact, outcomes[protocol], opinions.get(protocol), known=protocol in facts.settled)
        if outcomes.get(protocol, Outcome.AGREED) is not Outcome.AGREED
        else fact
        for protocol, fact in sweep.accepted.items()
    }
    return Settled(
        sweep=replace(sweep, accepted=MappingProxyType(accepted)),
        outcomes=outcomes,
        opinions=opinions,
        connections=spent,
    )


def _contradicts(sweep: EndpointSweep, protocol: Protocol, opinions: Mapping[Protocol, Fact[bool]]) -> bool:
    opinion = opinions[protocol]
    return isinstance(opinion, Known) and opinion.value is not sweep.accepted[protocol].value


def _outcome(sweep: EndpointSweep, protocol: Protocol, opinions: Mapping[Protocol, Fact[bool]]) -> Outcome:
    if protocol not in opinions:
        return Outcome.BUDGET_SPENT
    if isinstance(opinions[protocol], Missing):
        return Outcome.UNDECIDED
    return Outcome.CONTRADICTORY if _contradicts(sweep, protocol, opinions) else Outcome.AGREED


def _unconfirmed(fact: Fact[bool], outcome: Outcome, opinion: Fact[bool] | None, *, known: bool) -> Missing:
    """What stands in place of an answer that was not confirmed."""
    claim = f"the sweep says {_word(fact)}"
    if isinstance(opinion, Missing):
        return Missing(opinion.reason, f"{claim}, and a second opinion could not be had: {opinion.detail}")
    if outcome is Outcome.CONTRADICTORY and opinion is not None:
        return Missing(Reason.CONTRADICTORY, f"{claim}, a complete handshake says {_word(opinion)}")
    # Unlike what was published: then that is in doubt, too.
    reason = Reason.CONTRADICTORY if known else Reason.NOT_OBSERVED_YET
    return Missing(reason, f"{claim}, and the day's connections for second opinions are used up")


def _word(fact: Fact[bool]) -> str:
    if isinstance(fact, Missing):
        return f"unknown ({fact.reason})"
    how = f" ({fact.detail})" if fact.detail else ""
    return ("accepted" if fact.value else "rejected") + how
