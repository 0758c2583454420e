"""From facts to verdicts: what a readiness rule is, and how rules and profiles are judged. Pure.

A rule asks one question. Its answer is *passed* or *failed* with the evidence, or *unknown* because a fact that it
read is missing. A profile is a set of rules: *not_ready* when a blocker failed, else *unknown* when a blocker is
unknown, else *ready*; never ready because there was nothing to judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exporter.facts import MissingFactError, ServerFacts

NOTHING_OBSERVED: Final = "nothing_observed"
"""The reason of a profile that has no decided blocker, and of a rule that had nothing to look at."""


class Severity(StrEnum):
    """What a failure means: blockers stand in the way of readiness, advice does not."""

    BLOCKER = "blocker"
    ADVICE = "advice"


class RuleState(StrEnum):
    """What became of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    WAIVED = "waived"
    NOT_APPLICABLE = "not_applicable"


class ProfileState(StrEnum):
    """What became of a profile."""

    READY = "ready"
    NOT_READY = "not_ready"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule's check found.

    Attributes:
        passed: the answer to the rule's question; None when there was nothing to look at.
        evidence: the facts that it rests on, in a sentence.
    """

    passed: bool | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A readiness rule; Prometheus' rules are called alerts here.

    Attributes:
        id: a stable slug: metric label, page anchor, name in waivers.
        title: the question that it asks.
        source: where the requirement is written.
        severity: what a failure means.
        applies: whether it has anything to say about a server.
        check: answers the question, given the time; reading a missing fact's value makes the verdict unknown.
        remedy: what to do when it fails.
    """

    id: str
    title: str
    source: str
    severity: Severity
    applies: Callable[[ServerFacts], bool]
    check: Callable[[ServerFacts, float], Finding]
    remedy: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's outcome for one server.

    Attributes:
        rule: the rule.
        state: what became of it.
        reason: why it is unknown; "" otherwise.
        evidence: what the outcome rests on.
    """

    rule: Rule
    state: RuleState
    reason: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ProfileVerdict:
    """A profile's outcome for one server.

    Attributes:
        state: ready, not_ready or unknown.
        blockers: ids of the blockers that failed.
        unknown: ids of the blockers that are unknown.
        reason: why it is unknown; "" otherwise.
        next_step: what to do next, in a sentence; "" when ready.
    """

    state: ProfileState
    blockers: tuple[str, ...]
    unknown: tuple[str, ...]
    reason: str
    next_step: str


def judge(facts: ServerFacts, rules: Sequence[Rule], now: float) -> tuple[Verdict, ...]:
    """Judge one server by each rule, in the rules' order. A missing fact costs the verdicts that need it, no others.

    Args:
        facts: what was seen of the server.
        rules: the rules to judge it by.
        now: Unix time in seconds, for rules about dates.
    """
    return tuple(_judge(facts, rule, now) for rule in rules)


def _judge(facts: ServerFacts, rule: Rule, now: float) -> Verdict:
    try:
        if not rule.applies(facts):
            return Verdict(rule, RuleState.NOT_APPLICABLE)
        finding = rule.check(facts, now)
    except MissingFactError as error:
        return Verdict(rule, RuleState.UNKNOWN, error.missing.reason, error.missing.detail)
    if finding.passed is None:
        return Verdict(rule, RuleState.UNKNOWN, NOTHING_OBSERVED, finding.evidence)
    return Verdict(rule, RuleState.PASSED if finding.passed else RuleState.FAILED, "", finding.evidence)


def judge_profile(verdicts: Sequence[Verdict], rule_ids: Sequence[str]) -> ProfileVerdict:
    """Put the verdicts of a profile's rules together."""
    blockers = [each for each in verdicts if each.rule.id in rule_ids and each.rule.severity is Severity.BLOCKER]
    by_state: Mapping[RuleState, list[Verdict]] = {
        state: [each for each in blockers if each.state is state] for state in RuleState
    }
    failed, unknown = by_state[RuleState.FAILED], by_state[RuleState.UNKNOWN]
    failed_ids = tuple(each.rule.id for each in failed)
    unknown_ids = tuple(each.rule.id for each in unknown)
    if failed:
        return ProfileVerdict(ProfileState.NOT_READY, failed_ids, unknown_ids, "", failed[0].rule.remedy)
    if unknown:
        first = unknown[0]
        step = f"Find out: {first.evidence or first.reason}"
        return ProfileVerdict(ProfileState.UNKNOWN, (), unknown_ids, first.reason, step)
    if not by_state[RuleState.PASSED] and not by_state[RuleState.WAIVED]:
        return ProfileVerdict(ProfileState.UNKNOWN, (), (), NOTHING_OBSERVED, "Find out: no rule had anything to judge")
    return ProfileVerdict(ProfileState.READY, (), (), "", "")
