"""What a simulated Windows host is, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

from exporter.demo.machines import Machine
from exporter.demo.machines.document import output
from exporter.demo.winrm.misbehaviour import Action, Seen


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may log on.

    Attributes:
        domain: CONTOSO.TEST, or CONTOSO. The client may say the whole name or its first label, before a backslash or
            after an @; where only the label is known here, a longer name is right for Kerberos and basic, and for NTLM
            it is not.
        user: the name without the domain; upper and lower case are the same.
        password: for NTLM and basic.
        administrator: False: authenticated, and every operation is answered with access denied.
    """

    domain: str
    user: str
    password: str = field(repr=False)
    administrator: bool = True

    def __post_init__(self) -> None:
        if any(character in text for text in (self.domain, self.user, self.password) for character in ":\r\n"):
            raise ValueError("the simulation cannot store a colon or a line break in a name or password")

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of its domain."""
        return tuple(dict.fromkeys((self.domain, self.domain.partition(".")[0])))

    def is_named(self, domain: str, user: str) -> bool:
        """Says whether a client that names these means it; "" for the domain is any."""
        asked, ours = domain.lower(), self.domain.lower()
        same = asked in ("", ours) or asked.partition(".")[0] == ours or asked == ours.partition(".")[0]
        return same and user.lower() == self.user.lower()

    @property
    def name(self) -> str:
        r"""DOMAIN\user."""
        return f"{self.domain}\\{self.user}"


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of a host; the defaults are those of Windows since 2012 (on 2008 R2 five shells, and envelopes of 150 kB).

    Attributes:
        shells_per_user: MaxShellsPerUser.
        users: MaxConcurrentUsers: users with an open shell.
        operations_per_user: MaxConcurrentOperationsPerUser: commands in a user's open shells, ended ones among them.
        processes_per_shell: MaxProcessesPerShell.
        envelope_bytes: of a request, and the most of a response whatever was asked; Windows' default is 500 kB, the
            150 kB are what older ones have and what clients ask for.
        smallest_envelope: bytes that a client must at least allow.
        command_line: characters that cmd.exe takes.
        create_process_line: characters that CreateProcess takes, the zero at the end among them.
        operation_timeout: seconds, the most that a Receive waits whatever was asked.
        idle_timeout: seconds until a shell without operations ends, where the client asked for nothing.
        least_idle_timeout: seconds that a client must at least ask for.
    """

    shells_per_user: int = 30
    users: int = 10
    operations_per_user: int = 1_500
    processes_per_shell: int = 25
    envelope_bytes: int = 153_600
    smallest_envelope: int = 8_192
    command_line: int = 8_191
    create_process_line: int = 32_767
    operation_timeout: float = 60.0
    idle_timeout: float = 7_200.0
    least_idle_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Https:
    """A listener for https instead of http: PEM files of the certificate with its chain, and of its key."""

    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class ClientCertificates:
    """Certificates that log on: all that the authority issued are mapped to one account. Ends TLS at version 1.2.

    Attributes:
        authority_file: PEM of the authority.
        account: whom they log on.
    """

    authority_file: Path
    account: Account


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """What a process left: the bytes of its streams, and its exit code."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int = 0


Document: TypeAlias = Callable[[datetime, Mapping[str, Any]], str | bytes | ScriptOutput]
"""What the script prints there at that time. The mapping has usage_megabytes, a number, and pending_updates."""

Offer: TypeAlias = Literal["negotiate", "kerberos", "basic", "certificate"]
WINDOWS_OFFERS: Final[frozenset[Offer]] = frozenset({"negotiate", "kerberos"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsHost:
    """A simulated Windows host with WinRM.

    Attributes:
        document: what the script prints there.
        script_sha256: in hexadecimal; a script with another hash does not run.
        accounts: who may log on.
        name: of the computer, in faults.
        offers: ways to authenticate. "kerberos" without "negotiate" refuses NTLM.
        allow_unencrypted: takes messages over http that are not encrypted, and basic there.
        keytab: file for Kerberos; it needs the packages gssapi and krb5.
        https: None for http.
        client_certificates: for "certificate"; needs https.
        channel_bindings: none: not looked at; relaxed (Windows' default): must be right where the client sends them;
            strict: must be there, which for Kerberos is not looked at.
        quotas: limits.
        takes: seconds that the script runs.
        stdin: False: standard input does not reach the script.
        winrm_2: behaves as Windows Server 2008 R2 with PowerShell 2.0: a Create's answer names the shell in its
            selectors only, and a process whose standard input is a pipe ends only when that does.
        receive_bytes: the most output that one Receive brings.
        misbehave: asked about every request before it is looked at; see `exporter.demo.winrm.misbehaviour`.
    """

    document: Document
    script_sha256: str
    accounts: Sequence[Account] = ()
    name: str = "simulated-host"
    offers: frozenset[Offer] = WINDOWS_OFFERS
    allow_unencrypted: bool = False
    keytab: str | None = None
    https: Https | None = None
    client_certificates: ClientCertificates | None = None
    channel_bindings: Literal["none", "relaxed", "strict"] = "relaxed"
    quotas: Quotas = Quotas()
    takes: float = 0.0
    stdin: bool = True
    winrm_2: bool = False
    receive_bytes: int = 16_384
    misbehave: Callable[[Seen], Action | bytes | None] | None = None

    @classmethod
    def from_machine(cls, machine: Machine, *, script_sha256: str, **others: Any) -> Self:
        """The host that a simulated machine would be: it says of itself what the machine's document says."""

        def document(at: datetime, parameters: Mapping[str, Any]) -> str:
            return output(machine, at, **parameters)

        return cls(document=document, script_sha256=script_sha256, **{"name": machine.fqdn, **others})
