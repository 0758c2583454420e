"""Hundreds of sweeps of a fleet that is partly hostile, with scrapes and a restless target file: nothing may grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import statistics
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import structlog
from tlslite.messages import ClientHello
from tlslite.utils.codec import Parser

import exporter.refresh
from exporter.config import Config, ProbeConfig, ScanConfig, parse_config
from exporter.facts import Protocol
from exporter.probes.tls.hello import hello_for, hello_for_any
from exporter.refresh import Refresh
from exporter.rules import PROFILES
from exporter.server import Server, listen

pytestmark = pytest.mark.soak

NO_SCANS = ScanConfig.model_validate({"certificates": False, "cipher_suites": False})
"""The fake servers cannot complete a handshake; scans have a soak of their own."""
SWEEPS = 400
"""Of the healthy server."""
TIMEOUT = 0.2
"""Seconds for the sweep of an endpoint: what the silent ones cost."""
LONGEST = 280
"""Seconds after which the run has hung."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TLS12 = bytes([3, 3])
SUITE = bytes.fromhex("c02b")
SERVER_HELLO = TLS12 + bytes(32) + b"\0" + SUITE + b"\0"
ANSWER = b"\x16" + TLS12 + struct.pack(">HI", len(SERVER_HELLO) + 4, 0x02000000 + len(SERVER_HELLO)) + SERVER_HELLO
WRONG_VERSION = b"\x15" + TLS12 + bytes([0, 2, 2, 70])


async def accept_tls12(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Choose TLS 1.2 where it is offered, name the version as the trouble where it is not."""
    head = await reader.readexactly(5)
    if head[0] != 0x16:  # SSL 2.0
        return
    message = await reader.readexactly(int.from_bytes(head[3:5], "big"))
    hello = ClientHello().parse(Parser(bytearray(message[1:])))
    versions = hello.getExtension(43)
    offered = versions.versions if versions else [hello.client_version]
    writer.write(ANSWER if (3, 3) in offered else WRONG_VERSION)
    await writer.drain()
    await reader.read()


async def stay_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()
    await reader.read()


async def close_at_once(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Returning closes."""


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def talk_nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(os.urandom(4096))
    await writer.drain()


async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say the right thing, a byte at a time, too slowly."""
    for byte in ANSWER:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(TIMEOUT / 4)


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Warning alerts without end."""
    while True:
        writer.write(b"\x15" + TLS12 + bytes([0, 2, 1, 112]) * 500)
        await writer.drain()


TALKS: dict[str, Talk] = {
    "healthy": accept_tls12,
    "silent": stay_silent,
    "closing": close_at_once,
    "resetting": reset,
    "nonsense": talk_nonsense,
    "dribbling": dribble,
    "flooding": flood,
}


@dataclass
class Fleet:
    """The fake servers' ports, and how many connections each of them had."""

    ports: dict[str, int]
    connections: dict[str, int]


@contextlib.asynccontextmanager
async def fake_fleet() -> AsyncIterator[Fleet]:
    """Run a server for each way to talk."""
    fleet = Fleet({}, dict.fromkeys(TALKS, 0))
    talking: set[asyncio.Task[None]] = set()

    def handler(name: str) -> Talk:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            fleet.connections[name] += 1
            task = asyncio.current_task()
            assert task is not None
            talking.add(task)
            # Cancelled is how the fleet ends; asyncio logs an error for a handler that ends so.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await TALKS[name](reader, writer)
            writer.transport.abort() if task.cancelling() else writer.close()
            talking.discard(task)

        return handle

    async def hang_up() -> None:
        left = tuple(talking)
        for task in left:
            task.cancel()
        await asyncio.gather(*left)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(hang_up)
        for name in TALKS:
            server = await stack.enter_async_context(await asyncio.start_server(handler(name), "127.0.0.1", 0))
            fleet.ports[name] = server.sockets[0].getsockname()[1]
        yield fleet


class RestlessFile:
    """A target file that never says the same twice: new names, none at all, not YAML, gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.changes = 0

    async def run(self) -> None:
        while True:
            self._change()
            await asyncio.sleep(0.03)

    def _change(self) -> None:
        self.changes += 1
        number = self.changes
        match number % 5:
            case 0:
                self._path.unlink()
                return
            case 1:
                text = "[{targets: ["
            case 2:
                text = "[]"
            case _:
                names = [f"found{number}-{each}.soak.test" for each in range(3)]
                text = f"[{{targets: {names}, labels: {{__role__: domain-controller, __address__: 127.0.0.9}}}}]"
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._path)


def configuration(fleet: Fleet, file: Path) -> Config:
    """Watch the fleet, with intervals that a configuration file may not have."""
    servers = [
        {"name": f"{name}.soak.test", "address": "127.0.0.1", "endpoints": [{"port": port, "service": "https"}]}
        for name, port in fleet.ports.items()
    ]
    config = parse_config({"servers": servers, "file_sd_configs": [{"files": [str(file)]}]}, PROFILES)
    probe = ProbeConfig.model_construct(
        interval=0.05,
        timeout=TIMEOUT,
        max_age=1.0,
        parallel_endpoints=16,
        parallel_endpoints_per_server=2,
        second_opinions=0,
    )
    return config.model_copy(update={"probe": probe, "scan": NO_SCANS})


@dataclass(frozen=True)
class Sample:
    """What the process holds at a moment."""

    resident_bytes: int
    descriptors: int
    threads: int
    tasks: int

    @classmethod
    def take(cls) -> Sample:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
        )


async def scrape(session: aiohttp.ClientSession, url: str, number: int) -> str:
    """Scrape in turn as text or OpenMetrics, packed or plain, on a kept connection or one that is closed."""
    headers = {
        "Accept": ("application/openmetrics-text;version=1.0.0", "text/plain")[number % 2],
        "Accept-Encoding": ("gzip", "identity")[number // 2 % 2],
        "Connection": ("keep-alive", "close")[number // 4 % 2],
    }
    async with session.get(url, headers=headers) as answer:
        assert answer.status == 200
        return await answer.text()


async def pester(port: int) -> None:
    """Connect and go away, in the middle of a request or of its answer."""
    while True:
        for request in (b"", b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            try:
                await asyncio.sleep(0.05)
            finally:
                writer.transport.abort()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Log nothing: pytest would keep all of it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter.refresh, "PUBLISH_INTERVAL", 0.05)
    monkeypatch.setattr(exporter.refresh, "DISCOVERY_INTERVAL", 0.02)


@pytest.fixture(autouse=True)
def _full_caches() -> None:
    """Fill the bounded caches of hellos first, or the many new names would look like a leak."""
    for number in range(2100):
        hello_for_any(f"filler{number}.soak.test")
        for protocol in (Protocol.TLS_1_3, Protocol.TLS_1_2, Protocol.TLS_1_1, Protocol.TLS_1_0):
            hello_for(protocol, f"filler{number}.soak.test")


async def watch_samples(fleet: Fleet, url: str) -> list[Sample]:
    """Scrape until the healthy server was swept often enough; what the process held meanwhile."""
    samples: list[Sample] = []
    number = discovered = 0
    async with asyncio.timeout(LONGEST), aiohttp.ClientSession() as session:
        while fleet.connections["healthy"] < SWEEPS * 7:
            text = await scrape(session, url, number)
            number += 1
            assert 'server="healthy.soak.test"' in text
            discovered += 'server="found' in text
            samples.append(Sample.take())
            await asyncio.sleep(0.03)
        last = await scrape(session, url, 0)
    assert 10 < discovered < number, "servers of the target file came and went"
    endpoint = f"healthy.soak.test:{fleet.ports['healthy']}"
    for protocol, accepted in (("TLS 1.2", "1.0"), ("TLS 1.0", "0.0")):
        labels = f'endpoint="{endpoint}",protocol="{protocol}",server="healthy.soak.test",service="https"'
        assert f"tls_readiness_protocol_accepted{{{labels}}} {accepted}" in last.splitlines()
    return samples


async def test_nothing_grows_over_hundreds_of_sweeps(tmp_path: Path) -> None:
    """Memory, descriptors, threads and tasks of the last third are those of the first."""
    file = RestlessFile(tmp_path / "targets.yml")
    async with fake_fleet() as fleet:
        refresh = Refresh(configuration(fleet, tmp_path / "targets.yml"))
        listener = listen("127.0.0.1:0")
        port = listener.getsockname()[1]
        work = (refresh.run(), Server(refresh.store, max_connections=16).run([listener]), file.run(), pester(port))
        tasks = [asyncio.create_task(each) for each in work]
        try:
            samples = await watch_samples(fleet, f"http://127.0.0.1:{port}/metrics")
            assert [task for task in tasks if task.done()] == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    assert all(fleet.connections.values()), "every server was swept"
    assert file.changes > 100
    assert_flat(samples)


def assert_flat(samples: list[Sample]) -> None:
    """Compare the medians of the first and the last third, past a warm-up."""
    settled = samples[len(samples) // 10 :]
    third = len(settled) // 3
    assert third >= 30
    for what, slack in (("resident_bytes", 10 << 20), ("descriptors", 6), ("threads", 3), ("tasks", 12)):
        first, last = (
            statistics.median(getattr(each, what) for each in part) for part in (settled[:third], settled[-third:])
        )
        assert last <= first + slack, f"{what} grew from {first:.0f} to {last:.0f}"
