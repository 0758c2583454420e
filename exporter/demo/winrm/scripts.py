"""What a command line starts on a simulated host: the collector's script and nothing else.

A script comes in one of two ways, through standard input to a small program or packed into the command line; it runs if
it has the right hash, and then the machine's document is what it prints.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from exporter.demo.winrm.host import ScriptOutput, WindowsHost
from exporter.demo.winrm.http import MOST_BODY

_PARAMETERS: Final = r"(?: -UsageMegabytes (?P<megabytes>\d{1,6}))?(?P<pending> -PendingUpdates)?"
_BOOTSTRAP: Final = re.compile(re.escape('&([scriptblock]::Create((@($input)-join"`n")))') + _PARAMETERS)
_POWERSHELL: Final = r'(?:"?[^"]*\\)?powershell(?:\.exe)?"? (?:-(?:NoLogo|NoProfile|NonInteractive) )*'
_ENCODED: Final = re.compile(_POWERSHELL + r"-EncodedCommand (?P<base64>[A-Za-z0-9+/=]+)", re.IGNORECASE)
_PACKED: Final = re.compile(
    _POWERSHELL
    + re.escape(
        '-Command "&([scriptblock]::Create((New-Object IO.StreamReader((New-Object IO.Compression.DeflateStream('
        "[IO.MemoryStream][Convert]::FromBase64String('"
    )
    + "(?P<base64>[A-Za-z0-9+/=]+)"
    + re.escape("'),[IO.Compression.CompressionMode]::Decompress)))).ReadToEnd()))")
    + _PARAMETERS
    + '"',
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Program:
    """What a command line starts.

    Attributes:
        script: the one that is packed into it; None: the one that comes through standard input.
        parameters: of the script, as `exporter.demo.winrm.host.Document` takes them.
    """

    script: bytes | None
    parameters: Mapping[str, Any]


def program_of(command_line: str) -> Program | None:
    """What a command line starts; None: nothing that this simulation knows."""
    try:
        if encoded := _ENCODED.fullmatch(command_line):
            bootstrap = _BOOTSTRAP.fullmatch(base64.b64decode(encoded["base64"], validate=True).decode("utf-16-le"))
            return Program(None, _parameters(bootstrap)) if bootstrap else None
        if packed := _PACKED.fullmatch(command_line):
            return Program(_unpacked(packed["base64"]), _parameters(packed))
    except (binascii.Error, UnicodeDecodeError, zlib.error):
        pass
    return None


def _parameters(found: re.Match[str]) -> dict[str, Any]:
    return {"usage_megabytes": int(found["megabytes"] or 0), "pending_updates": found["pending"] is not None}


def _unpacked(text: str) -> bytes:
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(base64.b64decode(text, validate=True), MOST_BODY)


def run(host: WindowsHost, program: Program, standard_input: bytes, code_page: str) -> ScriptOutput:
    """What the program leaves.

    Args:
        host: where it runs.
        program: what a command line started.
        standard_input: all of it.
        code_page: name of Python's codec, for what the host's document says as text.
    """
    script = program.script if program.script is not None else standard_input
    if program.script is None and not host.stdin:
        return ScriptOutput()  # an empty script prints nothing and fails at nothing
    digest = hashlib.sha256(script).hexdigest()
    if digest != host.script_sha256.lower():
        refusal = f"This is a simulation: it runs the collector's script only, not one with SHA-256 {digest}.\r\n"
        return ScriptOutput(stderr=refusal.encode(), exit_code=1)
    try:
        printed = host.document(datetime.now(UTC), program.parameters)
    except Exception as error:  # noqa: BLE001 - the script's way to fail
        return ScriptOutput(stderr=f"This is a simulation: {error!r}\r\n".encode(), exit_code=1)
    if isinstance(printed, str):
        printed = printed.encode(code_page, errors="replace")
    return ScriptOutput(printed) if isinstance(printed, bytes) else printed
