"""Is anybody there? One TCP connection, without a word, before anything is said to a host.

A host that is down costs neither a child process nor its turn with a credential this way, and what is asked afterwards
goes to the address that answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from exporter.facts import Missing, Reason

_TELLING: Final = (Reason.TCP_TIMEOUT, Reason.TCP_UNREACHABLE, Reason.TCP_REFUSED)


class NobodyThereError(Exception):
    """No address took a connection; ``missing`` says why."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(missing.detail)
        self.missing = missing


async def knock(addresses: Sequence[str], port: int, timeout: float) -> str:
    """The first of these addresses that takes a connection.

    Args:
        addresses: IP addresses, at least one.
        port: the TCP port.
        timeout: seconds for all of them.

    Raises:
        NobodyThereError: none does. *tcp_refused* only where each refused.
    """
    failures = []
    for address in addresses:
        missing = await _try(address, port, timeout / len(addresses))
        if missing is None:
            return address
        failures.append(missing)
    raise NobodyThereError(min(failures, key=lambda each: _TELLING.index(each.reason)))


async def _try(address: str, port: int, timeout: float) -> Missing | None:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return Missing(Reason.TCP_TIMEOUT, f"no answer from {address} port {port}")
    except ConnectionRefusedError:
        return Missing(Reason.TCP_REFUSED, f"{address} port {port} refused")
    except OSError as error:
        return Missing(Reason.TCP_UNREACHABLE, f"{address} port {port}: {error.strerror or error}")
    writer.close()
    return None
