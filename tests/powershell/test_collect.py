"""The collector script itself, run by a PowerShell: it writes what the writer of simulations writes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from powershell.harness import (
    BATCH,
    NOT_RUN,
    POWERSHELL,
    Planned,
    comparable,
    powershell,
    read,
    scripted,
)
from powershell.virtual import Trouble, world_of
from powershell.worlds import CLEAN, exchange, keeps_to_schema, world

from exporter.demo.machines import MACHINES, load
from exporter.demo.machines.document import document as written

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)


AT = datetime(2026, 11, 22, 20, tzinfo=UTC)
SECTIONS = (
    "windows", "exchange", "dotnet", "hotfixes", "servicing", "files", "reboot", "schannel", "cipher_suites", "winhttp",
    "security", "certificates",
)  # fmt: skip


OPTIONS: tuple[dict[str, Any], ...] = ({}, {"usage_megabytes": 1, "pending_updates": True})


class TestMachines:
    RUNS = tuple(
        (name, options, BATCH.later(world_of(load(name), AT), **options)) for name in MACHINES for options in OPTIONS
    )

    @pytest.mark.parametrize(
        ("name", "options", "run"), RUNS, ids=lambda value: value if isinstance(value, str) else ""
    )
    def test_script_and_writer_agree(self, name: str, options: dict[str, Any], run: Planned) -> None:
        """On every machine that comes with the exporter, with and without the optional sections."""
        assert comparable(run.document) == comparable(written(load(name), AT, **options))

    @pytest.mark.parametrize(
        ("name", "options", "run"), RUNS, ids=lambda value: value if isinstance(value, str) else ""
    )
    def test_the_document_keeps_to_the_schema(self, name: str, options: dict[str, Any], run: Planned) -> None:
        assert keeps_to_schema(run.document)


WITH_LOGS = load("exchange-2013-cu23-on-2012-r2")
CULTURES = {
    name: BATCH.later(replace(world_of(WITH_LOGS, AT), culture=name), usage_megabytes=1)
    for name in ("tr-TR", "th-TH", "ar-SA", "de-DE", "ja-JP")
}


class TestCultures:
    @pytest.mark.parametrize("name", CULTURES)
    def test_a_culture_changes_nothing(self, name: str) -> None:
        """Neither upper and lower case, nor calendars, nor digits."""
        assert comparable(CULTURES[name].document) == comparable(written(WITH_LOGS, AT, usage_megabytes=1))

    @pytest.mark.parametrize("name", CULTURES)
    def test_the_clock_is_utc_in_the_gregorian_calendar(self, name: str) -> None:
        collected_at = CULTURES[name].document["collected_at"]

        assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", collected_at, re.ASCII)
        assert abs(datetime.fromisoformat(collected_at) - datetime.now(UTC)) < timedelta(days=1)


class TestRedirected:
    RUN = BATCH.later(exchange(redirected=True), usage_megabytes=1, pending_updates=True)

    def test_nothing_is_read(self) -> None:
        """Every section says why: what a 32-bit process sees is another registry's."""
        sections = self.RUN.document["sections"]

        assert list(sections) == [*SECTIONS, "usage", "pending_updates"]
        assert all(each["items"] == {} for each in sections.values())
        assert {
            tuple((name, each["kind"]) for name, each in section["errors"].items()) for section in sections.values()
        } == {(("*", "redirected"),)}

    def test_the_document_says_so_itself(self) -> None:
        assert self.RUN.document["powershell"]["redirected"] is True
        assert CLEAN.document["powershell"]["redirected"] is False
        assert keeps_to_schema(self.RUN.document)


REFUSED = Trouble("System.InvalidOperationException")


class TestHost:
    NAMELESS = BATCH.later(exchange(trouble={"host": REFUSED, "administrator": REFUSED}))
    NEGATIVE = BATCH.later(exchange(), usage_megabytes=-5)
    USER = BATCH.later(world(host="\xdcBER", fqdn="\xfcber.contoso.test", elevated=False))

    def test_the_document_says_whose_it_is(self) -> None:
        document = self.USER.document

        assert document["host"] == {"name": "\xdcBER", "fqdn": "\xfcber.contoso.test"}
        assert document["elevated"] is False

    def test_it_has_a_name_even_so(self) -> None:
        """What cannot be found out about the host costs no document."""
        document = self.NAMELESS.document

        assert document["host"]["name"] == document["host"]["fqdn"] != ""
        assert document["elevated"] is None
        assert comparable(document)["sections"] == comparable(CLEAN.document)["sections"]
        assert keeps_to_schema(document)

    def test_there_is_no_negative_limit(self) -> None:
        assert self.NEGATIVE.document["options"]["usage_megabytes"] == 0
        assert "usage" not in self.NEGATIVE.document["sections"]

    def test_the_sections_that_nobody_asked_for_are_not_there(self) -> None:
        assert tuple(CLEAN.document["sections"]) == SECTIONS

    def test_long_documents_have_lines(self) -> None:
        """Not one of hundreds of kilobytes, which some tools on the way cut."""
        text = CULTURES["de-DE"].text

        assert max(map(len, text.split("\r\n"))) < 5000
        assert text.count("\r\n") > 50
        assert "\n" not in text.replace("\r\n", "")


class TestAsAFile:
    """Started as an administrator starts it."""

    def run(self, folder: Path, *arguments: str) -> tuple[int, str]:
        done = powershell(scripted(exchange(), folder), *arguments)
        return done.returncode, done.stdout.decode("utf-8", "replace")

    def test_it_writes_to_standard_output(self, tmp_path: Path) -> None:
        """The document and nothing else, with the options that it was given."""
        code, output = self.run(tmp_path, "-UsageMegabytes", "5", "-PendingUpdates")

        assert code == 0
        assert read(output)["options"] == {"pending_updates": True, "usage_megabytes": 5}

    def test_it_writes_to_a_file_instead(self, tmp_path: Path) -> None:
        """The same, in ASCII, over what was there; nothing else is left behind."""
        target = tmp_path / "out [1]" / "it's ours.json"
        target.parent.mkdir()
        target.write_text("older and much longer" * 10_000, encoding="utf-8")

        assert self.run(tmp_path, "-OutFile", str(target)) == (0, "")
        assert comparable(read(target.read_bytes().decode("ascii"))) == comparable(CLEAN.document)
        assert list(target.parent.iterdir()) == [target]

    def test_a_file_that_cannot_be_written_is_a_failure(self, tmp_path: Path) -> None:
        code, output = self.run(tmp_path, "-OutFile", str(tmp_path / "missing" / "a.json"))

        assert code != 0
        assert "TLS READINESS" not in output
