"""Second opinions and scans for real: child processes with sslyze, and servers on loopback that get in their way."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
from prometheus_client import CollectorRegistry
from refreshing import running, until
from tlslite.api import X509CertChain, parsePEMKey

from exporter import observe as observe_module
from exporter import refresh as refresh_module
from exporter.config import Config
from exporter.demo import TlsEndpoint
from exporter.exposition.prometheus import Renderer
from exporter.facts import EndpointFacts, EndpointScan, Fact, Known, Missing, Protocol, Reason
from exporter.observe import WORKER, Observer
from exporter.probes.tls.hello import hello_for, hello_for_any
from exporter.refresh import Refresh
from exporter.snapshot import Snapshot
from exporter.targets import Target, target_of
from exporter.workers import Death

from builders import config

S2, S3, T10, T11, T12, T13 = Protocol
ACCEPTED = frozenset({T10, T11, T12})
"""What the endpoint accepts."""
OLD_SUITES = frozenset({"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"})
SUITES = {
    T10: OLD_SUITES,
    T11: OLD_SUITES,
    T12: OLD_SUITES
    | {
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_RSA_WITH_AES_128_CBC_SHA256",
    },
}
"""The cipher suites that it accepts for each."""
OF_A_SWEEP = 7
"""Connections."""
SLACK = 3.0
"""Seconds beyond a time-out that starting a child and a busy machine may take."""


# Servers


@pytest.fixture(scope="module")
def endpoint() -> Iterator[TlsEndpoint]:
    """TLS 1.0 to 1.2, as the demo has it; other versions are refused with alert 70."""
    issued = trustme.CA().issue_cert("exch01.test", key_type=trustme.KeyType.RSA)
    chain = X509CertChain()
    chain.parsePemList("".join(pem.bytes().decode() for pem in issued.cert_chain_pems))
    key = parsePEMKey(issued.private_key_pem.bytes().decode(), private=True)
    server = TlsEndpoint(chain, key, lowest=T10, highest=T12)
    server.settings.keyExchangeNames = ["ecdhe_rsa", "rsa"]
    server.settings.cipherNames = ["aes256gcm", "aes128"]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Call:
    """One connection to a relay, from the relay's side.

    Attributes:
        number: 1 for the first connection since the relay began to behave as it does.
        hello: what the client said first.
    """

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upstream: int
    hello: bytes = b""

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def hear(self) -> None:
        """Read a whole ClientHello."""
        head = await self.reader.readexactly(5)
        length = 5 + int.from_bytes(head[3:5], "big") if head[0] == 0x16 else 2 + ((head[0] & 0x7F) << 8 | head[1])
        self.hello = head + await self.reader.readexactly(length - 5)

    @property
    def of_our_sweep(self) -> bool:
        """Whether the hello is one of our own making rather than OpenSSL's; all but its random shows that."""
        if self.hello[:1] != b"\x16":
            return self.hello[:-16] == hello_for(S2, "exch01.test").wire[:-16]
        ours = [hello_for_any("exch01.test"), *(hello_for(each, "exch01.test") for each in Protocol)]
        return any(self.hello[:11] + self.hello[43:] == each.wire[:11] + each.wire[43:] for each in ours)

    async def pass_on(self, *, as_schannel: bool = False) -> None:
        """Let the endpoint answer; as Schannel does, by a reset where it refuses."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            writer.write(self.hello)
            answer = await reader.read(65536)
            if as_schannel and answer[:1] == b"\x15":
                self.reset()
                return
            self.say(answer)
            await asyncio.gather(_pump(reader, self.writer), _pump(self.reader, writer))
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):  # the other side may have gone meanwhile
        writer.write_eof()


Manner = Callable[[Call], Awaitable[None]]


@dataclass
class Relay:
    """Stands in front of the endpoint, and behaves as it is told."""

    upstream: int
    manner: Manner
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def behave(self, manner: Manner) -> None:
        """Another manner from now on, which counts connections anew."""
        self.manner, self.connections = manner, 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._called, "127.0.0.1", 0, backlog=64)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(Call(self.connections, reader, writer, self.upstream)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: Call) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                await self.manner(call)
        finally:
            call.writer.close()


# Manners


async def frank(call: Call) -> None:
    """As the endpoint: alert 70 for what it does not accept."""
    await call.hear()
    await call.pass_on()


async def terse(call: Call) -> None:
    """As Schannel: a reset for what it does not accept."""
    await call.hear()
    await call.pass_on(as_schannel=True)


async def close(call: Call) -> None:
    await call.hear()


async def reset(call: Call) -> None:
    await call.hear()
    call.reset()


async def stall(call: Call) -> None:
    await call.hear()
    await asyncio.sleep(600)


async def trickle(call: Call) -> None:
    """Begin a record of 16 kB, and say a byte of it now and then: no single wait is long."""
    await call.hear()
    for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(2000):
        call.say(bytes([byte]))
        await asyncio.sleep(0.3)


async def not_that_name(call: Call) -> None:
    """Alert 112, unrecognized_name: which says nothing about the version."""
    await call.hear()
    call.say(b"\x15\x03\x03\x00\x02\x02\x70")


def from_the(number: int, trouble: Manner, before: Manner = terse) -> Manner:
    """One manner first, and another from a certain connection on."""

    async def manner(call: Call) -> None:
        await (before if call.number < number else trouble)(call)

    return manner


def only_the(number: int, trouble: Manner) -> Manner:
    """Another manner for a single connection."""

    async def manner(call: Call) -> None:
        await (trouble if call.number == number else terse)(call)

    return manner


def smtp(*, strangers_from: int | None = None) -> Manner:
    """A mail server, which from a certain connection on declines EHLO in words that are not UTF-8."""

    async def manner(call: Call) -> None:
        call.say(b"220 mail.test ESMTP\r\n")
        while line := await call.reader.readline():
            match line.upper().split()[:1]:
                case [b"EHLO"] if strangers_from and call.number >= strangers_from:
                    call.say(b"554 5.7.1 Acc\xe8s refus\xe9\r\n")
                case [b"EHLO"]:
                    call.say(b"250-mail.test\r\n250 STARTTLS\r\n")
                case [b"STARTTLS"]:
                    call.say(b"220 go ahead\r\n")
                    await terse(call)
                    return
                case _:
                    call.say(b"221 bye\r\n")
                    return

    return manner


def from_openssl(trouble: Manner) -> Manner:
    """Frank to our sweep, and of another manner to OpenSSL."""

    async def manner(call: Call) -> None:
        await call.hear()
        await (call.pass_on() if call.of_our_sweep else trouble(call))

    return manner


def two_faced(*, ours: bool, theirs: bool) -> Manner:
    """Accepts TLS 1.0 from our sweep, and from OpenSSL, as it is told; a reset stands for no."""

    async def manner(call: Call) -> None:
        await call.hear()
        offers_tls10 = call.hello[:1] == b"\x16" and call.hello[9:11] == b"\x03\x01"
        if offers_tls10 and not (ours if call.of_our_sweep else theirs):
            call.reset()
        else:
            await call.pass_on()

    return manner


# Our children


def children() -> list[int]:
    """The process ids of our own children that run the worker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and WORKER.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return sorted(found)


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test waits five seconds for a second attempt, and none leaves a child."""
    monkeypatch.setattr(observe_module, "PAUSE", 0.05)
    assert children() == []
    yield
    assert children() == []


# Observing


def fleet(
    relays: Mapping[str, Relay],
    service: str = "https",
    probe: Mapping[str, Any] | None = None,
    scan: Mapping[str, Any] | None = None,
) -> Config:
    servers = [
        {"name": name, "address": "127.0.0.1", "endpoints": [{"port": relay.port, "service": service}]}
        for name, relay in relays.items()
    ]
    settings = {
        "probe": {"second_opinions": 6, "timeout": "10s"} | dict(probe or {}),
        "scan": {"certificates": True, "cipher_suites": True, "timeout": "30s"} | dict(scan or {}),
    }
    return config(settings, servers=servers)


@dataclass
class Watch:
    """An observer of one server, and what it holds to be true of it."""

    observer: Observer
    target: Target
    known: Mapping[str, EndpointFacts] = field(default_factory=dict)

    async def sweep(self) -> EndpointFacts:
        self.known = await self.observer.sweep(self.target, self.known)
        (facts,) = self.known.values()
        return facts

    async def scan(self) -> EndpointScan:
        (facts,) = self.known.values()
        return await self.observer.scan(self.target, self.target.ports[0], facts)

    @property
    def deaths(self) -> dict[tuple[str, str], int]:
        return {key: count for key, count in self.observer.worker_deaths.items() if count}


@asynccontextmanager
async def watching(relay: Relay, **settings: Any) -> AsyncIterator[Watch]:
    """An observer of what is behind a relay; closed at the end."""
    configured = fleet({"exch01.test": relay}, **settings)
    observer = Observer(configured)
    try:
        yield Watch(observer, target_of(configured.servers[0], configured.defaults))
    finally:
        await observer.close()


def facts_of(snapshot: Snapshot, name: str = "exch01.test") -> EndpointFacts:
    (server,) = [server for server in snapshot.servers if server.target.name == name]
    (facts,) = server.facts.endpoints
    return facts


def words(accepted: Mapping[Protocol, Fact[bool]]) -> dict[Protocol, bool | Reason]:
    """The answers in short: True, False, or the reason why unknown."""
    return {each: fact.value if isinstance(fact, Known) else fact.reason for each, fact in accepted.items()}


TRUTH = {protocol: protocol in ACCEPTED for protocol in Protocol}


def assert_true(facts: EndpointFacts) -> None:
    """Nothing that is known contradicts the truth, and no list of suites is shorter than it."""
    for protocol, fact in facts.accepted.items():
        assert isinstance(fact, Missing) or fact.value is TRUTH[protocol], (protocol, fact)
    for protocol, suites in facts.cipher_suites.items():
        assert isinstance(suites, Missing) or set(suites.value) == SUITES[protocol], (protocol, suites)
    if isinstance(facts.certificates, Known):
        assert [chain.leaf.names for chain in facts.certificates.value] == [("exch01.test",)]


def assert_scanned(facts: EndpointFacts | EndpointScan) -> None:
    """All of it, and as it is."""
    assert isinstance(facts.certificates, Known)
    assert {each: set(fact.value) for each, fact in facts.cipher_suites.items()} == SUITES


def samples(snapshot: Snapshot) -> list[str]:
    """What Prometheus is told."""
    return gzip.decompress(Renderer().render(snapshot).answer("", CollectorRegistry())[0]).decode().splitlines()


# What is asserted


async def test_all_is_known_of_a_well_behaved_server(endpoint: TlsEndpoint) -> None:
    """One that names the version when it refuses needs no second opinion; one that resets gets it, and they agree."""
    port = endpoint.server_address[1]
    async with Relay(port, frank) as plain, Relay(port, terse) as like_schannel:
        relays = {"plain.test": plain, "exch01.test": like_schannel}

        snapshot = await Refresh(fleet(relays)).once()

        for name in relays:
            facts = facts_of(snapshot, name)
            assert words(facts.accepted) == TRUTH
            assert_scanned(facts)
            (chain,) = facts.certificates.value
            assert chain.matches_name is (name == "exch01.test")
        assert {outcome: count for outcome, count in snapshot.second_opinions.items() if count} == {"agreed": 3}
        assert len(facts_of(snapshot).asked_again) == 3
        assert not any(snapshot.worker_deaths.values())
        assert snapshot.failures == {}
        assert all(server.observations["scan"].success for server in snapshot.servers)


async def test_killing_the_scanning_child(endpoint: TlsEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs this scan, with a reason and in the metrics; sweeps go on, and the next scan has another child."""
    monkeypatch.setattr(refresh_module, "pause", lambda interval: interval / 50)
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 0.01)
    scanning = asyncio.Event()

    async def hold(_: Call) -> None:
        scanning.set()
        await asyncio.sleep(600)

    async with Relay(endpoint.server_address[1], from_openssl(hold)) as relay:
        settings = fleet({"exch01.test": relay}, probe={"interval": "10s"}, scan={"interval": "60s", "timeout": "60s"})
        async with running(Refresh(settings)) as refresh:
            await asyncio.wait_for(scanning.wait(), 30)
            (child,) = children()
            relay.behave(frank)

            os.kill(child, signal.SIGKILL)
            killed = await until(refresh, lambda snapshot: facts_of(snapshot).scan_failure is not None)
            mended = await until(
                refresh,
                lambda snapshot: facts_of(snapshot).scanned_at > 0 and facts_of(snapshot).scan_failure is None,
            )
            swept_before = facts_of(mended).tried_at
            await until(refresh, lambda snapshot: facts_of(snapshot).tried_at > swept_before)

    facts = facts_of(killed)
    assert words(facts.accepted) == TRUTH
    assert facts.certificates.reason is Reason.WORKER_DIED
    assert {fact.reason for fact in facts.cipher_suites.values()} == {Reason.WORKER_DIED}
    assert "signal 9" in str(facts.certificates)
    assert killed.worker_deaths[("scan", Death.DIED)] == 1
    assert sum(killed.worker_deaths.values()) == 1
    assert 'tls_readiness_worker_deaths_total{kind="scan",reason="died"} 1.0' in samples(killed)
    assert 'tls_readiness_observation_failures_total{kind="scan",reason="worker_died"} 1.0' in samples(killed)
    assert_scanned(facts_of(mended))
    assert sum(mended.worker_deaths.values()) == 1


async def test_a_mail_server_that_declines_in_words_that_are_not_utf_8(endpoint: TlsEndpoint) -> None:
    """It hangs sslyze's scanner for ever; here it is an answer, and the same child goes on with the next job."""
    relay_manner = smtp(strangers_from=OF_A_SWEEP + 1)
    async with Relay(endpoint.server_address[1], relay_manner) as relay, watching(relay, service="smtp") as watch:
        declined = await asyncio.wait_for(watch.sweep(), 20)
        scan_declined = await asyncio.wait_for(watch.scan(), 20)
        before = children()
        relay.behave(smtp())
        welcome = await watch.sweep()
        scanned = await watch.scan()
        after = children()

        assert watch.deaths == {}
    assert words(declined.accepted) == TRUTH | dict.fromkeys((S2, S3, T13), Reason.STARTTLS_REFUSED)
    assert scan_declined.failure is not None
    assert scan_declined.failure.reason is Reason.STARTTLS_REFUSED
    assert words(welcome.accepted) == TRUTH
    assert_scanned(scanned)
    assert before == after
    assert len(after) == 2


IN_THE_SWEEP = (2, 5, 7)
IN_THE_OPINIONS = (8, 10)
IN_THE_SCAN = (11, 13, 17, 19, 22, 25)


@asynccontextmanager
async def relaying(endpoint: TlsEndpoint, manners: Mapping[str, Manner]) -> AsyncIterator[dict[str, Relay]]:
    """Relays of these manners, by the names of servers."""
    relays = {name: Relay(endpoint.server_address[1], manner) for name, manner in manners.items()}
    async with contextlib.AsyncExitStack() as stack:
        for relay in relays.values():
            await stack.enter_async_context(relay)
        yield relays


@pytest.mark.parametrize("trouble", [close, reset, not_that_name])
async def test_trouble_that_begins_with_some_connection(endpoint: TlsEndpoint, trouble: Manner) -> None:
    """In the sweep, in the second opinions, in the scan: it makes things unknown, never untrue.

    A server that limits us looks like one that rejects a version or a suite, and must not be taken for it.
    """
    numbers = (*IN_THE_SWEEP, *IN_THE_OPINIONS, *IN_THE_SCAN)
    async with relaying(endpoint, {f"from-{each}.test": from_the(each, trouble) for each in numbers}) as relays:
        refresh = Refresh(fleet(relays, probe={"timeout": "30s"}, scan={"timeout": "60s", "parallel_endpoints": 4}))
        first = await refresh.once()
        second = await refresh.once()
        for relay in relays.values():
            relay.behave(terse)
        third = await refresh.once()

    for name in relays:
        assert_true(facts_of(first, name))
        assert_true(facts_of(second, name))
        assert_true(facts_of(third, name))
        assert words(facts_of(third, name).accepted) == TRUTH
    for number in IN_THE_SWEEP:
        assert words(facts_of(first, f"from-{number}.test").accepted) != TRUTH
    for number in IN_THE_OPINIONS:  # a refusal would agree with the sweep; alert 112 is none
        disputed = words(facts_of(first, f"from-{number}.test").accepted)[T13]
        assert disputed is (Reason.TLS_ALERT if trouble is not_that_name else False)
    for number in IN_THE_SCAN:
        facts = facts_of(first, f"from-{number}.test")
        assert words(facts.accepted) == TRUTH
        assert any(isinstance(suites, Missing) for suites in facts.cipher_suites.values()), number
    assert not any(third.worker_deaths.values())


@pytest.mark.parametrize("trouble", [close, reset, not_that_name])
async def test_trouble_with_one_connection_alone(endpoint: TlsEndpoint, trouble: Manner) -> None:
    """The server recovers at once, so that there are acceptances before and after: no less unknown, and no more untrue.

    One lost connection must not make a version rejected, or a list of cipher suites short.
    """
    numbers = (1, 3, 4, 6, 8, 11, 12, 14, 16, 17, 18, 21, 24)
    async with relaying(endpoint, {f"only-{each}.test": only_the(each, trouble) for each in numbers}) as relays:
        settings = fleet(relays, probe={"timeout": "30s"}, scan={"timeout": "60s", "parallel_endpoints": 4})
        snapshot = await Refresh(settings).once()

    for name in relays:
        assert_true(facts_of(snapshot, name))
    assert not any(snapshot.worker_deaths.values())


async def test_silence_that_begins_with_some_connection(endpoint: TlsEndpoint) -> None:
    """The same; and it takes no longer than the time-outs."""
    numbers = (2, 7, 8, 10, 12, 20)
    async with relaying(endpoint, {f"from-{each}.test": from_the(each, stall) for each in numbers}) as relays:
        settings = fleet(relays, probe={"timeout": "2s"}, scan={"timeout": "3s", "parallel_endpoints": 4})
        snapshot = await Refresh(settings).once()

    unknown = set()
    for name in relays:
        facts = facts_of(snapshot, name)
        assert_true(facts)
        answers = (*facts.accepted.values(), *facts.cipher_suites.values())
        missing = {fact.reason for fact in answers if isinstance(fact, Missing)}
        assert missing, name
        unknown |= missing
    assert unknown <= {Reason.TLS_TIMEOUT, Reason.DEADLINE, Reason.CONNECTION_RESET, Reason.NOT_OBSERVED_YET}


@pytest.mark.parametrize("trouble", [trickle, stall])
class TestSlowServers:
    async def test_a_scan_ends_at_its_time_out(self, endpoint: TlsEndpoint, trouble: Manner) -> None:
        """Whatever the server does to make it longer. And the next one works."""
        async with (
            Relay(endpoint.server_address[1], from_the(OF_A_SWEEP + 1, trouble, before=frank)) as relay,
            watching(relay, scan={"timeout": "3s"}) as watch,
        ):
            await watch.sweep()
            started = time.monotonic()
            scanned = await watch.scan()
            took = time.monotonic() - started
            relay.behave(frank)
            after = await watch.scan()
            deaths = watch.deaths

        assert 2 <= took <= 3 + SLACK
        assert scanned.failure is not None
        assert scanned.failure.reason in {Reason.DEADLINE, Reason.TLS_TIMEOUT}
        assert scanned.certificates == scanned.failure
        assert set(scanned.cipher_suites.values()) == {scanned.failure}
        assert deaths == {}, "the child noticed by itself"
        assert_scanned(after)

    async def test_a_second_opinion_ends_at_the_sweep_s_time_out(self, endpoint: TlsEndpoint, trouble: Manner) -> None:
        """And costs what it was asked for, no more."""
        async with (
            Relay(endpoint.server_address[1], from_the(OF_A_SWEEP + 1, trouble)) as relay,
            watching(relay, probe={"timeout": "2s"}) as watch,
        ):
            started = time.monotonic()
            facts = await watch.sweep()
            took = time.monotonic() - started

        assert took <= 2 * 2 + SLACK
        assert {each: word for each, word in words(facts.accepted).items() if each in ACCEPTED} == dict.fromkeys(
            ACCEPTED, True
        )
        unknown = {words(facts.accepted)[each] for each in (S2, S3, T13)}
        assert unknown <= {Reason.DEADLINE, Reason.TLS_TIMEOUT}


class TestChildren:
    async def test_none_is_left_after_closing(self, endpoint: TlsEndpoint) -> None:
        """Those that waited for work are gone when `close` returns."""
        async with Relay(endpoint.server_address[1], terse) as relay, watching(relay) as watch:
            await watch.sweep()
            await watch.scan()
            waiting = children()
            await watch.observer.close()
            left = children()

        assert len(waiting) == 2
        assert left == []

    async def test_none_is_started_for_nothing(self, endpoint: TlsEndpoint) -> None:
        """Sweeps that nothing is doubtful in need no child."""
        async with Relay(endpoint.server_address[1], frank) as relay, watching(relay) as watch:
            for _ in range(3):
                await watch.sweep()

            assert children() == []

    @pytest.mark.parametrize("delay", [0.0, 0.02, 0.3, 1.5])
    async def test_none_is_left_of_a_scan_that_is_broken_off(self, endpoint: TlsEndpoint, delay: float) -> None:
        """While it is started, while it imports, while it works."""
        async with (
            Relay(endpoint.server_address[1], from_the(OF_A_SWEEP + 1, stall, before=frank)) as relay,
            watching(relay) as watch,
        ):
            await watch.sweep()
            scan = asyncio.create_task(watch.scan())
            await asyncio.sleep(delay)
            scan.cancel()
            await asyncio.gather(scan, return_exceptions=True)

            assert children() == []

    async def test_none_is_left_when_the_exporter_ends_in_mid_scan(self, endpoint: TlsEndpoint) -> None:
        """Nor does it wait for the scan's time-out."""
        async with Relay(endpoint.server_address[1], from_the(OF_A_SWEEP + 1, stall, before=frank)) as relay:
            async with running(Refresh(fleet({"exch01.test": relay}))):
                while relay.connections <= OF_A_SWEEP:
                    await asyncio.sleep(0.01)
                working = children()
                started = time.monotonic()
            took = time.monotonic() - started

            assert len(working) == 1
            assert children() == []
            assert took < 10


class TestTwoFaces:
    """Two probers that see different servers: the published answer is not changed by one of them alone."""

    @pytest.mark.parametrize("before", [True, False])
    async def test_a_flip_that_only_our_sweep_sees(self, endpoint: TlsEndpoint, before: bool) -> None:  # noqa: FBT001
        """Is unknown, contradictory, whichever way it goes; and back again it needs nobody."""
        async with Relay(endpoint.server_address[1], two_faced(ours=before, theirs=before)) as relay:
            refresh = Refresh(fleet({"exch01.test": relay}))
            published = await refresh.once()
            asked = len(facts_of(published).asked_again)
            relay.behave(two_faced(ours=not before, theirs=before))
            doubted = await refresh.once()
            relay.behave(two_faced(ours=before, theirs=before))
            settled = await refresh.once()

        assert words(facts_of(published).accepted) == TRUTH | {T10: before}
        assert words(facts_of(doubted).accepted) == TRUTH | {T10: Reason.CONTRADICTORY}
        detail = facts_of(doubted).accepted[T10].detail
        assert f"the sweep says {'rejected' if before else 'accepted'}" in detail
        assert f"a complete handshake says {'accepted' if before else 'rejected'}" in detail
        assert 'tls_readiness_second_opinions_total{outcome="contradictory"} 1.0' in samples(doubted)
        assert len(facts_of(doubted).asked_again) == asked + 2
        assert words(facts_of(settled).accepted) == TRUTH | {T10: before}
        assert settled.second_opinions == doubted.second_opinions

    async def test_a_flip_that_both_see(self, endpoint: TlsEndpoint) -> None:
        """Is published: somebody switched it off."""
        async with Relay(endpoint.server_address[1], two_faced(ours=True, theirs=True)) as relay:
            refresh = Refresh(fleet({"exch01.test": relay}))
            before = await refresh.once()
            relay.behave(two_faced(ours=False, theirs=False))
            after = await refresh.once()

        assert words(facts_of(before).accepted) == TRUTH
        assert words(facts_of(after).accepted) == TRUTH | {T10: False}
        assert {outcome: count for outcome, count in after.second_opinions.items() if count} == {"agreed": 1}

    async def test_at_first_sight(self, endpoint: TlsEndpoint) -> None:
        """What the sweep alone sees refused, without alert 70, is not published either."""
        async with Relay(endpoint.server_address[1], two_faced(ours=False, theirs=True)) as relay:
            snapshot = await Refresh(fleet({"exch01.test": relay})).once()

        assert words(facts_of(snapshot).accepted) == TRUTH | {T10: Reason.CONTRADICTORY}
        assert snapshot.second_opinions["contradictory"] == 1
