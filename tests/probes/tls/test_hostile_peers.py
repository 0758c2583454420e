"""Sweeps against servers that misbehave, for real, on loopback.

Whatever a server does: the sweep ends by its time-out, opens no more connections than it may, leaves nothing behind,
and publishes nothing that is not true of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import socketserver
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trustme
from tlslite import extensions as ext
from tlslite.api import TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import CipherSuite, ExtensionType, GroupName
from tlslite.errors import BaseTLSException
from tlslite.messages import Alert, ClientHello, ServerHello, ServerHello2
from tlslite.utils.codec import Parser

from exporter.demo import TlsEndpoint
from exporter.facts import Door, EndpointSweep, Known, Protocol, Reason
from exporter.probes.tls.answer import Chose, Refused
from exporter.probes.tls.connection import ConnectError, NoTls, ask
from exporter.probes.tls.hello import PROTOCOLS_BY_WIRE_VERSION, WIRE_VERSIONS, hello_for, hello_for_any
from exporter.probes.tls.starttls import Dialogue, StartTlsError
from exporter.probes.tls.sweep import MAX_CONNECTIONS, SweepJob, sweep

NAME = "exch01.contoso.test"
SLACK = 2.0  # seconds that a busy machine may add to a deadline
S2, S3, T10, T11, T12, T13 = Protocol
ANY = (T13, T12, T11, T10)
MODERN = frozenset({T10, T11, T12, T13})
OLD = frozenset({S2, S3, T10})
TLS12 = frozenset({T12})
TRUTHS = [MODERN, OLD, TLS12, frozenset({T10, T12}), frozenset({T13}), frozenset({S2})]


# Servers


@dataclass
class Caller:
    """One connection to a server of ours, from its side.

    Attributes:
        number: 1 for the first connection to the server.
    """

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def line(self) -> bytes:
        return await self.reader.readline()

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def stall(self) -> None:
        await asyncio.sleep(60)

    async def drip(self, data: bytes, pause: float = 0.1) -> None:
        """Say something very slowly."""
        for byte in data:
            self.say(bytes([byte]))
            await asyncio.sleep(pause)

    async def flood(self, data: bytes) -> None:
        """Say something for ever, as fast as it is read."""
        data *= 1 + 20_000 // len(data)
        while True:
            self.say(data)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def hello(self) -> tuple[Protocol, ...]:
        """Read a ClientHello: the versions that it offers, highest first."""
        head = await self.reader.readexactly(2)
        if head[0] & 0x80:
            await self.reader.readexactly((head[0] & 0x7F) << 8 | head[1])
            return (S2,)
        length = await self.reader.readexactly(3)
        payload = await self.reader.readexactly(int.from_bytes(length[1:], "big"))
        message = ClientHello().parse(Parser(bytearray(payload[1:])))
        offers = message.getExtension(ExtensionType.supported_versions)
        versions = offers.versions if offers else [message.client_version]
        return tuple(PROTOCOLS_BY_WIRE_VERSION[version] for version in versions)


Script = Callable[[Caller], Awaitable[None]]


@dataclass
class Peer:
    """A server that does what its script says.

    Attributes:
        port: where it listens on 127.0.0.1.
        connections: how many it has had.
    """

    script: Script
    port: int = 0
    connections: int = 0
    server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(Caller(self.connections, reader, writer)))
        self._tasks.add(task)

    async def _serve(self, caller: Caller) -> None:
        try:
            with suppress(OSError, EOFError):
                await self.script(caller)
        finally:
            caller.writer.close()

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.wait_closed()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Peer]:
    peer = Peer(script)
    peer.server = await asyncio.start_server(peer.called, "127.0.0.1", 0, backlog=64)
    peer.port = peer.server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        await peer.stop()


def record(payload: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(payload).to_bytes(2, "big") + payload


def alert(code: int, level: int = 2) -> bytes:
    return record(bytes(Alert().create(code, level).write()), kind=21)


def server_hello(protocol: Protocol) -> bytes:
    """What a server says that chooses a version."""
    if protocol is S2:
        body = bytes(ServerHello2().create(0, 1, (0, 2), bytearray(500), [0x0700C0], bytearray(16)).write())
        return (0x8000 | len(body)).to_bytes(2, "big") + body
    return record(server_hello_message(protocol))


def server_hello_message(protocol: Protocol) -> bytes:
    version, suite, extensions = WIRE_VERSIONS[protocol], CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA, None
    if protocol is T13:
        share = ext.KeyShareEntry().create(GroupName.x25519, bytearray(32))
        key_share = ext.ServerKeyShareExtension().create(share)
        extensions = [ext.SrvSupportedVersionsExtension().create((3, 4)), key_share]
        version, suite = (3, 3), CipherSuite.TLS_AES_128_GCM_SHA256
    message = ServerHello().create(version, bytearray(32), bytearray(32), suite, extensions=extensions)
    return bytes(message.write())


@dataclass(frozen=True)
class Tls:
    """A server that accepts some versions and turns down the rest in its own way.

    Attributes:
        accepts: the versions, the truth that no sweep may contradict.
        refuse: what it says to other hellos; None to say nothing and close.
        reset: whether it resets the connection after a refusal rather than closing it.
        to: what it says to hellos that offer just this version, instead.
    """

    accepts: frozenset[Protocol]
    refuse: bytes = b""
    reset: bool = False
    to: Mapping[Protocol, bytes] = field(default_factory=dict)

    def chosen(self, offers: tuple[Protocol, ...]) -> Protocol | None:
        order = list(Protocol)
        if offers == (S2,):
            return S2 if S2 in self.accepts else None
        if T13 in offers and T13 in self.accepts:
            return T13
        highest = min(order.index(offers[0]), order.index(T12))  # what an older server sees of a TLS 1.3 hello
        known = [each for each in order[order.index(S3) : highest + 1] if each in self.accepts]
        return known[-1] if known else None

    async def __call__(self, caller: Caller) -> None:
        offers = await caller.hello()
        chosen = self.chosen(offers)
        if len(offers) == 1 and offers[0] in self.to:
            caller.say(self.to[offers[0]])
        elif chosen is not None:
            caller.say(server_hello(chosen))
            await caller.reader.read()  # until the client goes
        else:
            caller.say(self.refuse)
            if self.reset:
                caller.reset()


def always(data: bytes) -> Script:
    """A server that says the same to every hello, and waits."""

    async def script(caller: Caller) -> None:
        await caller.hello()
        caller.say(data)
        await caller.reader.read()

    return script


def at_once(data: bytes) -> Script:
    """A server that talks before it is asked, and waits."""

    async def script(caller: Caller) -> None:
        caller.say(data)
        await caller.reader.read()

    return script


async def smtp_until_tls(caller: Caller, answers: Mapping[str, bytes] | None = None) -> bool:
    """An SMTP server up to STARTTLS; the answers that are given instead of its own end the dialogue."""
    replies = {
        "greeting": b"220 mail.contoso.test ESMTP\r\n",
        "EHLO": b"250-mail.contoso.test\r\n250-SIZE\r\n250 STARTTLS\r\n",
        "STARTTLS": b"220 go ahead\r\n",
    }
    instead = answers or {}
    for step, reply in replies.items():
        if step != "greeting":
            assert (await caller.line()).startswith(step.encode())
        caller.say(instead.get(step, reply))
        if step in instead:
            return False
    return True


# Observing


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the directory's own descriptor is in both counts


@asynccontextmanager
async def nothing_left_behind() -> AsyncIterator[None]:
    """No file descriptor, task or thread more at the end than at the beginning."""
    first = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)  # with it uvloop opens a spare descriptor
    first.close()
    await first.wait_closed()
    tasks, threads, files = asyncio.all_tasks(), set(threading.enumerate()), open_files()
    yield
    left: tuple[Any, ...] = ()
    for _ in range(100):  # closing takes the loop a round or two, and a server's thread its time
        left = (asyncio.all_tasks() - tasks, set(threading.enumerate()) - threads, open_files() - files)
        if left == (set(), set(), 0):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"left behind: {left}")


def job_for(port: int, service: str = "https", timeout: float = 1.0, addresses: tuple[str, ...] = ()) -> SweepJob:
    return SweepJob(NAME, addresses or ("127.0.0.1",), port, service, timeout, "prober.contoso.test")


async def swept(job: SweepJob) -> EndpointSweep:
    """Sweep, and hold what holds for every sweep."""
    started = time.monotonic()
    found = await asyncio.wait_for(sweep(job), job.timeout + 10)
    assert time.monotonic() - started < job.timeout + SLACK
    assert found.duration < job.timeout + SLACK
    assert found.connections <= MAX_CONNECTIONS + len(job.addresses) - 1
    assert list(found.accepted) == list(Protocol)
    return found


async def sweep_of(script: Script, service: str = "https", timeout: float = 1.0) -> EndpointSweep:
    """Sweep a server with this script; nothing stays behind."""
    async with nothing_left_behind(), serving(script) as peer:
        found = await swept(job_for(peer.port, service, timeout))
    assert peer.connections == found.connections
    assert (found.door, found.address) == (Door.OPEN, "127.0.0.1")
    return found


def words(found: EndpointSweep) -> dict[Protocol, bool | Reason]:
    """The answers in short: True, False, or the reason why unknown."""
    return {each: fact.value if isinstance(fact, Known) else fact.reason for each, fact in found.accepted.items()}


def all_unknown(reason: Reason) -> dict[Protocol, bool | Reason]:
    return dict.fromkeys(Protocol, reason)


def assert_true_of(found: EndpointSweep, truth: frozenset[Protocol]) -> None:
    """Nothing that is published contradicts the truth."""
    for protocol, word in words(found).items():
        if word is True or word is False:
            assert word is (protocol in truth), (protocol, words(found))


# The fake server itself, behaving well: without this the rest would prove little


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("refuse", [b"", alert(40), alert(70)])
@pytest.mark.parametrize("truth", TRUTHS)
async def test_a_well_behaved_server_is_seen_as_it_is(
    truth: frozenset[Protocol], refuse: bytes, *, reset: bool
) -> None:
    """Whatever its way of refusing; a version out of reach of the sandwich may stay unknown."""
    found = await sweep_of(Tls(truth, refuse, reset))
    assert_true_of(found, truth)
    assert {each for each, word in words(found).items() if word is True} == truth
    if truth & MODERN:
        assert {each for each, word in words(found).items() if word is False} == set(Protocol) - truth


# Silence


async def test_silence_after_connect() -> None:
    found = await sweep_of(Caller.stall)
    assert set(words(found).values()) <= {Reason.TLS_TIMEOUT, Reason.DEADLINE}
    assert words(found)[T10] is Reason.TLS_TIMEOUT
    assert found.failure is not None


async def test_silence_after_the_hello() -> None:
    found = await sweep_of(always(b""))
    assert set(words(found).values()) == {Reason.TLS_TIMEOUT, Reason.DEADLINE}


@pytest.mark.parametrize("data", [server_hello(T12) * 2, alert(112, level=1) * 20, b"\x16\x03\x01\x40\x00" + bytes(99)])
async def test_a_byte_now_and_then(data: bytes) -> None:
    """Every byte is news, and none of them an answer: progress buys no time."""
    found = await sweep_of(lambda caller: caller.drip(data, 0.15), timeout=1.5)
    assert set(words(found).values()) <= {Reason.TLS_TIMEOUT, Reason.DEADLINE}


@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
async def test_a_mail_server_that_says_nothing(service: str) -> None:
    found = await sweep_of(Caller.stall, service)
    assert words(found) == all_unknown(Reason.TLS_TIMEOUT)
    assert found.connections == 1


@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
async def test_a_mail_server_that_talks_very_slowly(service: str) -> None:
    banner = {"smtp": b"220-", "imap": b"* OK ", "pop3": b"+OK "}[service] + b"x" * 200
    found = await sweep_of(lambda caller: caller.drip(banner), service)
    assert words(found) == all_unknown(Reason.TLS_TIMEOUT)


@pytest.mark.parametrize(
    ("service", "banner"), [("smtp", b"220 hi\r\n"), ("imap", b"* OK hi\r\n"), ("pop3", b"+OK hi\r\n")]
)
async def test_a_banner_and_then_silence(service: str, banner: bytes) -> None:
    assert words(await sweep_of(at_once(banner), service)) == all_unknown(Reason.TLS_TIMEOUT)


async def test_silence_after_starttls_was_agreed() -> None:
    async def script(caller: Caller) -> None:
        await smtp_until_tls(caller)
        await caller.stall()

    found = await sweep_of(script, "smtp")
    assert set(words(found).values()) == {Reason.TLS_TIMEOUT, Reason.DEADLINE}


async def test_one_version_that_stalls_costs_only_itself() -> None:
    """Servers of some ages hang on hellos that they do not like."""

    async def script(caller: Caller) -> None:
        offers = await caller.hello()
        if offers == (T11,):
            await caller.stall()
        chosen = Tls(MODERN).chosen(offers)
        if chosen:
            caller.say(server_hello(chosen))
            await caller.reader.read()

    found = await sweep_of(script, timeout=2.0)
    assert words(found) == {S2: False, S3: False, T10: True, T11: Reason.TLS_TIMEOUT, T12: True, T13: True}


# Closing and resetting


async def nothing(_: Caller) -> None:
    """Close at once."""


async def reset(caller: Caller) -> None:
    caller.reset()


async def reset_after_the_hello(caller: Caller) -> None:
    await caller.hello()
    caller.reset()


@pytest.mark.parametrize("script", [nothing, reset, reset_after_the_hello])
async def test_closing_or_resetting_always_is_all_rejected(script: Script) -> None:
    assert words(await sweep_of(script)) == all_unknown(Reason.ALL_REJECTED)


@pytest.mark.parametrize(("script", "reason"), [(nothing, Reason.CONNECTION_CLOSED), (reset, Reason.CONNECTION_RESET)])
@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
async def test_a_mail_server_that_hangs_up(service: str, script: Script, reason: Reason) -> None:
    found = await sweep_of(script, service)
    assert words(found) == all_unknown(reason)
    assert found.connections == 1


@contextmanager
def resetting(data: bytes = b"") -> Iterator[int]:
    """A server in a thread that says something and resets every connection before anybody can look; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.sendall(data)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()


async def test_a_reset_that_comes_before_the_loop_looks_is_a_reset() -> None:
    """The connection was there: the port is open, however late the loop notices that."""
    loop = asyncio.get_running_loop()
    async with nothing_left_behind():
        with resetting() as port:
            asking = asyncio.create_task(ask("127.0.0.1", port, hello_for_any(NAME), None, loop.time() + 5))
            await asyncio.sleep(0)  # the task connects
            time.sleep(0.3)  # noqa: ASYNC251 - a loop busy with something else is what is tested
            answer = await asking
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.CONNECTION_RESET


async def test_an_alert_and_a_reset_at_once_is_an_alert() -> None:
    async def script(caller: Caller) -> None:
        await caller.hello()
        caller.say(alert(70))
        caller.reset()

    found = await sweep_of(Tls(TLS12, alert(70), reset=True))
    assert words(found) == {**dict.fromkeys(Protocol, False), T12: True}
    assert words(await sweep_of(script)) == all_unknown(Reason.ALL_REJECTED)


async def test_an_answer_and_a_reset_at_once_is_an_answer() -> None:
    async def script(caller: Caller) -> None:
        chosen = Tls(MODERN).chosen(await caller.hello())
        if chosen:
            caller.say(server_hello(chosen))
        caller.reset()

    assert words(await sweep_of(script)) == {**dict.fromkeys(MODERN, True), S2: False, S3: False}


# Servers that change their mind after some connections


def limited(truth: frozenset[Protocol], good: int, then: Script) -> Script:
    """A server that is itself for some connections only."""

    async def script(caller: Caller) -> None:
        await (Tls(truth) if caller.number <= good else then)(caller)

    return script


LATER: dict[str, Script] = {
    "close": nothing,
    "reset": reset,
    "alert 40": always(alert(40)),
    "alert 80": always(alert(80)),
    "garbage": always(b"too many connections\r\n"),
    "stall": Caller.stall,
}


@pytest.mark.parametrize("later", LATER)
async def test_a_server_that_tires_is_never_said_to_reject_what_it_accepts(later: str) -> None:
    """After 0 to 8 connections, whatever it does then, for servers of several ages."""
    cases = [(truth, good) for truth in TRUTHS for good in range(9)]
    found = await asyncio.gather(*(sweep_beside(limited(truth, good, LATER[later])) for truth, good in cases))
    for (truth, good), each in zip(cases, found, strict=True):
        assert_true_of(each, truth)
        if good == 0:
            assert not any(word is True or word is False for word in words(each).values())
        if good and T13 in truth:
            assert words(each)[T13] is True


async def sweep_beside(script: Script, service: str = "https", timeout: float = 1.0) -> EndpointSweep:
    """Like `sweep_of`, for many at once: counts nothing that they share."""
    async with serving(script) as peer:
        return await swept(job_for(peer.port, service, timeout))


class Intolerant(Tls):
    """A server that chokes on hellos that offer more than it knows, instead of answering with less."""

    def chosen(self, offers: tuple[Protocol, ...]) -> Protocol | None:
        return offers[0] if offers[0] in self.accepts else None


@pytest.mark.parametrize("good", range(9))
async def test_what_was_accepted_before_a_server_tired_stays_accepted(good: int) -> None:
    """An old server refuses the opening hello, shows what it knows, and closes from some connection on."""

    async def script(caller: Caller) -> None:
        await (Intolerant(OLD) if caller.number <= good else nothing)(caller)

    found = await sweep_of(script)
    assert_true_of(found, OLD)
    shown_by = {T10: 2, S3: 3, S2: 7}  # the number of the connection
    accepted = {protocol for protocol, number in shown_by.items() if number <= good}
    assert {each for each, word in words(found).items() if word is True} == accepted


async def test_a_port_that_shuts_in_the_middle() -> None:
    """What was seen stands; the rest is unknown, and the door was open."""
    peers: list[Peer] = []

    async def script(caller: Caller) -> None:
        if caller.number == 3:
            assert peers[0].server is not None
            peers[0].server.close()
        await Tls(MODERN)(caller)

    async with nothing_left_behind(), serving(script) as peer:
        peers.append(peer)
        found = await swept(job_for(peer.port))
    assert words(found) == {T13: True, T12: True, T11: True, **dict.fromkeys([T10, S3, S2], Reason.TCP_REFUSED)}
    assert found.door is Door.OPEN


# Something else than TLS


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(always(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), id="http"),
        pytest.param(at_once(b"220 mail.contoso.test ESMTP\r\n"), id="smtp"),
        pytest.param(at_once(b"SSH-2.0-OpenSSH_9.9\r\n"), id="ssh"),
        pytest.param(always(bytes(range(32, 256))), id="garbage"),
        pytest.param(always(bytes(1000)), id="zeros"),
        pytest.param(always(b"\xff" * 1000), id="ones"),
        pytest.param(always(b"\x16\x03\x01\xff\xff" + bytes(70000)), id="oversized record"),
        pytest.param(always(b"\x16\x03\x01\x40\x01"), id="record too large by one"),
        pytest.param(always(record(b"\x02\xff\xff\xff")), id="oversized message"),
        pytest.param(always(record(b"\x01\x00\x00\x00")), id="a hello for a hello"),
        pytest.param(always(record(bytes(100), kind=23)), id="application data"),
        pytest.param(lambda caller: caller.flood(record(b"")), id="empty records for ever"),
        pytest.param(lambda caller: caller.flood(alert(112, level=1)), id="warnings for ever"),
        pytest.param(lambda caller: caller.flood(record(bytes(4))), id="hello requests for ever"),
    ],
)
@pytest.mark.parametrize("service", ["https", "tls"])
async def test_what_is_not_tls_is_found_out_with_one_connection(script: Script, service: str) -> None:
    found = await sweep_of(script, service, timeout=5.0)
    assert words(found) == all_unknown(Reason.NOT_TLS)
    assert found.connections == 1
    assert found.duration < 4


async def echo(caller: Caller) -> None:
    while data := await caller.reader.read(4096):
        caller.say(data)


async def test_an_echo_server_is_not_tls() -> None:
    assert words(await sweep_of(echo)) == all_unknown(Reason.NOT_TLS)


@pytest.mark.parametrize(
    ("banner", "reason"),
    [
        (b"554 \xff\xfe go away\r\n", Reason.STARTTLS_REFUSED),
        (b"220 \xff\xfe\xc3\x28\r\n", Reason.TLS_TIMEOUT),  # a greeting all the same, and silence after it
        (b"\xff\xfe2\x002\x000\x00\r\x00\n\x00", Reason.NOT_TLS),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Reason.NOT_TLS),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Reason.NOT_TLS),
        (b"421 4.3.2 too many\r\n", Reason.RATE_LIMITED),
    ],
)
async def test_banners_on_an_smtp_port(banner: bytes, reason: Reason) -> None:
    found = await sweep_of(at_once(banner), "smtp")
    assert words(found) == all_unknown(reason)
    assert found.connections == 1


@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
@pytest.mark.parametrize("data", [b"220-more\r\n* OK\r\n", b"2" * 1000, b"220-more\r\n", b"* OK\r\n", b"\x00\xff"])
async def test_an_endless_banner_ends(service: str, data: bytes) -> None:
    found = await sweep_of(lambda caller: caller.flood(data), service, timeout=5.0)
    assert set(words(found).values()) <= {Reason.NOT_TLS, Reason.STARTTLS_REFUSED}
    assert found.duration < 4


@pytest.mark.parametrize("service", ["smtp", "imap", "pop3"])
async def test_tls_where_a_mail_dialogue_is_expected(service: str) -> None:
    """The server waits for a hello, the prober for a greeting."""
    found = await sweep_of(Tls(MODERN), service)
    assert words(found) == all_unknown(Reason.TLS_TIMEOUT)


# Mail servers that will not begin TLS


STEPS = ["greeting", "EHLO", "STARTTLS"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("code", "reason"),
    [(b"421", Reason.RATE_LIMITED), (b"454", Reason.STARTTLS_REFUSED), (b"554", Reason.STARTTLS_REFUSED)],
)
async def test_smtp_says_no_and_gets_a_quit(step: str, code: bytes, reason: Reason) -> None:
    farewells = []

    async def script(caller: Caller) -> None:
        await smtp_until_tls(caller, {step: code + b" no\r\n"})
        farewells.append(await caller.line())

    async with serving(script) as peer:
        found = await swept(job_for(peer.port, "smtp"))
        async with asyncio.timeout(5):  # the peer reads it after we have hung up
            while not farewells:
                await asyncio.sleep(0.01)

    assert words(found) == all_unknown(reason)
    assert farewells == [b"QUIT\r\n"]


@pytest.mark.parametrize("good", range(1, 8))
@pytest.mark.parametrize(("code", "reason"), [(b"421", Reason.RATE_LIMITED), (b"454", Reason.STARTTLS_REFUSED)])
async def test_smtp_says_no_after_some_connections(good: int, code: bytes, reason: Reason) -> None:
    """What was accepted stands, what was refused lacks its proof, and the rest has the reason."""

    async def script(caller: Caller) -> None:
        instead = {} if caller.number <= good else {"greeting": code + b" no\r\n"}
        if await smtp_until_tls(caller, instead):
            await Tls(MODERN)(caller)

    found = await sweep_of(script, "smtp")
    assert_true_of(found, MODERN)
    assert words(found)[T13] is True
    order = [T13, T12, T11, T10, S3, S2]
    assert [words(found)[protocol] for protocol in order[good:]] == [reason] * len(order[good:])
    assert found.connections == min(good + 1, 7)


async def test_text_after_the_go_ahead_is_refused() -> None:
    async def script(caller: Caller) -> None:
        await smtp_until_tls(caller, {"STARTTLS": b"220 go ahead\r\n250 injected\r\n"})
        await Tls(MODERN)(caller)

    assert words(await sweep_of(script, "smtp")) == all_unknown(Reason.NOT_TLS)


async def test_a_good_server_behind_starttls() -> None:
    async def script(caller: Caller) -> None:
        if await smtp_until_tls(caller):
            await Tls(TLS12)(caller)

    assert words(await sweep_of(script, "smtp")) == {**dict.fromkeys(Protocol, False), T12: True}


# Alerts


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (40, Reason.ALL_REJECTED),
        (70, Reason.ALL_REJECTED),
        (80, Reason.ALL_REJECTED),
        (112, Reason.TLS_ALERT),
        (0, Reason.ALL_REJECTED),
    ],
)
async def test_an_alert_to_everything(code: int, reason: Reason) -> None:
    assert words(await sweep_of(always(alert(code)))) == all_unknown(reason)


@pytest.mark.parametrize("protocol", [S2, S3, T10, T11, T12])
@pytest.mark.parametrize("code", [40, 70, 80, 112, 0])
async def test_an_alert_to_one_version(protocol: Protocol, code: int) -> None:
    """Beside acceptances a refusal counts; an alert about something else leaves the version open."""
    found = await sweep_of(Tls(MODERN, to={protocol: alert(code)}))
    expected: dict[Protocol, bool | Reason] = {each: each in MODERN for each in Protocol}
    expected[protocol] = Reason.TLS_ALERT if code == 112 else False
    assert words(found) == expected


async def test_a_version_chosen_at_first_and_refused_by_name_later_is_contradictory() -> None:
    found = await sweep_of(Tls(MODERN, to={T13: alert(70)}))
    assert words(found)[T13] is Reason.CONTRADICTORY


async def test_a_warning_before_every_answer() -> None:
    class Warning112(Tls):
        async def __call__(self, caller: Caller) -> None:
            caller.say(alert(112, level=1))
            await super().__call__(caller)

    assert words(await sweep_of(Warning112(MODERN))) == {**dict.fromkeys(MODERN, True), S2: False, S3: False}


# Strange answers


async def test_an_answer_in_a_version_that_was_never_offered_decides_nothing() -> None:
    """TLS 1.2 whatever is asked for: lower than 1.3 is a refusal, higher than the others is nonsense."""
    found = await sweep_of(always(server_hello(T12)))
    assert words(found) == {T13: False, T12: True, **dict.fromkeys([T11, T10, S3, S2], Reason.WRONG_VERSION)}


async def test_ssl_2_0_whatever_is_asked_for() -> None:
    """It is SSL 2.0 only where SSL 2.0 was asked for."""
    assert words(await sweep_of(always(server_hello(S2)))) == all_unknown(Reason.NOT_TLS)


@pytest.mark.parametrize("truth", [MODERN, TLS12])
@pytest.mark.parametrize("size", [1, 4])
async def test_a_server_hello_in_many_records(truth: frozenset[Protocol], size: int) -> None:
    class Fragmenting(Tls):
        async def __call__(self, caller: Caller) -> None:
            chosen = self.chosen(await caller.hello())
            message = server_hello_message(chosen) if chosen else b""
            for at in range(0, len(message), size):
                caller.say(record(message[at : at + size]))
                await asyncio.sleep(0)
            if message:
                await caller.reader.read()

    found = await sweep_of(Fragmenting(truth), timeout=5.0)
    assert words(found) == {each: each in truth for each in Protocol}


async def test_an_answer_cut_off_is_no_rejection() -> None:
    found = await sweep_of(Tls(MODERN, to={T11: server_hello(T11)[:-1], T10: b"\x16"}))
    assert words(found)[T11] is Reason.NOT_TLS
    assert words(found)[T10] is Reason.NOT_TLS


# A client certificate is wanted


class _WantsCertificate(socketserver.BaseRequestHandler):
    server: TlsEndpoint

    def handle(self) -> None:
        self.request.settimeout(10)
        with suppress(OSError, BaseTLSException, SyntaxError, ValueError):
            connection = TLSConnection(self.request)
            connection.handshakeServer(
                certChain=self.server.chain, privateKey=self.server.key, settings=self.server.settings, reqCert=True
            )
            connection.close()


@contextmanager
def endpoint(lowest: str, highest: str) -> Iterator[TlsEndpoint]:
    """A real TLS server that wants a certificate of its clients."""
    issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
    chain = X509CertChain()
    chain.parsePemList("".join(pem.bytes().decode() for pem in issued.cert_chain_pems))
    key = parsePEMKey(issued.private_key_pem.bytes().decode(), private=True)
    with TlsEndpoint(chain, key, lowest=lowest, highest=highest) as server:
        server.RequestHandlerClass = _WantsCertificate
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


@pytest.mark.parametrize(
    ("lowest", "highest", "truth"),
    [
        ("TLS 1.0", "TLS 1.2", {T10, T11, T12}),
        ("TLS 1.2", "TLS 1.3", {T12, T13}),
        ("SSL 3.0", "TLS 1.0", {S3, T10}),
    ],
)
async def test_a_server_that_wants_a_client_certificate_shows_its_versions_before(
    lowest: str, highest: str, truth: set[Protocol]
) -> None:
    async with nothing_left_behind():
        with endpoint(lowest, highest) as server:
            found = await swept(job_for(server.server_address[1], timeout=10.0))
    assert {each for each, word in words(found).items() if word is True} == truth
    assert_true_of(found, frozenset(truth))


# No connection


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_nobody_listens(address: str) -> None:
    async with nothing_left_behind():
        found = await swept(job_for(unused_port(), addresses=(address,)))
    assert words(found) == all_unknown(Reason.TCP_REFUSED)
    assert (found.door, found.address, found.connections) == (Door.REFUSED, "", 1)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that drops what wants to connect: its queue is full, and nobody empties it."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


async def test_nobody_answers() -> None:
    async with nothing_left_behind():
        with full_backlog() as port:
            found = await swept(job_for(port))
    assert words(found) == all_unknown(Reason.TCP_TIMEOUT)
    assert (found.door, found.address, found.connections) == (Door.UNREACHABLE, "", 1)


@pytest.mark.parametrize("address", ["255.255.255.255", "fe80::1", "224.0.0.1"])
async def test_an_address_that_cannot_be_reached(address: str) -> None:
    """The system says so itself, without a packet: broadcast, multicast, link-local without a link."""
    async with nothing_left_behind():
        found = await swept(job_for(443, addresses=(address,)))
    assert words(found) == all_unknown(Reason.TCP_UNREACHABLE)
    assert (found.door, found.address) == (Door.UNREACHABLE, "")


async def test_an_address_family_that_the_system_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_v6(family: int = socket.AF_INET, *args: Any, **kwargs: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, *args, **kwargs)

    async with nothing_left_behind(), serving(Tls(TLS12)) as peer:
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socket", without_v6)
            alone = await swept(job_for(peer.port, addresses=("::1",)))
            with_v4 = await swept(job_for(peer.port, addresses=("::1", "127.0.0.1")))
    assert words(alone) == all_unknown(Reason.TCP_UNREACHABLE)
    assert words(with_v4) == {**dict.fromkeys(Protocol, False), T12: True}
    assert with_v4.address == "127.0.0.1"


async def test_the_first_address_that_connects_is_kept() -> None:
    async with nothing_left_behind(), serving(Tls(TLS12)) as peer:
        found = await swept(job_for(peer.port, addresses=("::1", "127.0.0.2", "fe80::1", "127.0.0.1", "127.0.0.3")))
    assert found.address == "127.0.0.1"
    assert found.door is Door.OPEN
    assert words(found)[T12] is True
    assert peer.connections == found.connections - 3


async def test_a_silent_address_leaves_time_for_the_next() -> None:
    with full_backlog() as port:
        async with nothing_left_behind():
            with socket.create_server(("127.0.0.2", port)):  # connects, and says nothing
                found = await swept(job_for(port, addresses=("127.0.0.1", "127.0.0.2")))
    assert found.address == "127.0.0.2"
    assert found.door is Door.OPEN


async def test_the_door_is_shut_only_when_every_address_refuses() -> None:
    """A refusal of one and silence of the other is not the same as nobody listening."""
    with full_backlog() as port:
        found = await swept(job_for(port, addresses=("127.0.0.2", "127.0.0.1", "127.0.0.3")))
    assert found.door is Door.UNREACHABLE
    assert words(found) == all_unknown(Reason.TCP_TIMEOUT)


# Faults of our own


async def test_a_fault_in_a_dialogue_comes_out_and_does_not_hang() -> None:
    """Every probe ends by its deadline, whatever happens: an exception nobody thought of included."""

    def faulty() -> Dialogue:
        yield b""
        raise ZeroDivisionError("a fault of ours")

    loop = asyncio.get_running_loop()
    async with nothing_left_behind(), serving(at_once(b"220 hi\r\n")) as peer:
        asking = ask("127.0.0.1", peer.port, hello_for(T12, NAME), faulty(), loop.time() + 1)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(asking, 5)


async def test_a_sweep_that_is_cancelled_leaves_nothing() -> None:
    async with nothing_left_behind(), serving(Caller.stall) as peer:
        task = asyncio.create_task(sweep(job_for(peer.port, timeout=30)))
        while not peer.connections:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_dialogue_ended_by_the_deadline_is_no_answer() -> None:
    def refusing() -> Dialogue:
        yield b""
        raise StartTlsError(Reason.STARTTLS_REFUSED, "no", b"QUIT\r\n" * 100_000)

    loop = asyncio.get_running_loop()
    async with nothing_left_behind(), serving(at_once(b"hi\r\n")) as peer:
        answer = await ask("127.0.0.1", peer.port, hello_for(T12, NAME), refusing(), loop.time() + 1)
    assert isinstance(answer, NoTls)  # a farewell that does not fit into the socket is not waited for
    assert answer.reason is Reason.STARTTLS_REFUSED


async def test_a_hello_larger_than_the_sockets_buffer_is_sent_whole() -> None:
    """Not that ours is; but a peer's window may be."""
    hello = hello_for(T12, NAME)
    size = 8_000_000
    heard = []

    async def script(caller: Caller) -> None:
        await asyncio.sleep(0.1)
        heard.append(len(await caller.reader.readexactly(size)))
        caller.say(server_hello(T12))
        await caller.reader.read()

    loop = asyncio.get_running_loop()
    async with nothing_left_behind(), serving(script) as peer:
        large = replace(hello, wire=hello.wire + bytes(size - len(hello.wire)))
        answer = await ask("127.0.0.1", peer.port, large, None, loop.time() + 20)
    assert answer == Chose(T12)
    assert heard == [size]


async def test_a_deadline_that_is_over_already() -> None:
    loop = asyncio.get_running_loop()
    async with nothing_left_behind():
        with full_backlog() as port, pytest.raises(ConnectError) as caught:
            await asyncio.wait_for(ask("127.0.0.1", port, hello_for(T12, NAME), None, loop.time() - 1), 5)
    assert caught.value.reason is Reason.TCP_TIMEOUT


# Side by side


async def test_hostile_endpoints_do_not_delay_a_good_one() -> None:
    hostile: list[tuple[Script, str]] = [
        (Caller.stall, "https"),
        (Caller.stall, "smtp"),
        (always(b""), "https"),
        (lambda caller: caller.drip(server_hello(T12) * 9), "https"),
        (lambda caller: caller.drip(b"220-" * 99), "smtp"),
        (at_once(b"220 hi\r\n"), "smtp"),
    ]
    timeout = 4.0
    async with nothing_left_behind(), contextlib.AsyncExitStack() as stack:
        with full_backlog() as silent:
            peers = [(await stack.enter_async_context(serving(script)), service) for script, service in hostile * 5]
            good = await stack.enter_async_context(serving(Tls(TLS12)))
            jobs = [job_for(peer.port, service, timeout) for peer, service in peers] + [
                job_for(silent, timeout=timeout)
            ]
            bad = [asyncio.create_task(swept(job)) for job in jobs]
            await asyncio.sleep(0.2)
            found = await swept(job_for(good.port, timeout=timeout))
            assert not any(task.done() for task in bad)
            ended = await asyncio.gather(*bad)
    assert words(found) == {**dict.fromkeys(Protocol, False), T12: True}
    assert found.duration < 1.5
    assert all(each.failure is not None for each in ended)


async def test_a_flood_does_not_starve_a_good_one() -> None:
    """Servers that send as fast as they can are dropped soon, and the loop is everybody's meanwhile."""
    floods: list[Script] = [lambda caller: caller.flood(alert(112, level=1))] * 20
    async with nothing_left_behind(), contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(serving(script)) for script in floods]
        good = await stack.enter_async_context(serving(Tls(TLS12)))
        bad = [asyncio.create_task(swept(job_for(peer.port, timeout=10))) for peer in peers]
        found = await swept(job_for(good.port, timeout=10))
        ended = await asyncio.gather(*bad)
    assert words(found) == {**dict.fromkeys(Protocol, False), T12: True}
    assert [words(each) for each in ended] == [all_unknown(Reason.NOT_TLS)] * len(floods)


@pytest.mark.parametrize(("to_tls13", "named"), [(b"", frozenset()), (alert(70), frozenset({T13}))])
async def test_alert_70_to_the_opening_hello_names_no_version(to_tls13: bytes, named: frozenset[Protocol]) -> None:
    """It offers four. Only the hello of one version is refused because of that version."""

    async def script(caller: Caller) -> None:
        offers = await caller.hello()
        if offers == (T12,):
            caller.say(server_hello(T12))
            await caller.reader.read()
        elif len(offers) > 1:
            caller.say(alert(70))
        elif offers == (T13,):
            caller.say(to_tls13)

    found = await sweep_of(script)

    assert words(found)[T12] is True
    assert found.named == named
