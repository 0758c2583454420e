"""The second opinion against servers that are simulated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.facts import Known, Missing, Protocol, Reason
from exporter.probes.tls import jobs
from exporter.probes.tls import opinion as opinion_module
from exporter.probes.tls.answer import Refused, Unclear
from exporter.probes.tls.handshake import Agreed, Offer, Outcome, WeakKey, whole_offer
from exporter.probes.tls.jobs import OPINION, Opinion, OpinionJob, Place
from exporter.probes.tls.opinion import give_opinion

S2, S3, T10, T11, T12, T13 = Protocol
PLACE = Place("exch01.contoso.test", "127.0.0.1", 443, "https", "probe.contoso.test")
AGREED = Agreed("TLS_RSA_WITH_AES_128_CBC_SHA", ())
RESET = Refused(Reason.CONNECTION_RESET, "the connection ended after the hello")
STALL = Unclear(Reason.TLS_TIMEOUT, "connected, then silence")


class Clock:
    """Stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


@dataclass
class Server:
    """Answers each version as it is told; `clock` goes on by `takes` seconds for each connection."""

    outcomes: Mapping[Protocol, Outcome]
    clock: Clock
    takes: float = 1.0
    calls: list[Offer] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def __call__(self, offer: Offer, limit: float) -> Outcome:
        self.calls.append(offer)
        self.limits.append(limit)
        self.clock.now += self.takes
        return self.outcomes[offer.protocol]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(opinion_module, "time", stopped)
    return stopped


def test_a_chosen_suite_is_an_acceptance(clock: Clock) -> None:
    opinion = give_opinion(OpinionJob(PLACE, (T12,)), 10.0, Server({T12: AGREED}, clock))

    assert opinion == Opinion({T12: Known(value=True, at=clock.time())})


def test_a_small_key_is_an_acceptance(clock: Clock) -> None:
    """The server chose a suite of the version; that OpenSSL will not go on is OpenSSL's decision."""
    opinion = give_opinion(OpinionJob(PLACE, (T10,)), 10.0, Server({T10: WeakKey()}, clock))

    assert opinion == Opinion({T10: Known(value=True, at=clock.time())})


def test_a_refusal_is_a_rejection_and_says_how(clock: Clock) -> None:
    opinion = give_opinion(OpinionJob(PLACE, (T11,)), 10.0, Server({T11: RESET}, clock))

    assert opinion == Opinion({T11: Known(value=False, at=clock.time(), reason=RESET.reason, detail=RESET.detail)})


def test_silence_is_neither(clock: Clock) -> None:
    opinion = give_opinion(OpinionJob(PLACE, (T13,)), 10.0, Server({T13: STALL}, clock))

    assert opinion == Opinion({T13: Missing(STALL.reason, STALL.detail)})


def test_an_unclear_version_does_not_cost_the_others(clock: Clock) -> None:
    server = Server({T12: AGREED, T11: STALL, T10: RESET}, clock)
    accepted = give_opinion(OpinionJob(PLACE, (T11, T10, T12)), 10.0, server).accepted

    assert list(accepted) == [offer.protocol for offer in server.calls] == [T11, T10, T12]
    assert [accepted[T10].value, accepted[T12].value] == [False, True]
    assert isinstance(accepted[T11], Missing)


def test_each_answer_has_the_time_at_which_it_came(clock: Clock) -> None:
    accepted = give_opinion(OpinionJob(PLACE, (T10, T12)), 10.0, Server({T10: RESET, T12: AGREED}, clock)).accepted

    times = [fact.at for fact in accepted.values() if isinstance(fact, Known)]
    assert [time - times[0] for time in times] == [0.0, 1.0]


def test_one_connection_may_wait_for_half_of_what_is_left(clock: Clock) -> None:
    """A version that stalls leaves time for the others."""
    server = Server(dict.fromkeys(Protocol, STALL), clock, takes=2.0)
    give_opinion(OpinionJob(PLACE, (T10, T11, T12)), 8.0, server)

    assert server.limits == [4.0, 3.0, 2.0]


def test_when_the_time_is_over_the_rest_is_missing_and_not_asked_for(clock: Clock) -> None:
    server = Server(dict.fromkeys(Protocol, AGREED), clock, takes=3.0)
    accepted = give_opinion(OpinionJob(PLACE, tuple(Protocol)), 6.0, server).accepted

    assert [offer.protocol for offer in server.calls] == [S2, S3]
    assert accepted[S3].value is True
    late = Missing(Reason.DEADLINE, "the second opinion's time was over")
    assert [accepted[each] for each in (T10, T11, T12, T13)] == [late] * 4


@pytest.mark.parametrize("again", [False, True])
def test_it_offers_what_a_second_opinion_offers(clock: Clock, *, again: bool) -> None:
    server = Server(dict.fromkeys(Protocol, RESET), clock)
    give_opinion(OpinionJob(PLACE, tuple(Protocol), again), 100.0, server)

    assert server.calls == [whole_offer(protocol, again=again) for protocol in Protocol]


def test_the_second_attempt_uses_the_other_openssl_where_there_is_one() -> None:
    """Only TLS 1.2 has both; what one of them cannot say the other may."""
    changed = [
        each for each in Protocol if whole_offer(each, again=True).legacy != whole_offer(each, again=False).legacy
    ]

    assert changed == [T12]


outcomes = st.sampled_from([AGREED, WeakKey(), RESET, STALL])


@given(answers=st.dictionaries(st.sampled_from(Protocol), outcomes), takes=st.floats(0.0, 3.0))
def test_every_version_gets_one_connection_at_most_and_one_answer(
    answers: dict[Protocol, Outcome], takes: float
) -> None:
    """And the answers survive the way from child to parent."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock()
        monkeypatch.setattr(opinion_module, "time", clock)
        monkeypatch.setattr(jobs, "SKEW", 1e9)  # the clock is not that of today
        server = Server(answers, clock, takes)
        opinion = give_opinion(OpinionJob(PLACE, tuple(answers)), 5.0, server)
        travelled = OPINION.validate_json(OPINION.dump_json(opinion))

    assert list(opinion.accepted) == list(answers)
    assert [offer.protocol for offer in server.calls] == list(answers)[: len(server.calls)]
    assert all(0 < limit <= 5.0 for limit in server.limits)
    assert travelled == opinion
