"""How mail servers answer to STARTTLS, well and badly, without a socket: the dialogues are driven by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.facts import Reason
from exporter.probes.tls.starttls import (
    DIALOGUES,
    MAX_DIALOGUE,
    MAX_LINE,
    Dialogue,
    StartTlsError,
    imap,
    pop3,
    smtp,
)

READ = 16384  # what the connection reads at once
CLIENT = "prober.contoso.test"

SMTP_GOOD = (
    b"220 exch01.contoso.test Microsoft ESMTP MAIL Service ready\r\n",
    b"250-exch01.contoso.test Hello [192.0.2.1]\r\n250-SIZE 37748736\r\n250-STARTTLS\r\n250 CHUNKING\r\n",
    b"220 2.0.0 SMTP server ready\r\n",
)
IMAP_GOOD = (
    b"* OK The Microsoft Exchange IMAP4 service is ready.\r\n",
    b"* CAPABILITY IMAP4 IMAP4rev1 LOGINDISABLED STARTTLS\r\na1 OK CAPABILITY completed.\r\n",
    b"a2 OK Begin TLS negotiation now.\r\n",
)
POP3_GOOD = (
    b"+OK The Microsoft Exchange POP3 service is ready.\r\n",
    b"+OK\r\nTOP\r\nUIDL\r\nSTLS\r\n.\r\n",
    b"+OK Begin TLS negotiation.\r\n",
)
GOOD = {smtp: SMTP_GOOD, imap: IMAP_GOOD, pop3: POP3_GOOD}
GO_AHEAD = {smtp: b"STARTTLS\r\n", imap: b"a2 STARTTLS\r\n", pop3: b"STLS\r\n"}

Service = Callable[[str], Dialogue]
SERVICES = pytest.mark.parametrize("service", [smtp, imap, pop3])


@dataclass
class Outcome:
    """How a dialogue went.

    Attributes:
        said: what the client said, turn by turn.
        agreed: whether the server is ready for TLS.
        error: how it failed; None with `agreed` False: it still waits for the server.
        heard: bytes that the dialogue took in.
    """

    said: list[bytes] = field(default_factory=list)
    agreed: bool = False
    error: StartTlsError | None = None
    heard: int = 0
    most_held: int = 0

    @property
    def reason(self) -> Reason | None:
        return self.error.reason if self.error else None

    @property
    def essence(self) -> tuple[object, ...]:
        """All but the words for people, which quote what was heard so far."""
        return (b"".join(self.said), self.agreed, self.reason, self.error.farewell if self.error else None)


def held(dialogue: Dialogue) -> int:
    """Bytes that a dialogue under way holds."""
    return len(inspect.getgeneratorlocals(dialogue)["lines"]._buffer)


def drive(dialogue: Dialogue, chunks: Iterable[bytes]) -> Outcome:
    """Tell the dialogue all the chunks, whether or not it is the server's turn."""
    outcome = Outcome()
    try:
        outcome.said.append(next(dialogue))
        for chunk in chunks:
            outcome.heard += len(chunk)
            outcome.said.append(dialogue.send(chunk))
            outcome.most_held = max(outcome.most_held, held(dialogue))
    except StartTlsError as error:
        outcome.error = error
    except StopIteration:
        outcome.agreed = True
    return outcome


def turns(dialogue: Dialogue, replies: Sequence[bytes], size: int = READ) -> Outcome:
    """Play a server that waits for its turn, and whose replies come in pieces of a size."""
    outcome = Outcome()
    waiting = list(replies)
    pieces: list[bytes] = []
    my_turn = True  # the server greets
    try:
        outcome.said.append(next(dialogue))
        while my_turn or pieces:
            if my_turn and waiting:
                reply = waiting.pop(0)
                pieces += [reply[at : at + size] for at in range(0, len(reply), size)]
            if not pieces:
                break
            said = dialogue.send(pieces.pop(0))
            outcome.said.append(said)
            my_turn = bool(said)
    except StartTlsError as error:
        outcome.error = error
    except StopIteration:
        outcome.agreed = True
    return outcome


def replies_with(service: Service, step: int, reply: bytes) -> tuple[bytes, ...]:
    """The good dialogue with one reply exchanged; it ends there."""
    return (*GOOD[service][:step], reply)


# Good dialogues


@pytest.mark.parametrize("size", [1, 2, 7, READ])
@SERVICES
def test_a_good_dialogue_ends_ready_for_tls(service: Service, size: int) -> None:
    outcome = turns(service(CLIENT), GOOD[service], size)
    assert outcome.agreed
    assert outcome.error is None


def test_smtp_says_ehlo_and_starttls() -> None:
    assert [said for said in turns(smtp(CLIENT), SMTP_GOOD).said if said] == [
        b"EHLO prober.contoso.test\r\n",
        b"STARTTLS\r\n",
    ]


def test_imap_says_capability_and_starttls() -> None:
    assert [said for said in turns(imap(CLIENT), IMAP_GOOD).said if said] == [b"a1 CAPABILITY\r\n", b"a2 STARTTLS\r\n"]


def test_pop3_says_capa_and_stls() -> None:
    assert [said for said in turns(pop3(CLIENT), POP3_GOOD).said if said] == [b"CAPA\r\n", b"STLS\r\n"]


@SERVICES
def test_nothing_is_said_before_the_greeting(service: Service) -> None:
    """A client that talks first is taken for a spammer by some."""
    dialogue = service(CLIENT)
    assert next(dialogue) == b""
    assert dialogue.send(GOOD[service][0][:-2]) == b""


def test_tls_services_have_no_dialogue_and_mail_services_have_one() -> None:
    expected = {"https": None, "tls": None, "smtp": smtp, "imap": imap, "pop3": pop3}
    assert expected == DIALOGUES


def test_smtp_multi_line_greeting_and_go_ahead() -> None:
    replies = (b"220-one\r\n220-two\r\n220 three\r\n", SMTP_GOOD[1], b"220-almost\r\n220 ready\r\n")
    assert turns(smtp(CLIENT), replies).agreed


@pytest.mark.parametrize("reply", [b"220\r\n", b"220 \r\n", b"220 ready\n", b"220 ready\r\r\n", b"220 \xff\xfe\r\n"])
def test_smtp_replies_may_be_terse_or_strange(reply: bytes) -> None:
    assert turns(smtp(CLIENT), (reply, SMTP_GOOD[1], reply)).agreed


@pytest.mark.parametrize("offer", [b"STARTTLS", b"starttls", b"StartTLS", b"STARTTLS "])
def test_smtp_keywords_have_no_case(offer: bytes) -> None:
    assert turns(smtp(CLIENT), (SMTP_GOOD[0], b"250-x\r\n250 " + offer + b"\r\n", SMTP_GOOD[2])).agreed


def test_imap_capabilities_of_any_case_among_other_untagged_lines() -> None:
    reply = b"* 3 EXISTS\r\n* capability imap4rev1 starttls\r\n* OK still here\r\na1 ok done\r\n"
    assert turns(imap(CLIENT), replies_with(imap, 1, reply) + IMAP_GOOD[2:]).agreed


def test_imap_untagged_lines_before_the_go_ahead() -> None:
    assert turns(imap(CLIENT), replies_with(imap, 2, b"* OK one moment\r\na2 OK go ahead\r\n")).agreed


@pytest.mark.parametrize("refusal", [b"-ERR unknown command\r\n", b"-ERR\r\n"])
def test_pop3_without_capa_is_asked_for_tls_nevertheless(refusal: bytes) -> None:
    """CAPA is an extension itself (RFC 2449)."""
    outcome = turns(pop3(CLIENT), (POP3_GOOD[0], refusal, POP3_GOOD[2]))
    assert outcome.agreed
    assert outcome.said[-1] == b"STLS\r\n"


def test_pop3_capabilities_have_arguments_and_no_case() -> None:
    reply = b"+OK list follows\r\nSASL PLAIN\r\nstls\r\nEXPIRE 60\r\n.\r\n"
    assert turns(pop3(CLIENT), (POP3_GOOD[0], reply, POP3_GOOD[2])).agreed


# Refusals


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("reply", [b"421 4.3.2 Service not available\r\n", b"421-too many\r\n421 connections\r\n"])
def test_smtp_421_is_a_rate_limit_at_every_step(step: int, reply: bytes) -> None:
    outcome = turns(smtp(CLIENT), replies_with(smtp, step, reply))
    assert outcome.reason is Reason.RATE_LIMITED
    assert outcome.error is not None
    assert outcome.error.farewell == b"QUIT\r\n"
    assert "421" in outcome.error.detail


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("reply", [b"454 4.7.0 TLS not available\r\n", b"554 no\r\n", b"500\r\n", b"354 go on\r\n"])
def test_smtp_other_codes_are_refusals_at_every_step(step: int, reply: bytes) -> None:
    outcome = turns(smtp(CLIENT), replies_with(smtp, step, reply))
    assert outcome.reason is Reason.STARTTLS_REFUSED
    assert outcome.error is not None
    assert outcome.error.farewell == b"QUIT\r\n"


def test_smtp_without_the_capability_is_left_politely() -> None:
    outcome = turns(smtp(CLIENT), (SMTP_GOOD[0], b"250-exch01\r\n250-XSTARTTLS\r\n250 NOSTARTTLS\r\n"))
    assert outcome.reason is Reason.STARTTLS_MISSING
    assert outcome.error is not None
    assert outcome.error.farewell == b"QUIT\r\n"
    assert GO_AHEAD[smtp] not in outcome.said


def test_smtp_the_name_in_the_ehlo_reply_is_no_capability() -> None:
    """RFC 5321 4.1.1.1: the reply's first line names the server; keywords follow."""
    outcome = turns(smtp(CLIENT), (SMTP_GOOD[0], b"250-starttls.contoso.test Hello\r\n250 SIZE\r\n"))
    assert outcome.reason is Reason.STARTTLS_MISSING


@pytest.mark.parametrize("greeting", [b"* BYE too many connections\r\n", b"* PREAUTH welcome back\r\n", b"* bye\r\n"])
def test_imap_that_greets_with_bye_or_preauth_refuses(greeting: bytes) -> None:
    outcome = turns(imap(CLIENT), (greeting,))
    assert outcome.reason is Reason.STARTTLS_REFUSED
    assert outcome.error is not None
    assert outcome.error.farewell == b"a3 LOGOUT\r\n"


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("reply", [b"* BYE shutting down\r\n", b"{tag} NO not now\r\n", b"{tag} BAD what?\r\n"])
def test_imap_refusals_after_the_greeting(step: int, reply: bytes) -> None:
    outcome = turns(imap(CLIENT), replies_with(imap, step, reply.replace(b"{tag}", b"a%d" % step)))
    assert outcome.reason is Reason.STARTTLS_REFUSED
    assert outcome.error is not None
    # A server that said BYE hangs up itself.
    assert outcome.error.farewell == (b"" if b"BYE" in reply else b"a3 LOGOUT\r\n")


def test_imap_without_the_capability_is_left_politely() -> None:
    reply = b"* CAPABILITY IMAP4rev1 NOSTARTTLS AUTH=PLAIN\r\na1 OK done\r\n"
    outcome = turns(imap(CLIENT), replies_with(imap, 1, reply))
    assert outcome.reason is Reason.STARTTLS_MISSING
    assert outcome.error is not None
    assert outcome.error.farewell == b"a3 LOGOUT\r\n"


def test_imap_a_word_outside_the_capabilities_is_no_capability() -> None:
    reply = b"* OK STARTTLS is switched off here\r\n* CAPABILITY IMAP4rev1\r\na1 OK done\r\n"
    assert turns(imap(CLIENT), replies_with(imap, 1, reply)).reason is Reason.STARTTLS_MISSING


@pytest.mark.parametrize("step", [0, 2])
def test_pop3_err_is_a_refusal(step: int) -> None:
    outcome = turns(pop3(CLIENT), replies_with(pop3, step, b"-ERR [SYS/TEMP] not now\r\n"))
    assert outcome.reason is Reason.STARTTLS_REFUSED
    assert outcome.error is not None
    assert outcome.error.farewell == b"QUIT\r\n"


def test_pop3_without_the_capability_is_left_politely() -> None:
    outcome = turns(pop3(CLIENT), replies_with(pop3, 1, b"+OK\r\nUIDL\r\nXSTLS\r\nSASL STLS\r\n.\r\n"))
    assert outcome.reason is Reason.STARTTLS_MISSING
    assert outcome.error is not None
    assert outcome.error.farewell == b"QUIT\r\n"


# Something else altogether


@pytest.mark.parametrize(
    "banner",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28\n",
        b"\xff\xfe2\x002\x000\x00\n",
        b"22 0\r\n",
        b"2200 ready\r\n",
        b"*OK\r\n",
        b"+OKAY\r\n",
    ],
)
@SERVICES
def test_another_protocols_banner_is_not_tls_and_gets_no_farewell(service: Service, banner: bytes) -> None:
    outcome = turns(service(CLIENT), (banner,))
    assert outcome.reason is Reason.NOT_TLS
    assert outcome.error is not None
    assert outcome.error.farewell == b""


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("service", [smtp, imap])
def test_garbage_in_the_middle_is_not_tls(service: Service, step: int) -> None:
    assert turns(service(CLIENT), replies_with(service, step, b"\x00\xff garbage\r\n")).reason is Reason.NOT_TLS


def test_garbage_for_a_pop3_go_ahead_is_not_tls() -> None:
    assert turns(pop3(CLIENT), replies_with(pop3, 2, b"\x00\xff garbage\r\n")).reason is Reason.NOT_TLS


def test_a_banner_that_is_no_utf_8_is_read_all_the_same() -> None:
    outcome = turns(smtp(CLIENT), (b"554 \xff\xfe\xc3\x28 r\xe9fus\xe9\r\n",))
    assert outcome.reason is Reason.STARTTLS_REFUSED
    assert outcome.error is not None
    outcome.error.detail.encode()  # for logs and JSON


@SERVICES
def test_details_stay_short_and_on_one_line(service: Service) -> None:
    for banner in (b"554 " + b"\x1b[31m\x00\r" * 600 + b"\r\n", b"-ERR " + b"x" * 4000 + b"\n", b"* BYE \x85\x0b\r\n"):
        error = turns(service(CLIENT), (banner,)).error
        assert error is not None
        assert len(error.detail) < 1000
        assert error.detail.isprintable()


@SERVICES
def test_silence_is_waited_for(service: Service) -> None:
    """The deadline is the connection's business."""
    outcome = turns(service(CLIENT), (GOOD[service][0][:-1],))
    assert (outcome.agreed, outcome.error) == (False, None)


# Text after the go-ahead (CVE-2011-0411)


@pytest.mark.parametrize("extra", [b"250 injected\r\n", b"\x16\x03\x01", b" ", b"\n"])
@SERVICES
def test_text_after_the_go_ahead_is_refused(service: Service, extra: bytes) -> None:
    """It came in the clear and would be taken for what the server says inside TLS."""
    outcome = turns(service(CLIENT), replies_with(service, 2, GOOD[service][2] + extra))
    assert outcome.reason is Reason.NOT_TLS
    assert not outcome.agreed


@SERVICES
def test_no_go_ahead_counts_before_it_was_asked_for(service: Service) -> None:
    """Whoever blurts a whole dialogue out at once answered no question of ours."""
    outcome = drive(service(CLIENT), [b"".join(GOOD[service])])
    assert not outcome.agreed or GO_AHEAD[service] in outcome.said


# Bounds


@SERVICES
@pytest.mark.parametrize("size", [1, 100, READ])
def test_an_endless_line_ends(service: Service, size: int) -> None:
    outcome = drive(service(CLIENT), [b"2" * size] * (2 * MAX_DIALOGUE // size))
    assert outcome.reason is Reason.NOT_TLS
    assert outcome.heard <= MAX_LINE + size
    assert outcome.most_held in range(MAX_LINE - size, MAX_LINE + 1)


ENDLESS = {
    smtp: (0, b"220-still here\r\n"),
    imap: (1, b"* OK still here\r\n"),
    pop3: (1, b"+OK\r\n"),
}


@SERVICES
@pytest.mark.parametrize("size", [1, 100, READ])
def test_an_endless_dialogue_ends(service: Service, size: int) -> None:
    step, line = ENDLESS[service]
    flood = line * (4 * MAX_DIALOGUE // len(line))
    chunks = [flood[at : at + size] for at in range(0, len(flood), size)]
    outcome = drive(service(CLIENT), [*GOOD[service][:step], *chunks])
    assert outcome.reason is Reason.NOT_TLS
    assert outcome.heard <= MAX_DIALOGUE + size + len(GOOD[service][0])


@pytest.mark.parametrize("size", [1, 1000, READ])
@SERVICES
def test_a_line_is_too_long_however_it_is_cut(service: Service, size: int) -> None:
    greeting = GOOD[service][0].rstrip() + b"x" * MAX_LINE + b"\r\n"
    assert turns(service(CLIENT), (greeting, *GOOD[service][1:]), size).reason is Reason.NOT_TLS


@pytest.mark.parametrize("size", [1, 1000, READ])
def test_a_refusal_counts_whatever_is_said_after_it(size: int) -> None:
    """The first reply decides, however much of what follows came with it."""
    flood = b"554 go away\r\n" * (2 * MAX_DIALOGUE // 13)
    dialogue = smtp(CLIENT)
    outcome = drive(dialogue, [flood[at : at + size] for at in range(0, len(flood), size)])
    assert outcome.reason is Reason.STARTTLS_REFUSED


# Properties

words = st.sampled_from(
    [
        *(b"220 ", b"220-", b"250 ", b"250-", b"421 ", b"554-", b"STARTTLS", b"* OK ", b"* BYE", b"* CAPABILITY "),
        *(b"a1 OK", b"a2 OK", b"a1 NO", b"+OK", b"-ERR", b"STLS", b".", b"\r", b" ", b"\xff", b"\x00", b"\x16\x03\x01"),
    ]
)
texts = st.lists(st.one_of(words, st.binary(max_size=12).map(lambda raw: raw.replace(b"\n", b""))), max_size=6)
lines = st.one_of(texts.map(b"".join), st.integers(0, 16).map(lambda size: b"<long>" + b"2" * size))
a_line = lines.map(lambda line: line + b"\r\n")
a_reply = st.one_of(a_line, st.sampled_from([reply for good in GOOD.values() for reply in good]))
services = st.sampled_from([smtp, imap, pop3])
streams = st.one_of(
    st.binary(max_size=300),
    st.lists(st.one_of(a_reply, lines, words), max_size=12).map(b"".join),
)


def stretched(data: bytes) -> bytes:
    """Long lines are made in the tests: drawn as they are, they would drown a failure's report."""
    return data.replace(b"<long>", b"2" * (MAX_LINE - 8))


@settings(max_examples=300, deadline=None)
@given(
    service=services,
    data=streams,
    times=st.sampled_from([1, 1, 2, 100, 3000]),
    size=st.one_of(st.integers(1, 64), st.integers(1, READ)),
)
def test_any_bytes_in_any_pieces_end_well(service: Service, data: bytes, times: int, size: int) -> None:
    """A dialogue agrees, fails as documented or waits; it takes in no more than its limit and holds less."""
    data = (stretched(data) * times)[: 2 * MAX_DIALOGUE]
    outcome = drive(service(CLIENT), (data[at : at + size] for at in range(0, len(data), size)))
    assert outcome.heard <= MAX_DIALOGUE + size
    assert outcome.most_held <= MAX_LINE + size
    if outcome.error is not None:
        assert outcome.reason in {
            *(Reason.NOT_TLS, Reason.STARTTLS_REFUSED, Reason.STARTTLS_MISSING, Reason.RATE_LIMITED)
        }
        assert outcome.error.farewell in {b"", b"QUIT\r\n", b"a3 LOGOUT\r\n"}
        assert outcome.error.detail


@settings(max_examples=300, deadline=None)
@given(service=services, step=st.integers(0, 2), reply=a_line, size=st.integers(1, 6000))
def test_the_pieces_in_which_a_reply_comes_change_nothing(service: Service, step: int, reply: bytes, size: int) -> None:
    replies = (*GOOD[service][:step], stretched(reply), *GOOD[service][step + 1 :])
    whole = turns(service(CLIENT), replies)
    assert turns(service(CLIENT), replies, size).essence == whole.essence
    assert turns(service(CLIENT), replies, 1).essence == whole.essence


@settings(max_examples=300, deadline=None)
@given(service=services, replies=st.lists(a_reply, max_size=6), size=st.integers(1, 200))
def test_tls_begins_only_after_it_was_asked_for(service: Service, replies: list[bytes], size: int) -> None:
    outcome = turns(service(CLIENT), [stretched(reply) for reply in replies], size)
    assert not outcome.agreed or GO_AHEAD[service] in outcome.said
