"""The command lines that bring the script to a host: short enough, of old enough words, and with the script in them."""

from __future__ import annotations

import base64
import random
import re
import zlib

import pytest
from powershell.dialect import LISTS, Script, parse

from exporter.probes.winrm.command_line import CMD_LIMIT, PROCESS_LIMIT, Parameters, deflate_command, stdin_command
from exporter.probes.winrm.script import SCRIPT

MOST = Parameters(usage_megabytes=2**31 - 1, pending_updates=True)
PREFIX = "powershell.exe -NoLogo -NoProfile -NonInteractive "


def _encoded(line: str) -> str:
    """What PowerShell reads of -EncodedCommand."""
    prefix, _, argument = line.rpartition(" ")
    assert prefix == f"{PREFIX}-EncodedCommand"
    return base64.b64decode(argument, validate=True).decode("utf-16-le")


def _quoted(line: str) -> str:
    """The one argument in double quotes that CommandLineToArgvW makes of the end of a line."""
    match = re.fullmatch(f'{re.escape(PREFIX)}-Command "([^"\\\\]*)"', line)
    assert match
    return match[1]


def _packed(command: str) -> bytes:
    match = re.search("FromBase64String\\('([^']*)'\\)", command)
    assert match
    return zlib.decompress(base64.b64decode(match[1], validate=True), wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        (Parameters(), ""),
        (Parameters(usage_megabytes=64), " -UsageMegabytes 64"),
        (Parameters(pending_updates=True), " -PendingUpdates"),
        (Parameters(64, pending_updates=True), " -UsageMegabytes 64 -PendingUpdates"),
    ],
)
def test_parameters(parameters: Parameters, text: str) -> None:
    """Both ways end with them."""
    assert parameters.text == text
    assert _encoded(stdin_command(parameters)).endswith(f")){text}")
    assert _quoted(deflate_command(SCRIPT, parameters)).endswith(f")){text}")


def test_the_script_has_these_parameters() -> None:
    declared = re.search(rb"(?m)^param\((.*)\)$", SCRIPT)

    assert declared
    assert {each[1:] for each in re.findall(r"-[A-Za-z]+", MOST.text)} <= set(
        re.findall(r"\$([A-Za-z]+)", declared[1].decode())
    )


def test_bootstrap_of_standard_input() -> None:
    assert _encoded(stdin_command(Parameters())) == '&([scriptblock]::Create((@($input)-join"`n")))'


def test_what_is_packed_is_the_script() -> None:
    assert _packed(_quoted(deflate_command(SCRIPT, MOST))) == SCRIPT


def test_any_bytes_are_packed_as_they_are() -> None:
    script = bytes(range(256)) * 3

    assert _packed(_quoted(deflate_command(script, Parameters()))) == script


def test_they_fit() -> None:
    """The first goes through cmd.exe, the second does not."""
    assert len(stdin_command(MOST)) < CMD_LIMIT == 8191
    assert len(deflate_command(SCRIPT, MOST)) < PROCESS_LIMIT == 32767


def test_nothing_that_cmd_minds() -> None:
    assert re.fullmatch(r"[A-Za-z0-9 .+/=-]+", stdin_command(MOST))


def test_a_script_that_does_not_fit_is_refused() -> None:
    noise = random.Random(5).randbytes(30_000)

    with pytest.raises(ValueError, match="Windows takes 32767"):
        deflate_command(noise, Parameters())


def _names(script: Script) -> set[str]:
    """Types, members, commands, parameters and variables, in lower case."""
    kinds = ("type_literal", "member_name", "command_name", "command_parameter", "variable", "generic_token")
    return {(node.text or b"").decode().lower().strip("[]") for node in script.of(*kinds)}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (_encoded(stdin_command(MOST)), {"scriptblock", "create", "$input", "-usagemegabytes", "-pendingupdates"}),
        (
            _quoted(deflate_command(b"1", MOST)),
            {
                # .NET 2.0: System.IO, and System.IO.Compression of System.dll, which PowerShell itself loads
                "io.compression.compressionmode", "io.compression.deflatestream", "io.memorystream",
                "io.streamreader", "convert", "decompress", "frombase64string", "readtoend",
                # PowerShell 2.0
                "scriptblock", "create", "new-object", "-usagemegabytes", "-pendingupdates",
            },
        ),
    ],
    ids=["standard input", "deflate"],
)  # fmt: skip
def test_they_use_what_powershell_2_has(command: str, names: set[str]) -> None:
    """Reviewed by hand; the syntax is held against the same list as the script's."""
    script = parse(command.encode())

    assert _names(script) == names
    syntax = {each for row in LISTS["syntax"] for each in row}
    assert {node.type for node in script.nodes if node.is_named} <= syntax
    assert not script.root.has_error
