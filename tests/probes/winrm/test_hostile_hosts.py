"""Hosts that hang, flood and lie, visited by child processes beside one that does not: each costs itself alone."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest
from documents import AT, SERVER, base_document, changed, framed, printed
from winrm_hosts import DOCUMENT, PASSWORD, USER, at_operation, http, job, pki, proofs, raw_server, windows

from exporter import collect as collect_module
from exporter.collect import WORKER, Collector
from exporter.config import parse_config
from exporter.demo.winrm import (
    Asked,
    Delay,
    Https,
    Listening,
    Logon,
    Readable,
    Reply,
    Silence,
    SimulatedHosts,
    Trickle,
)
from exporter.demo.winrm.misbehaviour import Action
from exporter.demo.winrm.misbehaviour import Seen as Request
from exporter.facts import Fact, HostFacts, Known, Missing, Reason
from exporter.probes.winrm.document import MAX_BYTES
from exporter.probes.winrm.jobs import JOB, OUTCOME, Collected
from exporter.rules import PROFILES
from exporter.targets import Target
from exporter.workers import Death, WorkerDied, Workers

DEADLINE: Final = 6.0
"""Seconds for each of the hosts that never come to an end, all at the same time: most of what this file takes."""
OPERATIONS: Final = ("Create", "Command", "Send", "Receive", "Signal", "Delete")
MEGABYTE: Final = 1 << 20


# Hosts that hang

STILL_RUNNING: Final = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Body><rsp:ReceiveResponse>'
    '<rsp:CommandState State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Running"/>'
    "</rsp:ReceiveResponse></s:Body></s:Envelope>"
)
TIMED_OUT: Final = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Detail><f:WSManFault '
    'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="2150858793"/></s:Detail></s:Fault></s:Body>'
    "</s:Envelope>"
)


def at_log_on(action: Action) -> Callable[[Request], Action | None]:
    """Misbehave at the message without content that brings the proof, on the first connection."""
    return lambda request: action if request.connection == 1 and request.number == 3 else None


HANGING: Final[Mapping[str, Callable[[Request], Action | bytes | None]]] = {
    "silent at log-on": at_log_on(Silence()),
    **{f"silent at {each}": at_operation(each, Silence(), times=1) for each in OPERATIONS},
    "trickling at log-on": at_log_on(Trickle(0.5)),
    **{f"trickling at {each}": at_operation(each, Trickle(0.5, whole=300), times=1) for each in OPERATIONS},
    "nothing for ever": at_operation("Receive", Reply(200, STILL_RUNNING.encode(), encrypt=True)),
    "timed out for ever": at_operation("Receive", Reply(500, TIMED_OUT.encode(), encrypt=True)),
}


@dataclass(frozen=True)
class Late:
    """What became of visits that began at the same time.

    Attributes:
        outcomes: per host what its child said.
        hosts: per host what it saw.
        good: of the host that does not hang.
        deaths: of the children.
    """

    outcomes: Mapping[str, Collected | Death]
    hosts: Mapping[str, Listening]
    good: Collected | Death
    deaths: Mapping[Death, int]


@pytest.fixture(scope="module")
def late(hosts: SimulatedHosts) -> Late:
    listening = {name: hosts.start(windows(misbehave=misbehave)) for name, misbehave in HANGING.items()}

    async def visits() -> tuple[list[Collected | Death], Mapping[Death, int]]:
        workers = Workers(WORKER, len(listening) + 1)
        try:
            ports = [*(each.port for each in listening.values()), hosts.start(windows()).port]
            return await asyncio.gather(*(_outcome(workers, port) for port in ports)), workers.deaths
        finally:
            await workers.close()

    (*outcomes, good), deaths = asyncio.run(visits())
    return Late(dict(zip(listening, outcomes, strict=True)), listening, good, deaths)


async def _outcome(workers: Workers, port: int) -> Collected | Death:
    try:
        return OUTCOME.validate_json(await workers.run(JOB.dump_json(job(port)), DEADLINE))
    except WorkerDied as death:
        return death.reason


@pytest.mark.parametrize("name", [each for each in HANGING if not each.endswith(("Signal", "Delete"))])
def test_a_host_that_hangs_is_left_at_the_deadline(late: Late, name: str) -> None:
    """By the child itself, which says how far it came."""
    outcome = late.outcomes[name]

    assert isinstance(outcome, Collected)
    assert outcome.failure is not None
    assert outcome.failure.reason is Reason.DEADLINE
    assert outcome.failure.detail.startswith(
        "the log-on" if "log-on" in name else "the shell" if name.endswith(("Create", "Command")) else "the script"
    )


@pytest.mark.parametrize("name", [each for each in HANGING if each.endswith(("Signal", "Delete"))])
def test_a_host_that_hangs_after_the_output_was_there_costs_nothing(late: Late, name: str) -> None:
    outcome = late.outcomes[name]

    assert isinstance(outcome, Collected)
    assert (outcome.failure, outcome.output) == (None, DOCUMENT)


@pytest.mark.parametrize("name", [each for each in HANGING if each != "trickling at Create"])
def test_a_host_that_hangs_keeps_no_shell(late: Late, name: str) -> None:
    """It is deleted over a new connection; where the answer that says its name never ended, it ends by itself."""
    outcome, host = late.outcomes[name], late.hosts[name]

    assert isinstance(outcome, Collected)
    assert outcome.left_behind == (
        "perhaps a shell: the answer to Create was lost" if name == "silent at Create" else ""
    )
    assert host.open_shells == 0
    assert len(host.journal.of(Logon)) <= 2
    assert host.journal.of(Readable) == ()


def test_beside_hosts_that_hang_a_good_one_is_as_ever(late: Late) -> None:
    assert isinstance(late.good, Collected)
    assert (late.good.failure, late.good.output) == (None, DOCUMENT)


def test_no_child_had_to_be_killed(late: Late) -> None:
    assert sum(late.deaths.values()) == 0


@pytest.mark.parametrize("name", ["nothing for ever", "timed out for ever"])
def test_a_host_with_nothing_to_say_is_not_asked_without_a_pause(late: Late, name: str) -> None:
    asked = late.hosts[name].journal.entries

    assert 5 < len(asked) < 2 * DEADLINE / 0.05


# Through the collector: what the facts are then


@dataclass
class Visits:
    """Targets, each with a credential of its own, and what their collection comes to."""

    folder: Path
    timeout: float = 20.0
    ports: dict[str, int] = field(default_factory=dict)
    login: Mapping[str, object] = field(default_factory=lambda: {"auth": "ntlm", "username": USER})

    def add(self, name: str, port: int) -> None:
        self.ports[name] = port

    def collector(self) -> Collector:
        (self.folder / "password").write_text(PASSWORD + "\n", encoding="utf-8")
        credential = {**self.login, "password_file": str(self.folder / "password")}
        credentials = {name: credential | {"port": port} for name, port in self.ports.items()}
        settings = {"timeout": f"{self.timeout:g}s"}
        document = {"servers": [SERVER], "credentials": credentials, "collect": settings}
        return Collector(parse_config(document, PROFILES))

    def facts(self) -> Mapping[str, Fact[HostFacts]]:
        async def collect() -> Sequence[Fact[HostFacts]]:
            collector = self.collector()
            try:
                return await asyncio.gather(*(collector.collect(_target(name)) for name in self.ports))
            finally:
                await collector.close()

        return dict(zip(self.ports, asyncio.run(collect()), strict=True))


def _target(credential: str, name: str = SERVER) -> Target:
    return Target(name, "none", (), address="127.0.0.1", labels=MappingProxyType({}), credentials=credential)


ELSEWHERE: Final = changed(
    changed(base_document(), ("host", "fqdn"), "exch02.contoso.test"), ("host", "name"), "EXCH02"
)
LIARS: Final[Mapping[str, tuple[bytes, Reason, str]]] = {
    "UTF-16": (DOCUMENT.decode().encode("utf-16"), Reason.SCRIPT_ERROR, "printed no document"),
    "no document": (b"'powershell.exe' is not recognized\r\n", Reason.SCRIPT_ERROR, "is not recognized"),
    "nothing": (b"", Reason.SCRIPT_ERROR, "nothing"),
    "another host": (printed(ELSEWHERE), Reason.OTHER_HOST, "exch02.contoso.test"),
    "two documents": (DOCUMENT * 2, Reason.BAD_DOCUMENT, "several documents"),
    "a document without an end": (DOCUMENT[:-60], Reason.BAD_DOCUMENT, "cut off"),
    "umlauts in code page 437": (
        DOCUMENT.replace(b"exch01.contoso", "exch01.k\u00f6ln".encode("cp437")),
        Reason.OTHER_HOST,
        "not about exch01.contoso.test",
    ),
    "not JSON": (framed("{'a': 1}"), Reason.BAD_DOCUMENT, "not JSON"),
    "deep": (framed("[" * 100_000), Reason.BAD_DOCUMENT, "nested too deeply"),
    "escape sequences": (b"\x1b]0;owned\x07\x1b[2J" * 9999, Reason.SCRIPT_ERROR, "\\x1b]0;owned"),
    "100 MB": (bytes(100 * MEGABYTE), Reason.OUTPUT_TOO_LARGE, f"more than {MAX_BYTES} bytes of output"),
}


@pytest.fixture(scope="module")
def told(
    hosts: SimulatedHosts, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, tuple[Fact[HostFacts], Listening | None]]:
    """What is known afterwards of each liar, and of a good host among them."""
    visits = Visits(tmp_path_factory.mktemp("liars"))
    listening = {name: hosts.start(windows(printed, receive_bytes=100_000)) for name, (printed, *_) in LIARS.items()}
    listening["good"] = hosts.start(windows())
    for name, each in listening.items():
        visits.add(name.replace(" ", "-"), each.port)
    facts = visits.facts()
    return {name: (facts[name.replace(" ", "-")], each) for name, each in listening.items()}


@pytest.mark.parametrize("name", LIARS)
def test_output_that_is_no_document_is_a_reason(
    told: Mapping[str, tuple[Fact[HostFacts], Listening]], name: str
) -> None:
    fact, host = told[name]
    _, reason, words = LIARS[name]

    assert isinstance(fact, Missing)
    assert fact.reason is reason
    assert words in fact.detail
    assert fact.detail.isprintable()
    assert len(fact.detail) < 500
    assert host.open_shells == 0
    assert [each.ok for each in host.journal.of(Logon)] == [True] * len(host.journal.of(Logon))


def test_a_flood_of_output_is_not_taken_to_its_end(told: Mapping[str, tuple[Fact[HostFacts], Listening]]) -> None:
    _, host = told["100 MB"]

    assert host.journal.operations.count("Receive") <= 2 + MAX_BYTES // 100_000


def test_a_good_host_among_liars_is_believed(told: Mapping[str, tuple[Fact[HostFacts], Listening]]) -> None:
    fact, _ = told["good"]

    assert isinstance(fact, Known)
    assert (fact.value.fqdn, fact.value.collected_at) == (SERVER, AT)


def test_a_wrong_password_is_one_attempt_for_all_hosts_that_share_it(hosts: SimulatedHosts, tmp_path: Path) -> None:
    host = hosts.start(windows(accounts=()))
    visits = Visits(tmp_path)
    visits.add("readers", host.port)
    names = [f"exch{n:02}.contoso.test" for n in range(20)]

    async def collect() -> Sequence[Fact[HostFacts]]:
        collector = visits.collector()
        try:
            facts = await asyncio.gather(*(collector.collect(_target("readers", name)) for name in names))
            again = await asyncio.gather(*(collector.collect(_target("readers", name)) for name in names))
            assert collector.credentials_blocked == {"readers": True}
        finally:
            await collector.close()
        return [*facts, *again]

    reasons = [fact.reason for fact in asyncio.run(collect()) if isinstance(fact, Missing)]
    assert sorted(reasons) == [Reason.AUTH_REJECTED] + [Reason.CREDENTIAL_BLOCKED] * 39
    assert [each.ok for each in host.journal.of(Logon)] == [False]


WEB: Final = "web.contoso.test"
HTML: Final = Reply(200, b"<html>It works</html>", headers=(("Content-Type", "text/html"),))


def _proves(request: Request) -> bool:
    """Whether a request brings a password, or the last message of NTLM."""
    return request.request.headers.get("authorization", "").startswith(("Basic", "Negotiate TlRMTVNTUAAD"))


def _web_server(answer: Reply) -> Callable[[Request], Reply | None]:
    """One of the hosts behind a port is a web server, which answers so to whoever asks, and proves who they are."""
    return lambda request: (
        answer if request.request.headers["host"].startswith("web.") and (answer.body or _proves(request)) else None
    )


@pytest.mark.parametrize(
    ("login", "host"),
    [
        (
            {"auth": "basic", "transport": "http", "username": "svc-tlsread", "allow_unencrypted": True},
            {"offers": frozenset({"basic"}), "allow_unencrypted": True, "misbehave": _web_server(HTML)},
        ),
        ({"auth": "ntlm", "username": USER}, {"misbehave": _web_server(Reply(500))}),
        ({"auth": "ntlm", "username": USER}, {"misbehave": _web_server(Reply(200))}),
    ],
    ids=["basic", "ntlm 500", "ntlm 200"],
)
def test_a_web_server_that_lets_everybody_in_does_not_prove_a_password(
    hosts: SimulatedHosts, tmp_path: Path, login: Mapping[str, object], host: dict[str, Any]
) -> None:
    """It is wrong all the same: of twenty hosts one is asked with it, before and after the web server."""
    listening = hosts.start(windows(accounts=(), **host))
    visits = Visits(tmp_path, login=login)
    visits.add("readers", listening.port)
    names = [WEB, *(f"exch{n:02}.contoso.test" for n in range(20)), WEB]

    async def collect() -> Sequence[Fact[HostFacts]]:
        collector = visits.collector()
        try:
            first = await collector.collect(_target("readers", WEB))
            assert collector.credentials_blocked == {"readers": False}
            return [first, *await asyncio.gather(*(collector.collect(_target("readers", name)) for name in names))]
        finally:
            await collector.close()

    reasons = [fact.reason for fact in asyncio.run(collect()) if isinstance(fact, Missing)]
    assert [each.ok for each in listening.journal.of(Logon)] == [False]
    assert reasons.count(Reason.AUTH_REJECTED) == 1
    assert reasons.count(Reason.CREDENTIAL_BLOCKED) >= 19
    assert reasons[0] is not Reason.AUTH_REJECTED


def test_a_host_whose_script_takes_long_holds_nobody_up(hosts: SimulatedHosts, tmp_path: Path) -> None:
    """Not even the first that is asked with a password: it is proven as soon as that host has accepted it."""
    begun = threading.Event()

    def misbehave(request: Request) -> Delay | None:
        if request.operation != "Receive" or begun.is_set():
            return None
        begun.set()
        return Delay(15.0)

    visits = Visits(tmp_path)
    visits.add("readers", hosts.start(windows(misbehave=misbehave)).port)

    async def collect() -> tuple[bool, Sequence[Fact[HostFacts]]]:
        collector = visits.collector()
        try:
            slow = asyncio.create_task(collector.collect(_target("readers")))
            assert await asyncio.to_thread(begun.wait, 20.0)
            others = await asyncio.gather(*(collector.collect(_target("readers")) for _ in range(8)))
            waits = not slow.done()
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)
            return waits, others
        finally:
            await collector.close()

    waits, others = asyncio.run(collect())
    assert all(isinstance(each, Known) for each in others)
    assert waits, "the others came after it"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("exch01.contoso.test.", "exch01.contoso.test"),
        ("exch01.k\u00f6ln.test", "exch01.xn--kln-sna.test"),
        ("exch01.k\u00f6ln.test.", "exch01.xn--kln-sna.test"),
    ],
)
def test_a_host_is_asked_by_its_name_as_the_dns_has_it(
    hosts: SimulatedHosts, tmp_path: Path, name: str, asked: str
) -> None:
    """Which is what its certificate is made out to; over TLS, so that this counts."""
    trust = pki(tmp_path, asked)
    document = printed(changed(base_document(), ("host", "fqdn"), name.removesuffix(".")))
    host = hosts.start(windows(document, https=Https(trust.certificate_file, trust.key_file)))
    login = {"auth": "ntlm", "username": USER, "transport": "https", "ca_file": str(trust.ca_file)}
    visits = Visits(tmp_path, login=login)
    visits.add("readers", host.port)

    async def collect() -> Fact[HostFacts]:
        collector = visits.collector()
        try:
            return await collector.collect(_target("readers", name))
        finally:
            await collector.close()

    fact = asyncio.run(collect())
    assert isinstance(fact, Known), fact
    assert {each.host for each in host.journal.of(Asked)} == {f"{asked}:{host.port}"}


def test_documents_are_read_one_at_a_time(
    hosts: SimulatedHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many hosts have answered: one of them may take much memory."""
    read, reading, most = collect_module._facts, [0], [0]

    def noticing(server: str, collected: Collected) -> Fact[HostFacts]:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        try:
            time.sleep(0.02)
            return read(server, collected)
        finally:
            reading[0] -= 1

    monkeypatch.setattr(collect_module, "_facts", noticing)
    visits = Visits(tmp_path)
    for number in range(6):
        visits.add(f"n{number}", hosts.start(windows()).port)

    assert all(isinstance(fact, Known) for fact in visits.facts().values())
    assert most == [1]


def test_a_host_that_is_not_there_is_sent_nothing(tmp_path: Path) -> None:
    with raw_server(http("200 OK")) as gone:
        pass
    visits = Visits(tmp_path)
    visits.add("gone", gone.port)

    fact = visits.facts()["gone"]

    assert isinstance(fact, Missing)
    assert fact.reason is Reason.TCP_REFUSED


def test_where_another_service_answers_no_proof_is_sent(tmp_path: Path) -> None:
    with raw_server(http("200 OK", b"<html>It works</html>", "Content-Type: text/html")) as other:
        visits = Visits(tmp_path)
        visits.add("other", other.port)
        fact = visits.facts()["other"]

    assert isinstance(fact, Missing)
    assert fact.reason is Reason.NOT_WINRM
    assert proofs(other.received) == 0


# Children that end in mid visit


class Slow:
    """A host whose script takes long, and that says when it has begun."""

    def __init__(self, hosts: SimulatedHosts) -> None:
        self.begun = threading.Event()

        def notice(request: Request) -> None:
            if request.operation == "Receive":
                self.begun.set()

        self.host = hosts.start(windows(takes=60.0, misbehave=notice))

    async def begins(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20.0)


def test_when_the_exporter_ends_in_mid_visit_the_shell_is_deleted(hosts: SimulatedHosts) -> None:
    slow = Slow(hosts)

    async def end() -> None:
        workers = Workers(WORKER, 1, tidy_up=10.0)
        visit = asyncio.create_task(workers.run(JOB.dump_json(job(slow.host.port)), 60.0))
        await slow.begins()
        visit.cancel()
        await asyncio.gather(visit, return_exceptions=True)
        await workers.close()

    asyncio.run(end())

    assert slow.host.open_shells == 0
    assert {"Signal", "Delete"} <= set(slow.host.journal.operations)  # a Receive that they ended may come after them
    assert slow.host.journal.of(Readable) == ()


def _children() -> set[int]:
    pids = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return {pid for pid in pids if _parent(pid) == os.getpid()}


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def _shown(pids: set[int]) -> list[bytes]:
    """What others on this machine may see of processes."""
    return [Path(f"/proc/{pid}/{each}").read_bytes() for pid in pids for each in ("cmdline", "environ")]


def test_a_child_that_is_killed_costs_its_host_alone(hosts: SimulatedHosts, tmp_path: Path) -> None:
    slow, good = Slow(hosts), hosts.start(windows())
    visits = Visits(tmp_path)
    visits.add("slow", slow.host.port)
    visits.add("good", good.port)

    async def collect() -> tuple[Fact[HostFacts], Fact[HostFacts], Mapping[tuple[str, str], int]]:
        collector = visits.collector()
        try:
            before = _children()
            dying = asyncio.create_task(collector.collect(_target("slow")))
            await slow.begins()
            (child,) = _children() - before
            os.kill(child, signal.SIGKILL)
            return await dying, await collector.collect(_target("good")), collector.worker_deaths
        finally:
            await collector.close()

    died, known, deaths = asyncio.run(collect())
    assert isinstance(died, Missing)
    assert (died.reason, died.detail) == (Reason.WORKER_DIED, "the child process: signal 9")
    assert isinstance(known, Known)
    assert deaths == {("collect", each): int(each is Death.DIED) for each in Death}


def test_what_the_environment_says_does_not_reach_a_child(
    hosts: SimulatedHosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a proxy's refusal: it is not asked."""
    users = tmp_path / "users"
    users.write_text("CONTOSO:svc-tlsread:of somebody else\n", encoding="utf-8")
    visits = Visits(tmp_path)
    visits.add("good", hosts.start(windows()).port)
    with raw_server(http("502 Bad Gateway")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NETRC", str(users))
        facts = visits.facts()

    assert isinstance(facts["good"], Known)
    assert proxy.requests == []


def test_the_password_is_in_no_argument_and_no_environment_of_a_child(hosts: SimulatedHosts, tmp_path: Path) -> None:
    slow = Slow(hosts)
    visits = Visits(tmp_path)
    visits.add("slow", slow.host.port)

    async def look() -> list[bytes]:
        collector = visits.collector()
        before = _children()
        visit = asyncio.create_task(collector.collect(_target("slow")))
        await slow.begins()
        pids = _children() - before
        seen = _shown(pids)
        visit.cancel()
        await asyncio.gather(visit, return_exceptions=True)
        await collector.close()
        return seen

    seen = asyncio.run(look())
    assert len(seen) == 2
    assert all(PASSWORD.encode() not in each for each in seen)
    assert slow.host.open_shells == 0
