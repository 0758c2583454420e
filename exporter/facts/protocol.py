"""The protocol versions that all of this is about."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """A protocol version, spelled as the Schannel registry keys and Go's ``tls.VersionName`` spell it."""

    SSL_2_0 = "SSL 2.0"
    SSL_3_0 = "SSL 3.0"
    TLS_1_0 = "TLS 1.0"
    TLS_1_1 = "TLS 1.1"
    TLS_1_2 = "TLS 1.2"
    TLS_1_3 = "TLS 1.3"


LEGACY_PROTOCOLS = (Protocol.SSL_2_0, Protocol.SSL_3_0, Protocol.TLS_1_0, Protocol.TLS_1_1)
"""What part 3 of the guidance switches off."""
