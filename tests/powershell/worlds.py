"""Small machines for the collector script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jsonschema
from powershell.harness import BATCH, SCRIPT
from powershell.virtual import World

from exporter.demo.machines import RegistryKeys, RegistryValue

CONTROL: Final = r"SYSTEM\CurrentControlSet\Control"
SCHANNEL: Final = rf"{CONTROL}\SecurityProviders\SCHANNEL"
HTTP: Final = r"SYSTEM\CurrentControlSet\Services\HTTP\Parameters"
EXCHANGE: Final = r"SOFTWARE\Microsoft\ExchangeServer"
V15: Final = r"C:\Program Files\Microsoft\Exchange Server\V15"
LOGS: Final = rf"{V15}\TransportRoles\Logs"
RECEIVE: Final = rf"{LOGS}\FrontEnd\ProtocolLog\SmtpReceive"
SYSTEM: Final = {
    "Caption": "Microsoft Windows Server 2016 Standard",
    "Version": "10.0.14393",
    "ServicePackMajorVersion": 0,
    "ProductType": 3,
    "LastBootUpTime": "20261110021743.500000+060",
}

_SCHEMA: Final = jsonschema.Draft202012Validator(
    json.loads(SCRIPT.with_name("document.schema.json").read_text(encoding="utf-8"))
)


def dword(number: int) -> RegistryValue:
    return RegistryValue("REG_DWORD", number)


def text(content: str) -> RegistryValue:
    return RegistryValue("REG_SZ", content)


def world(
    registry: RegistryKeys | None = None,
    *,
    fixes: Sequence[Mapping[str, Any]] = (),
    sccm: Mapping[str, bool | int] | None = None,
    system: Mapping[str, Any] | None = None,
    **changes: Any,
) -> World:
    """A small machine without Exchange.

    Args:
        registry: all of it.
        fixes: what Win32_QuickFixEngineering has.
        sccm: what Configuration Manager's client answers, if there is one.
        system: what is unusual about Win32_OperatingSystem.
        changes: of anything else.
    """
    wmi = {"Win32_OperatingSystem": [{**SYSTEM, **(system or {})}], "Win32_QuickFixEngineering": fixes}
    client = {} if sccm is None else {"CCM_ClientUtilities": [sccm]}
    return World(registry=registry or {}, wmi={**wmi, **client}, **changes)


def exchange(**changes: Any) -> World:
    """The same with an Exchange 2016."""
    keys = {
        rf"{EXCHANGE}\v15\Setup": {"MsiInstallPath": text(f"{V15}\\")},
        rf"{CONTROL}\Lsa\FipsAlgorithmPolicy": {"Enabled": dword(0)},
    }
    return world(keys, files={rf"{V15}\bin\ExSetup.exe": "15.1.2507.6"}, **changes)


def keeps_to_schema(document: Mapping[str, Any]) -> bool:
    """Whether the document is what its schema says.

    Raises:
        ValidationError: it is not, and why.
    """
    _SCHEMA.validate(document)
    return True


CLEAN: Final = BATCH.later(exchange())
"""The second one, with nothing in the way."""
