"""Measure everything and print one table. Exit 1 if a target was missed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from benchmarks import jobs
from benchmarks.daemon import Daemon, daemon
from benchmarks.figures import Figure, by_turns, percentile, print_table, spread
from benchmarks.fleet import NO_SCANS, fleet, partly_silent
from benchmarks.servers import Relay, deaf_port, free_ports, nginx, silent_port, trickling_port
from benchmarks.windows import windows_hosts
from exporter.workers import IDLE

ROUNDS: Final = 5
LOOPS: Final = {"asyncio": False, "uvloop": True}
# A sweep of the fleet takes longer than this interval: the loop is never idle while it is scraped. The age is one that
# such a sweep keeps to, or its answers would go stale meanwhile.
WITHOUT_REST: Final = {"interval": "5s", "timeout": "5s", "max_age": "10m"}


def main() -> int:
    ports = free_ports(9)
    modern, legacy = ports[:8], ports[8:]
    figures: list[Figure] = []
    with nginx(modern, legacy):
        figures += [_connections("TLS 1.2 only", modern[0]), _connections("TLS 1.0 to 1.2", legacy[0])]
        for measure, on in (
            (_scans, legacy),
            (_speed, modern),
            (_silence, modern),
            (_facts_files, modern),
            (_collections, modern),
            (_idle, modern),
            (_service, modern),
        ):
            print(f"{len(figures)} figures measured, next: {measure.__name__}", file=sys.stderr)
            figures += measure(on)
    print_table(figures)
    return 1 if any(each.met is False for each in figures) else 0


def _connections(what: str, port: int) -> Figure:
    """TCP connections that one sweep of a healthy endpoint costs it."""
    counts = []
    for job in ("ours", "sslscan", "sslyze"):
        with Relay(port) as relay:
            address = f"127.0.0.1:{relay.port}"
            if job == "ours":
                outcome = jobs.run_job(jobs.ours, config=_one(relay.port), uvloop=False)
                assert outcome["undecided"] == 0
            else:
                jobs.run_job(jobs.sslscan if job == "sslscan" else jobs.sslyze, addresses=[address])
            counts.append(relay.accepted)
    ours, sslscan, sslyze = counts
    return Figure(f"connections to an endpoint, {what}", "<= 8", str(ours), ours <= 8, str(sslscan), str(sslyze), "")


def _one(port: int) -> dict[str, Any]:
    server = {"name": "host0001.bench.test", "address": "127.0.0.1", "endpoints": [{"port": port, "service": "https"}]}
    return {"probe": {"second_opinions": 0}, "scan": NO_SCANS, "servers": [server]}


def _speed(ports: Sequence[int]) -> list[Figure]:
    """Endpoints swept in a second of CPU time, six versions each."""
    addresses = [f"127.1.0.{number}:{ports[0]}" for number in range(1, 41)]
    config = fleet(125, ports)

    def ours(*, uvloop: bool) -> float:
        return _rate(jobs.run_job(jobs.ours, config=config, uvloop=uvloop, warm=1))

    on_asyncio, on_uvloop, sslscan, sslyze = by_turns(
        ROUNDS,
        lambda: ours(uvloop=False),
        lambda: ours(uvloop=True),
        lambda: _rate(jobs.run_job(jobs.sslscan, addresses=addresses)),
        lambda: _rate(jobs.run_job(jobs.sslyze, addresses=addresses[:2])),
    )
    first = _rate(jobs.run_job(jobs.ours, config=config, uvloop=False))
    rows = []
    for loop, rates, target in (("asyncio", on_asyncio, 700), ("uvloop", on_uvloop, 1000)):
        rate = statistics.median(rates)
        times = [
            f"{rate / statistics.median(peer):.3g} x {name}"
            for peer, name in ((sslscan, "sslscan"), (sslyze, "sslyze"))
        ]
        rows.append(
            Figure(
                f"endpoints per CPU-second, {loop}",
                f">= {target:,}",
                spread(rates),
                rate >= target,
                spread(sslscan),
                spread(sslyze),
                ", ".join(times) + (f"; first sweep {first:.0f}" if loop == "asyncio" else ""),
            )
        )
    return rows


def _rate(outcome: dict[str, Any]) -> float:
    assert not outcome.get("undecided")
    return float(outcome["endpoints"] / outcome["cpu"])


def _silence(ports: Sequence[int]) -> list[Figure]:
    """How long a sweep of 1,000 endpoints takes of which 200 never answer."""
    kinds: dict[str, AbstractContextManager[int]] = {
        "accept and say nothing": silent_port(),
        "answer no SYN": deaf_port(),
    }
    rows = []
    for kind, silence in kinds.items():
        with silence as mute:
            outcome = jobs.run_job(jobs.ours, config=partly_silent(1000, 200, ports[0], mute), uvloop=False)
        rows.append(
            Figure(
                f"1,000 endpoints, 200 {kind}, s",
                "<= 25",
                f"{outcome['wall']:.1f}",
                outcome["wall"] <= 25 and outcome["undecided"] == 200,
                other=f"{outcome['undecided']} undecided, {outcome['cpu']:.1f} CPU-s; time-out 10 s",
            )
        )
    return rows


def _scans(ports: Sequence[int]) -> list[Figure]:
    """One endpoint's scan beside sslyze's own commands, and scans of servers that stall."""
    with Relay(ports[0]) as relay:
        ours = jobs.run_job(jobs.our_scan, ports=[relay.port] * 2, limit=120)
        our_connections, before = relay.accepted // 2, relay.accepted
        theirs = jobs.run_job(jobs.sslyze_scan, port=relay.port)
        their_connections = relay.accepted - before
    found = f"{ours['suites']} suites, sslyze {theirs['suites']}; the next one {ours['seconds'][1]:.2f}"
    rows = [
        Figure(
            "scan of a local endpoint, TLS 1.0 to 1.2, s",
            "<= 5",
            f"{ours['seconds'][0]:.2f}",
            ours["seconds"][0] <= 5 and not ours["failure"] and ours["suites"] == theirs["suites"],
            sslyze=f"{theirs['seconds']:.2f}",
            other=found,
        ),
        Figure("connections of that scan", "", str(our_connections), sslyze=str(their_connections)),
    ]
    stalls: dict[str, AbstractContextManager[int]] = {"says nothing": silent_port(), "trickles": trickling_port()}
    for kind, stall in stalls.items():
        with stall as port:
            ended = jobs.run_job(jobs.our_scan, ports=[ports[0], port], limit=5)
        seconds = ended["seconds"][1]
        met = abs(seconds - 5) <= 1 and ended["failure"] in {"deadline", "tls_timeout"}
        name = f"scan of a server that {kind}, scan.timeout 5 s, s"
        rows.append(Figure(name, "5 ± 1", f"{seconds:.2f}", met, other=ended["failure"]))
    return rows


def _facts_files(_: Sequence[int]) -> list[Figure]:
    """A fleet of 1,000 servers whose host facts come from files."""
    outcome = jobs.run_job(jobs.facts_files, servers=1000, seconds=20)
    read = Figure(
        "reading 1,000 facts files, CPU-s", "", f"{outcome['first']:.1f}", other=f"{outcome['bytes']} bytes each"
    )
    return [
        read,
        Figure("watching them, % of a core", "", f"{outcome['steady'] * 100:.0f}", other="looked at every 5 s"),
    ]


def _collections(_: Sequence[int]) -> list[Figure]:
    """Host facts over WinRM: a thousand hosts that take their time, what one costs, and one that trickles."""
    with windows_hosts(1000, 2.0) as config:
        thousand = jobs.run_job(jobs.collect, config=config)
    assert thousand["known"] == 1000, thousand["reasons"]
    with windows_hosts(200, 0.0) as config:  # four children, as busy as those of a large fleet are all day
        few = {**config, "collect": {"parallel_hosts": 4}}
        ours, theirs = by_turns(
            ROUNDS,
            lambda: _milliseconds(jobs.run_job(jobs.collect, config=few)),
            lambda: _milliseconds(jobs.run_job(jobs.pywinrm, config=config, parallel=4)),
        )
    with windows_hosts(1, 0.0, trickle=True) as config:
        limited = {**config, "collect": {"timeout": "8s"}}
        trickling = jobs.run_job(jobs.collect, config=limited)
    cost, peer = statistics.median(ours), statistics.median(theirs)
    alone = f"pywinrm by itself, without children, deadline and limits, {spread(theirs)}: {cost / peer:.2f} x"
    return [
        Figure(
            "1,000 Windows hosts that take 2 s each, s",
            "<= 90",
            f"{thousand['wall']:.1f}",
            thousand["wall"] <= 90,
            other=f"{thousand['cpu']:.0f} CPU-s, 32 starts of a child among them",
        ),
        Figure(
            "memory of the exporter then, MB",
            "<= 250",
            f"{thousand['megabytes']:.0f}",
            thousand["megabytes"] <= 250,
            other=f"and up to {thousand['child_megabytes']:.0f} MB in each of 32 children",
        ),
        Figure("CPU for one host, ms", "<= 60", spread(ours), cost <= 60, other=alone),
        Figure(
            "a host that trickles, collect.timeout 8 s, s",
            "8 ± 1",
            f"{trickling['seconds']:.2f}",
            abs(trickling["seconds"] - 8) <= 1 and trickling["reasons"] == ["deadline"],
            other=", ".join(trickling["reasons"]),
        ),
    ]


def _milliseconds(outcome: dict[str, Any]) -> float:
    assert outcome["known"] == 200
    return float(outcome["cpu"] / 200 * 1000)


def _idle(ports: Sequence[int]) -> list[Figure]:
    """A daemon whose scans are done: its memory while children wait, and what is left when they have waited enough."""
    with daemon(fleet(50, ports, scans=True), uvloop=False) as exporter:
        exporter.wait_until_ready(60)
        until = time.monotonic() + 300
        while exporter.count("tls_readiness_certificate_info{") < 50 * len(ports):
            assert time.monotonic() < until, "the scans do not end"
            time.sleep(1)
        memory, waiting = exporter.megabytes("VmRSS"), len(exporter.children())
        begin = time.monotonic()
        while exporter.children() and time.monotonic() - begin < IDLE + 20:
            time.sleep(1)
        left, seconds = len(exporter.children()), time.monotonic() - begin
    return [
        Figure(
            "memory with the children idle, 50 servers x 8, MB",
            "<= 120",
            f"{memory:.0f}",
            memory <= 120,
            other=f"{waiting} children wait",
        ),
        Figure(
            f"children after {IDLE:.0f} idle seconds", "0", str(left), left == 0, other=f"gone after {seconds:.0f} s"
        ),
    ]


def _service(ports: Sequence[int]) -> list[Figure]:
    """A daemon that watches 1,000 servers x 8 endpoints without rest while ten scrapers scrape it."""
    rows = []
    for loop, uvloop in LOOPS.items():
        with daemon(fleet(1000, ports, WITHOUT_REST), uvloop=uvloop) as exporter:
            exporter.wait_until_ready(120)
            rows += _scrapes(exporter, loop)
    return rows


def _scrapes(exporter: Daemon, loop: str) -> list[Figure]:
    _, text = exporter.get("/metrics")
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    plain = float(jobs.run_job(jobs.plain_client, series=series)["seconds"])
    rows = []
    for how, together, target in (("each at its own moments", False, 50), ("all at once", True, None)):
        cpu = exporter.cpu_seconds()
        outcome = jobs.run_job(
            jobs.scrape, port=exporter.port, scrapers=10, scrapes=40, interval=1.0, together=together
        )
        cpu = exporter.cpu_seconds() - cpu
        seconds = outcome["seconds"]
        middle, p99 = percentile(seconds, 0.5), percentile(seconds, 0.99)
        rows.append(
            Figure(
                f"scrape p99, ten scrapers, {how}, {loop}, ms",
                f"<= {target}" if target else "",
                f"{p99 * 1000:.1f}",
                p99 * 1000 <= target if target else None,
                other=f"median {middle * 1000:.1f}, longest {seconds[-1] * 1000:.1f}, {len(seconds)} scrapes; "
                f"{cpu / 40:.0%} of a core",
            )
        )
    rows.append(
        Figure(
            f"a scrape of {series:,} series, median, {loop}, ms",
            "",
            f"{middle * 1000:.1f}",
            other=f"prometheus_client by itself {plain * 1000:.0f} ms: {plain / middle:.0f} x; "
            f"{len(text) / 1e6:.1f} MB plain, {outcome['bytes'] / 1e6:.2f} MB gzip",
        )
    )
    highest = exporter.megabytes("VmHWM")
    rows.append(
        Figure(
            f"memory at its highest, 1,000 servers x 8, {loop}, MB",
            "<= 200",
            f"{highest:.0f}",
            highest <= 200,
            other=f"{exporter.megabytes('VmRSS'):.0f} at the end",
        )
    )
    return rows


if __name__ == "__main__":
    sys.exit(main())
