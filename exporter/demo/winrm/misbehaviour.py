"""Answers that no Windows host should give, for tests of clients.

A host's ``misbehave`` is asked about each request before the host looks at it: None lets it answer as ever; bytes go
out in place of an answer, and the connection stays; an action says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from exporter.demo.winrm.http import Request


@dataclass(frozen=True, slots=True)
class Seen:
    """What came.

    Attributes:
        request: as HTTP has it.
        operation: Create, Command, Send, Receive, Signal, Delete; "" where it holds no message that can be read.
        soap: the message, decrypted; b"" where there is none.
        number: of the request on its connection, from 1.
        connection: of the connection at this host, from 1.
    """

    request: Request
    operation: str
    soap: bytes
    number: int
    connection: int


@dataclass(frozen=True, slots=True)
class Close:
    """No answer; the connection ends, by a reset if so asked."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class CloseAfter:
    """The right answer, then the end of the connection without a word about it."""


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer; the connection stays open."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The right answer, so many seconds late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Trickle:
    """The right answer, or this one, a byte at a time.

    Attributes:
        seconds: between two bytes.
        raw: bytes instead of the right answer, its header among them.
        whole: how many bytes come at once first.
    """

    seconds: float = 1.0
    raw: bytes | None = None
    whole: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """The right answer less its end, then the end of the connection.

    Attributes:
        length: so many bytes go out; where negative, so many do not.
    """

    length: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of HTTP, to a request that the host never performed.

    Attributes:
        status: 302 and its like.
        body: what it holds.
        headers: names and values.
        encrypt: as the request was, where it was; the Content-Type is then that of encryption.
    """

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    encrypt: bool = False


Action: TypeAlias = Close | CloseAfter | Silence | Delay | Trickle | Cut | Reply
