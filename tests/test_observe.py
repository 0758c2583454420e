"""Observing one server: what is asked of the child processes, and what their answers and their ends mean."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from exporter import observe as observe_module
from exporter.facts import (
    NOT_WANTED,
    EndpointFacts,
    EndpointScan,
    EndpointSweep,
    Fact,
    Known,
    Missing,
    Protocol,
    Reason,
)
from exporter.observe import WORKER, Observer
from exporter.probes.tls import jobs
from exporter.probes.tls.jobs import JOB, OPINION, SCAN, Opinion, OpinionJob, ScanJob
from exporter.probes.tls.second_opinion import Ruling
from exporter.probes.tls.sweep import SweepJob
from exporter.targets import Target, target_of
from exporter.workers import Death, WorkerDied

from builders import TLS10_TO_12, TLS12_ONLY, accepted, certificate, chain, config, scan, swept

S2, S3, T10, T11, T12, T13 = Protocol
NAME = "exch01.test"
KILLED = WorkerDied(Death.DIED, "signal 9")
TOO_LATE = WorkerDied(Death.DEADLINE, "no outcome within 10 s")


@dataclass
class Outside:
    """Stands in for all that is outside: the sweep, and the child processes with what they say.

    Attributes:
        sweeps: the answer per port, as a pattern.
        named: the versions whose refusal names them as the cause.
        opinions: what each opinion job gets, in order, the last for ever: a pattern, how the child ends, or odd words.
        scanned: what each scan job gets.
        jobs: what the children were asked, in order.
        log: what happened, in order.
    """

    sweeps: dict[int, str] = field(default_factory=dict)
    named: frozenset[Protocol] = frozenset()
    opinions: list[str | bytes | Exception] = field(default_factory=lambda: [TLS12_ONLY])
    scanned: EndpointScan | bytes | WorkerDied = field(default_factory=scan)
    jobs: list[OpinionJob | ScanJob] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    workers: list[FakeWorkers] = field(default_factory=list)

    async def sweep(self, job: SweepJob) -> EndpointSweep:
        self.log.append(f"sweep {job.port}")
        found = swept(self.sweeps.get(job.port, TLS12_ONLY), time.time(), job.addresses[0])
        return replace(found, named=self.named)

    def start(self, module: str, at_most: int) -> FakeWorkers:
        self.workers.append(FakeWorkers(self, module, at_most))
        return self.workers[-1]

    def answer(self, job: OpinionJob | ScanJob) -> bytes:
        """What a child says, as it travels; raises as its end does."""
        outcome: EndpointScan | str | bytes | Exception
        if isinstance(job, ScanJob):
            outcome = self.scanned
        else:
            outcome = self.opinions.pop(0) if len(self.opinions) > 1 else self.opinions[0]
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, bytes):
            return outcome
        if isinstance(outcome, EndpointScan):
            return SCAN.dump_json(outcome) + b"\n"
        answers = _said(outcome)
        return OPINION.dump_json(Opinion({each: answers[each] for each in job.protocols})) + b"\n"


@dataclass
class FakeWorkers:
    """Stands in for `exporter.workers.Workers`."""

    outside: Outside
    module: str
    at_most: int
    deaths: Counter[Death] = field(default_factory=Counter)
    closed: bool = False

    async def run(self, job: bytes, timeout: float, patience: float | None = None) -> bytes:
        asked = JOB.validate_json(job)
        self.outside.jobs.append(asked)
        self.outside.timeouts.append(timeout)
        self.outside.log.append(asked.kind)
        await self.outside.gate.wait()
        try:
            return self.outside.answer(asked)
        except WorkerDied as death:
            self.deaths[death.reason] += 1
            raise

    async def close(self) -> None:
        self.closed = True


def _said(pattern: str) -> dict[Protocol, Fact[bool]]:
    """What the other prober says."""
    words = {"0": Known(value=False, at=time.time(), reason=Reason.TLS_ALERT, detail="TLS alert: handshake failure")}
    return {each: words.get(mark, fact) for (each, fact), mark in zip(accepted(pattern).items(), pattern, strict=True)}


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Outside:
    fake = Outside()
    fake.gate.set()
    monkeypatch.setattr(observe_module, "sweep", fake.sweep)
    monkeypatch.setattr(jobs, "SKEW", 1e9)  # the facts of tests have a time of their own
    monkeypatch.setattr(observe_module, "Workers", fake.start)
    monkeypatch.setattr(observe_module, "PAUSE", 0.0)
    return fake


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with capture_logs() as entries:
        yield entries


@dataclass
class Watch:
    """An observer of one server at 127.0.0.1, and what it holds to be true of it."""

    observer: Observer
    target: Target
    known: Mapping[str, EndpointFacts] = field(default_factory=dict)

    async def sweep(self) -> EndpointFacts:
        """Sweep once; the first endpoint afterwards."""
        self.known = await self.observer.sweep(self.target, self.known)
        return next(iter(self.known.values()))

    async def scan(self) -> EndpointScan:
        return await self.observer.scan(self.target, self.target.ports[0], next(iter(self.known.values())))

    @property
    def outcomes(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.observer.second_opinions.items() if count}

    @property
    def deaths(self) -> dict[tuple[str, str], int]:
        return {key: count for key, count in self.observer.worker_deaths.items() if count}


def watch(*ports: int, probe: Mapping[str, Any] | None = None, scan: Mapping[str, Any] | None = None) -> Watch:
    """Second opinions as they come, and scans of everything."""
    server = {
        "name": NAME,
        "address": "127.0.0.1",
        "endpoints": [{"port": port, "service": "smtp"} for port in ports or (443,)],
    }
    parts = {"certificates": True, "cipher_suites": True}
    settings = config(
        {"probe": {"second_opinions": 6} | dict(probe or {}), "scan": parts | dict(scan or {})}, servers=[server]
    )
    return Watch(Observer(settings), target_of(settings.servers[0], settings.defaults))


def answers(facts: EndpointFacts) -> dict[Protocol, bool | Reason]:
    """In short: True, False, or the reason why unknown."""
    return {each: fact.value if isinstance(fact, Known) else fact.reason for each, fact in facts.accepted.items()}


REJECTS_ALL_BUT_TLS12 = {S2: False, S3: False, T10: False, T11: False, T12: True, T13: False}


class TestSecondOpinions:
    async def test_they_are_asked_for_before_anything_is_returned(self, outside: Outside) -> None:
        """Nobody sees an answer that is still in doubt."""
        watched = watch()
        outside.gate.clear()
        sweep = asyncio.create_task(watched.sweep())
        while not outside.jobs:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        waited = not sweep.done()
        outside.gate.set()

        facts = await sweep

        assert waited
        assert outside.log == ["sweep 443", "opinion"]
        assert answers(facts) == REJECTS_ALL_BUT_TLS12
        assert watched.outcomes == {Ruling.AGREED: 5}

    async def test_the_job_says_all_that_the_child_needs(self, outside: Outside) -> None:
        """The address that the sweep pinned, the name for SNI, what to ask, and for how long."""
        outside.named = frozenset({S2, S3, T13})
        watched = watch(587, probe={"timeout": "7s"})

        await watched.sweep()

        (job,) = outside.jobs
        assert isinstance(job, OpinionJob)
        assert (job.protocols, job.again) == ((T10, T11), False)
        assert (job.place.server_name, job.place.address, job.place.port, job.place.service) == (
            NAME, "127.0.0.1", 587, "smtp",
        )  # fmt: skip
        assert job.place.client_name
        assert outside.timeouts == [7.0]

    async def test_in_the_steady_state_nobody_is_asked(self, outside: Outside) -> None:
        """Nor for acceptances and refusals with alert 70 at first sight."""
        watched = watch()
        await watched.sweep()
        outside.jobs.clear()
        other = watch()
        outside.named = frozenset(Protocol)

        for _ in range(5):
            await watched.sweep()
        await other.sweep()

        assert outside.jobs == []
        assert watched.outcomes == {Ruling.AGREED: 5}
        assert other.outcomes == {}

    async def test_a_flip_that_both_see(self, outside: Outside) -> None:
        """Is published, and counted, and in the log."""
        outside.named = frozenset(Protocol)
        watched = watch()
        outside.sweeps[443] = TLS10_TO_12
        await watched.sweep()
        outside.sweeps[443] = "000110"
        outside.opinions = ["000110"]

        with capture_logs() as logged:
            facts = await watched.sweep()

        (entry,) = [entry for entry in logged if entry["event"] == "second opinion"]
        assert answers(facts)[T10] is False
        assert watched.outcomes == {Ruling.AGREED: 1}
        assert (entry["log_level"], entry["outcome"], entry["connections_left"]) == ("info", Ruling.AGREED, 5)

    async def test_agreement_at_first_sight_is_no_news(self, outside: Outside, logged: list[EventDict]) -> None:
        """A large fleet's start does not fill the log."""
        await watch().sweep()

        assert [entry["log_level"] for entry in logged if entry["event"] == "second opinion"] == ["debug"] * 5

    async def test_a_contradiction_has_both_answers_in_the_log(self, outside: Outside, logged: list[EventDict]) -> None:
        """As a warning that names server, endpoint and version, and says what connections are left."""
        outside.named = frozenset(Protocol)
        outside.sweeps[443] = TLS10_TO_12
        watched = watch()
        await watched.sweep()
        outside.sweeps[443] = "000110"
        outside.opinions = [TLS10_TO_12]

        facts = await watched.sweep()

        (entry,) = [entry for entry in logged if entry["event"] == "second opinion"]
        assert answers(facts) == {S2: False, S3: False, T10: Reason.CONTRADICTORY, T11: True, T12: True, T13: False}
        assert watched.outcomes == {Ruling.CONTRADICTORY: 1}
        assert [(job.protocols, job.again) for job in outside.jobs if isinstance(job, OpinionJob)] == [
            ((T10,), False), ((T10,), True),
        ]  # fmt: skip
        assert entry == {
            "event": "second opinion",
            "log_level": "warning",
            "server": NAME,
            "endpoint": f"{NAME}:443",
            "protocol": T10,
            "outcome": Ruling.CONTRADICTORY,
            "sweep": "rejected:connection_reset",
            "handshake": "accepted",
            "connections_left": 4,
        }

    async def test_agreement_at_the_second_attempt(self, outside: Outside) -> None:
        """Is agreement."""
        outside.named = frozenset({S2, S3, T11, T13})
        outside.opinions = [TLS10_TO_12, TLS12_ONLY]
        watched = watch()

        facts = await watched.sweep()

        assert answers(facts) == REJECTS_ALL_BUT_TLS12
        assert watched.outcomes == {Ruling.AGREED: 1}

    async def test_an_undecided_one_is_counted_as_such(self, outside: Outside, logged: list[EventDict]) -> None:
        """The log says what the other prober met."""
        outside.named = frozenset({S2, S3, T11, T13})
        outside.opinions = ["00?010"]
        watched = watch()

        facts = await watched.sweep()

        (entry,) = [entry for entry in logged if entry["event"] == "second opinion"]
        assert answers(facts) == REJECTS_ALL_BUT_TLS12 | {T10: Reason.TLS_TIMEOUT}
        assert watched.outcomes == {Ruling.UNDECIDED: 1}
        assert (entry["log_level"], entry["handshake"]) == ("warning", "unknown:tls_timeout")

    async def test_the_budget_is_that_of_the_endpoint(self, outside: Outside, logged: list[EventDict]) -> None:
        """What one endpoint used up another still has; what could not be asked is unknown, counted and in the log."""
        outside.sweeps = {443: TLS12_ONLY, 444: "011110"}
        watched = watch(443, 444, probe={"second_opinions": 3})

        facts = await watched.sweep()

        assert answers(facts) == {
            S2: False, S3: False, T10: False, T11: Reason.NOT_OBSERVED_YET, T12: True, T13: Reason.NOT_OBSERVED_YET,
        }  # fmt: skip
        assert answers(watched.known[f"{NAME}:444"]) == {
            S2: False, S3: True, T10: True, T11: True, T12: True, T13: False,
        }  # fmt: skip
        assert watched.outcomes == {Ruling.AGREED: 5, Ruling.BUDGET_SPENT: 2}
        spent = [entry for entry in logged if entry.get("outcome") is Ruling.BUDGET_SPENT]
        assert [(entry["protocol"], entry["handshake"], entry["connections_left"]) for entry in spent] == [
            (T11, "", 0), (T13, "", 0),
        ]  # fmt: skip
        assert all(entry["log_level"] == "warning" for entry in spent)

    async def test_it_lasts_from_one_sweep_to_the_next(self, outside: Outside) -> None:
        """However often a server changes its mind, no more than the day's connections are opened to it."""
        outside.named = frozenset(Protocol)
        watched = watch(probe={"second_opinions": 4})
        for pattern in [TLS10_TO_12, TLS12_ONLY] * 10:
            outside.sweeps[443] = pattern
            outside.opinions = [pattern]
            facts = await watched.sweep()

        opened = sum(len(job.protocols) for job in outside.jobs if isinstance(job, OpinionJob))
        assert opened == 4
        assert len(facts.asked_again) == 4
        assert watched.outcomes[Ruling.AGREED] == 4

    async def test_switched_off_nobody_is_asked(self, outside: Outside) -> None:
        """Then the sweep alone decides: at first sight, and flips."""
        watched = watch(probe={"second_opinions": 0})
        await watched.sweep()
        outside.sweeps[443] = TLS10_TO_12

        facts = await watched.sweep()

        assert outside.jobs == []
        assert answers(facts) == REJECTS_ALL_BUT_TLS12 | {T10: True, T11: True}
        assert watched.outcomes == {}

    async def test_every_outcome_is_counted(self, outside: Outside) -> None:
        """All four at one endpoint, in one sweep."""
        watched = watch(probe={"second_opinions": 4})
        outside.opinions = ["01?000"]

        facts = await watched.sweep()

        assert watched.outcomes == {
            Ruling.AGREED: 2, Ruling.CONTRADICTORY: 1, Ruling.UNDECIDED: 1, Ruling.BUDGET_SPENT: 1,
        }  # fmt: skip
        assert answers(facts) == REJECTS_ALL_BUT_TLS12 | {
            S3: Reason.CONTRADICTORY, T10: Reason.TLS_TIMEOUT, T13: Reason.NOT_OBSERVED_YET,
        }  # fmt: skip


class TestDeathsDuringAnOpinion:
    @pytest.mark.parametrize(
        ("death", "reason"),
        [
            (KILLED, Reason.WORKER_DIED),
            (TOO_LATE, Reason.DEADLINE),
            (WorkerDied(Death.MEMORY, "it needed more than 512 MB"), Reason.WORKER_DIED),
            (WorkerDied(Death.NOT_STARTED, "no more processes"), Reason.WORKER_DIED),
        ],
    )
    async def test_only_the_versions_asked_for_are_lost(
        self, outside: Outside, logged: list[EventDict], death: WorkerDied, reason: Reason
    ) -> None:
        """With a reason, in the log, and counted; the endpoint's other answers and other endpoints' arrive."""
        outside.named = frozenset({S2, S3, T13})
        outside.opinions = [death, TLS12_ONLY]
        watched = watch(443, 444, probe={"parallel_endpoints_per_server": 1})

        facts = await watched.sweep()

        assert answers(facts) == REJECTS_ALL_BUT_TLS12 | {T10: reason, T11: reason}
        assert death.detail in facts.accepted[T10].detail
        assert facts.failure is None
        assert answers(watched.known[f"{NAME}:444"]) == REJECTS_ALL_BUT_TLS12
        assert watched.deaths == {("second_opinion", death.reason): 1}
        assert watched.outcomes == {Ruling.UNDECIDED: 2, Ruling.AGREED: 2}
        (entry,) = [entry for entry in logged if entry["event"] == "a child process died"]
        assert entry == {
            "event": "a child process died",
            "log_level": "warning",
            "kind": "second_opinion",
            "endpoint": f"{NAME}:443",
            "reason": death.reason,
            "detail": death.detail,
        }

    async def test_versions_that_were_not_asked_for_are_not_blamed_on_it(self, outside: Outside) -> None:
        """There were no connections for them."""
        outside.opinions = [KILLED]
        watched = watch(probe={"second_opinions": 2})

        facts = await watched.sweep()

        unasked = dict.fromkeys((T10, T11, T13), Reason.NOT_OBSERVED_YET)
        assert answers(facts) == {S2: Reason.WORKER_DIED, S3: Reason.WORKER_DIED, T12: True} | unasked
        assert watched.outcomes == {Ruling.UNDECIDED: 2, Ruling.BUDGET_SPENT: 3}

    @pytest.mark.parametrize("hindrance", [TimeoutError(), WorkerDied(Death.NOT_STARTED, "no more processes")])
    async def test_what_could_not_be_asked_costs_no_connection(self, outside: Outside, hindrance: Exception) -> None:
        """No child was free in time, or none could be started: nobody connected to the server."""
        outside.opinions = [hindrance]
        watched = watch()

        facts = await watched.sweep()

        assert facts.asked_again == ()
        assert facts.accepted[T12].value is True
        assert watched.outcomes == {Ruling.UNDECIDED: 5}

    async def test_what_was_published_stays(self, outside: Outside) -> None:
        """Nobody confirmed the flip; the next sweep asks again, and the connections were spent."""
        outside.named = frozenset(Protocol)
        outside.sweeps[443] = TLS10_TO_12
        watched = watch()
        await watched.sweep()
        outside.sweeps[443] = TLS12_ONLY
        outside.opinions = [KILLED, TLS12_ONLY]

        doubted = await watched.sweep()
        confirmed = await watched.sweep()

        assert answers(doubted) == REJECTS_ALL_BUT_TLS12 | {T10: True, T11: True}
        assert len(doubted.asked_again) == 2
        assert answers(confirmed) == REJECTS_ALL_BUT_TLS12

    @pytest.mark.parametrize("said", [b"", b"\n", b"{}\n", b'{"accepted": {}}\n', b'{"accepted": {"TLS 1.0": true}}\n'])
    async def test_words_that_make_no_sense_cost_no_more(self, outside: Outside, said: bytes) -> None:
        """A child's answer that is none is like no answer: what the sweep is sure of is published."""
        outside.named = frozenset({S2, S3, T13})
        outside.opinions = [said]
        watched = watch()

        facts = await watched.sweep()

        assert answers(facts) == REJECTS_ALL_BUT_TLS12 | {T10: Reason.WORKER_DIED, T11: Reason.WORKER_DIED}
        assert len(facts.asked_again) == 2


class TestScans:
    async def test_the_job_says_all_that_the_child_needs(self, outside: Outside, tmp_path: Path) -> None:
        """Where, what for, and what it may cost."""
        outside.named = frozenset(Protocol)
        outside.sweeps[25] = TLS10_TO_12
        settings = {"connections": 17, "ca_file": str(tmp_path / "ca.pem"), "timeout": "45s", "certificates": False}
        watched = watch(25, scan=settings)
        await watched.sweep()

        await watched.scan()

        (job,) = outside.jobs
        assert isinstance(job, ScanJob)
        assert (job.place.server_name, job.place.address, job.place.port, job.place.service) == (
            NAME, "127.0.0.1", 25, "smtp",
        )  # fmt: skip
        assert job.protocols == (T10, T11, T12)
        assert (job.certificates, job.cipher_suites) == (False, True)
        assert (job.connections, job.ca_file) == (17, str(tmp_path / "ca.pem"))
        assert outside.timeouts == [45.0]

    async def test_the_facts_are_what_the_child_said(self, outside: Outside) -> None:
        """All of them survive the journey."""
        outside.named = frozenset(Protocol)
        odd = certificate(subject="", names=("*.exch.test", "192.0.2.1"), key_type="", key_size=0, signature_hash="")
        outside.scanned = scan(chain(certificate(), odd, matches_name=False, trusted=Missing(Reason.NOT_OBSERVED_YET)))
        watched = watch()
        await watched.sweep()

        assert await watched.scan() == outside.scanned

    @pytest.mark.parametrize(
        ("death", "reason"), [(KILLED, Reason.WORKER_DIED), (TOO_LATE, Reason.DEADLINE)], ids=["killed", "too late"]
    )
    @pytest.mark.parametrize(("certificates", "cipher_suites"), [(True, True), (True, False), (False, True)])
    async def test_a_death_is_the_reason_of_every_part_that_is_on(
        self,
        outside: Outside,
        logged: list[EventDict],
        death: WorkerDied,
        reason: Reason,
        *,
        certificates: bool,
        cipher_suites: bool,
    ) -> None:
        """And of no other; it is in the log, and counted."""
        outside.named = frozenset(Protocol)
        outside.sweeps[443] = TLS10_TO_12
        outside.scanned = death
        watched = watch(scan={"certificates": certificates, "cipher_suites": cipher_suites})
        await watched.sweep()

        scanned = await watched.scan()

        assert scanned.failure is not None
        assert scanned.failure.reason is reason
        assert death.detail in scanned.failure.detail
        assert scanned.certificates == (scanned.failure if certificates else NOT_WANTED)
        assert scanned.cipher_suites == (
            {T10: scanned.failure, T11: scanned.failure, T12: scanned.failure} if cipher_suites else {}
        )
        assert scanned.at == pytest.approx(time.time(), abs=60)
        assert watched.deaths == {("scan", death.reason): 1}
        (entry,) = [entry for entry in logged if entry["event"] == "a child process died"]
        assert (entry["log_level"], entry["kind"], entry["endpoint"]) == ("warning", "scan", f"{NAME}:443")

    async def test_words_that_make_no_sense_are_no_facts(self, outside: Outside) -> None:
        """A child's answer that is none costs one observation, with a reason."""
        outside.named = frozenset(Protocol)
        watched = watch()
        await watched.sweep()
        outside.scanned = b'{"at": 0}\n'

        scanned = await watched.scan()

        assert scanned.failure is not None
        assert scanned.failure.reason is Reason.WORKER_DIED


class TestChildren:
    async def test_scans_and_opinions_have_children_of_their_own(self, outside: Outside) -> None:
        """An opinion does not wait for scans to end, and neither kind has more than it may."""
        watch(scan={"parallel_endpoints": 5})

        assert [workers.module for workers in outside.workers] == [WORKER, WORKER]
        assert [workers.at_most for workers in outside.workers] == [4, 5]

    async def test_every_way_to_die_is_there_from_the_start(self, outside: Outside) -> None:
        """Series that begin with zero: else the first death would be no increase."""
        assert watch().observer.worker_deaths == {
            (kind, death): 0
            for kind in ("second_opinion", "scan")
            for death in ("deadline", "memory", "died", "not_started")
        }

    @pytest.mark.parametrize(("second_opinions", "scans"), [(0, True), (6, False), (0, False)])
    async def test_only_what_is_switched_on_has_any(
        self, outside: Outside, *, second_opinions: int, scans: bool
    ) -> None:
        """And can die."""
        parts = {"certificates": scans, "cipher_suites": scans}
        watched = watch(probe={"second_opinions": second_opinions}, scan=parts)

        kinds = {"second_opinion"} if second_opinions else set()
        kinds |= {"scan"} if scans else set()
        assert len(outside.workers) == len(kinds)
        assert {kind for kind, _ in watched.observer.worker_deaths} == kinds

    async def test_closing_closes_both_kinds(self, outside: Outside) -> None:
        await watch().observer.close()

        assert [workers.closed for workers in outside.workers] == [True, True]


async def test_a_sweep_with_second_opinions_takes_no_slot_from_others(outside: Outside) -> None:
    """While one server's answers are in doubt the rest of the fleet is swept."""
    settings: dict[str, Any] = {"probe": {"second_opinions": 6, "parallel_endpoints": 1}}
    servers = [{"name": f"127.0.0.{n}", "endpoints": [{"port": n, "service": "https"}]} for n in (1, 2)]
    configured = config(settings, servers=servers)
    observer = Observer(configured)
    doubtful, clear = (target_of(server, configured.defaults) for server in configured.servers)
    outside.gate.clear()
    held_up = asyncio.create_task(observer.sweep(doubtful, {}))
    while not outside.jobs:
        await asyncio.sleep(0)
    outside.named = frozenset(Protocol)

    known = await asyncio.wait_for(observer.sweep(clear, {}), 5)
    outside.gate.set()
    await held_up

    assert answers(known["127.0.0.2:2"]) == REJECTS_ALL_BUT_TLS12
