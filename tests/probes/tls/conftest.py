"""Real servers for the wire tests, started once for the whole session, and what the sweep makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from exporter.facts import EndpointSweep
from exporter.probes.tls.sweep import SweepJob, sweep

from real_servers import Certificate, Server, running

SWEEP_TIMEOUT = 30.0
"""Seconds. Far more than a sweep needs: these tests are about the answers, on machines that may be busy."""


@pytest.fixture(scope="session")
def real_servers() -> Iterator[Mapping[str, Server]]:
    """Every server of the table, listening."""
    with running() as servers:
        yield servers


@pytest.fixture(scope="session")
def swept(real_servers: Mapping[str, Server]) -> Mapping[str, EndpointSweep]:
    """One sweep of each of them, all at the same time."""

    async def sweep_all() -> list[EndpointSweep]:
        return await asyncio.gather(*(sweep(_job(server)) for server in real_servers.values()))

    return dict(zip(real_servers, asyncio.run(sweep_all()), strict=True))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for servers that a test starts by itself."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    return Certificate(folder, "rsa")


def _job(server: Server) -> SweepJob:
    return SweepJob(
        server_name="localhost",
        addresses=(server.row.address,),
        port=server.port,
        service=server.row.service,
        timeout=SWEEP_TIMEOUT,
        client_name="probe.example.test",
    )
