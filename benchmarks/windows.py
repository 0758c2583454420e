"""Simulated Windows hosts in a process of their own: their CPU time and memory must not count as ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from exporter.demo.machines import load
from exporter.demo.winrm.host import Account, WindowsHost
from exporter.demo.winrm.misbehaviour import Seen, Trickle
from exporter.demo.winrm.service import SimulatedHosts
from exporter.probes.winrm.script import SHA256

ACCOUNT: Final = Account("BENCH", "reader", "not-a-secret-1")
_MACHINE: Final = load("exchange-2016-cu23-on-2016")


@contextmanager
def windows_hosts(count: int, takes: float, *, trickle: bool = False) -> Iterator[dict[str, Any]]:
    """So many hosts whose script runs for some seconds, as a configuration that collects from them.

    Args:
        count: how many.
        takes: seconds that the script runs.
        trickle: whether they give its output a byte a second.
    """
    command = [sys.executable, "-m", "benchmarks.windows", str(count), str(takes), str(int(trickle))]
    root = Path(__file__).resolve().parent.parent
    hosts = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    with hosts, TemporaryDirectory() as folder:
        assert hosts.stdout is not None
        port = int(hosts.stdout.readline())
        password = Path(folder, "password")
        password.write_text(ACCOUNT.password, encoding="utf-8")
        reader = {"auth": "ntlm", "username": ACCOUNT.name, "password_file": str(password), "port": port}
        servers = [{"name": _name(each), "address": _address(each), "role": "none"} for each in range(count)]
        yield {"credentials": {"reader": reader}, "defaults": {"credentials": "reader"}, "servers": servers}
        assert hosts.stdin is not None
        hosts.stdin.close()
        hosts.wait(30)


def _name(number: int) -> str:
    return f"host{number:04}.bench.test"


def _address(number: int) -> str:
    return f"127.2.{number // 250}.{number % 250 + 1}"


def _dribble(seen: Seen) -> Trickle | None:
    return Trickle(1.0, whole=200) if seen.operation == "Receive" else None


def _serve(count: int, takes: float, *, trickle: bool) -> None:
    port = 0
    with SimulatedHosts() as hosts:
        for number in range(count):
            host = WindowsHost.from_machine(
                replace(_MACHINE, fqdn=_name(number)),
                script_sha256=SHA256,
                accounts=[ACCOUNT],
                takes=takes,
                misbehave=_dribble if trickle else None,
            )
            port = hosts.start(host, _address(number), port).port
        print(port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]), trickle=sys.argv[3] == "1")
