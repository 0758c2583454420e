"""What this process and its worker processes hold, for long runs in which nothing may grow."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Size:
    """What the exporter and its children hold."""

    megabytes: float
    descriptors: int
    threads: int
    tasks: int
    children: int
    child_megabytes: float


def assert_nothing_grew(sizes: Sequence[Size]) -> None:
    """The last third of a run holds what the first third did."""
    third = len(sizes) // 3
    first, last = sizes[:third], sizes[-third:]
    for figure in ("descriptors", "threads", "tasks", "children"):
        assert max(getattr(each, figure) for each in last) <= max(getattr(each, figure) for each in first), figure
    for figure in ("megabytes", "child_megabytes"):
        before, after = (statistics.median(getattr(each, figure) for each in part) for part in (first, last))
        assert after <= before * 1.1 + 2, figure


def size_now() -> Size:
    workers = children()
    return Size(
        megabytes=_megabytes(os.getpid()),
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
        children=len(workers),
        child_megabytes=max(map(_megabytes, workers), default=0.0),
    )


def children() -> list[int]:
    """The worker processes of this one, dead ones that were not waited for included; not the TLS server."""
    return [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
        if b"s_server" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def _megabytes(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
