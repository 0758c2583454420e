"""What it takes to notice that a file changed."""

from __future__ import annotations

from pathlib import Path


def stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with the file's content or rights; None where there is none to be had."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: no name that a file could have
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
