"""The second opinion: what a sweep alone must not decide, and what comes of asking the other prober."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.facts import DAY, Door, EndpointFacts, EndpointSweep, Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls.second_opinion import NotAskedError, Ruling, Settled, left_of, settle, spend

from builders import NOW, TLS10_TO_12, TLS12_ONLY, accepted, swept

S2, S3, T10, T11, T12, T13 = Protocol
NOBODY: frozenset[Protocol] = frozenset()
UNSEEN = EndpointFacts("exch01.test:443", "https", "core")
MAX_AGE = 3600.0
SILENCE = Missing(Reason.TLS_TIMEOUT, "connected, then silence")
DEAD = Missing(Reason.WORKER_DIED, "the child process: signal 9")


def said(pattern: str) -> Mapping[Protocol, Fact[bool]]:
    """What the other prober says to everything, should it be asked; never the same object as the sweep's answer."""
    texts = {True: "", False: "a complete handshake was refused"}
    return {
        protocol: replace(fact, at=NOW + 1, detail=texts[fact.value]) if isinstance(fact, Known) else SILENCE
        for protocol, fact in accepted(pattern).items()
    }


@dataclass
class Other:
    """Stands in for the other prober: it has an answer for each attempt, and remembers what it was asked."""

    answers: Sequence[Mapping[Protocol, Fact[bool]]]
    calls: list[tuple[tuple[Protocol, ...], bool]] = field(default_factory=list)

    async def ask(self, protocols: tuple[Protocol, ...], again: bool) -> Mapping[Protocol, Fact[bool]]:  # noqa: FBT001
        self.calls.append((protocols, again))
        answers = self.answers[-1] if again else self.answers[0]
        return {protocol: answers[protocol] for protocol in protocols}


def other(*patterns: str) -> Other:
    """One pattern for both attempts, or one for each."""
    return Other([said(pattern) for pattern in patterns])


def sweep_of(pattern: str, named: frozenset[Protocol] = NOBODY, at: float = NOW) -> EndpointSweep:
    """A sweep whose refusals name the version as their cause for these versions only."""
    return replace(swept(pattern, at), named=named)


def published(pattern: str, at: float = NOW - 600) -> EndpointFacts:
    """An endpoint whose answers were published."""
    return UNSEEN.after(swept(pattern, at), MAX_AGE)


async def confirm(facts: EndpointFacts, sweep: EndpointSweep, prober: Other, connections: int = 6) -> Settled:
    """Settle without waiting, and hold what holds for every time."""
    settled = await settle(facts, sweep, prober.ask, connections, pause=0)
    asked = [len(protocols) for protocols, _ in prober.calls]
    assert settled.connections == sum(asked) <= connections
    assert [again for _, again in prober.calls] in ([], [False], [False, True])
    assert set(settled.rulings) == set(facts.doubtful(sweep))
    return settled


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in seconds, without making them."""
    pauses: list[float] = []

    async def nap(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", nap)
    return pauses


class TestDoubtful:
    def test_the_same_answers_again_are_not(self) -> None:
        """However the refusals looked."""
        assert published(TLS12_ONLY).doubtful(sweep_of(TLS12_ONLY)) == ()

    def test_at_first_sight_an_acceptance_is_not(self) -> None:
        """No other prober is needed to believe a ServerHello."""
        assert UNSEEN.doubtful(sweep_of("111111")) == ()

    def test_at_first_sight_a_refusal_with_alert_70_is_not(self) -> None:
        """It names the version as its cause."""
        assert UNSEEN.doubtful(sweep_of("000010", frozenset({S2, S3, T10, T11, T13}))) == ()

    def test_at_first_sight_any_other_refusal_is(self) -> None:
        """A reset or a close may have other causes."""
        assert UNSEEN.doubtful(sweep_of("000010", frozenset({T10, T13}))) == (S2, S3, T11)

    def test_what_is_unknown_is_not(self) -> None:
        """There is nothing to confirm, neither at first sight nor later."""
        assert UNSEEN.doubtful(sweep_of("??????")) == ()
        assert published(TLS10_TO_12).doubtful(sweep_of("??????")) == ()

    @pytest.mark.parametrize("named", [NOBODY, frozenset(Protocol)])
    def test_a_flip_is_in_either_direction(self, named: frozenset[Protocol]) -> None:
        """With alert 70 or without."""
        assert published("001010").doubtful(sweep_of("000110", named)) == (T10, T11)

    def test_flips_come_first(self) -> None:
        """The budget may not last for all."""
        facts = published("???110")

        assert facts.doubtful(sweep_of("000010")) == (T11, S2, S3, T10)

    def test_a_version_that_was_published_is_no_first_sight(self) -> None:
        """Rejected without alert 70 today, rejected with it yesterday: nothing changed."""
        yesterday = UNSEEN.after(sweep_of(TLS12_ONLY, frozenset(Protocol)), MAX_AGE)

        assert yesterday.doubtful(sweep_of(TLS12_ONLY)) == ()

    def test_the_same_answers_after_they_went_stale_are_not(self) -> None:
        """A long outage is no news about versions."""
        stale = published(TLS12_ONLY).aged(NOW + 10 * MAX_AGE, MAX_AGE, MAX_AGE)

        assert {fact.reason for fact in stale.accepted.values()} == {Reason.STALE}
        assert stale.doubtful(sweep_of(TLS12_ONLY)) == ()

    def test_another_answer_after_they_went_stale_is(self) -> None:
        """It is compared with what was published last, however old that is."""
        stale = published(TLS12_ONLY).aged(NOW + 10 * MAX_AGE, MAX_AGE, MAX_AGE)

        assert stale.doubtful(sweep_of("001010", frozenset(Protocol))) == (T10,)

    def test_unknown_sweeps_in_between_do_not_matter(self) -> None:
        """Nor that the last good answer is gone by then."""
        facts = published(TLS12_ONLY).after(sweep_of("??????", at=NOW + 2 * MAX_AGE), MAX_AGE)

        assert facts.accepted[T12] == SILENCE
        assert facts.doubtful(sweep_of(TLS12_ONLY)) == ()
        assert facts.doubtful(sweep_of("000000")) == (T12,)


class TestNothingDoubtful:
    @pytest.mark.parametrize(
        ("facts", "sweep"),
        [
            pytest.param(published(TLS12_ONLY), sweep_of(TLS12_ONLY), id="steady state"),
            pytest.param(
                published(TLS12_ONLY).aged(NOW + 10 * MAX_AGE, MAX_AGE, MAX_AGE), sweep_of(TLS12_ONLY), id="after stale"
            ),
            pytest.param(UNSEEN, sweep_of(TLS12_ONLY, frozenset(Protocol)), id="first sight, alert 70"),
            pytest.param(UNSEEN, sweep_of("??????"), id="nothing decided"),
        ],
    )
    async def test_nobody_is_asked(self, facts: EndpointFacts, sweep: EndpointSweep) -> None:
        """The sweep stands as it is."""
        prober = other("111111")

        settled = await confirm(facts, sweep, prober)

        assert prober.calls == []
        assert settled == Settled(sweep, {}, {}, 0)

    async def test_nobody_is_asked_after_a_contradiction_went_away(self) -> None:
        """The sweep says again what was published before: nothing flips."""
        facts = published(TLS10_TO_12)
        doubted = await confirm(facts, sweep_of("000110"), other("001110"))
        assert doubted.sweep.accepted[T10].reason is Reason.CONTRADICTORY
        facts = facts.after(doubted.sweep, MAX_AGE)
        prober = other("000000")

        settled = await confirm(facts, sweep_of(TLS10_TO_12, at=NOW + 60), prober)

        assert prober.calls == []
        assert facts.after(settled.sweep, MAX_AGE).accepted == accepted(TLS10_TO_12, NOW + 60)


class TestAgreed:
    async def test_a_flip_that_both_see_is_published(self, naps: list[float]) -> None:
        """At once, with the sweep's own words, at the price of one connection."""
        facts, sweep, prober = published(TLS10_TO_12), sweep_of("000110"), other("000110")

        settled = await confirm(facts, sweep, prober)

        assert prober.calls == [((T10,), False)]
        assert naps == []
        assert settled.sweep == sweep
        assert settled.rulings == {T10: Ruling.AGREED}
        assert settled.connections == 1
        assert facts.after(settled.sweep, MAX_AGE).accepted[T10] is sweep.accepted[T10]

    async def test_a_version_that_comes_back_is_published(self) -> None:
        """The other direction: somebody switched it on again."""
        facts, sweep = published(TLS12_ONLY), sweep_of(TLS10_TO_12)

        settled = await confirm(facts, sweep, other(TLS10_TO_12))

        assert settled.rulings == {T10: Ruling.AGREED, T11: Ruling.AGREED}
        assert facts.after(settled.sweep, MAX_AGE).accepted == sweep.accepted

    async def test_refusals_at_first_sight_are_asked_for_in_one_go(self) -> None:
        """One connection for each version."""
        prober = other(TLS12_ONLY)

        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY), prober)

        assert prober.calls == [((S2, S3, T10, T11, T13), False)]
        assert settled.connections == 5
        assert UNSEEN.after(settled.sweep, MAX_AGE).settled == {
            S2: False, S3: False, T10: False, T11: False, T12: True, T13: False,
        }  # fmt: skip

    async def test_agreement_at_the_second_attempt_counts(self, naps: list[float]) -> None:
        """The other prober had met a busy server; there is one pause, and only what was in dispute is asked again."""
        facts, sweep, prober = published(TLS10_TO_12), sweep_of("000010"), other("001010", "000010")

        settled = await confirm(facts, sweep, prober)

        assert prober.calls == [((T10, T11), False), ((T10,), True)]
        assert naps == [0]
        assert settled.rulings == {T10: Ruling.AGREED, T11: Ruling.AGREED}
        assert settled.connections == 3
        assert facts.after(settled.sweep, MAX_AGE).accepted == sweep.accepted

    async def test_the_pause_is_the_one_that_was_asked_for(self, naps: list[float]) -> None:
        """What was only busy has recovered by then."""
        await settle(published(TLS10_TO_12), sweep_of("000110"), other(TLS10_TO_12).ask, 6, pause=5.0)

        assert naps == [5.0]


class TestContradictory:
    @pytest.mark.parametrize(
        ("before", "now", "opinion", "sweep_words", "opinion_words"),
        [
            (TLS10_TO_12, "000110", TLS10_TO_12, "the sweep says rejected", "a complete handshake says accepted"),
            ("000110", TLS10_TO_12, "000110", "the sweep says accepted", "a complete handshake says rejected"),
        ],
    )
    async def test_two_disagreements_make_it_unknown(
        self, before: str, now: str, opinion: str, sweep_words: str, opinion_words: str
    ) -> None:
        """Both answers are in the detail, and nothing published stays: it is in doubt, too."""
        facts, prober = published(before), other(opinion)

        settled = await confirm(facts, sweep_of(now), prober)

        after = facts.after(settled.sweep, MAX_AGE)
        fact = after.accepted[T10]
        assert prober.calls == [((T10,), False), ((T10,), True)]
        assert settled.rulings == {T10: Ruling.CONTRADICTORY}
        assert isinstance(fact, Missing)
        assert fact.reason is Reason.CONTRADICTORY
        assert sweep_words in fact.detail
        assert opinion_words in fact.detail
        assert after.settled[T10] is (before[2] == "1")
        assert after.accepted[T12] == Known(value=True, at=NOW)

    async def test_how_each_refusal_looked_is_in_the_detail(self) -> None:
        """For whoever has to find out which of them is wrong."""
        rejecting = await confirm(published(TLS10_TO_12), sweep_of("000110"), other(TLS10_TO_12))
        accepting = await confirm(published(TLS12_ONLY), sweep_of("001010"), other(TLS12_ONLY))

        assert "the connection ended after the hello" in rejecting.sweep.accepted[T10].detail
        assert "a complete handshake was refused" in accepting.sweep.accepted[T10].detail

    async def test_at_first_sight_as_well(self) -> None:
        """A refusal without alert 70 that only the sweep sees is not published, and no answer is held as settled."""
        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY, frozenset({S2, S3, T11, T13})), other(TLS10_TO_12))

        after = UNSEEN.after(settled.sweep, MAX_AGE)
        assert after.accepted[T10].reason is Reason.CONTRADICTORY
        assert T10 not in after.settled

    async def test_a_second_attempt_that_decides_nothing_leaves_the_first_standing(self) -> None:
        """Silence takes nothing back."""
        settled = await confirm(published(TLS10_TO_12), sweep_of("000110"), other(TLS10_TO_12, "??????"))

        assert settled.rulings == {T10: Ruling.CONTRADICTORY}
        assert settled.sweep.accepted[T10].reason is Reason.CONTRADICTORY
        assert settled.opinions[T10] == said(TLS10_TO_12)[T10]

    async def test_one_contradiction_costs_one_version(self) -> None:
        """The others that were asked for along with it are published."""
        facts = published("011110")

        settled = await confirm(facts, sweep_of(TLS12_ONLY), other("000110"))

        after = facts.after(settled.sweep, MAX_AGE)
        assert settled.rulings == {S3: Ruling.AGREED, T10: Ruling.AGREED, T11: Ruling.CONTRADICTORY}
        assert [after.accepted[each].reason for each in (S3, T10, T11)] == [
            Reason.CONNECTION_RESET, Reason.CONNECTION_RESET, Reason.CONTRADICTORY,
        ]  # fmt: skip


class TestUndecided:
    @pytest.mark.parametrize("missing", [SILENCE, DEAD, Missing(Reason.DEADLINE, "the second opinion's time was over")])
    async def test_its_reason_stands_in_the_sweep(self, missing: Missing) -> None:
        """With the sweep's claim and the other prober's trouble, and without a second attempt."""
        prober = Other([dict.fromkeys(Protocol, missing)])

        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY, frozenset({S2, S3, T11, T13})), prober)

        fact = settled.sweep.accepted[T10]
        assert prober.calls == [((T10,), False)]
        assert settled.rulings == {T10: Ruling.UNDECIDED}
        assert isinstance(fact, Missing)
        assert fact.reason is missing.reason
        assert missing.detail in fact.detail
        assert "the sweep says rejected" in fact.detail

    async def test_the_published_answer_stays_while_it_is_young(self) -> None:
        """Nobody contradicted it: then it goes the way of every old answer."""
        facts = published(TLS10_TO_12, at=NOW)
        young, old = NOW + MAX_AGE, NOW + MAX_AGE + 1

        settled = await confirm(facts, sweep_of("000110", at=young), other("??????"))
        late = await confirm(facts, sweep_of("000110", at=old), other("??????"))

        assert facts.after(settled.sweep, MAX_AGE).accepted[T10] == Known(value=True, at=NOW)
        assert facts.after(late.sweep, MAX_AGE).accepted[T10].reason is Reason.TLS_TIMEOUT

    async def test_the_next_sweep_asks_again(self) -> None:
        """What was not confirmed was not settled."""
        facts = published(TLS10_TO_12)
        settled = await confirm(facts, sweep_of("000110"), other("??????"))

        assert facts.after(settled.sweep, MAX_AGE).doubtful(sweep_of("000110")) == (T10,)


class TestBudget:
    @pytest.mark.parametrize("connections", range(8))
    async def test_it_is_never_exceeded(self, connections: int) -> None:
        """`confirm` counts; five versions are doubtful here, and all are in dispute."""
        prober = other("111101")

        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY), prober, connections)

        first, *second = [protocols for protocols, _ in prober.calls] or [()]
        assert first == (S2, S3, T10, T11, T13)[:connections]
        assert second == ([(S2, S3)[: connections - 5]] if connections > 5 else [])
        assert settled.connections == min(connections, 10)

    async def test_flips_get_what_there_is(self) -> None:
        """What is new to us can wait, what would change a published answer should not."""
        facts, prober = published("???110"), other(TLS12_ONLY)

        settled = await confirm(facts, sweep_of(TLS12_ONLY), prober, connections=1)

        assert prober.calls == [((T11,), False)]
        assert settled.rulings == {
            T11: Ruling.AGREED, S2: Ruling.BUDGET_SPENT, S3: Ruling.BUDGET_SPENT, T10: Ruling.BUDGET_SPENT,
        }  # fmt: skip

    async def test_without_connections_left_there_is_no_second_attempt(self, naps: list[float]) -> None:
        """And no pause for nothing; the one disagreement is enough to doubt."""
        prober = other(TLS10_TO_12)

        settled = await confirm(published(TLS10_TO_12), sweep_of("000110"), prober, connections=1)

        assert prober.calls == [((T10,), False)]
        assert naps == []
        assert settled.rulings == {T10: Ruling.CONTRADICTORY}

    async def test_spent_on_a_published_answer_it_is_contradictory(self) -> None:
        """Two sweeps contradict each other, and nobody can say which is right: the old answer must not go on."""
        facts = published(TLS10_TO_12)

        settled = await confirm(facts, sweep_of("000110"), other("000110"), connections=0)

        fact = facts.after(settled.sweep, MAX_AGE).accepted[T10]
        assert settled.rulings == {T10: Ruling.BUDGET_SPENT}
        assert isinstance(fact, Missing)
        assert fact.reason is Reason.CONTRADICTORY
        assert "used up" in fact.detail
        assert "the sweep says rejected" in fact.detail

    async def test_spent_at_first_sight_it_is_not_observed_yet(self) -> None:
        """There is nothing that it would contradict."""
        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY), other(TLS12_ONLY), connections=0)

        after = UNSEEN.after(settled.sweep, MAX_AGE)
        assert [fact.reason for fact in after.accepted.values()] == [
            Reason.NOT_OBSERVED_YET, Reason.NOT_OBSERVED_YET, Reason.NOT_OBSERVED_YET, Reason.NOT_OBSERVED_YET, None,
            Reason.NOT_OBSERVED_YET,
        ]  # fmt: skip
        assert after.settled == {T12: True}

    async def test_what_could_not_be_asked_is_asked_later(self) -> None:
        """Once there are connections again."""
        settled = await confirm(UNSEEN, sweep_of(TLS12_ONLY), other(TLS12_ONLY), connections=2)
        facts = UNSEEN.after(settled.sweep, MAX_AGE)
        prober = other(TLS12_ONLY)

        settled = await confirm(facts, sweep_of(TLS12_ONLY), prober)

        assert prober.calls == [((T10, T11, T13), False)]
        assert facts.after(settled.sweep, MAX_AGE).accepted == accepted(TLS12_ONLY)

    def test_it_is_that_of_a_rolling_day(self) -> None:
        """Each connection counts for 24 hours after it was spent."""
        facts = spend(spend(UNSEEN, 2, NOW), 3, NOW + 3600)

        assert left_of(6, UNSEEN, NOW) == 6
        assert left_of(6, facts, NOW + 3600) == 1
        assert left_of(6, facts, NOW + DAY - 1) == 1
        assert left_of(6, facts, NOW + DAY) == 3
        assert left_of(6, facts, NOW + 3600 + DAY) == 6

    def test_a_smaller_one_than_was_spent_is_none(self) -> None:
        """The configuration changed in between."""
        assert left_of(2, spend(UNSEEN, 5, NOW), NOW) == 0

    def test_what_no_longer_counts_is_forgotten(self) -> None:
        """The list does not grow."""
        facts = UNSEEN
        for day in range(100):
            facts = spend(facts, 6, NOW + day * DAY)

        assert facts.asked_again == (NOW + 99 * DAY,) * 6

    def test_spending_nothing_changes_nothing(self) -> None:
        """Nor does a sweep."""
        facts = spend(UNSEEN, 2, NOW)

        assert spend(facts, 0, NOW + 1) == facts
        assert facts.after(swept(), MAX_AGE).asked_again == (NOW, NOW)


# Whatever happens, in whatever order

ANSWERS: st.SearchStrategy[bool | Reason] = st.sampled_from([True, False, Reason.TLS_TIMEOUT, Reason.WORKER_DIED])


def per_version(answers: st.SearchStrategy[bool | Reason]) -> st.SearchStrategy[dict[Protocol, bool | Reason]]:
    return st.fixed_dictionaries(dict.fromkeys(Protocol, answers))


@dataclass(frozen=True)
class Step:
    """A sweep at a time, and what the other prober would say to its doubtful answers, at either attempt."""

    seconds_later: float
    seen: Mapping[Protocol, bool | Reason]
    named: frozenset[Protocol]
    opinions: tuple[Mapping[Protocol, bool | Reason], Mapping[Protocol, bool | Reason]]


STEPS = st.builds(
    Step,
    seconds_later=st.sampled_from([1.0, 3600.0, MAX_AGE + 1, DAY / 2, 3 * DAY]),
    seen=per_version(st.sampled_from([True, False, Reason.TLS_TIMEOUT, Reason.CONTRADICTORY])),
    named=st.frozensets(st.sampled_from(Protocol)),
    opinions=st.tuples(per_version(ANSWERS), per_version(ANSWERS)),
)


@st.composite
def old_facts(draw: st.DrawFn) -> EndpointFacts:
    """Facts as they may be: what is published as known is what was settled; of the rest some was settled once."""
    answers = draw(per_version(ANSWERS))
    settled = {each: value for each, value in answers.items() if isinstance(value, bool)}
    gone = draw(st.frozensets(st.sampled_from(Protocol)))
    facts = _facts({each: Reason.STALE if each in gone else value for each, value in answers.items()}, NOW)
    spent = draw(st.lists(st.floats(NOW - 2 * DAY, NOW), max_size=8).map(sorted))
    return replace(UNSEEN, accepted=facts, settled=MappingProxyType(settled), asked_again=tuple(spent))


def _facts(answers: Mapping[Protocol, bool | Reason], at: float) -> Mapping[Protocol, Fact[bool]]:
    return {
        protocol: Missing(answer) if isinstance(answer, Reason) else Known(answer, at)
        for protocol, answer in answers.items()
    }


@given(old_facts(), st.lists(STEPS, min_size=1, max_size=4), st.integers(0, 8))
def test_no_answer_flips_by_one_prober_alone(facts: EndpointFacts, steps: list[Step], budget: int) -> None:
    """For any old facts, sweeps and opinions; and the budget is kept, and nothing is known that nobody said."""
    now = NOW
    for step in steps:
        now += step.seconds_later
        sweep = EndpointSweep(now, 0.1, "192.0.2.1", Door.OPEN, _facts(step.seen, now), 7, step.named)
        prober = Other([_facts(each, now) for each in step.opinions])

        settled = asyncio.run(confirm(facts, sweep, prober, left_of(budget, facts, now)))
        before = facts
        facts = spend(before, settled.connections, now).after(settled.sweep, MAX_AGE)

        agreeing = {
            protocol
            for protocols, again in prober.calls
            for protocol in protocols
            if step.opinions[again][protocol] is step.seen[protocol]
        }
        for protocol, fact in facts.accepted.items():
            if not isinstance(fact, Known):
                continue
            if fact.at != now:
                assert fact is before.accepted[protocol]
                continue
            if not isinstance(sweep.accepted[protocol], Known):  # it contradicts itself, and the other prober does not
                assert fact.value is before.settled[protocol]
                assert Known(fact.value, now) in {each[protocol] for each in prober.answers}
                continue
            assert fact is sweep.accepted[protocol]
            if before.settled.get(protocol, fact.value) is not fact.value:
                assert protocol in agreeing
            if protocol not in before.settled and not fact.value and protocol not in step.named:
                assert protocol in agreeing
            assert facts.settled[protocol] is fact.value
        for protocol, value in facts.settled.items():
            assert value is before.settled.get(protocol, value) or protocol in agreeing
        assert settled.connections <= left_of(budget, before, now)
        assert sum(now - at < DAY for at in facts.asked_again) <= max(
            budget, sum(now - at < DAY for at in before.asked_again)
        )


class TestContradictorySweeps:
    """A sweep that heard an acceptance and alert 70 of the same version."""

    async def _confirm(self, prober: Other, connections: int = 6) -> tuple[Settled, EndpointFacts]:
        published = UNSEEN.after(sweep_of(TLS12_ONLY), MAX_AGE)
        sweep = replace(
            sweep_of(TLS12_ONLY),
            accepted={
                **accepted(TLS12_ONLY),
                Protocol.TLS_1_2: Missing(Reason.CONTRADICTORY, "accepted, and alert 70"),
            },
        )
        settled = await confirm(published, sweep, prober, connections)
        return settled, published.after(settled.sweep, MAX_AGE)

    async def test_what_was_published_stays_if_the_other_prober_says_so(self) -> None:
        """One prober's confusion changes nothing."""
        prober = other(TLS12_ONLY)

        settled, facts = await self._confirm(prober)

        assert [protocols for protocols, _ in prober.calls] == [(Protocol.TLS_1_2,)]
        assert settled.rulings == {Protocol.TLS_1_2: Ruling.AGREED}
        assert facts.accepted[Protocol.TLS_1_2].value is True

    async def test_otherwise_it_is_contradictory(self) -> None:
        """Two probers, three answers."""
        settled, facts = await self._confirm(other("000000"))

        fact = facts.accepted[Protocol.TLS_1_2]
        assert settled.rulings == {Protocol.TLS_1_2: Ruling.CONTRADICTORY}
        assert isinstance(fact, Missing)
        assert fact.reason is Reason.CONTRADICTORY

    async def test_without_connections_as_well(self) -> None:
        """Nobody could be asked."""
        settled, facts = await self._confirm(other(TLS12_ONLY), 0)

        assert settled.rulings == {Protocol.TLS_1_2: Ruling.BUDGET_SPENT}
        assert isinstance(facts.accepted[Protocol.TLS_1_2], Missing)


async def test_what_could_not_be_asked_costs_nothing() -> None:
    """No child was free: nothing was spent, and the answer is unknown for that reason."""

    async def ask(*_: object) -> Mapping[Protocol, Fact[bool]]:
        raise NotAskedError(Missing(Reason.DEADLINE, "no child process was free in time"))

    settled = await settle(UNSEEN, sweep_of(TLS12_ONLY), ask, 6, pause=0)

    assert settled.connections == 0
    assert set(settled.rulings.values()) == {Ruling.UNDECIDED}
    fact = settled.sweep.accepted[Protocol.TLS_1_0]
    assert isinstance(fact, Missing)
    assert fact.reason is Reason.DEADLINE
