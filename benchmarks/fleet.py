"""Fleets of made-up names on loopback addresses, as the configuration describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def server(number: int, ports: Sequence[int]) -> dict[str, Any]:
    """One server with an address of its own."""
    return {
        "name": f"host{number:04}.bench.test",
        "address": f"127.1.{number // 250}.{number % 250 + 1}",
        "endpoints": [{"port": port, "service": "https"} for port in ports],
    }


def fleet(servers: int, ports: Sequence[int], **probe: str) -> dict[str, Any]:
    """A configuration of that many servers with the same ports each."""
    return {"probe": probe, "servers": [server(number, ports) for number in range(servers)]}


def partly_silent(servers: int, silent: int, port: int, silent_port: int) -> dict[str, Any]:
    """Servers with one endpoint each; evenly strewn among them those that never answer. All else is the default."""
    every = servers // silent
    ports = [silent_port if number % every == every - 1 else port for number in range(servers)]
    return {"servers": [server(number, [each]) for number, each in enumerate(ports)]}
