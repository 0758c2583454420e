"""Secrets, from files of their own; read for each use, so that a new one counts at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 65536
"""Of a secret's file: somebody may name the wrong one."""


class SecretError(Exception):
    """The secret cannot be had."""


@dataclass(frozen=True, slots=True)
class Password:
    """A password. Two of the same text are equal; nothing shows it."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keytab:
    """A file with a Kerberos principal's keys. Two of the same content are equal.

    Attributes:
        path: the file.
        sha256: of its content, in hexadecimal; "" where it cannot be read.
    """

    path: Path
    sha256: str = ""


def read_password(path: Path) -> Password:
    """The password in the first line of a file, without its line break. Blocks on the file system.

    Raises:
        SecretError: it cannot be read, or there is none in it. The message has nothing of what it holds.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig").split("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretError(f"{path}: not UTF-8") from None
    if not text:
        raise SecretError(f"{path}: its first line is empty")
    return Password(text)


def read_keytab(path: Path) -> Keytab:
    """A keytab as it is now; whether it is one shows when it is used. Blocks on the file system.

    Raises:
        SecretError: it cannot be read.
    """
    return Keytab(path, hashlib.sha256(_content(path)).hexdigest())


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretError(f"{path}: {error.strerror or type(error).__name__}") from error
    if len(content) > MAX_BYTES:
        raise SecretError(f"{path}: longer than {MAX_BYTES} bytes")
    return content
