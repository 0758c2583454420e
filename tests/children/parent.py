"""A parent to be killed: starts a child, says its number, gives it a job if there is one, and would wait for it."""

from __future__ import annotations

import asyncio
import sys

from exporter import workers

LONG = 600.0


async def main(module: str, timeout: str, job: str) -> None:
    vars(workers).update(GRACE=LONG)  # it is not the parent that ends the child
    children = workers.Workers(module, 1)
    print(int(await children.run(b"pid", LONG)), flush=True)  # noqa: T201
    if job:
        await children.run(job.encode(), float(timeout))
    await asyncio.sleep(LONG)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
