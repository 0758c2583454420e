"""What an NTLM token says before anybody knows whether it is right, [MS-NLMP] 2.2.1."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_SIGNATURE: Final = b"NTLMSSP\0"
_UNICODE: Final = 0x00000001
_CHANNEL_BINDINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Authenticate:
    """The token that holds the answer to the challenge: one logon attempt.

    Attributes:
        domain: as sent.
        user: as sent.
        bound: it names the channel.
    """

    domain: str
    user: str
    bound: bool

    @property
    def name(self) -> str:
        r"""DOMAIN\user."""
        return f"{self.domain}\\{self.user}" if self.domain else self.user


NOBODY: Final = Authenticate("", "", bound=False)


def kind_of(token: bytes) -> int:
    """1: the client asks; 3: it answers the challenge; 0: no NTLM. Also where SPNEGO wraps the token."""
    at = token.find(_SIGNATURE)
    return int.from_bytes(token[at + 8 : at + 12], "little") if at >= 0 else 0


def read_authenticate(token: bytes) -> Authenticate:
    """What the token of kind 3 says. A broken one says nothing."""
    token = token[token.find(_SIGNATURE) :]
    try:
        (flags,) = struct.unpack_from("<I", token, 60)
        encoding = "utf-16-le" if flags & _UNICODE else "cp437"
        domain, user = (_field(token, at).decode(encoding, errors="replace") for at in (28, 36))
        return Authenticate(domain, user, _is_bound(_field(token, 20)))
    except struct.error:
        return NOBODY


def _field(token: bytes, at: int) -> bytes:
    length, _, offset = struct.unpack_from("<HHI", token, at)
    return token[offset : offset + length]


def _is_bound(response: bytes) -> bool:
    """Says whether an NTLMv2 response has channel bindings that are not all zero."""
    at = 16 + 28
    while at + 4 <= len(response):
        name, length = struct.unpack_from("<HH", response, at)
        if name == _CHANNEL_BINDINGS:
            return any(response[at + 4 : at + 4 + length])
        if name == 0:
            break
        at += 4 + length
    return False
