"""Judging: what becomes of rules and profiles, above all where facts are missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.facts import Missing, Reason, ServerFacts
from exporter.verdicts import (
    NOTHING_OBSERVED,
    Finding,
    ProfileState,
    Rule,
    RuleState,
    Severity,
    Verdict,
    judge,
    judge_profile,
)

from builders import NOW, server_facts


def _rule(
    check: Callable[[ServerFacts, float], Finding],
    *,
    id: str = "rule",  # noqa: A002 - the field's own name
    severity: Severity = Severity.BLOCKER,
    applies: Callable[[ServerFacts], bool] = lambda _: True,
) -> Rule:
    return Rule(id, "Is it so?", "the guidance", severity, applies, check, f"mend {id}")


def _forgetful(_: ServerFacts, _now: float = NOW) -> Finding:
    return Finding(passed=bool(Missing(Reason.DNS, "no such name").value), evidence="never said")


def _state(state: RuleState, id: str, severity: Severity = Severity.BLOCKER) -> Verdict:  # noqa: A002
    reason = "dns" if state is RuleState.UNKNOWN else ""
    return Verdict(_rule(_forgetful, id=id, severity=severity), state, reason, "")


def test_a_missing_fact_costs_the_verdict_that_needs_it_and_no_other() -> None:
    """Forgotten failures come out as unknown, with their reason."""
    passing = _rule(lambda *_: Finding(passed=True, evidence="seen"), id="passing")

    unknown, passed = judge(server_facts(), (_rule(_forgetful), passing), NOW)

    assert (unknown.state, unknown.reason, unknown.evidence) == (RuleState.UNKNOWN, "dns", "no such name")
    assert passed.state is RuleState.PASSED


def test_a_missing_fact_in_applies_is_unknown_too() -> None:
    """Whether a rule applies may hang on a fact as well."""
    rule = _rule(lambda *_: Finding(passed=True, evidence=""), applies=lambda facts: _forgetful(facts).passed is True)

    assert judge(server_facts(), (rule,), NOW)[0].state is RuleState.UNKNOWN


def test_nothing_to_look_at_is_unknown() -> None:
    """Never passed for lack of anything that could fail."""
    (verdict,) = judge(server_facts(), (_rule(lambda *_: Finding(passed=None, evidence="no endpoint")),), NOW)

    assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, NOTHING_OBSERVED)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((RuleState.PASSED,), ProfileState.READY),
        ((RuleState.PASSED, RuleState.NOT_APPLICABLE), ProfileState.READY),
        ((RuleState.PASSED, RuleState.WAIVED), ProfileState.READY),
        ((RuleState.PASSED, RuleState.UNKNOWN), ProfileState.UNKNOWN),
        ((RuleState.UNKNOWN, RuleState.FAILED), ProfileState.NOT_READY),
        ((RuleState.PASSED, RuleState.FAILED), ProfileState.NOT_READY),
        ((RuleState.NOT_APPLICABLE,), ProfileState.UNKNOWN),
        ((), ProfileState.UNKNOWN),
    ],
)
def test_a_known_fault_outranks_a_gap_and_a_gap_outranks_ready(
    states: tuple[RuleState, ...], expected: ProfileState
) -> None:
    """The order of states is the contract of every format."""
    verdicts = [_state(state, f"rule{index}") for index, state in enumerate(states)]

    assert judge_profile(verdicts, [f"rule{index}" for index in range(len(states))]).state is expected


def test_advice_never_blocks() -> None:
    """A failed piece of advice leaves the profile ready."""
    verdicts = [_state(RuleState.PASSED, "a"), _state(RuleState.FAILED, "b", Severity.ADVICE)]

    assert judge_profile(verdicts, ["a", "b"]).state is ProfileState.READY


def test_rules_of_other_profiles_do_not_count() -> None:
    """A profile is judged by its own rules."""
    verdicts = [_state(RuleState.PASSED, "a"), _state(RuleState.FAILED, "b")]

    assert judge_profile(verdicts, ["a"]).state is ProfileState.READY


def test_the_next_step_is_the_first_blockers_remedy() -> None:
    """In the order of the rules, which is the guidance's."""
    verdicts = [_state(RuleState.FAILED, "first"), _state(RuleState.FAILED, "second")]

    profile = judge_profile(verdicts, ["second", "first"])

    assert profile.blockers == ("first", "second")
    assert profile.next_step == "mend first"


@given(st.lists(st.sampled_from(RuleState), max_size=6))
def test_ready_needs_a_decided_blocker_and_no_gap(states: list[RuleState]) -> None:
    """Ready is never vacuous, and never in spite of something."""
    verdicts = [_state(state, f"rule{index}") for index, state in enumerate(states)]

    profile = judge_profile(verdicts, [f"rule{index}" for index in range(len(states))])

    ready = not {RuleState.FAILED, RuleState.UNKNOWN} & set(states) and {RuleState.PASSED, RuleState.WAIVED} & set(
        states
    )
    assert (profile.state is ProfileState.READY) == bool(ready)
