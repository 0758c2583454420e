"""The exporter as a process of its own, as it runs in service."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.jobs import PROMETHEUS
from benchmarks.servers import free_ports, wait_for_port

# The daemon takes uvloop where it is installed; None in its place makes the import fail as if it were not.
_WITHOUT_UVLOOP: Final = "import sys; sys.modules['uvloop'] = None; from exporter.cli import main; main()"
_WITH_UVLOOP: Final = "from exporter.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running exporter."""

    pid: int
    port: int

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask for a page: its status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=PROMETHEUS)
            answer = connection.getresponse()
            body = answer.read()
            packed = answer.getheader("Content-Encoding") == "gzip"
            return answer.status, gzip.decompress(body) if packed else body

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until every server has been swept once."""
        until = time.monotonic() + seconds
        # Ready runs ahead of the metrics by a rendering.
        while self.get("/-/ready")[0] != 200 or b'"not_observed_yet"' in self.protocols_unknown():
            if time.monotonic() > until:
                raise RuntimeError("the first sweep does not end")
            time.sleep(0.2)

    def protocols_unknown(self) -> bytes:
        """The lines of the metrics for versions of which nothing is known."""
        lines = self.get("/metrics")[1].splitlines()
        return b"\n".join(line for line in lines if line.startswith(b"tls_readiness_protocol_unknown{"))

    def count(self, prefix: str) -> int:
        """How many lines of the metrics begin so."""
        return sum(line.startswith(prefix.encode()) for line in self.get("/metrics")[1].splitlines())

    def children(self) -> list[int]:
        """Its child processes."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text(encoding="ascii").split()]

    def megabytes(self, key: str) -> float:
        """A figure of the process's memory: VmRSS is the present one, VmHWM the highest so far."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        _, body = self.get("/metrics")
        found = re.search(rb"^process_cpu_seconds_total (\S+)$", body, re.MULTILINE)
        assert found is not None
        return float(found[1])


@contextlib.contextmanager
def daemon(config: dict[str, Any], *, uvloop: bool) -> Iterator[Daemon]:
    """Run ``tls-readiness serve`` with a configuration."""
    (port,) = free_ports(1)
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="bench-daemon-") as folder:
        file = Path(folder) / "tls-readiness.yml"
        file.write_text(json.dumps(config), encoding="utf-8")
        code = _WITH_UVLOOP if uvloop else _WITHOUT_UVLOOP
        options = [f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        with subprocess.Popen([sys.executable, "-c", code, "serve", *options], cwd=root) as process:
            try:
                wait_for_port(port, process, 60)
                yield Daemon(process.pid, port)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
