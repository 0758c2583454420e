"""Names to addresses, without ever keeping the exporter waiting.

The system's resolver (hosts file, search list and all) blocks and cannot be cancelled: each lookup gets a thread that
nothing waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import Final

from exporter.threads import DaemonThreads, TooManyThreadsError

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
        self._threads = DaemonThreads(_MAX_THREADS)

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
        try:
            return self._threads.start(f"resolve {host}", lambda: _look_up(host))
        except TooManyThreadsError as error:
            raise OSError(0, f"the resolver does not answer: {error}") from error


def _look_up(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name that IDNA cannot encode
        raise OSError(0, str(error)) from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
