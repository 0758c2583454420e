"""The HTTP server: routing and connections. It serves finished bytes and never probes.

aiohttp parses HTTP; accepting is ours, so that connections are bounded: an idle or half-open client costs a socket
until its time is up, or until somebody else needs its place.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import Sequence
from typing import Final

import structlog
from aiohttp import web

from exporter.exposition.page import landing_page
from exporter.exposition.prometheus import Exposition, Renderer, live_registry
from exporter.snapshot import Store

MAX_CONNECTIONS: Final = 512
"""Open connections at most; the next one takes the place of the oldest."""
SEND_BUFFER: Final = 1 << 20
"""Bytes that a connection may have on their way, as far as the system lets us: a large fleet's metrics in one go."""
IDLE_SECONDS: Final = 75.0
"""How long a connection may stay open without a request. Longer than the usual scrape interval of a minute."""

log = structlog.get_logger("exporter.server")


def listen(address: str) -> socket.socket:
    """A listening socket for ``host:port``, ``[v6]:port`` or ``:port``, which is every address of both families.

    Raises:
        ValueError: the text is no such address.
        OSError: it is taken, or not ours.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError(f"{address!r} is not host:port, [v6]:port or :port")
    host = host.strip("[]")
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", int(port)), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=1024)


class Server:
    """Serves a store's newest snapshot."""

    def __init__(self, store: Store, max_connections: int = MAX_CONNECTIONS) -> None:
        self._store = store
        self._max_connections = max_connections
        self._live = live_registry()
        self._exposition: Exposition | None = None
        self._rendered = asyncio.Event()
        self._ready = False

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on these listening sockets until cancelled, and close them."""
        runner = web.AppRunner(self._application(), access_log=None, keepalive_timeout=IDLE_SECONDS)
        await runner.setup()
        http = runner.server
        assert http is not None  # noqa: S101 - setup() made it
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._render())
                for listener in sockets:
                    group.create_task(self._accept(listener, http))
        finally:
            for listener in sockets:
                listener.close()
            http.pre_shutdown()
            await http.shutdown(0.5)
            await runner.cleanup()

    async def _render(self) -> None:
        """Render each snapshot once, in a thread: the loop stays free for probes and scrapes."""
        renderer = Renderer()
        seen = None
        while True:
            seen = await self._store.newer_than(seen)
            try:
                self._exposition = await asyncio.to_thread(renderer.render, seen)
            except Exception:  # a fault of ours: what was rendered before is better than nothing, and says its age
                log.exception("snapshot not rendered")
                continue
            self._rendered.set()
            # For good: a server that is added later does not take it back.
            self._ready = self._ready or all(server.swept for server in seen.servers)

    async def _accept(self, listener: socket.socket, http: web.Server) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of descriptors, or the client is gone already
                log.warning("connection not accepted", error=str(error))
                await asyncio.sleep(0.1)
                continue
            open_now = http.connections
            if len(open_now) >= self._max_connections and (oldest := open_now[0].transport) is not None:
                oldest.abort()
            try:
                await loop.connect_accepted_socket(http, connection)
            except OSError as error:
                log.warning("connection lost at once", error=str(error))
                connection.close()

    def _application(self) -> web.Application:
        app = web.Application()
        app.on_response_prepare.append(_harmless)
        app.add_routes(
            [
                web.get("/", self._landing),
                web.get("/metrics", self._metrics),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._say_ready),
            ]
        )
        return app

    async def _landing(self, _: web.Request) -> web.Response:
        return web.Response(text=landing_page(self._store.latest), content_type="text/html")

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._rendered.wait()
        assert self._exposition is not None  # noqa: S101 - set before the event
        body, content_type = self._exposition.answer(request.headers.get("Accept", ""), self._live)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if _accepts_gzip(request.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
        else:  # a person with curl, not a scraper
            body = await asyncio.to_thread(gzip.decompress, body)
        return web.Response(body=body, headers=headers)

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="Healthy\n")

    async def _say_ready(self, _: web.Request) -> web.Response:
        if self._ready:
            return web.Response(text="Ready\n")
        return web.Response(text="The first sweep of every server is still under way\n", status=503)


async def _harmless(_: web.Request, response: web.StreamResponse) -> None:
    """What a browser needs to know of every answer."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"


def _accepts_gzip(accept_encoding: str) -> bool:
    for offer in accept_encoding.split(","):
        coding, _, weight = offer.strip().partition(";")
        if coding.strip() in {"gzip", "*"}:
            return re.fullmatch(r"\s*q=0(\.0*)?\s*", weight) is None
    return False
