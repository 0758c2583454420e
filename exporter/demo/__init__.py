"""A small fleet on loopback to try the exporter on: real TLS endpoints, simulated servers.

The endpoints are tlslite-ng servers in threads of this process, each with the protocol versions that its label says.
What their hosts say about themselves are the documents of simulated machines, in facts files.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

import trustme
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.errors import BaseTLSException

from exporter.demo.machines import load
from exporter.demo.machines.document import output

_VERSIONS: Final[Mapping[str, tuple[int, int]]] = {
    "SSL 3.0": (3, 0),
    "TLS 1.0": (3, 1),
    "TLS 1.1": (3, 2),
    "TLS 1.2": (3, 3),
    "TLS 1.3": (3, 4),
}

FLEET: Final = (
    ("forgotten", "https", "SSL 3.0", "TLS 1.0"),
    ("ssl3-still-on", "https", "SSL 3.0", "TLS 1.2"),
    ("part-2-done", "https", "TLS 1.0", "TLS 1.2"),
    ("part-3-done", "https", "TLS 1.2", "TLS 1.2"),
    ("modern", "https", "TLS 1.2", "TLS 1.3"),
    ("mail-gateway", "smtp", "TLS 1.0", "TLS 1.2"),
)
"""Name, service, lowest and highest version of each simulated server."""

MACHINES: Final[Mapping[str, str]] = {
    "forgotten": "exchange-2010-sp3-ru17-on-2008-r2",
    "ssl3-still-on": "exchange-2013-cu18-on-2012-r2",
    "part-2-done": "exchange-2016-cu23-on-2016",
    "part-3-done": "exchange-2019-cu11-on-2019",
    "modern": "exchange-2019-cu15-on-2022",
    "mail-gateway": "edge-2016-cu22-on-2016",
}
"""The simulated machine that says what the host of each would."""


class DemoFleet:
    """The endpoints, as a context manager: listening inside, closed outside."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._folder = TemporaryDirectory(prefix="tls-readiness-demo-")
        self._endpoints = {
            name: TlsEndpoint(
                *self._certificate(name, expired=name == "forgotten"),
                lowest=lowest,
                highest=highest,
                starttls=service == "smtp",
            )
            for name, service, lowest, highest in FLEET
        }

    def _certificate(self, name: str, *, expired: bool) -> tuple[X509CertChain, Any]:
        full_name = f"{name}.demo.test"
        now = datetime.now(UTC)
        issued = self._authority.issue_cert(
            full_name,
            common_name=full_name,
            not_before=now - timedelta(days=400),
            not_after=now + timedelta(days=-35 if expired else 365),
            key_type=trustme.KeyType.RSA,
        )
        chain = X509CertChain()
        chain.parsePemList("".join(pem.bytes().decode() for pem in issued.cert_chain_pems))
        return chain, parsePEMKey(issued.private_key_pem.bytes().decode(), private=True)

    def __enter__(self) -> Self:
        self._authority.cert_pem.write_to_path(str(self._ca_file))
        for name in MACHINES:
            self._facts_file(name).write_text(_facts(name), encoding="ascii")
        for endpoint in self._endpoints.values():
            threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for endpoint in self._endpoints.values():
            endpoint.shutdown()
            endpoint.server_close()
        self._folder.cleanup()

    @property
    def _ca_file(self) -> Path:
        return Path(self._folder.name, "demo-ca.pem")

    def _facts_file(self, name: str) -> Path:
        return Path(self._folder.name, f"{name}.txt")

    def configuration(self) -> dict[str, Any]:
        """A configuration that watches the fleet every few seconds, and one server that does not answer."""
        servers: list[dict[str, Any]] = [
            {
                "name": f"{name}.demo.test",
                "address": "127.0.0.1",
                "role": load(MACHINES[name]).role,
                "labels": {"simulation": f"{lowest} to {highest}" if lowest != highest else f"{lowest} only"},
                "endpoints": [{"port": self._endpoints[name].server_address[1], "service": service}],
                "facts_file": {"path": str(self._facts_file(name))},
            }
            for name, service, lowest, highest in FLEET
        ]
        servers.append(
            {
                "name": "switched-off.demo.test",
                "address": "127.0.0.1",
                "labels": {"simulation": "nothing listens there"},
                "endpoints": [{"port": 1, "service": "https"}],
            }
        )
        return {
            "probe": {"interval": "5s", "timeout": "4s"},
            "scan": {"ca_file": str(self._ca_file), "parallel_endpoints": 4},
            "servers": servers,
        }


def _facts(name: str) -> str:
    """What the collector script would print on the server's simulated machine."""
    machine = replace(load(MACHINES[name]), host=name[:15].upper(), fqdn=f"{name}.demo.test")
    return output(machine, datetime.now(UTC), usage_megabytes=1)


class TlsEndpoint(socketserver.ThreadingTCPServer):
    """One TLS endpoint that accepts a range of versions, after STARTTLS over SMTP if asked for."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, chain: Any, key: Any, *, lowest: str, highest: str, starttls: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.chain = chain
        self.key = key
        self.starttls = starttls
        self.settings = HandshakeSettings()
        self.settings.minVersion = _VERSIONS[lowest]
        self.settings.maxVersion = _VERSIONS[highest]
        # Few suites, because handshakes in Python are slow; and where the old versions are off, good ones alone.
        self.settings.keyExchangeNames = ["ecdhe_rsa"] if lowest == "TLS 1.2" else ["ecdhe_rsa", "rsa"]
        self.settings.cipherNames = ["aes256gcm", "aes128gcm", *([] if lowest == "TLS 1.2" else ["aes256", "3des"])]
        self.settings.versions = [
            version for version in sorted(_VERSIONS.values(), reverse=True) if version <= self.settings.maxVersion
        ]


class _Handler(socketserver.BaseRequestHandler):
    server: TlsEndpoint

    def handle(self) -> None:
        self.request.settimeout(10)
        with suppress(OSError, BaseTLSException, SyntaxError, ValueError):
            if self.server.starttls and not begin_tls(self.request):
                return
            connection = TLSConnection(self.request)
            connection.handshakeServer(
                certChain=self.server.chain, privateKey=self.server.key, settings=self.server.settings
            )
            connection.close()


def begin_tls(connection: socket.socket) -> bool:
    """Enough of SMTP (RFC 5321, 3207) for a client that wants TLS; False if it leaves without."""
    connection.sendall(b"220 mail.demo.test ESMTP simulation\r\n")
    with connection.makefile("rb", buffering=0) as commands:
        for line in iter(lambda: commands.readline(1024), b""):
            match line.upper().split()[:1]:
                case [b"EHLO"]:
                    connection.sendall(b"250-mail.demo.test\r\n250 STARTTLS\r\n")
                case [b"STARTTLS"]:
                    connection.sendall(b"220 Ready to start TLS\r\n")
                    return True
                case [b"QUIT"]:
                    connection.sendall(b"221 Bye\r\n")
                    return False
                case _:
                    connection.sendall(b"502 Not in this simulation\r\n")
    return False
