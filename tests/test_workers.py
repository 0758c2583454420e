"""Child processes: reused, replaced, let go, killed, and never one too many, whatever they do."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from exporter import workers as workers_module
from exporter.workers import Death, TimeIsUp, WorkerDied, Workers, time_limit

WORKER = "children.worker"
BROKEN = "children.broken"
AMPLE = 30.0
"""Seconds for what takes a fraction of one on a machine that is not busy."""


# The loops


def on_every_loop(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make an async test run on each kind of loop that the exporter runs on, and see that nothing is left in it."""

    @functools.wraps(scenario)
    def test(new_loop: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_watched(scenario(**fixtures)))

    own = inspect.signature(scenario).parameters.values()
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    vars(test)["__signature__"] = inspect.Signature([*own, new_loop])  # where pytest finds the fixtures' names
    loops = pytest.mark.parametrize(
        "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    on_loops: Callable[..., None] = loops(test)
    return on_loops


async def _watched(scenario: Coroutine[Any, Any, None]) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    task = asyncio.create_task(scenario)
    hangs = not (await asyncio.wait({task}, timeout=2 * AMPLE))[0]
    while not task.done():  # each cancellation ends one wait; what cleans up may wait once more
        task.cancel()
        await asyncio.sleep(0.1)
    assert not hangs, "it hung"
    await task
    del task
    await asyncio.sleep(0.01)  # what was cancelled last
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert complaints == []


@pytest.fixture(autouse=True)
def _nothing_unclosed() -> Iterator[None]:
    """What warns when it is collected warns in the test that left it behind."""
    yield
    gc.collect()


# Processes


def _state(pid: int) -> tuple[int, str] | None:
    """A process's parent and its state, or None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = stat.rpartition(")")[2].split()[:2]
    return int(parent), state


def _all_children() -> set[int]:
    """This process's children, zombies among them."""
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return {pid for pid in pids if (_state(pid) or (0, ""))[0] == os.getpid()}


Children = Callable[[], set[int]]


@pytest.fixture
def children() -> Children:
    """The children that this process has beyond those that it had when the test began."""
    before = _all_children()
    return lambda: _all_children() - before


def _running(pid: int) -> bool:
    found = _state(pid)
    return found is not None and found[1] != "Z"


def _wait(condition: Callable[[], bool], seconds: float = AMPLE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(AMPLE):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def pool(children: Children, module: str = WORKER, at_most: int = 1, **limits: Any) -> AsyncIterator[Workers]:
    """Workers that are closed in the end, and then have left no process behind."""
    workers = Workers(module, at_most, **limits)
    try:
        yield workers
    finally:
        await workers.close()
    assert children() == set()


async def ask(workers: Workers, job: bytes, timeout: float = AMPLE) -> int:
    """Have a job done whose outcome is the child's number."""
    return int(await workers.run(job, timeout))


async def death_of(workers: Workers, job: bytes, timeout: float = AMPLE) -> WorkerDied:
    """Have a job tried that its child does not live to finish."""
    with pytest.raises(WorkerDied) as death:
        await workers.run(job, timeout)
    return death.value


# Work


@on_every_loop
async def test_a_jobs_outcome_comes_back(children: Children) -> None:
    """One line each way, and the time that the job may take with it."""
    async with pool(children) as workers:
        assert await workers.run(b"echo one two", AMPLE) == b"one two\n"
        assert await workers.run("echo naïve".encode(), AMPLE) == "naïve\n".encode()
        assert await workers.run(b"timeout", 12.345) == b"12.345\n"
        assert workers.deaths == {}


async def test_a_child_is_started_for_the_first_job_and_used_again(children: Children) -> None:
    async with pool(children) as workers:
        await asyncio.sleep(0)
        assert children() == set()

        pids = [await ask(workers, b"pid") for _ in range(5)]

        assert children() == set(pids)
        assert len(children()) == 1


async def test_there_are_at_most_so_many_at_the_same_time(children: Children) -> None:
    """Also while some are replaced, and the others of the jobs wait for their turn."""
    async with pool(children, at_most=2, tasks=2) as workers:
        jobs = asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(9)))
        most = 0
        while not jobs.done():
            most = max(most, len(children()))
            await asyncio.sleep(0.005)

        assert most == 2
        assert len(set(await jobs)) >= 5, "nobody did more than two"


async def test_more_children_than_jobs_are_not_started(children: Children) -> None:
    async with pool(children, at_most=4) as workers:
        await asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(2)))
        await ask(workers, b"pid")

        assert len(children()) == 2


async def test_a_child_is_replaced_when_it_has_done_its_share(children: Children) -> None:
    """And is gone by the time that the outcome of its last job is there."""
    async with pool(children, tasks=3) as workers:
        pids = [await ask(workers, b"pid") for _ in range(3)]
        assert children() == set()
        pids += [await ask(workers, b"pid") for _ in range(4)]

        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
        assert workers.deaths == {}


async def test_a_child_tidies_up_after_each_job(children: Children) -> None:
    """What only the garbage collector can remove does not wait for a full generation."""
    async with pool(children) as workers:
        assert [await workers.run(b"litter", AMPLE) for _ in range(3)] == [b"0\n"] * 3


# No work


@on_every_loop
async def test_a_child_without_work_is_let_go(children: Children) -> None:
    """After the idle time there is no process, not even a zombie; the next job gets a new one."""
    async with pool(children, at_most=2, idle=0.2) as workers:
        first = set(await asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(2))))
        assert children() <= first
        await until(lambda: children() == set())

        assert await ask(workers, b"pid") not in first
        await until(lambda: children() == set())
        assert workers.deaths == {}


async def test_a_child_at_work_is_not_idle(children: Children) -> None:
    """The idle time that began after the last job does not run on during the next."""
    async with pool(children, idle=0.2) as workers:
        first = await ask(workers, b"pid")

        assert await ask(workers, b"sleep 0.6") == first


@on_every_loop
async def test_close_ends_the_children_that_wait(children: Children) -> None:
    workers = Workers(WORKER, 3)
    await asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(3)))
    assert len(children()) == 3

    await workers.close()

    assert children() == set()
    await workers.close()


async def test_a_child_that_waits_does_not_take_itself_for_an_orphan(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last job's time is over by then, by far."""
    monkeypatch.setenv("ORPHANED", "0.3")
    async with pool(children) as workers:
        first = await ask(workers, b"pid", 0.2)
        await asyncio.sleep(1)

        assert children() == {first}
        assert await ask(workers, b"pid") == first


async def test_close_leaves_a_child_at_work_alone(children: Children) -> None:
    """It ends with the task that it works for."""
    async with pool(children, idle=0.1) as workers:
        pid = await ask(workers, b"pid")
        job = asyncio.create_task(ask(workers, b"sleep 0.4"))
        await asyncio.sleep(0.05)
        await workers.close()

        assert children() == {pid}
        assert await job == pid


async def test_close_and_the_end_of_the_idle_time_do_not_collide(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second child's idle time ends while the first is being ended."""
    end = workers_module._Child.end

    async def end_slowly(child: workers_module._Child, patience: float = 0.0) -> int:
        await asyncio.sleep(0.3)
        return await end(child, patience)

    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with pool(children, at_most=2, idle=0.2) as workers:
        await asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(2)))
        monkeypatch.setattr(workers_module._Child, "end", end_slowly)
        await workers.close()
    gc.collect()

    assert complaints == []


# Children that fail


@on_every_loop
async def test_a_child_that_hangs_is_killed(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the job's own, which is counted; the next job is done by another."""
    monkeypatch.setattr(workers_module, "GRACE", 0.2)
    async with pool(children) as workers:
        hung = await ask(workers, b"pid")
        began = time.monotonic()
        death = await death_of(workers, b"sleep 600", 0.3)

        assert 0.4 < time.monotonic() - began < AMPLE
        assert (death.reason, death.detail) == (Death.DEADLINE, "no outcome within 0.3 s")
        assert str(death) == death.detail
        assert workers.deaths == {Death.DEADLINE: 1}
        assert children() == set()
        assert await ask(workers, b"pid") != hung


async def test_a_timer_tells_the_child_that_its_time_is_over(children: Children) -> None:
    """So that it can say what it has; and the next job has a timer of its own."""
    async with pool(children) as workers:
        for _ in range(2):
            assert await workers.run(b"doze 60", 0.1) == b"woken\n"
        assert await workers.run(b"doze 0", 5) == b"awake\n"
        assert workers.deaths == {}


async def test_waiting_for_a_free_child_has_an_end(children: Children) -> None:
    """One that is not free in time is no death, and its place is not lost."""
    async with pool(children) as workers:
        busy = asyncio.create_task(workers.run(b"sleep 2", 10))
        await until(lambda: len(children()) == 1)
        with pytest.raises(TimeoutError):
            await workers.run(b"pid", 10, patience=0.05)
        await busy
        assert await ask(workers, b"pid") in children()
        assert workers.deaths == {}


async def test_a_child_that_is_stopped_is_killed_too(children: Children) -> None:
    async with pool(children) as workers:
        os.kill(await ask(workers, b"pid"), signal.SIGSTOP)

        assert (await death_of(workers, b"pid", 0.1)).reason is Death.DEADLINE
        assert children() == set()


async def test_a_child_that_notices_its_deadline_by_itself_is_heard(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "GRACE", AMPLE)
    async with pool(children) as workers:
        assert await ask(workers, b"sleep 0.2", 0.1) in children()
        assert workers.deaths == {}


@on_every_loop
@pytest.mark.parametrize(
    ("number", "detail"), [(signal.SIGKILL, "signal 9"), (signal.SIGTERM, "exit status 143")], ids=["KILL", "TERM"]
)
async def test_a_child_that_is_killed_at_work_costs_that_job(
    children: Children, number: signal.Signals, detail: str
) -> None:
    async with pool(children) as workers:
        pid = await ask(workers, b"pid")
        job = asyncio.create_task(death_of(workers, b"sleep 600"))
        await asyncio.sleep(0.1)
        os.kill(pid, number)
        death = await job

        assert (death.reason, death.detail) == (Death.DIED, detail)
        assert workers.deaths == {Death.DIED: 1}
        assert await ask(workers, b"pid") != pid


@on_every_loop
async def test_a_child_that_is_killed_while_it_waits_costs_nothing(children: Children) -> None:
    async with pool(children, at_most=2) as workers:
        pids = set(await asyncio.gather(*(ask(workers, b"sleep 0.1") for _ in range(2))))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: children() == set())
        await asyncio.sleep(0.2)  # until the loop knows

        assert await ask(workers, b"pid") not in pids
        assert workers.deaths == {}


@on_every_loop
async def test_a_child_that_dies_as_its_job_comes_costs_that_job_at_most(children: Children) -> None:
    """However far the news of its death has come by then."""
    async with pool(children) as workers:
        for steps in range(12):
            os.kill(await ask(workers, b"pid"), signal.SIGKILL)
            time.sleep(0.02)  # noqa: ASYNC251 - the process is gone, and the loop does not know
            for _ in range(steps):
                await asyncio.sleep(0)
            with suppress(WorkerDied):
                await ask(workers, b"pid")

        assert set(workers.deaths) <= {Death.DIED}


async def test_a_child_that_eats_memory_does_not_get_far(children: Children) -> None:
    async with pool(children) as workers:
        death = await death_of(workers, b"eat")

        assert (death.reason, death.detail) == (Death.MEMORY, "it needed more than 512 MB")
        assert workers.deaths == {Death.MEMORY: 1}
        assert await workers.run(b"echo next", AMPLE) == b"next\n"


async def test_what_a_job_raises_ends_its_child(children: Children, capfd: pytest.CaptureFixture[str]) -> None:
    """The traceback is in the log that everything else goes to."""
    async with pool(children) as workers:
        death = await death_of(workers, b"fail on purpose")

        assert (death.reason, death.detail) == (Death.DIED, "exit status 1")
        assert await workers.run(b"echo next", AMPLE) == b"next\n"
    assert "ValueError: on purpose" in capfd.readouterr().err


async def test_a_child_that_just_leaves_has_died(children: Children) -> None:
    """Also with the exit status of success: the job is not done."""
    async with pool(children) as workers:
        assert [(await death_of(workers, b"leave %d" % each)).detail for each in (0, 9)] == [
            "exit status 0",
            "exit status 9",
        ]
        assert workers.deaths == {Death.DIED: 2}


@pytest.mark.parametrize(("module", "detail"), [("children.missing", "exit status 1"), (BROKEN, "exit status 3")])
async def test_a_child_that_cannot_start_says_so(
    children: Children, monkeypatch: pytest.MonkeyPatch, module: str, detail: str
) -> None:
    """There is no such module, or it ends as it is imported; and every further job tries again."""
    monkeypatch.setenv("BROKEN", "exits")
    async with pool(children, module) as workers:
        for _ in range(2):
            death = await death_of(workers, b"pid")
            assert (death.reason, death.detail) == (Death.NOT_STARTED, detail)
            assert children() == set()
        assert workers.deaths == {Death.NOT_STARTED: 2}


@on_every_loop
async def test_no_python_is_a_child_that_cannot_start(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pool(children) as workers:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nonexistent/python")
            death = await death_of(workers, b"pid")

        assert death.reason is Death.NOT_STARTED
        assert "No such file" in death.detail
        assert workers.deaths == {Death.NOT_STARTED: 1}
        assert await ask(workers, b"pid") in children()


@pytest.mark.parametrize(("way", "detail"), [("hangs", "not ready within 0.5 s"), ("talks", "signal 9")])
async def test_a_child_that_never_gets_ready_is_killed(
    children: Children, monkeypatch: pytest.MonkeyPatch, way: str, detail: str
) -> None:
    monkeypatch.setenv("BROKEN", way)
    monkeypatch.setattr(workers_module, "START_LIMIT", 0.5 if way == "hangs" else AMPLE)
    monkeypatch.setattr(workers_module, "_DYING", 0.2)
    async with pool(children, BROKEN) as workers:
        death = await death_of(workers, b"pid")

        assert (death.reason, death.detail) == (Death.NOT_STARTED, detail)
        assert children() == set()


# What travels


async def test_what_a_library_prints_is_not_an_outcome(children: Children, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes where errors go."""
    async with pool(children) as workers:
        assert [await workers.run(b"chat %d" % each, AMPLE) for each in range(3)] == [b"0\n", b"1\n", b"2\n"]
    output = capfd.readouterr()
    assert output.out == ""
    assert sorted(output.err.splitlines()) == sorted(["printed", "written", "to the descriptor", "by a grandchild"] * 3)


@on_every_loop
async def test_news_comes_before_the_outcome(children: Children, tmp_path: Path) -> None:
    """As often as it is told, while the child is still at work; the outcome is that of the job."""
    goes_on, news = tmp_path / "go", []

    def note() -> None:
        news.append(goes_on.exists())
        if len(news) == 3:
            goes_on.touch()

    async with pool(children) as workers:
        told = await workers.run(b"tell 3 " + bytes(goes_on), AMPLE, on_news=note)

        assert told == bytes(goes_on) + b"\n"
        assert news == [False, False, False]


async def test_news_is_that_of_its_own_job(children: Children, tmp_path: Path) -> None:
    """A child's next job has others who listen; and nobody needs to."""
    async with pool(children) as workers:
        news: list[int] = []
        for number in range(3):
            await workers.run(b"tell 1 " + bytes(tmp_path), AMPLE, on_news=functools.partial(news.append, number))
        await workers.run(b"tell 1 " + bytes(tmp_path), AMPLE)

        assert news == [0, 1, 2]


async def test_news_gives_a_child_no_more_time(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "GRACE", 0.0)
    monkeypatch.setenv("BROKEN", "gossips")
    news: list[None] = []
    async with pool(children, BROKEN) as workers:
        with pytest.raises(WorkerDied) as death:
            await workers.run(b"echo", 0.3, on_news=lambda: news.append(None))

        assert death.value.reason is Death.DEADLINE
        assert news
        assert children() == set()


@on_every_loop
async def test_large_jobs_and_outcomes_travel(children: Children) -> None:
    """A megabyte each way, in one piece."""
    words = b"0123456789abcdef" * (1 << 16)
    async with pool(children) as workers:
        assert await workers.run(b"echo " + words, AMPLE) == words + b"\n"
        assert await ask(workers, b"pid") in children()


@on_every_loop
@pytest.mark.parametrize("size", [20_000_000, 50_000_000])
async def test_an_outcome_beyond_all_bounds_is_not_taken(
    children: Children, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The child has died, whatever it makes of that, and nobody waits for the rest."""
    monkeypatch.setattr(workers_module, "_DYING", 0.2)
    async with pool(children) as workers:
        death = await death_of(workers, b"long %d" % size)

        assert death.reason is Death.DIED
        assert children() == set()
        assert await workers.run(b"echo next", AMPLE) == b"next\n"


@on_every_loop
async def test_half_an_outcome_is_none(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "stammers")
    async with pool(children, BROKEN) as workers:
        death = await death_of(workers, b"pid")

        assert (death.reason, death.detail) == (Death.DIED, "exit status 0")


@on_every_loop
async def test_a_child_that_does_not_read_its_job_is_killed(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is full: handing over has the same deadline."""
    monkeypatch.setenv("BROKEN", "is_deaf")
    async with pool(children, BROKEN) as workers:
        assert (await death_of(workers, b"x" * 1_000_000, 0.1)).reason is Death.DEADLINE
        assert children() == set()


@on_every_loop
async def test_a_child_that_ends_while_it_is_given_a_job_has_died(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job does not fit into the pipe, and nobody reads it."""
    monkeypatch.setenv("BROKEN", "leaves")
    async with pool(children, BROKEN) as workers:
        death = await death_of(workers, b"x" * 1_000_000)

        assert (death.reason, death.detail) == (Death.DIED, "exit status 4")


# Cancellation


@on_every_loop
async def test_cancelling_kills_the_child_and_frees_its_place(children: Children) -> None:
    async with pool(children) as workers:
        pid = await ask(workers, b"pid")
        job = asyncio.create_task(ask(workers, b"sleep 600"))
        await asyncio.sleep(0.1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        assert children() == set()
        assert await ask(workers, b"pid") != pid
        assert workers.deaths == {}, "this was not the child's doing"


async def test_cancelling_one_that_waits_for_its_turn_disturbs_nobody(children: Children) -> None:
    async with pool(children) as workers:
        jobs = [asyncio.create_task(ask(workers, b"sleep 0.2")) for _ in range(3)]
        await asyncio.sleep(0.05)
        jobs[1].cancel()
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)

        assert isinstance(outcomes[1], asyncio.CancelledError)
        assert {outcomes[0], outcomes[2]} == children()


@on_every_loop
async def test_cancelling_at_any_time_leaves_no_process(children: Children) -> None:
    """While the child is started, gets ready, or works."""
    for wait in range(20):
        workers = Workers(WORKER, 1)
        job = asyncio.create_task(ask(workers, b"sleep 600"))
        for _ in range(min(wait, 10)):
            await asyncio.sleep(0)
        await asyncio.sleep(max(0, wait - 10) / 50)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        await until(lambda: children() == set())


@on_every_loop
async def test_cancelling_twice_leaves_no_process(children: Children) -> None:
    """The second one comes while the first is being dealt with."""
    for steps in range(5):
        workers = Workers(WORKER, 1)
        await ask(workers, b"pid")
        job = asyncio.create_task(ask(workers, b"sleep 600"))
        await asyncio.sleep(0.02)
        job.cancel()
        for _ in range(steps):
            await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        await until(lambda: children() == set())


@on_every_loop
async def test_a_cancellation_is_not_lost_to_an_outcome_that_comes_with_it(children: Children) -> None:
    """Whoever cancels waits for the task to end, and would wait for ever."""
    async with pool(children) as workers:
        for steps in range(8):
            await ask(workers, b"pid")
            job = asyncio.create_task(ask(workers, b"sleep 0.05"))
            await asyncio.sleep(0.01)
            time.sleep(0.1)  # noqa: ASYNC251 - the outcome is there, and the loop does not know
            for _ in range(steps):
                await asyncio.sleep(0)
            if job.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await job


# Jobs that are abandoned


@asynccontextmanager
async def tending(workers: Workers, folder: Path, seconds: float) -> AsyncIterator[asyncio.Task[bytes]]:
    """A job under way, of which something must be put away, which takes so long."""
    job = asyncio.create_task(workers.run(b"tend %s %.1f" % (bytes(folder), seconds), AMPLE))
    await until((folder / "at work").exists)
    yield job
    with pytest.raises(asyncio.CancelledError):
        await job


@on_every_loop
async def test_an_abandoned_job_may_put_away_what_it_has_open(children: Children, tmp_path: Path) -> None:
    """The child gets the time for it, and is gone when its job is."""
    async with pool(children, tidy_up=AMPLE) as workers:
        async with tending(workers, tmp_path, 0.2) as job:
            job.cancel()

        assert (tmp_path / "put away").exists()
        assert children() == set()
        assert workers.deaths == {}, "this was not the child's doing"
        assert await ask(workers, b"pid") in children()


@on_every_loop
async def test_putting_away_has_an_end(children: Children, tmp_path: Path) -> None:
    """A child that takes longer is killed."""
    async with pool(children, tidy_up=0.2) as workers:
        async with tending(workers, tmp_path, 600) as job:
            job.cancel()

        assert children() == set()
        assert not (tmp_path / "put away").exists()
        assert workers.deaths == {}
        assert await ask(workers, b"pid") in children()


async def test_a_stopped_child_puts_nothing_away(children: Children, tmp_path: Path) -> None:
    """It does not even hear of it, and is killed all the same."""
    async with pool(children, tidy_up=0.2) as workers:
        async with tending(workers, tmp_path, 0) as job:
            os.kill(children().pop(), signal.SIGSTOP)
            job.cancel()

        assert children() == set()
        assert not (tmp_path / "put away").exists()


async def test_where_nothing_is_to_be_put_away_a_child_gets_no_time(children: Children, tmp_path: Path) -> None:
    """It is killed at once."""
    async with pool(children) as workers:
        async with tending(workers, tmp_path, 0) as job:
            job.cancel()

        assert not (tmp_path / "put away").exists()


@on_every_loop
async def test_who_cannot_wait_for_that_cancels_again(children: Children, tmp_path: Path) -> None:
    async with pool(children, tidy_up=AMPLE) as workers:
        async with tending(workers, tmp_path, 600) as job:
            job.cancel()
            await asyncio.sleep(0.05)
            assert not job.done()
            job.cancel()

        await until(lambda: children() == set())
        assert not (tmp_path / "put away").exists()


@on_every_loop
async def test_abandoning_at_any_time_leaves_no_process(children: Children) -> None:
    """While the child is started, gets ready, or works; all of them at the same time."""
    workers = Workers(WORKER, 20, tidy_up=AMPLE)
    jobs = [asyncio.create_task(ask(workers, b"sleep 600")) for _ in range(20)]
    for wait, job in enumerate(jobs):
        await asyncio.sleep(0 if wait < 10 else 0.02)
        job.cancel()
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert children() == set()
    assert workers.deaths == {}


async def test_the_children_of_many_abandoned_jobs_end_at_the_same_time(children: Children, tmp_path: Path) -> None:
    """The exporter's end takes as long as the slowest of them, and not as long as all."""
    async with pool(children, at_most=5, tidy_up=AMPLE) as workers:
        folders = [tmp_path / str(number) for number in range(5)]
        jobs = []
        for folder in folders:
            folder.mkdir()
            jobs.append(asyncio.create_task(workers.run(b"tend %s 0.3" % bytes(folder), AMPLE)))
        for folder in folders:
            await until((folder / "at work").exists)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        await until(lambda: children() == set())

        assert all((folder / "put away").exists() for folder in folders)
        await asyncio.gather(*jobs, return_exceptions=True)


# A limit within a job


@contextmanager
def _silence() -> Iterator[socket.socket]:
    """A connection at whose other end nobody says anything. After it the timer and its handler are as they were."""
    handler = signal.getsignal(signal.SIGALRM)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_limit_ends_what_blocks() -> None:
    with _silence() as peer, pytest.raises(TimeIsUp), time_limit(0.05):
        peer.recv(1)


def test_a_limit_is_no_error_that_a_library_would_handle() -> None:
    """Which would try again, or take it for a host that is silent."""

    def stubborn(peer: socket.socket) -> None:
        for tries in range(3):
            assert tries == 0
            with suppress(Exception):
                peer.recv(1)

    with _silence() as peer, pytest.raises(TimeIsUp), time_limit(0.05):
        stubborn(peer)

    assert not issubclass(TimeIsUp, Exception)


def test_a_limit_that_is_kept_does_nothing() -> None:
    """Nor later."""
    with _silence():
        with time_limit(0.05):
            pass
        time.sleep(0.1)


def test_what_is_raised_within_a_limit_comes_out() -> None:
    with _silence():
        with pytest.raises(ValueError, match="a bug"), time_limit(0.05):
            raise ValueError("a bug")
        time.sleep(0.1)


def test_a_limit_has_room_for_others() -> None:
    """It ends what they have left over."""

    def work(peer: socket.socket) -> None:
        for _ in range(3):
            with pytest.raises(TimeIsUp), time_limit(0.02):
                peer.recv(1)
            with time_limit(5):
                pass
        peer.recv(1)

    with _silence() as peer, pytest.raises(TimeIsUp), time_limit(0.3):
        work(peer)


@pytest.mark.parametrize("seconds", ["5", "0.01"], ids=["kept", "exceeded"])
@on_every_loop
async def test_a_job_s_own_timer_goes_on_after_a_limit(children: Children, seconds: str) -> None:
    """Whether the limit was kept or not; and the next job has a timer of its own."""
    ended = {"5": b"in time", "0.01": b"time is up"}[seconds]
    async with pool(children) as workers:
        pid = await ask(workers, b"pid")
        for _ in range(2):
            assert await workers.run(f"limit {seconds}".encode(), 0.2) == ended + b", woken\n"
        assert await workers.run(b"doze 0.01", 5) == b"awake\n"
        assert await ask(workers, b"pid") == pid
        assert workers.deaths == {}


def test_a_timer_that_should_have_gone_off_during_a_limit_goes_off_after_it() -> None:
    """And then again at its interval, which for a child means the end."""
    signals = []
    before = signal.signal(signal.SIGALRM, lambda *_: signals.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.03)
        with time_limit(5):
            time.sleep(0.1)
            assert signals == []
        _wait(lambda: len(signals) >= 2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Sessions, parents


async def test_ctrl_c_does_not_reach_a_child(children: Children) -> None:
    """The terminal sends it to everyone of the foreground's session: the parent alone decides what it means."""
    async with pool(children) as workers:
        pid = await ask(workers, b"pid")

        assert os.getsid(pid) == pid != os.getsid(0)


@contextmanager
def _parent(job: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a child, and the child's number."""
    command = [sys.executable, "-P", "-m", "children.parent", WORKER, "0.1", job]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            try:
                yield parent, child
            finally:
                if _running(child):
                    os.kill(child, signal.SIGKILL)
        finally:
            parent.kill()


def test_a_child_that_waits_ends_with_its_parent() -> None:
    """At once: no more jobs can come."""
    with _parent() as (parent, child):
        assert _running(child)
        parent.kill()

        _wait(lambda: not _running(child))


@pytest.mark.parametrize(
    ("job", "patience"),
    [
        pytest.param("announce 0.5", None, id="done"),
        pytest.param("announce 600", "0.5", id="hangs"),
        pytest.param("announce 600", None, id="hangs-for-long", marks=pytest.mark.soak),
    ],
)
def test_a_child_at_work_does_not_outlive_its_parent_for_long(
    monkeypatch: pytest.MonkeyPatch, job: str, patience: str | None
) -> None:
    """It ends when the job is done, or some time after the job should have been."""
    if patience is not None:
        monkeypatch.setenv("ORPHANED", patience)
    with _parent(job) as (parent, child):
        assert parent.stderr is not None
        assert parent.stderr.readline() == "at work\n"
        parent.kill()
        parent.wait()

        _wait(lambda: not _running(child))


async def test_a_child_can_import_what_the_parent_can(
    children: Children, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What lies in the folder that the exporter was started in does not count."""
    module = "from children.worker import do\nfrom exporter import workers\nworkers.serve(do)\n"
    (tmp_path / "lies_about.py").write_text(module, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    async with pool(children, "lies_about") as workers:
        assert (await death_of(workers, b"pid")).reason is Death.NOT_STARTED
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        assert await ask(workers, b"pid") in children()


# Nothing grows


@on_every_loop
async def test_neither_descriptors_nor_threads_are_leaked(children: Children) -> None:
    """However children come and go."""

    async def come_and_go() -> None:
        async with pool(children, at_most=2) as workers:
            await asyncio.gather(*(ask(workers, b"pid") for _ in range(2)))
            await death_of(workers, b"leave 1")
            killed = asyncio.create_task(ask(workers, b"sleep 600"))
            await asyncio.sleep(0.01)
            killed.cancel()
            await asyncio.gather(killed, return_exceptions=True)

    def held() -> tuple[int, int]:
        return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()

    await come_and_go()
    before = held()
    for _ in range(20):
        await come_and_go()

    await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
