"""Calls that hang: nothing waits for them, neither another call nor the loop nor the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from exporter.threads import DaemonThreads, TooManyThreadsError


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What calls that hang wait for."""
    before = set(threading.enumerate())
    opened = threading.Event()
    yield opened
    opened.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


async def _until_none_runs(threads: DaemonThreads) -> None:
    async with asyncio.timeout(10):
        while threads.running:
            await asyncio.sleep(0.001)


async def test_the_outcome_is_the_call_s() -> None:
    """Whatever that is."""
    threads = DaemonThreads(2)

    assert await threads.start("one", lambda: 5) == 5
    assert await threads.start("two", lambda: [None]) == [None]
    assert threads.running == 0


async def test_so_is_its_error() -> None:
    """The very same one."""
    error = KeyError("a")

    def fail() -> None:
        raise error

    threads = DaemonThreads(1)
    with pytest.raises(KeyError) as caught:
        await threads.start("fail", fail)

    assert caught.value is error
    assert threads.running == 0


async def test_it_has_a_thread_of_that_name(gate: threading.Event) -> None:
    """A daemon, to be found in a dump; it began before anybody waits."""
    began = threading.Event()

    def call() -> threading.Thread:
        began.set()
        gate.wait(30)
        return threading.current_thread()

    outcome = DaemonThreads(1).start("facts of exch01", call)
    assert began.wait(10)
    gate.set()
    thread = await outcome

    assert (thread.name, thread.daemon) == ("facts of exch01", True)


async def test_one_that_hangs_delays_no_other(gate: threading.Event) -> None:
    """Nor the loop."""
    threads = DaemonThreads(2)
    hangs = threads.start("hangs", lambda: gate.wait(30))

    assert [await threads.start("other", lambda: 5) for _ in range(3)] == [5, 5, 5]
    assert threads.running == 1
    assert not hangs.done()


async def test_there_are_not_more_than_allowed(gate: threading.Event) -> None:
    """Those that hang are counted, also when nobody waits for them any more."""
    threads = DaemonThreads(2)
    outcomes = [threads.start("hangs", lambda: gate.wait(30)) for _ in range(2)]
    outcomes[0].cancel()
    calls: list[int] = []

    with pytest.raises(TooManyThreadsError, match="2 calls"):
        threads.start("one more", lambda: calls.append(1))

    assert threads.running == 2
    assert calls == []
    gate.set()
    assert await outcomes[1] is True
    await _until_none_runs(threads)
    assert await threads.start("one more", lambda: 5) == 5


@pytest.mark.parametrize("fails", [False, True])
async def test_an_outcome_that_nobody_waits_for_any_more(gate: threading.Event, *, fails: bool) -> None:
    """It disturbs nobody; the thread is free again."""
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    def call() -> None:
        gate.wait(30)
        if fails:
            raise ValueError("too late")

    threads = DaemonThreads(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await threads.start("hangs", call)
    gate.set()
    await _until_none_runs(threads)

    assert said == []


async def test_no_thread_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is at its limit; nothing is counted that does not run."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = DaemonThreads(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(TooManyThreadsError, match="can't start new thread"):
            threads.start("none", lambda: None)

    assert threads.running == 0
    assert await threads.start("one", lambda: 5) == 5


@pytest.mark.parametrize("fails", [False, True])
def test_the_loop_may_be_gone_when_it_ends(gate: threading.Event, *, fails: bool) -> None:
    """An exception in the thread would be a warning, and that an error."""

    def call() -> None:
        gate.wait(30)
        if fails:
            raise ValueError("too late")

    async def leave() -> None:
        DaemonThreads(1).start("hangs", call)

    asyncio.run(leave())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "hangs"]
    gate.set()
    thread.join(10)

    assert not thread.is_alive()


def test_the_process_ends_all_the_same() -> None:
    """A thread of the loop's own pool would keep it."""
    program = (
        "import asyncio, threading\n"
        "from exporter.threads import DaemonThreads\n"
        "async def main():\n"
        "    DaemonThreads(1).start('hangs', threading.Event().wait)\n"
        "asyncio.run(main())\n"
        "print('ended')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)

    assert (done.stdout, done.stderr) == ("ended\n", "")
