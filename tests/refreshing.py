"""A refresh loop that runs for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from exporter.refresh import Refresh
from exporter.snapshot import Snapshot


@asynccontextmanager
async def running(refresh: Refresh) -> AsyncIterator[Refresh]:
    """The loop, running inside."""
    task = asyncio.create_task(refresh.run())
    try:
        yield refresh
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(refresh: Refresh, condition: Callable[[Snapshot], bool]) -> Snapshot:
    """The first published snapshot that meets a condition."""
    async with asyncio.timeout(30):
        while not condition(refresh.store.latest):
            await refresh.store.newer_than(refresh.store.latest)
    return refresh.store.latest
