"""The collector script keeps to what PowerShell 2.0 has, changes nothing and fits its way to the host."""

from __future__ import annotations

import base64
import re
import zlib

import pytest
from powershell.dialect import LISTS, parse, problems
from powershell.harness import ACCESS, SCRIPT, access_region, functions

ONE_SEND = 112 * 1024
"""Bytes that fit one WinRM Send, as measured with pywinrm and an envelope of 150 KB."""

COMMAND_LINE = 32767
"""What CreateProcess takes."""

BOOTSTRAP = 1000
"""More than a command line needs for what unpacks the script there."""


@pytest.fixture(scope="module")
def script() -> bytes:
    return SCRIPT.read_bytes()


def test_the_script_uses_what_powershell_2_has(script: bytes) -> None:
    assert problems(script) == []


def test_every_reviewed_exception_is_still_needed(script: bytes) -> None:
    """An exception that nothing needs would let the next mistake through."""
    text = script.decode("ascii")
    reviewed = [
        *(rf"in {re.escape(each)}\)" for each in LISTS["iterated"]),
        *(rf"{re.escape(each)}\.(Length|Count)\b" for each in LISTS["lengths_of"]),
        *(rf"& {re.escape(each)}\b" for each in LISTS["run"]),
        *(rf"'{each}'" for each in (*LISTS["com_objects"], *LISTS["methods_of_wmi"])),
    ]

    assert [each for each in reviewed if not re.search(each, text)] == []


@pytest.mark.parametrize(
    ("newer", "problem"),
    [
        ("if (1 -in 1, 2) { 3 }", "operator or keyword -in"),
        ("1 -notin 1, 2", "operator or keyword -notin"),
        ("1 -shl 2", "operator or keyword -shl"),
        ("8 -shr 2", "operator or keyword -shr"),
        ("[pscustomobject]@{ a = 1 }", "type [pscustomobject]"),
        ("[ordered]@{ a = 1 }", "type [ordered]"),
        ("[System.Text.StringBuilder]::new()", "member ::new, 0"),
        ("[string]::IsNullOrWhiteSpace('a')", "member ::IsNullOrWhiteSpace, 1"),
        ("[Microsoft.Win32.RegistryView]::Registry64", "type [Microsoft.Win32.RegistryView]"),
        (
            "[Microsoft.Win32.RegistryKey]::OpenBaseKey('LocalMachine', 'Registry64')",
            "type [Microsoft.Win32.RegistryKey]",
        ),
        ("[System.Collections.Generic.List[string]]", "type [System.Collections.Generic.List[string]]"),
        ("ConvertTo-Json -InputObject 1", "command ConvertTo-Json"),
        ("Get-CimInstance -ClassName Win32_OperatingSystem", "command Get-CimInstance"),
        ("Import-Module ServerManager", "command Import-Module"),
        ("Get-Content -Path a -Raw", "parameter -Raw of Get-Content"),
        ("Get-ChildItem -Path a -File", "parameter -File of Get-ChildItem"),
        ("Select-Object -SkipLast 1", "parameter -SkipLast of Select-Object"),
        ("$a = 1; $a | Where-Object Name -eq x", "argument of Where-Object without its parameter: Name"),
        ("$a = 1; $a | ForEach-Object Name", "argument of ForEach-Object without its parameter: Name"),
        ("$PSItem", "variable $PSItem, which nothing gives a value"),
        ("$PSScriptRoot", "variable $PSScriptRoot, which nothing gives a value"),
        ("$IsWindows", "variable $IsWindows, which nothing gives a value"),
        ("using namespace System.IO", "command using"),
        ("class A { [int]$b }", "syntax class_statement"),
        ("enum A { b }", "syntax enum_member"),
        ("workflow w { }", "operator or keyword workflow"),
        ("Get-Host && Get-Culture", "operator or keyword &&"),
        ("$a = 1; $a ? 2 : 3", "does not parse: ' ?'"),
        ("$a = 1; $a ?? 2", "does not parse: ' ??'"),
        ("$a = 1; $a?.Length", "does not parse: '?'"),
        ("$a = 1; $a.Where({ 1 })", "member .Where, 1"),
        ("$a = @{ b = 1 }; $a.b", "member .b, property"),
        ("$a = 'b'; $a.Split(',', 2)", "member .Split, 2"),
        ("function f([Parameter(Mandatory)][string]$a) { $a }", "syntax attribute_argument"),
        ("'unfinished", 'does not parse: "\'unfinished"'),
        ("if (1 {", "does not parse: 'if (1 {'"),
    ],
)
def test_what_is_newer_is_refused(newer: str, problem: str) -> None:
    assert f"1: {problem}" in problems(newer.encode())


@pytest.mark.parametrize(
    ("trap", "problem"),
    [
        ("function f { 1 }; foreach ($a in f) { $a }", "foreach over f"),
        ("$a = $null; foreach ($b in $a) { $b }", "foreach over $a"),
        ("foreach ($b in (Get-Item -Path x)) { $b }", "foreach over (Get-Item -Path x)"),
        ("$a = 1; $a.Count", "$a.Count may be there or not"),
        ("$a = 1; if ($a.Length -gt 1) { 2 }", "$a.Length may be there or not"),
        ("(Get-Item -Path x).Count", "(Get-Item -Path x).Count may be there or not"),
        ("$a = 1MB", "command 1MB"),
        ("$a = 64 * 1kb", "number 1kb"),
        ("Get-Item -Path 1MB", "number 1MB"),
        ("$a", "variable $a, which nothing gives a value"),
        ("$_", "$_ outside of catch and of Sort-Object's expressions"),
        ("if (1 -eq 1) { $matches[1] }", "$matches where there may be none, or those of an earlier match"),
        ("if ($matches[1] -match 'a') { 2 }", "$matches where there may be none, or those of an earlier match"),
        (
            "if ('a' -match 'b') { 1 } else { $matches[0] }",
            "$matches where there may be none, or those of an earlier match",
        ),
        (
            "function f($a) { if ($a -match '(a)') { return }; $matches[1] }",
            "$matches where there may be none, or those of an earlier match",
        ),
        (
            "function f($a) { if (1 -eq $a) { if (-not ($a -match 'a')) { return } }; $matches[1] }",
            "$matches where there may be none, or those of an earlier match",
        ),
        ("Get-Item x", "argument of Get-Item without its parameter: x"),
        (
            "New-Object System.Text.StringBuilder",
            "argument of New-Object without its parameter: System.Text.StringBuilder",
        ),
        ("@(1) | ForEach-Object -Process { $_ }", "$_ outside of catch and of Sort-Object's expressions"),
        ("function f([int]$a) { $a }; f -b 2", "parameter -b of f"),
        ("Get-Item -Pa x", "parameter -Pa of Get-Item"),
        ("gwmi -Class x", "command gwmi"),
    ],
)
def test_what_is_a_trap_there_is_refused(trap: str, problem: str) -> None:
    assert f"1: {problem}" in problems(trap.encode())


@pytest.mark.parametrize(
    ("writer", "problem"),
    [
        ("Set-Content -Path a -Value b", "command Set-Content"),
        ("Set-ItemProperty -Path a -Name b -Value c", "command Set-ItemProperty"),
        ("New-ItemProperty -Path a -Name b", "command New-ItemProperty"),
        ("Remove-Item -Path a", "command Remove-Item"),
        ("Clear-EventLog -LogName a", "command Clear-EventLog"),
        ("Start-Process -FilePath a", "command Start-Process"),
        ("Stop-Service -Name a", "command Stop-Service"),
        ("Invoke-Expression -Command a", "command Invoke-Expression"),
        ("'a' | Out-File -FilePath b", "command Out-File"),
        ("'a' > b", "operator or keyword >"),
        ("'a' 2>> b", "operator or keyword 2>>"),
        ("& 'a.exe'", "runs 'a.exe'"),
        ("$a = 'a'; & $a", "runs $a"),
        (". 'a.ps1'", "runs 'a.ps1'"),
        ("a.exe", "command a.exe"),
        ("Invoke-WmiMethod -Class Win32_Process -Name Create -ArgumentList a", "WMI method Create"),
        ("New-Object -ComObject WScript.Shell", "COM object WScript.Shell"),
        ("New-Object -TypeName System.Net.WebClient", "type System.Net.WebClient"),
        ("$a = 1; $a.OpenSubKey('b', $true)", "member .OpenSubKey, 2"),
        ("$a = 1; $a.SetValue('b', 1)", "member .SetValue, 2"),
        ("$a = 1; $a.CreateSubKey('b')", "member .CreateSubKey, 1"),
        ("$a = 1; $a.DeleteSubKeyTree('b')", "member .DeleteSubKeyTree, 1"),
        ("$a = 1; $a.Install()", "member .Install, 0"),
        ("[System.IO.File]::AppendAllText('a', 'b')", "member ::AppendAllText, 2"),
        ("[System.IO.FileMode]::Create", "member ::Create, property"),
        ("[System.IO.FileAccess]::ReadWrite", "member ::ReadWrite, property"),
        ("[System.Diagnostics.Process]::Start('a')", "type [System.Diagnostics.Process]"),
        ("[Environment]::SetEnvironmentVariable('a', 'b')", "member ::SetEnvironmentVariable, 2"),
        ('"$(Remove-Item -Path a)"', "command Remove-Item"),
    ],
)
def test_what_writes_or_runs_something_is_refused(writer: str, problem: str) -> None:
    assert f"1: {problem}" in problems(writer.encode())


@pytest.mark.parametrize(
    "good",
    [
        "$a, $b = 1, 2; $b[$a]",
        "[int]$a = 1; $a",
        "foreach ($a in @(Get-Item -Path x)) { $a }",
        "if ('a' -match '(a)') { $matches[1] }",
        "function f($a) { if (-not ($a -match '(a)')) { return }; $matches[1] }",
        "try { throw 'a' } catch { $_.Exception }",
        "function f([int]$a) { $a }; f -a 2; f 3",
        "@(1, 2).Count",
        "$a = 3; while ($a -gt 0) { $a -= 1 }",
        '$a = 1; "b $a ${a} $($a + 1)"',
        "@(1) | Sort-Object -Property @{ Expression = { -$_ } }",
    ],
)
def test_what_powershell_2_has_is_let_through(good: str) -> None:
    assert problems(good.encode()) == []


def test_no_listed_command_writes() -> None:
    """The lists themselves: three verbs of changes, for commands that change nothing outside of the script."""
    reading = ("Compare", "ForEach", "Get", "Group", "Join", "Measure", "Select", "Sort", "Split", "Test", "Where")
    others = {each for each in LISTS["commands"] if not each.startswith(reading)}

    assert others == {"Invoke-WmiMethod", "New-Object", "New-TimeSpan", "Set-StrictMode"}


def test_files_are_written_for_outfile_alone(script: bytes) -> None:
    """After everything was read."""
    calls = [
        node for node in parse(script).of("invokation_expression") if b"IO.File]" in (node.children[0].text or b"")
    ]
    written = [(node.children[2].text or b"").decode() for node in calls if b"GetAttributes" not in (node.text or b"")]

    assert sorted({*written}) == LISTS["outfile_members"]
    last = script.index(b"if ($OutFile -eq '')")
    assert all(node.start_byte > last for node in calls if b"GetAttributes" not in (node.text or b""))


def test_the_script_is_plain_text(script: bytes) -> None:
    """ASCII, because PowerShell 2.0 reads files without a mark in the machine's code page; LF, as all files here."""
    assert script.isascii()
    assert not set(script) & {*b"\r\t\f\v\0"}
    assert not re.search(rb" $", script, re.MULTILINE)
    assert script.endswith(b"\n")
    assert not script.endswith(b"\n\n")


def test_the_script_is_strict(script: bytes) -> None:
    """Before anything else: a name that is not there is an error."""
    first = [line for line in script.decode().partition("\nparam(")[2].splitlines()[1:] if line and line[0] != "#"]

    assert first[:2] == ["Set-StrictMode -Version 2.0", "$ErrorActionPreference = 'Stop'"]


def test_the_script_fits_its_delivery(script: bytes) -> None:
    """In one piece on standard input; else, compressed, on a command line."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = base64.b64encode(packer.compress(script) + packer.flush())

    assert len(script) <= ONE_SEND
    assert len(packed) + BOOTSTRAP <= COMMAND_LINE


def test_every_access_function_is_simulated_or_real() -> None:
    """A new one must not read the machine that the tests run on."""
    real = {
        "Open-RegistryKey",
        "Test-RegistryKey",
        "Get-RegistryKeyNames",
        "Get-RegistryData",
        "Test-SccmReboot",
        "Open-LogFile",
    }
    _, region, _ = access_region(SCRIPT.read_text(encoding="ascii"))

    assert functions(region) - real == functions(region) & functions(ACCESS)
