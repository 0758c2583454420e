"""Host facts from a file: where no WinRM leads to a server, somebody puts the collector script's output there."""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.facts import UNSEEN, Fact, HostFacts, Known, Missing, Reason
from exporter.files import stamp
from exporter.probes.winrm.document import MAX_BYTES, read_document

_AHEAD: Final = 3600.0
"""Seconds that a host's clock may be ahead of ours: facts from the future would never be too old."""


@dataclass(frozen=True, slots=True)
class FactsFile:
    """What a facts file held when it was read last.

    Attributes:
        stamp: what would change with its content; None where there was no such file.
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
        before: what the last look found.
    """
    now = stamp(path)
    if now is not None and now == before.stamp:
        return before
    try:
        output = _read(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return FactsFile(now, Missing(Reason.FILE_UNREADABLE, f"{path}: {reason}"))
    return FactsFile(now, _not_ahead(read_document(output, server)))


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")  # reading a pipe would wait for ever
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _not_ahead(facts: Fact[HostFacts]) -> Fact[HostFacts]:
    now = time.time()
    if isinstance(facts, Known) and facts.at > now + _AHEAD:
        ahead = f"its clock is {facts.at - now:.0f} s ahead, and {_AHEAD:.0f} s is the limit"
        return Missing(Reason.BAD_DOCUMENT, ahead)
    return facts
