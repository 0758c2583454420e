"""Children that do not keep to the protocol, each in the way that the environment's BROKEN says."""

from __future__ import annotations

import os
import sys
import time

LONG = 600.0


def exits() -> None:
    sys.exit(3)


def hangs() -> None:
    time.sleep(LONG)


def talks() -> None:
    """Be alive, but with something else to say than that it is ready."""
    print("Welcome!", flush=True)  # noqa: T201
    time.sleep(LONG)


def stammers() -> None:
    """Begin an outcome, and end."""
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    print("half an outc", end="", flush=True)  # noqa: T201


def gossips() -> None:
    """Tell news for ever, and no outcome."""
    print("ready", flush=True)  # noqa: T201
    while True:
        print("news", flush=True)  # noqa: T201
        time.sleep(0.01)


def is_deaf() -> None:
    """Never read a job."""
    print("ready", flush=True)  # noqa: T201
    time.sleep(LONG)


def leaves() -> None:
    """Not read a job, and end while it is being written."""
    print("ready", flush=True)  # noqa: T201
    time.sleep(0.3)
    sys.exit(4)


if __name__ == "__main__":
    {each.__name__: each for each in (exits, hangs, talks, stammers, gossips, is_deaf, leaves)}[os.environ["BROKEN"]]()
