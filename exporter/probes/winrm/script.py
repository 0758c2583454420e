"""The collector script, as it is: what is printed for review is what runs."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Final

SCRIPT: Final = Path(__file__).with_name("collect.ps1").read_bytes()
"""ASCII, for PowerShell 2.0 to 5.1."""
SHA256: Final = sha256(SCRIPT).hexdigest()
"""In lower-case hexadecimal."""
VERSION: Final = re.findall(rb"(?m)^\$ScriptVersion = '([0-9.]+)'", SCRIPT)[0].decode()
"""What it writes into its documents."""
