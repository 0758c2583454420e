"""What a server says to a ClientHello, read byte by byte as it comes, without I/O.

One of three answers: it *chose* a version, it *refused*, or it was *unclear*. The version that the answer names
decides, never that some handshake got under way. What a refusal proves is weighed in `exporter.probes.tls.evidence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from tlslite.constants import AlertDescription, ContentType, ExtensionType, HandshakeType, SSL2HandshakeType
from tlslite.messages import ServerHello2
from tlslite.utils.codec import Parser

from exporter.facts import Protocol, Reason
from exporter.probes.tls.hello import PROTOCOLS_BY_WIRE_VERSION, SUITES, Hello

MAX_ANSWER: Final = 65536
"""Bytes read without an answer before the peer is taken for something else. A ServerHello is below 1 kB."""

_MAX_RECORD: Final = 1 << 14  # a plaintext record's limit, RFC 5246 6.2.1
_RECORD_TYPES: Final = frozenset(
    {ContentType.change_cipher_spec, ContentType.alert, ContentType.handshake, ContentType.application_data}
)
# The alerts that a server sends because it can do nothing with this hello. Only 70 names the version; 40 and 71 may
# mean ciphers, and 80 is what OpenSSL 3 says at its usual security level, which leaves TLS 1.0 and 1.1 no signature.
# Other alerts tell of something else: 112 of a name that the server does not know.
REFUSALS: Final = frozenset(
    {
        AlertDescription.unexpected_message,
        AlertDescription.handshake_failure,
        AlertDescription.illegal_parameter,
        AlertDescription.decode_error,
        AlertDescription.protocol_version,
        AlertDescription.insufficient_security,
        AlertDescription.internal_error,
    }
)
_WARNING: Final = 1


@dataclass(frozen=True, slots=True)
class Chose:
    """The server chose a version that was offered to it."""

    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Refused:
    """The server turned the hello down.

    Attributes:
        reason: connection_closed, connection_reset, tls_alert or wrong_version.
        detail: the same for people.
        explicit: whether it named the version as the cause, by alert 70 or by choosing a lower one in a ServerHello:
            that needs no further proof.
    """

    reason: Reason
    detail: str
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Unclear:
    """The server said something, or nothing, from which no answer follows."""

    reason: Reason
    detail: str


Answer: TypeAlias = Chose | Refused | Unclear


class AnswerReader:
    """Collects what one server says to one hello until it amounts to an answer."""

    def __init__(self, hello: Hello) -> None:
        self._hello = hello
        self._heard = 0  # bytes in all
        self._raw = bytearray()  # bytes of a record that is not complete yet
        self._alert = bytearray()
        self._handshake = bytearray()

    def feed(self, data: bytes) -> Answer | None:
        """Take in more bytes. The answer, or None while it is not complete."""
        data = data[: MAX_ANSWER - self._heard]
        self._heard += len(data)
        self._raw += data
        answer = self._read()
        if answer is None and self._heard == MAX_ANSWER:
            return Unclear(Reason.NOT_TLS, f"no answer within {MAX_ANSWER} bytes")
        return answer

    def ended(self, reason: Reason) -> Answer:
        """The answer when nothing more will come.

        A connection closed or reset is a refusal, unless the server was in the middle of saying something. Any other
        ``reason`` (tls_timeout, tcp_unreachable) leaves it unclear.
        """
        if reason not in {Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET}:
            return Unclear(reason, "connected, then silence" if not self._heard else "the answer never became complete")
        if self._raw or self._alert or self._handshake:
            return Unclear(Reason.NOT_TLS, "the connection ended in the middle of an answer")
        return Refused(reason, "the connection ended after the hello")

    def _read(self) -> Answer | None:
        raw = self._raw
        while raw:
            if raw[0] & 0x80 and self._hello.offers == (Protocol.SSL_2_0,) and len(raw) == self._heard:
                return self._read_ssl2()
            if raw[0] not in _RECORD_TYPES or (len(raw) > 1 and raw[1] != 3):
                return Unclear(Reason.NOT_TLS, f"not TLS: {bytes(raw[:40])!r}")
            length = int.from_bytes(raw[3:5], "big")
            if length > _MAX_RECORD:
                return Unclear(Reason.NOT_TLS, f"a record of {length} bytes")
            if len(raw) < 5 or len(raw) < 5 + length:
                break
            content_type, payload = raw[0], raw[5 : 5 + length]
            del raw[: 5 + length]
            answer = self._read_record(content_type, payload)
            if answer is not None:
                return answer
        return None

    def _read_record(self, content_type: int, payload: bytearray) -> Answer | None:
        if content_type == ContentType.alert:
            self._alert += payload
            return self._read_alerts()
        if content_type == ContentType.handshake:
            self._handshake += payload
            return self._read_handshake()
        return Unclear(Reason.NOT_TLS, f"a record of type {content_type} before any ServerHello")

    def _read_alerts(self) -> Answer | None:
        while len(self._alert) >= 2:
            level, code = self._alert[0], self._alert[1]
            del self._alert[:2]
            if code == AlertDescription.close_notify:
                return Refused(Reason.CONNECTION_CLOSED, "close_notify after the hello")
            if level == _WARNING:  # "unrecognized_name" and the like; the handshake goes on
                continue
            detail = _alert(code)
            if code in REFUSALS:
                return Refused(Reason.TLS_ALERT, detail, explicit=code == AlertDescription.protocol_version)
            return Unclear(Reason.TLS_ALERT, detail)
        return None

    def _read_handshake(self) -> Answer | None:
        message = self._handshake
        while len(message) >= 4:
            kind, length = message[0], int.from_bytes(message[1:4], "big")
            if kind == HandshakeType.hello_request and length == 0:  # may come at any time, RFC 5246 7.4.1.1
                del message[:4]
                continue
            if kind != HandshakeType.server_hello or length > _MAX_RECORD:
                return Unclear(Reason.NOT_TLS, f"a handshake message of type {kind}, {length} bytes, for a ServerHello")
            if len(message) < 4 + length:
                return None
            return self._judge(message[4 : 4 + length])
        return None

    def _judge(self, server_hello: bytearray) -> Answer:
        try:
            version, suite = _version_and_suite(Parser(server_hello))
        except SyntaxError as error:  # what tlslite-ng's Parser raises for a length that does not fit
            return Unclear(Reason.NOT_TLS, f"a ServerHello that does not parse: {error}")
        offers = self._hello.offers
        chosen = PROTOCOLS_BY_WIRE_VERSION.get(version)
        if chosen in offers:
            if suite not in SUITES[chosen]:
                return Unclear(Reason.NOT_TLS, f"chose cipher suite 0x{suite:04x}, which was not offered for {chosen}")
            return Chose(chosen)
        name = chosen or "version {}.{}".format(*version)
        if chosen is not None and _ORDER.index(chosen) < min(map(_ORDER.index, offers)):
            return Refused(Reason.WRONG_VERSION, f"answered {name} instead", explicit=True)
        return Unclear(Reason.WRONG_VERSION, f"answered {name}, which was not offered")

    def _read_ssl2(self) -> Answer | None:
        raw = self._raw
        if len(raw) < 3:
            return None
        length = (raw[0] & 0x7F) << 8 | raw[1]
        if raw[2] != SSL2HandshakeType.server_hello:
            return Unclear(Reason.NOT_TLS, f"an SSL 2.0 message of type {raw[2]} for a SERVER-HELLO")
        if len(raw) < 2 + length:
            return None
        try:
            parsed = ServerHello2().parse(Parser(bytearray(raw[3 : 2 + length])))
        except SyntaxError as error:
            return Unclear(Reason.NOT_TLS, f"an SSL 2.0 SERVER-HELLO that does not parse: {error}")
        if parsed.server_version != (0, 2):
            return Unclear(
                Reason.WRONG_VERSION, "an SSL 2.0 SERVER-HELLO of version {}.{}".format(*parsed.server_version)
            )
        return Chose(Protocol.SSL_2_0)


@lru_cache(maxsize=256)
def _alert(code: int) -> str:
    return f"alert {code} {AlertDescription.toRepr(code) or ''}".rstrip()


_ORDER: Final = tuple(Protocol)


def _version_and_suite(parser: Any) -> tuple[tuple[int, int], int]:
    """What a ServerHello (RFC 5246 7.4.1.3, RFC 8446 4.1.3) chose; a HelloRetryRequest has the same shape.

    Of the extensions only supported_versions is read: one that we have no use for must not cost the answer.
    """
    version = (parser.get(1), parser.get(1))
    parser.getFixBytes(32)
    if len(parser.getVarBytes(1)) > 32:
        raise SyntaxError("a session id of more than 32 bytes")
    suite: int = parser.get(2)
    parser.get(1)
    extensions = Parser(parser.getVarBytes(2) if parser.getRemainingLength() else bytearray())
    if parser.getRemainingLength():
        raise SyntaxError("bytes after the extensions")
    selected = None
    while extensions.getRemainingLength():
        kind, data = extensions.get(2), extensions.getVarBytes(2)
        if kind == ExtensionType.supported_versions:
            if selected is not None or len(data) != 2:
                raise SyntaxError("supported_versions twice, or not one version")
            selected = (data[0], data[1])
    if selected is not None:
        return _tls13_version(version, selected), suite
    if version >= (3, 4):  # TLS 1.3 never says so in this field; only drafts and strangers do
        raise SyntaxError("version {}.{} without supported_versions".format(*version))
    return version, suite


def _tls13_version(legacy: tuple[int, int], selected: tuple[int, int]) -> tuple[int, int]:
    if legacy != (3, 3) or selected < (3, 4):
        raise SyntaxError(f"supported_versions {selected} in a ServerHello of version {legacy}")
    return selected
