"""Real Kerberos, all the way: tickets from a domain controller, pywinrm in its child, and a host with a keytab."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from samba_controller import HOSTS, OTHER, PASSWORD, READER, SambaController

from exporter.credentials.secret import Password
from exporter.credentials.tickets import Tickets
from exporter.demo.machines import load_all
from exporter.demo.winrm import Account, Listening, Logon, Operation, Readable, SimulatedHosts, WindowsHost
from exporter.facts import Reason
from exporter.probes.winrm.jobs import JOB, OUTCOME, Collected, CollectJob, Login
from exporter.probes.winrm.script import SHA256
from exporter.workers import Workers

MACHINE = load_all()[0]
RIGHT = Password(PASSWORD)
ACCOUNTS = tuple(Account("CONTOSO.TEST", name, "is not asked for") for name in ("svc-tlsread", "svc-other"))


@pytest.fixture
def hosts(controller: SambaController, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Listening]]:
    """Both computers of the domain. They offer Kerberos alone."""
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5_conf))
    with SimulatedHosts() as fleet:
        yield [
            fleet.start(
                WindowsHost.from_machine(
                    MACHINE,
                    script_sha256=SHA256,
                    name=name,
                    accounts=ACCOUNTS,
                    offers=frozenset({"kerberos"}),
                    keytab=str(controller.host_keytab(name)),
                )
            )
            for name in HOSTS
        ]


@pytest.fixture
async def tickets() -> AsyncIterator[Tickets]:
    tickets = Tickets()
    yield tickets
    await tickets.close()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers("exporter.probes.winrm.worker", 4)
    yield workers
    await workers.close()


async def collect(workers: Workers, tickets: Tickets, listening: Listening, principal: str) -> Collected:
    login = Login("kerberos", https=False, port=listening.port, username=principal, ticket_cache=tickets.cache)
    job = CollectJob(listening.host.name, listening.address, login)
    return OUTCOME.validate_json(await workers.run(JOB.dump_json(job), 30))


async def test_a_host_is_collected_with_a_ticket_and_without_a_readable_word(
    hosts: list[Listening], tickets: Tickets, workers: Workers
) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

    collected = await collect(workers, tickets, hosts[0], READER)

    assert collected.failure is None
    assert collected.accepted
    assert MACHINE.fqdn.encode() in collected.output
    assert [(logon.user, logon.ok, logon.mechanism) for logon in hosts[0].journal.of(Logon)] == [
        (READER, True, "kerberos")
    ]
    assert {"Create", "Command", "Delete"} <= {operation.name for operation in hosts[0].journal.of(Operation)}
    assert not hosts[0].journal.of(Readable)
    assert hosts[0].open_shells == 0


async def test_each_principal_logs_on_as_itself_from_one_collection(
    hosts: list[Listening], tickets: Tickets, workers: Workers
) -> None:
    pairs = [(principal, listening) for principal in (READER, OTHER) for listening in hosts]
    await asyncio.gather(*(tickets.ensure(who, RIGHT, "HTTP", listening.host.name) for who, listening in pairs))

    done = await asyncio.gather(*(collect(workers, tickets, listening, who) for who, listening in pairs))

    assert [collected.failure for collected in done] == [None] * 4
    for listening in hosts:
        assert sorted(logon.user for logon in listening.journal.of(Logon)) == [OTHER, READER]


async def test_with_both_tickets_cached_no_kdc_is_needed(
    controller: SambaController, hosts: list[Listening], tickets: Tickets, workers: Workers
) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

    with controller.away():
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
        collected = await collect(workers, tickets, hosts[0], READER)

    assert collected.failure is None


async def test_without_a_ticket_nothing_is_sent(hosts: list[Listening], tickets: Tickets, workers: Workers) -> None:
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])

    collected = await collect(workers, tickets, hosts[0], READER)

    assert collected.failure is not None
    assert collected.failure.reason is Reason.AUTH_UNAVAILABLE
    assert collected.accepted is None
    assert not hosts[0].journal.of(Logon)
    assert not hosts[0].journal.of(Readable)


async def test_a_host_that_answers_for_another_name_learns_nothing(
    hosts: list[Listening], tickets: Tickets, workers: Workers
) -> None:
    """The ticket is for the first host; the second one, in its place, cannot read it."""
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    login = Login("kerberos", https=False, port=hosts[1].port, username=READER, ticket_cache=tickets.cache)

    answer = await workers.run(JOB.dump_json(CollectJob(HOSTS[0], hosts[1].address, login)), 30)

    assert OUTCOME.validate_json(answer).failure is not None
    assert not hosts[1].journal.of(Operation)
    assert not hosts[1].journal.of(Readable)
