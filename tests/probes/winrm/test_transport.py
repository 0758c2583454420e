"""What leaves for a host, how often, and what is believed of its answers; with servers that are no Windows hosts."""

from __future__ import annotations

import gzip
import ssl
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from winrm.exceptions import InvalidCredentialsError
from winrm_hosts import (
    ACCOUNT,
    AMPLE,
    PASSWORD,
    Pki,
    at_operation,
    http,
    job,
    proofs,
    raw_server,
    readable,
    server_context,
    tapped,
    visit,
    windows,
)

from exporter.demo.winrm import Asked, Https, Reply, SimulatedHosts
from exporter.demo.winrm.misbehaviour import Seen as Request
from exporter.facts import Reason
from exporter.probes.winrm.failures import NotWinRmError, PlaintextError, WinRmFailure
from exporter.probes.winrm.jobs import Collected, CollectJob, Login
from exporter.probes.winrm.session import collect
from exporter.probes.winrm.transport import MAX_RESPONSE, Seen, connect, endpoint

NEGOTIATE = "WWW-Authenticate: Negotiate"
BASIC = 'WWW-Authenticate: Basic realm="WSMAN"'
CHALLENGE = (
    # Type 2 with a target, and the flags and the length of its information that [MS-NLMP] 4.2.4.3 has as an example.
    "TlRMTVNTUAACAAAADAAMADgAAAAzgorCASNFZ4mrze8AAAAAAAAAACQAJABEAAAABgBwFwAAAA9TAGUAcgB2AGUAcgACAAwARABvAG0AYQBpAG4A"
    "AQAMAFMAZQByAHYAZQByAAAAAAA="
)


def failure(outcome: Collected) -> tuple[Reason, str]:
    assert outcome.failure is not None, "it did not fail"
    return outcome.failure.reason, outcome.failure.detail


# Where to


@pytest.mark.parametrize(
    ("server", "https", "port", "expected"),
    [
        ("exch01.contoso.test", False, 5985, "http://exch01.contoso.test:5985/wsman"),
        ("exch01.contoso.test", True, 5986, "https://exch01.contoso.test:5986/wsman"),
        ("192.0.2.1", True, 443, "https://192.0.2.1:443/wsman"),
        ("2001:db8::1", False, 80, "http://[2001:db8::1]:80/wsman"),
    ],
)
def test_the_endpoint_is_whole(server: str, https: bool, port: int, expected: str) -> None:  # noqa: FBT001
    assert endpoint(CollectJob(server, "192.0.2.9", Login("ntlm", https, port))) == expected


@pytest.mark.parametrize("server", ["exch01.contoso.test", "EXCH01.Contoso.Test", "192.0.2.1", "2001:db8::1"])
def test_the_connection_goes_to_the_address_and_the_header_has_the_name(server: str) -> None:
    with raw_server(http("404 Not Found")) as other:
        visit(other.port, server=server)

    name = f"[{server}]" if ":" in server else server
    assert len(other.requests) == 1
    assert f"\r\nHost: {name}:{other.port}\r\n".encode() in other.received
    assert other.received.startswith(b"POST /wsman HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
)
@pytest.mark.parametrize("auth", ["ntlm", "basic"])
def test_a_redirect_to_another_host_is_not_followed(auth: str, status: str) -> None:
    with raw_server(http("200 OK")) as elsewhere:
        location = f"Location: http://127.0.0.1:{elsewhere.port}/wsman"
        with raw_server(http(status, b"", location)) as server:
            outcome = visit(server.port, auth)

    reason, detail = failure(outcome)
    assert reason is Reason.NOT_WINRM
    assert f"HTTP {status[:3]}" in detail
    assert elsewhere.requests == []
    assert len(server.requests) == 1


def test_a_redirect_to_itself_is_not_followed() -> None:
    with raw_server(lambda request: http("307 Temporary Redirect", b"", f"Location: {_url(request)}")) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] is Reason.NOT_WINRM
    assert len(server.requests) == 1


def _url(request: bytes) -> str:
    host = request.split(b"\r\nHost: ")[1].split(b"\r\n")[0].decode()
    return f"http://{host}/wsman"


@pytest.mark.parametrize("operation", ["Create", "Receive", "Delete"])
def test_a_redirect_in_mid_visit_is_not_followed_either(hosts: SimulatedHosts, operation: str) -> None:
    with raw_server(http("200 OK")) as elsewhere:
        away = Reply(307, headers=(("Location", f"http://127.0.0.1:{elsewhere.port}/wsman"),))
        host = hosts.start(windows(misbehave=at_operation(operation, away, times=1)))
        visit(host)

    assert elsewhere.requests == []
    assert host.open_shells == 0


# How often


def stubborn(*headers: str) -> Callable[[bytes], bytes]:
    """A server that says 401 for ever, and to the first message of NTLM sends its challenge if it offers that."""

    def answer(request: bytes) -> bytes:
        opening = b"authorization: negotiate tlrmtvntuaab" in request.lower()
        challenged = [f"{NEGOTIATE} {CHALLENGE}"] if opening and NEGOTIATE in headers else headers
        return http("401 Unauthorized", b"", *challenged)

    return answer


@pytest.mark.parametrize(
    ("auth", "headers", "sent", "reason", "words"),
    [
        ("ntlm", (NEGOTIATE,), 1, Reason.AUTH_REJECTED, "the host refused the credentials; it offers Negotiate"),
        ("ntlm", (NEGOTIATE, BASIC), 1, Reason.AUTH_REJECTED, "it offers Negotiate, Basic"),
        ("ntlm", (BASIC,), 0, Reason.AUTH_UNAVAILABLE, "does not offer this authentication; it offers Basic"),
        ("ntlm", (), 0, Reason.AUTH_UNAVAILABLE, "it offers nothing known"),
        ("basic", (BASIC,), 1, Reason.AUTH_REJECTED, "it offers Basic"),
        ("basic", (NEGOTIATE,), 1, Reason.AUTH_UNAVAILABLE, "it offers Negotiate"),
        ("basic", (), 1, Reason.AUTH_REJECTED, "the host refused the credentials"),
    ],
)
def test_a_refusal_is_not_answered_with_the_credential_again(
    auth: str, headers: tuple[str, ...], sent: int, reason: Reason, words: str
) -> None:
    """Whatever a server that says 401 for ever offers with it."""
    with raw_server(stubborn(*headers)) as server:
        outcome = visit(server.port, auth)

    assert failure(outcome)[0] is reason
    assert words in failure(outcome)[1]
    assert proofs(server.received) == sent
    assert len(server.requests) <= 3
    assert outcome.accepted is (False if reason is Reason.AUTH_REJECTED else None)


@pytest.mark.parametrize("offers", [(), (BASIC,), ("WWW-Authenticate: Digest",), (NEGOTIATE,), (f"{NEGOTIATE} AAAA",)])
def test_a_refusal_of_the_proof_is_one_whatever_is_offered_then(offers: tuple[str, ...]) -> None:
    """It was counted; the guard has to know."""

    def answer(request: bytes) -> bytes:
        if proofs(request):
            return http("401 Unauthorized", b"", *offers)
        return stubborn(NEGOTIATE)(request)

    with raw_server(answer) as server:
        outcome = visit(server.port)

    assert (failure(outcome)[0], outcome.accepted) == (Reason.AUTH_REJECTED, False)
    assert proofs(server.received) == 1


@pytest.mark.parametrize(("auth", "https"), [("ntlm", True), ("basic", False), ("basic", True)])
@pytest.mark.parametrize("answer", ["200 OK", "500 Internal Server Error"])
def test_a_web_server_that_lets_everybody_in_proves_nothing(
    trust: Pki,
    auth: str,
    https: bool,  # noqa: FBT001
    answer: str,
) -> None:
    """It has not looked at the password: others must not be asked all at once for that."""
    told: list[str] = []
    with raw_server(
        http(answer, b"<html>It works</html>", "Content-Type: text/html"),
        server_context(trust.authority) if https else None,
    ) as server:
        at = job(server.port, auth, https=https, ca_file=str(trust.ca_file))
        outcome = collect(at, AMPLE, lambda: told.append("accepted"))

    assert outcome.accepted is None
    assert told == []
    assert failure(outcome)[0] in {Reason.NOT_WINRM, Reason.WSMAN_FAULT}


def test_a_challenge_that_never_comes_is_waited_for_once() -> None:
    with raw_server(http("401 Unauthorized", b"", NEGOTIATE)) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] is Reason.AUTH_UNAVAILABLE
    assert len(server.requests) == 2
    assert proofs(server.received) == 0


@pytest.mark.parametrize("challenge", ["TlRMTVNTUAACAAAA", "%%%%", "AAAA"])
def test_a_challenge_that_is_none_is_not_answered(challenge: str) -> None:
    with raw_server(http("401 Unauthorized", b"", f"{NEGOTIATE} {challenge}")) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] in {Reason.AUTH_UNAVAILABLE, Reason.NOT_WINRM}
    assert proofs(server.received) == 0


def test_a_host_is_no_proxy() -> None:
    """pywinrm's NTLM would log on to one that asks, with the same password, however often."""
    refusal = http("407 Proxy Authentication Required", b"", f"Proxy-Authenticate: NTLM {CHALLENGE}")
    with raw_server(refusal) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] is Reason.NOT_WINRM
    assert proofs(server.received) == 0
    assert len(server.requests) == 1


def test_a_wrong_password_is_one_attempt(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows())

    with tapped(host.port) as tap:
        outcome = visit(tap.port, password="wrong")

    assert failure(outcome)[0] is Reason.AUTH_REJECTED
    assert outcome.accepted is False
    assert [each.authorization for each in host.journal.of(Asked)] == ["", "NTLM negotiate", "NTLM authenticate"]
    assert readable(tap.received) == []


@pytest.mark.parametrize("operation", ["Create", "Command", "Receive", "Signal", "Delete"])
def test_a_refusal_in_mid_visit_is_not_argued_with(hosts: SimulatedHosts, operation: str) -> None:
    """The log-on belongs to the connection: the next one, to leave nothing behind, has a log-on of its own."""
    refused = Reply(401, headers=(("WWW-Authenticate", "Negotiate"),))
    host = hosts.start(windows(misbehave=at_operation(operation, refused, times=1)))

    with tapped(host.port) as tap:
        visit(tap.port)

    assert proofs(tap.received) == (1 if operation == "Create" else 2)
    assert readable(tap.received) == []
    assert host.open_shells == 0


def test_who_refuses_after_having_accepted_refused(hosts: SimulatedHosts) -> None:
    """The password was changed meanwhile: the guard has to know, or the next host counts one more attempt."""

    def misbehave(request: Request) -> Reply | None:
        lost = request.operation == "Receive" or request.connection > 1
        return Reply(401, headers=(("WWW-Authenticate", "Negotiate"),)) if lost and not _opens(request) else None

    host = hosts.start(windows(misbehave=misbehave))
    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    assert outcome.accepted is False
    assert outcome.left_behind != ""
    assert proofs(tap.received) == 2


def _opens(request: Request) -> bool:
    return request.request.headers.get("authorization", "").startswith("Negotiate TlRMTVNTUAAB")


# What may leave


@pytest.mark.parametrize(
    "answer", [http("200 OK"), http("200 OK", b"<html>", "Content-Type: text/html"), b"hello\r\n\r\n"]
)
def test_nothing_readable_leaves_for_who_asks_for_no_password(answer: bytes) -> None:
    with raw_server(answer) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] is Reason.NOT_WINRM
    assert readable(server.received) == []
    assert len(server.requests) == 1


def test_after_a_failed_log_on_a_message_does_not_leave_readably() -> None:
    """Which is what pywinrm itself would do next."""
    with raw_server(http("200 OK")) as server:
        protocol = connect(job(server.port), Seen())
        protocol.transport.encryption = None
        with pytest.raises(PlaintextError):
            protocol.open_shell()
        protocol.transport.close_session()

    assert len(server.requests) == 1


def test_nothing_leaves_for_another_address_than_the_endpoint() -> None:
    with raw_server(http("200 OK")) as server:
        protocol = connect(job(server.port), Seen())
        session = protocol.transport.build_session()
        with pytest.raises(NotWinRmError):
            session.post(f"http://127.0.0.1:{server.port}/elsewhere")
        protocol.transport.close_session()

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "kind", ["application/soap+xml;charset=UTF-8", "multipart/encrypted", "multipart/encrypted;protocol=none", ""]
)
@pytest.mark.parametrize("operation", ["Create", "Receive"])
def test_an_answer_without_encryption_is_not_believed(hosts: SimulatedHosts, operation: str, kind: str) -> None:
    """However it calls itself: anybody on the way could have written it."""
    forged = http("200 OK", FORGED, *([f"Content-Type: {kind}"] if kind else []))
    host = hosts.start(windows(misbehave=at_operation(operation, forged)))

    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    assert failure(outcome)[0] is Reason.NOT_WINRM
    assert "encryption" in failure(outcome)[1]
    assert outcome.output == b""
    assert host.open_shells == 0
    assert readable(tap.received) == []


GONE = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value>'
    b"</s:Code><s:Reason><s:Text>Nothing here</s:Text></s:Reason><s:Detail><f:WSManFault "
    b'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="2150858843"/></s:Detail></s:Fault></s:Body>'
    b"</s:Envelope>"
)
"""That there is no such shell."""
SOAP = "Content-Type: application/soap+xml;charset=UTF-8"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GONE), GONE)
FORGED_FAULTS = {
    "with a length": http("500 Internal Server Error", GONE, SOAP),
    "in chunks": f"HTTP/1.1 500 Error\r\n{SOAP}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNKED,
    "without a type": http("500 Internal Server Error", GONE),
    "in chunks that are denied": (
        f"HTTP/1.1 500 Error\r\n{SOAP}\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + CHUNKED
    ),
    "forbidden": http("403 Forbidden", GONE, SOAP),
    "not found": http("404 Not Found", GONE, SOAP),
    "unavailable": http("503 Service Unavailable", GONE, SOAP),
}


@pytest.mark.parametrize("forged", FORGED_FAULTS.values(), ids=FORGED_FAULTS)
def test_a_fault_without_encryption_says_nothing_of_a_shell(hosts: SimulatedHosts, forged: bytes) -> None:
    """It is deleted all the same, over a new connection."""
    host = hosts.start(windows(misbehave=at_operation("Delete", forged, times=1)))

    outcome = visit(host)

    assert (outcome.failure, outcome.left_behind) == (None, "")
    assert host.open_shells == 0


@pytest.mark.parametrize("forged", FORGED_FAULTS.values(), ids=FORGED_FAULTS)
def test_a_fault_without_encryption_is_no_acceptance(hosts: SimulatedHosts, forged: bytes) -> None:
    host = hosts.start(windows(misbehave=at_operation("Create", forged)))

    outcome = visit(host)

    assert failure(outcome)[0] in {Reason.NOT_WINRM, Reason.ACCESS_DENIED, Reason.WSMAN_FAULT}
    assert "2150858843" not in failure(outcome)[1]
    assert (outcome.accepted, outcome.left_behind) == (None, "")


FORGED = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    b'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Body><rsp:ReceiveResponse>'
    b'<x Name="ShellId">F00</x><rsp:Stream Name="stdout">QUJD</rsp:Stream>'
    b'<rsp:CommandState State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done"/>'
    b"</rsp:ReceiveResponse></s:Body></s:Envelope>"
)


def test_a_forged_seal_is_not_believed(hosts: SimulatedHosts) -> None:
    body = (
        b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
        b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=10\r\n--Encrypted Boundary\r\n"
        b"\tContent-Type: application/octet-stream\r\n\x10\0\0\0" + bytes(26) + b"--Encrypted Boundary--\r\n"
    )
    kind = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
    forged = http("200 OK", body, f"Content-Type: {kind}")
    host = hosts.start(windows(misbehave=at_operation("Create", forged)))

    assert failure(visit(host))[0] is Reason.NOT_WINRM


# Statuses


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("400 Bad Request", Reason.NOT_WINRM),
        ("403 Forbidden", Reason.ACCESS_DENIED),
        ("404 Not Found", Reason.NOT_WINRM),
        ("500 Internal Server Error", Reason.WSMAN_FAULT),
        ("503 Service Unavailable", Reason.NOT_WINRM),
        ("204 No Content", Reason.NOT_WINRM),
        ("299 Odd", Reason.NOT_WINRM),
        ("304 Not Modified", Reason.NOT_WINRM),
        ("599 Odd", Reason.NOT_WINRM),
    ],
)
@pytest.mark.parametrize("auth", ["ntlm", "basic"])
def test_a_status_is_a_reason(auth: str, status: str, reason: Reason) -> None:
    with raw_server(http(status)) as server:
        outcome = visit(server.port, auth)

    assert failure(outcome)[0] is reason
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Reason.NOT_WINRM),
        (b"\x15\x03\x01\x00\x02\x02\x46\r\n", Reason.NOT_WINRM),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", Reason.NOT_WINRM),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", Reason.NOT_WINRM),
        (b"HTTP/1.1 " + b"9" * 100 + b"\r\n\r\n", Reason.NOT_WINRM),
    ],
)
def test_what_is_not_http_is_not_winrm(answer: bytes, reason: Reason) -> None:
    with raw_server(answer) as server:
        assert failure(visit(server.port))[0] is reason


def test_an_answer_that_is_cut_off_is_a_closed_connection() -> None:
    answers = iter((http("200 OK", b"1234567890")[:-3],))
    with raw_server(lambda _: _then_close(next(answers))) as server:
        assert failure(visit(server.port, "basic"))[0] is Reason.CONNECTION_CLOSED


def _then_close(answer: bytes) -> Iterator[bytes]:
    yield answer
    raise ConnectionAbortedError


def test_a_server_that_hangs_up_is_a_closed_connection() -> None:
    with raw_server(lambda _: None) as server:
        assert failure(visit(server.port))[0] is Reason.CONNECTION_CLOSED


# How much


def endless() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"
    yield from [bytes(1 << 20)] * 100


def endless_chunks() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from [b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 100


def one_chunk() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6400000\r\n"
    yield from [bytes(1 << 20)] * 100


def bomb() -> Iterator[bytes]:
    packed = gzip.compress(bytes(100 << 20), 1)
    yield f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode() + packed


@pytest.mark.parametrize("flood", [endless, endless_chunks, one_chunk, bomb])
def test_a_hundred_megabytes_in_one_answer_are_too_many(flood: Callable[[], Iterator[bytes]]) -> None:
    """They are not read: the memory of a child is not the limit that holds."""
    with raw_server(lambda _: flood()) as server:
        outcome = visit(server.port, "basic")

    assert failure(outcome) == (Reason.OUTPUT_TOO_LARGE, f"one answer of more than {MAX_RESPONSE} bytes")


# TLS


def tls_failure(server: Callable[[bytes], bytes] | bytes, context: ssl.SSLContext, ca_file: Path) -> tuple[Reason, str]:
    """How a visit fails over https, before anything was said."""
    with raw_server(server, context) as listening:
        outcome = visit(listening.port, "basic", https=True, ca_file=str(ca_file))
    assert listening.requests == []
    assert outcome.accepted is None
    return failure(outcome)


def test_a_certificate_of_a_stranger_is_no_host(trust: Pki) -> None:
    reason, detail = tls_failure(http("200 OK"), server_context(trustme.CA()), trust.ca_file)

    assert reason is Reason.TLS
    assert "certificate" in detail


def test_an_expired_certificate_is_no_host(trust: Pki) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    context = server_context(trust.authority, not_before=yesterday - timedelta(days=1), not_after=yesterday)

    reason, detail = tls_failure(http("200 OK"), context, trust.ca_file)

    assert reason is Reason.TLS
    assert "expired" in detail


@pytest.mark.parametrize("name", ["exch02.contoso.test", "127.0.0.1"])
def test_a_certificate_for_another_name_is_no_host(trust: Pki, name: str) -> None:
    """That of the address that was connected to among them."""
    reason, detail = tls_failure(http("200 OK"), server_context(trust.authority, name), trust.ca_file)

    assert reason is Reason.TLS
    assert "exch01.contoso.test" in detail


def test_tls_1_0_alone_is_not_enough(trust: Pki) -> None:
    context = server_context(trust.authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1

    reason, detail = tls_failure(http("200 OK"), context, trust.ca_file)

    assert reason is Reason.TLS
    assert "version" in detail.lower()


def test_http_where_https_should_be_is_no_tls(trust: Pki) -> None:
    with raw_server(http("400 Bad Request")) as server:
        outcome = visit(server.port, "basic", https=True, ca_file=str(trust.ca_file))

    assert failure(outcome)[0] is Reason.TLS
    assert proofs(server.received) == 0
    assert readable(server.received) == []


def test_https_where_http_should_be_is_not_winrm(trust: Pki) -> None:
    with raw_server(http("200 OK"), server_context(trust.authority)) as server:
        outcome = visit(server.port)

    assert failure(outcome)[0] in {Reason.NOT_WINRM, Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET}
    assert server.requests == []


def test_without_trusted_certificates_nobody_is_trusted(
    trust: Pki, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A system that has none must not be one where all are trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with raw_server(http("200 OK"), server_context(trust.authority)) as server:
        outcome = visit(server.port, "basic", https=True)

    assert server.requests == []
    assert failure(outcome)[0] in {Reason.FILE_UNREADABLE, Reason.TLS}


@pytest.mark.parametrize("auth", ["basic", "certificate"])
def test_a_ca_file_is_all_that_is_trusted(
    trust: Pki, auth: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not the system's certificates beside it."""
    theirs = trustme.CA()
    theirs.cert_pem.write_to_path(tmp_path / "system.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    files: dict[str, Any] = {"certificate_file": str(trust.client_file), "key_file": str(trust.client_key_file)}
    with raw_server(http("200 OK"), server_context(theirs)) as server:
        outcome = visit(
            server.port, auth, https=True, ca_file=str(trust.ca_file), **files if auth == "certificate" else {}
        )

    assert failure(outcome)[0] is Reason.TLS
    assert server.requests == []


def test_without_a_ca_file_the_system_is_asked(trust: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the list that requests brings along."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trust.ca_file))
    with raw_server(http("404 Not Found"), server_context(trust.authority)) as server:
        visit(server.port, "basic", https=True)

    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
def test_a_file_that_is_not_there_is_named(trust: Pki, name: str, tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "ca_file": str(trust.ca_file),
        "certificate_file": str(trust.client_file),
        "key_file": str(trust.client_key_file),
    }
    with raw_server(http("200 OK"), server_context(trust.authority)) as server:
        outcome = visit(server.port, "certificate", https=True, **files | {name: str(tmp_path / "gone.pem")})

    assert failure(outcome)[0] is Reason.FILE_UNREADABLE
    assert "gone.pem" in failure(outcome)[1]


def test_strict_channel_bindings_are_met(hosts: SimulatedHosts, trust: Pki) -> None:
    host = hosts.start(windows(https=Https(trust.certificate_file, trust.key_file), channel_bindings="strict"))

    assert visit(host, https=True, ca_file=str(trust.ca_file)).failure is None


def test_a_log_on_without_the_bindings_that_a_host_wants_is_refused_once(hosts: SimulatedHosts, trust: Pki) -> None:
    host = hosts.start(windows(https=Https(trust.certificate_file, trust.key_file), channel_bindings="strict"))

    outcome = visit(host, https=True, ca_file=str(trust.ca_file), channel_bindings=False)

    assert failure(outcome)[0] is Reason.AUTH_REJECTED
    assert [each.authorization for each in host.journal.of(Asked)].count("NTLM authenticate") == 1


# The environment


def test_the_environment_changes_nothing(
    hosts: SimulatedHosts, trust: Pki, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login mallory password secret\n")
    netrc.chmod(0o600)
    theirs = trustme.CA()
    theirs.cert_pem.write_to_path(tmp_path / "theirs.pem")
    secure = hosts.start(
        windows(https=Https(trust.certificate_file, trust.key_file), offers=frozenset({"basic"}), accounts=(ACCOUNT,))
    )
    plain = hosts.start(windows())
    with raw_server(http("502 Bad Gateway")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(tmp_path / "theirs.pem"))
        outcomes = [visit(plain), visit(secure, "basic", https=True, ca_file=str(trust.ca_file))]

    assert [each.failure for each in outcomes] == [None, None]
    assert proxy.requests == []


# A failure has words


@pytest.mark.parametrize("password", [PASSWORD, "wrong", "\u20ac"])
def test_no_failure_quotes_the_password(password: str) -> None:
    with raw_server(stubborn(NEGOTIATE)) as server:
        outcome = visit(server.port, password=password)

    assert password not in repr(outcome)


def test_what_the_transport_refuses_comes_as_a_failure_of_its_own() -> None:
    with (
        raw_server(http("401 Unauthorized", b"", BASIC)) as server,
        pytest.raises((WinRmFailure, InvalidCredentialsError)),
    ):
        connect(job(server.port), Seen())


@pytest.mark.parametrize("at_fault", ["", "Create", "Receive", "Delete"])
def test_a_visit_leaves_no_connection_open(hosts: SimulatedHosts, at_fault: str) -> None:
    """At its end, not when the garbage is collected: a tap waits for it."""
    host = hosts.start(windows(misbehave=at_operation(at_fault, Reply(302), times=1)))

    with tapped(host.port) as tap:
        visit(tap.port)
