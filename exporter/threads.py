"""Blocking calls in threads that nothing waits for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooManyThreadsError(Exception):
    """No thread can be had: too many hang, or the process is at its limit."""


class DaemonThreads:
    """Runs calls that may hang and cannot be cancelled, for one event loop.

    Each gets a daemon thread: one that hangs delays neither another call nor the end of the process, as a thread of a
    pool would.

    Attributes:
        running: how many there are, those that hang among them.
    """

    def __init__(self, most: int) -> None:
        """Allow at most so many at the same time, those that hang among them."""
        self._most = most
        self.running = 0

    def start(self, name: str, call: Callable[[], T]) -> asyncio.Future[T]:
        """The outcome of the call, which begins at once. Whoever stops waiting for it leaves the thread to itself.

        Raises:
            TooManyThreadsError: none can be had.
        """
        if self.running >= self._most:
            raise TooManyThreadsError(f"{self.running} calls hang")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        outcome.add_done_callback(_look_at)

        def report(result: T | None, error: BaseException | None) -> None:
            self.running -= 1
            if outcome.done():  # nobody waits any more
                return
            if error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)  # type: ignore[arg-type]  # without an error it is the call's own

        def run() -> None:
            result, error = None, None
            try:
                result = call()
            except Exception as raised:  # noqa: BLE001 - it is the waiter's
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(report, result, error)

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError as error:  # the process is at its limit of threads
            raise TooManyThreadsError(str(error)) from error
        self.running += 1
        return outcome


def _look_at(outcome: asyncio.Future[T]) -> None:
    """An error that nobody waits for any more is no news; asyncio would log one that nobody looked at."""
    if not outcome.cancelled():
        outcome.exception()
