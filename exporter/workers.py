"""Child processes for work that must be killable: libraries that hang, leak or crash take a child with them, no more.

A child is a Python module of ours (`serve`) that reads one job per line and writes one outcome per line. The parent
(`Workers`) starts children when there is work, kills one that does not answer in time, replaces one that has done its
share, and lets them go when there has been nothing to do for a while.

Plain subprocesses rather than `multiprocessing` and what builds on it: those keep a helper process of their own for as
long as the exporter runs, and import the parent's main module into each child.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

TASKS: Final = 50
"""Jobs after which a child is replaced: sslyze's memory grows with each (sslyze issue 603)."""
IDLE: Final = 180.0
"""Seconds without work after which a child is let go."""
MEMORY: Final = 1 << 29
"""Bytes of address space that a child may have."""
START_LIMIT: Final = 30.0
"""Seconds that a child may take until it is ready for work."""
GRACE: Final = 0.5
"""Seconds beyond a job's own time-out until its child is killed: a child that notices by itself says what it has."""

_DYING: Final = 2.0  # seconds that a child may take to end by itself once it has closed its output
_ORPHANED: Final = 10.0  # seconds after a job's time-out when a child ends by itself, should the parent be gone
_MAX_LINE: Final = 1 << 24  # bytes of an outcome; a scan's is below 100 kB, a host's 8 MB in base64 at most
_READY: Final = b"ready\n"
_NEWS: Final = b"news\n"
_OUTCOMES: Final = 3  # the file descriptor that a child writes to
_OUT_OF_MEMORY: Final = 77  # an exit status that nothing else uses


class Death(StrEnum):
    """How a child ended before it had done its job. The closed list of the metric's ``reason`` label."""

    DEADLINE = "deadline"
    MEMORY = "memory"
    DIED = "died"
    NOT_STARTED = "not_started"


class WorkerDied(Exception):  # noqa: N818 - it says what happened
    """The child that had the job ended before it had done it."""

    def __init__(self, reason: Death, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Workers:
    """Children of one kind, started as they are needed.

    Attributes:
        deaths: how often a child ended in the midst of a job, by the reason.
    """

    def __init__(
        self, module: str, at_most: int, *, tasks: int = TASKS, idle: float = IDLE, tidy_up: float = 0.0
    ) -> None:
        """Children that run ``module``, ``at_most`` of them at the same time.

        One whose job is abandoned, because the exporter ends, has ``tidy_up`` seconds to put away what it has open
        elsewhere.
        """
        self.deaths: Counter[Death] = Counter()
        self._module = module
        self._slots = asyncio.Semaphore(at_most)
        self._tasks = tasks
        self._idle = idle
        self._tidy_up = tidy_up
        self._waiting: dict[_Child, asyncio.Task[None]] = {}

    async def run(
        self, job: bytes, timeout: float, patience: float | None = None, on_news: Callable[[], None] = lambda: None
    ) -> bytes:
        """Have a child do a job: one line each way.

        Args:
            job: what to do, without a line break.
            timeout: seconds that it may take, once a child has it.
            patience: seconds to wait for a child that is free; None for as long as it takes.
            on_news: called when the child has `tell_news` while it works.

        Raises:
            TimeoutError: none was free in time.
            WorkerDied: the child ended first.
        """
        async with asyncio.timeout(patience):
            await self._slots.acquire()
        try:
            child = await self._child()
            try:
                return await child.do(job, timeout, on_news)
            except WorkerDied as death:
                self.deaths[death.reason] += 1
                raise
            except asyncio.CancelledError:
                await child.abandon(self._tidy_up)
                raise
            finally:
                if child.usable and child.done < self._tasks:
                    self._waiting[child] = asyncio.create_task(self._let_go(child))
                else:
                    await child.end()
        finally:
            self._slots.release()

    async def _child(self) -> _Child:
        """One that waits for work, the last that had some, or a new one."""
        while self._waiting:
            child, letting_go = self._waiting.popitem()
            letting_go.cancel()
            if child.running:
                return child
            await child.end()
        return _Child(self._module)

    async def _let_go(self, child: _Child) -> None:
        await asyncio.sleep(self._idle)
        del self._waiting[child]
        await child.end()

    async def close(self) -> None:
        """End the children that wait for work. Those at work end with the tasks that they work for."""
        waiting, self._waiting = self._waiting, {}
        for child, letting_go in waiting.items():
            letting_go.cancel()
            await child.end()


class _Child:
    """One child process, not started before its first job."""

    def __init__(self, module: str) -> None:
        self.done = 0
        self.usable = False  # whatever interrupts a job leaves a child that must not get another
        self._module = module
        self._process: Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def do(self, job: bytes, timeout: float, on_news: Callable[[], None]) -> bytes:
        self.usable = False
        process = self._process or await self._start()
        try:
            async with asyncio.timeout(timeout + GRACE):
                outcome = await _exchange(process, job, timeout, on_news)
        except TimeoutError:
            raise WorkerDied(Death.DEADLINE, f"no outcome within {timeout:.3g} s") from None
        if not outcome.endswith(b"\n"):
            raise await self._post_mortem(Death.DIED)
        self.usable = True
        self.done += 1
        return outcome

    async def _start(self) -> Process:
        # What the parent can import the child can; the folder that the exporter was started in does not count.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self._module),
                stdin=PIPE,
                stdout=PIPE,
                env=environment,
                limit=_MAX_LINE,
                start_new_session=True,  # Ctrl-C is for the parent to handle
            )
        except OSError as error:
            raise WorkerDied(Death.NOT_STARTED, str(error)) from error
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(START_LIMIT):
                ready = await process.stdout.readline()
        except TimeoutError:
            raise WorkerDied(Death.NOT_STARTED, f"not ready within {START_LIMIT:.3g} s") from None
        if ready != _READY:
            raise await self._post_mortem(Death.NOT_STARTED)
        return process

    async def _post_mortem(self, otherwise: Death) -> WorkerDied:
        status = await self.end(patience=_DYING)
        if status == _OUT_OF_MEMORY:
            return WorkerDied(Death.MEMORY, f"it needed more than {MEMORY >> 20} MB")
        return WorkerDied(otherwise, f"signal {-status}" if status < 0 else f"exit status {status}")

    async def abandon(self, patience: float) -> None:
        """Tell it that nobody waits for its job any more, and let it end by itself if it does so in time."""
        if patience and self._process is not None and self.running:
            self._process.terminate()
            await self.end(patience)

    async def end(self, patience: float = 0.0) -> int:
        """Make sure that the process is gone, by itself or after ``patience`` seconds; its exit status."""
        if self._process is None:
            return 0
        if patience:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()  # reads what it still said, without which its end may not be noticed
        await _forget(self._process)
        assert self._process.returncode is not None  # noqa: S101 - it ended
        return self._process.returncode


async def _forget(process: Process) -> None:
    """Ask how the pipe to it ended: Python 3.11.2, Debian 12's, logs a broken one as an error if nobody asks."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(_DYING):
            await process.stdin.wait_closed()


async def _exchange(process: Process, job: bytes, timeout: float, on_news: Callable[[], None]) -> bytes:
    """Hand over a job and wait for its outcome; less than a line if the child ends first."""
    assert process.stdin is not None  # noqa: S101 - they are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(b"%f %b\n" % (timeout, job))
    with contextlib.suppress(ConnectionError):  # it ended: reading says so
        await process.stdin.drain()
    try:
        while (line := await process.stdout.readline()) == _NEWS:
            on_news()
    except ValueError:  # longer than any outcome
        return b""
    return line


def serve(do: Callable[[bytes, float], bytes]) -> None:
    """Be a child: do each job that comes, until no more come.

    Args:
        do: does one, given its line and the seconds that it may take. When they are over, a TimeoutError comes up
            wherever it is. What it raises ends the child.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.dup2(1, _OUTCOMES)
    os.dup2(2, 1)  # what a library prints must not be taken for an outcome
    with os.fdopen(0, "rb") as jobs, os.fdopen(_OUTCOMES, "wb") as outcomes:
        gc.freeze()  # what was imported is no garbage, and looking through it for some takes longer than many a job
        outcomes.write(_READY)
        outcomes.flush()
        signal.signal(signal.SIGTERM, _abandoned)
        for line in jobs:
            timeout, job = line.split(b" ", 1)
            signal.signal(signal.SIGALRM, _time_is_over)
            signal.setitimer(signal.ITIMER_REAL, float(timeout), _ORPHANED)
            try:
                outcome = do(job, float(timeout))
            except MemoryError:
                os._exit(_OUT_OF_MEMORY)
            signal.setitimer(signal.ITIMER_REAL, 0)
            outcomes.write(outcome + b"\n")
            outcomes.flush()
            gc.collect()  # sslyze leaves cycles behind (sslyze issue 603)


def tell_news() -> None:
    """In a child's job: tell the parent that something has come out already, which both know what it is."""
    os.write(_OUTCOMES, _NEWS)


def _time_is_over(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_DFL)  # next time it is the end
    raise TimeoutError


def _abandoned(number: int, _: object) -> None:
    raise SystemExit(128 + number)  # wherever it is: what must be put away is in a finally


class TimeIsUp(BaseException):
    """The time of a `time_limit` is over. No library takes it for an error of its own, as it would a TimeoutError."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """In a child's job: raise `TimeIsUp` when this block takes longer. The job's own timer goes on afterwards."""

    def over(_: int, __: object) -> None:
        raise TimeIsUp

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, over)
    # Again every second: one that comes up in a finalizer is swallowed there.
    left, again = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 0.001), again)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """In a child's job: put off the end that the parent asks for until this block is over."""
    asked: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        if asked:
            raise SystemExit(128 + asked[0])
