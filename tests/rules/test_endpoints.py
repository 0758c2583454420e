"""The wire rules: passes, fails, unknown, not applicable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.facts import Door, EndpointFacts, Reason, ServerFacts
from exporter.rules import PROFILES
from exporter.rules.endpoints import ENDPOINTS_ACCEPT_TLS12, ENDPOINTS_REJECT_LEGACY
from exporter.verdicts import Rule, RuleState, Verdict, judge

from builders import NOW, RULES, TLS10_TO_12, TLS12_ONLY, closed_endpoint, endpoint_facts, failed_sweep, server_facts


def _judge(rule: Rule, *endpoints: EndpointFacts) -> Verdict:
    return judge(server_facts(*endpoints), (rule,), NOW)[0]


BOTH = pytest.mark.parametrize("rule", [ENDPOINTS_ACCEPT_TLS12, ENDPOINTS_REJECT_LEGACY], ids=lambda rule: rule.id)


class TestAcceptTls12:
    @pytest.mark.parametrize("pattern", [TLS12_ONLY, TLS10_TO_12, "000011", "????1?"])
    def test_passes(self, pattern: str) -> None:
        """What else an endpoint accepts is another rule's question."""
        assert _judge(ENDPOINTS_ACCEPT_TLS12, endpoint_facts(pattern)).state is RuleState.PASSED

    @pytest.mark.parametrize("pattern", ["011000", "000001"])
    def test_fails(self, pattern: str) -> None:
        """TLS 1.3 does not stand in for TLS 1.2."""
        verdict = _judge(ENDPOINTS_ACCEPT_TLS12, endpoint_facts(pattern), endpoint_facts(TLS12_ONLY, 25))

        assert verdict.state is RuleState.FAILED
        assert verdict.evidence == "TLS 1.2 is refused by exch01.test:443"

    def test_unknown(self) -> None:
        """One endpoint without an answer leaves the rule unknown, and names it."""
        verdict = _judge(ENDPOINTS_ACCEPT_TLS12, endpoint_facts(TLS12_ONLY), endpoint_facts("0000?0", 25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "tls_timeout")
        assert verdict.evidence == "exch01.test:25 TLS 1.2: connected, then silence"


class TestRejectLegacy:
    @pytest.mark.parametrize("pattern", [TLS12_ONLY, "000011", "000000", "0000??"])
    def test_passes(self, pattern: str) -> None:
        """Only SSL 2.0 to TLS 1.1 matter here."""
        assert _judge(ENDPOINTS_REJECT_LEGACY, endpoint_facts(pattern)).state is RuleState.PASSED

    @pytest.mark.parametrize("pattern", ["100010", "010010", "001010", "000110", "?001??"])
    def test_fails(self, pattern: str) -> None:
        """One old version on one endpoint is enough."""
        verdict = _judge(ENDPOINTS_REJECT_LEGACY, endpoint_facts(pattern), endpoint_facts(TLS12_ONLY, 25))

        assert verdict.state is RuleState.FAILED

    def test_the_evidence_names_endpoint_and_versions(self) -> None:
        """What to look for."""
        verdict = _judge(ENDPOINTS_REJECT_LEGACY, endpoint_facts(TLS10_TO_12))

        assert verdict.evidence == "still accepted: exch01.test:443 (TLS 1.0, TLS 1.1)"

    @pytest.mark.parametrize("pattern", ["?00010", "0?0010", "00?010", "000?10"])
    def test_unknown(self, pattern: str) -> None:
        """Every old version has to be decided on every endpoint."""
        assert _judge(ENDPOINTS_REJECT_LEGACY, endpoint_facts(pattern)).state is RuleState.UNKNOWN


@BOTH
class TestClosedDoors:
    def test_a_closed_core_endpoint_is_unknown(self, rule: Rule) -> None:
        """Never failed and never passed."""
        verdict = _judge(rule, endpoint_facts(TLS12_ONLY), closed_endpoint(25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "tcp_refused")
        assert verdict.evidence == "exch01.test:25: 192.0.2.1 port 443: tcp_refused"

    @pytest.mark.parametrize("pattern", [TLS12_ONLY, "111100"])
    def test_what_a_closed_endpoint_once_accepted_does_not_count(self, rule: Rule, pattern: str) -> None:
        """It is known, but it is not what the server does now."""
        verdict = _judge(rule, endpoint_facts(pattern).after(failed_sweep(at=NOW + 60), 3600))

        assert verdict.state is RuleState.UNKNOWN

    def test_closed_optional_endpoints_are_left_out_and_named(self, rule: Rule) -> None:
        """They do not block; the evidence admits them."""
        verdict = _judge(
            rule,
            endpoint_facts(TLS12_ONLY),
            closed_endpoint(143, "optional"),
            closed_endpoint(444, "optional", Door.UNREACHABLE),
            EndpointFacts("exch01.test:995", "tls", "optional"),
        )

        assert verdict.state is RuleState.PASSED
        assert verdict.evidence.endswith(
            "by exch01.test:443; not in use: exch01.test:143; not observable from here: exch01.test:444; "
            "not tried yet: exch01.test:995"
        )

    def test_nothing_but_closed_optional_endpoints_is_unknown(self, rule: Rule) -> None:
        """Never ready because nothing was there to judge."""
        verdict = _judge(rule, closed_endpoint(143, "optional"))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "nothing_observed")

    def test_before_the_first_sweep_it_is_unknown(self, rule: Rule) -> None:
        """Not observed yet."""
        verdict = _judge(rule, EndpointFacts("exch01.test:443", "https", "core"))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "not_observed_yet")

    def test_a_server_without_endpoints_is_not_judged(self, rule: Rule) -> None:
        """Role none: the rule does not apply."""
        assert _judge(rule).state is RuleState.NOT_APPLICABLE


_RANK = {"0": 2, "?": 1, "1": 0}
_patterns = st.lists(st.text("01?", min_size=6, max_size=6), min_size=1, max_size=3)


@given(_patterns, st.data())
def test_forgetting_an_answer_never_makes_a_rule_pass(patterns: list[str], data: st.DataObject) -> None:
    """Removing a fact never yields passed."""
    index = data.draw(st.integers(0, len(patterns) - 1))
    position = data.draw(st.integers(0, 5))
    less = list(patterns)
    less[index] = patterns[index][:position] + "?" + patterns[index][position + 1 :]
    for rule in RULES:
        before, after = (_judge(rule, *_endpoints(each)) for each in (patterns, less))
        assert after.state is not RuleState.PASSED or before.state is RuleState.PASSED


@given(_patterns, st.data())
def test_accepting_one_more_old_version_never_helps(patterns: list[str], data: st.DataObject) -> None:
    """Judging is monotone: a worse fact never improves a verdict."""
    index = data.draw(st.integers(0, len(patterns) - 1))
    position = data.draw(st.integers(0, 3))
    worse = list(patterns)
    worse[index] = patterns[index][:position] + "1" + patterns[index][position + 1 :]

    assert _judge(ENDPOINTS_REJECT_LEGACY, *_endpoints(worse)).state is RuleState.FAILED


def _endpoints(patterns: list[str]) -> list[EndpointFacts]:
    return [endpoint_facts(pattern, port) for port, pattern in enumerate(patterns, start=1)]


def test_every_rule_is_complete_and_every_profile_exists() -> None:
    """Ids are unique, rules cite a source and name a remedy, profiles name rules that there are."""
    ids = [rule.id for rule in RULES]

    assert len(set(ids)) == len(ids)
    assert all(rule.source and rule.remedy and rule.title.endswith("?") for rule in RULES)
    assert all(set(rules) <= set(ids) for rules in PROFILES.values())
    assert set(ids) == {rule for rules in PROFILES.values() for rule in rules}


def test_the_reasons_of_rules_are_the_facts_own() -> None:
    """A rule's reason is an endpoint's, or that nothing was observed."""
    facts = ServerFacts("exch01.test", (endpoint_facts("??????"),))

    assert {verdict.reason for verdict in judge(facts, RULES, NOW)} <= {*Reason}
