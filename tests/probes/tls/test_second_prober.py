"""The children and what they find on the real servers: opinions that agree with the sweep, suites, certificates."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from exporter.facts import EndpointScan, Known, Missing, Protocol
from exporter.observe import WORKER
from exporter.probes.tls.jobs import JOB, OPINION, SCAN, Opinion, OpinionJob, Place, ScanJob
from exporter.workers import Workers

from real_servers import TABLE, Server

LIMIT = 60.0
"""Seconds for one job. Far more than it needs: these tests are about the answers, on machines that may be busy."""
CONNECTIONS = 400
"""More than any of the servers has suites."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the children say about one server."""

    opinion: Opinion
    scan: EndpointScan


@pytest.fixture(scope="module")
def found(real_servers: Mapping[str, Server]) -> Mapping[str, Found]:
    """An opinion on every version, and a scan, of each of them."""

    async def ask_all() -> list[Found]:
        workers = Workers(WORKER, 4)
        try:
            return await asyncio.gather(*(_ask(workers, server) for server in real_servers.values()))
        finally:
            await workers.close()

    return dict(zip(real_servers, asyncio.run(ask_all()), strict=True))


async def _ask(workers: Workers, server: Server) -> Found:
    place = Place("localhost", server.row.address, server.port, server.row.service, "probe.example.test")
    opinion = await workers.run(JOB.dump_json(OpinionJob(place, tuple(Protocol))), LIMIT)
    accepted = tuple(protocol for protocol in Protocol if protocol in server.row.accepted)
    job = ScanJob(place, accepted, certificates=True, cipher_suites=True, connections=CONNECTIONS)
    scan = await workers.run(JOB.dump_json(job), LIMIT)
    return Found(OPINION.validate_json(opinion), SCAN.validate_json(scan))


@pytest.mark.parametrize("name", TABLE)
def test_the_second_prober_agrees_with_the_sweep(name: str, found: Mapping[str, Found]) -> None:
    """With the configuration, to be exact, which the sweep agrees with as well: see test_real_servers."""
    answers = {
        protocol: f"{fact.reason}: {fact.detail}" if isinstance(fact, Missing) else fact.value
        for protocol, fact in found[name].opinion.accepted.items()
    }

    assert answers == {protocol: protocol in TABLE[name].accepted for protocol in Protocol}


@pytest.mark.parametrize("name", TABLE)
def test_a_scan_finds_all_that_it_looks_for(name: str, found: Mapping[str, Found]) -> None:
    """The suites of each accepted version, and the certificate, which the server was given."""
    scan = found[name].scan

    assert scan.failure is None
    assert set(scan.cipher_suites) == set(TABLE[name].accepted)
    assert all(isinstance(fact, Known) and fact.value for fact in scan.cipher_suites.values())
    assert {chain.leaf.key_type for chain in scan.certificates.value} == {
        {"rsa": "RSA", "ecdsa": "EC"}[TABLE[name].certificate]
    }
    assert all("localhost" in chain.leaf.names and chain.matches_name for chain in scan.certificates.value)


_SSLYZE = """
import json, sys
from sslyze import Scanner, ScanCommand, ServerNetworkLocation, ServerScanRequest
names = sys.argv[2:]
request = ServerScanRequest(
    ServerNetworkLocation("localhost", int(sys.argv[1]), "127.0.0.1"),
    scan_commands={ScanCommand[f"{name}_CIPHER_SUITES"] for name in names},
)
scanner = Scanner()
scanner.queue_scans([request])
(done,) = scanner.get_results()
results = {name: getattr(done.scan_result, f"{name.lower()}_cipher_suites").result for name in names}
print(json.dumps({
    name: sorted(each.cipher_suite.name for each in result.accepted_cipher_suites) for name, result in results.items()
}))
"""


@pytest.mark.parametrize(
    "name", ["openssl-tls1.0-to-tls1.3", "gnutls-tls1.0-to-tls1.2", "nss-ssl3.0-to-tls1.2", "nginx-tls1.2-to-tls1.3"]
)
def test_elimination_finds_what_asking_for_each_suite_finds(
    name: str, found: Mapping[str, Found], real_servers: Mapping[str, Server]
) -> None:
    """The same suites as sslyze's own commands, which make a connection for each that there is."""
    spelled = {protocol: protocol.replace(" ", "_").replace(".", "_") for protocol in found[name].scan.cipher_suites}
    done = subprocess.run(
        [sys.executable, "-c", _SSLYZE, str(real_servers[name].port), *spelled.values()],
        capture_output=True,
        check=True,
        timeout=120,
    )
    theirs = json.loads(done.stdout)

    ours = {spelled[protocol]: sorted(fact.value) for protocol, fact in found[name].scan.cipher_suites.items()}
    assert {spelling: set(ours[spelling]) ^ set(theirs[spelling]) for spelling in ours} == {
        each: set() for each in ours
    }
