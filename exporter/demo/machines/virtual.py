"""A machine at a moment: the virtual Windows that a collector reads, with every date and thumbprint in its place.

It is plain data: the harness in tests/powershell feeds the script itself from it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from exporter.demo.machines.certificates import certificate, thumbprint
from exporter.demo.machines.machine import CertificateDescription, Machine, RegistryKeys, RegistryValue

_HTTP: Final = r"SYSTEM\CurrentControlSet\Services\HTTP\Parameters"
_RDP: Final = r"SYSTEM\CurrentControlSet\Control\Terminal Server\WinStations\RDP-Tcp"


@dataclass(frozen=True, slots=True)
class VirtualWindows:
    """What the collector script sees of a machine.

    Attributes:
        machine: whose names, files, logs, pending updates and errors these are.
        registry: all of it.
        wmi: all of it.
        certificates: LocalMachine\\My, in DER.
    """  # noqa: D301  # a path, not an escape

    machine: Machine
    registry: RegistryKeys
    wmi: Mapping[str, Sequence[Mapping[str, Any]]]
    certificates: tuple[bytes, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it for programs in other languages: keys as above, binary data in base64."""
        machine = self.machine
        return {
            "simulation": machine.name,
            "host": machine.host,
            "fqdn": machine.fqdn,
            "powershell": machine.powershell,
            "clr": machine.clr,
            "elevated": machine.elevated,
            "registry": {
                path: {name: {"type": value.type, "value": value.value} for name, value in values.items()}
                for path, values in sorted(self.registry.items())
            },
            "wmi": {name: [dict(row) for row in rows] for name, rows in self.wmi.items()},
            "files": dict(machine.files),
            "certificates": [base64.b64encode(der).decode() for der in self.certificates],
            "logs": dict(machine.logs),
            "pending_updates": [dict(update) for update in machine.pending_updates],
            "errors": {section: dict(items) for section, items in machine.errors.items()},
        }


def windows_at(machine: Machine, at: datetime) -> VirtualWindows:
    """The machine as it is at that time, which knows its zone."""
    today = at.astimezone(UTC).date()
    store = [(each, certificate(each, today)) for each in machine.certificates]
    registry = {path: dict(values) for path, values in machine.registry.items()}
    for description, der in store:
        for path, values in _uses(description, der).items():
            registry.setdefault(path, {}).update(values)
    system = {**machine.wmi["Win32_OperatingSystem"][0], "LastBootUpTime": _last_boot(machine, today)}
    wmi = {**machine.wmi, "Win32_OperatingSystem": [system]}
    return VirtualWindows(machine, registry, wmi, tuple(der for _, der in store))


def _uses(description: CertificateDescription, der: bytes) -> RegistryKeys:
    """What the registry says where the certificate is used."""
    digest = RegistryValue("REG_BINARY", base64.b64encode(thumbprint(der)).decode())
    values = {"SslCertHash": digest, "SslCertStoreName": RegistryValue("REG_SZ", "My")}
    uses: dict[str, dict[str, RegistryValue]] = {
        **{rf"{_HTTP}\SslBindingInfo\{binding}": values for binding in description.bindings},
        **{
            _sni_key(binding): {**values, "HostnamePort": RegistryValue("REG_SZ", binding)}
            for binding in description.sni
        },
    }
    if description.rdp:
        uses[_RDP] = {"SSLCertificateSHA1Hash": digest}
    return uses


def _sni_key(binding: str) -> str:
    """A key whose name tells nothing: then its value HostnamePort does."""
    return rf"{_HTTP}\SslSniBindingInfo\{hashlib.sha256(binding.encode()).hexdigest()[:40]}"


def _last_boot(machine: Machine, today: date) -> str:
    """When it started, as WMI writes times: local, with the offset from UTC in minutes."""
    started = datetime.combine(today, time(2, 17, 43, 500_000), UTC) - machine.up + machine.utc_offset
    return f"{started:%Y%m%d%H%M%S.%f}{machine.utc_offset // timedelta(minutes=1):+04d}"
