"""What a Windows host says about itself: patch level and TLS configuration.

The names are those of the registry, of WMI and of Schannel. `exporter.probes.winrm.document` fills this in from what
the collector script prints; exporter/probes/winrm/document.schema.json says where each item comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from exporter.facts.certificate import Certificate
from exporter.facts.fact import Fact, Known, Missing, Reason
from exporter.facts.protocol import Protocol

Version: TypeAlias = tuple[int, ...]
"""A version's numbers, which compare as they should; ``15.1.2507.39`` is ``(15, 1, 2507, 39)``."""

Dword: TypeAlias = Fact[int | None]
"""A REG_DWORD, 0 to 0xFFFFFFFF; None is a value that is not there, which is never the same as 0."""

CLR_2: Final = "v2.0.50727"
CLR_4: Final = "v4.0.30319"
"""The two runtimes of .NET Framework, as their registry keys are called: 2.0 to 3.5, and 4.0 to 4.8.1."""

REBOOT_KINDS: Final = ("cbs", "windows_update", "update_exe", "sccm", "file_rename")
"""Who may ask for a restart: Component Based Servicing, Windows Update, update.exe (of older packages), Configuration
Manager, and files that are replaced at the next start, which alone means little."""


class Side(StrEnum):
    """A host's two roles in a TLS connection."""

    CLIENT = "client"
    SERVER = "server"


class View(StrEnum):
    r"""Whose settings below HKLM\SOFTWARE: what 64-bit programs read, and what 32-bit programs do (Wow6432Node)."""

    NATIVE = "native"
    WOW = "wow"


def dotted(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


@dataclass(frozen=True, slots=True)
class Windows:
    """What Windows it is.

    Attributes:
        caption: such as ``Microsoft Windows Server 2016 Standard``.
        version: major, minor and build.
        service_pack: 0 for none.
        product_type: 1 workstation, 2 domain controller, 3 server.
        last_boot: Unix time in seconds.
        ubr: the revision after the build; not dependable before Windows Server 2016.
        installation_type: Server, Server Core or Client; None before Windows Server 2008 R2.
    """

    caption: Fact[str]
    version: Fact[Version]
    service_pack: Fact[int]
    product_type: Fact[int]
    last_boot: Fact[float]
    ubr: Dword
    installation_type: Fact[str | None]

    @property
    def build(self) -> Fact[Version]:
        """The version, from Windows Server 2016 on with the revision: ``10.0.14393.5850``."""
        if isinstance(self.version, Missing) or self.version.value < (10,):
            return self.version
        if isinstance(self.ubr, Missing):
            return self.ubr
        if self.ubr.value is None:
            return Missing(Reason.NOT_COLLECTED, "windows.ubr: there is no such value")
        return Known((*self.version.value, self.ubr.value), self.version.at)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Which Exchange is installed.

    Attributes:
        installed: whether one is, of 2010 or newer.
        build: the version of ExSetup.exe, which a security update raises too; None where no Exchange is installed.
        folder: where it is installed; None likewise.
        roles: the names of its role keys, such as MailboxRole.
    """

    installed: Fact[bool]
    build: Fact[Version | None]
    folder: Fact[str | None]
    roles: Fact[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class DotNetSwitches:
    """What governs the TLS versions of a runtime's programs; see .NET's guidance on TLS."""

    system_default_tls_versions: Dword
    strong_crypto: Dword


@dataclass(frozen=True, slots=True)
class DotNet:
    """.NET Framework.

    Attributes:
        release: Release of 4.5 and newer; None where none is installed.
        v35_installed: whether 3.5 is.
        v35_service_pack: its service pack; None where it is not installed.
        v35_version: its version text; None likewise.
        system_dll: per view, the version of CLR 2.0's System.dll; None where there is none.
        switches: per runtime and view.
    """

    release: Dword
    v35_installed: Fact[bool]
    v35_service_pack: Dword
    v35_version: Fact[str | None]
    system_dll: Mapping[View, Fact[Version | None]]
    switches: Mapping[str, Mapping[View, DotNetSwitches]]


@dataclass(frozen=True, slots=True)
class Hotfix:
    """An update that Win32_QuickFixEngineering lists.

    Attributes:
        id: such as ``KB3161949``.
        installed_on: the start of that day, Unix time in seconds; None where the text makes no date.
        text: the date as Windows has it.
    """

    id: str
    installed_on: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Package:
    """An update that Component Based Servicing knows.

    Attributes:
        name: such as ``Package_for_KB3161949~31bf3856ad364e35~amd64~~6.3.1.0``.
        state: 0x70 installed, 0x80 permanent, 0x50 superseded; None where it says none.
        installed_at: Unix time in seconds; None where it says none.
    """

    name: str
    state: Dword
    installed_at: float | None

    @property
    def installed(self) -> bool:
        """Whether it is, or was before a newer one took its place; one that is staged or pending is not."""
        return isinstance(self.state, Known) and self.state.value in _INSTALLED


_INSTALLED: Final = frozenset({0x50, 0x70, 0x80})


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An update that Windows Update would install."""

    title: str
    kb: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SchannelValues:
    """The two values that switch a protocol version on one side (Microsoft, TLS registry settings)."""

    enabled: Dword
    disabled_by_default: Dword


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """The settings of one of Schannel's key exchange algorithms; lengths in bits."""

    enabled: Dword
    client_min_bits: Dword
    server_min_bits: Dword


@dataclass(frozen=True, slots=True)
class Schannel:
    """Schannel's own settings.

    Attributes:
        protocols: per version, by the name of its key (DTLS among them), and side.
        ciphers: Enabled of each cipher that has a key.
        hashes: likewise.
        key_exchange: per algorithm that has a key.
        insecure_renegotiation: per side, AllowInsecureRenegoClients (the server's) and …Servers (the client's).
    """

    protocols: Mapping[str, Mapping[Side, SchannelValues]]
    ciphers: Fact[Mapping[str, Dword]]
    hashes: Fact[Mapping[str, Dword]]
    key_exchange: Fact[Mapping[str, KeyExchange]]
    insecure_renegotiation: Mapping[Side, Dword]


@dataclass(frozen=True, slots=True)
class Order:
    """An order of names, as policy sets it and locally; None where it is not set. Policy wins."""

    policy: Fact[tuple[str, ...] | None]
    local: Fact[tuple[str, ...] | None]


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    r"""A certificate in LocalMachine\My.

    Attributes:
        thumbprint: SHA-1 of the whole certificate, in lower-case hexadecimal: what bindings name it by.
        certificate: what it says.
    """

    thumbprint: str
    certificate: Fact[Certificate]


@dataclass(frozen=True, slots=True)
class Binding:
    """A certificate bound in HTTP.sys, which IIS listens by.

    Attributes:
        name: address and port, or host name and port.
        thumbprint: the certificate's; None where it names none.
        store: where it is; None for MY.
    """

    name: str
    thumbprint: Fact[str | None]
    store: Fact[str | None]


@dataclass(frozen=True, slots=True)
class RemoteDesktop:
    """The RDP-Tcp listener.

    Attributes:
        thumbprint: of its certificate; None for the one that it made itself.
        security_layer: 0 RDP, 1 negotiated, 2 TLS.
        min_encryption_level: 3 is high.
    """

    thumbprint: Fact[str | None]
    security_layer: Dword
    min_encryption_level: Dword


@dataclass(frozen=True, slots=True)
class Peer:
    """A remote address in the SMTP protocol logs, and how many sessions of that version it had."""

    protocol: str
    address: str
    sessions: int


@dataclass(frozen=True, slots=True)
class SmtpUsage:
    """What one side's SMTP protocol logs say.

    Attributes:
        sessions: per protocol version, sessions that negotiated it.
        others: sessions whose version has no name here, by the log's own word.
        peers: the remote addresses with most sessions of each version.
        since: the oldest line that was read, Unix time in seconds; None where there was none.
        until: the newest.
        bytes_read: how much was read.
        truncated: whether older lines were left out.
        folders: the folders that were there.
    """

    sessions: Mapping[Protocol, int]
    others: Mapping[str, int]
    peers: tuple[Peer, ...]
    since: float | None
    until: float | None
    bytes_read: int
    truncated: bool
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One document of the collector script.

    Attributes:
        name: the host's NetBIOS name.
        fqdn: its DNS name with the primary suffix, or without one where it has none.
        collected_at: by the host's clock, Unix time in seconds.
        script_version: of the script that made it.
        simulation: the name of the simulated machine that this is; "" for a real host.
        elevated: whether that ran with an administrator's rights; None where it could not find out.
        windows: what Windows it is.
        exchange: which Exchange is installed.
        dotnet: .NET Framework.
        hotfixes: what Win32_QuickFixEngineering lists; it cannot prove that an update is absent.
        packages: what Component Based Servicing knows of rollups, and of the updates that the guidance names.
        pending_updates: what Windows Update would install.
        files: versions of files that prove updates, by name; None where there is none.
        reboot: whether a restart is pending, per kind of `REBOOT_KINDS`; None where nobody of that kind is there.
        schannel: Schannel's own settings.
        cipher_suites: the order of cipher suites.
        curves: the order of elliptic curves.
        signature_algorithms: the list of signature algorithms; RSA/SHA512 in it shows KB2973337.
        winhttp: per view, DefaultSecureProtocols.
        fips: Enabled of FipsAlgorithmPolicy.
        certificates: the computer's own.
        bindings: which of them HTTP.sys uses where.
        remote_desktop: the RDP-Tcp listener.
        smtp: per side, what the SMTP protocol logs say; a receive connector is a server.
        clock_offset: seconds by which the host's clock is ahead of ours, beyond what the time that the collection took
            explains; negative where it is behind, None where nobody measured it, as with a facts file.
    """

    name: str
    fqdn: str
    collected_at: float
    script_version: str
    simulation: str
    elevated: Fact[bool | None]
    windows: Windows
    exchange: Exchange
    dotnet: DotNet
    hotfixes: Fact[tuple[Hotfix, ...]]
    packages: Fact[tuple[Package, ...]]
    pending_updates: Fact[tuple[PendingUpdate, ...]]
    files: Mapping[str, Fact[Version | None]]
    reboot: Mapping[str, Fact[bool | None]]
    schannel: Schannel
    cipher_suites: Order
    curves: Order
    signature_algorithms: Order
    winhttp: Mapping[View, Dword]
    fips: Dword
    certificates: Fact[tuple[StoredCertificate, ...]]
    bindings: Fact[tuple[Binding, ...]]
    remote_desktop: RemoteDesktop
    smtp: Mapping[Side, Fact[SmtpUsage]]
    clock_offset: float | None = None

    @property
    def windows_name(self) -> Fact[str]:
        """Windows' own name, which says so where it is none but simulated."""
        caption = self.windows.caption
        if isinstance(caption, Missing) or not self.simulation:
            return caption
        return Known(f"{caption.value} (simulated)", caption.at)

    @property
    def newest_update(self) -> Fact[float]:
        """When the newest update was installed that has a date, Unix time in seconds.

        It is that old at most: see `every_update_dated`.
        """
        if isinstance(self.hotfixes, Missing):
            return self.hotfixes
        known = [date for date in self._update_dates() if date is not None]
        if not known:
            return Missing(Reason.NOT_COLLECTED, "no update that the host lists has a date")
        return Known(max(known), self.hotfixes.at)

    @property
    def every_update_dated(self) -> bool:
        """Whether nothing newer than `newest_update` can hide behind a date that is missing."""
        if isinstance(self.packages, Missing) or any(isinstance(each.state, Missing) for each in self.packages.value):
            return False
        return None not in self._update_dates()

    def _update_dates(self) -> list[float | None]:
        listed = self.hotfixes.value if isinstance(self.hotfixes, Known) else ()
        packages = self.packages.value if isinstance(self.packages, Known) else ()
        installed = [each for each in packages if each.installed]
        return [*(each.installed_on for each in listed), *(each.installed_at for each in installed)]

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What could not be read, each once; without what nobody asked the script for."""
        found = dict.fromkeys(_missing(self))
        return tuple(each for each in found if each.reason is not Reason.NOT_COLLECTED)

    @property
    def settings_digest(self) -> Fact[str]:
        """Sixteen hexadecimal digits that servers share whose raw TLS settings are the same.

        Those are Schannel's values of TLS 1.0 to 1.2 and the switches of .NET 4, as HealthChecker compares them for
        Extended Protection: a value that is not there differs from any that is.
        """
        values = list(self._settings())
        missing = next((value for value in values if isinstance(value, Missing)), None)
        if missing is not None:
            return missing
        text = json.dumps([value.value for value in values])
        return Known(hashlib.sha256(text.encode()).hexdigest()[:16], self.collected_at)

    def _settings(self) -> Iterable[Dword]:
        for protocol in (Protocol.TLS_1_0, Protocol.TLS_1_1, Protocol.TLS_1_2):
            for side in Side:
                values = self.schannel.protocols[protocol][side]
                yield from (values.enabled, values.disabled_by_default)
        for view in View:
            switches = self.dotnet.switches[CLR_4][view]
            yield from (switches.system_default_tls_versions, switches.strong_crypto)


def _missing(value: object) -> Iterator[Missing]:
    """Every fact that is missing, wherever it is in these facts."""
    if isinstance(value, Missing):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _missing(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _missing(each)
    elif is_dataclass(value):
        for each in fields(value):
            yield from _missing(getattr(value, each.name))
