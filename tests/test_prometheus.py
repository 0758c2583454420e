"""A real Prometheus scrapes us, and promtool finds nothing to complain about."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from exporter.config import parse_config
from exporter.demo import DemoFleet
from exporter.refresh import Refresh
from exporter.rules import PROFILES
from exporter.server import Server, listen

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """The exporter watching the demo's fleet."""
    with DemoFleet() as demo:
        refresh = Refresh(parse_config(demo.configuration(), PROFILES))
        await refresh.once()
        listener = listen("127.0.0.1:0")
        tasks = [asyncio.create_task(each) for each in (refresh.run(), Server(refresh.store).run([listener]))]
        yield "{}:{}".format(*listener.getsockname())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _get(client: aiohttp.ClientSession, url: str, **parameters: str) -> bytes:
    async with client.get(url, params=parameters) as response:
        assert response.status == 200, url
        return await response.read()


async def test_promtool_check_metrics(address: str) -> None:
    """Names, types, units and help follow Prometheus' conventions."""
    assert PROMTOOL, "promtool is not here: scripts/install-test-servers.sh installs it"
    async with aiohttp.ClientSession() as client:
        text = await _get(client, f"http://{address}/metrics")

    done = await asyncio.to_thread(
        subprocess.run, [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_a_real_scrape(address: str, tmp_path: Path) -> None:
    """Prometheus takes every series, and its queries answer what the table shows."""
    assert PROMETHEUS, "prometheus is not here: scripts/install-test-servers.sh installs it"
    scrape = {"job_name": "tls-readiness", "scrape_interval": "1s", "static_configs": [{"targets": [address]}]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as client:
            scraped = await _query(client, port, "scrape_samples_scraped", wait=True)
            up = await _query(client, port, "up")
            states = await _query(client, port, 'tls_readiness_server_state{profile="wire-tls12-only"} == 1')
            old = await _query(
                client, port, 'count by (server) (tls_readiness_protocol_accepted{protocol="TLS 1.0"} == 1)'
            )
            live = await _get(client, f"http://{address}/metrics")
    finally:
        process.terminate()
        await process.wait()

    assert [float(each["value"][1]) for each in up] == [1.0]
    served = [line for line in live.splitlines() if not line.startswith(b"#")]
    assert float(scraped[0]["value"][1]) == len(served)
    assert {each["metric"]["server"]: each["metric"]["state"] for each in states} == {
        "forgotten.demo.test": "not_ready",
        "ssl3-still-on.demo.test": "not_ready",
        "part-2-half-way.demo.test": "not_ready",
        "part-2-done.demo.test": "not_ready",
        "part-3-done.demo.test": "ready",
        "modern.demo.test": "ready",
        "newest.demo.test": "ready",
        "directory.demo.test": "not_ready",
        "mail-gateway.demo.test": "not_ready",
        "switched-off.demo.test": "unknown",
    }
    assert {each["metric"]["server"].split(".")[0] for each in old} == {
        "forgotten", "ssl3-still-on", "part-2-half-way", "part-2-done", "directory", "mail-gateway",
    }  # fmt: skip


async def _query(client: aiohttp.ClientSession, port: int, query: str, *, wait: bool = False) -> list[dict[str, Any]]:
    """The result of an instant query; the first one waits until there is one."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = json.loads(await _get(client, f"http://127.0.0.1:{port}/api/v1/query", query=query))
            except (aiohttp.ClientError, AssertionError):
                answer = {"data": {"result": []}}
            result: list[dict[str, Any]] = answer["data"]["result"]
            if result or not wait:
                return result
            await asyncio.sleep(0.2)
