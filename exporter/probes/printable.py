"""What a stranger says, made fit for terminals and logs."""

from __future__ import annotations

from typing import Final

MAX_TEXT: Final = 300
"""Characters that are kept of what a stranger says."""


def printable(text: str) -> str:
    """The text, cut, with all that a terminal might obey (escape sequences, line breaks) written in hexadecimal."""
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text[:MAX_TEXT])
    return shown if len(text) <= MAX_TEXT and len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 1]}…"
