"""Whether certificates are sound: passes, fails, unknown, not applicable."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from exporter.facts import Certificate, Door, EndpointFacts, Missing, Reason
from exporter.rules.certificates import CERTIFICATES_SOUND
from exporter.verdicts import RuleState, Severity, Verdict, judge

from builders import (
    NOW,
    certificate,
    chain,
    closed_endpoint,
    endpoint_facts,
    failed_scan,
    failed_sweep,
    scan,
    server_facts,
)

DAY = 86400.0
EXPIRED = certificate(not_after=NOW - 35 * DAY)
INTERMEDIATE = certificate(subject="CN=Test CA", issuer="CN=Test Root", names=())
ROOT = {"subject": "CN=Test Root", "issuer": "CN=Test Root", "names": ()}


def _judge(*endpoints: EndpointFacts, now: float = NOW) -> Verdict:
    return judge(server_facts(*endpoints), (CERTIFICATES_SOUND,), now)[0]


def _presenting(*certificates: Certificate, port: int = 443, **changes: Any) -> EndpointFacts:
    """An endpoint whose last scan saw a chain of these."""
    return endpoint_facts(port=port, **changes).after_scan(scan(chain(*certificates)), max_age=DAY)


def _scan_failed(reason: Reason = Reason.DEADLINE, port: int = 443) -> EndpointFacts:
    return endpoint_facts(port=port).after_scan(failed_scan(reason), max_age=DAY)


class TestPasses:
    def test_the_evidence_names_the_endpoints(self) -> None:
        """All of them: whoever reads it sees what was looked at."""
        verdict = _judge(_presenting(certificate(), INTERMEDIATE), _presenting(port=25))

        assert (verdict.state, verdict.reason) == (RuleState.PASSED, "")
        assert verdict.evidence == "the certificates of exch01.test:443, exch01.test:25 are sound"

    @pytest.mark.parametrize(
        "changes",
        [
            {"key_size": 2048},
            {"key_size": 4096},
            {"key_type": "EC", "key_size": 256},
            {"key_type": "Ed25519", "key_size": 0, "signature_hash": ""},
            {"key_type": "Ed448", "key_size": 0, "signature_hash": ""},
            {"signature_hash": "sha224"},
            {"signature_hash": "sha384"},
            {"signature_hash": "sha512"},
            {"subject": ""},
            {"not_after": NOW},
            {"not_before": NOW},
        ],
        ids=str,
    )
    def test_sound(self, changes: dict[str, object]) -> None:
        """RSA from 2048 bits on and elliptic curves, SHA-2, both ends of the validity included."""
        assert _judge(_presenting(certificate(**changes))).state is RuleState.PASSED

    def test_whom_it_is_for_and_who_trusts_it_is_another_question(self) -> None:
        """An internal name or authority is no fault of the certificate."""
        other = chain(matches_name=False, trusted=Missing(Reason.NOT_OBSERVED_YET, "scan.ca_file is not set"))

        assert _judge(endpoint_facts().after_scan(scan(other), DAY)).state is RuleState.PASSED

    def test_the_signature_of_a_root_in_the_chain_does_not_count(self) -> None:
        """Whoever trusts it trusts it for what it is."""
        root = certificate(**ROOT, signature_hash="sha1")

        assert _judge(_presenting(certificate(), INTERMEDIATE, root)).state is RuleState.PASSED


class TestFails:
    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"not_after": NOW - 35 * DAY}, "expired 35 days ago"),
            ({"not_before": NOW + 2 * DAY}, "is not valid for another 2 days"),
            ({"key_size": 2047}, "has the key RSA 2047"),
            ({"key_size": 1024}, "has the key RSA 1024"),
            ({"key_type": "DSA", "key_size": 3072}, "has the key DSA 3072"),
            ({"signature_hash": "sha1"}, "is signed with SHA-1"),
            ({"signature_hash": "md5"}, "is signed with MD5"),
        ],
    )
    def test_the_evidence_says_which_certificate_and_what_is_wrong(
        self, changes: dict[str, object], fault: str
    ) -> None:
        """One endpoint with one such certificate is enough."""
        verdict = _judge(_presenting(port=25), _presenting(certificate(**changes)))

        assert (verdict.state, verdict.reason) == (RuleState.FAILED, "")
        assert verdict.evidence == f"exch01.test:443: CN=exch01.test {fault}"

    @pytest.mark.parametrize("changes", [{"not_after": NOW - 1}, {"not_before": NOW + 1}], ids=str)
    def test_one_second_is_enough(self, changes: dict[str, object]) -> None:
        """Past the end, or before the beginning."""
        assert _judge(_presenting(certificate(**changes))).state is RuleState.FAILED

    def test_the_time_of_judging_counts_not_that_of_the_scan(self) -> None:
        """A certificate that was fine when it was seen expires without another scan."""
        endpoint = _presenting(certificate(not_after=NOW + DAY))

        assert _judge(endpoint, now=NOW + DAY).state is RuleState.PASSED
        assert _judge(endpoint, now=NOW + 3 * DAY).evidence == "exch01.test:443: CN=exch01.test expired 2 days ago"

    def test_every_fault_is_named(self) -> None:
        """Of one certificate, and of several endpoints, in their order."""
        worst = certificate(not_after=NOW - 35 * DAY, key_size=1024, signature_hash="sha1")
        verdict = _judge(_presenting(worst), _presenting(EXPIRED, port=25))

        assert verdict.evidence == (
            "exch01.test:443: CN=exch01.test expired 35 days ago; "
            "exch01.test:443: CN=exch01.test has the key RSA 1024; "
            "exch01.test:443: CN=exch01.test is signed with SHA-1; "
            "exch01.test:25: CN=exch01.test expired 35 days ago"
        )

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"signature_hash": "sha1"}, "is signed with SHA-1"),
            ({"key_size": 1024}, "has the key RSA 1024"),
            ({"not_after": NOW - DAY}, "expired 1 day ago"),
        ],
    )
    def test_intermediates_count(self, changes: dict[str, object], fault: str) -> None:
        """A chain is no better than its weakest certificate."""
        intermediate = certificate(subject="CN=Test CA", issuer="CN=Test Root", **changes)

        assert _judge(_presenting(certificate(), intermediate)).evidence == f"exch01.test:443: CN=Test CA {fault}"

    @pytest.mark.parametrize("changes", [{"key_size": 1024}, {"not_after": NOW - DAY}], ids=str)
    def test_all_but_the_signature_of_a_root_counts(self, changes: dict[str, object]) -> None:
        """Its key and its validity are as weak as anybody's."""
        root = certificate(**ROOT, **changes)

        assert _judge(_presenting(certificate(), root)).state is RuleState.FAILED

    @pytest.mark.parametrize("signature_hash", ["sha1", "md5"])
    def test_a_self_signed_leaf_is_no_root(self, signature_hash: str) -> None:
        """Its signature counts, also where the server sends it twice."""
        first, again = (certificate(issuer="CN=exch01.test", signature_hash=signature_hash) for _ in range(2))

        assert _judge(_presenting(first)).state is RuleState.FAILED
        assert _judge(_presenting(first, again)).state is RuleState.FAILED

    def test_every_chain_of_an_endpoint_counts(self) -> None:
        """Old clients get the second one."""
        old = certificate(subject="CN=old", signature_hash="sha1")
        endpoint = endpoint_facts().after_scan(scan(chain(), chain(old)), DAY)

        assert _judge(endpoint).evidence == "exch01.test:443: CN=old is signed with SHA-1"

    def test_what_two_chains_have_in_common_is_named_once(self) -> None:
        """The same leaf with other intermediates is one fault."""
        endpoint = endpoint_facts().after_scan(scan(chain(EXPIRED), chain(EXPIRED, INTERMEDIATE)), DAY)

        assert _judge(endpoint).evidence == "exch01.test:443: CN=exch01.test expired 35 days ago"

    def test_a_certificate_without_a_subject_is_called_by_its_fingerprint(self) -> None:
        """All names may be in the subject alternative names."""
        verdict = _judge(_presenting(certificate(subject="", key_size=1024)))

        assert verdict.evidence == "exch01.test:443: the certificate 0123456789abcdef has the key RSA 1024"

    def test_what_is_missing_elsewhere_does_not_hide_it(self) -> None:
        """One endpoint failed, one is missing, one is closed: failed, whatever their order."""
        endpoints = _presenting(EXPIRED), _scan_failed(port=25), closed_endpoint(587)
        for order in permutations(endpoints):
            verdict = _judge(*order)
            assert verdict.state is RuleState.FAILED
            assert verdict.evidence == "exch01.test:443: CN=exch01.test expired 35 days ago"


class TestUnknown:
    @pytest.mark.parametrize(
        "reason", [Reason.DEADLINE, Reason.WORKER_DIED, Reason.CONTRADICTORY, Reason.STARTTLS_REFUSED]
    )
    def test_a_failed_scan_gives_its_reason(self, reason: Reason) -> None:
        """And the evidence names the endpoint."""
        verdict = _judge(_presenting(), _scan_failed(reason, port=25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, reason)
        assert verdict.evidence == f"exch01.test:25 certificates: the scan: {reason}"

    def test_before_the_first_scan(self) -> None:
        """Not observed yet."""
        verdict = _judge(endpoint_facts())

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "not_observed_yet")
        assert verdict.evidence == "exch01.test:443 certificates: not_observed_yet"

    @pytest.mark.parametrize("certificates", [(), (EXPIRED,)], ids=["sound", "expired"])
    def test_stale(self, certificates: tuple[Certificate, ...]) -> None:
        """What was seen too long ago neither passes nor fails."""
        verdict = _judge(_presenting(*certificates).aged(NOW + 4 * DAY, 30 * DAY, 3 * DAY))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "stale")
        assert verdict.evidence == "exch01.test:443 certificates: the last answer is older than 259200 s"

    @pytest.mark.parametrize("certificates", [(), (EXPIRED,)], ids=["sound", "expired"])
    def test_a_closed_endpoint_says_nothing(self, certificates: tuple[Certificate, ...]) -> None:
        """What it presented before it was closed is not what the server does now."""
        closed = _presenting(*certificates).after(failed_sweep(at=NOW + 60), 3600)
        verdict = _judge(closed, _presenting(port=25))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "tcp_refused")
        assert verdict.evidence == "exch01.test:443: 192.0.2.1 port 443: tcp_refused"

    @pytest.mark.parametrize("position", [0, 1])
    def test_a_key_of_an_unknown_kind(self, position: int) -> None:
        """The leaf's, or another's: nobody can say that it is sound."""
        presented = [certificate(), INTERMEDIATE]
        presented[position] = certificate(subject="CN=strange", key_type="", key_size=0)
        verdict = _judge(_presenting(*presented))

        assert (verdict.state, verdict.reason) == (RuleState.UNKNOWN, "not_observed_yet")
        assert verdict.evidence == "exch01.test:443: CN=strange has a key or a signature of an unknown kind"

    def test_a_key_of_an_unknown_kind_does_not_hide_a_fault(self) -> None:
        """What is certain is said."""
        verdict = _judge(_presenting(certificate(key_type="", key_size=0, not_after=NOW - DAY)))

        assert verdict.state is RuleState.FAILED
        assert verdict.evidence == "exch01.test:443: CN=exch01.test expired 1 day ago"

    def test_a_signature_of_an_unknown_kind(self) -> None:
        """MD2, say, which arrives as its object identifier: nobody can say that it is sound."""
        verdict = _judge(_presenting(certificate(signature_hash="1.2.840.113549.1.1.2")))

        assert verdict.state is RuleState.UNKNOWN

    def test_nothing_but_optional_endpoints_that_are_not_in_use(self) -> None:
        """Never sound because nothing was there to judge."""
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

        assert _judge(_presenting(), *unused).evidence == f"the certificates of exch01.test:443 are sound{admitted}"
        assert _judge(_presenting(EXPIRED), *unused).evidence == (
            f"exch01.test:443: CN=exch01.test expired 35 days ago{admitted}"
        )

    def test_one_that_is_gone_for_good_takes_its_certificate_with_it(self) -> None:
        """Refused for seven days: what it presented then is nobody's fault now."""
        gone = _presenting(EXPIRED, port=993, origin="optional")
        gone = gone.after(failed_sweep(at=NOW + DAY), 3600).after(failed_sweep(at=NOW + 8 * DAY), 3600)

        assert _judge(_presenting(), gone).state is RuleState.PASSED

    def test_one_that_was_open_counts(self) -> None:
        """Like any other."""
        assert _judge(_presenting(), _presenting(EXPIRED, port=993, origin="optional")).state is RuleState.FAILED


def test_a_server_without_endpoints_is_not_judged() -> None:
    """Role none: the rule does not apply."""
    assert _judge().state is RuleState.NOT_APPLICABLE


def test_it_is_advice() -> None:
    """It never stands in the way of readiness."""
    assert CERTIFICATES_SOUND.severity is Severity.ADVICE
