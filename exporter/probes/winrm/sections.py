"""The sections of a document turn into facts, item by item: one that is missing or wrong costs itself alone."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

from cryptography import x509

from exporter.facts import (
    CLR_2,
    CLR_4,
    Binding,
    Certificate,
    DotNet,
    DotNetSwitches,
    Dword,
    Exchange,
    Fact,
    Hotfix,
    KeyExchange,
    Known,
    Missing,
    Order,
    Package,
    Peer,
    PendingUpdate,
    Protocol,
    Reason,
    RemoteDesktop,
    Schannel,
    SchannelValues,
    Side,
    SmtpUsage,
    StoredCertificate,
    Version,
    View,
    Windows,
)
from exporter.probes.certificates import certificate_facts
from exporter.probes.printable import printable
from exporter.probes.winrm import values
from exporter.probes.winrm.values import Reader, WrongValueError, items, key, optional

T = TypeVar("T")
K = TypeVar("K")

PROTOCOL_KEYS: Final = (*(each for each in Protocol), "DTLS 1.0", "DTLS 1.2")
FILES: Final = ("ws2_32.dll", "schannel.dll", "winhttp.dll", "webio.dll", "win32k.sys")
_SIDE_KEYS: Final = {Side.CLIENT: "Client", Side.SERVER: "Server"}
_LOGGED: Final = {
    "SSL2": Protocol.SSL_2_0,
    "SSL3": Protocol.SSL_3_0,
    "TLS1_0": Protocol.TLS_1_0,
    "TLS1_1": Protocol.TLS_1_1,
    "TLS1_2": Protocol.TLS_1_2,
    "TLS1_3": Protocol.TLS_1_3,
    # As numbers: schannel.h's SP_PROT_…_SERVER, and …_CLIENT.
    **dict.fromkeys(("4", "8"), Protocol.SSL_2_0),
    **dict.fromkeys(("16", "32"), Protocol.SSL_3_0),
    **dict.fromkeys(("64", "128"), Protocol.TLS_1_0),
    **dict.fromkeys(("256", "512"), Protocol.TLS_1_1),
    **dict.fromkeys(("1024", "2048"), Protocol.TLS_1_2),
    **dict.fromkeys(("4096", "8192"), Protocol.TLS_1_3),
}
_LINES: Final = ((10240, (10, 0)), (9600, (6, 3)), (9200, (6, 2)), (7600, (6, 1)), (6001, (6, 0)))
"""From which build on Windows' version has which first two numbers."""
_FAILURES: Final = {"access_denied": Reason.ACCESS_DENIED, "redirected": Reason.REDIRECTED}


@dataclass(frozen=True, slots=True)
class Place:
    """An object in the document whose keys are items.

    Attributes:
        path: where it is, for people.
        at: when it was collected, Unix time in seconds.
        held: the items.
        errors: why the script could not read some; ``*`` for all that are not there.
        failure: why there are no items at all.
    """

    path: str
    at: float
    held: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Missing] = field(default_factory=dict)
    failure: Missing | None = None

    def read(self, name: str, read: Reader[T]) -> Fact[T]:
        """One item, read as what it should be."""
        missing = self.errors.get(name) or self.failure
        if missing is not None:
            return missing
        if name not in self.held:
            absent = Missing(Reason.NOT_COLLECTED, f"{self._path_of(name)} is not in the document")
            return self.errors.get("*", absent)
        try:
            return Known(read(self.held[name]), self.at)
        except WrongValueError as error:
            return Missing(error.reason, f"{self._path_of(name)}: {error}")

    def inside(self, name: str) -> Place:
        """An item that has items of its own."""
        fact = self.read(name, values.mapping)
        path = self._path_of(name)
        if isinstance(fact, Missing):
            return Place(path, self.at, failure=fact)
        return Place(path, self.at, fact.value)

    def _path_of(self, name: str) -> str:
        return f"{self.path}.{printable(name)}" if self.path else printable(name)


def section(document: Place, name: str) -> Place:
    """A section's items, with the reasons that the script gives for those that are missing."""
    whole = document.inside(name)
    there = whole.inside("items")
    if there.failure is not None:
        return there
    errors = whole.inside("errors")
    reasons = {each: _error(errors, each) for each in errors.held}
    if errors.failure is not None and errors.failure.reason is Reason.BAD_DOCUMENT:
        reasons["*"] = errors.failure
    return Place(whole.path, there.at, there.held, reasons)


def _error(errors: Place, name: str) -> Missing:
    error = errors.inside(name)
    kind, message = error.read("kind", values.text), error.read("message", values.text)
    reason = _FAILURES.get(kind.value, Reason.SCRIPT_ERROR) if isinstance(kind, Known) else Reason.SCRIPT_ERROR
    said = message.value if isinstance(message, Known) else "the document does not say why"
    return Missing(reason, f"{error.path.replace('.errors.', '.').removesuffix('.*')}: {said}")


def windows(place: Place) -> Windows:
    """The section of that name."""
    return Windows(
        caption=place.read("caption", values.text),
        version=_windows_version(place),
        service_pack=place.read("service_pack", values.number),
        product_type=place.read("product_type", values.one_of(1, 2, 3)),
        last_boot=place.read("last_boot", values.wmi_time),
        ubr=place.read("ubr", values.dword),
        installation_type=place.read("installation_type", values.registry_text),
    )


def _windows_version(place: Place) -> Fact[Version]:
    """As WMI says it; where it does not, the build number in the registry tells the rest."""
    version = place.read("version", values.version)
    build = place.read("build", values.registry_text)
    if isinstance(version, Known) or isinstance(build, Missing) or not re.fullmatch("[0-9]{1,9}", build.value or ""):
        return version
    number = int(build.value or 0)
    line = next((line for first, line in _LINES if number >= first), None)
    return version if line is None else Known((*line, number), place.at)


def exchange(place: Place) -> Exchange:
    """The section of that name."""
    key_name = place.read("version_key", optional(values.one_of("v15", "v14")))
    return Exchange(
        installed=_derived(key_name, lambda name: name is not None),
        build=_exchange_build(key_name, place),
        folder=place.read("install_path", optional(values.text)),
        roles=place.read("roles", items(values.text)),
    )


def _exchange_build(key_name: Fact[str | None], place: Place) -> Fact[Version | None]:
    """An Exchange without ExSetup.exe has a build that we do not know, which is not the same as no Exchange."""
    build = place.read("exsetup", optional(values.file_version))
    if isinstance(key_name, Missing):
        return key_name
    if key_name.value is None:
        return Known(None, key_name.at)
    if isinstance(build, Known) and build.value is None:
        return Missing(Reason.NOT_COLLECTED, f"exchange: {key_name.value} is installed, but has no ExSetup.exe")
    return build


def dotnet(place: Place) -> DotNet:
    """The section of that name."""
    v35, system_dll, switches = place.inside("v35"), place.inside("clr2_system_dll"), place.inside("switches")
    return DotNet(
        release=place.read("release", values.dword),
        v35_installed=_derived(v35.read("Install", values.dword), lambda install: install == 1),
        v35_service_pack=v35.read("SP", values.dword),
        v35_version=v35.read("Version", values.registry_text),
        system_dll=_frozen({view: system_dll.read(view, optional(values.file_version)) for view in View}),
        switches=_frozen({clr: _switches(switches.inside(clr)) for clr in (CLR_2, CLR_4)}),
    )


def _switches(place: Place) -> Mapping[View, DotNetSwitches]:
    views = {view: place.inside(view) for view in View}
    return _frozen(
        {
            view: DotNetSwitches(
                system_default_tls_versions=each.read("SystemDefaultTlsVersions", values.dword),
                strong_crypto=each.read("SchUseStrongCrypto", values.dword),
            )
            for view, each in views.items()
        }
    )


def hotfixes(place: Place) -> Fact[tuple[Hotfix, ...]]:
    """The section of that name."""

    def hotfix(value: Any) -> Hotfix:
        written = key("installed_on", optional(values.text))(value) or ""
        return Hotfix(key("id", values.text)(value), values.hotfix_day(written, place.at), written)

    return place.read("list", items(hotfix))


def servicing(place: Place) -> Fact[tuple[Package, ...]]:
    """The section of that name."""

    def package(value: Any) -> Package:
        row = Place("servicing.packages", place.at, values.mapping(value))
        high, low = (row.read(f"InstallTime{part}", values.dword) for part in ("High", "Low"))
        installed_at = None
        if isinstance(high, Known) and isinstance(low, Known):
            installed_at = values.install_time(high.value, low.value, place.at)
        return Package(key("name", values.text)(value), row.read("CurrentState", values.dword), installed_at)

    return place.read("packages", items(package))


def pending_updates(place: Place) -> Fact[tuple[PendingUpdate, ...]]:
    """The section of that name."""

    def update(value: Any) -> PendingUpdate:
        return PendingUpdate(key("title", values.text)(value), key("kb", items(values.text))(value))

    return place.read("list", items(update))


def files(place: Place) -> Mapping[str, Fact[Version | None]]:
    """The section of that name."""
    return _frozen({name: place.read(name, optional(values.file_version)) for name in FILES})


def reboot(place: Place) -> Mapping[str, Fact[bool | None]]:
    """The section of that name. Any Flags of update.exe but 0 await a restart; none is none."""
    return _frozen(
        {
            "cbs": place.read("cbs", values.boolean),
            "windows_update": place.read("windows_update", values.boolean),
            "update_exe": _derived(place.read("update_exe", values.dword), bool),
            "sccm": place.read("sccm", optional(values.boolean)),
            "file_rename": place.read("file_rename", values.boolean),
        }
    )


def schannel(place: Place) -> Schannel:
    """The section of that name."""
    protocols, renegotiation = place.inside("protocols"), place.inside("renegotiation")
    return Schannel(
        protocols=_frozen({name: _sides(protocols.inside(name)) for name in PROTOCOL_KEYS}),
        ciphers=_enabled_of_each(place, "ciphers"),
        hashes=_enabled_of_each(place, "hashes"),
        key_exchange=_key_exchange(place),
        insecure_renegotiation=_frozen(
            {
                Side.CLIENT: renegotiation.read("AllowInsecureRenegoServers", values.dword),
                Side.SERVER: renegotiation.read("AllowInsecureRenegoClients", values.dword),
            }
        ),
    )


def _sides(place: Place) -> Mapping[Side, SchannelValues]:
    sides = {side: place.inside(name) for side, name in _SIDE_KEYS.items()}
    return _frozen(
        {
            side: SchannelValues(each.read("Enabled", values.dword), each.read("DisabledByDefault", values.dword))
            for side, each in sides.items()
        }
    )


def _enabled_of_each(place: Place, name: str) -> Fact[Mapping[str, Dword]]:
    there = place.inside(name)
    if there.failure is not None:
        return there.failure
    return Known(_frozen({printable(each): there.read(each, values.dword) for each in there.held}), place.at)


def _key_exchange(place: Place) -> Fact[Mapping[str, KeyExchange]]:
    there = place.inside("key_exchange")
    if there.failure is not None:
        return there.failure
    algorithms = {printable(name): there.inside(name) for name in there.held}
    return Known(
        _frozen(
            {
                name: KeyExchange(
                    enabled=each.read("Enabled", values.dword),
                    client_min_bits=each.read("ClientMinKeyBitLength", values.dword),
                    server_min_bits=each.read("ServerMinKeyBitLength", values.dword),
                )
                for name, each in algorithms.items()
            }
        ),
        place.at,
    )


def order(place: Place, prefix: str) -> Order:
    """Of the section ``cipher_suites``: the suites (no prefix), the curves, the signature algorithms."""
    return Order(
        policy=place.read(f"{prefix}policy", values.names_in_order),
        local=place.read(f"{prefix}local", values.names_in_order),
    )


def winhttp(place: Place) -> Mapping[View, Dword]:
    """The section of that name."""
    return _frozen({view: place.read(view, values.dword) for view in View})


def certificates(place: Place) -> Fact[tuple[StoredCertificate, ...]]:
    """Of the section of that name, the store."""

    def stored(value: Any) -> StoredCertificate:
        der = values.binary(value)
        thumbprint = hashlib.sha1(der, usedforsecurity=False).hexdigest()
        return StoredCertificate(thumbprint, _certificate(der, place.at))

    return place.read("my", items(stored))


def _certificate(der: bytes, at: float) -> Fact[Certificate]:
    try:
        return Known(certificate_facts(x509.load_der_x509_certificate(der)), at)
    except Exception as error:  # noqa: BLE001 - whatever it is made of, it costs itself alone
        return Missing(Reason.BAD_DOCUMENT, printable(f"not a certificate: {error}"))


def bindings(place: Place) -> Fact[tuple[Binding, ...]]:
    """Of the section ``certificates``, what HTTP.sys uses."""

    def binding(value: Any) -> Binding:
        row = Place("certificates.bindings", place.at, values.mapping(value))
        named = row.read("HostnamePort", values.registry_text)
        by_host = named.value if isinstance(named, Known) else None
        return Binding(
            name=by_host or key("binding", values.text)(value),
            thumbprint=row.read("SslCertHash", values.registry_hash),
            store=row.read("SslCertStoreName", values.registry_text),
        )

    return place.read("bindings", items(binding))


def remote_desktop(place: Place) -> RemoteDesktop:
    """Of the section ``certificates``, the RDP-Tcp listener."""
    rdp = place.inside("rdp")
    return RemoteDesktop(
        thumbprint=rdp.read("SSLCertificateSHA1Hash", values.registry_hash),
        security_layer=rdp.read("SecurityLayer", values.dword),
        min_encryption_level=rdp.read("MinEncryptionLevel", values.dword),
    )


def smtp(place: Place) -> Mapping[Side, Fact[SmtpUsage]]:
    """The section ``usage``: a receive connector is a server, a send connector a client."""
    return _frozen({Side.SERVER: _logged(place, "receive"), Side.CLIENT: _logged(place, "send")})


def _logged(place: Place, name: str) -> Fact[SmtpUsage]:
    """Logs without a line say nothing: they may be somewhere else, or switched off."""
    usage = place.read(name, _usage)
    if isinstance(usage, Known) and usage.value.since is None:
        return Missing(Reason.NOT_COLLECTED, f"{place.path}.{name}: no line in protocol logs where they usually are")
    return usage


def _usage(value: Any) -> SmtpUsage:
    sessions: Counter[Protocol] = Counter()
    others: Counter[str] = Counter()
    for token, count in key("sessions", values.mapping)(value).items():
        if token in _LOGGED:
            sessions[_LOGGED[token]] += values.number(count)
        else:
            others[printable(token)] += values.number(count)
    return SmtpUsage(
        sessions=_frozen(sessions),
        others=_frozen(others),
        peers=key("peers", items(_peer))(value),
        since=key("from", optional(values.log_time))(value),
        until=key("until", optional(values.log_time))(value),
        bytes_read=key("bytes", values.number)(value),
        truncated=key("truncated", values.boolean)(value),
        folders=key("directories", items(values.text))(value),
    )


def _peer(value: Any) -> Peer:
    token = key("protocol", values.text)(value)
    sessions = key("sessions", values.number)(value)
    return Peer(_LOGGED.get(token, token), key("address", values.text)(value), sessions)


def _derived(fact: Fact[T], derive: Any) -> Fact[bool]:
    return fact if isinstance(fact, Missing) else Known(bool(derive(fact.value)), fact.at)


def _frozen(facts: Mapping[K, T]) -> Mapping[K, T]:
    return MappingProxyType(dict(facts))
