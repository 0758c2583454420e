"""The command lines that bring a script to a host, run by a PowerShell: it is the same script there, and runs whole."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from powershell.harness import AT_ONCE, NOT_RUN, POWERSHELL, TIME_LIMIT, comparable, read, scripted
from powershell.virtual import world_of

from exporter.demo.machines import load
from exporter.demo.machines.document import document as written
from exporter.probes.winrm.command_line import Parameters, deflate_command, stdin_command
from exporter.probes.winrm.script import SCRIPT, VERSION

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)

SMALL = rb"""<#
A comment, with "quotes", 'quotes' and a `tick.

#>
param([int]$UsageMegabytes = 0, [switch]$PendingUpdates)

Set-StrictMode -Version 2.0
$text = @'
first

    "third" $notExpanded
'@

function Write-Twice([string]$what) {
    if ($what -ne '') {

        $what
    }
    else { throw 'nothing' }
    # a comment at the end
    $what
}

[Console]::Out.Write("<$UsageMegabytes $PendingUpdates>" + $text.Replace("`r", '') + '|' + $text.Length)
try { Write-Twice '' } catch { [Console]::Out.Write('|' + $_) }
[Console]::Out.Write('|' + (@(Write-Twice 'x') -join ','))
[Console]::Out.Write('|' + @($input).Length)"""

MACHINE = load("exchange-2013-cu23-on-2012-r2")
AT = datetime(2026, 11, 22, 20, tzinfo=UTC)


def _over_input(script: bytes, parameters: Parameters) -> str:
    return _run(stdin_command(parameters), script)


def _packed(script: bytes, parameters: Parameters) -> str:
    return _run(deflate_command(script, parameters), b"")


def _run(line: str, standard_input: bytes) -> str:
    """What a command line prints; in square brackets what it ends with, if that is not success."""
    # As CommandLineToArgvW splits what has no quotes within quotes.
    _, *arguments = (quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line))
    done = subprocess.run(
        [str(POWERSHELL), *arguments], check=False, capture_output=True, timeout=TIME_LIMIT, input=standard_input
    )
    assert bool(done.stderr) is bool(done.returncode)
    return done.stdout.decode("utf-8", "replace") + (f"[{done.returncode}]" if done.returncode else "")


WAYS = {"standard input": _over_input, "deflate": _packed}


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool


Runs = dict[tuple[str, str], Future[str]]


@pytest.fixture(scope="module")
def runs(pool: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All of them, a few at a time, because starting a PowerShell takes longest."""
    simulated = _simulated(tmp_path_factory.mktemp("machine"))
    begun: Runs = {}
    for name, way in WAYS.items():
        begun[name, "small"] = pool.submit(way, SMALL, Parameters())
        begun[name, "parameters"] = pool.submit(way, SMALL, Parameters(7, pending_updates=True))
        begun[name, "broken"] = pool.submit(way, b"if (", Parameters())
        begun[name, "collector"] = pool.submit(way, SCRIPT, Parameters(usage_megabytes=1))
    begun["standard input", "line breaks"] = pool.submit(_over_input, SMALL.replace(b"\n", b"\r\n"), Parameters())
    begun["standard input", "machine"] = pool.submit(_over_input, simulated, Parameters(usage_megabytes=1))
    begun["standard input", "nothing"] = pool.submit(_over_input, b"", Parameters())
    return begun


def _simulated(folder: Path) -> bytes:
    return scripted(world_of(MACHINE, AT), folder).read_bytes()


TEXT = 'first\n\n    "third" $notExpanded'


@pytest.mark.parametrize("way", WAYS)
def test_a_script_arrives_as_it_is(way: str, runs: Runs) -> None:
    """With blank lines, here-strings, comments, a param block and strict mode; nothing of it is left as input."""
    assert runs[way, "small"].result() == f"<0 False>{TEXT}|{len(TEXT)}|nothing|x,x|0"


@pytest.mark.parametrize("way", WAYS)
def test_it_gets_its_parameters(way: str, runs: Runs) -> None:
    assert runs[way, "parameters"].result().startswith("<7 True>first")


def test_line_breaks_of_windows_arrive_as_one_character(runs: Runs) -> None:
    assert runs["standard input", "line breaks"].result() == runs["standard input", "small"].result()


@pytest.mark.parametrize("way", WAYS)
def test_the_collector_writes_a_document(way: str, runs: Runs) -> None:
    """The script as it is: here is no Windows to read, so that it says of each section what failed."""
    document = read(runs[way, "collector"].result())

    assert document["script_version"] == VERSION
    assert "usage" in document["sections"]


def test_over_standard_input_it_reads_what_it_reads_from_a_file(runs: Runs) -> None:
    document = read(runs["standard input", "machine"].result())

    assert comparable(document) == comparable(written(MACHINE, AT, usage_megabytes=1))


def test_without_a_script_nothing_is_printed(runs: Runs) -> None:
    """What a host looks like where standard input does not arrive."""
    assert runs["standard input", "nothing"].result() == ""


@pytest.mark.parametrize("way", WAYS)
def test_a_script_that_does_not_parse_prints_nothing(way: str, runs: Runs) -> None:
    """On standard output: so that nobody takes its errors for a document."""
    assert runs[way, "broken"].result() == "[1]"
