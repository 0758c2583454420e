"""Functions of the collector script on their own: its serializer, and what is not simulated elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from powershell.harness import BATCH, NOT_RUN, POWERSHELL, snippet

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)


def serialized(code: str) -> str:
    """PowerShell that writes what the script's own serializer made of something."""
    return f"$text = New-Object -TypeName System.Text.StringBuilder\n{code}\n[Console]::Out.Write($text.ToString())"


NO_NUMBERS = ("1.5", "[DateTime]::UtcNow", "[decimal]1", "[char]'a'", "[guid]::Empty")


class TestSerializer:
    NUMBERS = BATCH.snippet_later(
        serialized(
            "$culture = New-Object -TypeName System.Globalization.CultureInfo -ArgumentList 'en-US'\n"
            "$culture.NumberFormat.NegativeSign = 'minus'\n"
            "[System.Threading.Thread]::CurrentThread.CurrentCulture = $culture\n"
            "$least = [long]'-9223372036854775808'; $most = [uint64]'18446744073709551615'\n"
            "Write-Json $text @([byte]255, [int16]-32768, [uint16]65535, -1, [uint32]4294967295, $least, $most) 0"
        )
    )
    NESTED = BATCH.snippet_later(
        serialized(
            "$map = New-Map; $map.Add('', @()); $map.Add('a', @(, @(1))); $map.Add('b', (New-Map))\n"
            "$map.Add('c', $null); $map.Add('d', @($true, $false)); $map.Add('\"', @($null)); Write-Json $text $map 0"
        )
    )
    REFUSED = BATCH.snippet_later(
        serialized(
            f"$refused = @(foreach ($value in {', '.join(f'({each})' for each in NO_NUMBERS)}) {{\n"
            "try { Write-Json (New-Object -TypeName System.Text.StringBuilder) $value 0 } catch { [string]$_ } })\n"
            "Write-Json $text $refused 0"
        )
    )

    def test_numbers_of_every_size(self) -> None:
        """What the registry and WMI have, in any culture; no exponents, no separators."""
        numbers = [255, -32768, 65535, -1, 4294967295, -(2**63), 2**64 - 1]

        assert self.NUMBERS.text == json.dumps(numbers, separators=(",", ":"))

    def test_nested_lists_and_tables(self) -> None:
        """Empty ones, and lists of one."""
        nested: dict[str, Any] = {"": [], "a": [[1]], "b": {}, "c": None, "d": [True, False], '"': [None]}

        assert json.loads(self.NESTED.text) == nested

    def test_what_json_has_no_sure_form_for_is_an_error(self) -> None:
        assert [each.partition(" System.")[0] for each in json.loads(self.REFUSED.text)] == ["no JSON for"] * len(
            NO_NUMBERS
        )


def asked(code: str) -> Any:
    """What the real access functions say."""
    return json.loads(snippet(serialized(code)))


class TestRealAccess:
    """Of what touches Windows, the part that is .NET's and works everywhere."""

    def test_a_files_numbers(self, tmp_path: Path) -> None:
        """Null where there is no file or no folder; a file without is a failure."""
        (tmp_path / "a.dll").write_bytes(b"MZ")
        paths = ", ".join(
            ["[object].Assembly.Location", *(f"'{tmp_path / each}'" for each in ("b.dll", "c/d.dll", "a.dll"))]
        )

        numbers, *others = asked(
            f"Write-Json $text @(foreach ($path in {paths}) {{\n"
            "try { , (Get-FileNumbers $path) } catch { 'failed' } }) 0"
        )

        assert re.fullmatch(r"[1-9]\d*(\.\d+){3}", numbers)
        assert others == [None, None, "failed"]

    def test_a_log_that_exchange_writes_can_be_read(self, tmp_path: Path) -> None:
        """Meanwhile, because it is opened for sharing."""
        path = tmp_path / "RECV.LOG"
        path.write_bytes(b"2026-11-22T12:00:00.000Z,a\r\n")
        code = (
            f"$writer = New-Object -TypeName System.IO.FileStream -ArgumentList '{path}', 'Append', 'Write', 'Read'\n"
            f"$stream = Open-LogFile '{path}'; Write-Json $text $stream.Length 0; $stream.Close(); $writer.Close()"
        )

        assert asked(code) == path.stat().st_size

    def test_the_host_has_a_name_and_a_64_bit_process_is_not_redirected(self) -> None:
        names, redirected = asked("Write-Json $text @((Get-HostNames), (Test-Redirected)) 0")

        assert names["name"]
        assert names["fqdn"].lower().startswith(names["name"].lower()[:15])
        assert redirected is False
