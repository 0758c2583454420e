"""Names to addresses, without ever keeping the exporter waiting.

The system's resolver (hosts file, search list and all) blocks and cannot be cancelled. Each lookup gets a daemon
thread: one that hangs delays neither another lookup nor the end of the process, as a thread of a pool would.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Final

MAX_ADDRESSES: Final = 8
"""Addresses of one name that are used at most."""
_MAX_LOOKUPS: Final = 64  # waited for at the same time
_MAX_THREADS: Final = 256  # the same, with those that hang and that nobody waits for any more


class ResolveError(Exception):
    """The name has no address, or the resolver did not say in time."""


class Resolver:
    """Looks names up for one event loop."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_MAX_LOOKUPS)
        self._threads = 0

    async def resolve(self, host: str, timeout: float) -> tuple[str, ...]:
        """The addresses of a host in the system's order of preference (RFC 6724); an address is its own answer.

        Args:
            host: a name or an IP address.
            timeout: seconds to wait for the resolver at most, once it is this lookup's turn.

        Raises:
            ResolveError: there is none, or not in time.
        """
        with contextlib.suppress(ValueError):
            return (str(ipaddress.ip_address(host)),)
        try:
            async with self._slots, asyncio.timeout(timeout):
                return await self._start_lookup(host)
        except TimeoutError as error:
            raise ResolveError(f"{host}: no answer from the resolver within {timeout:g} s") from error
        except OSError as error:
            raise ResolveError(f"{host}: {error.strerror}") from error

    def _start_lookup(self, host: str) -> asyncio.Future[tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()
        if self._threads >= _MAX_THREADS:
            raise OSError(0, f"the resolver does not answer, {self._threads} lookups hang")

        def report(found: tuple[str, ...] | OSError) -> None:
            self._threads -= 1
            if answer.done():  # nobody waits any more
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def post(found: tuple[str, ...] | OSError) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(report, found)

        self._threads += 1
        try:
            threading.Thread(target=_look_up, args=(host, post), name=f"resolve {host}", daemon=True).start()
        except RuntimeError as error:  # the process is at its limit of threads
            report(OSError(0, str(error)))
        return answer


def _look_up(host: str, post: Callable[[tuple[str, ...] | OSError], None]) -> None:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        post(error)
    except UnicodeError as error:  # a name that IDNA cannot encode
        post(OSError(0, str(error)))
    else:
        post(tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES])
