"""From the small descriptions in YAML to machines: Windows' defaults first, then what the description says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from exporter.demo.machines.machine import CertificateDescription, Machine, RegistryKeys, RegistryValue

FOLDER: Final = Path(__file__).parent

_CURRENT_VERSION: Final = r"SOFTWARE\Microsoft\Windows\CurrentVersion"
_CONTROL: Final = r"SYSTEM\CurrentControlSet\Control"
_NDP: Final = r"SOFTWARE\Microsoft\NET Framework Setup\NDP"
_VIEWS: Final = {"native": "SOFTWARE", "wow": r"SOFTWARE\Wow6432Node"}
_SIDES: Final = {"client": "Client", "server": "Server"}
_PROTOCOL_STATES: Final = {True: {"Enabled": 1, "DisabledByDefault": 0}, False: {"Enabled": 0, "DisabledByDefault": 1}}
_PRODUCT_TYPES: Final = {"domain-controller": 2}
_NAMES: Final = frozenset(
    {
        "description", "role", "windows", "level", "host", "fqdn", "ubr", "elevated", "up_days", "exchange", "dotnet",
        "schannel", "hotfixes", "packages", "files", "registry", "certificates", "logs", "pending_updates", "errors",
        "sccm",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Installed:
    """Where an Exchange version keeps itself."""

    key: str
    folder: str


_EXCHANGE: Final = {
    "14": _Installed(r"SOFTWARE\Microsoft\ExchangeServer\v14", r"C:\Program Files\Microsoft\Exchange Server\V14"),
    "15": _Installed(r"SOFTWARE\Microsoft\ExchangeServer\v15", r"C:\Program Files\Microsoft\Exchange Server\V15"),
}


@lru_cache(maxsize=1)
def _defaults() -> Any:
    return yaml.safe_load((FOLDER / "windows.yml").read_text(encoding="utf-8"))


def load(name: str) -> Machine:
    """The machine of that name.

    Raises:
        OSError: there is none.
        ValueError: its description says something that has no meaning.
    """
    description = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    return machine_of(name, description)


def machine_of(name: str, description: Mapping[str, Any]) -> Machine:
    """The machine that the description describes."""
    if unknown := description.keys() - _NAMES:
        raise ValueError(f"{name}: no such settings: {', '.join(sorted(unknown))}")
    windows = _defaults()["versions"][description["windows"]]
    level = windows["levels"][description.get("level", "updated")]
    return Machine(
        name=name,
        description=description["description"],
        role=description["role"],
        windows=description["windows"],
        host=description["host"],
        fqdn=description["fqdn"],
        powershell=windows["powershell"],
        clr=windows["clr"],
        elevated=description.get("elevated", True),
        registry=_registry(description, windows, level),
        wmi=_wmi(description, windows),
        files=_files(description, level),
        certificates=tuple(_certificate(each) for each in description.get("certificates", ())),
        logs={path: text.replace("\n", "\r\n") for path, text in description.get("logs", {}).items()},
        pending_updates=tuple(description.get("pending_updates", ())),
        errors=description.get("errors", {}),
        up=timedelta(days=description.get("up_days", 12)),
    )


def _certificate(description: Mapping[str, Any]) -> CertificateDescription:
    lists = {name: tuple(description.get(name, ())) for name in ("names", "bindings", "sni")}
    return CertificateDescription(**{**description, **lists})


def _wmi(description: Mapping[str, Any], windows: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    system = {
        "Caption": windows["caption"],
        "Version": windows["version"],
        "ServicePackMajorVersion": windows["service_pack"],
        "ProductType": _PRODUCT_TYPES.get(description["role"], 3),
    }
    hexadecimal = windows["installed_on"] == "filetime"
    fixes = [
        {"HotFixID": name, "InstalledOn": f"{_filetime(day):016x}" if hexadecimal and day else day}
        for name, day in description.get("hotfixes", {}).items()
    ]
    # Configuration Manager's answer, where its client is installed.
    client = {"CCM_ClientUtilities": [{"ReturnValue": 0, **description["sccm"]}]} if "sccm" in description else {}
    return {"Win32_OperatingSystem": [system], "Win32_QuickFixEngineering": fixes, **client}


def _filetime(day: str) -> int:
    """M/d/yyyy as Windows counts time: 100 ns since 1601."""
    since = datetime.strptime(day, "%m/%d/%Y").replace(tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1) * 10


def _files(description: Mapping[str, Any], level: Mapping[str, Any]) -> dict[str, str]:
    named = {**level["files"], **description.get("files", {})}
    files = {name if "\\" in name else rf"C:\Windows\System32\{name}": version for name, version in named.items()}
    if description["dotnet"].get("v35"):
        for folder in ("Framework64", "Framework"):
            path = rf"C:\Windows\Microsoft.NET\{folder}\v2.0.50727\System.dll"
            files.setdefault(path, level["system_dll"])
    if exchange := description.get("exchange"):
        files[rf"{_installed(exchange).folder}\bin\ExSetup.exe"] = exchange["version"]
    return {path: version for path, version in files.items() if version is not None}


def _installed(exchange: Mapping[str, Any]) -> _Installed:
    return _EXCHANGE[exchange["version"].partition(".")[0]]


def _registry(description: Mapping[str, Any], windows: Mapping[str, Any], level: Mapping[str, Any]) -> RegistryKeys:
    """All layers, each over those before; null takes a value away that one of them had."""
    layers = [
        _defaults()["registry"],
        windows["registry"],
        level.get("registry", {}),
        _windows_keys(description, windows, level),
        _dotnet_keys(description["dotnet"], windows),
        _exchange_keys(description.get("exchange")),
        _schannel_keys(description.get("schannel", {})),
        dict(_package_key(each) for each in description.get("packages", ())),
        description.get("registry", {}),
    ]
    keys: dict[str, dict[str, RegistryValue]] = {}
    for path, values in (item for layer in layers for item in layer.items()):
        _put(keys.setdefault(path, {}), values)
    return keys


def _put(key: dict[str, RegistryValue], values: Mapping[str, Any]) -> None:
    for name, content in values.items():
        if content is None:
            key.pop(name, None)
        else:
            key[name] = registry_value(content)


def registry_value(content: Any) -> RegistryValue:
    """A number is a REG_DWORD, a text a REG_SZ, a list a REG_MULTI_SZ; what else there is names its type."""
    match content:
        case bool():
            raise ValueError("the registry has no booleans: 0 or 1")
        case int():
            return RegistryValue("REG_DWORD", content)
        case str():
            return RegistryValue("REG_SZ", content)
        case list():
            return RegistryValue("REG_MULTI_SZ", tuple(content))
        case {"type": "REG_BINARY", "value": bytes(data)}:
            return RegistryValue("REG_BINARY", base64.b64encode(data).decode())
        case {"type": str(kind), "value": value}:
            return RegistryValue(kind, value)
    raise ValueError(f"no registry value: {content!r}")


def _windows_keys(
    description: Mapping[str, Any], windows: Mapping[str, Any], level: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    build = windows["version"].rpartition(".")[2]
    host, _, domain = description["fqdn"].partition(".")
    return {
        r"SOFTWARE\Microsoft\Windows NT\CurrentVersion": {
            "CurrentBuild": build,
            "InstallationType": windows["installation_type"],
            "UBR": description.get("ubr", level.get("ubr")),
        },
        r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters": {"Hostname": host, "Domain": domain},
    }


def _dotnet_keys(dotnet: Mapping[str, Any], windows: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    keys: dict[str, dict[str, Any]] = {rf"{_NDP}\v4\Full": {"Release": dotnet.get("release")}}
    if dotnet.get("v35"):
        keys[rf"{_NDP}\v3.5"] = windows["dotnet35"]
    for clr, views in dotnet.get("switches", {}).items():
        for view, values in views.items():
            keys[rf"{_VIEWS[view]}\Microsoft\.NETFramework\{clr}"] = values
    return keys


def _exchange_keys(exchange: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    if exchange is None:
        return {}
    installed = _installed(exchange)
    return {
        rf"{installed.key}\Setup": {"MsiInstallPath": f"{installed.folder}\\"},
        rf"{installed.key}\AdminTools": {"ConfiguredVersion": exchange["configured"]},
        **{rf"{installed.key}\{role}": {"ConfiguredVersion": exchange["configured"]} for role in exchange["roles"]},
    }


def _schannel_keys(protocols: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """True and False (YAML's on and off) are Microsoft's values for that, on both sides."""
    keys = {}
    for protocol, setting in protocols.items():
        sides = dict.fromkeys(_SIDES, _PROTOCOL_STATES[setting]) if isinstance(setting, bool) else setting
        for side, values in sides.items():
            keys[rf"{_CONTROL}\SecurityProviders\SCHANNEL\Protocols\{protocol}\{_SIDES[side]}"] = values
    return keys


def _package_key(package: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """A package as Component Based Servicing keeps it."""
    name = f"Package_for_{package['name']}~31bf3856ad364e35~amd64~~{package['version']}"
    high, low = divmod(_filetime(package["installed_on"]), 1 << 32)
    values = {"CurrentState": package["state"], "InstallTimeHigh": high, "InstallTimeLow": low}
    return rf"{_CURRENT_VERSION}\Component Based Servicing\Packages\{name}", values


def names() -> tuple[str, ...]:
    """The names of all machines."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yml") if path.stem != "windows"))
