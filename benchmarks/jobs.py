"""What is measured in a process of its own, so that only its own CPU time and memory count.

``python -m benchmarks.jobs NAME`` reads its arguments as JSON from standard input and prints its outcome as JSON.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

PROMETHEUS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
"""What Prometheus asks for."""


def run_job(job: Callable[..., dict[str, Any]], timeout: float = 300, **arguments: Any) -> dict[str, Any]:
    """Do a job in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jobs", job.__name__],
        input=json.dumps(arguments).encode(),
        stdout=subprocess.PIPE,
        timeout=timeout,
        check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def _cpu_seconds(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def ours(config: dict[str, Any], uvloop: bool, warm: int = 0) -> dict[str, Any]:  # noqa: FBT001 - arguments come as JSON
    """One sweep of a fleet, as ``audit`` does it: CPU and wall seconds, and what became of it."""
    from exporter import logs  # noqa: PLC0415 - other jobs must not pay for it
    from exporter.config import parse_config  # noqa: PLC0415
    from exporter.refresh import Refresh  # noqa: PLC0415
    from exporter.rules import PROFILES  # noqa: PLC0415

    logs.configure("warning", "logfmt")
    parsed = parse_config(config, PROFILES)

    async def measure() -> dict[str, Any]:
        refresh = Refresh(parsed)
        for _ in range(warm):
            await refresh.once()
        cpu, wall = _cpu_seconds(), time.monotonic()
        snapshot = await refresh.once()
        return {
            "cpu": _cpu_seconds() - cpu,
            "wall": time.monotonic() - wall,
            "endpoints": sum(len(each.facts.endpoints) for each in snapshot.servers),
            "undecided": sum(snapshot.failures.values()),
        }

    if uvloop:
        from uvloop import new_event_loop  # noqa: PLC0415 - an extra

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(measure())
    return asyncio.run(measure())


def sslscan(addresses: list[str]) -> dict[str, Any]:
    """Run sslscan on one endpoint after another with everything but the protocol versions off."""
    off = ("ciphersuites", "fallback", "groups", "heartbleed", "renegotiation", "compression", "check-certificate")
    cpu = _cpu_seconds(resource.RUSAGE_CHILDREN)
    for address in addresses:
        command = ["sslscan", *(f"--no-{each}" for each in off), "--sni-name=host0001.bench.test", address]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return {"cpu": _cpu_seconds(resource.RUSAGE_CHILDREN) - cpu, "endpoints": len(addresses)}


def sslyze(addresses: list[str]) -> dict[str, Any]:
    """Have sslyze do its six protocol version scan commands on these endpoints."""
    from sslyze.plugins.scan_commands import ScanCommand  # noqa: PLC0415 - other jobs must not pay for it
    from sslyze.scanner.models import ServerScanRequest, ServerScanStatusEnum  # noqa: PLC0415
    from sslyze.scanner.scanner import Scanner  # noqa: PLC0415
    from sslyze.server_setting import ServerNetworkLocation  # noqa: PLC0415

    versions = ("SSL_2_0", "SSL_3_0", "TLS_1_0", "TLS_1_1", "TLS_1_2", "TLS_1_3")
    commands = {ScanCommand[f"{version}_CIPHER_SUITES"] for version in versions}
    cpu = _cpu_seconds()
    scanner = Scanner()
    scanner.queue_scans(
        [
            ServerScanRequest(ServerNetworkLocation("host0001.bench.test", int(port), host), scan_commands=commands)
            for host, _, port in (address.partition(":") for address in addresses)
        ]
    )
    results = list(scanner.get_results())
    if any(each.scan_status is not ServerScanStatusEnum.COMPLETED for each in results):
        raise RuntimeError("sslyze could not scan")
    return {"cpu": _cpu_seconds() - cpu, "endpoints": len(results)}


def our_scan(ports: list[int], limit: float) -> dict[str, Any]:
    """Scan endpoints one after the other as the exporter does, the first one with the start of the child."""
    from exporter import logs  # noqa: PLC0415 - other jobs must not pay for it
    from exporter.config import parse_config  # noqa: PLC0415
    from exporter.facts import EndpointFacts, Known, Protocol  # noqa: PLC0415
    from exporter.observe import Observer  # noqa: PLC0415
    from exporter.rules import PROFILES  # noqa: PLC0415
    from exporter.targets import Port, Target  # noqa: PLC0415

    logs.configure("error", "logfmt")
    name = "host0001.bench.test"
    config = parse_config({"servers": [name], "scan": {"timeout": f"{limit:g}s", "connections": 400}}, PROFILES)
    accepted = {each: Known(each in {Protocol.TLS_1_0, Protocol.TLS_1_1, Protocol.TLS_1_2}, 0.0) for each in Protocol}

    async def measure() -> dict[str, Any]:
        observer = Observer(config)
        seconds = []
        for number in ports:
            port = Port(number, "https", "configured")
            facts = EndpointFacts(f"{name}:{number}", "https", "configured", address="127.0.0.1", accepted=accepted)
            begin = time.monotonic()
            scan = await observer.scan(Target(name, "none", (port,)), port, facts)
            seconds.append(time.monotonic() - begin)
        await observer.close()
        return {
            "seconds": seconds,
            "failure": scan.failure and scan.failure.reason,
            "suites": sum(len(fact.value) for fact in scan.cipher_suites.values() if isinstance(fact, Known)),
        }

    return asyncio.run(measure())


def sslyze_scan(port: int) -> dict[str, Any]:
    """Have sslyze look at the same: certificates, and the cipher suites of TLS 1.0 to 1.2."""
    from sslyze.plugins.scan_commands import ScanCommand  # noqa: PLC0415 - other jobs must not pay for it
    from sslyze.scanner.models import ServerScanRequest  # noqa: PLC0415
    from sslyze.scanner.scanner import Scanner  # noqa: PLC0415
    from sslyze.server_setting import ServerNetworkLocation  # noqa: PLC0415

    commands = {ScanCommand[f"TLS_1_{minor}_CIPHER_SUITES"] for minor in range(3)} | {ScanCommand.CERTIFICATE_INFO}
    begin = time.monotonic()
    scanner = Scanner()
    location = ServerNetworkLocation("host0001.bench.test", port, "127.0.0.1")
    scanner.queue_scans([ServerScanRequest(location, scan_commands=commands)])
    (result,) = scanner.get_results()
    found = [getattr(result.scan_result, f"tls_1_{minor}_cipher_suites").result for minor in range(3)]
    return {"seconds": time.monotonic() - begin, "suites": sum(len(each.accepted_cipher_suites) for each in found)}


def scrape(port: int, scrapers: int, scrapes: int, interval: float, together: bool) -> dict[str, Any]:  # noqa: FBT001
    """Scrape over kept connections as Prometheus does: the seconds from each request to the last byte, sorted.

    Args:
        port: of the exporter.
        scrapers: how many there are.
        scrapes: what each of them does.
        interval: seconds between two of its scrapes.
        together: whether all of them ask at the same moment, or each at moments of its own.
    """
    seconds: list[float] = []
    sizes: list[int] = []
    begin = time.monotonic() + 0.5

    def run() -> None:
        phase = 0.0 if together else random.uniform(0, interval)
        buffer = memoryview(bytearray(1 << 23))
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            for number in range(scrapes):
                pause = begin + phase + number * interval - time.monotonic()
                time.sleep(max(0.0, pause))
                asked = time.perf_counter()
                sizes.append(_get(connection, buffer))
                seconds.append(time.perf_counter() - asked)

    threads = [threading.Thread(target=run) for _ in range(scrapers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": sorted(seconds), "bytes": int(statistics.median(sizes)), "asked": scrapers * scrapes}


def _get(connection: socket.socket, buffer: memoryview) -> int:
    """Read one answer; its body's length. By hand: a client library would take longer than the server does."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in PROMETHEUS.items())
    connection.sendall(f"GET /metrics HTTP/1.1\r\nHost: bench\r\n{headers}\r\n".encode())
    filled, end = 0, -1
    while end < 0:
        filled += _receive(connection, buffer[filled:])
        end = bytes(buffer[: min(filled, 4096)]).find(b"\r\n\r\n")
    head = bytes(buffer[:end]).lower()
    if not head.startswith(b"http/1.1 200") or b"content-encoding: gzip" not in head:
        raise RuntimeError(head.decode())
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while filled < end + 4 + length:
        filled += _receive(connection, buffer[filled:])
    return length


def _receive(connection: socket.socket, into: memoryview) -> int:
    count = connection.recv_into(into)
    if not count:
        raise RuntimeError("the exporter closed the connection")
    return count


def plain_client(series: int) -> dict[str, Any]:
    """What a scrape costs where prometheus_client renders a registry with that many series, as it does by itself."""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 - other jobs must not pay for it
    from prometheus_client.openmetrics.exposition import generate_latest  # noqa: PLC0415

    registry = CollectorRegistry()
    labels = ("server", "endpoint", "service", "protocol")
    gauge = Gauge("tls_readiness_protocol_accepted", "Made up.", labels, registry=registry)
    for number in range(series):
        name = f"host{number // 48:04}.bench.test"
        gauge.labels(name, f"{name}:{number // 6 % 8}", "https", f"TLS {number % 6}").set(number % 2)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        gzip.compress(generate_latest(registry))
        seconds.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(seconds)}


def facts_files(servers: int, seconds: float) -> dict[str, Any]:
    """Read that many facts files, then watch them: CPU seconds of the first reading, CPU per second afterwards."""
    from exporter import logs  # noqa: PLC0415 - other jobs must not pay for it
    from exporter.config import parse_config  # noqa: PLC0415
    from exporter.demo.machines import load  # noqa: PLC0415
    from exporter.demo.machines.document import output  # noqa: PLC0415
    from exporter.facts import Known  # noqa: PLC0415
    from exporter.refresh import Refresh  # noqa: PLC0415
    from exporter.rules import PROFILES  # noqa: PLC0415

    logs.configure("warning", "logfmt")
    machine = load("exchange-2016-cu23-on-2016")
    printed = output(machine, datetime.now(UTC))

    async def measure(folder: Path) -> dict[str, Any]:
        watched = []
        for name in (f"host{number:04}" for number in range(servers)):
            (folder / name).write_text(printed.replace(machine.fqdn, f"{name}.bench.test"), encoding="ascii")
            facts_file = {"path": str(folder / name)}
            watched.append({"name": f"{name}.bench.test", "role": "none", "facts_file": facts_file})
        cpu = _cpu_seconds()
        refresh = Refresh(parse_config({"servers": watched}, PROFILES))
        running = asyncio.create_task(refresh.run())
        while not all(isinstance(each.facts.host, Known) for each in refresh.store.latest.servers):
            await refresh.store.newer_than(refresh.store.latest)
        first = _cpu_seconds() - cpu
        await asyncio.sleep(5)
        cpu = _cpu_seconds()
        await asyncio.sleep(seconds)
        steady = (_cpu_seconds() - cpu) / seconds
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return {"first": first, "steady": steady, "bytes": len(printed)}

    with TemporaryDirectory() as folder:
        return asyncio.run(measure(Path(folder)))


def collect(config: dict[str, Any]) -> dict[str, Any]:
    """Collect from every host once: CPU seconds with the children, memory without them, the longest time of one."""
    from exporter import logs  # noqa: PLC0415 - other jobs must not pay for it
    from exporter.config import parse_config  # noqa: PLC0415
    from exporter.facts import Known  # noqa: PLC0415
    from exporter.refresh import Refresh  # noqa: PLC0415
    from exporter.rules import PROFILES  # noqa: PLC0415

    logs.configure("error", "logfmt")
    parsed = parse_config(config, PROFILES)

    async def measure() -> dict[str, Any]:
        cpu, wall = _cpu_seconds(), time.monotonic()
        snapshot = await Refresh(parsed).once()
        cpu = _cpu_seconds() + _cpu_seconds(resource.RUSAGE_CHILDREN) - cpu
        facts = [each.facts.host for each in snapshot.servers]
        return {
            "cpu": cpu,
            "wall": time.monotonic() - wall,
            "known": sum(isinstance(each, Known) for each in facts),
            "reasons": sorted({each.reason for each in facts if each.reason is not None}),
            "seconds": max(each.observations["collect"].duration for each in snapshot.servers),
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "child_megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        }

    return asyncio.run(measure())


def pywinrm(config: dict[str, Any], parallel: int) -> dict[str, Any]:
    """Have pywinrm by itself run the script on every host, in threads: no deadline, no limit, nothing tidied up."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - other jobs must not pay for it

    from winrm.protocol import Protocol  # noqa: PLC0415

    from exporter.probes.winrm.command_line import Parameters, stdin_command  # noqa: PLC0415
    from exporter.probes.winrm.script import SCRIPT  # noqa: PLC0415

    reader = config["credentials"]["reader"]
    password, line = Path(reader["password_file"]).read_text(encoding="utf-8"), stdin_command(Parameters())

    def visit(address: str) -> int:
        endpoint = f"http://{address}:{reader['port']}/wsman"
        host = Protocol(endpoint, "ntlm", reader["username"], password, message_encryption="always", proxy=None)
        shell = host.open_shell(codepage=65001)
        command = host.run_command(shell, line, console_mode_stdin=False)
        host.send_command_input(shell, command, SCRIPT, end=True)
        printed, _, _ = host.get_command_output(shell, command)
        host.cleanup_command(shell, command)
        host.close_shell(shell)
        return len(printed)

    cpu, wall = _cpu_seconds(), time.monotonic()
    with ThreadPoolExecutor(parallel) as threads:
        sizes = list(threads.map(visit, [each["address"] for each in config["servers"]]))
    return {"cpu": _cpu_seconds() - cpu, "wall": time.monotonic() - wall, "known": sum(map(bool, sizes))}


_JOBS: Final = {
    job.__name__: job
    for job in (ours, sslscan, sslyze, our_scan, sslyze_scan, facts_files, collect, pywinrm, scrape, plain_client)
}

if __name__ == "__main__":
    print(json.dumps(_JOBS[sys.argv[1]](**json.load(sys.stdin))))
