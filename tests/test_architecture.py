"""The one direction of data: who may import whom, and which file owns which foreign library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "exporter"

MAY_IMPORT: dict[str, set[str]] = {
    "facts": set(),
    "config": set(),
    "logs": set(),
    "files": set(),
    "threads": set(),
    "targets": {"config", "files"},
    "probes": set(),
    "workers": set(),
    "probes.printable": set(),
    "probes.certificates": {"facts", "probes.printable"},
    "probes.tls": {"facts", "targets", "config", "workers", "threads", "probes.printable", "probes.certificates"},
    "probes.winrm": {"facts", "files", "workers", "probes.printable", "probes.certificates"},
    "credentials": {"config", "facts", "threads"},
    "collect": {
        *("config", "credentials", "targets", "facts", "workers"),
        *("probes.tls", "probes.winrm", "probes.printable"),
    },
    "observe": {"config", "targets", "facts", "probes.tls", "probes.winrm", "probes.printable", "threads", "workers"},
    "verdicts": {"facts"},
    "rules": {"verdicts", "facts"},
    "snapshot": {"targets", "facts", "verdicts"},
    "refresh": {
        *("config", "targets", "facts", "probes.tls", "probes.winrm", "observe", "collect"),
        *("verdicts", "rules", "snapshot"),
    },
    "exposition": {"snapshot", "verdicts", "facts"},
    "server": {"config", "exposition", "snapshot"},
    "demo": {"probes.winrm"},
}
"""Per room, the rooms below it that it may use. cli may use all."""

OWNERS = {
    "tlslite": {"probes.tls", "demo"},
    "aiohttp": {"server"},
    "prometheus_client": {"exposition"},
    "yaml": {"config", "rules", "demo"},
    "pydantic": {"config", "targets", "probes.tls", "probes.winrm", "observe"},
    "pydantic_core": {"config"},
    "rich": {"cli", "exposition"},
    "typer": {"cli"},
    "uvloop": {"cli"},
    "trustme": {"demo"},
    "structlog": {"logs", "cli", "refresh", "observe", "collect", "server"},
    "sslyze": {"probes.tls"},
    "nassl": {"probes.tls"},
    "cryptography": {"probes.certificates", "probes.tls", "probes.winrm", "demo"},
    "service_identity": {"probes.tls"},
    "winrm": {"probes.winrm"},
    "requests": {"probes.winrm"},
    "urllib3": {"probes.winrm"},
    "spnego": {"demo"},
}
"""Per foreign library, the rooms that may import it."""


def _room(module: str) -> str:
    """The room that a module below ``exporter`` belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "probes" and len(parts) > 1 else parts[0]


def _modules() -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"), path)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE or path.name not in {"__init__.py", "__main__.py"}
    ]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module))
            if node.module == "exporter":
                found |= {f"exporter.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_follow_the_one_direction(module: str, path: Path) -> None:
    """Every import of ours points the way that data flows."""
    room = _room(module)
    if room == "cli":
        return
    ours = {name.removeprefix("exporter.") for name in _imports(path) if name.startswith("exporter.")}
    used = {_room(name) for name in ours} - {room}

    assert used <= MAY_IMPORT[room]


@pytest.mark.parametrize(("module", "path"), _modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_foreign_libraries_have_owners(module: str, path: Path) -> None:
    """Every third-party import is in the table, in a room that owns it."""
    foreign = {name.split(".")[0] for name in _imports(path)} - set(sys.stdlib_module_names) - {"exporter"}

    for library in foreign:
        assert _room(module) in OWNERS.get(library, set()), f"{module} imports {library}"


def test_one_file_owns_sslyze() -> None:
    """All that we rely on of it is in one place, and held by tests/probes/tls/test_handshake.py."""
    importers = {
        module for module, path in _modules() if {name.split(".")[0] for name in _imports(path)} & {"sslyze", "nassl"}
    }

    assert importers == {"probes.tls.handshake"}


def test_the_table_of_rooms_is_complete() -> None:
    """A new file has a place in the table."""
    assert {_room(module) for module, _ in _modules()} == {*MAY_IMPORT, "cli"}


def test_the_exporter_itself_never_imports_sslyze() -> None:
    """Its OpenSSL, its threads and its memory are the children's."""
    code = "import exporter.cli, exporter.demo, sys; sys.exit(sorted({'sslyze', 'nassl'} & {*sys.modules}) or 0)"

    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_only_refresh_and_the_sweep_know_time() -> None:
    """Facts, verdicts and rules read no clock: what they say follows from their arguments."""
    pure = [
        PACKAGE / "verdicts.py",
        *(path for room in ("facts", "rules") for path in sorted((PACKAGE / room).glob("*.py"))),
    ]
    for path in pure:
        assert not _imports(path) & {"time", "datetime", "asyncio", "socket", "os", "random"}, path


def test_constraints_name_no_index() -> None:
    """The lock file pins and hashes, and says nothing about where packages come from."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")

    assert "--hash=sha256:" in text
    assert "://" not in text
    assert "--index" not in text


def test_requirements_are_a_closed_part_of_the_constraints() -> None:
    """What `make` installs for the package alone leaves the tools of developers out, and nothing that it needs."""
    script = [sys.executable, str(ROOT / "scripts" / "requirements.py")]
    base = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    bench = subprocess.run([*script, "bench"], capture_output=True, text=True, check=True).stdout

    assert {"aiohttp==", "multidict==", "tlslite-ng==", "ecdsa==", "sslyze==", "nassl==", "hatchling=="} <= _pins(base)
    assert not {"pytest==", "mypy==", "uvloop=="} & _pins(base)
    assert {"sslyze==", "nassl==", "uvloop=="} <= _pins(bench)


def _pins(text: str) -> set[str]:
    return {line.split("==")[0] + "==" for line in text.splitlines() if line[:1].isalpha()}
