"""Facts: what is kept from one sweep to the next, and what counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.facts import (
    REFUSED_FOR_GOOD,
    Door,
    EndpointFacts,
    Known,
    Missing,
    MissingFactError,
    Protocol,
    Reason,
)

from builders import NOW, TLS10_TO_12, TLS12_ONLY, accepted, closed_endpoint, endpoint_facts, failed_sweep, swept

MAX_AGE = 3600.0


def test_reading_a_missing_fact_raises() -> None:
    """A rule that forgets the failed case cannot go on."""
    with pytest.raises(MissingFactError) as caught:
        _ = Missing(Reason.DNS, "no such name").value

    assert caught.value.missing == Missing(Reason.DNS, "no such name")


class TestAfter:
    def test_decided_answers_replace_old_ones(self) -> None:
        """The newest good answer stands."""
        facts = endpoint_facts(TLS10_TO_12).after(swept(TLS12_ONLY, NOW + 60), MAX_AGE)

        assert facts.accepted == accepted(TLS12_ONLY, NOW + 60)

    def test_an_unknown_answer_keeps_the_last_good_one(self) -> None:
        """One silence does not forget what was known."""
        facts = endpoint_facts(TLS12_ONLY).after(swept("0000?0", NOW + MAX_AGE), MAX_AGE)

        assert facts.accepted[Protocol.TLS_1_2] == Known(value=True, at=NOW)

    def test_a_contradiction_is_news(self) -> None:
        """What was known before is in doubt: it does not hide behind the last good answer."""
        contradictory = Missing(Reason.CONTRADICTORY, "accepted once, and alert 70")
        sweep = replace(swept(), accepted={**accepted(TLS12_ONLY), Protocol.TLS_1_0: contradictory})

        assert endpoint_facts(TLS12_ONLY).after(sweep, MAX_AGE).accepted[Protocol.TLS_1_0] is contradictory

    def test_the_last_good_answer_ends_with_its_age(self) -> None:
        """After max_age the sweep's own reason stands."""
        facts = endpoint_facts(TLS12_ONLY).after(swept("0000?0", NOW + MAX_AGE + 1), MAX_AGE)

        assert facts.accepted[Protocol.TLS_1_2] == Missing(Reason.TLS_TIMEOUT, "connected, then silence")

    def test_a_failed_sweep_says_so_and_keeps_the_answers(self) -> None:
        """The endpoint is down now; what it accepted when it was last seen stays known."""
        facts = endpoint_facts(TLS12_ONLY).after(failed_sweep(at=NOW + 60), MAX_AGE)

        assert facts.accepted == accepted(TLS12_ONLY)
        assert facts.speaks_tls is False
        assert facts.closed
        assert facts.failure is not None
        assert facts.failure.reason is Reason.TCP_REFUSED
        assert facts.address == "192.0.2.1"

    def test_aged_turns_old_answers_stale(self) -> None:
        """Whatever keeps sweeps from happening, an old answer does not look fresh."""
        facts = endpoint_facts("00?010")

        assert facts.aged(NOW + MAX_AGE, MAX_AGE, MAX_AGE) == facts
        old = facts.aged(NOW + MAX_AGE + 1, MAX_AGE, MAX_AGE)
        assert [fact.reason for fact in old.accepted.values()] == [
            Reason.STALE, Reason.STALE, Reason.TLS_TIMEOUT, Reason.STALE, Reason.STALE, Reason.STALE,
        ]  # fmt: skip


class TestDoors:
    def test_core_and_configured_endpoints_count_from_the_start(self) -> None:
        """They were asked for."""
        assert EndpointFacts("a:443", "https", "core").in_use
        assert closed_endpoint(origin="configured").in_use

    @pytest.mark.parametrize("door", [Door.REFUSED, Door.UNREACHABLE])
    def test_an_optional_endpoint_never_seen_open_does_not_count(self, door: Door) -> None:
        """A closed optional door is neither exported nor judged."""
        assert not closed_endpoint(origin="optional", door=door).in_use

    def test_an_optional_endpoint_counts_once_it_was_open(self) -> None:
        """It is down then, not gone."""
        facts = closed_endpoint(origin="optional").after(swept(), MAX_AGE).after(failed_sweep(at=NOW + 60), MAX_AGE)

        assert facts.in_use
        assert facts.speaks_tls is False

    def test_refused_for_seven_days_is_not_in_use_again(self) -> None:
        """Somebody switched the service off."""
        facts = endpoint_facts(origin="optional").after(failed_sweep(at=NOW), MAX_AGE)
        almost = facts.after(failed_sweep(at=NOW + REFUSED_FOR_GOOD - 1), MAX_AGE)
        gone = almost.after(failed_sweep(at=NOW + REFUSED_FOR_GOOD), MAX_AGE)

        assert almost.in_use
        assert not gone.in_use
        later = gone.after(failed_sweep(Reason.TCP_TIMEOUT, Door.UNREACHABLE, NOW + REFUSED_FOR_GOOD + 60), MAX_AGE)
        assert not later.in_use
        assert later.after(swept(at=NOW + REFUSED_FOR_GOOD + 120), MAX_AGE).in_use

    def test_a_sweep_that_never_tried_the_door_says_nothing_about_it(self) -> None:
        """A resolver that fails is no closed door, and does not interrupt the seven days."""
        refused = endpoint_facts(origin="optional").after(failed_sweep(at=NOW), MAX_AGE)
        untried = refused.after(failed_sweep(Reason.DNS, Door.UNTRIED, NOW + 60), MAX_AGE)

        assert untried.door is Door.REFUSED
        assert not untried.after(failed_sweep(at=NOW + REFUSED_FOR_GOOD), MAX_AGE).in_use
        assert not endpoint_facts().after(failed_sweep(Reason.DNS, Door.UNTRIED, NOW + 60), MAX_AGE).closed

    def test_a_time_out_in_between_starts_the_seven_days_anew(self) -> None:
        """Only refusals in a row count."""
        facts = endpoint_facts(origin="optional").after(failed_sweep(at=NOW), MAX_AGE)
        facts = facts.after(failed_sweep(Reason.TCP_TIMEOUT, Door.UNREACHABLE, NOW + 60), MAX_AGE)
        facts = facts.after(failed_sweep(at=NOW + REFUSED_FOR_GOOD), MAX_AGE)

        assert facts.in_use
