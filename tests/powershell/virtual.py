"""Machines for the collector script, and PowerShell literals of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from exporter.demo.machines import Machine, Registry, RegistryKeys, RegistryValue
from exporter.demo.machines.virtual import windows_at

_KINDS: Final = {
    "REG_DWORD": "DWord",
    "REG_QWORD": "QWord",
    "REG_SZ": "String",
    "REG_EXPAND_SZ": "ExpandString",
    "REG_MULTI_SZ": "MultiString",
    "REG_BINARY": "Binary",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What reading something fails with.

    Attributes:
        type: the exception's full name.
        message: its message.
        code: its ErrorCode, of a COMException or of a stand-in for a ManagementException; that of a
            CryptographicException, which has its own message.
        reported: whether it comes as a command's error that $ErrorActionPreference makes an exception.
    """

    type: str
    message: str = "no"
    code: int | None = None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What the script meets.

    Attributes:
        registry: as a machine has it.
        wmi: per class, its objects.
        files: per path, the version.
        certificates: in DER.
        logs: per path, a log file; the older ones first.
        folders: those without log files.
        pruned: those of the logs that are deleted as soon as they were listed.
        updates: what Windows Update would install.
        trouble: per resource (``registry:`` and the path of a key, ``data:`` and that of a key whose values cannot
            be read, ``wmi:`` and the class, ``file:``, ``folder:``, ``certificates``, ``updates``, ``host``,
            ``administrator``) or per section/item.
        closed: paths of keys that are there and cannot be opened.
        redirected: whether it is a 32-bit PowerShell on a 64-bit Windows.
        culture: that PowerShell runs in; empty for this machine's.
    """

    host: str = "VM"
    fqdn: str = "vm.contoso.test"
    elevated: bool = True
    registry: RegistryKeys = field(default_factory=dict)
    wmi: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    certificates: tuple[bytes, ...] = ()
    logs: Mapping[str, bytes] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    updates: tuple[Mapping[str, Any], ...] = ()
    trouble: Mapping[str, Trouble] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    redirected: bool = False
    culture: str = ""


def world_of(machine: Machine, at: datetime) -> World:
    """A machine that comes with the exporter, at that time."""
    windows = windows_at(machine, at)
    return World(
        host=machine.host,
        fqdn=machine.fqdn,
        elevated=machine.elevated,
        registry=windows.registry,
        wmi=windows.wmi,
        files=machine.files,
        certificates=windows.certificates,
        logs={path: text.encode() for path, text in machine.logs.items()},
        updates=machine.pending_updates,
        trouble={
            f"{section}/{item}": Trouble(error["type"], error["message"])
            for section, items in machine.errors.items()
            for item, error in items.items()
        },
    )


class Code(str):
    """PowerShell that stands for itself."""

    __slots__ = ()


def literal(value: Any) -> str:
    """PowerShell for a value: text, numbers of 64 bits, bytes, lists, tables."""
    match value:
        case Code():
            code: str = value
        case None | bool():
            code = {None: "$null", True: "$true", False: "$false"}[value]
        case int():
            code = f"[long]'{value}'"
        case str():
            code = _text(value)
        case bytes():
            code = f"([byte[]]@({','.join(map(str, value))}))"
        case Mapping():
            code = "@{\n" + "".join(f"{literal(key)} = {literal(each)}\n" for key, each in value.items()) + "}"
        case _:
            code = f"@({', '.join(map(literal, value))})"
    return code


def _text(value: str) -> str:
    """In ASCII, whatever the text: other characters as their UTF-16 units."""
    if value.isascii() and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    data = value.encode("utf-16-le", "surrogatepass")
    units = (str(int.from_bytes(data[each : each + 2], "little")) for each in range(0, len(data), 2))
    return f"(-join [char[]]@({','.join(units)}))"


def _registry_value(value: RegistryValue) -> dict[str, Any]:
    """As .NET's RegistryKey gives it: numbers are signed, an unknown kind's data are bytes."""
    kind = _KINDS.get(value.type, "Unknown")
    data: Any = value.value
    match kind, data:
        case "DWord", int():
            data = Code(f"[int]'{data - (data >> 31 << 32)}'")
        case "DWord", str():
            data = base64.b64decode(data)
        case "QWord", int():
            data = Code(f"[long]'{data - (data >> 63 << 64)}'")
        case "MultiString", _:
            data = Code(f"[string[]]{literal(list(data))}")
        case "Binary", str():
            data = base64.b64decode(data)
        case "Unknown", _:
            data = b"\1\2"
    return {"kind": kind, "data": data}


def _registry(keys: RegistryKeys) -> dict[str, Any]:
    """Every key, those above the named ones included."""
    registry = Registry(keys)
    paths = {"\\".join(path.split("\\")[:depth]) for path in keys for depth in range(1, path.count("\\") + 2)}
    named = {path.lower(): values for path, values in keys.items()}
    return {
        path.lower(): {
            "subkeys": Code(f"[string[]]{literal(registry.subkeys(path))}"),
            "names": Code(f"[string[]]{literal(list(named.get(path.lower(), ())))}"),
            "values": {name.lower(): _registry_value(value) for name, value in named.get(path.lower(), {}).items()},
        }
        for path in sorted(paths)
    }


def _wmi(classes: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """As WMI gives them: small numbers have small types, and methods a result."""
    results = {"CCM_ClientUtilities": {"ReturnValue": 0}}
    return {
        name.lower(): [
            {key: _wmi_value(key, each) for key, each in {**results.get(name, {}), **row}.items()} for row in rows
        ]
        for name, rows in classes.items()
    }


def _wmi_value(name: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return Code(f"[{'uint16' if name == 'ServicePackMajorVersion' else 'uint32'}]'{value}'")
    return value


def virtual(world: World, logs: Mapping[str, str], nowhere: Path) -> str:
    """The machine as the variable that the stand-ins read.

    Args:
        world: the machine.
        logs: per folder of log files, where they really are.
        nowhere: a folder that is not there.
    """
    machine = {
        "host": world.host,
        "fqdn": world.fqdn,
        "elevated": world.elevated,
        "redirected": world.redirected,
        "closed": list(world.closed),
        "pruned": [
            rf"{logs[str(PureWindowsPath(path).parent).lower()]}/{PureWindowsPath(path).name}" for path in world.pruned
        ],
        "culture": world.culture,
        "registry": _registry(world.registry),
        "wmi": _wmi(world.wmi),
        "files": {path.lower(): version for path, version in world.files.items()},
        "certificates": [base64.b64encode(der).decode() for der in world.certificates],
        "updates": list(world.updates),
        "folders": logs,
        "nowhere": str(nowhere),
        "trouble": {
            name.lower(): {
                "type": each.type,
                "message": each.message,
                "code": None if each.code is None else Code(f"[int]'{each.code}'"),
                "reported": each.reported,
            }
            for name, each in world.trouble.items()
        },
    }
    return f"$Virtual = {literal(machine)}\n"
