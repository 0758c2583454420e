"""What a sequence of answers proves, and above all what it does not."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporter.facts import Accepted, Known, Missing, Protocol, Reason
from exporter.probes.tls.answer import Answer, Chose, Refused, Unclear
from exporter.probes.tls.evidence import Heard, weigh

AT = 1_800_000_000.0
UNASKED = Missing(Reason.DEADLINE, "no time left")
S2, S3, T10, T11, T12, T13 = Protocol
ANY = (T13, T12, T11, T10)

CLOSED = Refused(Reason.CONNECTION_CLOSED, "closed")
RESET = Refused(Reason.CONNECTION_RESET, "reset")
ALERT_40 = Refused(Reason.TLS_ALERT, "alert 40")
ALERT_70 = Refused(Reason.TLS_ALERT, "alert 70", explicit=True)
LOWER = Refused(Reason.WRONG_VERSION, "answered TLS 1.0 instead", explicit=True)
SILENCE = Unclear(Reason.TLS_TIMEOUT, "silence")


def said(protocol: Protocol, answer: Answer | None = None) -> Heard:
    """An answer to the hello that offers one version; without one, that version was chosen."""
    return Heard((protocol,), answer or Chose(protocol))


def opened(answer: Answer) -> Heard:
    """An answer to the opening hello."""
    return Heard(ANY, answer)


def weighed(*heard: Heard) -> Accepted:
    return weigh(heard, UNASKED, AT)


def words(facts: Accepted) -> dict[Protocol, bool | Reason]:
    """The facts in short: True, False, or the reason why unknown."""
    return {each: fact.value if isinstance(fact, Known) else fact.reason for each, fact in facts.items()}


def rejected(reason: Reason, detail: str) -> Known[bool]:
    return Known(value=False, at=AT, reason=reason, detail=detail)


def test_a_usual_sweep() -> None:
    """Accepted before, refusals of several kinds, accepted after: all of it is proven."""
    facts = weighed(
        opened(Chose(T13)),
        said(T12),
        said(T11, CLOSED),
        said(T10, RESET),
        said(S3, ALERT_40),
        said(S2, CLOSED),
        said(T13),
    )
    assert dict(facts) == {
        T13: Known(value=True, at=AT),
        T12: Known(value=True, at=AT),
        T11: rejected(Reason.CONNECTION_CLOSED, "closed"),
        T10: rejected(Reason.CONNECTION_RESET, "reset"),
        S3: rejected(Reason.TLS_ALERT, "alert 40"),
        S2: rejected(Reason.CONNECTION_CLOSED, "closed"),
    }


@pytest.mark.parametrize("refusal", [CLOSED, RESET, ALERT_40])
def test_a_refusal_before_the_first_acceptance_is_not_proven(refusal: Refused) -> None:
    facts = weighed(said(T13, refusal), said(T12), said(T11), said(T12))
    assert words(facts) == {
        **dict.fromkeys(Protocol, Reason.DEADLINE),
        T13: refusal.reason,
        T12: True,
        T11: True,
    }
    missing = facts[T13]
    assert isinstance(missing, Missing)
    assert missing.detail.startswith(refusal.detail)


@pytest.mark.parametrize("refusal", [CLOSED, RESET, ALERT_40])
def test_a_refusal_after_the_last_acceptance_is_not_proven(refusal: Refused) -> None:
    """A server that limits its connections looks just like that."""
    facts = weighed(opened(Chose(T12)), said(T13, refusal), said(T11), said(T10, refusal), said(S3, refusal))
    assert words(facts) == {
        T13: False,
        T12: True,
        T11: True,
        T10: refusal.reason,
        S3: refusal.reason,
        S2: Reason.DEADLINE,
    }


def test_one_acceptance_is_not_before_and_after() -> None:
    facts = weighed(opened(Chose(T12)), said(T13, CLOSED), said(T11, CLOSED), said(T12, CLOSED))
    assert words(facts)[T13] is Reason.CONNECTION_CLOSED
    assert words(facts)[T11] is Reason.CONNECTION_CLOSED
    assert words(facts)[T12] is True


def test_any_two_acceptances_will_do() -> None:
    """The version need not be the same: the server was there and talking TLS."""
    assert words(weighed(said(T12), said(T11, CLOSED), said(S3)))[T11] is False


BY_NAME = pytest.mark.parametrize("refusal", [ALERT_70, LOWER])


@BY_NAME
def test_a_refusal_by_name_needs_no_acceptance_on_both_sides(refusal: Refused) -> None:
    """Alert 70, or a lower version chosen, is about the version and nothing else."""
    facts = weighed(said(T13, refusal), said(T12, CLOSED), said(T11))
    assert words(facts) == {
        **dict.fromkeys(Protocol, Reason.DEADLINE), T13: False, T12: Reason.CONNECTION_CLOSED, T11: True
    }  # fmt: skip


def test_where_nothing_is_accepted_alert_70_counts_no_more_than_other_refusals() -> None:
    """Cut short, the same endpoint must not get a firmer verdict than after a whole sweep, which is all_rejected."""
    facts = weighed(opened(ALERT_70), said(T10, ALERT_70), said(T12, ALERT_70))
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.DEADLINE), T10: Reason.TLS_ALERT, T12: Reason.TLS_ALERT}


def test_a_lower_version_chosen_shows_that_the_server_speaks() -> None:
    """It is an acceptance of something: no acceptance beside it is needed."""
    facts = weighed(said(T13, LOWER), said(T12, LOWER))
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.DEADLINE), T13: False, T12: False}


@BY_NAME
def test_a_refusal_of_the_opening_hello_says_nothing_of_one_version(refusal: Refused) -> None:
    assert words(weighed(opened(refusal))) == dict.fromkeys(Protocol, Reason.DEADLINE)


def test_everything_refused_is_all_rejected() -> None:
    """Perhaps a wrong port, a firewall or a client certificate that is wanted first: no verdict on the versions."""
    heard = [opened(CLOSED), *(said(protocol, RESET) for protocol in Protocol)]
    facts = weighed(*heard)
    assert words(facts) == dict.fromkeys(Protocol, Reason.ALL_REJECTED)
    missing = facts[T12]
    assert isinstance(missing, Missing)
    assert missing.detail == "closed; reset"


@pytest.mark.parametrize("refusal", [CLOSED, RESET, ALERT_40, ALERT_70])
def test_silence_to_ssl_2_0_does_not_turn_refusals_of_all_others_into_rejections(refusal: Answer) -> None:
    """Its hello is unlike the others; an endpoint that accepts nothing still proves nothing."""
    facts = weighed(opened(refusal), *(said(protocol, SILENCE if protocol is S2 else refusal) for protocol in Protocol))
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.ALL_REJECTED), S2: Reason.TLS_TIMEOUT}


def test_ssl_2_0_alone_is_an_acceptance_like_others() -> None:
    """A server of nothing newer: alert 70 counts there, a hang-up before the acceptance does not."""
    refusals = [said(protocol, CLOSED) for protocol in (T10, S3, T12, T11)]
    facts = weighed(opened(CLOSED), *refusals, said(T13, ALERT_70), said(S2), said(S2))
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.CONNECTION_CLOSED), T13: False, S2: True}


def test_alert_70_to_everything_is_all_rejected() -> None:
    facts = weighed(opened(ALERT_70), *(said(protocol, ALERT_70) for protocol in Protocol))
    assert words(facts) == dict.fromkeys(Protocol, Reason.ALL_REJECTED)


@pytest.mark.parametrize("last", [CLOSED, RESET, ALERT_40, SILENCE])
def test_a_version_accepted_once_stays_accepted_when_its_second_asking_fails(last: Answer) -> None:
    """An old server that begins to close after the second connection has shown TLS 1.0 nevertheless."""
    facts = weighed(
        opened(CLOSED),
        said(T10),
        *(said(protocol, CLOSED) for protocol in (S3, T12, T11, T13, S2)),
        said(T10, last),
    )
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.CONNECTION_CLOSED), T10: True}


@BY_NAME
def test_accepted_and_refused_by_name_is_contradictory_and_not_all_rejected(refusal: Refused) -> None:
    facts = weighed(
        opened(CLOSED),
        said(T10),
        *(said(protocol, CLOSED) for protocol in (S3, T12, T11, T13, S2)),
        said(T10, refusal),
    )
    assert words(facts) == {**dict.fromkeys(Protocol, Reason.CONNECTION_CLOSED), T10: Reason.CONTRADICTORY}


@BY_NAME
def test_a_version_chosen_at_first_and_refused_by_name_is_contradictory(refusal: Refused) -> None:
    """Two servers behind one address, for example."""
    facts = weighed(opened(Chose(T12)), said(T13, CLOSED), said(T11), said(T12, refusal))
    assert words(facts)[T12] is Reason.CONTRADICTORY
    assert words(facts)[T13] is False  # the acceptances still stand beside it


def test_an_unclear_answer_keeps_its_reason_even_between_acceptances() -> None:
    alert_80 = Unclear(Reason.TLS_ALERT, "alert 80")
    facts = weighed(said(T12), said(T11, SILENCE), said(T10, alert_80), said(T12))
    assert facts[T11] == Missing(Reason.TLS_TIMEOUT, "silence")
    assert facts[T10] == Missing(Reason.TLS_ALERT, "alert 80")


def test_one_unclear_answer_among_refusals_is_not_all_rejected() -> None:
    heard = [opened(CLOSED), *(said(protocol, SILENCE if protocol is T11 else CLOSED) for protocol in Protocol)]
    assert words(weighed(*heard)) == {**dict.fromkeys(Protocol, Reason.CONNECTION_CLOSED), T11: Reason.TLS_TIMEOUT}


def test_an_unclear_opening_among_refusals_is_not_all_rejected() -> None:
    heard = [opened(SILENCE), *(said(protocol, CLOSED) for protocol in Protocol)]
    assert words(weighed(*heard)) == dict.fromkeys(Protocol, Reason.CONNECTION_CLOSED)


def test_versions_that_were_not_asked_for_have_the_given_reason() -> None:
    facts = weighed(opened(Chose(T13)))
    assert dict(facts) == {**dict.fromkeys(Protocol, UNASKED), T13: Known(value=True, at=AT)}


def test_nothing_heard_is_nothing_known() -> None:
    assert dict(weighed()) == dict.fromkeys(Protocol, UNASKED)


# Properties

protocols = st.sampled_from(Protocol)
refusals = st.sampled_from([CLOSED, RESET, ALERT_40, ALERT_70, LOWER])
unclears = st.sampled_from([SILENCE, Unclear(Reason.NOT_TLS, "junk"), Unclear(Reason.WRONG_VERSION, "answered 9.9")])


@st.composite
def answers(draw: st.DrawFn) -> Heard:
    """An answer as the reader gives it: only an offered version is ever chosen."""
    offers = draw(st.one_of(protocols.map(lambda protocol: (protocol,)), st.just(ANY)))
    return Heard(offers, draw(st.one_of(st.sampled_from(offers).map(Chose), refusals, unclears)))


@st.composite
def sweeps(draw: st.DrawFn) -> list[Heard]:
    """A whole sweep as it goes: the opening, each version once in some order, and one of them again."""

    def an_answer(*offers: Protocol) -> Heard:
        return Heard(offers, draw(st.one_of(refusals, refusals, st.sampled_from(offers).map(Chose), unclears)))

    order = draw(st.permutations(list(Protocol)))
    return [an_answer(*ANY), *map(an_answer, order), an_answer(draw(protocols))]


sequences = st.one_of(st.lists(answers(), max_size=9), sweeps())


def chosen_in(heard: list[Heard]) -> set[Protocol]:
    return {each.answer.protocol for each in heard if isinstance(each.answer, Chose)}


@settings(max_examples=300)
@given(heard=sequences)
def test_weighing_is_total_and_names_every_version(heard: list[Heard]) -> None:
    facts = weighed(*heard)
    assert list(facts) == list(Protocol)
    for fact in facts.values():
        assert isinstance(fact, Missing) or fact.at == AT


@settings(max_examples=300)
@given(heard=sequences)
def test_only_what_was_chosen_is_accepted_and_all_of_it_unless_contradicted(heard: list[Heard]) -> None:
    for protocol, fact in weighed(*heard).items():
        accepted = isinstance(fact, Known) and fact.value
        contradicted = isinstance(fact, Missing) and fact.reason is Reason.CONTRADICTORY
        assert (accepted or contradicted) is (protocol in chosen_in(heard))
        by_name = any(each.offers == (protocol,) and each.answer in {ALERT_70, LOWER} for each in heard)
        assert contradicted is (protocol in chosen_in(heard) and by_name)


@settings(max_examples=300)
@given(heard=sequences)
def test_only_what_was_refused_by_name_or_between_acceptances_is_rejected(heard: list[Heard]) -> None:
    at = [index for index, each in enumerate(heard) if isinstance(each.answer, Chose)]
    for protocol, fact in weighed(*heard).items():
        if not isinstance(fact, Known) or fact.value:
            continue
        refused = [
            (index, each.answer)
            for index, each in enumerate(heard)
            if each.offers == (protocol,) and isinstance(each.answer, Refused)
        ]
        assert protocol not in chosen_in(heard)
        assert any(answer.explicit or (at and at[0] < index < at[-1]) for index, answer in refused)
        assert fact.reason in {answer.reason for _, answer in refused}
        assert fact.detail in {answer.detail for _, answer in refused}


@settings(max_examples=300)
@given(heard=sequences, place=st.integers(0, 9), protocol=protocols, refusal=refusals)
def test_one_more_refusal_never_makes_another_version_accepted_or_rejected(
    heard: list[Heard], place: int, protocol: Protocol, refusal: Refused
) -> None:
    """But for a lower version chosen: that shows a server that speaks, and makes others' alert 70 count."""
    assume(refusal.reason is not Reason.WRONG_VERSION)
    before = words(weighed(*heard))
    more = [*heard[:place], said(protocol, refusal), *heard[place:]]
    for other, word in words(weighed(*more)).items():
        if other is protocol:
            assert word is not True or before[other] is True
        elif word is True or word is False:
            assert before[other] is word or before[other] is Reason.ALL_REJECTED


@settings(max_examples=300)
@given(heard=sequences)
def test_without_any_acceptance_only_a_refusal_by_name_rejects(heard: list[Heard]) -> None:
    heard = [each for each in heard if not isinstance(each.answer, Chose)]
    by_name = {each.offers[0] for each in heard if each.answer in {ALERT_70, LOWER} and len(each.offers) == 1}
    for protocol, word in words(weighed(*heard)).items():
        assert word is not True
        assert word is not False or protocol in by_name


@settings(max_examples=100)
@given(protocol=protocols, first=refusals, last=unclears)
def test_a_later_unclear_answer_beside_an_earlier_one_is_no_rejection(
    protocol: Protocol, first: Refused, last: Unclear
) -> None:
    """The newest word on a version that nobody accepted stands, and an unclear one proves nothing."""
    assert words(weighed(said(protocol, first), said(protocol, last)))[protocol] is last.reason
