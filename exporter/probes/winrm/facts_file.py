"""Host facts from a file: where no WinRM leads to a server, somebody puts the collector script's output there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from exporter.facts import UNSEEN, Fact, HostFacts, Missing, Reason
from exporter.files import stamp
from exporter.probes.winrm.document import MAX_BYTES, read_document

_AHEAD: Final = 3600.0
"""Seconds that a host's clock may be ahead of ours: facts from the future would never be too old."""


@dataclass(frozen=True, slots=True)
class FactsFile:
    """What a facts file held when it was read last.

    Attributes:
        stamp: what would change with its content; None where it could not be read.
        facts: what it says, however old, or why it cannot be used.
    """

    stamp: tuple[int, ...] | None = None
    facts: Fact[HostFacts] = UNSEEN


NOT_LOOKED_AT: Final = FactsFile()
"""Before the first look."""


def look(path: Path, server: str, before: FactsFile) -> FactsFile:
    """Read the file if it is not as it was before. Blocks on the file system.

    Args:
        path: the file.
        server: the configured name, which the host must have.
        before: what the last look found; returned as it is when nothing else is found now.
    """
    now = stamp(path)
    if now is not None and now == before.stamp:
        return before
    try:
        found = FactsFile(now, read_document(_read(path), server))
    except (OSError, ValueError) as error:
        found = FactsFile(None, Missing(Reason.FILE_UNREADABLE, getattr(error, "strerror", None) or str(error)))
    if isinstance(found.facts, Missing):
        found = replace(found, facts=_of(path, found.facts))
    return before if found == before else found


def standing(path: Path, facts: Fact[HostFacts], now: float, max_age: float) -> Fact[HostFacts]:
    """The facts while they stand: not from the future, and by their own clock not older than ``max_age`` seconds."""
    if isinstance(facts, Missing):
        return facts
    collected = f"collected at {datetime.fromtimestamp(facts.at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    if facts.at > now + _AHEAD:
        return _of(path, Missing(Reason.BAD_DOCUMENT, f"{collected}, which is to come: one of the clocks is wrong"))
    if now - facts.at > max_age:
        return _of(path, Missing(Reason.STALE, f"{collected}, older than max_age"))
    return facts


def not_read(path: Path, why: str) -> FactsFile:
    """What is known of a file that takes too long to read, as on a network file system whose server is gone."""
    return FactsFile(None, _of(path, Missing(Reason.DEADLINE, why)))


def _of(path: Path, missing: Missing) -> Missing:
    return Missing(missing.reason, f"{path}: {missing.detail}")


def _read(path: Path) -> bytes:
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        return file.read(MAX_BYTES + 1)


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe waits for somebody who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)
