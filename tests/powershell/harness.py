"""Runs the collector script under a PowerShell, on virtual machines.

The script is taken as it is, but for the one expression that opens a registry key. Behind the region that holds
everything that touches Windows come stand-ins for it, ``access.ps1``, and the machine as PowerShell literals. The
PowerShell is that of the environment variable PWSH, or pwsh on the path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from powershell.virtual import World, literal, virtual

SCRIPT: Final = Path(__file__).parents[2] / "exporter" / "probes" / "winrm" / "collect.ps1"
POWERSHELL: Final = os.environ.get("PWSH") or shutil.which("pwsh")
"""What runs scripts here, or None."""

NOT_RUN: Final = "the collector script did not run: there is no pwsh here"
TIME_LIMIT: Final = 60.0
"""Seconds for one process; each starts in about one."""

AT_ONCE: Final = 4
"""Processes."""

TOGETHER: Final = 8
"""Runs that share a process."""

BEGIN: Final = "-----BEGIN TLS READINESS DOCUMENT-----\r\n"
END: Final = "\r\n-----END TLS READINESS DOCUMENT-----\r\n"

ACCESS: Final = (Path(__file__).parent / "access.ps1").read_text(encoding="ascii")
"""The stand-ins."""

_OPEN: Final = "[Microsoft.Win32.Registry]::LocalMachine.OpenSubKey($path)"
_AFTER_EACH: Final = "=====after-each====="
_VERSION: Final = re.compile(r'"powershell":\{"version":"([^"]*)"')


def _log_folders(world: World, below: Path) -> dict[str, str]:
    """The logs as real files; per folder, the real one. Each file is a minute newer than the one before."""
    folders: dict[str, str] = {}
    for number, folder in enumerate(
        dict.fromkeys([str(PureWindowsPath(path).parent) for path in world.logs] + [*world.folders])
    ):
        real = below / str(number)
        real.mkdir(parents=True)
        folders[folder.lower()] = str(real)
    for number, (path, content) in enumerate(world.logs.items()):
        file = Path(folders[str(PureWindowsPath(path).parent).lower()]) / PureWindowsPath(path).name
        file.write_bytes(content)
        os.utime(file, (1.6e9 + 60 * number, 1.6e9 + 60 * number))
    return folders


def access_region(script: str) -> tuple[str, str, str]:
    """What is before it, the region, what is behind it."""
    before, opening, rest = script.partition("#region access")
    region, closing, behind = rest.partition("#endregion\n")
    if not (opening and closing):
        raise ValueError("the script has no region of that name")
    return before, opening + region + closing, behind


def functions(script: str) -> set[str]:
    """The names of those that the script defines."""
    return set(re.findall(r"^function ([\w-]+)", script, re.MULTILINE))


def scripted(world: World, folder: Path) -> Path:
    """The script for that world, as a file in the folder."""
    logs = _log_folders(world, folder / "logs")
    before, region, behind = access_region(SCRIPT.read_text(encoding="ascii"))
    if region.count(_OPEN) != 1:
        raise ValueError("keys are opened otherwise than they were")
    path = folder / "collect.ps1"
    region = region.replace(_OPEN, "Open-VirtualKey $path")
    path.write_text(before + region + virtual(world, logs, folder / "nowhere") + ACCESS + behind, encoding="ascii")
    return path


def powershell(script: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """A run of a script file.

    Raises:
        subprocess.TimeoutExpired: after the time limit.
    """
    command = [str(POWERSHELL), "-NoProfile", "-NonInteractive", "-File", str(script), *arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=TIME_LIMIT, stdin=subprocess.DEVNULL)


def with_functions(code: str, folder: Path) -> Path:
    """Some PowerShell behind the script's functions, the real access functions among them, as a file in the folder."""
    beginning, marker, _ = SCRIPT.read_text(encoding="ascii").partition("# What is read\n")
    assert marker
    path = folder / "snippet.ps1"
    path.write_text(beginning + code, encoding="ascii")
    return path


def snippet(code: str) -> str:
    """What some PowerShell prints that comes behind the script's functions."""
    with tempfile.TemporaryDirectory() as folder:
        done = powershell(with_functions(code, Path(folder)))
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "replace")


def read(output: str) -> dict[str, Any]:
    """The document, which must be all that there is, in strict JSON.

    Raises:
        AssertionError: there is something else.
    """
    assert output.isascii(), output
    assert output.replace("\r\n", "").isprintable(), output
    assert output.startswith(BEGIN), output
    assert output.endswith(END), output
    document = json.loads(
        output.removeprefix(BEGIN).removesuffix(END), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
    )
    assert isinstance(document, dict)
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    """Without what depends on the engine and the time, and without the mark of simulations."""
    sections = {
        name: {key: value for key, value in section.items() if key != "milliseconds"}
        for name, section in document["sections"].items()
    }
    powershell = {"redirected": document["powershell"]["redirected"]}
    kept = {key: value for key, value in document.items() if key not in {"collected_at", "simulation"}}
    return {**kept, "sections": sections, "powershell": powershell}


@dataclass(eq=False)
class Planned:
    """A run that is still to come, of a batch.

    Attributes:
        batch: that it is part of.
        write: writes a script file into a folder.
        arguments: of the script, as PowerShell has them.
        output: what it wrote, once it ran.
    """

    batch: Batch
    write: Callable[[Path], Path]
    arguments: str = ""
    output: str | None = None

    @cached_property
    def text(self) -> str:
        """What the script wrote; the first to ask makes the whole batch run."""
        if self.output is None:
            self.batch.run()
        assert self.output is not None
        return self.output

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document that the script wrote."""
        return read(self.text)

    def items(self, section: str) -> dict[str, Any]:
        """A section of it in which nothing went wrong."""
        found = self.document["sections"][section]
        assert found["errors"] == {}
        items = found["items"]
        assert isinstance(items, dict)
        return items


@dataclass
class Batch:
    """Runs that share processes, because starting a PowerShell takes longest.

    Attributes:
        planned: those that did not run yet.
        versions: the PowerShell's, one of each document that was written.
    """

    planned: list[Planned] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def later(self, world: World, *, usage_megabytes: int = 0, pending_updates: bool = False) -> Planned:
        """Plan a run of the script, with these of its options."""
        arguments = [f"-UsageMegabytes {usage_megabytes}"] if usage_megabytes else []
        arguments += ["-PendingUpdates"] if pending_updates else []
        return self._plan(Planned(self, partial(scripted, world), " ".join(arguments)))

    def snippet_later(self, code: str) -> Planned:
        """Plan a run of some PowerShell behind the script's functions; it writes to the console."""
        return self._plan(Planned(self, partial(with_functions, code)))

    def _plan(self, run: Planned) -> Planned:
        self.planned.append(run)
        return run

    def run(self) -> None:
        """All that are planned, a few processes at a time."""
        planned, self.planned = self.planned, []
        shares = [planned[start : start + TOGETHER] for start in range(0, len(planned), TOGETHER)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for share, outputs in zip(shares, pool.map(_run_together, shares), strict=True):
                for run, output in zip(share, outputs, strict=True):
                    run.output = output
                    self.versions += _VERSION.findall(output)


def _run_together(share: Sequence[Planned]) -> list[str]:
    """In one process, one after another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "all.ps1"
        script.write_text(
            "".join(_call(run, folder / str(number)) for number, run in enumerate(share)), encoding="ascii"
        )
        done = powershell(script)
        outputs = done.stdout.decode("utf-8", "replace").split(f"{_AFTER_EACH}\n")
        if len(outputs) != len(share) + 1:
            raise AssertionError((done.returncode, done.stdout, done.stderr))
        return outputs[:-1]


def _call(run: Planned, folder: Path) -> str:
    folder.mkdir()
    path = run.write(folder)
    return (
        "$culture = [System.Threading.Thread]::CurrentThread.CurrentCulture\n"
        f"try {{ & {literal(str(path))} {run.arguments} }} catch {{ [Console]::Out.Write('failed: ' + $_) }}\n"
        "[System.Threading.Thread]::CurrentThread.CurrentCulture = $culture\n"
        f'[Console]::Out.Write("{_AFTER_EACH}`n")\n'
    )


BATCH: Final = Batch()
"""All runs of the tests."""
