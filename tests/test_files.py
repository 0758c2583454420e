"""What shows that a file changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.files import stamp


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.txt"
    found.write_text("a", encoding="ascii")
    return found


def test_a_file_that_stays_as_it_is(path: Path) -> None:
    """Reading it changes nothing."""
    before = stamp(path)
    path.read_bytes()

    assert before is not None
    assert stamp(path) == before


def test_another_length(path: Path) -> None:
    """Whatever its time says."""
    before, status = stamp(path), path.stat()
    path.write_text("bb", encoding="ascii")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert stamp(path) != before


def test_another_time(path: Path) -> None:
    """To the nanosecond."""
    before, status = stamp(path), path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    assert stamp(path) != before


def test_another_file_in_its_place(path: Path) -> None:
    """Of the same length and time."""
    before, status, new = stamp(path), path.stat(), path.with_suffix(".new")
    new.write_text("b", encoding="ascii")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)

    assert stamp(path) != before


def test_a_link_is_what_it_leads_to(path: Path) -> None:
    """Also when it leads elsewhere: a ConfigMap of Kubernetes is changed that way."""
    other, link = path.with_name("b.txt"), path.with_name("link")
    other.write_text("b", encoding="ascii")
    link.symlink_to(path)
    before = stamp(link)
    link.unlink()
    link.symlink_to(other)

    assert before == stamp(path)
    assert stamp(link) == stamp(other) != before


@pytest.mark.parametrize("name", ["nothing", "a.txt/below", "x" * 300, "a\0b", "\ud800"])
def test_no_file_has_none(path: Path, name: str) -> None:
    """No exception for a name that none can have."""
    assert stamp(path.parent / name) is None


def test_neither_has_a_link_that_leads_nowhere(path: Path) -> None:
    """Or to itself."""
    link = path.with_name("link")
    link.symlink_to(link)

    assert stamp(link) is None
