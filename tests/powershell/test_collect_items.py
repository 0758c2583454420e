"""What the collector script makes of a registry, and of lists of anything."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from powershell.harness import BATCH, NOT_RUN, POWERSHELL
from powershell.virtual import Code
from powershell.worlds import (
    CLEAN,
    CONTROL,
    EXCHANGE,
    HTTP,
    LOGS,
    RECEIVE,
    SCHANNEL,
    V15,
    dword,
    keeps_to_schema,
    text,
    world,
)

from exporter.demo.machines import RegistryValue

if POWERSHELL is None:
    pytest.skip(NOT_RUN, allow_module_level=True)


VALUES: dict[str, tuple[RegistryValue, Any]] = {
    "dword 0": (dword(0), 0),
    "dword 1": (dword(1), 1),
    "dword 0x7fffffff": (dword(0x7FFFFFFF), 0x7FFFFFFF),
    "dword 0x80000000": (dword(0x80000000), 0x80000000),
    "dword 0xffffffff": (dword(0xFFFFFFFF), 0xFFFFFFFF),
    "qword 0": (RegistryValue("REG_QWORD", 0), 0),
    "qword 2**53+1": (RegistryValue("REG_QWORD", 2**53 + 1), 2**53 + 1),
    "qword 2**63": (RegistryValue("REG_QWORD", 2**63), 2**63),
    "qword 2**64-1": (RegistryValue("REG_QWORD", 2**64 - 1), 2**64 - 1),
    "sz empty": (text(""), ""),
    "sz number": (text("1"), "1"),
    "expand": (RegistryValue("REG_EXPAND_SZ", r"%windir%\System32"), r"%windir%\System32"),
    "multi none": (RegistryValue("REG_MULTI_SZ", ()), []),
    "multi one": (RegistryValue("REG_MULTI_SZ", ("TLS_RSA",)), ["TLS_RSA"]),
    "multi two": (RegistryValue("REG_MULTI_SZ", ("a,b", "")), ["a,b", ""]),
    "binary empty": (RegistryValue("REG_BINARY", ""), ""),
    "binary one": (RegistryValue("REG_BINARY", "/w=="), "/w=="),
    "binary some": (RegistryValue("REG_BINARY", "AAECgP8="), "AAECgP8="),
}
TEXTS = {
    "quotes": "\"it's\" \u2018so\u2019 \u201cto say\u201d",
    "backslashes": "C:\\a\\\\b\\",
    "markup": "</script><!-- & -->",
    "ascii": "".join(map(chr, range(32, 127))),
    "controls": "".join(map(chr, [*range(1, 32), 127, *range(128, 160)])),
    "null": "a\0b",
    "line at the end": "a\n",
    "line separators": "a\u2028b\u2029c\r\n\x85",
    "latin": "Microsoft\xae Windows Server\xae, \xdcber\xe4ll",
    "kelvin": "\u212a",
    "long s": "\u017f",
    "turkish": "\u0130\u0131iI",
    "cjk": "\u6f22\u5b57",
    "right to left": "\u202e\u05d0",
    "outside the plane": "a\U0001f511b\U0010ffff",
    "lone high": "a\ud83db",
    "lone low": "a\udd11b",
    "pair the wrong way": "\udd11\ud83d",
    "high at the end": "a\ud83d",
    "noncharacters": "\ufffe\uffff\ufeff",
    "powershell": "$(1+1) `n $null ${x} @(1) %windir% {0}",
    "spaces": "  a\t",
    "long": "x\xe9" * 20_000,
}  # fmt: skip
NAMES = ("AES 128/128", "RC4 40/128", "Triple DES 168", "a'b\"c", "\xdc\u6f22", "with.dot", "NULL", "${x}", "[a]*")


class TestRegistryValues:
    RUN = BATCH.later(
        world(
            {
                **{rf"{SCHANNEL}\Ciphers\{name}": {"Enabled": value} for name, (value, _) in VALUES.items()},
                rf"{SCHANNEL}\Ciphers\unknown": {"Enabled": RegistryValue("REG_RESOURCE_LIST", "")},
                rf"{SCHANNEL}\Ciphers\absent": {"DisabledByDefault": dword(1)},
                rf"{SCHANNEL}\Ciphers\empty": {},
                rf"{SCHANNEL}\Ciphers\shouted": {"ENABLED": dword(7)},
                **{rf"{SCHANNEL}\Hashes\{name}": {"Enabled": text(content)} for name, content in TEXTS.items()},
                **{rf"{SCHANNEL}\KeyExchangeAlgorithms\{name}": {"Enabled": dword(0)} for name in NAMES},
            }
        )
    )

    @pytest.mark.parametrize("name", VALUES)
    def test_a_value_comes_with_its_type(self, name: str) -> None:
        """A REG_DWORD is never negative, a REG_MULTI_SZ is always a list, a REG_BINARY is base64."""
        value, data = VALUES[name]

        assert self.RUN.items("schannel")["ciphers"][name] == {"type": value.type, "value": data}

    def test_a_type_without_a_form_has_no_data(self) -> None:
        assert self.RUN.items("schannel")["ciphers"]["unknown"] == {"type": "other", "value": None}

    def test_an_absent_value_is_null(self) -> None:
        ciphers = self.RUN.items("schannel")["ciphers"]

        assert (ciphers["absent"], ciphers["empty"]) == (None, None)

    def test_upper_and_lower_case_are_the_same(self) -> None:
        assert self.RUN.items("schannel")["ciphers"]["shouted"] == {"type": "REG_DWORD", "value": 7}

    @pytest.mark.parametrize("name", TEXTS)
    def test_a_text_arrives_as_it_is(self, name: str) -> None:
        """Whatever it is made of, in ASCII; half a surrogate pair is an escape as well."""
        assert self.RUN.text.isascii()
        assert self.RUN.items("schannel")["hashes"][name] == {"type": "REG_SZ", "value": TEXTS[name]}

    def test_keys_have_their_names(self) -> None:
        """A slash is part of a name."""
        assert sorted(self.RUN.items("schannel")["key_exchange"]) == sorted(NAMES)

    def test_keys_that_are_not_there_give_nothing(self) -> None:
        """Not even empty ones."""
        items = CLEAN.items("schannel")

        assert (items["ciphers"], items["hashes"], items["key_exchange"]) == ({}, {}, {})
        assert items["protocols"]["TLS 1.3"]["Client"] == {"Enabled": None, "DisabledByDefault": None}


class TestWrongData:
    RUN = BATCH.later(
        world(
            {
                rf"{CONTROL}\Lsa\FipsAlgorithmPolicy": {"Enabled": RegistryValue("REG_DWORD", "AAAAAAA=")},
                r"SOFTWARE\Microsoft\Windows NT\CurrentVersion": {"UBR": dword(7)},
            },
            system={"Caption": Code("1.5"), "ProductType": Code("[DateTime]::UtcNow")},
        )
    )

    def test_a_dword_of_another_size_is_a_failure(self) -> None:
        section = self.RUN.document["sections"]["security"]

        assert (section["items"], section["errors"]["fips"]["kind"]) == ({}, "error")

    def test_what_has_no_json_costs_its_item(self) -> None:
        """Not the document."""
        section = self.RUN.document["sections"]["windows"]

        assert list(section["errors"]) == ["caption", "product_type"]
        assert section["items"]["version"] == "10.0.14393"
        assert section["items"]["ubr"] == {"type": "REG_DWORD", "value": 7}


class TestLists:
    """None and one are lists as well."""

    RUNS: ClassVar = {
        number: BATCH.later(
            world(
                {
                    rf"{EXCHANGE}\v15\Setup": {"MsiInstallPath": text(V15)},
                    **{rf"{EXCHANGE}\v15\{each}Role": {"ConfiguredVersion": text("15")} for each in "ab"[:number]},
                    **{rf"{HTTP}\SslBindingInfo\{each}": {"SslCertStoreName": text("My")} for each in "ab"[:number]},
                    **{
                        rf"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages\{each}": {}
                        for each in ("Package_for_RollupFix~a", "Package_for_KB3161949~b")[:number]
                    },
                },
                fixes=[{"HotFixID": f"KB{each}", "InstalledOn": None} for each in range(number)],
                certificates=(b"\x30\x00", b"\x30\x80")[:number],
                updates=tuple({"title": f"{each}", "kb": ["1", "2"][:number]} for each in range(number)),
                folders=(RECEIVE, rf"{LOGS}\Hub\ProtocolLog\SmtpReceive")[:number],
            ),
            usage_megabytes=1,
            pending_updates=True,
        )
        for number in (0, 1, 2)
    }

    @pytest.mark.parametrize("number", RUNS)
    def test_they_stay_lists(self, number: int) -> None:
        run = self.RUNS[number]
        lists = [
            run.items("exchange")["roles"],
            run.items("hotfixes")["list"],
            run.items("servicing")["packages"],
            run.items("certificates")["my"],
            run.items("certificates")["bindings"],
            run.items("pending_updates")["list"],
            *(each["kb"] for each in run.items("pending_updates")["list"]),
            run.items("usage")["receive"]["directories"],
        ]

        assert [(type(each), len(each)) for each in lists] == [(list, number)] * len(lists)
        assert keeps_to_schema(run.document)

    def test_an_update_whose_date_is_unknown_has_none(self) -> None:
        assert self.RUNS[1].items("hotfixes")["list"] == [{"id": "KB0", "installed_on": None}]


RENAMES = {
    "absent": (None, False),
    "empty": (RegistryValue("REG_MULTI_SZ", ()), False),
    "one": (RegistryValue("REG_MULTI_SZ", (r"\??\C:\a",)), True),
    "two": (RegistryValue("REG_MULTI_SZ", (r"\??\C:\a", "")), True),
}
CLIENTS: dict[str, tuple[dict[str, bool] | None, bool | None]] = {
    "no client": (None, None),
    "nothing pending": ({"RebootPending": False, "IsHardRebootPending": False}, False),
    "soft": ({"RebootPending": True, "IsHardRebootPending": False}, True),
    "hard": ({"RebootPending": False, "IsHardRebootPending": True}, True),
}


class TestReboot:
    BY_RENAMES: ClassVar = {
        name: BATCH.later(
            world({rf"{CONTROL}\Session Manager": {} if value is None else {"PendingFileRenameOperations": value}})
        )
        for name, (value, _) in RENAMES.items()
    }
    BY_CLIENT: ClassVar = {name: BATCH.later(world(sccm=client)) for name, (client, _) in CLIENTS.items()}

    @pytest.mark.parametrize("name", RENAMES)
    def test_files_wait_to_be_renamed(self, name: str) -> None:
        assert self.BY_RENAMES[name].items("reboot")["file_rename"] is RENAMES[name][1]

    @pytest.mark.parametrize("name", CLIENTS)
    def test_configuration_manager_is_asked_where_it_is(self, name: str) -> None:
        assert self.BY_CLIENT[name].items("reboot")["sccm"] is CLIENTS[name][1]


OLD_PATHS: dict[str, tuple[dict[str, str | None], tuple[str | None, str | None]]] = {
    "2010": ({"v14": r"C:\E\V14" + "\\"}, ("v14", r"C:\E\V14")),
    "both": ({"v14": r"C:\E\V14", "v15": r"C:\E\V15"}, ("v15", r"C:\E\V15")),
    "removed": ({"v14": r"C:\E\V14", "v15": None}, ("v14", r"C:\E\V14")),
    "root": ({"v15": "D:\\"}, ("v15", "D:")),
}


NO_FOLDERS = {
    "empty": text(""),
    "number": dword(1),
    "unknown": RegistryValue("REG_RESOURCE_LIST", ""),
}


class TestExchange:
    NOWHERE: ClassVar = {
        name: BATCH.later(world({rf"{EXCHANGE}\v15\Setup": {"MsiInstallPath": value}}))
        for name, value in NO_FOLDERS.items()
    }
    PATHS: ClassVar = {
        name: BATCH.later(
            world(
                {
                    rf"{EXCHANGE}\{key}\Setup": {} if path is None else {"MsiInstallPath": text(path)}
                    for key, path in paths.items()
                }
            )
        )
        for name, (paths, _) in OLD_PATHS.items()
    }
    ROLES = BATCH.later(
        world(
            {
                rf"{EXCHANGE}\v15\Setup": {"MsiInstallPath": text(V15)},
                rf"{EXCHANGE}\v15\MailboxRole": {"ConfiguredVersion": text("15.1.2507.6")},
                rf"{EXCHANGE}\v15\HubTransportRole": {"UnpackedVersion": text("15.1.2507.6")},
                rf"{EXCHANGE}\v15\AdminTools": {"ConfiguredVersion": text("15.1.2507.6")},
                rf"{EXCHANGE}\v15\RoleBased": {"ConfiguredVersion": text("15.1.2507.6")},
            }
        )
    )

    @pytest.mark.parametrize("name", OLD_PATHS)
    def test_the_newest_that_is_installed_counts(self, name: str) -> None:
        items = self.PATHS[name].items("exchange")

        assert (items["version_key"], items["install_path"]) == OLD_PATHS[name][1]

    @pytest.mark.parametrize("name", NO_FOLDERS)
    def test_an_installation_that_is_nowhere_is_a_failure(self, name: str) -> None:
        section = self.NOWHERE[name].document["sections"]["exchange"]

        assert section["items"] == {}
        assert section["errors"]["*"]["kind"] == "error"

    def test_a_role_is_one_that_was_configured(self) -> None:
        assert self.ROLES.items("exchange")["roles"] == ["MailboxRole"]

    def test_setup_has_a_version_where_it_is(self) -> None:
        """Its file may be gone although the key is there."""
        path = rf"{V15}\bin\ExSetup.exe"

        assert CLEAN.items("exchange")["exsetup"] == {"path": path, "version": "15.1.2507.6"}
        assert self.ROLES.items("exchange")["exsetup"] is None
