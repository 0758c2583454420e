"""The HTTP server: what it answers, and what it survives."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from exporter.server import Server, listen
from exporter.snapshot import Store

from builders import endpoint_facts, fleet, server_snapshot


@asynccontextmanager
async def serving(store: Store, max_connections: int = 100) -> AsyncIterator[str]:
    """A server on loopback; its URL."""
    listener = listen("127.0.0.1:0")
    url = "http://{}:{}".format(*listener.getsockname())
    task = asyncio.create_task(Server(store, max_connections).run([listener]))
    try:
        yield url
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(Store(fleet(server_snapshot(endpoint_facts())))) as url, aiohttp.ClientSession() as client:
        await _until_ready(client, url)
        yield url


async def test_metrics(url: str) -> None:
    """The classic text for a client that asks for nothing."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/metrics") as response:
        text = await response.text()

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'tls_readiness_server_state{profile="wire-tls12",server="exch01.test",state="ready"} 1.0' in text
    assert "process_cpu_seconds_total" in text


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [("gzip", True), ("deflate, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("identity", False), ("", False)],
)
async def test_gzip_by_negotiation(url: str, accept_encoding: str, *, compressed: bool) -> None:
    """As Prometheus asks for it."""
    headers = {"Accept-Encoding": accept_encoding, "Accept": "application/openmetrics-text;version=1.0.0"}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as client,
        client.get(f"{url}/metrics", headers=headers) as response,
    ):
        body = await response.read()

    assert (response.headers.get("Content-Encoding") == "gzip") is compressed
    assert (gzip.decompress(body) if compressed else body).endswith(b"# EOF\n")
    assert response.headers["Vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/nothing", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/", 405),
    ],
)
async def test_paths_and_methods(url: str, method: str, path: str, status: int) -> None:
    """Only what is documented is there."""
    async with aiohttp.ClientSession() as client, client.request(method, url + path) as response:
        assert response.status == status
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_ready_after_the_first_sweep_of_every_server() -> None:
    """And for good: a server that is added later does not take it back."""
    store = Store(fleet(server_snapshot(endpoint_facts(), success=None)))
    async with serving(store) as url, aiohttp.ClientSession() as client:
        async with client.get(f"{url}/-/ready") as response:
            assert response.status == 503
        store.publish(fleet(server_snapshot(endpoint_facts(), success=False)))
        await _until_ready(client, url)
        store.publish(fleet(server_snapshot(endpoint_facts(), success=None)))
        await asyncio.sleep(0.1)
        async with client.get(f"{url}/-/ready") as response:
            assert response.status == 200


async def _until_ready(client: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(5):
        while True:
            async with client.get(f"{url}/-/ready") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.01)


async def test_the_landing_page_shows_the_fleet_and_escapes_it() -> None:
    """Names come from files that others write."""
    async with (
        serving(Store(fleet(server_snapshot(endpoint_facts(), name="<script>alert(1)</script>")))) as url,
        aiohttp.ClientSession() as client,
        client.get(url) as response,
    ):
        text = await response.text()

    assert response.headers["Content-Type"].startswith("text/html")
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<td class=ready>ready" in text


async def test_idle_and_half_open_clients_do_no_harm(url: str) -> None:
    """Neither silence nor half a request keeps a scrape waiting."""
    host, port = url.removeprefix("http://").split(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(50)]
    for client in clients[25:]:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHos")
    try:
        async with (
            asyncio.timeout(5),
            aiohttp.ClientSession() as session,
            session.get(f"{url}/metrics") as response,
        ):
            assert response.status == 200
    finally:
        for client in clients:
            client.close()


async def test_more_connections_than_allowed_cost_the_oldest() -> None:
    """A crowd of idle clients cannot lock a scraper out."""
    async with serving(Store(fleet(server_snapshot(endpoint_facts()))), max_connections=10) as url:
        host, port = url.removeprefix("http://").split(":")
        readers = [await asyncio.open_connection(host, int(port)) for _ in range(30)]
        async with (
            asyncio.timeout(5),
            aiohttp.ClientSession() as session,
            session.get(f"{url}/metrics") as response,
        ):
            assert response.status == 200
        async with asyncio.timeout(5):
            assert await readers[0][0].read() == b""  # hung up on
        for _, writer in readers:
            writer.close()
            await writer.wait_closed()


async def test_clients_that_do_not_read_are_dropped_as_well() -> None:
    """However much is on its way to them."""
    servers = [server_snapshot(endpoint_facts(), name=f"exch{number:04}.test") for number in range(1500)]
    async with serving(Store(fleet(*servers)), max_connections=5) as url:
        host, port = url.removeprefix("http://").split(":")
        crowd = [await asyncio.open_connection(host, int(port), limit=1) for _ in range(20)]
        for _, writer in crowd:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        async with (
            asyncio.timeout(30),
            aiohttp.ClientSession() as session,
            session.get(f"{url}/metrics") as response,
        ):
            assert response.status == 200
        dropped = 0
        for reader, writer in crowd:
            writer.close()
            try:
                async with asyncio.timeout(10):
                    dropped += (await reader.read()).count(b"HTTP/1.1 200") < 5
            except ConnectionError:
                dropped += 1
        assert dropped >= 15


async def test_a_snapshot_that_cannot_be_rendered_leaves_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault of ours is logged; scrapes go on, and the next snapshot is rendered."""
    store = Store(fleet(server_snapshot(endpoint_facts())))
    async with serving(store) as url, aiohttp.ClientSession() as client:
        await _until_ready(client, url)
        store.publish(fleet(server_snapshot(endpoint_facts(), labels={"site": "\ud800"})))
        async with asyncio.timeout(5):
            while "snapshot not rendered" not in (said := capsys.readouterr().out):
                await asyncio.sleep(0.01)
        assert "UnicodeEncodeError" in said
        async with client.get(f"{url}/metrics") as response:
            assert 'server="exch01.test"' in await response.text()
        store.publish(fleet(server_snapshot(name="exch02.test")))
        async with asyncio.timeout(5):
            while True:
                async with client.get(f"{url}/metrics") as response:
                    if 'server="exch02.test"' in await response.text():
                        break


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["tls", "http 0.9", "long header", "long path", "zeros", "both lengths"],
)
async def test_nonsense_is_answered_or_hung_up_on(url: str, request_bytes: bytes) -> None:
    """And the next client is served."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    async with asyncio.timeout(5):
        answer = await reader.read(200)
    writer.close()

    assert answer == b"" or re.match(rb"HTTP/\d\.\d (400|200) ", answer)
    async with aiohttp.ClientSession() as client, client.get(f"{url}/-/healthy") as response:
        assert response.status == 200


async def test_cancelling_ends_it_and_frees_the_port() -> None:
    """Even while clients hold connections open."""
    async with serving(Store(fleet())) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))

    listen(f"{host}:{port}").close()
    writer.close()
    async with asyncio.timeout(5):
        assert await reader.read() == b""


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", ":0", "localhost:0"])
def test_addresses_to_listen_on(address: str) -> None:
    """Both families; without a host, all of both."""
    with listen(address) as listener:
        assert listener.getsockname()[1] > 0
        if address == ":0":
            with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5):
                pass


@pytest.mark.parametrize("address", ["", "10912", "::1:10912", "host:", "host:x", "host:65536"])
def test_addresses_that_are_none(address: str) -> None:
    """The message says how one looks."""
    with pytest.raises(ValueError, match=r"is not host:port, \[v6\]:port or :port"):
        listen(address)
