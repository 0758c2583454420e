"""Draw docs/images/demo.svg, the README's picture: what `tls-readiness demo` prints first, without suites."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from exporter import logs
from exporter.config import parse_config
from exporter.demo import DemoFleet
from exporter.exposition.table import tables
from exporter.refresh import Refresh
from exporter.rules import PROFILES
from exporter.snapshot import Snapshot

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "demo.svg"


def main() -> None:
    """Observe the demo's fleet once and draw the outcome."""
    logs.configure("warning", "logfmt")
    with DemoFleet() as fleet:
        snapshot = asyncio.run(_sweep(fleet))
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        console = Console(width=122, record=True, file=nowhere, force_terminal=True, highlight=False)
        console.print(tables(snapshot))
        svg = console.export_svg(title="tls-readiness demo", theme=MONOKAI)
    # rich fetches its font from the network; a picture must not.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(svg, encoding="utf-8")


async def _sweep(fleet: DemoFleet) -> Snapshot:
    document = fleet.configuration()
    document["scan"]["cipher_suites"] = False  # a picture has to end somewhere
    return await Refresh(parse_config(document, PROFILES)).once()


if __name__ == "__main__":
    main()
