"""Fleets of made-up names on loopback addresses, as the configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final


def server(number: int, ports: Sequence[int]) -> dict[str, Any]:
    """One server with an address of its own."""
    return {
        "name": f"host{number:04}.bench.test",
        "address": f"127.1.{number // 250}.{number % 250 + 1}",
        "endpoints": [{"port": port, "service": "https"} for port in ports],
    }


NO_SCANS: Final = {"certificates": False, "cipher_suites": False}
"""What the figures of the sweep are measured with."""


def fleet(
    servers: int, ports: Sequence[int], probe: Mapping[str, str] | None = None, *, scans: bool = False
) -> dict[str, Any]:
    """A configuration of that many servers with the same ports each."""
    watched = [server(number, ports) for number in range(servers)]
    # First sights would keep the children busy through figures that are about the sweep.
    opinions = {} if scans else {"second_opinions": 0}
    return {"probe": {**opinions, **(probe or {})}, "scan": {} if scans else NO_SCANS, "servers": watched}


def partly_silent(servers: int, silent: int, port: int, silent_port: int) -> dict[str, Any]:
    """Servers with one endpoint each; evenly strewn among them those that never answer. No scans, else the defaults."""
    every = servers // silent
    ports = [silent_port if number % every == every - 1 else port for number in range(servers)]
    return {"scan": NO_SCANS, "servers": [server(number, [each]) for number, each in enumerate(ports)]}
