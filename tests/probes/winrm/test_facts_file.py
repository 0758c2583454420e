"""Facts files: what one look finds, whatever is there instead of the file, and how long that stands."""

from __future__ import annotations

import errno
import os
import re
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.demo.machines import load
from exporter.demo.machines.document import END, output
from exporter.facts import UNSEEN, HostFacts, Known, Missing, Reason
from exporter.files import stamp
from exporter.probes.winrm import facts_file
from exporter.probes.winrm.document import MAX_BYTES
from exporter.probes.winrm.facts_file import NOT_LOOKED_AT, FactsFile, look, not_read, standing

MACHINE = load("exchange-2016-cu23-on-2016")
SERVER = MACHINE.fqdn
AT = datetime(2026, 11, 22, 8, tzinfo=UTC).timestamp()


def _printed(at: float | None = None) -> str:
    """What the script prints there, just now unless told otherwise."""
    return output(MACHINE, datetime.fromtimestamp(time.time() if at is None else at, UTC))


def _facts(found: FactsFile) -> Known[HostFacts]:
    assert isinstance(found.facts, Known), found.facts
    return found.facts


def _missing(found: FactsFile) -> Missing:
    assert isinstance(found.facts, Missing)
    return found.facts


def _look_in_time(path: Path) -> FactsFile:
    """What a look finds that must not wait for anything."""
    found: list[FactsFile] = []
    looking = threading.Thread(target=lambda: found.append(look(path, SERVER, NOT_LOOKED_AT)), daemon=True)
    looking.start()
    looking.join(10)
    assert found, "it blocks"
    return found[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exch.txt"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was read, in order."""
    contents: list[bytes] = []
    read = facts_file._read

    def spy(path: Path) -> bytes:
        contents.append(read(path))
        return contents[-1]

    monkeypatch.setattr(facts_file, "_read", spy)
    return contents


class TestContent:
    def test_a_document_is_the_host_s_facts(self, path: Path) -> None:
        """As old as its own clock says, not as the file is."""
        path.write_text(_printed(AT), encoding="ascii")

        facts = _facts(look(path, SERVER, NOT_LOOKED_AT))

        assert (facts.at, facts.value.fqdn) == (AT, "exch2016b.contoso.test")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
    def test_as_powershell_redirects_it(self, path: Path, encoding: str) -> None:
        """Windows PowerShell's ``>`` writes UTF-16, Out-File -Encoding UTF8 a byte order mark."""
        path.write_text(_printed(AT), encoding=encoding)

        assert _facts(look(path, SERVER, NOT_LOOKED_AT)).at == AT

    def test_another_host_s_document_is_refused(self, path: Path) -> None:
        """A file that was copied to the wrong place must not make a server ready."""
        path.write_text(_printed(), encoding="ascii")

        missing = _missing(look(path, "exch01.contoso.test", NOT_LOOKED_AT))

        assert missing.reason is Reason.OTHER_HOST
        assert missing.detail == (
            f"{path}: it is about exch2016b.contoso.test (EXCH2016B), not about exch01.contoso.test"
        )

    def test_a_file_that_is_not_written_to_its_end(self, path: Path) -> None:
        """It is cut off now, and complete at the next look."""
        text = _printed(AT)
        path.write_text(text[:3000], encoding="ascii")
        half = look(path, SERVER, NOT_LOOKED_AT)
        path.write_text(text, encoding="ascii")

        whole = look(path, SERVER, half)

        why = f"{path}: no line {END} after the beginning: it is cut off"
        assert half.facts == Missing(Reason.BAD_DOCUMENT, why)
        assert _facts(whole).at == AT

    @pytest.mark.parametrize("content", [b"", b"\r\n", b"\x00" * 100], ids=["nothing", "a line break", "zeros"])
    def test_a_file_with_nothing_in_it(self, path: Path, content: bytes) -> None:
        """As one is that somebody has just begun to write, or lost when the power went."""
        path.write_bytes(content)

        assert _missing(look(path, SERVER, NOT_LOOKED_AT)).reason is Reason.BAD_DOCUMENT

    def test_a_file_that_is_too_large_is_not_read_to_its_end(self, path: Path) -> None:
        """Its size costs no more memory than the largest document."""
        with path.open("wb") as file:
            file.truncate(1 << 30)
        tracemalloc.start()
        try:
            found = look(path, SERVER, NOT_LOOKED_AT)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

        assert found.facts == Missing(Reason.BAD_DOCUMENT, f"{path}: more than 8388608 bytes")
        assert peak < 4 * MAX_BYTES

    def test_the_largest_file_is_read(self, path: Path) -> None:
        """Whatever stands before the document counts as well."""
        text = _printed(AT)
        path.write_text("#" * (MAX_BYTES - len(text) - 1) + "\n" + text, encoding="ascii")

        assert path.stat().st_size == MAX_BYTES
        assert _facts(look(path, SERVER, NOT_LOOKED_AT)).at == AT

    @pytest.mark.parametrize("years", [-20, 20])
    def test_how_old_they_are_is_not_decided_here(self, path: Path, years: int) -> None:
        """Nor that they are to come: a clock that is set right needs no other file."""
        at = float(round(time.time())) + years * 365 * 86400
        path.write_text(_printed(at), encoding="ascii")

        assert _facts(look(path, SERVER, NOT_LOOKED_AT)).at == at


class TestChanges:
    def test_a_file_that_did_not_change_is_not_read_again(self, path: Path, reads: list[bytes]) -> None:
        """The outcome is the very same one."""
        path.write_text(_printed(), encoding="ascii")
        first = look(path, SERVER, NOT_LOOKED_AT)

        assert look(path, SERVER, first) is first
        assert len(reads) == 1

    def test_neither_is_one_that_cannot_be_used(self, path: Path, reads: list[bytes]) -> None:
        """It does not become better by being read."""
        path.write_bytes(b"no document")
        first = look(path, SERVER, NOT_LOOKED_AT)

        assert look(path, SERVER, first) is first
        assert len(reads) == 1

    def test_nonsense_that_is_replaced_by_nonsense_is_no_news(self, path: Path) -> None:
        """What is known is as it was, though it was read again."""
        path.write_bytes(b"no document")
        first = look(path, SERVER, NOT_LOOKED_AT)
        path.write_bytes(b"still no document")

        assert look(path, SERVER, first).facts == first.facts

    def test_one_that_is_not_there_is_not_there_in_the_same_way(self, path: Path) -> None:
        """The outcome is the very same one."""
        first = look(path, SERVER, NOT_LOOKED_AT)

        assert look(path, SERVER, first) is first

    def test_one_that_could_not_be_read_is_read_again(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A fault of the disk is over without a change of the file."""
        path.write_text(_printed(AT), encoding="ascii")

        def fail(_: Path) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patched:
            patched.setattr(facts_file, "_read", fail)
            first = look(path, SERVER, NOT_LOOKED_AT)
            second = look(path, SERVER, first)

        assert first == FactsFile(None, Missing(Reason.FILE_UNREADABLE, f"{path}: Input/output error"))
        assert second is first
        assert _facts(look(path, SERVER, second)).at == AT

    def test_one_that_cannot_be_read_any_more_takes_its_facts_along(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its rights changed, and that shows in the stamp. Back in order, it is read."""
        path.write_text(_printed(AT), encoding="ascii")
        first = look(path, SERVER, NOT_LOOKED_AT)

        def deny(_: Path) -> bytes:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        path.chmod(0)
        with monkeypatch.context() as patched:  # for root rights are none
            patched.setattr(facts_file, "_read", deny)
            second = look(path, SERVER, first)
        path.chmod(0o600)

        assert second.facts == Missing(Reason.FILE_UNREADABLE, f"{path}: Permission denied")
        assert _facts(look(path, SERVER, second)).at == AT

    def test_new_content_is_read(self, path: Path) -> None:
        """Written over the old one."""
        path.write_text(_printed(AT), encoding="ascii")
        first = look(path, SERVER, NOT_LOOKED_AT)
        path.write_text(_printed(AT + 60) + "\n", encoding="ascii")

        assert _facts(look(path, SERVER, first)).at == AT + 60

    def test_content_of_the_same_length_and_age_is_new_as_well(self, path: Path) -> None:
        """As copying tools leave it that keep times: another file took its place."""
        path.write_text(_printed(AT), encoding="ascii")
        first = look(path, SERVER, NOT_LOOKED_AT)
        status, new = path.stat(), path.with_suffix(".new")
        new.write_text(_printed(AT + 60), encoding="ascii")
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
        new.replace(path)

        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert _facts(look(path, SERVER, first)).at == AT + 60

    def test_a_link_that_leads_elsewhere_now(self, path: Path) -> None:
        """What counts is the file at its end."""
        for number in (0, 1):
            (path.parent / f"{number}.txt").write_text(_printed(AT + 60 * number), encoding="ascii")
        path.symlink_to("0.txt")
        first = look(path, SERVER, NOT_LOOKED_AT)
        path.unlink()
        path.symlink_to("1.txt")

        assert (_facts(first).at, _facts(look(path, SERVER, first)).at) == (AT, AT + 60)

    def test_a_file_that_changes_between_the_two_is_read_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was noted of the file is older than what was read, never newer: nothing is missed."""
        path.write_text(_printed(AT), encoding="ascii")
        read = facts_file._read

        def read_then_replaced(path: Path) -> bytes:
            content = read(path)
            path.write_text(_printed(AT + 60) + "\n", encoding="ascii")
            return content

        monkeypatch.setattr(facts_file, "_read", read_then_replaced)
        first = look(path, SERVER, NOT_LOOKED_AT)
        monkeypatch.setattr(facts_file, "_read", read)

        assert first.stamp != stamp(path)
        assert (_facts(first).at, _facts(look(path, SERVER, first)).at) == (AT, AT + 60)

    def test_a_file_that_is_deleted(self, path: Path) -> None:
        """It is missing at once, and read when it is back."""
        path.write_text(_printed(AT), encoding="ascii")
        first = look(path, SERVER, NOT_LOOKED_AT)
        path.unlink()
        gone = look(path, SERVER, first)
        path.write_text(_printed(AT + 60), encoding="ascii")

        assert gone == FactsFile(None, Missing(Reason.FILE_UNREADABLE, f"{path}: No such file or directory"))
        assert _facts(look(path, SERVER, gone)).at == AT + 60

    def test_a_pipe_that_takes_its_place_while_it_is_looked_at(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What counts is what was opened, and opening it waits for nobody."""
        path.write_text(_printed(AT), encoding="ascii")

        def stamped_then_replaced(path: Path) -> tuple[int, ...] | None:
            seen = stamp(path)
            path.unlink()
            os.mkfifo(path)
            return seen

        monkeypatch.setattr(facts_file, "stamp", stamped_then_replaced)

        assert _look_in_time(path).facts == Missing(Reason.FILE_UNREADABLE, f"{path}: not a regular file")

    def test_a_file_that_is_deleted_while_it_is_looked_at(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Unreadable, and no traceback."""
        path.write_text(_printed(AT), encoding="ascii")

        def stamped_then_deleted(path: Path) -> tuple[int, ...] | None:
            seen = stamp(path)
            path.unlink()
            return seen

        monkeypatch.setattr(facts_file, "stamp", stamped_then_deleted)

        assert look(path, SERVER, NOT_LOOKED_AT).facts == Missing(
            Reason.FILE_UNREADABLE, f"{path}: No such file or directory"
        )


def _nothing(path: Path) -> Path:
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


def _below_a_file(path: Path) -> Path:
    path.touch()
    return path / "exch.txt"


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (_nothing, "No such file or directory"),
    "a folder": (_folder, "Is a directory|not a regular file"),
    "a pipe": (_pipe, "not a regular file"),
    "a device": (lambda _: Path("/dev/zero"), "not a regular file"),
    "a link to itself": (_loop, "Too many levels of symbolic links"),
    "below a file": (_below_a_file, "Not a directory"),
    "a name that is too long": (lambda path: path.with_name("x" * 300), "File name too long"),
    "a name with a NUL": (lambda path: path.with_name("a\0b"), "embedded null"),
    "half a character": (lambda path: path.with_name("\ud800"), "surrogates not allowed"),
}


@pytest.mark.parametrize(("make", "why"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_readable_file_has_a_reason(path: Path, make: Callable[[Path], Path], why: str) -> None:
    """The operating system's words, behind the name. Nothing waits for what never comes."""
    there = make(path)

    missing = _missing(_look_in_time(there))

    assert missing.reason is Reason.FILE_UNREADABLE
    assert missing.detail.startswith(f"{there}: ")
    assert re.search(why, missing.detail)


@pytest.mark.parametrize("make", [_folder, _pipe, _loop, _nothing])
def test_facts_go_when_something_else_takes_the_file_s_place(path: Path, make: Callable[[Path], Path]) -> None:
    """And come back with the file."""
    path.write_text(_printed(AT), encoding="ascii")
    first = look(path, SERVER, NOT_LOOKED_AT)
    path.unlink()
    make(path)
    second = look(path, SERVER, first)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_text(_printed(AT + 60), encoding="ascii")

    assert _missing(second).reason is Reason.FILE_UNREADABLE
    assert _facts(look(path, SERVER, second)).at == AT + 60


class TestStanding:
    """Whether facts stand is seen anew each time: the file says when they were collected, the clock the rest."""

    PATH = Path("/srv/facts/exch.txt")
    COLLECTED = "/srv/facts/exch.txt: collected at 2026-11-22T08:00:00Z"

    @pytest.fixture
    def facts(self, path: Path) -> Known[HostFacts]:
        path.write_text(_printed(AT), encoding="ascii")
        return _facts(look(path, SERVER, NOT_LOOKED_AT))

    @pytest.mark.parametrize("age", [-3600, -1, 0, 86400, 7 * 86400])
    def test_they_stand_until_max_age(self, facts: Known[HostFacts], age: int) -> None:
        """And a host's clock may be an hour ahead."""
        assert standing(self.PATH, facts, AT + age, 7 * 86400) is facts

    @pytest.mark.parametrize("age", [7 * 86400 + 1, 10 * 365 * 86400])
    def test_but_no_longer(self, facts: Known[HostFacts], age: int) -> None:
        """The reason says of when they are."""
        assert standing(self.PATH, facts, AT + age, 7 * 86400) == Missing(
            Reason.STALE, f"{self.COLLECTED}, older than max_age"
        )

    @pytest.mark.parametrize("ahead", [3601, 7200, 10 * 365 * 86400])
    @pytest.mark.parametrize("max_age", [60, 7 * 86400])
    def test_nor_when_they_are_to_come(self, facts: Known[HostFacts], ahead: int, max_age: int) -> None:
        """Facts from the future would be young for ever."""
        assert standing(self.PATH, facts, AT - ahead, max_age) == Missing(
            Reason.BAD_DOCUMENT, f"{self.COLLECTED}, which is to come: one of the clocks is wrong"
        )

    def test_the_reason_is_the_same_at_each_look(self, facts: Known[HostFacts]) -> None:
        """Nothing in it moves with the clock: it would be news each time."""
        for at in (AT + 8 * 86400, AT - 8 * 86400):
            outcomes = [standing(self.PATH, facts, at + later, 7 * 86400) for later in (0.0, 0.25, 5.0)]
            assert outcomes[1:] == outcomes[:-1]

    @pytest.mark.parametrize("missing", [UNSEEN, Missing(Reason.OTHER_HOST, "a.txt: it is about b")])
    def test_what_is_missing_stays_so(self, missing: Missing) -> None:
        """For its own reason."""
        assert standing(self.PATH, missing, AT, 60) is missing


def test_a_file_that_is_not_read_in_time() -> None:
    """It is nothing that would not be read again."""
    assert not_read(Path("a.txt"), "not read within 10 s") == FactsFile(
        None, Missing(Reason.DEADLINE, "a.txt: not read within 10 s")
    )


def test_what_is_no_file_is_not_kept_open(tmp_path: Path) -> None:
    """A folder can be opened; a look every five seconds would use up all descriptors."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        look(tmp_path, SERVER, NOT_LOOKED_AT)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
