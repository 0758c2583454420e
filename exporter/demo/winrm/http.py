"""As much of HTTP/1.1 (RFC 9112) as a WinRM client needs, over asyncio streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

MOST_BODY: Final = 1_048_576
"""Bytes of a request's body; more is refused before it is read."""

_REASONS: Final = {
    200: "",
    400: "Bad Request",
    401: "",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Request Entity Too Large",
    500: "",
}


class BadRequestError(Exception):
    """What came is no request that this server reads."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: as sent.
        path: as sent, with its query.
        headers: the last one of each name, in lower case.
        body: whole.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response; Content-Length and Server are added.

    Attributes:
        status: 200 and its like.
        body: whole.
        headers: names and values, in order; a name may come twice.
        close: the connection ends after it.
    """

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = field(default=())
    close: bool = False

    def to_bytes(self) -> bytes:
        """As it goes over the wire, in one piece: two writes would wait for Nagle's algorithm and a late ACK."""
        head = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, '')}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        head += ["Server: Microsoft-HTTPAPI/2.0", f"Content-Length: {len(self.body)}"]
        if self.close:
            head.append("Connection: close")
        return "\r\n".join((*head, "", "")).encode("latin-1") + self.body


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the client left between two.

    Raises:
        BadRequestError: no request that this server reads.
        OSError: the connection broke.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(_header(line) for line in lines)
        body = await reader.readexactly(_length(headers))
        method, path, version = request_line.split(" ")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequestError(400, "the header is too long") from error
    except ValueError as error:
        raise BadRequestError(400, "no HTTP request") from error
    if version != "HTTP/1.1":
        raise BadRequestError(400, version)
    return Request(method, path, headers, body)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError(line)
    return name.strip().lower(), value.strip()


def _length(headers: Mapping[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "no Content-Length")
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= MOST_BODY:
        raise BadRequestError(413, f"{length} bytes")
    return length
