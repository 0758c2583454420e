"""The simulated Windows host over https: certificates on both sides, basic, and logons that are tied to the channel."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests.exceptions
import trustme
from requests_ntlm import requests_ntlm
from winrm.exceptions import InvalidCredentialsError, WSManFaultError
from winrm.protocol import Protocol

from exporter.demo.winrm import (
    Account,
    ClientCertificates,
    Https,
    Listening,
    Logon,
    Opened,
    Readable,
    SimulatedHosts,
    WindowsHost,
)

READER = Account("CONTOSO", "svc-tlsread", "Sekret-7")


class Files(NamedTuple):
    """PEM files: the authority's certificate, the server's with its key, and two clients'."""

    authority: Path
    server: Https
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))

    def issue(name: str, by: trustme.CA) -> tuple[Path, Path]:
        issued = by.issue_cert("127.0.0.1", name, key_type=trustme.KeyType.RSA)
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return chain, key

    server = Https(*issue("exch01.contoso.test", authority))
    strangers = issue("stranger.contoso.test", trustme.CA())
    return Files(folder / "authority.pem", server, issue("client.contoso.test", authority), strangers)


@pytest.fixture
def hosts() -> Iterator[SimulatedHosts]:
    with SimulatedHosts() as fleet:
        yield fleet


def host(files: Files, **changes: Any) -> WindowsHost:
    settings: dict[str, Any] = {
        "document": lambda *_: "",
        "script_sha256": hashlib.sha256(b"").hexdigest(),
        "accounts": (READER,),
        "https": files.server,
    }
    return WindowsHost(**settings | changes)


def client(listening: Listening, files: Files, **changes: Any) -> Protocol:
    options: dict[str, Any] = {
        "transport": "ntlm",
        "username": READER.name,
        "password": READER.password,
        "ca_trust_path": str(files.authority),
        "proxy": None,
    }
    return Protocol(listening.endpoint, **options | changes)


def visit(asking: Protocol) -> None:
    asking.close_shell(asking.open_shell())


@pytest.mark.parametrize("encryption", ["auto", "always"])
@pytest.mark.parametrize("bindings", ["none", "relaxed", "strict"])
def test_ntlm_tied_to_the_channel_is_taken(hosts: SimulatedHosts, files: Files, bindings: str, encryption: str) -> None:
    listening = hosts.start(host(files, channel_bindings=bindings))

    visit(client(listening, files, message_encryption=encryption))

    assert listening.journal.of(Logon) == (Logon(READER.name, ok=True, mechanism="ntlm"),)
    assert listening.journal.of(Readable) == ()


@pytest.mark.parametrize(("bindings", "taken"), [("none", True), ("relaxed", True), ("strict", False)])
def test_ntlm_tied_to_nothing_depends_on_the_host(
    hosts: SimulatedHosts, files: Files, bindings: str, *, taken: bool
) -> None:
    listening = hosts.start(host(files, channel_bindings=bindings))

    if taken:
        visit(client(listening, files, send_cbt=False))
    else:
        with pytest.raises(InvalidCredentialsError):
            visit(client(listening, files, send_cbt=False))

    assert [logon.ok for logon in listening.journal.of(Logon)] == [taken]


@pytest.mark.parametrize(("bindings", "taken"), [("none", True), ("relaxed", False), ("strict", False)])
def test_ntlm_tied_to_another_channel_depends_on_the_host(
    hosts: SimulatedHosts, files: Files, bindings: str, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    """As behind a proxy that ends TLS."""
    listening = hosts.start(host(files, channel_bindings=bindings))
    monkeypatch.setattr(requests_ntlm, "_get_certificate_hash", lambda _: bytes(range(32)))

    if taken:
        visit(client(listening, files))
    else:
        with pytest.raises(InvalidCredentialsError):
            visit(client(listening, files))

    assert [logon.ok for logon in listening.journal.of(Logon)] == [taken]


def test_basic(hosts: SimulatedHosts, files: Files) -> None:
    listening = hosts.start(host(files, offers=frozenset({"basic"})))

    visit(client(listening, files, transport="basic"))

    assert {(logon.mechanism, logon.ok) for logon in listening.journal.of(Logon)} == {("basic", True)}


@pytest.mark.parametrize(("name", "password"), [("CONTOSO\\svc-tlsread", "wrong"), ("CONTOSO\\nobody", "Sekret-7")])
def test_basic_with_a_wrong_password_is_one_logon(
    hosts: SimulatedHosts, files: Files, name: str, password: str
) -> None:
    listening = hosts.start(host(files, offers=frozenset({"basic"})))

    with pytest.raises(InvalidCredentialsError):
        visit(client(listening, files, transport="basic", username=name, password=password))

    assert [(logon.user, logon.ok) for logon in listening.journal.of(Logon)] == [(name, False)]


class TestClientCertificates:
    def start(self, hosts: SimulatedHosts, files: Files, account: Account = READER) -> Listening:
        mapped = ClientCertificates(files.authority, account)
        return hosts.start(host(files, offers=frozenset({"certificate"}), client_certificates=mapped))

    def client(self, listening: Listening, files: Files, pair: tuple[Path, Path]) -> Protocol:
        certificate, key = map(str, pair)
        return client(listening, files, transport="certificate", cert_pem=certificate, cert_key_pem=key)

    def test_one_of_the_authority_logs_on(self, hosts: SimulatedHosts, files: Files) -> None:
        listening = self.start(hosts, files)

        visit(self.client(listening, files, files.client))

        assert set(listening.journal.of(Logon)) == {Logon(READER.name, ok=True, mechanism="certificate")}
        assert listening.open_shells == 0

    def test_one_of_a_stranger_gets_no_connection(self, hosts: SimulatedHosts, files: Files) -> None:
        listening = self.start(hosts, files)

        with pytest.raises((requests.exceptions.ConnectionError, requests.exceptions.SSLError)):
            visit(self.client(listening, files, files.stranger))

        assert listening.journal.of(Opened) == ()

    def test_none_is_refused(self, hosts: SimulatedHosts, files: Files) -> None:
        listening = self.start(hosts, files)

        with pytest.raises(InvalidCredentialsError):
            visit(client(listening, files))

        assert listening.journal.of(Logon) == ()

    def test_of_somebody_who_is_no_administrator_is_denied_access(self, hosts: SimulatedHosts, files: Files) -> None:
        listening = self.start(hosts, files, Account("CONTOSO", "guest", "", administrator=False))

        with pytest.raises(WSManFaultError, match="Access is denied"):
            visit(self.client(listening, files, files.client))

    def test_end_tls_at_version_1_2(self, hosts: SimulatedHosts, files: Files) -> None:
        listening = self.start(hosts, files)
        context = ssl.create_default_context(cafile=str(files.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3

        with (
            socket.create_connection((listening.address, listening.port)) as connection,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(connection, server_hostname=listening.address)


def test_a_client_that_trusts_nobody_sends_nothing(hosts: SimulatedHosts, files: Files) -> None:
    listening = hosts.start(host(files))

    with pytest.raises(requests.exceptions.SSLError):
        visit(client(listening, files, ca_trust_path=str(files.stranger[0])))

    assert listening.journal.of(Logon) == ()
