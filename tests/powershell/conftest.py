"""Says at the end of a run whether the collector script itself ran, and where."""

from __future__ import annotations

from collections import Counter

import pytest
from powershell.harness import BATCH, NOT_RUN, POWERSHELL


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line, in runs without failures as well."""
    if POWERSHELL is None:
        terminalreporter.write_line(NOT_RUN)
    for version, documents in Counter(BATCH.versions).items():
        terminalreporter.write_line(f"the collector script wrote {documents} documents on PowerShell {version}")
