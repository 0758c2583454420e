"""The simulated Windows host on the wire: HTTP as it is, broken requests, and answers that no host should give."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests.exceptions
from winrm.exceptions import WinRMTransportError
from winrm.protocol import Protocol

from exporter.demo.winrm import (
    Account,
    Asked,
    Close,
    CloseAfter,
    Closed,
    Cut,
    Delay,
    Listening,
    Logon,
    Opened,
    Reply,
    Seen,
    Silence,
    SimulatedHosts,
    Trickle,
    WindowsHost,
)
from exporter.demo.winrm.ntlm import read_authenticate

READER = Account("CONTOSO", "svc-tlsread", "Sekret-7")
EMPTY = b"POST /wsman HTTP/1.1\r\nHost: exch01.contoso.test\r\nContent-Length: 0\r\n%s\r\n"


@pytest.fixture
def hosts() -> Iterator[SimulatedHosts]:
    with SimulatedHosts() as fleet:
        yield fleet


def host(**changes: Any) -> WindowsHost:
    settings: dict[str, Any] = {
        "document": lambda *_: "",
        "script_sha256": hashlib.sha256(b"").hexdigest(),
        "accounts": (READER,),
    }
    return WindowsHost(**settings | changes)


def client(listening: Listening, **changes: Any) -> Protocol:
    options: dict[str, Any] = {
        "transport": "ntlm",
        "username": READER.name,
        "password": READER.password,
        "message_encryption": "always",
        "proxy": None,
        "ca_trust_path": None,
    }
    return Protocol(listening.endpoint, **options | changes)


def exchange(listening: Listening, request: bytes) -> bytes:
    """All that comes back until the host ends the connection, or until it waits for more."""
    with socket.create_connection((listening.address, listening.port), timeout=5) as connection:
        connection.sendall(request)
        with suppress(OSError):  # the host went first
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


class TestHttp:
    def test_a_stranger_is_told_what_is_offered(self, hosts: SimulatedHosts) -> None:
        answer = exchange(hosts.start(host()), EMPTY % b"")

        assert answer == (
            b"HTTP/1.1 401 \r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: Kerberos\r\n"
            b"Server: Microsoft-HTTPAPI/2.0\r\nContent-Length: 0\r\n\r\n"
        )

    def test_two_requests_in_one_connection_are_two_answers(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host())

        assert exchange(listening, EMPTY % b"" * 2).count(b"HTTP/1.1 401") == 2
        assert len(listening.journal.of(Opened)) == 1
        assert {asked.host for asked in listening.journal.of(Asked)} == {"exch01.contoso.test"}

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /other HTTP/1.1\r\n\r\n", b"404"),
            (b"GET /wsman HTTP/1.1\r\n\r\n", b"405"),
            (b"nonsense\r\n\r\n", b"400"),
            (b"POST /wsman HTTP/1.0\r\n\r\n", b"400"),
            (b"POST /wsman HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
            (b"POST /wsman HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
            (b"POST /wsman HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"413"),
            (b"POST /wsman HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", b"413"),
            (b"POST /wsman HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
            (b"POST /wsman HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", b"400"),
            (EMPTY % b'Content-Type: multipart/encrypted;protocol="x"\r\n', b"400"),
            (EMPTY % b"Authorization: Negotiate !!!\r\n", b"401"),
            (EMPTY % b"Authorization: Negotiate AAAA\r\n", b"401"),
            (EMPTY % b"Authorization: Negotiate TlRMTVNTUAADAAAA\r\n", b"401"),
            (EMPTY % b"Authorization: Negotiate TlRMTVNTUAABAAAA\r\n", b"401"),
            (EMPTY % b"Authorization: Digest x\r\n", b"401"),
        ],
    )
    def test_what_is_no_good_request_gets_an_error(
        self, hosts: SimulatedHosts, request_bytes: bytes, status: bytes
    ) -> None:
        listening = hosts.start(host())

        try:
            answer = exchange(listening, request_bytes)
        except (ConnectionResetError, BrokenPipeError):  # the host left the rest unread
            answer = b"HTTP/1.1 " + status

        assert answer.startswith(b"HTTP/1.1 " + status)
        assert not any(logon.ok for logon in listening.journal.of(Logon))

    @pytest.mark.parametrize("body", [b"", b"not XML", b"<a/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
    def test_a_message_that_is_none_is_a_fault(self, hosts: SimulatedHosts, body: bytes) -> None:
        with pytest.raises(WinRMTransportError) as error:
            client(hosts.start(host())).transport.send_message(b"<!" + body)

        assert error.value.code == 500
        assert "WSManFault" in error.value.response_text

    def test_a_broken_token_names_nobody(self) -> None:
        assert read_authenticate(b"NTLMSSP\0\3\0\0\0").name == ""


class TestMisbehaviour:
    def test_is_asked_about_each_request_with_its_operation(self, hosts: SimulatedHosts) -> None:
        asked: list[tuple[int, int, str]] = []

        def listen(seen: Seen) -> None:
            asked.append((seen.connection, seen.number, seen.operation))

        asking = client(hosts.start(host(misbehave=listen)))
        asking.close_shell(asking.open_shell())

        assert asked == [(1, 1, ""), (1, 2, ""), (1, 3, ""), (1, 4, "Create"), (1, 5, "Delete")]

    def test_bytes_are_the_answer(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(misbehave=lambda _: b"SSH-2.0-simulation\r\n"))

        assert exchange(listening, EMPTY % b"") == b"SSH-2.0-simulation\r\n"

    def test_a_reply_may_point_elsewhere(self, hosts: SimulatedHosts) -> None:
        reply = Reply(302, b"moved", (("Location", "http://127.0.0.1:1/wsman"),))
        listening = hosts.start(host(misbehave=lambda _: reply))

        answer = exchange(listening, EMPTY % b"")

        assert answer.startswith(b"HTTP/1.1 302 ")
        assert b"Location: http://127.0.0.1:1/wsman\r\n" in answer
        assert answer.endswith(b"\r\n\r\nmoved")

    def test_a_reply_is_encrypted_if_so_asked(self, hosts: SimulatedHosts) -> None:
        def lie(seen: Seen) -> Reply | None:
            return Reply(200, b"<Lies><x Name='ShellId'>lie</x></Lies>", encrypt=True) if seen.operation else None

        assert client(hosts.start(host(misbehave=lie))).open_shell() == "lie"

    @pytest.mark.parametrize(
        "action", [Close(), Close(reset=True), Cut(-1), Cut(0), Trickle(0.0, b"HTTP/1.1 200 \r\nContent-Le", 9)]
    )
    def test_no_answer_at_an_operation(self, hosts: SimulatedHosts, action: Close | Cut | Trickle) -> None:
        def fail(seen: Seen) -> Close | Cut | Trickle | None:
            return action if seen.operation == "Delete" else None

        listening = hosts.start(host(misbehave=fail))
        asking = client(listening, read_timeout_sec=2, operation_timeout_sec=1)
        shell = asking.open_shell()

        with pytest.raises(requests.exceptions.RequestException):
            asking.close_shell(shell)

    def test_silence_keeps_the_connection(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(misbehave=lambda _: Silence()))

        with socket.create_connection((listening.address, listening.port), timeout=0.3) as connection:
            connection.sendall(EMPTY % b"")
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert listening.journal.of(Closed) == ()

    def test_a_connection_may_end_after_each_answer(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(misbehave=lambda seen: CloseAfter() if seen.operation else None))
        asking = client(listening)

        shell = asking.open_shell()
        with pytest.raises((requests.exceptions.RequestException, WinRMTransportError)):
            asking.close_shell(shell)  # in the old connection, or in a new one where nobody is authenticated

        assert listening.open_shells == 1

    @pytest.mark.parametrize("action", [Delay(0.1), Trickle(0.0), Trickle(0.01, whole=150)])
    def test_a_slow_answer_is_the_right_one(self, hosts: SimulatedHosts, action: Delay | Trickle) -> None:
        answer = exchange(hosts.start(host(misbehave=lambda _: action)), EMPTY % b"")

        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.endswith(b"\r\n\r\n")


class TestTheFleet:
    async def test_serves_asynchronous_code(self) -> None:
        async with SimulatedHosts() as hosts:
            listening = hosts.start(host())
            reader, writer = await asyncio.open_connection(listening.address, listening.port)
            writer.write(EMPTY % b"")
            assert await reader.readline() == b"HTTP/1.1 401 \r\n"
            writer.close()
            await writer.wait_closed()

    def test_closes_everything(self) -> None:
        with SimulatedHosts() as fleet:
            listening = fleet.start(host())
            connection = socket.create_connection((listening.address, listening.port), timeout=5)
            connection.sendall(EMPTY % b"")
            connection.recv(65536)
            asking = client(listening)
            asking.open_shell()
            port = listening.port

        with connection:
            assert connection.recv(1) == b""
        asking.transport.close_session()
        assert listening.open_shells == 0
        assert len(listening.journal.of(Closed)) == len(listening.journal.of(Opened)) == 2
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
        assert "simulated-hosts" not in {thread.name for thread in threading.enumerate()}

    def test_one_host_may_end_alone(self, hosts: SimulatedHosts) -> None:
        one, other = hosts.start(host()), hosts.start(host())

        hosts.stop(one)
        hosts.stop(one)

        with pytest.raises(ConnectionRefusedError):
            exchange(one, b"")
        assert exchange(other, EMPTY % b"")

    def test_listens_where_it_is_told(self, hosts: SimulatedHosts) -> None:
        one = hosts.start(host(), "127.1.2.3")
        other = hosts.start(host(), "127.1.2.4", one.port)

        assert (one.endpoint, other.port) == (f"http://127.1.2.3:{one.port}/wsman", one.port)
        with pytest.raises(OSError, match="in use"):
            hosts.start(host(), "127.1.2.3", one.port)

    def test_starts_nothing_outside_its_context(self) -> None:
        with pytest.raises(RuntimeError, match="context manager"):
            SimulatedHosts().start(host())
