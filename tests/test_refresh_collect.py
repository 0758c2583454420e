"""The refresh loop's collections over WinRM: who is asked when, and what is published of what was said."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from refreshing import running, until
from structlog.testing import capture_logs

from exporter import observe as observe_module
from exporter import refresh as refresh_module
from exporter.config import Config
from exporter.exposition.prometheus import Renderer
from exporter.facts import UNSEEN, EndpointSweep, Fact, HostFacts, Known, Missing, Reason
from exporter.probes.tls.sweep import SweepJob
from exporter.refresh import BLOCKED_LOOK, FACTS_FILE_LOOK, NOBODY_ASKS, Refresh
from exporter.snapshot import ObservationSettings, ObservationStatus, ServerSnapshot, Snapshot
from exporter.targets import Port, Target

from builders import TLS12_ONLY, config, host_facts, swept

SERVER, OTHER = "exch2016b.contoso.test", "exch2016a.contoso.test"
HOUR, DAY = 3600.0, 86400.0
PROBE_INTERVAL = 1234.0  # which tells its pauses from those of collections
DOWN = Missing(Reason.TCP_TIMEOUT, "no answer from 192.0.2.1 port 5985")
REJECTED = Missing(Reason.AUTH_REJECTED, "401")
BLOCKED = Missing(Reason.CREDENTIAL_BLOCKED, f"exchange-readers: {OTHER} refused it")
CREDENTIALS = {
    name: {"auth": "ntlm", "username": r"CONTOSO\svc-tlsread", "password_file": "/winrm.password"}
    for name in ("exchange-readers", "others")
}

Answer = Fact[HostFacts] | Exception


@dataclass
class Outside:
    """Stands in for what is outside: the clock, the wire, and the passing of time.

    Attributes:
        later: seconds that the clock is ahead of the real one.
        pauses: between collections, seconds, in order.
        sweeps: how many there were.
    """

    later: float = 0.0
    pauses: list[float] = field(default_factory=list)
    sweeps: int = 0

    async def sweep(self, job: SweepJob) -> EndpointSweep:
        self.sweeps += 1
        return swept(TLS12_ONLY, self.time())

    def time(self) -> float:
        return time.time() + self.later

    def pause(self, interval: float) -> float:
        if interval != PROBE_INTERVAL:
            self.pauses.append(interval)
        return 0.001


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    fake = Outside()
    monkeypatch.setattr(observe_module, "sweep", fake.sweep)
    monkeypatch.setattr(refresh_module, "time", SimpleNamespace(time=fake.time, monotonic=time.monotonic))
    monkeypatch.setattr(refresh_module, "pause", fake.pause)
    monkeypatch.setattr(refresh_module, "PUBLISH_INTERVAL", 0.001)
    return fake


@dataclass
class Hosts:
    """Stands in for the collector: what the hosts say, one answer after the other, the last one for ever.

    Attributes:
        asked: the servers that were asked, in order.
        asking: how many there are at this moment.
        gate: what the hosts wait for before they answer.
    """

    answers: list[Answer]
    asked: list[str] = field(default_factory=list)
    asking: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    closed: list[int] = field(default_factory=list)
    credentials_blocked: Mapping[str, bool] = field(default_factory=dict)
    worker_deaths: Mapping[tuple[str, str], int] = field(default_factory=dict)

    async def collect(self, target: Target) -> Fact[HostFacts]:
        self.asked.append(target.name)
        self.asking += 1
        try:
            await self.gate.wait()
        finally:
            self.asking -= 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed.append(self.asking)


def _hosts(*answers: Answer) -> Hosts:
    hosts = Hosts(list(answers))
    hosts.gate.set()
    return hosts


def _facts(age: float = 0.0, **changes: Any) -> Known[HostFacts]:
    """What a host said so many seconds ago."""
    return Known(host_facts(**changes), time.time() - age)


def _entry(name: str = SERVER, **changes: Any) -> dict[str, Any]:
    return {"name": name, "address": "127.0.0.1", "endpoints": [{"port": 443, "service": "https"}]} | changes


def _config(*servers: dict[str, Any], **collect: Any) -> Config:
    """Servers that are asked every sixteen hours unless they have a facts file; by default one."""
    document = {
        "probe": {"interval": f"{PROBE_INTERVAL:.0f}s", "max_age": "3h"},
        "collect": {"interval": "16h", "max_age": "2d"} | collect,
        "credentials": CREDENTIALS,
        "defaults": {"credentials": "exchange-readers"},
    }
    return config(document, servers or [_entry()])


def _refresh(hosts: Hosts, *servers: dict[str, Any], **collect: Any) -> Refresh:
    refresh = Refresh(_config(*servers, **collect))
    vars(refresh)["_collector"] = hosts
    return refresh


def _server(snapshot: Snapshot, name: str = SERVER) -> ServerSnapshot:
    return next(server for server in snapshot.servers if server.target.name == name)


def _host(snapshot: Snapshot, name: str = SERVER) -> Fact[HostFacts]:
    return _server(snapshot, name).facts.host


def _status(snapshot: Snapshot, name: str = SERVER) -> ObservationStatus:
    return _server(snapshot, name).observations["collect"]


def _known(snapshot: Snapshot) -> bool:
    return isinstance(_host(snapshot), Known)


def _failed(snapshot: Snapshot) -> bool:
    return _status(snapshot).success is False


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def _events(logged: Any, event: str) -> list[tuple[str, Any]]:
    return [(each["log_level"], each.get("reason")) for each in logged if each["event"] == event]


class TestWhen:
    async def _pauses(self, outside: Outside, hosts: Hosts, number: int, **collect: Any) -> list[float]:
        """The first so many pauses between collections from one host."""
        async with running(_refresh(hosts, **collect)):
            await _until(lambda: len(outside.pauses) >= number)
        return outside.pauses[:number]

    async def test_a_host_that_answers_is_asked_once_in_the_interval(self, outside: Outside) -> None:
        assert await self._pauses(outside, _hosts(_facts()), 4) == [16 * HOUR] * 4

    async def test_the_interval_is_the_configured_one(self, outside: Outside) -> None:
        assert await self._pauses(outside, _hosts(_facts()), 2, interval="10m") == [600.0] * 2

    async def test_a_host_that_fails_is_asked_again_soon_and_then_ever_later(self, outside: Outside) -> None:
        """Until it is asked as rarely as any other, however long it is down."""
        pauses = await self._pauses(outside, _hosts(DOWN), 40)

        assert pauses[:6] == [each * HOUR for each in (1, 2, 4, 8, 16, 16)]
        assert set(pauses[6:]) == {16 * HOUR}

    async def test_an_answer_ends_that(self, outside: Outside) -> None:
        """The next failure is the first again."""
        hosts = _hosts(DOWN, DOWN, DOWN, _facts(), DOWN, DOWN, _facts())

        assert await self._pauses(outside, hosts, 8) == [each * HOUR for each in (1, 2, 4, 16, 1, 2, 16, 16)]

    async def test_another_failure_does_not(self, outside: Outside) -> None:
        hosts = _hosts(DOWN, REJECTED, Missing(Reason.DEADLINE, "late"), _facts())

        assert await self._pauses(outside, hosts, 4) == [each * HOUR for each in (1, 2, 4, 16)]

    async def test_a_blocked_credential_is_looked_at_again_soon(self, outside: Outside) -> None:
        """That asks no host: whoever puts a new password there need not wait for hours."""
        pauses = await self._pauses(outside, _hosts(BLOCKED, BLOCKED, BLOCKED, _facts()), 5)

        assert BLOCKED_LOOK == 10.0
        assert pauses == [BLOCKED_LOOK] * 3 + [16 * HOUR] * 2

    async def test_looks_at_a_blocked_credential_are_no_failures_of_the_host(self, outside: Outside) -> None:
        """Which was not asked: once it is, it is asked again as soon as any other."""
        pauses = await self._pauses(outside, _hosts(*[BLOCKED] * 5, DOWN, _facts()), 7)

        assert pauses[:5] == [BLOCKED_LOOK] * 5
        assert pauses[5] in {HOUR, 2 * HOUR}
        assert pauses[6] == 16 * HOUR

    async def test_a_fault_of_ours_ends_no_watch(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It is logged, and the host is asked again."""
        async with running(_refresh(_hosts(RuntimeError("a bug"), _facts()))) as refresh:
            await until(refresh, _known)

        assert "a bug" in capsys.readouterr().out

    async def test_a_host_is_not_asked_twice_at_the_same_time(self, outside: Outside) -> None:
        """However long it takes; the wire is looked at meanwhile."""
        hosts = Hosts([_facts()])
        async with running(_refresh(hosts)) as refresh:
            await _until(lambda: outside.sweeps >= 10)
            snapshot = refresh.store.latest

        assert hosts.asked == [SERVER]
        assert (_host(snapshot), _status(snapshot)) == (UNSEEN, ObservationStatus())
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"

    async def test_hosts_do_not_wait_for_each_other(self) -> None:
        """How many are asked at the same time is the collector's business."""
        hosts = Hosts([_facts()])
        async with running(_refresh(hosts, _entry(), _entry(OTHER))):
            await _until(lambda: hosts.asking == 2)


class TestTheEnd:
    async def test_of_the_loop(self) -> None:
        """Collections under way are over by the time that the collector is closed."""
        hosts = Hosts([_facts()])
        async with running(_refresh(hosts)):
            await _until(lambda: hosts.asking == 1)

        assert hosts.closed == [0]

    async def test_of_a_single_round(self) -> None:
        """What audit does: each host is asked once."""
        hosts = _hosts(_facts())
        snapshot = await _refresh(hosts, _entry(), _entry(OTHER)).once()

        assert sorted(hosts.asked) == [OTHER, SERVER]
        assert hosts.closed == [0]
        assert all(isinstance(_host(snapshot, name), Known) for name in (SERVER, OTHER))
        assert _status(snapshot).success is True
        assert _server(snapshot).observations["sweep"].success is True

    async def test_of_a_round_in_which_a_host_says_nothing(self) -> None:
        """The wire is looked at all the same."""
        snapshot = await _refresh(_hosts(DOWN)).once()

        assert _host(snapshot) == DOWN
        assert snapshot.failures == {("collect", Reason.TCP_TIMEOUT): 1}
        assert _server(snapshot).profiles["wire-tls12-only"].state == "ready"


class TestWhatIsPublished:
    async def test_before_the_first_answer_nothing_is_known(self) -> None:
        """Neither is it a failure."""
        snapshot = Refresh(_config()).store.latest

        assert (_host(snapshot), _status(snapshot)) == (UNSEEN, ObservationStatus())
        assert snapshot.failures == {}

    async def test_facts_are_of_when_they_were_collected(self) -> None:
        """By our clock; the host's own, and by how much it is wrong, are facts like others."""
        collected = _facts(age=5, collected_at=1_700_000_000.0, clock_offset=-12.5)
        snapshot = await _refresh(_hosts(collected)).once()
        host, status = _host(snapshot), _status(snapshot)

        assert host == collected
        assert (status.success, status.last_success, status.duration > 0) == (True, collected.at, True)
        assert _metrics(snapshot)["tls_readiness_observation_last_success_timestamp_seconds", "collect"] == collected.at
        assert _metrics(snapshot)["tls_readiness_server_clock_offset_seconds", ""] == -12.5

    async def test_a_failure_keeps_the_last_good_facts(self) -> None:
        """It is counted all the same."""
        good = _facts(age=HOUR)
        async with running(_refresh(_hosts(good, DOWN, REJECTED, REJECTED, good))) as refresh:
            await until(refresh, lambda snapshot: sum(snapshot.failures.values()) == 3 and not _failed(snapshot))
            snapshot = refresh.store.latest

        assert _host(snapshot) == good
        assert snapshot.failures == {("collect", Reason.TCP_TIMEOUT): 1, ("collect", Reason.AUTH_REJECTED): 2}
        assert _status(snapshot).last_success == good.at

    async def test_newer_facts_take_the_place_of_older(self) -> None:
        older, newer = _facts(age=60), _facts()
        async with running(_refresh(_hosts(older, newer))) as refresh:
            snapshot = await until(refresh, lambda snapshot: _host(snapshot) == newer)

        assert _status(snapshot).last_success == newer.at

    async def test_a_blocked_credential_is_counted_and_logged_once(self) -> None:
        """However often it is looked at."""
        hosts = _hosts(BLOCKED)
        with capture_logs() as logged:
            async with running(_refresh(hosts)) as refresh:
                await _until(lambda: len(hosts.asked) >= 10)
                snapshot = refresh.store.latest

        assert _host(snapshot) == BLOCKED
        assert _failed(snapshot)
        assert snapshot.failures == {("collect", Reason.CREDENTIAL_BLOCKED): 1}
        assert _events(logged, "no host facts") == [("warning", Reason.CREDENTIAL_BLOCKED)]

    async def test_a_blocked_credential_is_counted_again_when_it_was_not_meanwhile(self) -> None:
        hosts = _hosts(BLOCKED, BLOCKED, REJECTED, BLOCKED)
        async with running(_refresh(hosts)) as refresh:
            await _until(lambda: len(hosts.asked) >= 8)
            snapshot = refresh.store.latest

        assert snapshot.failures == {("collect", Reason.CREDENTIAL_BLOCKED): 2, ("collect", Reason.AUTH_REJECTED): 1}

    async def test_the_log_says_the_same_thing_once(self) -> None:
        """While the metric counts each time that a host was asked."""
        hosts = _hosts(DOWN, DOWN, DOWN, REJECTED, REJECTED, _facts())
        with capture_logs() as logged:
            async with running(_refresh(hosts)) as refresh:
                snapshot = await until(refresh, _known)

        said = _events(logged, "no host facts")
        assert [reason for level, reason in said if level == "warning"] == [Reason.TCP_TIMEOUT, Reason.AUTH_REJECTED]
        assert len(said) == 5
        assert sum(snapshot.failures.values()) == 5

    async def test_whether_credentials_are_blocked(self) -> None:
        """And which children died."""
        hosts = _hosts(_facts())
        hosts.credentials_blocked, hosts.worker_deaths = {"exchange-readers": True}, {("collect", "deadline"): 3}
        snapshot = await _refresh(hosts).once()

        assert snapshot.credentials_blocked == {"exchange-readers": True}
        assert snapshot.worker_deaths == {("collect", "deadline"): 3}

    async def test_every_configured_credential_is_there_from_the_start(self) -> None:
        """So that an alert has something to look at."""
        assert Refresh(_config()).store.latest.credentials_blocked == {"exchange-readers": False, "others": False}
        assert Refresh(config()).store.latest.credentials_blocked == {}


def _metrics(snapshot: Snapshot) -> dict[tuple[str, str], float]:
    """The metrics of one server or none, by name and kind."""
    text = gzip.decompress(Renderer().render(snapshot).answer("", CollectorRegistry())[0]).decode()
    return {
        (sample.name, sample.labels.get("kind", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestAge:
    async def test_facts_stand_for_as_long_as_the_configuration_says(self, outside: Outside) -> None:
        """Though nobody could ask the host any more; then they are stale."""
        hosts = _hosts(_facts(), DOWN)
        refresh = _refresh(hosts)
        await refresh.once()
        for outside.later, known in ((2 * DAY - 60, True), (2 * DAY + 60, False)):
            refresh._age(refresh._watched[SERVER])
            assert _known(refresh._snapshot()) is known

        assert _host(refresh._snapshot()) == Missing(Reason.STALE, "the last answer is older than 172800 s")

    async def test_not_by_what_holds_for_the_wire(self, outside: Outside) -> None:
        """Whose answers have been stale for long by then."""
        refresh = _refresh(_hosts(_facts()))
        await refresh.once()
        outside.later = DAY
        refresh._age(refresh._watched[SERVER])
        snapshot = refresh._snapshot()

        assert _known(snapshot)
        assert _server(snapshot).profiles["wire-tls12-only"].state == "unknown"

    async def test_the_loop_sees_to_it(self, outside: Outside) -> None:
        """Also while a host is being asked that does not answer."""
        hosts = _hosts(_facts())
        refresh = _refresh(hosts, interval="1s", timeout="1s", max_age="2s")
        await refresh.once()
        hosts.gate.clear()
        outside.later = 60.0
        async with running(refresh):
            snapshot = await until(refresh, lambda snapshot: not _known(snapshot))

        assert _host(snapshot).reason is Reason.STALE

    async def test_a_failure_after_that_says_why(self, outside: Outside) -> None:
        """And an answer brings the facts back."""
        again = _facts(age=-3 * DAY)
        refresh = _refresh(_hosts(_facts(), DOWN, again))
        await refresh.once()
        outside.later = 3 * DAY
        refresh._age(refresh._watched[SERVER])
        await refresh._collect(refresh._watched[SERVER])
        assert _host(refresh._snapshot()) == DOWN
        await refresh._collect(refresh._watched[SERVER])
        assert _host(refresh._snapshot()) == again

    async def test_a_failure_that_finds_them_too_old_says_why(self, outside: Outside) -> None:
        refresh = _refresh(_hosts(_facts(), DOWN))
        await refresh.once()
        outside.later = 3 * DAY
        await refresh._collect(refresh._watched[SERVER])

        assert _host(refresh._snapshot()) == DOWN

    async def test_the_facts_of_a_file_age_by_themselves(self, outside: Outside, tmp_path: Path) -> None:
        """How old they may be is the file's business, not the collection's."""
        refresh = _refresh(_hosts(_facts()), _entry(facts_file={"path": str(tmp_path / "gone"), "max_age": "9d"}))
        watched = refresh._watched[SERVER]
        watched.host = _facts()
        outside.later = 3 * DAY
        refresh._age(watched)

        assert isinstance(watched.host, Known)


class TestKinds:
    """What is said of the collection's settings, by where the servers' facts come from."""

    FILE = _entry(facts_file={"path": "/exch.txt", "max_age": "9d"})
    ASKED = _entry(OTHER)
    NEITHER = _entry("exch03.test", credentials="none")

    @pytest.mark.parametrize(
        ("servers", "expected"),
        [
            ([ASKED], (16 * HOUR, 2 * DAY)),
            ([ASKED, NEITHER], (16 * HOUR, 2 * DAY)),
            ([FILE], (FACTS_FILE_LOOK, 9 * DAY)),
            ([FILE, NEITHER], (FACTS_FILE_LOOK, 9 * DAY)),
            ([ASKED, FILE], (16 * HOUR, 9 * DAY)),
            ([ASKED, _entry(facts_file={"path": "/exch.txt", "max_age": "1h"})], (16 * HOUR, 2 * DAY)),
            ([NEITHER], None),
        ],
        ids=["winrm", "winrm-and-neither", "file", "file-and-neither", "both", "both-short", "neither"],
    )
    def test_are_those_in_use(self, servers: list[dict[str, Any]], expected: tuple[float, float] | None) -> None:
        """The longest of what any answer may last, so that an alert on the whole fleet is no false one."""
        snapshot = Refresh(_config(*servers)).store.latest
        metrics = _metrics(snapshot)

        names = ("tls_readiness_observation_interval_seconds", "tls_readiness_observation_max_age_seconds")
        assert snapshot.observations.get("collect") == (expected and ObservationSettings(*expected))
        assert tuple(metrics.get((name, "collect")) for name in names) == (expected or (None, None))

    def test_a_server_has_the_kinds_that_it_is_configured_for(self) -> None:
        snapshot = Refresh(_config(self.ASKED, self.FILE, self.NEITHER)).store.latest

        assert {each.target.name: "collect" in each.observations for each in snapshot.servers} == {
            OTHER: True,
            SERVER: True,
            "exch03.test": False,
        }
        assert _host(snapshot, "exch03.test") == NOBODY_ASKS

    async def test_a_server_that_is_not_to_be_asked_is_not(self, tmp_path: Path) -> None:
        """One that has a facts file, or no credentials."""
        hosts = _hosts(_facts())
        file = _entry(facts_file={"path": str(tmp_path / "gone")})
        snapshot = await _refresh(hosts, self.ASKED, file, self.NEITHER).once()

        assert hosts.asked == [OTHER]
        assert _host(snapshot).reason is Reason.FILE_UNREADABLE


class TestAnotherTarget:
    async def _changed(self, **changes: Any) -> tuple[Snapshot, Snapshot]:
        """Snapshots right before and right after a target that has facts is replaced."""
        refresh = _refresh(_hosts(_facts()))
        before = await refresh.once()
        refresh._watch(replace(_server(before).target, **changes), refresh._watched[SERVER])
        return before, refresh._snapshot()

    @pytest.mark.parametrize(
        "changes",
        [
            {"labels": {"site": "hanoi"}},
            {"expect": "wire-tls12"},
            {"role": "edge"},
            {"ports": (Port(444, "https", "explicit"),)},
        ],
        ids=["labels", "expect", "role", "ports"],
    )
    async def test_the_same_host_asked_in_the_same_way_keeps_its_facts(self, changes: dict[str, Any]) -> None:
        """Whatever else of the target is another."""
        before, after = await self._changed(**changes)

        assert _known(before)
        assert _host(after) == _host(before)
        assert _status(after) == _status(before)

    @pytest.mark.parametrize(
        "changes",
        [{"address": "192.0.2.9"}, {"credentials": "others"}, {"credentials": "", "facts_file": "/exch.txt"}],
        ids=["address", "credentials", "file"],
    )
    async def test_another_host_or_another_way_to_ask_it_begins_anew(self, changes: dict[str, Any]) -> None:
        """What was said before may come from somebody else."""
        before, after = await self._changed(**changes)

        assert _known(before)
        assert (_host(after), _status(after)) == (UNSEEN, ObservationStatus())

    async def test_a_host_that_nobody_asks_any_more(self) -> None:
        """It leaves no observation behind."""
        _, after = await self._changed(credentials="")

        assert _host(after) == NOBODY_ASKS
        assert set(_server(after).observations) == {"sweep"}
        assert set(after.observations) == {"sweep"}

    async def test_other_credentials_leave_the_wire_alone(self) -> None:
        before, after = await self._changed(credentials="others")

        assert _server(after).facts.endpoints == _server(before).facts.endpoints
        assert _server(after).observations["sweep"] == _server(before).observations["sweep"]

    async def test_a_facts_file_in_place_of_which_the_host_is_asked(self, tmp_path: Path) -> None:
        """What the file said is forgotten, and the host is asked."""
        fresh = _facts()
        refresh = _refresh(_hosts(fresh), _entry(facts_file={"path": str(tmp_path / "gone")}))
        async with running(refresh):
            before = await until(refresh, _failed)
            target = replace(_server(before).target, facts_file="", facts_max_age=0.0, credentials="others")
            refresh._watch(target, refresh._watched[SERVER])
            after = await until(refresh, _known)

        assert _host(after) == fresh
        assert after.observations["collect"] == ObservationSettings(16 * HOUR, 2 * DAY)

    async def test_the_new_one_is_asked_and_the_old_one_is_not(self) -> None:
        """Not even for the answer that it was about to give."""
        hosts = Hosts([_facts()])
        async with running(_refresh(hosts)) as refresh:
            await _until(lambda: hosts.asking == 1)
            target = replace(refresh._watched[SERVER].target, credentials="others")
            refresh._watch(target, refresh._watched[SERVER])
            await _until(lambda: len(hosts.asked) == 2)
            tasks = [task for task in asyncio.all_tasks() if task.get_name() == f"collect {SERVER}"]

        assert (hosts.asking, len(tasks)) == (0, 1)

    async def test_a_server_that_is_gone_is_not_asked(self) -> None:
        """The one that is being asked is left alone at once."""
        hosts = Hosts([_facts()])
        async with running(_refresh(hosts, _entry(), _entry(OTHER))) as refresh:
            await _until(lambda: hosts.asking == 2)
            refresh._watched.pop(OTHER).stop()
            await _until(lambda: hosts.asking == 1)
