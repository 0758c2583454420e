"""The other side of the benchmarks: nginx in numbers, a relay that counts, and ports that never answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

import trustme

WORKERS: Final = min(4, os.cpu_count() or 1)
_NGINX: Final = """
daemon off; {user}
worker_processes {workers}; worker_rlimit_nofile 16384; error_log {folder}/error.log crit; pid {folder}/nginx.pid;
events {{ worker_connections 8000; }}
http {{
  access_log off; server_tokens off; ssl_session_cache off; ssl_session_tickets off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {folder}/chain.pem; ssl_certificate_key {folder}/key.pem;
  server {{ {modern} ssl_protocols TLSv1.2; return 204; }}
  server {{ {legacy} ssl_protocols TLSv1 TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0; return 204; }}
}}
"""


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@contextlib.contextmanager
def nginx(modern: Sequence[int], legacy: Sequence[int]) -> Iterator[None]:
    """Run nginx with an ECDSA certificate: TLS 1.2 alone on some ports, TLS 1.0 to 1.2 on others.

    It listens on every address, because that is how one socket serves all of 127.0.0.0/8. Only loopback is asked.
    """
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        folder = Path(name)
        issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("*.bench.test", key_type=trustme.KeyType.ECDSA)
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        for position, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(str(folder / "chain.pem"), append=position > 0)
        text = _NGINX.format(
            folder=folder,
            user="user root;" if os.geteuid() == 0 else "",
            workers=WORKERS,
            modern=" ".join(f"listen {port} ssl reuseport backlog=4096;" for port in modern),
            legacy=" ".join(f"listen {port} ssl reuseport backlog=4096;" for port in legacy),
        )
        (folder / "nginx.conf").write_text(text, encoding="ascii")
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin") or "nginx"
        with subprocess.Popen([program, "-p", name, "-c", str(folder / "nginx.conf")]) as process:
            try:
                for port in (*modern, *legacy):
                    wait_for_port(port, process)
                yield
            finally:
                process.terminate()
                process.wait(10)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Wait until the process listens there."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{process.args!r} does not listen on port {port}") from None
            time.sleep(0.05)
        else:
            return


class Relay:
    """Carries TCP connections on to another port of 127.0.0.1 and counts them. In a thread of its own."""

    def __init__(self, target: int) -> None:
        self.accepted = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._carry, sock=self._listener):
            await self._stop.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        with contextlib.suppress(OSError):
            back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(_copy(reader, back_writer), _copy(back_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port on every loopback address that takes connections and never says a word."""
    # The kernel completes the connections that nobody accepts, up to the length of the queue.
    with socket.create_server(("", 0), backlog=4096) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def trickling_port() -> Iterator[int]:
    """A port on loopback that promises a long record and delivers it a byte at a time: no wait is long, all are."""
    stopped = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(16384)
            connection.sendall(bytes.fromhex("1603034000"))
            while not stopped.wait(0.2):
                connection.sendall(b"\0")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """A port on every loopback address that answers no SYN: its queue of one is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("", 0), backlog=0))
        port = int(listener.getsockname()[1])
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)  # noqa: FBT003 - the socket module's own signature
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.2)
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            probe.connect(("127.0.0.1", port))
            raise RuntimeError("this system answers SYNs to a full queue")
        yield port
