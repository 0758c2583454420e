"""Message encryption over http: multipart/encrypted, [MS-WSMV] 2.2.9.1."""

from __future__ import annotations

import re
import struct
from typing import Final

import spnego

from exporter.demo.winrm.http import Request

SPNEGO: Final = "application/HTTP-SPNEGO-session-encrypted"
_HEAD: Final = re.compile(
    rb"--Encrypted Boundary\r\n\s*Content-Type: [\w/-]+\r\n\s*OriginalContent: [^\r\n]*Length=\d+\r\n"
    rb"--Encrypted Boundary\r\n\s*Content-Type: application/octet-stream\r\n"
)
_END: Final = b"--Encrypted Boundary--\r\n"


class DecryptionError(Exception):
    """The body is not what it should be, or was changed on its way."""


def is_encrypted(request: Request) -> bool:
    """Says whether its body claims to hold an encrypted message."""
    return request.headers.get("content-type", "").lower().startswith("multipart/encrypted")


def decrypt(context: spnego.ContextProxy, body: bytes) -> bytes:
    """The message in a body.

    Raises:
        DecryptionError: there is none.
    """
    head = _HEAD.match(body)
    if head is None or not body.endswith(_END):
        raise DecryptionError("no encrypted message")
    sealed = body[head.end() : -len(_END)]
    if len(sealed) < 4:
        raise DecryptionError("no length of the header")
    (length,) = struct.unpack("<I", sealed[:4])
    try:
        return context.unwrap_winrm(sealed[4 : 4 + length], sealed[4 + length :])
    except Exception as error:  # the library's own, and those of the libraries below it
        raise DecryptionError(str(error)) from error


def encrypt(context: spnego.ContextProxy, message: bytes, protocol: str = SPNEGO) -> tuple[str, bytes]:
    """The type and the bytes of a body that holds the message."""
    sealed = context.wrap_winrm(message)
    length = len(message) + sealed.padding_length
    head = (
        f"--Encrypted Boundary\r\n\tContent-Type: {protocol}\r\n"
        f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={length}\r\n"
        "--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
    )
    body = head.encode() + struct.pack("<I", len(sealed.header)) + sealed.header + sealed.data + _END
    return f'multipart/encrypted;protocol="{protocol}";boundary="Encrypted Boundary"', body


def protocol_of(request: Request) -> str:
    """The protocol that its Content-Type names; Windows answers in the same."""
    named = re.search(r'protocol="([\w/-]+)"', request.headers.get("content-type", ""))
    return named[1] if named else SPNEGO
