"""One conversation on one TCP connection: connect, ask for TLS where that is needed, say hello, hear the answer.

Sockets and the loop's readiness callbacks rather than streams or transports: a sweep's cost is its system calls and
wake-ups, and this needs the fewest (docs/performance.md). The connection is dropped without an alert once the answer is
there: a fatal alert from us would be one more error in the server's event log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from exporter.facts import Reason
from exporter.probes.tls.answer import Answer, AnswerReader
from exporter.probes.tls.hello import Hello
from exporter.probes.tls.starttls import Dialogue, StartTlsError


class ConnectError(Exception):
    """No TCP connection came about. ``reason`` is tcp_refused, tcp_timeout or tcp_unreachable."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class NoTls:
    """The server never came to the point where a hello could be said: nothing follows about any version."""

    reason: Reason
    detail: str
    farewell: bytes = b""


class _EndedError(Exception):
    """The connection gave no more; thrown into the conversation at the point where it waits."""

    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self.reason = reason


Conversation: TypeAlias = Generator[bytes, bytes, Answer | NoTls]

_READ: Final = 16384
# They end a connection that was there, however briefly: the loop only looked after that.
_RESET: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
_Heard = TypeVar("_Heard", bytes, BaseException)


def converse(hello: Hello, dialogue: Dialogue | None) -> Conversation:
    """The whole conversation as a generator without I/O: yields what to send, is sent what the server said."""
    try:
        if dialogue is not None:
            yield from dialogue
    except StartTlsError as error:
        return NoTls(error.reason, error.detail, error.farewell)
    except _EndedError as ended:
        silent = ended.reason is Reason.TLS_TIMEOUT
        return NoTls(ended.reason, f"{'silence' if silent else 'the connection ended'} before STARTTLS was agreed")
    reader = AnswerReader(hello)
    say = hello.fresh()
    answer: Answer | None = None
    while answer is None:
        try:
            answer = reader.feed((yield say))
        except _EndedError as ended:
            answer = reader.ended(ended.reason)
        say = b""
    return answer


class _Connection:
    """Carries one conversation over a socket of its own."""

    def __init__(self, conversation: Conversation, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._conversation = conversation
        self._unsent = next(conversation)
        self._connected = False
        self.answer: asyncio.Future[Answer | NoTls] = loop.create_future()
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        self._fd = self._socket.fileno()  # selectors formats a socket object, with two system calls, at each lookup

    def connect(self, address: str, port: int) -> None:
        """Begin to connect; raises OSError if that fails at once."""
        with contextlib.suppress(BlockingIOError):
            self._socket.connect((address, port))
        self._loop.add_writer(self._fd, self._writable)

    def time_out(self) -> None:
        """Give up waiting."""
        if self._connected:
            self._end(Reason.TLS_TIMEOUT)
        elif not self.answer.done():
            self.answer.set_exception(TimeoutError())

    def close(self) -> None:
        """Give the socket back; sending what a farewell has left to send is not waited for."""
        self._loop.remove_writer(self._fd)
        self._loop.remove_reader(self._fd)
        self._socket.close()

    def _writable(self) -> None:
        if self.answer.done():
            return
        if not self._connected:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error and error not in _RESET:
                self.answer.set_exception(OSError(error, os.strerror(error)))
                return
            self._connected = True
            if error:
                self._end(Reason.CONNECTION_RESET)
                return
            # Before writing ends, so that the loop keeps its handle on the socket: a quarter of a sweep's cost.
            self._loop.add_reader(self._fd, self._readable)
        self._loop.remove_writer(self._fd)
        self._send()

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lost(error)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._fd, self._writable)

    def _readable(self) -> None:
        if self.answer.done():
            return
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error)
            return
        if data:
            self._go_on(self._conversation.send, data)
        else:
            self._end(Reason.CONNECTION_CLOSED)

    def _lost(self, error: OSError) -> None:
        if isinstance(error, ConnectionError):
            self._end(Reason.CONNECTION_RESET)
        else:  # the network in between gave up: that is not the server's answer
            self._end(Reason.TLS_TIMEOUT if isinstance(error, TimeoutError) else Reason.TCP_UNREACHABLE)

    def _end(self, reason: Reason) -> None:
        """Tell the conversation that nothing more will come."""
        if not self.answer.done():
            self._go_on(self._conversation.throw, _EndedError(reason))

    def _go_on(self, step: Callable[[_Heard], bytes], heard: _Heard) -> None:
        """Pass on what was heard; say what comes of it, or conclude."""
        try:
            self._unsent += step(heard)
        except StopIteration as stop:
            self._conclude(stop.value)
        except Exception as error:  # noqa: BLE001 - a fault of ours must come out of `ask`, not keep it waiting
            self.answer.set_exception(error)
        else:
            self._send()

    def _conclude(self, answer: Answer | NoTls) -> None:
        if isinstance(answer, NoTls) and answer.farewell:
            with contextlib.suppress(OSError):
                self._socket.send(answer.farewell)
        self.answer.set_result(answer)


async def ask(address: str, port: int, hello: Hello, dialogue: Dialogue | None, limit: float) -> Answer | NoTls:
    """Hold one conversation.

    Args:
        address: the IP address to connect to.
        port: the TCP port.
        hello: what to say.
        dialogue: how to ask for TLS first, or None.
        limit: when to give up, on the event loop's clock in seconds.

    Returns:
        The answer. Silence is ``tls_timeout``: unclear after the hello, no TLS before it.

    Raises:
        ConnectError: no connection came about.
    """
    loop = asyncio.get_running_loop()
    try:
        connection = _Connection(converse(hello, dialogue), address, loop)
        timer = loop.call_at(limit, connection.time_out)
        try:
            connection.connect(address, port)
            return await connection.answer
        finally:
            timer.cancel()
            connection.close()
    except TimeoutError as error:
        raise ConnectError(Reason.TCP_TIMEOUT, f"no answer from {address} port {port}") from error
    except ConnectionRefusedError as error:
        raise ConnectError(Reason.TCP_REFUSED, f"{address} port {port} refused") from error
    except OSError as error:
        raise ConnectError(Reason.TCP_UNREACHABLE, f"{address} port {port}: {error}") from error
