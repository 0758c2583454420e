"""Whether the recommended cipher suites alone are offered: passes, fails, unknown, not applicable; and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from exporter.facts import Door, EndpointFacts, Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls.handshake import offers
from exporter.rules import cipher_suites
from exporter.rules.cipher_suites import CIPHER_SUITES_RECOMMENDED, RECOMMENDED
from exporter.verdicts import RuleState, Severity, Verdict, judge

from builders import (
    NOW,
    RECOMMENDED_SUITES,
    TLS12_ONLY,
    closed_endpoint,
    endpoint_facts,
    failed_sweep,
    scan,
    server_facts,
)

DAY = 86400.0
CBC = "TLS_RSA_WITH_AES_256_CBC_SHA"
TRIPLE_DES = "TLS_RSA_WITH_3DES_EDE_CBC_SHA"
CHACHA_1_3 = "TLS_CHACHA20_POLY1305_SHA256"
STATIC_RSA_GCM = ("TLS_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_GCM_SHA256")

# domain.md 6.5, written out.
TLS_1_2 = {
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
}
TLS_1_3 = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}


def _judge(*endpoints: EndpointFacts) -> Verdict:
    return judge(server_facts(*endpoints), (CIPHER_SUITES_RECOMMENDED,), NOW)[0]


def _offering(
    *suites: str,
    pattern: str = TLS12_ONLY,
    port: int = 443,
    others: Mapping[Protocol, Sequence[str] | Missing] | None = None,
    **changes: Any,
) -> EndpointFacts:
    """An endpoint that offers the recommended suites and these with TLS 1.2, and others with other versions."""
    facts: dict[Protocol, Fact[tuple[str, ...]]] = {Protocol.TLS_1_2: Known((*RECOMMENDED_SUITES, *suites), NOW)}
    for protocol, found in (others or {}).items():
        facts[protocol] = found if isinstance(found, Missing) else Known(tuple(found), NOW)
    scanned = replace(scan(), cipher_suites=facts)
    return endpoint_facts(pattern, port, **changes).after_scan(scanned, max_age=DAY)


def _scan_failed(reason: Reason = Reason.DEADLINE, port: int = 443) -> EndpointFacts:
    return _offering(port=port, others={Protocol.TLS_1_2: Missing(reason, f"the scan: {reason}")})


class TestPasses:
    def test_the_evidence_names_the_endpoints(self) -> None:
        """All of them: whoever reads it sees what was looked at."""
        verdict = _judge(_offering(), _offering(port=25))

        assert (verdict.state, verdict.reason) == (RuleState.PASSED, "")
        assert verdict.evidence == "recommended suites alone on exch01.test:443, exch01.test:25"

    def test_every_recommended_suite_may_be_there(self) -> None:
        """Of both versions."""
        endpoint = _offering(
            pattern="000011", others={Protocol.TLS_1_2: sorted(TLS_1_2), Protocol.TLS_1_3: sorted(TLS_1_3)}
        )

        assert _judge(endpoint).state is RuleState.PASSED

    @pytest.mark.parametrize("suites", [[TRIPLE_DES, CBC], Missing(Reason.DEADLINE, "the scan's time was over")])
    def test_the_suites_of_old_versions_are_not_judged(self, suites: Sequence[str] | Missing) -> None:
        """Bad or missing: whether those versions are on is another rule's question."""
        legacy = {Protocol.SSL_3_0: suites, Protocol.TLS_1_0: suites, Protocol.TLS_1_1: suites}

        assert _judge(_offering(pattern="011110", others=legacy)).state is RuleState.PASSED

    def test_a_version_that_is_not_accepted_has_none(self) -> None:
        """TLS 1.3 is off, so no scan looked for its suites; the other way round as well."""
        only_tls13 = replace(scan(), cipher_suites={Protocol.TLS_1_3: Known(("TLS_AES_256_GCM_SHA384",), NOW)})

        assert _judge(_offering(pattern="000010")).state is RuleState.PASSED
        assert _judge(endpoint_facts("000001").after_scan(only_tls13, DAY)).state is RuleState.PASSED


class TestFails:
    def test_the_evidence_names_suites_and_endpoint(self) -> None:
        """Those that are not recommended, and no others."""
        verdict = _judge(_offering(TRIPLE_DES, CBC), _offering(port=25))

        assert (verdict.state, verdict.reason) == (RuleState.FAILED, "")
        assert verdict.evidence == f"not recommended: exch01.test:443: {TRIPLE_DES}, {CBC}"

    def test_endpoints_with_the_same_suites_are_named_together(self) -> None:
        """A server's mostly are the same, in whatever order the scan found them."""
        verdict = _judge(
            _offering(TRIPLE_DES, CBC),
            _offering(CBC, port=587),
            _offering(CBC, TRIPLE_DES, port=25),
            _offering(port=993),
        )

        assert verdict.evidence == (
            f"not recommended: exch01.test:443, exch01.test:25: {TRIPLE_DES}, {CBC}; exch01.test:587: {CBC}"
        )

    @pytest.mark.parametrize("suite", [CHACHA_1_3, "TLS_AES_128_CCM_SHA256"])
    def test_tls13_has_a_list_as_well(self, suite: str) -> None:
        """With its own names."""
        verdict = _judge(_offering(pattern="000011", others={Protocol.TLS_1_3: [*TLS_1_3, suite]}))

        assert verdict.state is RuleState.FAILED
        assert verdict.evidence == f"not recommended: exch01.test:443: {suite}"

    def test_beside_others_the_suites_of_windows_2012_are_not_named(self) -> None:
        """There they are recommended: nobody should switch them off because of another one."""
        verdict = _judge(_offering(CBC, *STATIC_RSA_GCM))

        assert verdict.state is RuleState.FAILED
        assert verdict.evidence == f"not recommended: exch01.test:443: {CBC}"

    def test_what_is_missing_elsewhere_does_not_hide_it(self) -> None:
        """One endpoint failed, others are missing, closed or undecided: failed, whatever their order."""
        endpoints = _offering(CBC), _scan_failed(port=25), closed_endpoint(587), _offering(port=993, pattern="0000??")
        for order in permutations(endpoints):
            verdict = _judge(*order)
            assert verdict.state is RuleState.FAILED
            assert verdict.evidence == f"not recommended: exch01.test:443: {CBC}"

    def test_what_is_missing_of_another_version_does_not_hide_it(self) -> None:
        """The suites of TLS 1.3 could not be found: those of TLS 1.2 are bad all the same."""
        endpoint = _offering(CBC, pattern="000011", others={Protocol.TLS_1_3: Missing(Reason.DEADLINE, "over")})

        assert _judge(endpoint).state is RuleState.FAILED


class TestUnknown:
    @pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.WORKER_DIED, Reason.CONTRADICTORY, Reason.TLS_TIMEOUT])
    def test_a_failed_scan_gives_its_reason(self, reason: Reason) -> None:
        """And the evidence names endpoint and version."""
        verdict = _judge(_offering(), _scan_failed(reason, port=25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, reason)
        assert verdict.evidence == f"exch01.test:25 TLS 1.2 cipher suites: the scan: {reason}"

    @pytest.mark.parametrize(("pattern", "version"), [("000010", "TLS 1.2"), ("000001", "TLS 1.3")])
    def test_a_version_that_no_scan_looked_at(self, pattern: str, version: str) -> None:
        """It is accepted, and its suites are not there: not observed yet."""
        verdict = _judge(endpoint_facts(pattern))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "not_observed_yet")
        assert verdict.evidence == f"exch01.test:443 {version} cipher suites: not scanned yet"

    def test_both_versions_have_to_be_known(self) -> None:
        """TLS 1.3 was switched on since the last scan."""
        verdict = _judge(_offering(pattern="000011"))

        assert verdict.state is RuleState.UNKNOWN
        assert verdict.evidence == "exch01.test:443 TLS 1.3 cipher suites: not scanned yet"

    @pytest.mark.parametrize(("pattern", "version"), [("0000?0", "TLS 1.2"), ("00001?", "TLS 1.3")])
    def test_whether_a_version_is_accepted_has_to_be_known(self, pattern: str, version: str) -> None:
        """It might be, with other suites than a scan once saw."""
        verdict = _judge(_offering(pattern=pattern))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "tls_timeout")
        assert verdict.evidence == f"exch01.test:443 {version}: connected, then silence"

    @pytest.mark.parametrize("suites", [(), (CBC,)], ids=["recommended", "not recommended"])
    def test_stale(self, suites: tuple[str, ...]) -> None:
        """What was seen too long ago neither passes nor fails."""
        verdict = _judge(_offering(*suites).aged(NOW + 4 * DAY, 30 * DAY, 3 * DAY))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "stale")
        assert verdict.evidence == "exch01.test:443 TLS 1.2 cipher suites: the last answer is older than 259200 s"

    @pytest.mark.parametrize("suites", [(), (CBC,)], ids=["recommended", "not recommended"])
    def test_a_closed_endpoint_says_nothing(self, suites: tuple[str, ...]) -> None:
        """What it offered before it was closed is not what the server does now."""
        verdict = _judge(_offering(*suites).after(failed_sweep(at=NOW + 60), 3600), _offering(port=25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "tcp_refused")
        assert verdict.evidence == "exch01.test:443: 192.0.2.1 port 443: tcp_refused"

    @pytest.mark.parametrize("suites", [STATIC_RSA_GCM[:1], STATIC_RSA_GCM[1:], STATIC_RSA_GCM])
    def test_what_windows_2012_may_offer(self, suites: tuple[str, ...]) -> None:
        """From the wire alone nobody can say which Windows it is."""
        verdict = _judge(_offering(*suites))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "not_observed_yet")
        assert verdict.evidence == (
            f"exch01.test:443: {', '.join(sorted(suites))}: recommended on Windows Server 2012 and 2012 R2 only, "
            "and which Windows this is is not known"
        )

    def test_nothing_but_optional_endpoints_that_are_not_in_use(self) -> None:
        """Never passed because nothing was there to judge."""
        verdict = _judge(closed_endpoint(143, "optional"))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "nothing_observed")
        assert verdict.evidence == "no endpoint could be judged; not in use: exch01.test:143"


class TestOptionalEndpoints:
    def test_those_not_in_use_are_left_out_and_named(self) -> None:
        """Whether the rule passes or fails."""
        unused = (
            closed_endpoint(143, "optional"),
            closed_endpoint(444, "optional", Door.UNREACHABLE),
            EndpointFacts("exch01.test:995", "tls", "optional"),
        )
        admitted = (
            "; not in use: exch01.test:143; not observable from here: exch01.test:444; not tried yet: exch01.test:995"
        )

        assert _judge(_offering(), *unused).evidence == f"recommended suites alone on exch01.test:443{admitted}"
        assert _judge(_offering(CBC), *unused).evidence == f"not recommended: exch01.test:443: {CBC}{admitted}"

    def test_one_that_is_gone_for_good_takes_its_suites_with_it(self) -> None:
        """Refused for seven days: what it offered then is nobody's fault now."""
        gone = _offering(CBC, port=993, origin="optional")
        gone = gone.after(failed_sweep(at=NOW + DAY), 3600).after(failed_sweep(at=NOW + 8 * DAY), 3600)

        assert _judge(_offering(), gone).state is RuleState.PASSED

    def test_one_that_was_open_counts(self) -> None:
        """Like any other."""
        assert _judge(_offering(), _offering(CBC, port=993, origin="optional")).state is RuleState.FAILED


def test_a_server_without_endpoints_is_not_judged() -> None:
    """Role none: the rule does not apply."""
    assert _judge().state is RuleState.NOT_APPLICABLE


def test_it_is_advice() -> None:
    """It never stands in the way of readiness."""
    assert CIPHER_SUITES_RECOMMENDED.severity is Severity.ADVICE


class TestTable:
    def test_it_is_microsofts_list(self) -> None:
        """Eight suites for TLS 1.2, two for TLS 1.3, and two more on Windows Server 2012 and 2012 R2."""
        assert RECOMMENDED == {Protocol.TLS_1_2: TLS_1_2, Protocol.TLS_1_3: TLS_1_3}
        assert dict(cipher_suites._ON_2012) == {Protocol.TLS_1_2: {*STATIC_RSA_GCM}}

    @pytest.mark.parametrize("table", [RECOMMENDED, cipher_suites._ON_2012], ids=["recommended", "2012"])
    def test_every_suite_can_be_asked_for(self, table: Mapping[Protocol, frozenset[str]]) -> None:
        """By the name that scans report it by: a name that is spelled otherwise would never be found."""
        for protocol, suites in table.items():
            assert suites <= {suite for offer in offers(protocol) for suite in offer.suites}
