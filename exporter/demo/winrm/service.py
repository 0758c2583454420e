"""Simulated hosts that listen: a whole fleet in one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from exporter.demo.winrm.acceptors import Acceptors
from exporter.demo.winrm.answering import Site
from exporter.demo.winrm.connection import Connection
from exporter.demo.winrm.host import WindowsHost
from exporter.demo.winrm.journal import Journal
from exporter.demo.winrm.shells import Shells

T = TypeVar("T")

_WAIT: Final = 30.0
_HEADER: Final = 65_536


@dataclass(eq=False, slots=True)
class Listening:
    """A simulated host that listens.

    Attributes:
        address: where.
        port: where.
        site: what its connections share.
    """

    address: str
    port: int
    site: Site

    @property
    def host(self) -> WindowsHost:
        """What it is."""
        return self.site.host

    @property
    def journal(self) -> Journal:
        """What it saw."""
        return self.site.journal

    @property
    def open_shells(self) -> int:
        """How many there are now."""
        return len(self.site.shells)

    @property
    def endpoint(self) -> str:
        """Its URL by address."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'http' if self.host.https is None else 'https'}://{address}:{self.port}/wsman"


class SimulatedHosts:
    """A fleet, as a context manager of synchronous or asynchronous code: listening inside, closed outside."""

    def __init__(self, acceptors: Callable[[], Acceptors] = Acceptors) -> None:
        """A fleet without hosts; *acceptors* makes those of NTLM and Kerberos."""
        self._new_acceptors = acceptors
        self._fleet: _Fleet | None = None

    def start(self, host: WindowsHost, address: str = "127.0.0.1", port: int = 0) -> Listening:
        """Let one more host listen, on a free port unless one is given.

        Raises:
            OSError: it cannot listen there.
        """
        if self._fleet is None:
            raise RuntimeError("the fleet is not there: use it as a context manager")
        return self._fleet.call(self._fleet.start(host, address, port))

    def stop(self, listening: Listening) -> None:
        """End one host, with its connections."""
        if self._fleet is not None:
            self._fleet.call(self._fleet.stop(listening))

    def __enter__(self) -> Self:
        self._fleet = _Fleet(self._new_acceptors())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            fleet.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, traceback)


class _Fleet:
    """The hosts, their event loop, and its thread; the coroutines belong to the loop."""

    def __init__(self, acceptors: Acceptors) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="simulated-hosts", daemon=True)
        self._thread.start()
        self._acceptors = acceptors
        self._servers: dict[Listening, asyncio.Server] = {}
        self._connections: dict[Listening, set[asyncio.Task[None]]] = {}

    async def start(self, host: WindowsHost, address: str, port: int) -> Listening:
        site = Site(host, Shells(host), self._acceptors, Journal())
        listening = Listening(address, port, site)
        tasks: set[asyncio.Task[None]] = set()
        numbers = iter(range(1, 1_000_000_000))

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(site, reader, writer, next(numbers))
            task = asyncio.get_running_loop().create_task(connection.serve())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, address, port, limit=_HEADER, ssl=_tls(host))
        listening.port = server.sockets[0].getsockname()[1]
        self._servers[listening] = server
        self._connections[listening] = tasks
        return listening

    async def stop(self, listening: Listening) -> None:
        server = self._servers.pop(listening, None)
        if server is None:
            return
        server.close()
        listening.site.shells.close()
        tasks = tuple(self._connections.pop(listening))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop_all(self) -> None:
        for listening in tuple(self._servers):
            await self.stop(listening)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns, for any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT)

    def close(self) -> None:
        self.call(self.stop_all())
        self._acceptors.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()


def _tls(host: WindowsHost) -> ssl.SSLContext | None:
    if host.https is None:
        return None
    mapped = host.client_certificates
    return _context(host.https.certificate_file, host.https.key_file, mapped.authority_file if mapped else None)


@cache
def _context(certificate_file: Path, key_file: Path, authority_file: Path | None) -> ssl.SSLContext:
    """Hosts with the same files share one: a thousand of them would need much memory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file, key_file)
    if authority_file is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(authority_file)
    return context
