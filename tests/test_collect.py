"""The collector as a whole: what its configuration and its credentials become on the wire, and what it says of it."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from documents import SERVER
from structlog.testing import capture_logs
from winrm_hosts import ACCOUNT, PASSWORD, USER, Pki, at_operation, http, pki, raw_server, windows

from exporter.collect import KNOCK, Collector
from exporter.demo.machines import load_all
from exporter.demo.machines.document import output
from exporter.demo.winrm import (
    Asked,
    ClientCertificates,
    Close,
    Https,
    Listening,
    Logon,
    Operation,
    Readable,
    SimulatedHosts,
)
from exporter.facts import Fact, HostFacts, Known, Missing, Reason
from exporter.probes.tls.resolve import ResolveError
from exporter.targets import Target

from builders import config

NAME = "exchange-readers"
MACHINE = load_all()[0]
MINUTE_AND_A_HALF = timedelta(seconds=90)


@pytest.fixture
def hosts() -> Iterator[SimulatedHosts]:
    with SimulatedHosts() as fleet:
        yield fleet


@pytest.fixture
def certificates(tmp_path: Path) -> Pki:
    return pki(tmp_path)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "winrm.password"
    path.write_text(f"{PASSWORD}\n")
    return path


@pytest.fixture
def wrong_password_file(tmp_path: Path) -> Path:
    path = tmp_path / "winrm.password"
    path.write_text("not the password")
    return path


def https(certificates: Pki) -> Https:
    return Https(certificates.certificate_file, certificates.key_file)


def target(name: str = SERVER, address: str = "127.0.0.1") -> Target:
    return Target(name, "mailbox", (), address=address, credentials=NAME)


@asynccontextmanager
async def collector(port: int, collect: Mapping[str, Any] | None = None, /, **login: Any) -> AsyncIterator[Collector]:
    """One with a credential that is for this port, and is NTLM's unless it is said otherwise."""
    credential = {"auth": "ntlm", "port": port} | login
    if credential["auth"] != "certificate":
        credential = {"username": USER} | credential
    made = Collector(config({"collect": collect or {}, "credentials": {NAME: credential}}))
    try:
        yield made
    finally:
        await made.close()


def reason(fact: Fact[HostFacts]) -> Reason | None:
    """Why there are no facts; None where there are."""
    return fact.reason if isinstance(fact, Missing) else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# What the configuration says


async def test_ntlm_over_https_is_bound_to_the_channel_and_trusts_the_configured_authority(
    hosts: SimulatedHosts, certificates: Pki, password_file: Path
) -> None:
    strict = hosts.start(windows(https=https(certificates), channel_bindings="strict"))
    login = {"password_file": str(password_file), "transport": "https", "ca_file": str(certificates.ca_file)}

    async with collector(strict.port, **login) as collecting:
        bound = await collecting.collect(target())
    async with collector(strict.port, **login, channel_bindings=False) as collecting:
        unbound = await collecting.collect(target())

    assert isinstance(bound, Known)
    assert bound.value.fqdn == SERVER
    assert reason(unbound) is Reason.AUTH_REJECTED
    assert [(logon.ok, logon.detail) for logon in strict.journal.of(Logon)] == [
        (True, ""),
        (False, "no channel bindings"),
    ]


async def test_an_authority_that_is_not_configured_is_not_trusted(
    hosts: SimulatedHosts, certificates: Pki, password_file: Path
) -> None:
    listening = hosts.start(windows(https=https(certificates)))

    async with collector(listening.port, password_file=str(password_file), transport="https") as collecting:
        fact = await collecting.collect(target())

    assert reason(fact) is Reason.TLS
    assert not listening.journal.of(Asked)


async def test_what_the_script_is_to_do_reaches_it(hosts: SimulatedHosts, password_file: Path) -> None:
    listening = hosts.start(windows())

    async with collector(
        listening.port, {"usage_megabytes": 7, "pending_updates": True}, password_file=str(password_file)
    ) as collecting:
        assert isinstance(await collecting.collect(target()), Known)

    (command,) = (each.command_line for each in listening.journal.of(Operation) if each.name == "Command")
    plain = _decoded(command)
    assert plain.endswith(" -UsageMegabytes 7 -PendingUpdates")
    assert not listening.journal.of(Readable)


def _decoded(command: str) -> str:
    return base64.b64decode(command.rsplit(maxsplit=1)[-1]).decode("utf-16-le")


async def test_no_more_hosts_are_collected_from_at_the_same_time_than_configured(
    hosts: SimulatedHosts, password_file: Path
) -> None:
    listening = hosts.start(windows(takes=0.4))

    async with collector(listening.port, {"parallel_hosts": 2}, password_file=str(password_file)) as collecting:
        facts = await asyncio.gather(*(collecting.collect(target()) for _ in range(6)))

    assert [reason(fact) for fact in facts] == [None] * 6
    assert max(_shells(listening)) == 2


def _shells(listening: Listening) -> Iterator[int]:
    """How many shells were open after each operation."""
    change = {"Create": 1, "Delete": -1}
    return accumulate(change.get(each.name, 0) for each in listening.journal.of(Operation))


async def test_a_client_certificate_goes_over_tls_1_2_to_a_server_that_would_speak_1_3(
    certificates: Pki, password_file: Path
) -> None:
    """Windows asks for client certificates after the handshake, which TLS 1.3 does not allow."""
    versions: list[str | None] = []

    class Noting(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class'
            super().do_handshake(block)
            versions.append(self.version())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = Noting
    context.load_cert_chain(certificates.certificate_file, certificates.key_file)
    own = {"certificate_file": str(certificates.client_file), "key_file": str(certificates.client_key_file)}
    common = {"transport": "https", "ca_file": str(certificates.ca_file)}
    with raw_server(http("401 Unauthorized"), context) as server:
        async with collector(server.port, auth="certificate", **own, **common) as collecting:
            await collecting.collect(target())
        async with collector(server.port, password_file=str(password_file), **common) as collecting:
            await collecting.collect(target())

    assert versions == ["TLSv1.2", "TLSv1.3"]


async def test_a_client_certificate_logs_on(hosts: SimulatedHosts, certificates: Pki) -> None:
    listening = hosts.start(
        windows(
            https=https(certificates),
            offers=frozenset({"certificate"}),
            client_certificates=ClientCertificates(certificates.ca_file, ACCOUNT),
        )
    )
    own = {"certificate_file": str(certificates.client_file), "key_file": str(certificates.client_key_file)}

    async with collector(listening.port, auth="certificate", **own, ca_file=str(certificates.ca_file)) as collecting:
        fact = await collecting.collect(target())

    assert isinstance(fact, Known)
    assert {logon.mechanism for logon in listening.journal.of(Logon)} == {"certificate"}


# What the facts say


@pytest.mark.parametrize(
    ("ahead", "at_least", "at_most"), [(timedelta(), 0.0, 0.0), (MINUTE_AND_A_HALF, 80.0, 90.0)], ids=["right", "ahead"]
)
async def test_the_clock_of_a_host_is_compared_with_ours(
    hosts: SimulatedHosts, password_file: Path, ahead: timedelta, at_least: float, at_most: float
) -> None:
    """The time that the collection took cannot be told from an offset, and is not counted as one."""

    def document(at: datetime, parameters: Mapping[str, Any]) -> str:
        return output(MACHINE, at + ahead, **parameters)

    listening = hosts.start(replace(windows(name=MACHINE.name), document=document))

    async with collector(listening.port, password_file=str(password_file)) as collecting:
        fact = await collecting.collect(target(MACHINE.fqdn))

    assert isinstance(fact, Known)
    assert fact.value.clock_offset is not None
    assert at_least <= fact.value.clock_offset <= at_most


# What is logged


async def test_a_refusal_is_logged_once_with_what_follows_from_it(
    hosts: SimulatedHosts, wrong_password_file: Path
) -> None:
    listening = hosts.start(windows())

    with capture_logs() as logs:
        async with collector(listening.port, password_file=str(wrong_password_file)) as collecting:
            facts = [await collecting.collect(target()) for _ in range(2)]
            blocked = dict(collecting.credentials_blocked)

    assert [reason(fact) for fact in facts] == [Reason.AUTH_REJECTED, Reason.CREDENTIAL_BLOCKED]
    assert blocked == {NAME: True}
    (entry,) = (each for each in logs if each["event"] == "a credential was refused")
    assert entry["log_level"] == "error"
    assert (entry["credential"], entry["account"], entry["server"]) == (NAME, USER, SERVER)
    assert entry["consequence"] == "no server is asked with it until its file changes, or for 6h"
    assert "401" in entry["detail"]
    assert "not the password" not in str(logs)


async def test_what_was_left_behind_on_a_host_is_logged(hosts: SimulatedHosts, password_file: Path) -> None:
    listening = hosts.start(windows(misbehave=at_operation("Delete", Close())))

    with capture_logs() as logs:
        async with collector(listening.port, password_file=str(password_file)) as collecting:
            fact = await collecting.collect(target())

    assert isinstance(fact, Known)
    (shell,) = {each.shell for each in listening.journal.of(Operation) if each.name == "Create"}
    (entry,) = (each for each in logs if each["event"] == "something was left on a host")
    assert (entry["log_level"], entry["server"]) == ("warning", SERVER)
    assert entry["what"].startswith(f"shell {shell}: connection_closed: ")


async def test_nothing_is_logged_of_a_visit_that_went_well_but_that_it_took_place(
    hosts: SimulatedHosts, password_file: Path
) -> None:
    listening = hosts.start(windows())

    with capture_logs() as logs:
        async with collector(listening.port, password_file=str(password_file)) as collecting:
            await collecting.collect(target())

    assert [(each["event"], each["log_level"], each["address"]) for each in logs] == [("visited", "debug", "127.0.0.1")]


# What goes wrong


@dataclass
class Resolver:
    """Stands in for the system's: knows these names, and notes what it is asked."""

    known: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, float]] = field(default_factory=list)

    async def resolve(self, host: str, timeout: float) -> tuple[str, ...]:
        self.asked.append((host, timeout))
        if host not in self.known:
            raise ResolveError(f"{host}: Name or service not known")
        return (self.known[host],)


async def test_a_name_without_an_address_is_no_host_to_ask(
    monkeypatch: pytest.MonkeyPatch, password_file: Path
) -> None:
    resolver = Resolver()
    async with collector(free_port(), password_file=str(password_file)) as collecting:
        monkeypatch.setattr(collecting, "_resolver", resolver)

        fact = await collecting.collect(target("does-not-exist.invalid", address=""))

    assert fact == Missing(Reason.DNS, "does-not-exist.invalid: Name or service not known")
    assert resolver.asked == [("does-not-exist.invalid", KNOCK)]


async def test_a_host_is_found_by_its_address_and_asked_by_its_name(
    monkeypatch: pytest.MonkeyPatch, hosts: SimulatedHosts, password_file: Path
) -> None:
    listening = hosts.start(windows())
    async with collector(listening.port, password_file=str(password_file)) as collecting:
        monkeypatch.setattr(collecting, "_resolver", Resolver({"management.invalid": "127.0.0.1"}))

        fact = await collecting.collect(target(address="management.invalid"))

    assert isinstance(fact, Known)
    assert {asked.host for asked in listening.journal.of(Asked)} == {f"{SERVER}:{listening.port}"}


async def test_a_port_where_nobody_listens(password_file: Path) -> None:
    async with collector(free_port(), password_file=str(password_file)) as collecting:
        fact = await collecting.collect(target())
        blocked = dict(collecting.credentials_blocked)

    assert reason(fact) is Reason.TCP_REFUSED
    assert blocked == {NAME: False}


async def test_with_a_blocked_credential_nobody_is_even_connected_to(
    hosts: SimulatedHosts, wrong_password_file: Path
) -> None:
    refusing = hosts.start(windows())
    with socket.create_server(("127.0.0.2", refusing.port)) as other:
        other.settimeout(0)
        async with collector(refusing.port, password_file=str(wrong_password_file)) as collecting:
            first = await collecting.collect(target())
            second = await collecting.collect(target("exch02.contoso.test", "127.0.0.2"))

        assert [reason(first), reason(second)] == [Reason.AUTH_REJECTED, Reason.CREDENTIAL_BLOCKED]
        with pytest.raises(BlockingIOError):
            other.accept()


@pytest.mark.parametrize(
    "said", ["nonsense", '{"began": NaN}', '{"errors": "\\u001b[2J"}'], ids=["no JSON", "no time", "no text"]
)
async def test_what_makes_no_sense_from_a_child_counts_as_its_death(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hosts: SimulatedHosts, password_file: Path, said: str
) -> None:
    (tmp_path / "raving.py").write_text(f"from exporter.workers import serve\nserve(lambda *_: {said.encode()!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("exporter.collect.WORKER", "raving")
    listening = hosts.start(windows())

    with capture_logs() as logs:
        async with collector(listening.port, password_file=str(password_file)) as collecting:
            fact = await collecting.collect(target())

    assert reason(fact) is Reason.WORKER_DIED
    assert ("a child process said nothing sensible", SERVER) in [(each["event"], each.get("server")) for each in logs]


async def test_a_child_that_dies_is_counted(
    monkeypatch: pytest.MonkeyPatch, hosts: SimulatedHosts, password_file: Path
) -> None:
    monkeypatch.setattr("exporter.collect.WORKER", "children.broken")
    monkeypatch.setenv("BROKEN", "stammers")
    listening = hosts.start(windows())

    async with collector(listening.port, password_file=str(password_file)) as collecting:
        fact = await collecting.collect(target())
        deaths = {death: count for (_, death), count in collecting.worker_deaths.items() if count}

    assert reason(fact) is Reason.WORKER_DIED
    assert deaths == {"died": 1}


async def test_a_refusal_that_may_be_for_want_of_channel_bindings_is_told_from_a_wrong_password(
    monkeypatch: pytest.MonkeyPatch, hosts: SimulatedHosts, tmp_path: Path, password_file: Path
) -> None:
    """No library makes bindings of a certificate whose signature has an algorithm that it does not know."""
    # The simulated host could not make them either; it refuses before it would compare them.
    monkeypatch.setattr("exporter.demo.winrm.authentication.bindings_of", lambda _: None)
    odd, authority = odd_certificate(tmp_path)
    strict = hosts.start(windows(https=odd, channel_bindings="strict"))

    async with collector(
        strict.port, password_file=str(password_file), transport="https", ca_file=str(authority)
    ) as collecting:
        fact = await collecting.collect(target())

    assert reason(fact) is Reason.AUTH_CBT
    assert [(logon.ok, logon.detail) for logon in strict.journal.of(Logon)] == [(False, "no channel bindings")]


def odd_certificate(folder: Path) -> tuple[Https, Path]:
    """Signed with RSASSA-PSS over SHA-512/256, which OpenSSL knows and Python's cryptography does not."""
    key, request, certificate = (folder / f"odd.{each}" for each in ("key", "csr", "pem"))
    authority, authority_key = folder / "odd-ca.pem", folder / "odd-ca.key"
    extensions = folder / "odd.ext"
    extensions.write_text(f"subjectAltName = DNS:{SERVER}\n")
    new_key = ("-newkey", "rsa:2048", "-nodes", "-keyout")
    ca = ("-CA", str(authority), "-CAkey", str(authority_key), "-set_serial", "1", "-days", "2")
    for arguments in (
        ("req", "-x509", *new_key, str(authority_key), "-out", str(authority), "-subj", "/CN=An authority"),
        ("req", *new_key, str(key), "-out", str(request), "-subj", f"/CN={SERVER}"),
        (
            "x509",
            "-req",
            "-sha512-256",
            "-sigopt",
            "rsa_padding_mode:pss",
            "-in",
            str(request),
            *ca,
            "-extfile",
            str(extensions),
            "-out",
            str(certificate),
        ),
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
    return Https(certificate, key), authority
