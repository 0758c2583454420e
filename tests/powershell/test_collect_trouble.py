"""What cannot be read costs as little as possible, and the document says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from powershell.harness import BATCH, NOT_RUN, POWERSHELL, comparable
from powershell.virtual import Trouble
from powershell.worlds import CLEAN, CONTROL, EXCHANGE, HTTP, RECEIVE, SCHANNEL, V15, exchange, keeps_to_schema

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)


def without(document: Mapping[str, Any], section: str, *items: str) -> dict[str, Any]:
    """The document without these items, and without that section's errors; comparable."""
    kept = comparable(document)
    found = kept["sections"][section]
    left = {name: value for name, value in found["items"].items() if name not in items}
    return {**kept, "sections": {**kept["sections"], section: {"items": left}}}


def errors(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Per section with errors, these."""
    return {name: each["errors"] for name, each in document["sections"].items() if each["errors"]}


COM = "System.Runtime.InteropServices.COMException"
CRYPTOGRAPHIC = "System.Security.Cryptography.CryptographicException"
MANAGEMENT = "Simulated.ManagementException"
TROUBLE = {
    "unauthorized": (Trouble("System.UnauthorizedAccessException"), "access_denied"),
    "security": (Trouble("System.Security.SecurityException"), "access_denied"),
    "com, denied": (Trouble(COM, code=-2147024891), "access_denied"),
    "com, wmi denied": (Trouble(COM, code=-2147217405), "access_denied"),
    "com, other": (Trouble(COM, code=-2147023174), "error"),
    "wmi, denied": (Trouble(MANAGEMENT, code=-2147217405), "access_denied"),
    "wmi, other": (Trouble(MANAGEMENT, code=-2147217394), "error"),
    "reported, denied": (Trouble(MANAGEMENT, code=-2147217405, reported=True), "access_denied"),
    "reported": (Trouble("System.Management.Automation.RuntimeException", "a", reported=True), "error"),
    "plain": (Trouble("System.InvalidOperationException", "it's \xe4 \u201cquoted\u201d\r\ntext"), "error"),
    "no message": (Trouble("System.InvalidOperationException", ""), "error"),
    "long": (Trouble("System.IO.IOException", "x" * 1000), "error"),
}
PLACES = {
    rf"data:{CONTROL}\Lsa\FipsAlgorithmPolicy": ("security", "fips"),
    rf"registry:{CONTROL}\Lsa\FipsAlgorithmPolicy": ("security", "fips"),
    rf"registry:{SCHANNEL}\Ciphers": ("schannel", "ciphers"),
    rf"registry:{SCHANNEL}\Protocols\TLS 1.2\Server": ("schannel", "protocols"),
    r"registry:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages": ("servicing", "packages"),
    r"registry:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending": ("reboot", "cbs"),
    r"file:C:\Windows\System32\schannel.dll": ("files", "schannel.dll"),
    r"file:C:\Windows\Microsoft.NET\Framework\v2.0.50727\System.dll": ("dotnet", "clr2_system_dll"),
    rf"file:{V15}\bin\ExSetup.exe": ("exchange", "exsetup"),
    "wmi:Win32_QuickFixEngineering": ("hotfixes", "list"),
    "wmi:__NAMESPACE": ("reboot", "sccm"),
    "certificates": ("certificates", "my"),
    rf"registry:{HTTP}\SslSniBindingInfo": ("certificates", "bindings"),
}
DENIED = Trouble("System.UnauthorizedAccessException", "Attempted to perform an unauthorized operation.")
DENIED_AS_WRITTEN = {"kind": "access_denied", "type": DENIED.type, "message": DENIED.message}


class TestTrouble:
    KINDS: ClassVar = {
        name: BATCH.later(exchange(trouble={rf"registry:{CONTROL}\Lsa\FipsAlgorithmPolicy": trouble}))
        for name, (trouble, _) in TROUBLE.items()
    }
    RUNS: ClassVar = {place: BATCH.later(exchange(trouble={place: DENIED})) for place in PLACES}
    WMI_DOWN = BATCH.later(exchange(trouble={"wmi:Win32_OperatingSystem": Trouble(COM, "RPC", -2147023174)}))
    NO_SETUP = BATCH.later(exchange(trouble={rf"registry:{EXCHANGE}\v15\Setup": DENIED}), usage_megabytes=1)
    ONE_SIDE = BATCH.later(exchange(folders=(RECEIVE,), trouble={f"folder:{RECEIVE}": DENIED}), usage_megabytes=1)
    CRYPTOGRAPHY: ClassVar = {
        code: BATCH.later(exchange(trouble={"certificates": Trouble(CRYPTOGRAPHIC, code=code)}))
        for code in (5, -2147024891, -2146885628)
    }
    CLOSED: ClassVar = {
        path: BATCH.later(exchange(closed=(path, rf"{CONTROL}\Lsa\FipsAlgorithmPolicy")))
        for path in (rf"{CONTROL}\Lsa\FipsAlgorithmPolicy", rf"{CONTROL}\Lsa")
    }
    SCCM = BATCH.later(exchange(sccm={"RebootPending": False, "IsHardRebootPending": False, "ReturnValue": 5}))
    NO_UPDATES = BATCH.later(
        exchange(trouble={"updates": Trouble(COM, "0x8024402C", -2145107924)}), pending_updates=True
    )

    @pytest.mark.parametrize("name", TROUBLE)
    def test_a_failure_has_a_kind(self, name: str) -> None:
        """And its type, and as much of its message as anybody reads."""
        trouble, kind = TROUBLE[name]

        assert errors(self.KINDS[name].document) == {
            "security": {"fips": {"kind": kind, "type": trouble.type, "message": trouble.message[:300]}}
        }

    @pytest.mark.parametrize("place", PLACES)
    def test_an_item_that_cannot_be_read_costs_itself(self, place: str) -> None:
        section, item = PLACES[place]
        document = self.RUNS[place].document

        assert errors(document) == {section: {item: DENIED_AS_WRITTEN}}
        assert item not in document["sections"][section]["items"]
        assert without(document, section, item) == without(CLEAN.document, section, item)
        assert keeps_to_schema(document)

    def test_what_happens_to_a_section_costs_the_rest_of_it(self) -> None:
        """What it had read before stays, and so do the others."""
        document = self.WMI_DOWN.document
        lost = ("caption", "version", "service_pack", "product_type", "last_boot")

        assert errors(document) == {"windows": {"*": {"kind": "error", "type": COM, "message": "RPC"}}}
        assert document["sections"]["windows"]["items"] == {"build": None, "ubr": None, "installation_type": None}
        assert without(document, "windows") == without(CLEAN.document, "windows", *lost)

    def test_without_the_path_of_exchange_two_sections_fail(self) -> None:
        document = self.NO_SETUP.document

        assert errors(document) == {"exchange": {"*": DENIED_AS_WRITTEN}, "usage": {"*": DENIED_AS_WRITTEN}}
        assert document["sections"]["exchange"]["items"] == document["sections"]["usage"]["items"] == {}

    def test_one_side_of_the_logs_may_fail_alone(self) -> None:
        document = self.ONE_SIDE.document

        assert errors(document) == {"usage": {"receive": DENIED_AS_WRITTEN}}
        assert list(document["sections"]["usage"]["items"]) == ["send"]

    @pytest.mark.parametrize("code", CRYPTOGRAPHY)
    def test_a_store_may_be_denied(self, code: int) -> None:
        failure = errors(self.CRYPTOGRAPHY[code].document)["certificates"]["my"]

        assert failure["type"] == CRYPTOGRAPHIC
        assert failure["kind"] == ("error" if code == -2146885628 else "access_denied")

    @pytest.mark.parametrize("path", CLOSED)
    def test_a_key_that_cannot_be_opened_is_not_absent(self, path: str) -> None:
        """Although .NET says the same of both."""
        document = self.CLOSED[path].document

        assert document["sections"]["security"]["items"] == {}
        assert {name: list(each) for name, each in errors(document).items()} == {"security": ["fips"]}
        assert path in errors(document)["security"]["fips"]["message"]

    def test_an_answer_that_failed_is_none(self) -> None:
        assert list(errors(self.SCCM.document)["reboot"]) == ["sccm"]

    def test_windows_update_may_fail(self) -> None:
        failure = {"kind": "error", "type": COM, "message": "0x8024402C"}

        assert errors(self.NO_UPDATES.document) == {"pending_updates": {"list": failure}}
