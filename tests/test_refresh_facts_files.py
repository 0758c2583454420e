"""The refresh loop's facts files: what of a host is published when, and what a file that is no good costs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from refreshing import running, until
from structlog.testing import capture_logs

from exporter import observe as observe_module
from exporter import refresh as refresh_module
from exporter.config import Config
from exporter.demo.machines import load
from exporter.demo.machines.document import BEGIN, END, output
from exporter.facts import UNSEEN, EndpointSweep, Fact, HostFacts, Known, Missing, Protocol, Reason
from exporter.probes.tls.sweep import SweepJob
from exporter.probes.winrm.facts_file import FactsFile, look
from exporter.probes.winrm.script import SHA256, VERSION
from exporter.refresh import Refresh
from exporter.snapshot import ObservationSettings, ObservationStatus, ServerSnapshot, Snapshot
from exporter.targets import Port, Target

from builders import TLS12_ONLY, config, swept

MACHINE = load("exchange-2016-cu23-on-2016")
SERVER, OTHER = MACHINE.fqdn, "exch2016a.contoso.test"
DAY = 86400.0


@dataclass
class Outside:
    """Stands in for what is outside but the files: the clock, and the wire.

    Attributes:
        later: seconds that the clock is ahead of the real one.
        sweeps: the servers that were swept, in order.
    """

    later: float = 0.0
    sweeps: list[str] = field(default_factory=list)

    async def sweep(self, job: SweepJob) -> EndpointSweep:
        self.sweeps.append(job.server_name)
        return swept(TLS12_ONLY, self.time())

    def time(self) -> float:
        return time.time() + self.later


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    """Pauses are short."""
    fake = Outside()
    monkeypatch.setattr(observe_module, "sweep", fake.sweep)
    monkeypatch.setattr(refresh_module, "time", SimpleNamespace(time=fake.time, monotonic=time.monotonic))
    monkeypatch.setattr(refresh_module, "pause", lambda interval: min(interval, 0.01))
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 0.01)
    monkeypatch.setattr(refresh_module, "FACTS_FILE_LOOK", 0.01)
    return fake


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exch.txt"


def _printed(age: float = 0.0) -> str:
    """What the script printed there, so many seconds ago."""
    return output(MACHINE, datetime.fromtimestamp(time.time() - age, UTC))


def _put(path: Path, text: str) -> None:
    """At one stroke, so that no look sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="ascii")
    new.replace(path)


def _delete(path: Path) -> None:
    path.unlink()


def _entry(name: str, path: Path | None = None, **facts_file: Any) -> dict[str, Any]:
    entry = {"name": name, "address": "127.0.0.1", "endpoints": [{"port": 443, "service": "https"}]}
    return entry | ({"facts_file": {"path": str(path), **facts_file}} if path else {})


def _one(path: Path, **facts_file: Any) -> Config:
    return config(servers=[_entry(SERVER, path, **facts_file)])


def _server(snapshot: Snapshot, name: str = SERVER) -> ServerSnapshot:
    return next(server for server in snapshot.servers if server.target.name == name)


def _host(snapshot: Snapshot, name: str = SERVER) -> Fact[HostFacts]:
    return _server(snapshot, name).facts.host


def _status(snapshot: Snapshot, name: str = SERVER) -> ObservationStatus:
    return _server(snapshot, name).observations["collect"]


def _reason(snapshot: Snapshot) -> Reason | None:
    return _host(snapshot).reason


def _known(snapshot: Snapshot) -> bool:
    return isinstance(_host(snapshot), Known)


def _collected(seconds: float) -> str:
    return f"collected at {datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unusable(logged: Any) -> list[tuple[str, Reason]]:
    return [(each["server"], each["reason"]) for each in logged if each["event"] == "no host facts"]


async def _looks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Wait until so many looks have begun and ended from now on."""
    done = threading.Semaphore(0)

    def counted(path: Path, server: str, before: FactsFile) -> FactsFile:
        found = look(path, server, before)
        done.release()
        return found

    monkeypatch.setattr(observe_module, "look", counted)
    for _ in range(number):
        await asyncio.to_thread(done.acquire, timeout=30)


class TestWhatIsPublished:
    async def test_before_the_first_look_nothing_is_known(self, path: Path) -> None:
        """Neither is it a failure."""
        snapshot = Refresh(_one(path)).store.latest

        assert _host(snapshot) == UNSEEN
        assert _status(snapshot) == ObservationStatus()
        assert snapshot.failures == {}

    async def test_facts_appear(self, path: Path) -> None:
        """With how that went; the observation is of when the host said it, not of when it was read."""
        began = time.time()
        _put(path, _printed(age=3600))
        async with running(Refresh(_one(path))) as refresh:
            snapshot = await until(refresh, _known)

        host, status = _host(snapshot), _status(snapshot)
        assert isinstance(host, Known)
        assert host.value.fqdn == SERVER
        assert began - 3601 <= host.at <= time.time() - 3600
        assert (status.success, status.last_success, status.duration > 0) == (True, host.at, True)
        assert snapshot.failures == {}

    async def test_how_often_it_is_looked_at(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it says stands for as long as the configuration says; the longest of the servers'."""
        monkeypatch.undo()
        servers = [_entry(SERVER, path), _entry(OTHER, path, max_age="9d"), _entry("exch03.test")]

        assert Refresh(_one(path)).store.latest.observations["collect"] == ObservationSettings(5.0, 7 * DAY)
        assert Refresh(config(servers=servers)).store.latest.observations["collect"].max_age == 9 * DAY

    async def test_which_script_comes_with_the_exporter(self, path: Path) -> None:
        """Also where no server has a facts file."""
        for snapshot in (Refresh(_one(path)).store.latest, Refresh(config()).store.latest):
            assert (snapshot.script.version, snapshot.script.sha256) == (VERSION, SHA256)

    async def test_a_file_may_appear_later(self, path: Path) -> None:
        """Until then it says why there is none."""
        async with running(Refresh(_one(path))) as refresh:
            before = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            _put(path, _printed())
            after = await until(refresh, _known)

        assert _host(before) == Missing(Reason.FILE_UNREADABLE, f"{path}: No such file or directory")
        assert _status(before).last_success == 0
        assert _status(after).success is True

    async def test_a_file_that_changes(self, path: Path) -> None:
        """The newer document's facts take the place of the older's."""
        _put(path, _printed(age=2 * DAY))
        async with running(Refresh(_one(path))) as refresh:
            before = _host(await until(refresh, _known))
            assert isinstance(before, Known)
            _put(path, _printed(age=DAY))
            after = _host(await until(refresh, lambda snapshot: _host(snapshot) != before))

        assert isinstance(after, Known)
        assert DAY - 2 <= after.at - before.at <= DAY + 2

    async def test_once_reads_it_as_well(self, path: Path) -> None:
        """What audit does."""
        _put(path, _printed())

        snapshot = await Refresh(_one(path)).once()

        assert _known(snapshot)
        assert _status(snapshot).success is True
        assert _server(snapshot).observations["sweep"].success is True

    async def test_once_without_a_file(self, path: Path) -> None:
        """The wire is looked at all the same."""
        snapshot = await Refresh(_one(path)).once()

        assert _reason(snapshot) is Reason.FILE_UNREADABLE
        assert snapshot.failures == {("collect", Reason.FILE_UNREADABLE): 1}
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"


class TestAge:
    async def test_a_document_that_is_too_old(self, path: Path) -> None:
        """By its own clock, however young the file is: stale from the start."""
        at = time.time() - 2 * DAY - 60
        _put(path, _printed(age=2 * DAY + 60))
        async with running(Refresh(_one(path, max_age="2d"))) as refresh:
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)

        host = _host(snapshot)
        assert isinstance(host, Missing)
        assert host.reason is Reason.STALE
        assert host.detail in {f"{path}: {_collected(at + late)}, older than max_age" for late in (0, 1)}
        assert _status(snapshot).last_success == 0
        assert snapshot.failures == {("collect", Reason.STALE): 1}

    async def test_facts_go_stale_while_the_file_does_not_change(self, path: Path, outside: Outside) -> None:
        """After the file's max_age, not that of sweeps. A new document brings them back."""
        _put(path, _printed(age=60))
        with capture_logs() as logged:
            async with running(Refresh(_one(path, max_age="2d"))) as refresh:
                good = await until(refresh, _known)
                outside.later = 2 * DAY - 120
                still = await until(refresh, lambda snapshot: snapshot.at > time.time() + DAY)
                outside.later = 2 * DAY
                stale = await until(refresh, lambda snapshot: not _known(snapshot))
                _put(path, _printed(age=-2 * DAY))
                again = await until(refresh, _known)

        assert _host(still) == _host(good)
        assert (_reason(stale), _status(stale).success) == (Reason.STALE, False)
        assert _status(stale).last_success == _status(good).last_success
        assert _unusable(logged) == [(SERVER, Reason.STALE)]
        assert _status(again).last_success - _status(good).last_success == pytest.approx(2 * DAY + 60, abs=10)
        assert again.failures == {("collect", Reason.STALE): 1}

    @pytest.mark.parametrize(
        ("later", "reason"), [(30 * DAY, Reason.STALE), (-2 * DAY, Reason.BAD_DOCUMENT)], ids=["ahead", "behind"]
    )
    async def test_a_wrong_clock_that_is_set_right(
        self, path: Path, outside: Outside, later: float, reason: Reason
    ) -> None:
        """The exporter's own: the same file is as good as before."""
        _put(path, _printed())
        outside.later = later
        async with running(Refresh(_one(path, max_age="2d"))) as refresh:
            wrong = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            outside.later = 0
            right = await until(refresh, _known)

        assert _reason(wrong) is reason
        assert _status(right).success is True
        assert right.failures == {("collect", reason): 1}

    async def test_a_clock_that_goes_wrong_and_right_again(self, path: Path, outside: Outside) -> None:
        """Facts that there were before are there again."""
        _put(path, _printed())
        async with running(Refresh(_one(path, max_age="2d"))) as refresh:
            before = await until(refresh, _known)
            outside.later = 30 * DAY
            await until(refresh, lambda snapshot: not _known(snapshot))
            outside.later = 0
            after = await until(refresh, _known)

        assert _host(after) == _host(before)

    async def test_a_host_whose_clock_is_ahead(self, path: Path, outside: Outside) -> None:
        """Its facts would be young for longer than they are. Once that time has come, they stand."""
        _put(path, _printed(age=-7200))
        async with running(Refresh(_one(path))) as refresh:
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            outside.later = 3660
            await until(refresh, _known)

        host = _host(snapshot)
        assert isinstance(host, Missing)
        assert host.reason is Reason.BAD_DOCUMENT
        assert host.detail.startswith(f"{path}: collected at ")
        assert host.detail.endswith(", which is to come: one of the clocks is wrong")

    async def test_a_bad_file_keeps_the_last_good_facts(self, path: Path) -> None:
        """It is a failure all the same, counted once by its reason."""
        _put(path, _printed())
        async with running(Refresh(_one(path))) as refresh:
            good = await until(refresh, _known)
            _put(path, "no document")
            bad = await until(refresh, lambda snapshot: _status(snapshot).success is False)

        assert _host(bad) == _host(good)
        assert _status(bad).last_success == _status(good).last_success
        assert bad.failures == {("collect", Reason.BAD_DOCUMENT): 1}

    async def test_until_they_are_too_old(self, path: Path, outside: Outside) -> None:
        """Then what is there all the while counts: why it is of no use."""
        _put(path, _printed())
        probe = {"interval": "1s", "timeout": "1s", "max_age": "2s"}  # how often answers are aged goes by this
        async with running(Refresh(config({"probe": probe}, servers=[_entry(SERVER, path, max_age="2d")]))) as refresh:
            await until(refresh, _known)
            _put(path, "no document")
            await until(refresh, lambda snapshot: _status(snapshot).success is False)
            outside.later = 2 * DAY - 60
            before = await until(refresh, lambda snapshot: snapshot.at > time.time() + DAY)
            outside.later = 2 * DAY + 60
            after = await until(refresh, lambda snapshot: not _known(snapshot))

        assert _known(before)
        assert _reason(after) is Reason.BAD_DOCUMENT
        assert after.failures == {("collect", Reason.BAD_DOCUMENT): 1}

    async def test_an_older_document_takes_no_newer_facts_away(self, path: Path) -> None:
        """One that is too old is a failure like any other."""
        _put(path, _printed())
        async with running(Refresh(_one(path, max_age="2d"))) as refresh:
            good = await until(refresh, _known)
            _put(path, _printed(age=3 * DAY))
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)

        assert _host(snapshot) == _host(good)
        assert snapshot.failures == {("collect", Reason.STALE): 1}


class TestFailures:
    async def test_another_host_s_document(self, path: Path) -> None:
        """It says nothing about this server."""
        _put(path, _printed())
        async with running(Refresh(config(servers=[_entry(OTHER, path)]))) as refresh:
            snapshot = await until(refresh, lambda snapshot: _status(snapshot, OTHER).success is False)

        host = _host(snapshot, OTHER)
        assert isinstance(host, Missing)
        assert (host.reason, SERVER in host.detail) == (Reason.OTHER_HOST, True)
        assert snapshot.failures == {("collect", Reason.OTHER_HOST): 1}

    @pytest.mark.parametrize("make", [Path.mkdir, lambda path: _put(path, "no document")], ids=["folder", "text"])
    async def test_what_does_not_change_is_counted_once(
        self, path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However often it is looked at."""
        make(path)
        async with running(Refresh(_one(path))) as refresh:
            await _looks(monkeypatch, 5)
            snapshot = refresh.store.latest

        assert sum(snapshot.failures.values()) == 1

    async def test_neither_is_one_that_is_stale_all_the_time(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, outside: Outside
    ) -> None:
        """Though it grows older from look to look."""
        _put(path, _printed(age=8 * DAY))
        async with running(Refresh(_one(path))) as refresh:
            for outside.later in (60, 3600, DAY):
                await _looks(monkeypatch, 2)
            snapshot = refresh.store.latest

        assert snapshot.failures == {("collect", Reason.STALE): 1}

    async def test_what_does_not_change_is_not_published_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A look that finds nothing new costs no snapshot."""
        _put(path, _printed())
        monkeypatch.setattr(refresh_module, "pause", lambda interval: interval if interval > 1 else 0.01)  # no sweeps
        async with running(Refresh(_one(path))) as refresh:
            await until(refresh, lambda snapshot: _known(snapshot) and _server(snapshot).swept)
            await _looks(monkeypatch, 2)
            before = refresh.store.latest
            await _looks(monkeypatch, 5)
            after = refresh.store.latest

        assert after is before

    async def test_neither_is_a_file_that_is_not_there(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not there in the same way each time."""
        async with running(Refresh(_one(path))) as refresh:
            await _looks(monkeypatch, 5)
            snapshot = refresh.store.latest

        assert snapshot.failures == {("collect", Reason.FILE_UNREADABLE): 1}

    async def test_another_failure_is_counted_and_a_new_one_of_the_same_kind(self, path: Path) -> None:
        """Each time that the outcome is another one."""

        def counted(bad: int, gone: int) -> dict[tuple[str, Reason], int]:
            return {("collect", Reason.BAD_DOCUMENT): bad, ("collect", Reason.FILE_UNREADABLE): gone}

        async with running(Refresh(_one(path))) as refresh:
            await until(refresh, lambda snapshot: ("collect", Reason.FILE_UNREADABLE) in snapshot.failures)
            _put(path, "no document")
            await until(refresh, lambda snapshot: snapshot.failures == counted(1, 1))
            _delete(path)
            await until(refresh, lambda snapshot: snapshot.failures == counted(1, 2))
            _put(path, "no document")
            await until(refresh, lambda snapshot: snapshot.failures == counted(2, 2))

    async def test_the_log_says_each_thing_once(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the outcome is another one, not at each look."""
        with capture_logs() as logged:
            async with running(Refresh(_one(path))) as refresh:
                await _looks(monkeypatch, 3)
                _put(path, "no document")
                await until(refresh, lambda snapshot: ("collect", Reason.BAD_DOCUMENT) in snapshot.failures)
                await _looks(monkeypatch, 3)
                _put(path, _printed())
                await until(refresh, lambda snapshot: _status(snapshot).success is True)
                await _looks(monkeypatch, 3)

        assert _unusable(logged) == [(SERVER, Reason.FILE_UNREADABLE), (SERVER, Reason.BAD_DOCUMENT)]
        (unreadable, _) = [each for each in logged if each["event"] == "no host facts"]
        assert (unreadable["log_level"], unreadable["detail"]) == ("warning", f"{path}: No such file or directory")
        assert sum(each["event"] == "host facts" for each in logged) == 1

    async def test_the_log_says_what_was_collected(self, path: Path) -> None:
        """By which script, when, of what machine; and how much could not be read."""
        at = time.time() - 60
        text = _printed(age=60)
        _put(path, text)
        with capture_logs() as logged:
            async with running(Refresh(_one(path))) as refresh:
                host = _host(await until(refresh, _known))

        (said,) = [each for each in logged if each["event"] == "host facts"]
        assert said.pop("collected") in {_collected(at + late).removeprefix("collected at ") for late in (0, 1)}
        assert said == {
            "event": "host facts",
            "source": "facts file",
            "log_level": "info",
            "server": SERVER,
            "script": VERSION,
            "unread": "nothing",
            "simulation": MACHINE.name,
        }
        assert isinstance(host, Known)
        assert host.value.missing == ()

    async def test_the_log_says_what_could_not_be_read(self, path: Path) -> None:
        """How much of it, by the reason. A host that is real is no simulation."""
        document = json.loads(_printed().split(BEGIN)[1].split(END)[0])
        del document["simulation"]
        denied = {"kind": "access_denied", "type": "SecurityException", "message": "denied"}
        for section, item in (("security", "fips"), ("reboot", "cbs")):
            del document["sections"][section]["items"][item]
            document["sections"][section]["errors"] = {item: denied}
        document["sections"]["windows"]["items"]["caption"] = 5
        _put(path, f"{BEGIN}\n{json.dumps(document)}\n{END}\n")
        with capture_logs() as logged:
            async with running(Refresh(_one(path))) as refresh:
                await until(refresh, _known)

        (said,) = [each for each in logged if each["event"] == "host facts"]
        assert sorted(said["unread"].split()) == ["access_denied=2", "bad_document=1"]
        assert "simulation" not in said

    async def test_a_fault_of_ours_ends_no_watch(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is logged, and the file is looked at again."""
        faults = iter([RuntimeError("a bug")])

        def broken_once(path: Path, server: str, before: FactsFile) -> FactsFile:
            for fault in faults:
                raise fault
            return look(path, server, before)

        monkeypatch.setattr(observe_module, "look", broken_once)
        _put(path, _printed())
        async with running(Refresh(_one(path))) as refresh:
            await until(refresh, _known)

        assert "a bug" in capsys.readouterr().out


class TestOtherServers:
    async def test_a_server_without_a_facts_file(self, path: Path) -> None:
        """It has no such observation, and says what to do about it."""
        _put(path, _printed())
        async with running(Refresh(config(servers=[_entry(SERVER, path), _entry(OTHER)]))) as refresh:
            snapshot = await until(refresh, lambda snapshot: _known(snapshot) and _server(snapshot, OTHER).swept)

        assert _host(snapshot, OTHER) == Missing(
            Reason.NOT_OBSERVED_YET, "neither credentials nor a facts_file are configured"
        )
        assert set(_server(snapshot, OTHER).observations) == {"sweep"}
        assert set(snapshot.observations) == {"sweep", "collect"}

    async def test_where_no_server_has_one_nothing_is_collected(self) -> None:
        """No observation, no failure."""
        snapshot = await Refresh(config(servers=[_entry(OTHER)])).once()

        assert set(snapshot.observations) == {"sweep"}
        assert snapshot.failures == {}

    async def test_two_servers_with_a_file_each(self, tmp_path: Path) -> None:
        """One's is no good: the other's facts are there."""
        good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
        _put(good, _printed())
        _put(bad, "no document")
        async with running(Refresh(config(servers=[_entry(SERVER, good), _entry(OTHER, bad)]))) as refresh:
            snapshot = await until(
                refresh, lambda snapshot: _known(snapshot) and _status(snapshot, OTHER).success is False
            )

        assert _host(snapshot, OTHER).reason is Reason.BAD_DOCUMENT
        assert _status(snapshot).success is True

    async def test_nothing_else_of_the_server_suffers(self, path: Path, outside: Outside) -> None:
        """It is swept, again and again, and judged by that."""
        _put(path, "no document")
        async with running(Refresh(_one(path))) as refresh:
            snapshot = await until(
                refresh, lambda snapshot: len(outside.sweeps) >= 5 and _status(snapshot).success is False
            )

        server = _server(snapshot)
        assert server.observations["sweep"].success is True
        assert server.facts.endpoints[0].accepted[Protocol.TLS_1_2].value is True
        assert server.profiles["wire-tls12-only"].state == "ready"


class TestAnotherFile:
    """What the configuration says of a server's facts file changes; nothing else of the server does."""

    async def _changed(self, path: Path, **changes: Any) -> tuple[Snapshot, Snapshot]:
        """Snapshots right before and right after a target that has facts is replaced."""
        _put(path, _printed())
        refresh = Refresh(_one(path))
        before = await refresh.once()
        target = _server(before).target
        refresh._watch(replace(target, **changes), refresh._watched[SERVER])
        return before, refresh._snapshot()

    async def test_another_path_begins_anew(self, path: Path) -> None:
        """What another file said is forgotten; what was seen on the wire is not."""
        before, after = await self._changed(path, facts_file="/elsewhere")

        assert _known(before)
        assert _host(after) == UNSEEN
        assert _server(after).facts.endpoints == _server(before).facts.endpoints
        assert _server(after).observations["sweep"] == _server(before).observations["sweep"]

    @pytest.mark.parametrize(
        "changes",
        [{"facts_max_age": 60.0}, {"ports": (Port(444, "https", "explicit"),)}, {"labels": {"site": "hanoi"}}],
        ids=["age", "ports", "label"],
    )
    async def test_the_same_path_keeps_what_is_known(self, path: Path, changes: dict[str, Any]) -> None:
        """It says nothing else about the host; how old it may be is seen at the next look."""
        before, after = await self._changed(path, **changes)

        assert _known(before)
        assert _host(after) == _host(before)
        assert _status(after) == _status(before)

    async def test_a_lower_age_is_seen_at_the_next_look(self, path: Path) -> None:
        """And a higher one: the document that was too old stands again, the file being what it was."""
        _put(path, _printed(age=3600))
        async with running(Refresh(_one(path))) as refresh:
            target = _server(await until(refresh, _known)).target
            refresh._watch(replace(target, facts_max_age=60.0), refresh._watched[SERVER])
            lower = await until(refresh, lambda snapshot: not _known(snapshot))
            refresh._watch(target, refresh._watched[SERVER])
            higher = await until(refresh, _known)

        assert _reason(lower) is Reason.STALE
        assert _status(higher).success is True

    async def test_a_file_that_is_configured_now(self, path: Path) -> None:
        """It is observed from then on."""
        _put(path, _printed())
        async with running(Refresh(config(servers=[_entry(SERVER)]))) as refresh:
            before = await until(refresh, lambda snapshot: _server(snapshot).swept)
            target = replace(_server(before).target, facts_file=str(path), facts_max_age=DAY)
            refresh._watch(target, refresh._watched[SERVER])
            after = await until(refresh, _known)

        assert _host(before) == refresh_module.NOBODY_ASKS
        assert _status(after).success is True
        assert after.observations["collect"] == ObservationSettings(refresh_module.FACTS_FILE_LOOK, DAY)

    async def test_a_file_that_is_not_configured_any_more(self, path: Path) -> None:
        """It leaves no observation behind."""
        before, after = await self._changed(path, facts_file="", facts_max_age=0.0)

        assert set(_server(before).observations) == {"sweep", "collect"}
        assert _host(after) == refresh_module.NOBODY_ASKS
        assert set(_server(after).observations) == {"sweep"}
        assert set(after.observations) == {"sweep"}

    async def test_another_file_is_read_while_it_runs(self, path: Path, tmp_path: Path) -> None:
        """And the old one is not any more."""
        new = tmp_path / "new.txt"
        _put(path, _printed(age=DAY))
        _put(new, _printed())
        async with running(Refresh(_one(path))) as refresh:
            before = await until(refresh, _known)
            target: Target = replace(_server(before).target, facts_file=str(new))
            refresh._watch(target, refresh._watched[SERVER])
            await until(refresh, lambda snapshot: _known(snapshot) and _host(snapshot) != _host(before))
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"collect {SERVER}"]

        assert len(tasks) == 1


class TestAFileSystemThatHangs:
    @dataclass
    class Hanging:
        """Stands in for `look`: reads files as it does until it hangs."""

        hangs: bool = True
        hung: list[Path] = field(default_factory=list)
        began: threading.Event = field(default_factory=threading.Event)
        released: threading.Event = field(default_factory=threading.Event)

        def look(self, path: Path, server: str, before: FactsFile) -> FactsFile:
            if self.hangs and "good" not in path.name:
                self.hung.append(path)
                self.began.set()
                self.released.wait(60)
            return look(path, server, before)

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
        hanging = self.Hanging()
        monkeypatch.setattr(observe_module, "look", hanging.look)
        yield hanging
        hanging.released.set()

    @pytest.fixture
    def impatient(self, disk: Hanging, monkeypatch: pytest.MonkeyPatch) -> Hanging:
        """A file is not waited for as long as it would be."""
        monkeypatch.setattr(observe_module, "_FILE_TIMEOUT", 0.05)
        return disk

    async def test_it_stops_no_sweep(self, path: Path, disk: Hanging, outside: Outside) -> None:
        """Of any server; what the file holds is unknown meanwhile."""
        servers = [_entry(SERVER, path), _entry(OTHER)]
        async with running(Refresh(config(servers=servers))) as refresh:
            await asyncio.to_thread(disk.began.wait, 30)
            outside.sweeps.clear()
            snapshot = await until(refresh, lambda _: min(map(outside.sweeps.count, (SERVER, OTHER))) >= 5)

        assert _host(snapshot) == UNSEEN
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"

    async def test_it_is_waited_for_so_long(self, path: Path, impatient: Hanging) -> None:
        """Then it is a failure that says why, counted and logged once, however often it is waited for again."""
        with capture_logs() as logged:
            async with running(Refresh(_one(path))) as refresh:
                snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)
                await asyncio.sleep(0.3)
                later = refresh.store.latest

        assert _host(snapshot) == Missing(Reason.DEADLINE, f"{path}: not read within 0.05 s")
        assert later.failures == {("collect", Reason.DEADLINE): 1}
        assert _unusable(logged) == [(SERVER, Reason.DEADLINE)]
        assert impatient.hung == [path]

    def test_which_is_ten_seconds(self) -> None:
        """More than a slow disk takes."""
        assert observe_module._FILE_TIMEOUT == 10.0

    async def test_the_same_reading_is_waited_for_again(self, path: Path, impatient: Hanging) -> None:
        """Each look waits for the one that hangs: a server has one thread at most. What it reads counts."""
        _put(path, _printed())
        async with running(Refresh(_one(path))) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot).success is False)
            await asyncio.sleep(0.3)
            threads = [thread for thread in threading.enumerate() if thread.name == f"facts of {SERVER}"]
            impatient.released.set()
            snapshot = await until(refresh, _known)
            impatient.hangs = False

        assert len(threads) == 1
        assert _status(snapshot).success is True
        assert snapshot.failures == {("collect", Reason.DEADLINE): 1}

    async def test_the_others_are_read(self, tmp_path: Path, impatient: Hanging) -> None:
        """One after the other: what hangs takes nobody's place."""
        good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
        _put(good, _printed(age=60))
        async with running(Refresh(config(servers=[_entry(OTHER, bad), _entry(SERVER, good)]))) as refresh:
            await until(refresh, lambda snapshot: _status(snapshot, OTHER).success is False)
            before = _host(await until(refresh, _known))
            _put(good, _printed())
            snapshot = await until(refresh, lambda snapshot: _known(snapshot) and _host(snapshot) != before)

        assert _host(snapshot, OTHER).reason is Reason.DEADLINE
        assert set(impatient.hung) == {bad}

    async def test_facts_from_before_it_hung_stand(self, path: Path, impatient: Hanging) -> None:
        """They are as good as they were."""
        impatient.hangs = False
        _put(path, _printed())
        async with running(Refresh(_one(path))) as refresh:
            good = await until(refresh, _known)
            impatient.hangs = True
            snapshot = await until(refresh, lambda snapshot: _status(snapshot).success is False)

        assert _host(snapshot) == _host(good)
        assert _status(snapshot).last_success == _status(good).last_success
        assert snapshot.failures == {("collect", Reason.DEADLINE): 1}

    async def test_so_many_may_hang(self, tmp_path: Path, impatient: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
        """More threads there are not: the next file says so, and has its turn when one is free again."""
        monkeypatch.setattr(observe_module, "_FILE_THREADS", 1)
        good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
        _put(good, _printed())
        async with running(Refresh(config(servers=[_entry(OTHER, bad), _entry(SERVER, good)]))) as refresh:
            full = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            impatient.hangs = False
            impatient.released.set()
            await until(refresh, _known)

        assert _reason(full) is Reason.DEADLINE

    @pytest.mark.usefixtures("impatient")
    async def test_once_does_not_wait_for_it(self, path: Path) -> None:
        """The wire is looked at all the same."""
        async with asyncio.timeout(20):
            snapshot = await Refresh(_one(path)).once()

        assert _reason(snapshot) is Reason.DEADLINE
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"

    async def test_the_end_does_not_wait_for_it(self, path: Path, disk: Hanging) -> None:
        """SIGTERM ends the loop although a thread waits for the file."""
        task = asyncio.create_task(Refresh(_one(path)).run())
        await asyncio.to_thread(disk.began.wait, 30)
        task.cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(task, return_exceptions=True)

        assert task.cancelled()
        assert not disk.released.is_set()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_it_keeps_no_facts_alive(self, path: Path, impatient: Hanging, outside: Outside) -> None:
        """They end at their age although no look ever does."""
        impatient.hangs = False
        _put(path, _printed())
        async with running(Refresh(_one(path, max_age="2d"))) as refresh:
            await until(refresh, _known)
            impatient.hangs = True
            before = await until(refresh, lambda snapshot: _status(snapshot).success is False)
            outside.later = 3 * DAY
            after = await until(refresh, lambda snapshot: not _known(snapshot))

        assert _known(before)
        assert _reason(after) is Reason.DEADLINE

    async def test_a_large_fleet_is_read_as_a_whole(self, tmp_path: Path) -> None:
        """More files than are read at once, none of which hangs: each has its turn."""
        servers = []
        for name in (f"exch{number:03}" for number in range(100)):
            path = tmp_path / f"{name}.txt"
            _put(path, _printed().replace("exch2016b", name).replace("EXCH2016B", name.upper()))
            servers.append(_entry(f"{name}.contoso.test", path))
        snapshot = await Refresh(config(servers=servers)).once()

        assert snapshot.failures == {}
        assert all(isinstance(server.facts.host, Known) for server in snapshot.servers)

    async def test_another_path_does_not_wait_for_it(self, tmp_path: Path, impatient: Hanging) -> None:
        """It is another file, whoever's."""
        good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
        _put(good, _printed())
        refresh = Refresh(_one(bad))
        before = await refresh.once()
        refresh._watch(replace(before.servers[0].target, facts_file=str(good)), refresh._watched[SERVER])
        after = await refresh.once()

        assert impatient.hung == [bad]
        assert _reason(before) is Reason.DEADLINE
        assert _known(after)

    def test_the_process_ends_all_the_same(self, tmp_path: Path) -> None:
        """Within three seconds of SIGTERM, as with a sweep under way."""
        path = tmp_path / "tls-readiness.yml"
        path.write_text(f"servers: [{{name: {SERVER}, role: none, facts_file: {{path: exch.txt}}}}]", encoding="utf-8")
        program = (
            "import sys, time\n"
            "from exporter import cli, observe\n"
            "def look(*_):\n"
            "    print('hangs', flush=True)\n"
            "    time.sleep(30)\n"
            "observe.look = look\n"
            "cli.main()\n"
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore::DeprecationWarning", "-c", program),
                *("serve", "--config.file", str(path), "--web.listen-address", f"127.0.0.1:{port}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"hangs\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=3) == 0
        finally:
            process.kill()
            process.communicate()

    def test_audit_ends_all_the_same(self, tmp_path: Path) -> None:
        """With what it knows, although a thread still waits."""
        path = tmp_path / "tls-readiness.yml"
        path.write_text(f"servers: [{{name: {SERVER}, role: none, facts_file: {{path: exch.txt}}}}]", encoding="utf-8")
        program = (
            "import threading\n"
            "from exporter import cli, observe\n"
            "observe.look = lambda *_: threading.Event().wait()\n"
            "observe._FILE_TIMEOUT = 0.1\n"
            "cli.main()\n"
        )
        command = [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            program,
            "audit",
            "--config.file",
            str(path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

        assert done.returncode == 3
        assert f"? {SERVER} host: deadline: " in done.stdout
        assert "Traceback" not in done.stderr
