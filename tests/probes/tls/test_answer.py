"""Whatever a server says to a hello, read whole, in pieces and cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tlslite import extensions as ext
from tlslite.constants import TLS_1_3_HRR, CipherSuite, ExtensionType, GroupName
from tlslite.messages import Alert, HelloRequest, ServerHello, ServerHello2

from exporter.facts import Protocol, Reason
from exporter.probes.tls.answer import MAX_ANSWER, Answer, AnswerReader, Chose, Refused, Unclear
from exporter.probes.tls.hello import WIRE_VERSIONS, Hello, hello_for, hello_for_any

NAME = "exch01.contoso.test"
TLS_VERSIONS = (Protocol.SSL_3_0, Protocol.TLS_1_0, Protocol.TLS_1_1, Protocol.TLS_1_2, Protocol.TLS_1_3)
ANY = hello_for_any(NAME)
HELLOS = (ANY, *(hello_for(protocol, NAME) for protocol in Protocol))
READ = 16384  # what the connection reads at once

RSA_AES = CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA
TLS13_AES = CipherSuite.TLS_AES_128_GCM_SHA256
GCM = CipherSuite.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
UNOFFERED = CipherSuite.TLS_RSA_WITH_NULL_SHA


def record(payload: bytes, kind: int = 22, version: tuple[int, int] = (3, 1)) -> bytes:
    return bytes([kind, *version]) + len(payload).to_bytes(2, "big") + payload


def server_hello(
    version: tuple[int, int], suite: int = RSA_AES, extensions: Sequence[Any] = (), random: bytes = bytes(32)
) -> bytes:
    """A ServerHello message, without its record."""
    session_id = bytearray(32)
    message = ServerHello().create(version, bytearray(random), session_id, suite, extensions=list(extensions) or None)
    return bytes(message.write())


def selected_version(version: tuple[int, int]) -> Any:
    return ext.SrvSupportedVersionsExtension().create(version)


def tls13_hello(suite: int = TLS13_AES, random: bytes = bytes(32)) -> bytes:
    share = ext.KeyShareEntry().create(GroupName.x25519, bytearray(32))
    key_share = ext.ServerKeyShareExtension().create(share)
    return server_hello((3, 3), suite, [selected_version((3, 4)), key_share], random)


def hello_retry_request() -> bytes:
    key_share = ext.HRRKeyShareExtension().create(GroupName.secp384r1)
    return server_hello((3, 3), TLS13_AES, [key_share, selected_version((3, 4))], bytes(TLS_1_3_HRR))


def hello_of(protocol: Protocol) -> bytes:
    """The ServerHello with which a plain server chooses a version."""
    return tls13_hello() if protocol is Protocol.TLS_1_3 else server_hello(WIRE_VERSIONS[protocol])


def alert(code: int, level: int = 2) -> bytes:
    return record(bytes(Alert().create(code, level).write()), kind=21)


def ssl2_hello(version: tuple[int, int] = (0, 2), certificate: int = 600) -> bytes:
    message = ServerHello2().create(0, 1, version, bytearray(certificate), [0x010080, 0x0700C0], bytearray(16))
    body = bytes(message.write())
    return (0x8000 | len(body)).to_bytes(2, "big") + body


def hear(hello: Hello, chunks: Iterable[bytes], end: Reason = Reason.CONNECTION_CLOSED) -> Answer:
    """What the reader makes of a server that says the chunks and then ends in the given way."""
    reader = AnswerReader(hello)
    for chunk in chunks:
        answer = reader.feed(chunk)
        if answer is not None:
            return answer
    return reader.ended(end)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def hear_both(hello: Hello, data: bytes, end: Reason = Reason.CONNECTION_CLOSED) -> Answer:
    """The answer to the bytes at once, which must be the answer to the bytes one by one."""
    whole = hear(hello, [data], end)
    assert essence(whole) == essence(hear(hello, one_by_one(data), end))
    return whole


def essence(answer: Answer) -> tuple[object, ...]:
    """The answer without the words for people, which quote what was heard so far."""
    if isinstance(answer, Chose):
        return (Chose, answer.protocol)
    if isinstance(answer, Refused):
        return (Refused, answer.reason, answer.explicit)
    return (Unclear, answer.reason)


def unclear(answer: Answer, reason: Reason) -> bool:
    return isinstance(answer, Unclear) and answer.reason is reason and answer.detail != ""


# Chosen


@pytest.mark.parametrize("protocol", TLS_VERSIONS)
def test_a_server_hello_of_the_offered_version_chooses_it(protocol: Protocol) -> None:
    assert hear_both(hello_for(protocol, NAME), record(hello_of(protocol))) == Chose(protocol)


@pytest.mark.parametrize("protocol", [Protocol.TLS_1_0, Protocol.TLS_1_1, Protocol.TLS_1_2, Protocol.TLS_1_3])
def test_the_opening_hello_is_answered_with_any_of_its_versions(protocol: Protocol) -> None:
    assert hear_both(ANY, record(hello_of(protocol))) == Chose(protocol)


@pytest.mark.parametrize("hello", [ANY, hello_for(Protocol.TLS_1_3, NAME)])
def test_a_hello_retry_request_chooses_tls_1_3(hello: Hello) -> None:
    assert hear_both(hello, record(hello_retry_request(), version=(3, 3))) == Chose(Protocol.TLS_1_3)


def test_an_ssl_2_0_server_hello_chooses_ssl_2_0() -> None:
    assert hear_both(hello_for(Protocol.SSL_2_0, NAME), ssl2_hello()) == Chose(Protocol.SSL_2_0)


@pytest.mark.parametrize("record_version", [(3, 0), (3, 1), (3, 3), (3, 4)])
def test_the_records_version_decides_nothing(record_version: tuple[int, int]) -> None:
    data = record(server_hello((3, 3), GCM), version=record_version)
    assert hear_both(hello_for(Protocol.TLS_1_2, NAME), data) == Chose(Protocol.TLS_1_2)


def test_a_server_hello_without_any_extensions_field_is_one() -> None:
    """SSL 3.0 and old TLS servers end after the compression method."""
    body = server_hello((3, 1))
    assert len(body) == 4 + 2 + 32 + 1 + 32 + 2 + 1
    assert hear_both(hello_for(Protocol.TLS_1_0, NAME), record(body)) == Chose(Protocol.TLS_1_0)


def test_extensions_that_nobody_knows_do_not_cost_the_answer() -> None:
    strange = ext.TLSExtension(extType=0xFAFA).create(bytearray(b"anything"))
    renegotiation = ext.TLSExtension(extType=ExtensionType.renegotiation_info).create(bytearray(b"\x07junk"))
    data = record(server_hello((3, 3), GCM, [strange, renegotiation]))
    assert hear_both(hello_for(Protocol.TLS_1_2, NAME), data) == Chose(Protocol.TLS_1_2)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
def test_a_server_hello_in_many_records(size: int) -> None:
    message = tls13_hello()
    data = b"".join(record(message[at : at + size]) for at in range(0, len(message), size))
    assert hear_both(ANY, data) == Chose(Protocol.TLS_1_3)


def test_several_messages_in_one_record() -> None:
    """Schannel puts ServerHello, Certificate and ServerHelloDone into one record."""
    certificate = b"\x0b" + (3000).to_bytes(3, "big") + bytes(3000)
    data = record(server_hello((3, 3), GCM) + certificate + b"\x0e\x00\x00\x00")
    assert hear_both(hello_for(Protocol.TLS_1_2, NAME), data) == Chose(Protocol.TLS_1_2)


def test_a_certificate_that_is_not_complete_is_not_waited_for() -> None:
    first = record(server_hello((3, 1)) + b"\x0b\x00\xff\xff" + bytes(100))
    assert hear_both(hello_for(Protocol.TLS_1_0, NAME), first) == Chose(Protocol.TLS_1_0)


def test_hello_requests_first_are_skipped() -> None:
    """RFC 5246 7.4.1.1: a HelloRequest may come at any time."""
    request = bytes(HelloRequest().create().write())
    data = record(request) + record(request + request + server_hello((3, 1)))
    assert hear_both(hello_for(Protocol.TLS_1_0, NAME), data) == Chose(Protocol.TLS_1_0)


@pytest.mark.parametrize("code", [112, 90, 100, 40])
def test_a_warning_and_then_a_server_hello(code: int) -> None:
    data = alert(code, level=1) + record(server_hello((3, 3), GCM))
    assert hear_both(ANY, data) == Chose(Protocol.TLS_1_2)


def test_a_warning_in_two_records_and_then_a_server_hello() -> None:
    data = record(b"\x01", kind=21) + record(b"\x70", kind=21) + record(server_hello((3, 1)))
    assert hear_both(ANY, data) == Chose(Protocol.TLS_1_0)


# Refused


@pytest.mark.parametrize("code", [10, 40, 47, 50, 71])
def test_an_alert_against_the_hello_is_a_refusal(code: int) -> None:
    answer = hear_both(ANY, alert(code))
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.explicit) == (Reason.TLS_ALERT, False)
    assert f"alert {code}" in answer.detail


@pytest.mark.parametrize("hello", HELLOS)
def test_alert_70_names_the_version(hello: Hello) -> None:
    answer = hear_both(hello, alert(70))
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.explicit) == (Reason.TLS_ALERT, True)
    assert answer.detail == "alert 70 protocol_version"


@pytest.mark.parametrize("level", [1, 2])
def test_close_notify_is_a_close(level: int) -> None:
    answer = hear_both(ANY, alert(0, level))
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.explicit) == (Reason.CONNECTION_CLOSED, False)


@pytest.mark.parametrize("reason", [Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET])
def test_the_end_of_the_connection_is_a_refusal(reason: Reason) -> None:
    answer = hear(ANY, [], reason)
    assert isinstance(answer, Refused)
    assert (answer.reason, answer.explicit) == (reason, False)


def test_the_end_after_a_warning_is_a_refusal() -> None:
    answer = hear_both(ANY, alert(112, level=1))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.CONNECTION_CLOSED


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (Protocol.TLS_1_3, Protocol.TLS_1_2),
        (Protocol.TLS_1_2, Protocol.TLS_1_1),
        (Protocol.TLS_1_2, Protocol.SSL_3_0),
        (Protocol.TLS_1_1, Protocol.TLS_1_0),
        (Protocol.TLS_1_0, Protocol.SSL_3_0),
    ],
)
def test_a_lower_version_than_the_offered_one_is_a_refusal_that_names_the_version(
    offered: Protocol, chosen: Protocol
) -> None:
    answer = hear_both(hello_for(offered, NAME), record(hello_of(chosen)))
    assert answer == Refused(Reason.WRONG_VERSION, f"answered {chosen} instead", explicit=True)


def test_ssl_3_0_to_the_opening_hello_is_a_refusal() -> None:
    assert essence(hear_both(ANY, record(hello_of(Protocol.SSL_3_0)))) == (Refused, Reason.WRONG_VERSION, True)


# Unclear


@pytest.mark.parametrize("code", [20, 22, 42, 48, 86, 112, 120, 255])
def test_an_alert_about_something_else_is_unclear(code: int) -> None:
    answer = hear_both(ANY, alert(code))
    assert unclear(answer, Reason.TLS_ALERT)
    assert isinstance(answer, Unclear)
    assert f"alert {code}" in answer.detail


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (Protocol.SSL_3_0, Protocol.TLS_1_0),
        (Protocol.TLS_1_0, Protocol.TLS_1_2),
        (Protocol.TLS_1_1, Protocol.TLS_1_2),
        (Protocol.TLS_1_2, Protocol.TLS_1_3),
        (Protocol.SSL_2_0, Protocol.SSL_3_0),
        (Protocol.SSL_2_0, Protocol.TLS_1_0),
    ],
)
def test_a_version_that_was_never_offered_is_unclear(offered: Protocol, chosen: Protocol) -> None:
    answer = hear_both(hello_for(offered, NAME), record(hello_of(chosen)))
    assert unclear(answer, Reason.WRONG_VERSION)


@pytest.mark.parametrize("version", [(0, 2), (2, 0), (3, 255), (4, 0), (254, 253), (255, 255), (0, 0), (3, 5)])
@pytest.mark.parametrize("hello", HELLOS)
def test_an_unknown_version_is_unclear(hello: Hello, version: tuple[int, int]) -> None:
    assert isinstance(hear_both(hello, record(server_hello(version))), Unclear)


@pytest.mark.parametrize("version", [(3, 4), (0x7F, 28)])
def test_tls_1_3_only_counts_in_supported_versions(version: tuple[int, int]) -> None:
    """A draft's number, and 3.4 in the old field, are no TLS 1.3."""
    assert isinstance(hear_both(ANY, record(server_hello(version, TLS13_AES))), Unclear)
    draft = server_hello((3, 3), TLS13_AES, [selected_version((0x7F, 28))])
    assert unclear(hear_both(ANY, record(draft)), Reason.WRONG_VERSION)


@pytest.mark.parametrize("protocol", [Protocol.TLS_1_0, Protocol.TLS_1_2, Protocol.TLS_1_3])
def test_a_cipher_suite_that_was_not_offered_is_unclear(protocol: Protocol) -> None:
    message = tls13_hello(UNOFFERED) if protocol is Protocol.TLS_1_3 else server_hello(WIRE_VERSIONS[protocol], 0x0002)
    assert unclear(hear_both(hello_for(protocol, NAME), record(message)), Reason.NOT_TLS)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(server_hello((3, 3), TLS13_AES), id="a TLS 1.3 suite in TLS 1.2"),
        pytest.param(server_hello((3, 1), GCM), id="a TLS 1.2 suite in TLS 1.0"),
        pytest.param(tls13_hello(RSA_AES), id="a TLS 1.0 suite in TLS 1.3"),
    ],
)
def test_a_cipher_suite_that_the_chosen_version_does_not_know_is_unclear(message: bytes) -> None:
    """No client goes on with such a handshake, so it proves nothing, however the offers were made."""
    assert unclear(hear_both(ANY, record(message)), Reason.NOT_TLS)


@pytest.mark.parametrize("legacy", [(3, 0), (3, 1), (3, 2), (3, 4)])
def test_supported_versions_beside_another_legacy_version_is_unclear(legacy: tuple[int, int]) -> None:
    message = server_hello(legacy, TLS13_AES, [selected_version((3, 4))])
    assert unclear(hear_both(ANY, record(message)), Reason.NOT_TLS)


@pytest.mark.parametrize("selected", [(3, 0), (3, 1), (3, 2), (3, 3), (0, 2)])
def test_supported_versions_must_not_choose_below_tls_1_3(selected: tuple[int, int]) -> None:
    """RFC 8446 4.2.1: a client must abort on it."""
    message = server_hello((3, 3), GCM, [selected_version(selected)])
    assert unclear(hear_both(ANY, record(message)), Reason.NOT_TLS)


@pytest.mark.parametrize("content", [b"", b"\x03"])
def test_supported_versions_cut_short_is_unclear(content: bytes) -> None:
    short = ext.TLSExtension(extType=ExtensionType.supported_versions).create(bytearray(content))
    assert unclear(hear_both(ANY, record(server_hello((3, 3), TLS13_AES, [short]))), Reason.NOT_TLS)


def test_supported_versions_that_nobody_asked_for_is_unclear() -> None:
    answer = hear_both(hello_for(Protocol.TLS_1_2, NAME), record(tls13_hello(GCM)))
    assert unclear(answer, Reason.WRONG_VERSION)


@pytest.mark.parametrize("cut", range(4, 4 + 2 + 32 + 1 + 32 + 2))
def test_a_server_hello_that_is_too_short_for_its_fields_is_unclear(cut: int) -> None:
    message = server_hello((3, 1))
    body = message[4:cut]
    data = record(b"\x02" + len(body).to_bytes(3, "big") + body)
    assert unclear(hear_both(hello_for(Protocol.TLS_1_0, NAME), data), Reason.NOT_TLS)


@pytest.mark.parametrize("kind", [0, 1, 4, 8, 11, 12, 14, 20, 255])
def test_another_handshake_message_is_unclear(kind: int) -> None:
    data = record(bytes([kind, 0, 0, 4]) + bytes(4))
    assert unclear(hear_both(ANY, data), Reason.NOT_TLS)


def test_a_handshake_message_too_long_for_a_server_hello_is_not_collected() -> None:
    assert unclear(hear_both(ANY, record(b"\x02\xff\xff\xff")), Reason.NOT_TLS)


@pytest.mark.parametrize("kind", [20, 23])
def test_a_record_that_cannot_come_first_is_unclear(kind: int) -> None:
    assert unclear(hear_both(ANY, record(b"\x01", kind=kind)), Reason.NOT_TLS)


@pytest.mark.parametrize("kind", [0, 19, 24, 127, 255])
def test_a_record_of_an_unknown_type_is_unclear(kind: int) -> None:
    assert unclear(hear_both(ANY, record(b"\x01", kind=kind)), Reason.NOT_TLS)


@pytest.mark.parametrize("major", [0, 2, 4, 255])
def test_a_record_of_another_major_version_is_unclear(major: int) -> None:
    assert unclear(hear_both(ANY, record(server_hello((3, 1)), version=(major, 1))), Reason.NOT_TLS)


@pytest.mark.parametrize("length", [16385, 20000, 65535])
def test_an_oversized_record_is_unclear_by_its_header(length: int) -> None:
    header = b"\x16\x03\x01" + length.to_bytes(2, "big")
    assert unclear(hear_both(ANY, header), Reason.NOT_TLS)


def test_a_record_of_the_greatest_size_is_read() -> None:
    message = server_hello((3, 1))
    assert hear(ANY, [record(message + bytes(16384 - len(message)))]) == Chose(Protocol.TLS_1_0)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n",
        b"220 exch01.contoso.test Microsoft ESMTP MAIL Service ready\r\n",
        b"* OK IMAP4 ready\r\n",
        b"+OK POP3 ready\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"554 \xff\xfe\x00",
        b"\x00" * 64,
    ],
)
@pytest.mark.parametrize("hello", HELLOS)
def test_another_protocol_is_not_tls(hello: Hello, said: bytes) -> None:
    assert unclear(hear_both(hello, said), Reason.NOT_TLS)


@pytest.mark.parametrize("end", [Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET])
@pytest.mark.parametrize("hello", [ANY, hello_for(Protocol.TLS_1_0, NAME)])
def test_a_server_hello_cut_off_anywhere_is_unclear(hello: Hello, end: Reason) -> None:
    data = record(server_hello((3, 1)))
    for cut in range(1, len(data)):
        assert unclear(hear_both(hello, data[:cut], end), Reason.NOT_TLS), cut


@pytest.mark.parametrize("end", [Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET])
def test_an_alert_cut_off_is_unclear(end: Reason) -> None:
    for cut in range(1, 7):
        assert unclear(hear_both(ANY, alert(70)[:cut], end), Reason.NOT_TLS), cut


@pytest.mark.parametrize("said", [b"", b"\x16", record(server_hello((3, 1)))[:30], alert(112, level=1)])
def test_silence_is_unclear_whatever_was_said_before(said: bytes) -> None:
    assert unclear(hear(ANY, [said] if said else [], Reason.TLS_TIMEOUT), Reason.TLS_TIMEOUT)


def test_a_network_that_gives_up_is_unclear() -> None:
    assert unclear(hear(ANY, [], Reason.TCP_UNREACHABLE), Reason.TCP_UNREACHABLE)


# SSL 2.0


@pytest.mark.parametrize("version", [(2, 0), (3, 0), (3, 1), (0, 3), (0, 0)])
def test_an_ssl_2_0_server_hello_of_another_version_is_unclear(version: tuple[int, int]) -> None:
    answer = hear_both(hello_for(Protocol.SSL_2_0, NAME), ssl2_hello(version))
    assert unclear(answer, Reason.WRONG_VERSION)


@pytest.mark.parametrize("protocol", TLS_VERSIONS)
def test_an_ssl_2_0_server_hello_to_another_hello_is_not_tls(protocol: Protocol) -> None:
    assert unclear(hear_both(hello_for(protocol, NAME), ssl2_hello()), Reason.NOT_TLS)


def test_an_ssl_2_0_error_message_is_unclear() -> None:
    assert unclear(hear_both(hello_for(Protocol.SSL_2_0, NAME), b"\x80\x03\x00\x00\x01"), Reason.NOT_TLS)


def test_an_ssl_2_0_server_hello_cut_off_anywhere_is_unclear() -> None:
    data = ssl2_hello(certificate=40)
    for cut in range(1, len(data)):
        assert unclear(hear_both(hello_for(Protocol.SSL_2_0, NAME), data[:cut]), Reason.NOT_TLS), cut


@pytest.mark.parametrize("position", range(7, 13))
def test_an_ssl_2_0_server_hello_whose_lengths_do_not_fit_is_unclear(position: int) -> None:
    data = bytearray(ssl2_hello(certificate=40))
    data[position] ^= 0x55
    assert isinstance(hear_both(hello_for(Protocol.SSL_2_0, NAME), bytes(data)), Unclear)


@pytest.mark.parametrize("before", [record(bytes(4)), record(b""), alert(112, level=1)])
def test_an_ssl_2_0_server_hello_after_tls_records_is_unclear(before: bytes) -> None:
    """A server that began in TLS records does not speak SSL 2.0."""
    assert isinstance(hear_both(hello_for(Protocol.SSL_2_0, NAME), before + ssl2_hello()), Unclear)


def test_an_ssl_2_0_message_of_no_length_is_unclear() -> None:
    assert unclear(hear_both(hello_for(Protocol.SSL_2_0, NAME), b"\x80\x00\x04"), Reason.NOT_TLS)


# Bounds


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(alert(112, level=1), id="warnings"),
        pytest.param(record(b"\x00\x00\x00\x00"), id="hello requests"),
        pytest.param(record(b""), id="empty records"),
        pytest.param(record(b"", kind=21), id="empty alerts"),
    ],
)
def test_an_endless_nothing_ends(flood: bytes) -> None:
    """A peer that keeps to the letter of TLS without ever answering is given up."""
    reader = AnswerReader(ANY)
    heard = 0
    answer = None
    while answer is None and heard < 2 * MAX_ANSWER:
        answer = reader.feed(flood)
        heard += len(flood)
    assert answer is not None
    assert unclear(answer, Reason.NOT_TLS)
    assert heard <= MAX_ANSWER + len(flood)


def test_where_the_limit_falls_in_a_read_does_not_matter() -> None:
    """An answer that comes too late is too late, be it in the read that crosses the limit."""
    warning = alert(112, level=1)
    data = warning * (MAX_ANSWER // len(warning)) + record(server_hello((3, 1)))
    assert len(data) > MAX_ANSWER
    chunks = [data[at : at + READ] for at in range(0, len(data), READ)]
    in_odd_pieces = [data[:1], *(data[at : at + READ] for at in range(1, len(data), READ))]
    assert essence(hear(ANY, chunks)) == essence(hear(ANY, in_odd_pieces)) == essence(hear(ANY, one_by_one(data)))


# Properties


def held(reader: AnswerReader) -> int:
    return len(reader._raw) + len(reader._alert) + len(reader._handshake)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The bytes cut at these places."""
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places) if start < end]


def choices(data: bytes) -> set[tuple[int, int]]:
    """The versions that a ServerHello at the start of the records chooses: read by other code than the exporter's.

    A ServerHello has one version; what is malformed has none.
    """
    handshake = b""
    while len(data) >= 5 and data[1] == 3 and len(data) >= 5 + int.from_bytes(data[3:5], "big"):
        length = int.from_bytes(data[3:5], "big")
        handshake += data[5 : 5 + length] if data[0] == 22 else b""
        data = data[5 + length :]
    while handshake[:4] == bytes(4):
        handshake = handshake[4:]
    if handshake[:1] != b"\x02":
        return set()
    body = handshake[4 : 4 + int.from_bytes(handshake[1:4], "big")]
    rest = body[35 + body[34] :] if len(body) > 34 else b""
    if len(rest) < 3:
        return set()
    if b"\x00\x2b\x00\x02" in rest:  # supported_versions
        return {(3, 4)}
    return {(body[0], body[1])}


handshake_messages = st.one_of(
    st.just(bytes(4)),
    st.builds(
        server_hello,
        st.tuples(st.sampled_from([0, 2, 3, 3, 3, 3, 4]), st.integers(0, 5)),
        st.sampled_from([RSA_AES, GCM, TLS13_AES, UNOFFERED]),
        st.lists(
            st.builds(selected_version, st.tuples(st.sampled_from([0, 3, 3, 0x7F]), st.integers(0, 5))), max_size=2
        ),
    ),
    st.just(tls13_hello()),
    st.just(hello_retry_request()),
    st.binary(max_size=60),
    st.builds(lambda kind, body: bytes([kind]) + len(body).to_bytes(3, "big") + body, st.integers(0, 24), st.binary()),
)
records = st.one_of(
    st.builds(record, handshake_messages),
    st.builds(
        record, st.binary(max_size=80), st.integers(18, 25), st.tuples(st.sampled_from([3, 3, 3, 2]), st.just(1))
    ),
    st.builds(alert, st.integers(0, 255), st.integers(0, 3)),
    st.just(ssl2_hello()),
    st.builds(ssl2_hello, st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(0, 80)),
    st.binary(max_size=80),
)
streams = st.one_of(st.binary(max_size=400), st.lists(records, max_size=6).map(b"".join))
cut_places = st.lists(st.integers(0, 5000), max_size=12)
hellos = st.sampled_from(HELLOS)
ends = st.sampled_from([Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET, Reason.TLS_TIMEOUT, Reason.TCP_UNREACHABLE])


@settings(max_examples=600, deadline=None)
@given(hello=hellos, data=streams, cuts=cut_places, end=ends)
@example(hello=HELLOS[1], data=b"\x80\x01\x04", cuts=[], end=Reason.CONNECTION_CLOSED)
def test_any_bytes_in_any_pieces_give_the_same_answer(hello: Hello, data: bytes, cuts: list[int], end: Reason) -> None:
    """Feeding never raises, and how the network cut the bytes changes nothing."""
    whole = hear(hello, [data], end)
    assert essence(hear(hello, pieces(data, cuts), end)) == essence(whole)
    assert essence(hear(hello, one_by_one(data), end)) == essence(whole)


@settings(max_examples=600, deadline=None)
@given(hello=hellos, data=streams)
def test_only_a_well_formed_server_hello_of_an_offered_version_chooses(hello: Hello, data: bytes) -> None:
    answer = hear(hello, [data])
    if not isinstance(answer, Chose):
        return
    assert answer.protocol in hello.offers
    if answer.protocol is Protocol.SSL_2_0:
        assert data[2] == 4
        assert data[5:7] == b"\x00\x02"
    else:
        assert choices(data) == {WIRE_VERSIONS[answer.protocol]}


@settings(max_examples=150, deadline=None)
@given(
    hello=hellos,
    opening=streams,
    flood=st.one_of(records, st.binary(min_size=1, max_size=2000)).filter(bool),
    size=st.integers(1, READ),
)
def test_memory_stays_bounded(hello: Hello, opening: bytes, flood: bytes, size: int) -> None:
    """Whatever comes and for however long, the reader ends it, and never holds more than the limit and one read."""
    data = opening + flood * (2 * MAX_ANSWER // len(flood))
    size = max(size, 64)  # the feeds of one byte are other tests' business
    reader = AnswerReader(hello)
    answer = None
    for at in range(0, len(data), size):
        answer = reader.feed(data[at : at + size])
        assert held(reader) <= MAX_ANSWER + size
        if answer is not None:
            break
    assert answer is not None
    assert at <= MAX_ANSWER + size


@settings(max_examples=600, deadline=None)
@given(
    hello=hellos,
    protocol=st.sampled_from(TLS_VERSIONS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 400),
    junk=st.binary(max_size=20),
)
def test_a_mutated_server_hello_never_chooses_what_was_not_offered(
    hello: Hello, protocol: Protocol, changes: list[tuple[int, int]], cut: int, junk: bytes
) -> None:
    data = bytearray(record(hello_of(protocol)))
    for place, value in changes:
        data[place % len(data)] = value
    mutated = bytes(data[:cut]) + junk + bytes(data[cut:])
    answer = hear_both(hello, mutated)
    if isinstance(answer, Chose):
        assert answer.protocol in hello.offers
        assert answer.protocol is Protocol.SSL_2_0 or choices(mutated) == {WIRE_VERSIONS[answer.protocol]}


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), min_size=1, max_size=4), cut=st.integers(0, 80)
)
def test_a_mutated_ssl_2_0_server_hello_chooses_ssl_2_0_or_nothing(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(ssl2_hello(certificate=40))
    for place, value in changes:
        data[place % len(data)] = value
    answer = hear_both(hello_for(Protocol.SSL_2_0, NAME), bytes(data[:cut] + data[cut + 1 :]))
    assert not isinstance(answer, Chose) or answer.protocol is Protocol.SSL_2_0
