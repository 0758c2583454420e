"""Real Kerberos, all the way: tickets from a domain controller, pywinrm in its child, and a host with a keytab."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from documents import base_document, printed
from samba_controller import HOSTS, OTHER, PASSWORD, READER, SambaController
from structlog.testing import capture_logs
from winrm_hosts import Pki, pki, windows

from exporter.collect import Collector
from exporter.credentials.secret import Password
from exporter.credentials.tickets import Tickets
from exporter.demo.machines import load_all
from exporter.demo.winrm import (
    Account,
    Asked,
    Https,
    Listening,
    Logon,
    Operation,
    Readable,
    SimulatedHosts,
    WindowsHost,
)
from exporter.demo.winrm.acceptors import bindings_of
from exporter.demo.winrm.misbehaviour import Reply, Seen
from exporter.facts import Known, Missing, Reason
from exporter.probes.winrm.jobs import JOB, OUTCOME, Collected, CollectJob, Login
from exporter.probes.winrm.script import SHA256
from exporter.targets import Target
from exporter.workers import Workers

from builders import config

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


# As the exporter does it


@pytest.fixture
def certificates(tmp_path: Path) -> Pki:
    return pki(tmp_path, HOSTS[0])


def asked_as_configured(fleet: SimulatedHosts, controller: SambaController, **changes: Any) -> Listening:
    """The first host of the domain, which says of itself what it is."""
    document = base_document() | {"host": {"name": "EXCH01", "fqdn": HOSTS[0]}}
    return fleet.start(
        windows(
            printed(document),
            accounts=ACCOUNTS,
            offers=frozenset({"kerberos"}),
            keytab=str(controller.host_keytab(HOSTS[0])),
            **changes,
        )
    )


@asynccontextmanager
async def collector(port: int, **login: Any) -> AsyncIterator[Collector]:
    credential = {"auth": "kerberos", "username": READER, "port": port} | login
    made = Collector(config({"credentials": {"readers": credential}}))
    try:
        yield made
    finally:
        await made.close()


def target(name: str = HOSTS[0]) -> Target:
    return Target(name, "mailbox", (), address="127.0.0.1", credentials="readers")


def secret_file(controller: SambaController, folder: Path, kind: str) -> dict[str, str]:
    """The setting for a file with the right secret of the reader."""
    path = folder / f"winrm.{kind}"
    if kind == "keytab":
        controller.export_keytab(READER, path)
    else:
        path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return {f"{kind}_file": str(path)}


def proofs(listening: Listening) -> int:
    """How many requests held a Kerberos token."""
    return [asked.authorization for asked in listening.journal.of(Asked)].count("Kerberos")


@pytest.fixture
def fleet(controller: SambaController, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedHosts]:
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5_conf))
    with SimulatedHosts() as fleet:
        yield fleet


@pytest.mark.parametrize("kind", ["password", "keytab"])
async def test_the_collector_logs_on_over_http_with_either_secret(
    controller: SambaController, fleet: SimulatedHosts, tmp_path: Path, kind: str
) -> None:
    listening = asked_as_configured(fleet, controller)

    async with collector(listening.port, **secret_file(controller, tmp_path, kind)) as collecting:
        fact = await collecting.collect(target())

    assert isinstance(fact, Known)
    assert fact.value.fqdn == HOSTS[0]
    assert [(logon.user, logon.ok, logon.mechanism) for logon in listening.journal.of(Logon)] == [
        (READER, True, "kerberos")
    ]
    assert not listening.journal.of(Readable)
    assert listening.open_shells == 0


@pytest.mark.parametrize("bindings", ["relaxed", "strict"])
async def test_the_collector_logs_on_over_https(
    controller: SambaController,
    fleet: SimulatedHosts,
    certificates: Pki,
    tmp_path: Path,
    bindings: Literal["relaxed", "strict"],
) -> None:
    own = Https(certificates.certificate_file, certificates.key_file)
    listening = asked_as_configured(fleet, controller, https=own, channel_bindings=bindings)
    login = secret_file(controller, tmp_path, "keytab") | {"ca_file": str(certificates.ca_file), "transport": "https"}

    async with collector(listening.port, **login) as collecting:
        fact = await collecting.collect(target())

    assert isinstance(fact, Known)
    assert [(logon.user, logon.ok, logon.mechanism) for logon in listening.journal.of(Logon)] == [
        (READER, True, "kerberos")
    ]
    assert proofs(listening) == 1


@pytest.mark.parametrize(
    ("channel_bindings", "own", "expected"),
    [(True, True, None), (True, False, Reason.AUTH_REJECTED), (False, False, None)],
    ids=["bound", "bound to another certificate", "unbound"],
)
async def test_a_host_that_wants_channel_bindings_gets_them_with_the_second_kerberos_request(  # noqa: PLR0917 - pytest passes them by name
    controller: SambaController,
    fleet: SimulatedHosts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    channel_bindings: bool,  # noqa: FBT001 - pytest passes it by name
    own: bool,  # noqa: FBT001
    expected: Reason | None,
) -> None:
    """The first is sent unasked, when the certificate is not known yet; a strict host refuses it."""
    shown, other = pki(_folder(tmp_path, "shown"), HOSTS[0]), pki(_folder(tmp_path, "other"), HOSTS[0])
    wanted = bindings_of((shown if own else other).certificate_file)
    monkeypatch.setattr("exporter.demo.winrm.authentication.bindings_of", lambda _: wanted)

    def refuse_the_first(seen: Seen) -> Reply | None:
        first = (seen.connection, seen.number) == (1, 1)
        return (
            Reply(401, headers=[("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "Kerberos")]) if first else None
        )

    https = Https(shown.certificate_file, shown.key_file)
    listening = asked_as_configured(fleet, controller, https=https, misbehave=refuse_the_first)
    login = secret_file(controller, tmp_path, "keytab") | {"ca_file": str(shown.ca_file), "transport": "https"}

    async with collector(listening.port, **login, channel_bindings=channel_bindings) as collecting:
        fact = await collecting.collect(target())

    assert fact.reason is expected
    assert proofs(listening) == 2


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


async def test_a_password_that_the_kdc_refuses_is_tried_once_for_all_hosts(
    controller: SambaController, fleet: SimulatedHosts, tmp_path: Path
) -> None:
    path = tmp_path / "winrm.password"
    path.write_text("not the password")
    listening = asked_as_configured(fleet, controller)
    before = controller.bad_passwords(OTHER)

    with capture_logs() as logs:
        async with collector(listening.port, username=OTHER, password_file=str(path)) as collecting:
            facts = await asyncio.gather(*(collecting.collect(target(f"exch0{n}.contoso.test")) for n in range(1, 7)))
            blocked = dict(collecting.credentials_blocked)

    assert Counter(fact.reason for fact in facts if isinstance(fact, Missing)) == {
        Reason.AUTH_REJECTED: 1,
        Reason.CREDENTIAL_BLOCKED: 5,
    }
    assert (before, controller.bad_passwords(OTHER)) == (0, 1)
    assert blocked == {"readers": True}
    assert not listening.journal.of(Asked)
    refused = [entry for entry in logs if entry["event"] == "a credential was refused"]
    assert [(entry["credential"], entry["account"]) for entry in refused] == [("readers", OTHER)]
