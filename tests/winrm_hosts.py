"""Visits to simulated Windows hosts and to servers that are none, and what their side saw of them."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import trustme
from documents import SERVER, base_document, printed

from exporter.demo.winrm import Account, Listening, WindowsHost
from exporter.demo.winrm.misbehaviour import Action, Seen
from exporter.probes.winrm.jobs import Collected, CollectJob, Login
from exporter.probes.winrm.script import SHA256
from exporter.probes.winrm.session import collect

USER = r"CONTOSO\svc-tlsread"
PASSWORD = "Gr8-Geh3imnis"
ACCOUNT = Account("CONTOSO", "svc-tlsread", PASSWORD)
DOCUMENT = printed(base_document())
_JOIN = 5.0
AMPLE = 20.0
"""Seconds for a visit that takes a fraction of one on a machine that is not busy."""


def windows(document: bytes = DOCUMENT, **changes: Any) -> WindowsHost:
    """A host whose script prints this."""
    return WindowsHost(
        **{"accounts": (ACCOUNT,), "name": "EXCH01"} | changes, document=lambda *_: document, script_sha256=SHA256
    )


def job(port: int, auth: Any = "ntlm", *, server: str = SERVER, https: bool = False, **login: Any) -> CollectJob:
    """The right user asks a server on loopback, unless it is said otherwise."""
    secret = {} if auth == "certificate" else {"username": USER, "password": PASSWORD}
    return CollectJob(server, "127.0.0.1", Login(auth, https, port, **secret | login))


def visit(at: int | Listening, auth: Any = "ntlm", timeout: float = AMPLE, **changes: Any) -> Collected:
    """One visit, in this process."""
    return collect(job(at if isinstance(at, int) else at.port, auth, **changes), timeout)


def at_operation(
    name: str, action: Action | bytes, *, times: int = 1_000_000
) -> Callable[[Seen], Action | bytes | None]:
    """Misbehave at an operation, the first times that it comes."""
    left = [times]

    def misbehave(seen: Seen) -> Action | bytes | None:
        if seen.operation != name or not left[0]:
            return None
        left[0] -= 1
        return action

    return misbehave


# Raw servers

Answer: TypeAlias = bytes | Iterable[bytes] | None
"""What a raw server says to a request; None: it closes the connection."""


@dataclass
class RawServer:
    """A server on loopback that answers as a test wants.

    Attributes:
        port: where.
        requests: what came, each with its header; over TLS what it held.
    """

    port: int
    requests: list[bytes] = field(default_factory=list)

    @property
    def received(self) -> bytes:
        """All that came."""
        return b"".join(self.requests)


@contextmanager
def raw_server(answer: Callable[[bytes], Answer] | bytes, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """A server that gives this answer to each request, on as many connections as come."""
    answer_of = answer if callable(answer) else lambda _: answer
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])
        threads: list[threading.Thread] = []
        peers: list[socket.socket] = []

        def serve(peer: socket.socket) -> None:
            with suppress(OSError), tls.wrap_socket(peer, server_side=True) if tls else peer as stream:
                peers.append(stream)
                while request := _request(stream):
                    server.requests.append(request)
                    said = answer_of(request)
                    if said is None:
                        return
                    for part in [said] if isinstance(said, bytes) else said:
                        stream.sendall(part)

        def accept() -> None:
            with suppress(OSError):  # the listener was shut down
                while True:
                    peer, _ = listener.accept()
                    peers.append(peer)
                    threads.append(threading.Thread(target=serve, args=(peer,)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in peers:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in peers:
                each.close()


def _request(stream: socket.socket) -> bytes:
    """A whole request; without HTTP what comes first; b"" at the end."""
    received = stream.recv(65536)
    while b"\r\n\r\n" not in received and received.startswith(b"POST"):
        received += (more := stream.recv(65536))
        if not more:
            return received
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0 and (more := stream.recv(65536)):
        received += more
        missing -= len(more)
    return received


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An answer of HTTP."""
    lines = (f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


# What the other side saw


@contextmanager
def tapped(port: int) -> Iterator[RawServer]:
    """A way to a server on loopback, by another port, on which all that goes to it is noted."""

    def answer(stream: socket.socket) -> Callable[[bytes], None]:
        def note(piece: bytes) -> None:
            tap.requests.append(piece)
            stream.sendall(piece)

        return note

    with socket.create_server(("127.0.0.1", 0)) as listener:
        tap = RawServer(listener.getsockname()[1])
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(("127.0.0.1", port))
                    for source, sink, sent in ((near, far, answer(far)), (far, near, near.sendall)):
                        threads.append(threading.Thread(target=_pump, args=(source, sink, sent)))
                        threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield tap
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join(_JOIN)
            assert not any(thread.is_alive() for thread in threads), "a connection was left open"


def _pump(source: socket.socket, sink: socket.socket, sent: Callable[[bytes], None]) -> None:
    """Carry one direction of a connection to its end, and close what it came from."""
    with suppress(OSError), source:
        while piece := source.recv(65536):
            sent(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


_TOKEN = re.compile(rb"(?im)^((?:proxy-)?authorization): *(\w+) +([A-Za-z0-9+/=]+)")


def proofs(received: bytes) -> int:
    """How many requests proved the knowledge of a password: with Basic, or with the last message of NTLM."""
    found = 0
    for _, method, token in _TOKEN.findall(received):
        found += method.lower() == b"basic" or base64.b64decode(token).startswith(b"NTLMSSP\0\x03")
    return found


READABLE = (b"<env:Envelope", b"powershell", PASSWORD.encode().lower(), PASSWORD.encode("utf-16-le").lower())
"""What nobody on the way may see, in lower case but for the first."""


def readable(received: bytes) -> list[bytes]:
    """What of it was sent readably."""
    return [each for each in READABLE if each.lower() in received.lower()]


# Certificates


@dataclass(frozen=True)
class Pki:
    """An authority, and the PEM files of a host and of a client that it certified.

    Attributes:
        authority: itself.
        ca_file: its certificate.
        certificate_file: of `SERVER`, with its chain.
        key_file: of `SERVER`.
        client_file: of the client.
        client_key_file: of the client.
    """

    authority: trustme.CA
    ca_file: Path
    certificate_file: Path
    key_file: Path
    client_file: Path
    client_key_file: Path


def pki(folder: Path, name: str = SERVER) -> Pki:
    """A new authority, with its files in a folder."""
    made = Pki(trustme.CA(), *(folder / f"{each}.pem" for each in ("ca", "host", "host-key", "client", "client-key")))
    made.authority.cert_pem.write_to_path(made.ca_file)
    for identity, certificate_file, key_file in (
        (name, made.certificate_file, made.key_file),
        ("svc-tlsread@contoso.test", made.client_file, made.client_key_file),
    ):
        issued = made.authority.issue_cert(identity, key_type=trustme.KeyType.ECDSA)
        certificate_file.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key_file)
    return made


def server_context(authority: trustme.CA, *names: str, **validity: Any) -> ssl.SSLContext:
    """What a TLS server needs that has a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (SERVER,)), **validity).configure_cert(context)
    return context
