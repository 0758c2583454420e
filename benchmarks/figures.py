"""A measured figure, and the table that they are printed as."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    Attributes:
        name: what was measured, with its unit.
        target: what is to be reached; "" where the row only explains another.
        ours: what the exporter reached.
        met: whether that is the target; None where there is none.
        sslscan: the same of sslscan; "" where it has nothing of the kind.
        sslyze: the same of sslyze.
        other: the same of prometheus_client by itself, or another remark.
    """

    name: str
    target: str
    ours: str
    met: bool | None = None
    sslscan: str = ""
    sslyze: str = ""
    other: str = ""


def print_table(figures: Sequence[Figure]) -> None:
    """Print the figures side by side, as Markdown: docs/performance.md has it as it was printed."""
    table = Table(box=MARKDOWN)
    for heading in ("figure", "to reach", "ours", "", "sslscan", "sslyze", "remark"):
        table.add_column(heading)
    for each in figures:
        mark = {True: "met", False: "MISSED", None: ""}[each.met]
        table.add_row(each.name, each.target, each.ours, mark, each.sslscan, each.sslyze, each.other)
    Console(width=400, highlight=False).print(table)


def by_turns(rounds: int, *measure: Callable[[], float]) -> list[list[float]]:
    """Take each measurement in turn, several times over: what disturbs this machine then disturbs all of them."""
    taken = [[each() for each in measure] for _ in range(rounds)]
    return [list(column) for column in zip(*taken, strict=True)]


def spread(values: Sequence[float]) -> str:
    """The median with the lowest and the highest."""
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
