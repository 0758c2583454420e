"""What a stranger says, made fit for terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything that a terminal might obey (escape sequences, line breaks) written in hexadecimal."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)
