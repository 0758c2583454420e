"""The document that the collector script would print on a simulated machine.

It reads the virtual Windows just as exporter/probes/winrm/collect.ps1 reads a real one, section by section and in the
same order; the harness in tests/powershell compares what both say.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from exporter.demo.machines.machine import Machine, Registry
from exporter.demo.machines.usage import usage
from exporter.demo.machines.virtual import VirtualWindows, windows_at

BEGIN: Final = "-----BEGIN TLS READINESS DOCUMENT-----"
END: Final = "-----END TLS READINESS DOCUMENT-----"
SCRIPT_VERSION: Final = "1.0.0"

_CURRENT_VERSION: Final = r"SOFTWARE\Microsoft\Windows\CurrentVersion"
_CONTROL: Final = r"SYSTEM\CurrentControlSet\Control"
_SCHANNEL: Final = rf"{_CONTROL}\SecurityProviders\SCHANNEL"
_EXCHANGE: Final = r"SOFTWARE\Microsoft\ExchangeServer"
_VIEWS: Final = {"native": "SOFTWARE", "wow": r"SOFTWARE\Wow6432Node"}
_PROTOCOLS: Final = ("SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3", "DTLS 1.0", "DTLS 1.2")
_FILES: Final = ("ws2_32.dll", "schannel.dll", "winhttp.dll", "webio.dll", "win32k.sys")
_PACKAGES: Final = re.compile(
    "Package_for_(RollupFix|KB(3161949|2973337|3154517|3154518|3154519|3154520|3080079|4019276|4074621|3140245))~",
    re.IGNORECASE,
)


def document(
    machine: Machine, at: datetime, *, pending_updates: bool = False, usage_megabytes: int = 0
) -> dict[str, Any]:
    """What the script would say on that machine at that time, as ``document.schema.json`` has it.

    One key more than the script writes says that it is a simulation, and of which machine.

    Args:
        machine: the machine.
        at: the time, with its zone.
        pending_updates: the script's -PendingUpdates.
        usage_megabytes: the script's -UsageMegabytes.
    """
    windows = windows_at(machine, at)
    registry = Registry(windows.registry)
    wanted = {"pending_updates": pending_updates, "usage": usage_megabytes > 0}
    return {
        "schema_version": 1,
        "script_version": SCRIPT_VERSION,
        "simulation": machine.name,
        "collected_at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "host": {"name": machine.host, "fqdn": machine.fqdn},
        "powershell": {"version": machine.powershell, "clr": machine.clr, "bits": 64, "redirected": False},
        "elevated": machine.elevated,
        "options": {"pending_updates": pending_updates, "usage_megabytes": usage_megabytes},
        "sections": {
            name: _section(machine, name, read(windows, registry))
            for name, read in _SECTIONS.items()
            if wanted.get(name, True)
        },
    }


def output(machine: Machine, at: datetime, *, pending_updates: bool = False, usage_megabytes: int = 0) -> str:
    """The same as text, between the script's two lines, in ASCII."""
    content = document(machine, at, pending_updates=pending_updates, usage_megabytes=usage_megabytes)
    return f"{BEGIN}\r\n{json.dumps(content, separators=(',', ':'))}\r\n{END}\r\n"


def _section(machine: Machine, name: str, items: Mapping[str, Any]) -> dict[str, Any]:
    """The section as it stands, less what cannot be read there."""
    errors = machine.errors.get(name, {})
    return {
        "items": {item: value for item, value in items.items() if item not in errors and "*" not in errors},
        "errors": {item: dict(error) for item, error in errors.items()},
        "milliseconds": 0,
    }


def _value(registry: Registry, path: str, name: str) -> dict[str, Any] | None:
    value = registry.value(path, name)
    return None if value is None else value.as_json()


def _values(registry: Registry, path: str, *names: str) -> dict[str, Any]:
    return {name: _value(registry, path, name) for name in names}


def _file(windows: VirtualWindows, path: str) -> dict[str, str] | None:
    versions = {each.lower(): version for each, version in windows.machine.files.items()}
    version = versions.get(path.lower())
    return None if version is None else {"path": path, "version": version}


def _windows(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    system = windows.wmi["Win32_OperatingSystem"][0]
    key = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion"
    return {
        "build": _value(registry, key, "CurrentBuild"),
        "ubr": _value(registry, key, "UBR"),
        "installation_type": _value(registry, key, "InstallationType"),
        "caption": system["Caption"],
        "version": system["Version"],
        "service_pack": system["ServicePackMajorVersion"],
        "product_type": system["ProductType"],
        "last_boot": system["LastBootUpTime"],
    }


def _installed_exchange(registry: Registry) -> tuple[str | None, str | None]:
    """The version in the name of its keys, and its folder without a backslash at the end."""
    for version_key in ("v15", "v14"):
        path = registry.value(rf"{_EXCHANGE}\{version_key}\Setup", "MsiInstallPath")
        if path is not None and path.value:
            return version_key, str(path.value).rstrip("\\")
    return None, None


def _exchange(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    version_key, folder = _installed_exchange(registry)
    key = rf"{_EXCHANGE}\{version_key}"
    roles = [each for each in registry.subkeys(key) if each.lower().endswith("role")]
    return {
        "version_key": version_key,
        "install_path": folder,
        "exsetup": _file(windows, rf"{folder}\bin\ExSetup.exe"),
        "roles": [each for each in roles if registry.value(rf"{key}\{each}", "ConfiguredVersion")],
    }


def _dotnet(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    setup = r"SOFTWARE\Microsoft\NET Framework Setup\NDP"
    framework = r"C:\Windows\Microsoft.NET"
    return {
        "release": _value(registry, rf"{setup}\v4\Full", "Release"),
        "v35": _values(registry, rf"{setup}\v3.5", "Install", "SP", "Version"),
        "clr2_system_dll": {
            "native": _file(windows, rf"{framework}\Framework64\v2.0.50727\System.dll"),
            "wow": _file(windows, rf"{framework}\Framework\v2.0.50727\System.dll"),
        },
        "switches": {clr: _switches(registry, clr) for clr in ("v2.0.50727", "v4.0.30319")},
    }


def _switches(registry: Registry, clr: str) -> dict[str, Any]:
    names = ("SystemDefaultTlsVersions", "SchUseStrongCrypto")
    return {
        view: _values(registry, rf"{software}\Microsoft\.NETFramework\{clr}", *names)
        for view, software in _VIEWS.items()
    }


def _hotfixes(windows: VirtualWindows, _: Registry) -> dict[str, Any]:
    rows = windows.wmi["Win32_QuickFixEngineering"]
    return {"list": [{"id": row["HotFixID"], "installed_on": row["InstalledOn"]} for row in rows]}


def _servicing(_: VirtualWindows, registry: Registry) -> dict[str, Any]:
    key = rf"{_CURRENT_VERSION}\Component Based Servicing\Packages"
    names = ("CurrentState", "InstallTimeHigh", "InstallTimeLow")
    return {
        "packages": [
            {"name": package, **_values(registry, rf"{key}\{package}", *names)}
            for package in registry.subkeys(key)
            if _PACKAGES.match(package)
        ]
    }


def _files(windows: VirtualWindows, _: Registry) -> dict[str, Any]:
    return {name: _file(windows, rf"C:\Windows\System32\{name}") for name in _FILES}


def _reboot(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    renames = registry.value(rf"{_CONTROL}\Session Manager", "PendingFileRenameOperations")
    client = windows.wmi.get("CCM_ClientUtilities")
    return {
        "cbs": registry.exists(rf"{_CURRENT_VERSION}\Component Based Servicing\RebootPending"),
        "windows_update": registry.exists(rf"{_CURRENT_VERSION}\WindowsUpdate\Auto Update\RebootRequired"),
        "update_exe": _value(registry, r"SOFTWARE\Microsoft\Updates\UpdateExeVolatile", "Flags"),
        "file_rename": renames is not None and renames.value != (),
        "sccm": None if client is None else client[0]["RebootPending"] or client[0]["IsHardRebootPending"],
    }


def _schannel(_: VirtualWindows, registry: Registry) -> dict[str, Any]:
    algorithms = rf"{_SCHANNEL}\KeyExchangeAlgorithms"
    lengths = ("ClientMinKeyBitLength", "ServerMinKeyBitLength")
    return {
        "protocols": {protocol: _sides(registry, protocol) for protocol in _PROTOCOLS},
        "ciphers": _enabled_of_subkeys(registry, rf"{_SCHANNEL}\Ciphers"),
        "hashes": _enabled_of_subkeys(registry, rf"{_SCHANNEL}\Hashes"),
        "key_exchange": {
            name: _values(registry, rf"{algorithms}\{name}", "Enabled", *lengths)
            for name in registry.subkeys(algorithms)
        },
        "renegotiation": _values(registry, _SCHANNEL, "AllowInsecureRenegoClients", "AllowInsecureRenegoServers"),
    }


def _sides(registry: Registry, protocol: str) -> dict[str, Any]:
    key = rf"{_SCHANNEL}\Protocols\{protocol}"
    return {side: _values(registry, rf"{key}\{side}", "Enabled", "DisabledByDefault") for side in ("Client", "Server")}


def _enabled_of_subkeys(registry: Registry, path: str) -> dict[str, Any]:
    return {name: _value(registry, rf"{path}\{name}", "Enabled") for name in registry.subkeys(path)}


def _cipher_suites(_: VirtualWindows, registry: Registry) -> dict[str, Any]:
    policy = r"SOFTWARE\Policies\Microsoft\Cryptography\Configuration\SSL"
    local = rf"{_CONTROL}\Cryptography\Configuration\Local\SSL"
    return {
        "policy": _value(registry, rf"{policy}\00010002", "Functions"),
        "local": _value(registry, rf"{local}\00010002", "Functions"),
        "curves_policy": _value(registry, rf"{policy}\00010002", "EccCurves"),
        "curves_local": _value(registry, rf"{local}\00010002", "EccCurves"),
        "signatures_policy": _value(registry, rf"{policy}\00010003", "Functions"),
        "signatures_local": _value(registry, rf"{local}\00010003", "Functions"),
    }


def _winhttp(_: VirtualWindows, registry: Registry) -> dict[str, Any]:
    key = r"Microsoft\Windows\CurrentVersion\Internet Settings\WinHttp"
    return {view: _value(registry, rf"{software}\{key}", "DefaultSecureProtocols") for view, software in _VIEWS.items()}


def _security(_: VirtualWindows, registry: Registry) -> dict[str, Any]:
    return {"fips": _value(registry, rf"{_CONTROL}\Lsa\FipsAlgorithmPolicy", "Enabled")}


def _certificates(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    rdp = rf"{_CONTROL}\Terminal Server\WinStations\RDP-Tcp"
    return {
        "my": [base64.b64encode(der).decode() for der in windows.certificates],
        "bindings": [*_bindings(registry, "SslBindingInfo"), *_bindings(registry, "SslSniBindingInfo")],
        "rdp": _values(registry, rdp, "SSLCertificateSHA1Hash", "SecurityLayer", "MinEncryptionLevel"),
    }


def _bindings(registry: Registry, kind: str) -> list[dict[str, Any]]:
    key = rf"SYSTEM\CurrentControlSet\Services\HTTP\Parameters\{kind}"
    names = ("SslCertHash", "SslCertStoreName", "HostnamePort")
    return [{"binding": binding, **_values(registry, rf"{key}\{binding}", *names)} for binding in registry.subkeys(key)]


def _usage(windows: VirtualWindows, registry: Registry) -> dict[str, Any]:
    _, folder = _installed_exchange(registry)
    logs = windows.machine.logs
    return {"receive": usage(folder, logs, "SmtpReceive"), "send": usage(folder, logs, "SmtpSend")}


def _pending_updates(windows: VirtualWindows, _: Registry) -> dict[str, Any]:
    updates = windows.machine.pending_updates
    return {"list": [{"title": each["title"], "kb": [f"KB{number}" for number in each["kb"]]} for each in updates]}


_SECTIONS: Final[Mapping[str, Callable[[VirtualWindows, Registry], dict[str, Any]]]] = {
    "windows": _windows,
    "exchange": _exchange,
    "dotnet": _dotnet,
    "hotfixes": _hotfixes,
    "servicing": _servicing,
    "files": _files,
    "reboot": _reboot,
    "schannel": _schannel,
    "cipher_suites": _cipher_suites,
    "winhttp": _winhttp,
    "security": _security,
    "certificates": _certificates,
    "usage": _usage,
    "pending_updates": _pending_updates,
}
"""Per section, in the script's order, what reads its items."""
