"""A small fleet on loopback to try the exporter on: real TLS endpoints, simulated Windows hosts.

Each server has a loopback address of its own. Its endpoints are tlslite-ng servers in threads of this process, with
the protocol versions that its label says. Its host answers over WinRM (NTLM, encrypted) with what the collector script
would print on a simulated machine; that of the mail gateway is in a facts file, as if no WinRM led to it.
"""

from __future__ import annotations

import secrets
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

from exporter.demo.machines import Machine, load
from exporter.demo.machines.document import output
from exporter.demo.winrm.host import Account, WindowsHost
from exporter.demo.winrm.service import SimulatedHosts
from exporter.probes.winrm.script import SHA256

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
    ("part-2-half-way", "https", "TLS 1.0", "TLS 1.2"),
    ("part-2-done", "https", "TLS 1.0", "TLS 1.2"),
    ("part-3-done", "https", "TLS 1.2", "TLS 1.2"),
    ("modern", "https", "TLS 1.2", "TLS 1.3"),
    ("newest", "https", "TLS 1.2", "TLS 1.3"),
    ("directory", "tls", "SSL 3.0", "TLS 1.0"),
    ("mail-gateway", "smtp", "TLS 1.0", "TLS 1.2"),
)
"""Name, service, lowest and highest version of each simulated server."""

MACHINES: Final[Mapping[str, str]] = {
    "forgotten": "exchange-2010-sp3-ru17-on-2008-r2",
    "ssl3-still-on": "exchange-2013-cu18-on-2012-r2",
    "part-2-half-way": "exchange-2016-cu7-on-2012-r2",
    "part-2-done": "exchange-2016-cu23-on-2016",
    "part-3-done": "exchange-2019-cu11-on-2019",
    "modern": "exchange-2019-cu15-on-2022",
    "newest": "exchange-se-on-2025",
    "directory": "domain-controller-on-2008-r2",
    "mail-gateway": "edge-2016-cu22-on-2016",
}
"""The simulated machine that says what the host of each would."""

BY_FILE: Final = frozenset({"mail-gateway"})
"""Servers whose hosts no WinRM leads to."""

_ACCOUNT: Final = Account(domain="DEMO", user="svc-tlsread", password=secrets.token_urlsafe(12))


class DemoFleet:
    """The servers, as a context manager: listening inside, closed outside."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._folder = TemporaryDirectory(prefix="tls-readiness-demo-")
        self._hosts = SimulatedHosts()
        self._winrm_port = 0
        self._endpoints = {
            name: TlsEndpoint(
                *self._certificate(name, expired=name == "forgotten"),
                address=_address(name),
                lowest=lowest,
                highest=highest,
                starttls=service == "smtp",
            )
            for name, service, lowest, highest in FLEET
        }

    def _certificate(self, name: str, *, expired: bool) -> tuple[X509CertChain, Any]:
        now = datetime.now(UTC)
        issued = self._authority.issue_cert(
            _full_name(name),
            common_name=_full_name(name),
            not_before=now - timedelta(days=400),
            not_after=now + timedelta(days=-35 if expired else 365),
            key_type=trustme.KeyType.RSA,
        )
        chain = X509CertChain()
        chain.parsePemList("".join(pem.bytes().decode() for pem in issued.cert_chain_pems))
        return chain, parsePEMKey(issued.private_key_pem.bytes().decode(), private=True)

    def __enter__(self) -> Self:
        self._authority.cert_pem.write_to_path(str(self._path("demo-ca.pem")))
        self._path("password").write_text(f"{_ACCOUNT.password}\n", encoding="utf-8")
        self._hosts.__enter__()
        for name in MACHINES:
            if name in BY_FILE:
                facts = output(_machine(name), datetime.now(UTC), usage_megabytes=1)
                self._path(f"{name}.txt").write_text(facts, encoding="ascii")
            else:  # all on the port that the first one got: WinRM's own, 5985, may be taken here
                host = WindowsHost.from_machine(_machine(name), script_sha256=SHA256, accounts=[_ACCOUNT])
                self._winrm_port = self._hosts.start(host, _address(name), self._winrm_port).port
        for endpoint in self._endpoints.values():
            threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for endpoint in self._endpoints.values():
            endpoint.shutdown()
            endpoint.server_close()
        self._hosts.__exit__(kind, error, traceback)
        self._folder.cleanup()

    def _path(self, name: str) -> Path:
        return Path(self._folder.name, name)

    def configuration(self) -> dict[str, Any]:
        """A configuration that watches the fleet every few seconds, and one server that does not answer."""
        servers = [self._server(*each) for each in FLEET]
        servers.append(
            {
                "name": _full_name("switched-off"),
                "address": "127.0.0.1",
                "labels": {"simulation": "nothing listens there"},
                "endpoints": [{"port": 1, "service": "https"}],
            }
        )
        reader = {
            "auth": "ntlm",
            "username": _ACCOUNT.name,
            "password_file": str(self._path("password")),
            "port": self._winrm_port,
        }
        return {
            "probe": {"interval": "5s", "timeout": "4s"},
            "scan": {"ca_file": str(self._path("demo-ca.pem")), "parallel_endpoints": 4},
            "collect": {"interval": "1m", "timeout": "30s", "usage_megabytes": 1},
            "credentials": {"demo-reader": reader},
            "servers": servers,
        }

    def _server(self, name: str, service: str, lowest: str, highest: str) -> dict[str, Any]:
        source = (
            {"facts_file": {"path": str(self._path(f"{name}.txt"))}}
            if name in BY_FILE
            else {"credentials": "demo-reader"}
        )
        return {
            "name": _full_name(name),
            "address": _address(name),
            "role": load(MACHINES[name]).role,
            "labels": {"simulation": f"{lowest} to {highest}" if lowest != highest else f"{lowest} only"},
            "endpoints": [{"port": self._endpoints[name].server_address[1], "service": service}],
            **source,
        }


def _full_name(name: str) -> str:
    return f"{name}.demo.test"


def _address(name: str) -> str:
    """The loopback address of a server's own; Linux has all of 127.0.0.0/8."""
    return f"127.0.0.{10 + list(MACHINES).index(name)}"


def _machine(name: str) -> Machine:
    """The simulated machine that a server runs on, under the server's name."""
    return replace(load(MACHINES[name]), host=name[:15].upper(), fqdn=_full_name(name))


class TlsEndpoint(socketserver.ThreadingTCPServer):
    """One TLS endpoint that accepts a range of versions, after STARTTLS over SMTP if asked for."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(  # noqa: PLR0913 - what an endpoint is
        self, chain: Any, key: Any, *, lowest: str, highest: str, starttls: bool = False, address: str = "127.0.0.1"
    ) -> None:
        super().__init__((address, 0), _Handler)
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
