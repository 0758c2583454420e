"""A child for the tests of `exporter.workers`: does what its job says, well or badly.

With ORPHANED in the environment it waits that many seconds for a parent that is gone, rather than as long as others do.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from exporter import workers


def echo(words: bytes) -> bytes:
    return words


def pid(_: bytes) -> bytes:
    return b"%d" % os.getpid()


def sleep(seconds: bytes) -> bytes:
    """As deaf to the timer as a library that swallows what it raises."""
    until = time.monotonic() + float(seconds)
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            time.sleep(left)
    return b"%d" % os.getpid()


def announce(seconds: bytes) -> bytes:
    """Say that the job has arrived, and take a while."""
    print("at work", flush=True)  # noqa: T201
    return sleep(seconds)


def tell(words: bytes) -> bytes:
    """Tell news so many times, print in between, and wait until a file is there; its name is the outcome."""
    times, path = words.split()
    for _ in range(int(times)):
        print("printed", flush=True)  # noqa: T201
        workers.tell_news()
    while not Path(path.decode()).exists():
        time.sleep(0.01)
    return path


def doze(seconds: bytes) -> bytes:
    """Sleep until the timer says that it is time to say something."""
    try:
        time.sleep(float(seconds))
    except TimeoutError:
        return b"woken"
    return b"awake"


def tend(words: bytes) -> bytes:
    """Say that the job has arrived, work for long, and put something away in the end, which takes a while."""
    path, seconds = words.decode().split()
    Path(path, "at work").touch()
    try:
        time.sleep(600)
    finally:
        time.sleep(float(seconds))
        Path(path, "put away").touch()
    return b""


def limit(seconds: bytes) -> bytes:
    """Work within a limit of one's own, and then until the timer says that it is time to say something."""
    ended = b"in time"
    try:
        with workers.time_limit(float(seconds)):
            time.sleep(0.05)
    except workers.TimeIsUp:
        ended = b"time is up"
    return ended + b", " + doze(b"60")


def chat(words: bytes) -> bytes:
    """Print in each of the ways that a library might."""
    print("printed", flush=True)  # noqa: T201
    sys.stdout.write("written\n")
    sys.stdout.flush()
    os.write(1, b"to the descriptor\n")
    subprocess.run(["echo", "by a grandchild"], check=True)
    return words


def eat(_: bytes) -> bytes:
    eaten = []
    while True:
        eaten.append(bytes(1 << 24))


class Litter:
    """What only the garbage collector can remove."""

    left: ClassVar[weakref.WeakSet[Litter]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.itself = self
        self.left.add(self)


def litter(_: bytes) -> bytes:
    """The number of those that earlier jobs left behind. And leave one more."""
    left = len(Litter.left)
    Litter()
    return b"%d" % left


def fail(words: bytes) -> bytes:
    raise ValueError(words.decode())


def leave(status: bytes) -> bytes:
    os._exit(int(status))


def long(size: bytes) -> bytes:
    return b"x" * int(size)


JOBS: dict[bytes, Callable[[bytes], bytes]] = {
    each.__name__.encode(): each
    for each in (echo, pid, sleep, doze, announce, tell, tend, limit, chat, eat, litter, fail, leave, long)
}


def do(job: bytes, timeout: float) -> bytes:
    if job.rstrip() == b"timeout":
        return b"%.3f" % timeout
    verb, _, words = job.rstrip().partition(b" ")
    return JOBS[verb](words)


if __name__ == "__main__":
    if "ORPHANED" in os.environ:
        vars(workers).update(_ORPHANED=float(os.environ["ORPHANED"]))
    workers.serve(do)
