"""How a mail server is asked to begin TLS: SMTP (RFC 3207), IMAP (RFC 3501, 9051) and POP3 (RFC 2595).

Each dialogue is a generator without I/O: it yields the bytes to send and is sent what the server said. It returns when
the server is ready for a ClientHello and raises `StartTlsError` when it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Final, NoReturn, TypeAlias

from exporter.facts import Reason

Dialogue: TypeAlias = Generator[bytes, bytes, None]

MAX_LINE: Final = 4096
"""Bytes in a line at most. SMTP allows 512 (RFC 5321 4.5.3.1.5), IMAP capability lines are longer."""
MAX_DIALOGUE: Final = 32768
"""Bytes that a server may say before TLS at most: an endless banner ends here."""


class StartTlsError(Exception):
    """The server did not begin TLS.

    Attributes:
        reason: not_tls, starttls_refused, starttls_missing or rate_limited.
        farewell: what to send before hanging up, so that the server logs a client that left politely.
    """

    def __init__(self, reason: Reason, detail: str, farewell: bytes = b"") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.farewell = farewell


class _Lines:
    """The server's lines, one by one."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._heard = 0

    def next(self, say: bytes = b"") -> Generator[bytes, bytes, str]:
        """Say something, if there is something to say, and return the next line without its end."""
        if say:
            self.done()
        while (end := self._buffer.find(b"\n", 0, MAX_LINE)) < 0:
            if len(self._buffer) >= MAX_LINE:
                raise StartTlsError(Reason.NOT_TLS, f"a line of more than {MAX_LINE} bytes")
            data = yield say
            say = b""
            self._buffer += data
            self._heard += len(data)
            if self._heard > MAX_DIALOGUE:
                raise StartTlsError(Reason.NOT_TLS, f"more than {MAX_DIALOGUE} bytes before TLS")
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line.decode("latin-1")  # any bytes will do; nothing but ASCII is looked for

    def done(self) -> None:
        """It is our turn. What a server says out of turn would be taken for its answer, or for TLS (CVE-2011-0411)."""
        if self._buffer:
            raise StartTlsError(Reason.NOT_TLS, "the server talks out of turn")


def smtp(client_name: str) -> Dialogue:
    """EHLO, STARTTLS."""
    lines = _Lines()
    yield from _smtp_reply(lines, b"", "220", "greeting")
    _greeting, *offers = yield from _smtp_reply(
        lines, f"EHLO {client_name}\r\n".encode("ascii", "replace"), "250", "EHLO"
    )
    if not any(re.fullmatch(r"STARTTLS\b.*", offer, re.IGNORECASE) for offer in offers):
        raise StartTlsError(Reason.STARTTLS_MISSING, "EHLO does not offer STARTTLS", _QUIT)
    yield from _smtp_reply(lines, b"STARTTLS\r\n", "220", "STARTTLS")
    lines.done()


_QUIT: Final = b"QUIT\r\n"
_LOGOUT: Final = b"a3 LOGOUT\r\n"


def _smtp_reply(lines: _Lines, say: bytes, expected: str, step: str) -> Generator[bytes, bytes, list[str]]:
    """The texts of one reply, which may have several lines."""
    texts = []
    while True:
        line = yield from lines.next(say)
        say = b""
        match = re.fullmatch(r"(\d{3})(?:([- ])(.*))?", line)
        if match is None:
            raise StartTlsError(Reason.NOT_TLS, f"{step}: not SMTP: {line[:80]!r}")
        code, more, text = match.groups()
        texts.append(text or "")
        if more != "-":
            break
    if code != expected:
        reason = Reason.RATE_LIMITED if code == "421" else Reason.STARTTLS_REFUSED
        raise StartTlsError(reason, f"{step}: {line[:160]!r}", _QUIT)
    return texts


def imap(_client_name: str) -> Dialogue:
    """CAPABILITY, STARTTLS."""
    lines = _Lines()
    greeting = yield from lines.next()
    if not re.match(r"\* OK\b", greeting, re.IGNORECASE):
        known = re.match(r"\* (BYE|PREAUTH)\b", greeting, re.IGNORECASE)
        reason = Reason.STARTTLS_REFUSED if known else Reason.NOT_TLS
        raise StartTlsError(reason, f"greeting: {greeting[:160]!r}", _LOGOUT if known else b"")
    untagged = yield from _imap_reply(lines, "a1", "CAPABILITY")
    capabilities = {
        word for line in untagged if line.upper().startswith("* CAPABILITY ") for word in line.upper().split()
    }
    if "STARTTLS" not in capabilities:
        raise StartTlsError(Reason.STARTTLS_MISSING, "CAPABILITY does not list STARTTLS", _LOGOUT)
    yield from _imap_reply(lines, "a2", "STARTTLS")
    lines.done()


def _imap_reply(lines: _Lines, tag: str, command: str) -> Generator[bytes, bytes, list[str]]:
    """The untagged lines that came before the tagged OK."""
    untagged = []
    line = yield from lines.next(f"{tag} {command}\r\n".encode())
    while line.startswith("* "):
        if re.match(r"\* BYE\b", line, re.IGNORECASE):
            raise StartTlsError(Reason.STARTTLS_REFUSED, f"{command}: {line[:160]!r}")
        untagged.append(line)
        line = yield from lines.next()
    if not line.startswith(f"{tag} "):
        raise StartTlsError(Reason.NOT_TLS, f"{command}: not IMAP: {line[:80]!r}")
    if not re.match(r"\w+ OK\b", line, re.IGNORECASE):
        raise StartTlsError(Reason.STARTTLS_REFUSED, f"{command}: {line[:160]!r}", _LOGOUT)
    return untagged


def pop3(_client_name: str) -> Dialogue:
    """CAPA (RFC 2449, which a server need not know), STLS."""
    lines = _Lines()
    greeting = yield from lines.next()
    if not _pop3_ok(greeting):
        _pop3_refused("greeting", greeting)
    if _pop3_ok((yield from lines.next(b"CAPA\r\n"))):
        capabilities = set()
        while (line := (yield from lines.next())) != ".":
            capabilities.add(line.split(" ")[0].upper())
        if "STLS" not in capabilities:
            raise StartTlsError(Reason.STARTTLS_MISSING, "CAPA does not list STLS", _QUIT)
    answer = yield from lines.next(b"STLS\r\n")
    if not _pop3_ok(answer):
        _pop3_refused("STLS", answer)
    lines.done()


def _pop3_ok(line: str) -> bool:
    return re.match(r"\+OK\b", line, re.IGNORECASE) is not None


def _pop3_refused(step: str, line: str) -> NoReturn:
    if re.match(r"-ERR\b", line, re.IGNORECASE):
        raise StartTlsError(Reason.STARTTLS_REFUSED, f"{step}: {line[:160]!r}", _QUIT)
    raise StartTlsError(Reason.NOT_TLS, f"{step}: not POP3: {line[:80]!r}")


DIALOGUES: Final[dict[str, Callable[[str], Dialogue] | None]] = {
    "https": None,
    "tls": None,
    "smtp": smtp,
    "imap": imap,
    "pop3": pop3,
}
"""Per service, how it is asked for TLS; None where TLS begins at once."""
