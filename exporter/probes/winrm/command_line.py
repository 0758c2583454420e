"""How the collector script gets to a host: on its standard input, or packed into the command line.

Both forms need nothing that .NET 2.0 and PowerShell 2.0 do not have. The first goes through cmd.exe, which takes 8,191
characters, and is short whatever the script's length. The second is for hosts where standard input does not arrive: it
goes to CreateProcess, which takes 32,767, and has neither quotes within its quotes nor anything that cmd.exe minds.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Final

CMD_LIMIT: Final = 8191
"""Characters of a line that cmd.exe runs. Documented by Microsoft."""
PROCESS_LIMIT: Final = 32767
"""Characters of a line that CreateProcess takes. Documented by Microsoft."""

_POWERSHELL: Final = "powershell.exe -NoLogo -NoProfile -NonInteractive"
_FROM_INPUT: Final = '&([scriptblock]::Create((@($input)-join"`n")))'
_FROM_BASE64: Final = (
    "&([scriptblock]::Create((New-Object IO.StreamReader((New-Object IO.Compression.DeflateStream("
    "[IO.MemoryStream][Convert]::FromBase64String('{}'),[IO.Compression.CompressionMode]::Decompress)))).ReadToEnd()))"
)


@dataclass(frozen=True)
class Parameters:
    """What the script is asked for beyond what it always reads.

    Attributes:
        usage_megabytes: what it may read of the SMTP protocol logs, per side; 0 for nothing.
        pending_updates: whether it asks Windows Update what it would install, which takes minutes.
    """

    usage_megabytes: int = 0
    pending_updates: bool = False

    @property
    def text(self) -> str:
        """As PowerShell has them, each with a space before it."""
        usage = f" -UsageMegabytes {self.usage_megabytes:d}" if self.usage_megabytes else ""
        return usage + (" -PendingUpdates" if self.pending_updates else "")


def stdin_command(parameters: Parameters) -> str:
    """The command line for a host that is sent the script as standard input, to its end: PowerShell runs it then."""
    bootstrap = _FROM_INPUT + parameters.text
    return f"{_POWERSHELL} -EncodedCommand {base64.b64encode(bootstrap.encode('utf-16-le')).decode()}"


def deflate_command(script: bytes, parameters: Parameters) -> str:
    """The command line that has the script in it, for CreateProcess.

    Its standard input must be a console or at its end: PowerShell 2.0 waits for the end of an input that is a pipe.

    Raises:
        ValueError: it would be longer than CreateProcess takes.
    """
    packer = zlib.compressobj(level=9, wbits=-zlib.MAX_WBITS)
    packed = base64.b64encode(packer.compress(script) + packer.flush()).decode()
    line = f'{_POWERSHELL} -Command "{_FROM_BASE64.format(packed)}{parameters.text}"'
    if len(line) > PROCESS_LIMIT:
        raise ValueError(f"a command line of {len(line)} characters, and Windows takes {PROCESS_LIMIT}")
    return line
