"""Every exception that a visit to a host can end with has its reason, and says what happened and nothing secret."""

from __future__ import annotations

import errno
import gzip
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from requests.adapters import HTTPAdapter
from spnego.exceptions import BadMICError, InvalidTokenError
from winrm.exceptions import WinRMError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol
from winrm.transport import Transport

from exporter.facts import Missing, Reason
from exporter.probes.winrm.failures import (
    REASONS,
    NotOfferedError,
    NotWinRmError,
    PlaintextError,
    RefusedError,
    TooLargeError,
    WinRmFailure,
    missing_of,
)

PASSWORD = "geheim-\u20ac-Pa55w0rd"
CHALLENGE = "TlRMTVNTUAACAAAAHgAeADgAAAA1gori"


@contextmanager
def answering(*answers: bytes, reset: bool = False) -> Iterator[int]:
    """A server on loopback, on each of whose connections one answer follows each request, and then the end.

    Args:
        answers: what it says on a connection, in this order; to the requests of each the same.
        reset: whether it ends a connection with a reset.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                peer, _ = listener.accept()
                with peer, suppress(OSError):
                    peer.settimeout(5)
                    for answer in answers:
                        _request(peer)
                        peer.sendall(answer)
                    if reset:
                        _request(peer)
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with _serving(listener, serve) as port:
        yield port


@contextmanager
def _serving(listener: socket.socket, serve: Callable[[], None]) -> Iterator[int]:
    """The port on which a thread serves meanwhile, until it can accept no more."""
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _request(peer: socket.socket) -> None:
    """Read a request to its end: who closes a connection with something unread resets it."""
    data = peer.recv(65536)
    while data.startswith((b"GET ", b"POST ")):
        head, ended, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *([0-9]+)", head)
        if ended and len(body) >= int(length[1] if length else 0):
            return
        data += peer.recv(65536)


@contextmanager
def tls_server(certificate: trustme.LeafCert) -> Iterator[int]:
    """A server on loopback that does handshakes, and nothing after them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                peer.settimeout(5)
                with suppress(OSError), context.wrap_socket(peer, server_side=True) as wrapped:
                    wrapped.recv(1)

    with _serving(listener, serve) as port:
        yield port


def _closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


def _failure(do: Callable[[], object]) -> BaseException:
    try:
        do()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
        return error
    raise AssertionError("it did not fail")


def _post(port: int, scheme: str = "http", **options: Any) -> Missing:
    options.setdefault("timeout", 5)
    url = f"{scheme}://127.0.0.1:{port}/wsman"
    with requests.Session() as session:
        session.trust_env = False
        return missing_of(_failure(lambda: session.post(url, data=b"x", **options)))


class _Asserting(HTTPAdapter):
    """Holds certificates against a name of its own."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, assert_hostname="ex01.contoso.test", **options)


def _transport(port: int, auth: Any = "basic", **options: Any) -> Missing:
    """What pywinrm's own transport makes of a server."""
    transport = Transport(
        f"http://127.0.0.1:{port}/wsman",
        auth_method=auth,
        username="svc",
        password="secret",
        message_encryption="never",
        proxy=None,
        ca_trust_path="",  # else it looks for one in the environment
        read_timeout_sec=5,
        **options,
    )
    try:
        return missing_of(_failure(lambda: transport.send_message("<x/>")))
    finally:
        transport.close_session()


def _http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class TestConnections:
    """With real ones, through requests and urllib3."""

    def test_refused(self) -> None:
        missing = _post(_closed_port())

        assert missing == Missing(Reason.TCP_REFUSED, "the host refused the connection")

    def test_closed_instead_of_an_answer(self) -> None:
        with answering(b"") as port:
            assert _post(port) == Missing(Reason.CONNECTION_CLOSED, "the host closed the connection")

    def test_reset_instead_of_an_answer(self) -> None:
        with answering(reset=True) as port:
            assert _post(port) == Missing(Reason.CONNECTION_RESET, "the host reset the connection")

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<s:Envelope",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n<s:Envelope",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<s:E\r\n",
        ],
        ids=["length", "in a chunk", "between chunks"],
    )
    def test_closed_in_mid_answer(self, answer: bytes) -> None:
        with answering(answer) as port:
            missing = _post(port)

        assert missing.reason is Reason.CONNECTION_CLOSED
        assert "in mid answer" in missing.detail or "broke" in missing.detail

    def test_silent(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            missing = _post(listener.getsockname()[1], timeout=0.1)

        assert missing.reason is Reason.DEADLINE
        assert "silent" in missing.detail

    @pytest.mark.parametrize(
        "answer",
        [
            b"220 mail.contoso.test ESMTP\r\n",
            b"HTTP/1.1 nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n",
            _http("200 OK", gzip.compress(b"x" * 1000)[:-20] + b"nonsense" * 3, "Content-Encoding: gzip"),
        ],
        ids=["SMTP", "status", "chunk", "headers", "gzip"],
    )
    def test_no_http(self, answer: bytes) -> None:
        with answering(answer) as port:
            assert _post(port).reason is Reason.NOT_WINRM

    def test_redirects_without_end(self) -> None:
        with answering(_http("302 Found", b"", "Location: /wsman", "Connection: close")) as port:
            assert _post(port).reason is Reason.NOT_WINRM

    def test_a_name_that_does_not_resolve(self) -> None:
        """As urllib3 wraps it; a test asks no name server."""
        error = requests.ConnectionError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

        assert missing_of(error).reason is Reason.DNS

    def test_a_name_that_is_none(self) -> None:
        assert missing_of(_failure(lambda: requests.get("http://[::1/wsman", timeout=1))).reason is Reason.DNS

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (errno.ENETUNREACH, Reason.TCP_UNREACHABLE),
            (errno.EHOSTUNREACH, Reason.TCP_UNREACHABLE),
            (errno.EACCES, Reason.TCP_UNREACHABLE),
            (errno.ETIMEDOUT, Reason.TCP_TIMEOUT),
            (errno.ECONNREFUSED, Reason.TCP_REFUSED),
            (errno.ECONNRESET, Reason.CONNECTION_RESET),
            (errno.EPIPE, Reason.CONNECTION_RESET),
        ],
    )
    def test_what_the_operating_system_says(self, number: int, reason: Reason, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the wraps of urllib3 and requests."""

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)

        assert _post(9).reason is reason

    def test_no_answer_to_the_attempt_to_connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def wait(*_: Any, **__: Any) -> None:
            raise TimeoutError("timed out")

        monkeypatch.setattr("urllib3.util.connection.create_connection", wait)

        assert _post(9) == Missing(Reason.TCP_TIMEOUT, "no answer to the attempt to connect")

    def test_time_outs_of_bare_sockets(self) -> None:
        assert missing_of(TimeoutError("timed out")).reason is Reason.DEADLINE
        assert missing_of(OSError(errno.ETIMEDOUT, "Connection timed out")).reason is Reason.TCP_TIMEOUT


class TestTls:
    def test_a_certificate_that_nobody_vouches_for(self, tmp_path: Path) -> None:
        stranger = tmp_path / "stranger.pem"
        trustme.CA().cert_pem.write_to_path(stranger)
        with tls_server(trustme.CA().issue_cert("127.0.0.1")) as port:
            missing = _post(port, "https", verify=str(stranger))

        assert missing.reason is Reason.TLS
        assert "unable to get local issuer certificate" in missing.detail

    def test_a_certificate_for_another_name(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        with tls_server(authority.issue_cert("other.contoso.test")) as port:
            missing = _post(port, "https", verify=str(tmp_path / "ca.pem"))

        assert missing.reason is Reason.TLS
        assert "127.0.0.1" in missing.detail

    def test_a_certificate_for_another_than_the_asserted_name(self, tmp_path: Path) -> None:
        """Which urllib3 compares by itself."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        with requests.Session() as session, tls_server(authority.issue_cert("127.0.0.1")) as port:
            session.trust_env = False
            session.mount("https://", _Asserting())
            url = f"https://127.0.0.1:{port}/wsman"
            missing = missing_of(_failure(lambda: session.get(url, verify=str(tmp_path / "ca.pem"), timeout=5)))

        assert missing.reason is Reason.TLS
        assert "ex01.contoso.test" in missing.detail

    def test_no_tls_at_all(self) -> None:
        with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            missing = _post(port, "https")

        assert missing.reason is Reason.TLS
        assert "wrong version number" in missing.detail.lower().replace("_", " ")

    def test_closed_in_the_handshake(self) -> None:
        with answering(b"") as port:
            assert _post(port, "https").reason in {Reason.TLS, Reason.CONNECTION_RESET}

    @pytest.mark.parametrize("what", ["verify", "cert"])
    def test_files_of_ours_that_are_not_there(self, what: str, tmp_path: Path) -> None:
        missing = _post(9, "https", **{what: str(tmp_path / "none.pem")})

        assert missing.reason is Reason.FILE_UNREADABLE
        assert "none.pem" in missing.detail

    @pytest.mark.parametrize("what", ["verify", "cert"])
    def test_files_of_ours_that_hold_something_else(self, what: str, tmp_path: Path) -> None:
        (tmp_path / "rubbish.pem").write_text("rubbish")
        with tls_server(trustme.CA().issue_cert("127.0.0.1")) as port:
            missing = _post(port, "https", **{what: str(tmp_path / "rubbish.pem")})

        assert missing.reason is Reason.FILE_UNREADABLE

    def test_a_key_with_a_password(self, tmp_path: Path) -> None:
        """urllib3 looks before ssl would ask a terminal for it."""
        certificate = trustme.CA().issue_cert("one")
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "one.pem"))
        (tmp_path / "key.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        with tls_server(trustme.CA().issue_cert("127.0.0.1")) as port:
            missing = _post(port, "https", cert=(str(tmp_path / "one.pem"), str(tmp_path / "key.pem")))

        assert missing.reason is Reason.FILE_UNREADABLE
        assert "encrypted" in missing.detail

    def test_a_key_of_another_certificate(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        authority.issue_cert("one").cert_chain_pems[0].write_to_path(str(tmp_path / "one.pem"))
        authority.issue_cert("key").private_key_pem.write_to_path(tmp_path / "key.pem")
        with tls_server(authority.issue_cert("127.0.0.1")) as port:
            missing = _post(port, "https", cert=(str(tmp_path / "one.pem"), str(tmp_path / "key.pem")))

        assert missing.reason is Reason.FILE_UNREADABLE


ENVELOPE = (
    '<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
    'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header>'
    "<a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/fault</a:Action></s:Header><s:Body><s:Fault><s:Code>"
    "<s:Value>s:{code}</s:Value><s:Subcode><s:Value>w:{subcode}</s:Value></s:Subcode></s:Code>"
    '<s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>{detail}</s:Detail></s:Fault></s:Body>'
    "</s:Envelope>"
)
WSMAN_DETAIL = (
    '<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{}" Machine="ex01">'
    "<f:Message>words</f:Message></f:WSManFault>"
)
WMI_DETAIL = (
    '<p:MSFT_WmiError xmlns:p="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError">'
    "<p:CIMStatusCode>27</p:CIMStatusCode><p:error_Code>{}</p:error_Code></p:MSFT_WmiError>"
)


def _fault(detail: str = "", *, subcode: str = "InternalError", text: str = "Words of Windows. ") -> str:
    return ENVELOPE.format(code="Receiver", subcode=subcode, text=text, detail=detail)


def _answered(body: str, status: int = 500) -> Missing:
    """What pywinrm makes of an answer, and we of that."""
    protocol = Protocol("http://ex01:5985/wsman", username="svc", password=PASSWORD)

    def answer(_: str) -> bytes:
        if status >= 400:
            raise WinRMTransportError("http", status, body)
        return body.encode()

    protocol.transport.send_message = answer  # type: ignore[assignment,method-assign]
    return missing_of(_failure(protocol.open_shell))


QUOTAS = [
    2150858815, 2150859173, 2150859174, 2150859175, 2150859176, 2150859179, 2150859236, 2150859237, 2150859238,
    2150859239, 2150859240, 2150859241, 2150859242,
]  # fmt: skip


class TestFaults:
    @pytest.mark.parametrize("code", QUOTAS)
    @pytest.mark.parametrize("detail", [WSMAN_DETAIL, WMI_DETAIL], ids=["WSManFault", "MSFT_WmiError"])
    def test_quotas(self, code: int, detail: str) -> None:
        missing = _answered(_fault(detail.format(code)))

        assert missing == Missing(Reason.QUOTA, f"WSManFault {code}: Words of Windows.")

    @pytest.mark.parametrize("code", [5, 2147942405, 2150859180])
    def test_no_right(self, code: int) -> None:
        missing = _answered(_fault(WSMAN_DETAIL.format(code), text="Access is denied."))

        assert missing == Missing(Reason.ACCESS_DENIED, f"WSManFault {code}: Access is denied.")

    @pytest.mark.parametrize(
        ("subcode", "reason"),
        [
            ("QuotaLimit", Reason.QUOTA),
            ("AccessDenied", Reason.ACCESS_DENIED),
            ("InvalidSelectors", Reason.WSMAN_FAULT),
        ],
    )
    def test_without_a_code(self, subcode: str, reason: Reason) -> None:
        assert _answered(_fault(subcode=subcode)) == Missing(reason, f"WSManFault {subcode}: Words of Windows.")

    @pytest.mark.parametrize("code", [2150858843, 2150858817, 995, 14])
    def test_any_other(self, code: int) -> None:
        missing = _answered(_fault(WSMAN_DETAIL.format(code)))

        assert missing == Missing(Reason.WSMAN_FAULT, f"WSManFault {code}: Words of Windows.")

    def test_an_operation_that_took_too_long(self) -> None:
        missing = _answered(_fault(WSMAN_DETAIL.format(2150858793), subcode="TimedOut"))

        assert missing.reason is Reason.DEADLINE
        assert missing == missing_of(WinRMOperationTimeoutError())

    def test_words_are_cut_and_printable(self) -> None:
        """A host says what it likes."""
        missing = _answered(_fault(WSMAN_DETAIL.format(995), text="\u202eevil \x85\u009b31m" + "word " * 10_000))

        assert missing.reason is Reason.WSMAN_FAULT
        assert missing.detail.isprintable()
        assert len(missing.detail) <= 300

    @pytest.mark.parametrize(
        ("status", "body", "reason"),
        [
            (403, "", Reason.ACCESS_DENIED),
            (404, "<h2>Not Found</h2>", Reason.NOT_WINRM),
            (503, "<h2>Service Unavailable</h2>", Reason.NOT_WINRM),
            (400, "", Reason.NOT_WINRM),
            (500, "<html><body>Tomcat", Reason.NOT_WINRM),
            (500, "<html/>", Reason.NOT_WINRM),
            (500, _fault(WSMAN_DETAIL.format("nonsense")), Reason.NOT_WINRM),
            (500, "", Reason.WSMAN_FAULT),
            (200, "", Reason.NOT_WINRM),
            (200, "<html><body>welcome", Reason.NOT_WINRM),
            (200, "<x/>", Reason.NOT_WINRM),
        ],
    )
    def test_answers_without_a_fault(self, status: int, body: str, reason: Reason) -> None:
        missing = _answered(body, status)

        assert missing.reason is reason
        assert missing.detail
        assert body[:20] not in missing.detail or not body


class TestLogon:
    def test_refused_by_a_host(self) -> None:
        """As pywinrm says it, which our transport is before."""
        with answering(_http("401 Unauthorized", b"", 'WWW-Authenticate: Basic realm="WSMAN"')) as port:
            missing = _transport(port)

        assert missing == Missing(Reason.AUTH_REJECTED, "HTTP 401, the host refused the credentials")

    @pytest.mark.parametrize(
        ("over_tls", "bindings", "reason"),
        [
            (False, False, Reason.AUTH_REJECTED),
            (False, True, Reason.AUTH_REJECTED),
            (True, True, Reason.AUTH_REJECTED),
            (True, False, Reason.AUTH_CBT),
        ],
    )
    def test_refused(self, over_tls: bool, bindings: bool, reason: Reason) -> None:  # noqa: FBT001 - parameters
        missing = missing_of(RefusedError("Negotiate, Kerberos", over_tls=over_tls, bindings=bindings))

        assert missing.reason is reason
        assert missing.detail.endswith("it offers Negotiate, Kerberos")
        assert ("channel bindings" in missing.detail) is (reason is Reason.AUTH_CBT)

    @pytest.mark.parametrize(
        ("offered", "names"),
        [
            (f'Negotiate {CHALLENGE}, Basic realm="Basic, Digest, x", CredSSP', "Negotiate, Basic, CredSSP"),
            ("negotiate,KERBEROS", "Negotiate, Kerberos"),
            ("Bearer abc", "nothing known"),
            ("", "nothing known"),
        ],
    )
    def test_not_offered(self, offered: str, names: str) -> None:
        """Names of methods are kept of the header, and no token."""
        missing = missing_of(NotOfferedError(offered))

        assert missing.reason is Reason.AUTH_UNAVAILABLE
        assert missing.detail.endswith(f"; it offers {names}")
        assert CHALLENGE not in missing.detail

    def test_no_challenge_to_ntlm(self) -> None:
        """As requests-ntlm says it."""
        with answering(*[_http("401 Unauthorized", b"", "WWW-Authenticate: Negotiate")] * 2) as port:
            missing = _transport(port, "ntlm")

        assert missing == Missing(Reason.AUTH_UNAVAILABLE, "the host sent no NTLM challenge")

    def test_a_challenge_that_is_none(self) -> None:
        first = _http("401 Unauthorized", b"", "WWW-Authenticate: Negotiate")
        second = _http("401 Unauthorized", b"", "WWW-Authenticate: Negotiate bm9uc2Vuc2U=")
        with answering(first, second) as port:
            missing = _transport(port, "ntlm")

        assert missing == Missing(Reason.NOT_WINRM, "an answer that is none of WinRM's (struct.error)")

    def test_a_password_that_the_method_cannot_carry(self) -> None:
        """The exception holds the password."""
        error = _failure(lambda: requests.get("http://127.0.0.1:9/", auth=("svc", PASSWORD), timeout=1))

        assert isinstance(error, UnicodeEncodeError)
        assert error.object == PASSWORD
        assert missing_of(error) == Missing(
            Reason.AUTH_UNAVAILABLE, "a name or password that this authentication cannot carry (UnicodeEncodeError)"
        )

    @pytest.mark.parametrize("name", ["KerberosExchangeError", "MutualAuthenticationError"])
    def test_kerberos(self, name: str) -> None:
        """Its package is there with the extra only: these have the names and the bases of its exceptions."""
        kind = type(name, (requests.RequestException,), {"__module__": "winrm.vendor.requests_kerberos.exceptions"})

        missing = missing_of(kind("authGSSClientInit() failed: ('No Kerberos credentials available', 39756033)"))

        assert missing.reason is Reason.AUTH_UNAVAILABLE
        assert "No Kerberos credentials available" in missing.detail

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (InvalidTokenError(context_msg="rubbish"), Reason.AUTH_UNAVAILABLE),
            (BadMICError(), Reason.NOT_WINRM),
            (NotImplementedError("WinRM encryption is not available"), Reason.AUTH_UNAVAILABLE),
            (WinRMError("requested auth method is kerberos, but pykerberos is not installed"), Reason.AUTH_UNAVAILABLE),
            (WinRMError("Encrypted length …, message has been tampered with"), Reason.NOT_WINRM),
        ],
    )
    def test_other_words_of_the_libraries(self, error: Exception, reason: Reason) -> None:
        assert missing_of(error).reason is reason

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"auth_method": "ntlm"}, Reason.AUTH_UNAVAILABLE),
            ({"auth_method": "ntlm", "username": "svc"}, Reason.AUTH_UNAVAILABLE),
            ({"auth_method": "certificate"}, Reason.AUTH_UNAVAILABLE),
            ({"auth_method": "certificate", "cert_pem": "/none", "cert_key_pem": "/none"}, Reason.FILE_UNREADABLE),
        ],
    )
    def test_what_pywinrm_misses_is_no_refusal(self, options: dict[str, Any], reason: Reason) -> None:
        """It raises the same exception, but no host was asked."""
        assert missing_of(_failure(lambda: Transport("http://ex01:5985/wsman", **options))).reason is reason


class TestOurs:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (NotWinRmError("HTTP 302, to http://evil.test/\x1b[2J"), Reason.NOT_WINRM),
            (TooLargeError("more than 8 bytes\n"), Reason.OUTPUT_TOO_LARGE),
            (PlaintextError("a message was about to leave"), Reason.AUTH_UNAVAILABLE),
        ],
    )
    def test_our_own(self, error: WinRmFailure, reason: Reason) -> None:
        missing = missing_of(error)

        assert missing == error.missing
        assert missing.reason is reason
        assert missing.detail.startswith(str(error)[:15])
        assert missing.detail.isprintable()

    def test_ours_in_the_wrap_of_another(self) -> None:
        """It says more than what was made of it."""
        wrap = requests.ConnectionError(TooLargeError("one answer of more than 2 bytes"))

        assert missing_of(wrap).reason is Reason.OUTPUT_TOO_LARGE

    def test_what_came_before_does_not_hide_what_came_after(self) -> None:
        """An error while another is handled has the other as its context."""
        after = NotWinRmError("it leads elsewhere")
        after.__context__ = ConnectionResetError(errno.ECONNRESET, "reset")

        assert missing_of(after).reason is Reason.NOT_WINRM

    def test_what_was_hidden_on_purpose_does_not_count(self) -> None:
        error = RuntimeError()
        error.__context__, error.__suppress_context__ = ConnectionResetError(), True

        assert missing_of(error).reason is Reason.WORKER_DIED

    @pytest.mark.parametrize(
        ("error", "name"),
        [
            (KeyError("CommandId"), "KeyError"),
            (StopIteration(), "StopIteration"),
            (AssertionError(), "AssertionError"),
            (ValueError(PASSWORD), "ValueError"),
            (TypeError(), "TypeError"),
            (struct.error("x"), "struct.error"),
        ],
    )
    def test_what_pywinrm_stumbles_over(self, error: Exception, name: str) -> None:
        missing = missing_of(error)

        assert missing == Missing(Reason.NOT_WINRM, f"an answer that is none of WinRM's ({name})")

    def test_no_memory(self) -> None:
        assert missing_of(MemoryError()).reason is Reason.OUTPUT_TOO_LARGE

    def test_what_nobody_thought_of(self) -> None:
        """Only its name is told: it might hold anything."""
        assert missing_of(RuntimeError(PASSWORD)) == Missing(Reason.WORKER_DIED, "an unexpected RuntimeError")

    def test_a_circle_of_exceptions_ends(self) -> None:
        one, other = RuntimeError(), RuntimeError()
        one.__cause__, other.__cause__ = other, one

        assert missing_of(one).reason is Reason.WORKER_DIED


EXAMPLES: list[tuple[Reason, BaseException]] = [
    (Reason.DNS, socket.gaierror(-2, "no")),
    (Reason.TCP_REFUSED, ConnectionRefusedError()),
    (Reason.TCP_TIMEOUT, requests.ConnectTimeout()),
    (Reason.TCP_UNREACHABLE, OSError(errno.ENETUNREACH, "no")),
    (Reason.CONNECTION_CLOSED, requests.ConnectionError()),
    (Reason.CONNECTION_RESET, ConnectionResetError()),
    (Reason.TLS, ssl.SSLError(1, "no")),
    (Reason.NOT_WINRM, NotWinRmError("no")),
    (Reason.AUTH_REJECTED, RefusedError("", over_tls=False, bindings=True)),
    (Reason.AUTH_UNAVAILABLE, NotOfferedError("")),
    (Reason.AUTH_CBT, RefusedError("", over_tls=True, bindings=False)),
    (Reason.ACCESS_DENIED, WinRMTransportError("http", 403, "")),
    (Reason.QUOTA, WSManFaultError(500, "", "", "no", wsman_fault_code=2150859173)),
    (Reason.WSMAN_FAULT, WinRMTransportError("http", 500, "")),
    (Reason.DEADLINE, WinRMOperationTimeoutError()),
    (Reason.OUTPUT_TOO_LARGE, MemoryError()),
    (Reason.FILE_UNREADABLE, FileNotFoundError(2, "no", "ca.pem")),
    (Reason.WORKER_DIED, RuntimeError()),
]


class TestReasons:
    @pytest.mark.parametrize(("reason", "error"), EXAMPLES)
    def test_each_has_an_exception(self, reason: Reason, error: BaseException) -> None:
        assert missing_of(error).reason is reason

    def test_there_are_no_others(self) -> None:
        assert {reason for reason, _ in EXAMPLES} == REASONS

    @pytest.mark.parametrize(
        "kind",
        [
            NotWinRmError, TooLargeError, PlaintextError, NotOfferedError, WinRMError, ssl.SSLError, socket.gaierror,
            requests.ConnectionError, requests.exceptions.InvalidURL, OSError, ValueError, KeyError, RuntimeError,
        ],
    )  # fmt: skip
    def test_details_are_short_and_printable(self, kind: type[Exception]) -> None:
        detail = missing_of(kind("\x1b[31m\u202e\r\n\0" * 10_000)).detail

        assert detail.isprintable()
        assert 0 < len(detail) <= 300
