"""The simulated Windows machines, and the documents that the collector script would print on them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jsonschema import Draft202012Validator

from exporter.demo.machines import (
    MACHINES,
    CertificateDescription,
    Machine,
    Registry,
    RegistryValue,
    load,
    load_all,
    machine_of,
)
from exporter.demo.machines.certificates import certificate
from exporter.demo.machines.document import _PACKAGES, BEGIN, END, SCRIPT_VERSION, document, output
from exporter.demo.machines.loading import registry_value
from exporter.demo.machines.usage import usage
from exporter.demo.machines.virtual import windows_at

PROBE: Final = Path(__file__).resolve().parent.parent.parent / "exporter" / "probes" / "winrm"
SCHEMA: Final[dict[str, Any]] = json.loads((PROBE / "document.schema.json").read_text(encoding="utf-8"))
NOW: Final = datetime(2026, 11, 22, 23, 30, 5, tzinfo=UTC)
EXTRA_SECTIONS: Final = {"pending_updates", "usage"}

PROTOCOLS: Final = r"SYSTEM\CurrentControlSet\Control\SecurityProviders\SCHANNEL\Protocols"
SHIPPED: Final = {
    "domain-controller-on-2008-r2": (None, "6.1.7601"),
    "edge-2016-cu22-on-2016": ("15.1.2375.7", "10.0.14393"),
    "exchange-2010-sp3-ru17-on-2008-r2": ("14.3.352.0", "6.1.7601"),
    "exchange-2010-sp3-ru19-on-2008-sp2": ("14.3.382.0", "6.0.6002"),
    "exchange-2010-sp3-ru20-on-2008-r2": ("14.3.389.1", "6.1.7601"),
    "exchange-2013-cu18-on-2012-r2": ("15.0.1347.2", "6.3.9600"),
    "exchange-2013-cu20-on-2012": ("15.0.1367.3", "6.2.9200"),
    "exchange-2013-cu23-on-2012-r2": ("15.0.1497.48", "6.3.9600"),
    "exchange-2016-cu23-on-2016": ("15.1.2507.61", "10.0.14393"),
    "exchange-2016-cu7-on-2012-r2": ("15.1.1261.35", "6.3.9600"),
    "exchange-2019-cu11-on-2019": ("15.2.986.42", "10.0.17763"),
    "exchange-2019-cu15-on-2022": ("15.2.1748.39", "10.0.20348"),
    "exchange-se-on-2025": ("15.2.2562.29", "10.0.26100"),
}
"""Per machine, ExSetup's version and Windows'."""


def sections(name: str, **options: Any) -> Mapping[str, Any]:
    """The items of each section of a machine's document."""
    content = document(load(name), NOW, **options)
    return {section: each["items"] for section, each in content["sections"].items()}


def dword(value: int) -> dict[str, Any]:
    return {"type": "REG_DWORD", "value": value}


def side(enabled: int | None, disabled_by_default: int | None) -> dict[str, Any]:
    values = {"Enabled": enabled, "DisabledByDefault": disabled_by_default}
    return {name: None if value is None else dword(value) for name, value in values.items()}


def on(protocol: Mapping[str, Any]) -> bool:
    return protocol == {"Client": side(1, 0), "Server": side(1, 0)}


def off(protocol: Mapping[str, Any]) -> bool:
    return protocol == {"Client": side(0, 1), "Server": side(0, 1)}


def switch_views(items: Mapping[str, Any]) -> dict[str, list[int | None]]:
    """Per view, SystemDefaultTlsVersions and SchUseStrongCrypto of .NET Framework 4."""
    views = items["dotnet"]["switches"]["v4.0.30319"]
    return {view: [value and value["value"] for value in values.values()] for view, values in views.items()}


def store(items: Mapping[str, Any]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(base64.b64decode(each)) for each in items["certificates"]["my"]]


def build(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split("."))


class TestDocuments:
    @pytest.mark.parametrize("name", MACHINES)
    @pytest.mark.parametrize("options", [{}, {"pending_updates": True, "usage_megabytes": 5}], ids=["plain", "all"])
    def test_each_is_valid_by_the_schema(self, name: str, options: dict[str, Any]) -> None:
        problems = Draft202012Validator(SCHEMA).iter_errors(document(load(name), NOW, **options))

        assert [f"{problem.json_path}: {problem.message}" for problem in problems] == []

    @pytest.mark.parametrize("name", MACHINES)
    def test_each_item_of_the_schema_is_there_or_why_not(self, name: str) -> None:
        """As the script does it: nothing is left out silently, and nothing is there twice."""
        content = document(load(name), NOW, pending_updates=True, usage_megabytes=5)["sections"]
        wanted = SCHEMA["properties"]["sections"]["properties"]

        assert content.keys() == wanted.keys()
        for section, each in content.items():
            expected = sorted(wanted[section]["properties"]["items"]["properties"])
            assert sorted([*each["items"], *each["errors"]]) == expected, section

    @pytest.mark.parametrize("name", MACHINES)
    def test_the_output_is_ascii_between_two_lines(self, name: str) -> None:
        text = output(load(name), NOW, pending_updates=True, usage_megabytes=5)

        assert text.isascii()
        assert text.count(BEGIN) == text.count(END) == 1
        assert text.startswith(f"{BEGIN}\r\n")
        assert text.endswith(f"\r\n{END}\r\n")
        between = text.removeprefix(BEGIN).removesuffix(f"{END}\r\n")
        assert json.loads(between) == document(load(name), NOW, pending_updates=True, usage_megabytes=5)

    def test_optional_sections_are_there_only_when_asked_for(self) -> None:
        machine = load("exchange-2013-cu23-on-2012-r2")
        plain = document(machine, NOW)
        with_usage = document(machine, NOW, usage_megabytes=1)
        with_updates = document(machine, NOW, pending_updates=True)

        assert EXTRA_SECTIONS & plain["sections"].keys() == set()
        assert EXTRA_SECTIONS & with_usage["sections"].keys() == {"usage"}
        assert EXTRA_SECTIONS & with_updates["sections"].keys() == {"pending_updates"}
        assert plain["options"] == {"pending_updates": False, "usage_megabytes": 0}
        assert with_usage["options"]["usage_megabytes"] == 1
        assert with_updates["options"]["pending_updates"] is True

    def test_collected_at_is_utc_whatever_the_zone(self) -> None:
        at = NOW.astimezone(timezone(timedelta(hours=9)))

        assert document(load("exchange-se-on-2025"), at)["collected_at"] == "2026-11-22T23:30:05Z"

    def test_the_last_boot_is_some_days_ago_in_local_time(self) -> None:
        """exchange-se-on-2025 started three days before, at 02:17 UTC."""
        assert sections("exchange-se-on-2025")["windows"]["last_boot"] == "20261119031743.500000+060"

    def test_it_says_that_it_is_a_simulation(self) -> None:
        assert document(load("edge-2016-cu22-on-2016"), NOW)["simulation"] == "edge-2016-cu22-on-2016"

    def test_a_section_that_fails_as_a_whole_has_no_items(self) -> None:
        """* stands for all of them."""
        error = {"kind": "error", "type": "System.Exception", "message": "broken"}
        machine = replace(load("exchange-se-on-2025"), errors={"reboot": {"*": error}})

        section = document(machine, NOW)["sections"]["reboot"]

        assert section == {"items": {}, "errors": {"*": error}, "milliseconds": 0}

    def test_it_reads_what_the_script_reads(self) -> None:
        """The version, the lines around the document and the updates are the script's own."""
        script = (PROBE / "collect.ps1").read_text(encoding="utf-8")

        assert f"$ScriptVersion = '{SCRIPT_VERSION}'" in script
        assert BEGIN in script
        assert END in script
        assert f"'^{_PACKAGES.pattern}'" in script


class TestMachines:
    def test_the_issue_s_machines_are_shipped(self) -> None:
        found = {}
        for name in MACHINES:
            items = sections(name)
            exsetup = items["exchange"]["exsetup"]
            found[name] = (exsetup and exsetup["version"], items["windows"]["version"])

        assert found == SHIPPED

    def test_load_all_is_in_the_order_of_the_names(self) -> None:
        assert [machine.name for machine in load_all()] == list(MACHINES) == sorted(MACHINES)

    @pytest.mark.parametrize("machine", load_all(), ids=lambda machine: machine.name)
    def test_each_says_that_it_is_a_simulation(self, machine: Machine) -> None:
        assert machine.description.startswith("Simulated: ")
        assert machine.fqdn.endswith(".test")
        assert machine.fqdn.startswith(f"{machine.host.lower()}.")

    def test_no_two_share_a_host(self) -> None:
        assert len({machine.fqdn for machine in load_all()}) == len(MACHINES)

    @pytest.mark.parametrize("machine", load_all(), ids=lambda machine: machine.name)
    def test_each_is_plain_data_at_a_moment(self, machine: Machine) -> None:
        """Another language can be fed from it: all of it is JSON, and no key is there twice in another case."""
        dump = windows_at(machine, NOW).as_json()

        assert json.loads(json.dumps(dump))["simulation"] == machine.name
        assert len({path.upper() for path in dump["registry"]}) == len(dump["registry"])
        assert len({path.upper() for path in dump["files"]}) == len(dump["files"])
        assert set(dump["wmi"]) - {"CCM_ClientUtilities"} == {"Win32_OperatingSystem", "Win32_QuickFixEngineering"}

    @pytest.mark.parametrize("machine", load_all(), ids=lambda machine: machine.name)
    def test_logs_are_smaller_than_the_least_limit(self, machine: Machine) -> None:
        """The writer leaves nothing out, so it never says truncated."""
        assert sum(len(text) for text in machine.logs.values()) < 1 << 20

    def test_an_unknown_machine_is_an_error(self) -> None:
        with pytest.raises(OSError, match=r"exchange-5\.5\.yml"):
            load("exchange-5.5")

    def test_an_unknown_setting_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="bare: no such settings: regsitry"):
            bare("2012", regsitry={})


def bare(windows: str, **changes: Any) -> Machine:
    """A server of that version with .NET Framework 3.5 and nothing else."""
    description = {"description": "Simulated: a bare server.", "role": "mailbox", "windows": windows, "host": "BARE"}
    return machine_of("bare", {**description, "fqdn": "bare.contoso.test", "dotnet": {"v35": True}, **changes})


class TestDefaultsOfWindows:
    VERSIONS: Final = {
        "2008 SP2": ("6.0.6002", "2.0", "2."),
        "2008 R2": ("6.1.7601", "2.0", "2."),
        "2012": ("6.2.9200", "3.0", "4."),
        "2012 R2": ("6.3.9600", "4.0", "4."),
        "2016": ("10.0.14393", "5.1", "4."),
        "2019": ("10.0.17763", "5.1", "4."),
        "2022": ("10.0.20348", "5.1", "4."),
        "2025": ("10.0.26100", "5.1", "4."),
    }
    OLD: Final = ("2008 SP2", "2008 R2", "2012", "2012 R2")

    @pytest.mark.parametrize("windows", VERSIONS)
    def test_windows_powershell_and_clr_are_those_that_shipped(self, windows: str) -> None:
        content = document(bare(windows), NOW)
        version, powershell, clr = self.VERSIONS[windows]

        assert content["sections"]["windows"]["items"]["version"] == version
        assert content["powershell"]["version"].startswith(powershell)
        assert content["powershell"]["clr"].startswith(clr)

    @pytest.mark.parametrize("windows", VERSIONS)
    def test_protocols_are_not_configured(self, windows: str) -> None:
        """Defaults are not written down, least of all TLS 1.2's on 2008 R2; but SSL 2.0's client has a key of old."""
        protocols = document(bare(windows), NOW)["sections"]["schannel"]["items"]["protocols"]
        old = windows in self.OLD

        assert protocols.pop("SSL 2.0") == {"Client": side(None, 1 if old else None), "Server": side(None, None)}
        assert all(each == {"Client": side(None, None), "Server": side(None, None)} for each in protocols.values())
        registry = Registry(bare(windows).registry)
        assert not registry.exists(rf"{PROTOCOLS}\TLS 1.2")

    @pytest.mark.parametrize(
        ("windows", "ws2_32", "schannel", "winhttp"),
        [
            ("2008 SP2", "6.0.6002.19655", "6.0.6002.19678", None),
            ("2008 R2", "6.1.7601.23451", "6.1.7601.19044", "6.1.7601.23375"),
            ("2012", "6.2.9200.21858", "6.2.9200.17559", "6.2.9200.21797"),
            ("2012 R2", "6.3.9600.18340", "6.3.9600.18088", None),
        ],
    )
    def test_updated_files_are_at_the_floors_and_shipped_ones_below(
        self, windows: str, ws2_32: str, schannel: str, winhttp: str | None
    ) -> None:
        """KB3161949, MS15-121 or MS16-137, and where it is needed KB3140245."""
        updated = document(bare(windows), NOW)["sections"]["files"]["items"]
        shipped = document(bare(windows, level="shipped"), NOW)["sections"]["files"]["items"]

        assert updated["ws2_32.dll"] == {"path": r"C:\Windows\System32\ws2_32.dll", "version": ws2_32}
        assert updated["schannel.dll"]["version"] == schannel
        if winhttp is not None:
            assert updated["winhttp.dll"]["version"] == updated["webio.dll"]["version"] == winhttp
        for name, file in shipped.items():
            assert file is None or build(file["version"]) < build(updated[name]["version"])

    def test_2008_has_no_webio(self) -> None:
        assert sections("exchange-2010-sp3-ru19-on-2008-sp2")["files"]["webio.dll"] is None

    @pytest.mark.parametrize("windows", VERSIONS)
    def test_system_dll_is_old_as_shipped_and_new_enough_when_updated(self, windows: str) -> None:
        """2.0.50727.8692 (MS16-091) surely has SystemDefaultTlsVersions; 2008 SP2 counts otherwise."""
        folders = document(bare(windows), NOW)["sections"]["dotnet"]["items"]["clr2_system_dll"]
        version = build(folders["native"]["version"])

        assert folders["native"]["path"] == r"C:\Windows\Microsoft.NET\Framework64\v2.0.50727\System.dll"
        assert folders["wow"]["path"] == r"C:\Windows\Microsoft.NET\Framework\v2.0.50727\System.dll"
        if windows == "2008 SP2":
            assert version == (2, 0, 50727, 4265)
        elif windows in self.OLD:
            assert version == (2, 0, 50727, 8692)
        else:
            assert version > (2, 0, 50727, 8692)
        if windows in self.OLD:
            shipped = document(bare(windows, level="shipped"), NOW)["sections"]["dotnet"]["items"]["clr2_system_dll"]
            assert build(shipped["wow"]["version"]) < version

    def test_without_dotnet_35_there_is_none_of_it(self) -> None:
        items = document(bare("2012 R2", dotnet={"release": 528049}), NOW)["sections"]["dotnet"]["items"]

        assert items["clr2_system_dll"] == {"native": None, "wow": None}
        assert items["v35"] == {"Install": None, "SP": None, "Version": None}
        assert items["release"] == dword(528049)

    @pytest.mark.parametrize(
        ("windows", "level", "there"),
        [
            ("2008 R2", "shipped", False),
            ("2008 R2", "updated", True),
            ("2012", "shipped", False),
            ("2012", "updated", True),
            ("2012 R2", "shipped", False),
            ("2012 R2", "updated", True),
            ("2016", "updated", True),
        ],
    )
    def test_sha512_signatures_come_with_kb2973337(self, windows: str, level: str, there: bool) -> None:  # noqa: FBT001
        functions = document(bare(windows, level=level), NOW)["sections"]["cipher_suites"]["items"]["signatures_local"]

        assert functions["type"] == "REG_MULTI_SZ"
        assert ("RSA/SHA512" in functions["value"], "ECDSA/SHA512" in functions["value"]) == (there, there)

    def test_2008_has_no_list_of_signatures(self) -> None:
        assert sections("exchange-2010-sp3-ru19-on-2008-sp2")["cipher_suites"]["signatures_local"] is None

    @pytest.mark.parametrize("windows", VERSIONS)
    def test_only_windows_2022_and_newer_lists_tls13_suites(self, windows: str) -> None:
        suites = document(bare(windows), NOW)["sections"]["cipher_suites"]["items"]["local"]["value"]

        assert any(suite.startswith("TLS_AES_") for suite in suites) == (windows in {"2022", "2025"})

    def test_hotfix_dates_are_text_and_hexadecimal_on_2008(self) -> None:
        """A FILETIME counts 100 ns since 1601."""
        fixes = {"KB1": "6/21/2016", "KB2": None}
        old = document(bare("2008 SP2", hotfixes=fixes), NOW)["sections"]["hotfixes"]["items"]["list"]
        new = document(bare("2008 R2", hotfixes=fixes), NOW)["sections"]["hotfixes"]["items"]["list"]

        assert new == [{"id": "KB1", "installed_on": "6/21/2016"}, {"id": "KB2", "installed_on": None}]
        assert old[1]["installed_on"] is None
        assert len(old[0]["installed_on"]) == 16
        since = timedelta(microseconds=int(old[0]["installed_on"], 16) // 10)
        assert datetime(1601, 1, 1, tzinfo=UTC) + since == datetime(2016, 6, 21, tzinfo=UTC)


class TestRegistry:
    REGISTRY: Final = Registry(
        {
            r"SOFTWARE\Contoso": {"Answer": RegistryValue("REG_DWORD", 42)},
            r"SOFTWARE\Wow6432Node\Contoso\zeta": {},
            r"SOFTWARE\Wow6432Node\Contoso\Alpha": {},
            r"SOFTWARE\Wow6432Node\Contoso\Beta 40/128\Deep": {},
        }
    )

    def test_lookups_ignore_case(self) -> None:
        assert self.REGISTRY.value(r"software\CONTOSO", "ANSWER") == RegistryValue("REG_DWORD", 42)
        assert self.REGISTRY.exists(r"Software\wow6432node\contoso\ALPHA")
        assert self.REGISTRY.subkeys(r"software\WOW6432NODE\contoso") == ("Alpha", "Beta 40/128", "zeta")

    def test_what_is_not_there_is_none(self) -> None:
        assert self.REGISTRY.value(r"SOFTWARE\Contoso", "Question") is None
        assert self.REGISTRY.value(r"SOFTWARE\Fabrikam", "Answer") is None
        assert self.REGISTRY.subkeys(r"SOFTWARE\Fabrikam") == ()
        assert not self.REGISTRY.exists(r"SOFTWARE\Fabrikam")

    def test_the_keys_above_a_key_exist(self) -> None:
        assert self.REGISTRY.exists(r"SOFTWARE\Wow6432Node\Contoso\Beta 40/128")
        assert self.REGISTRY.exists("SOFTWARE")

    def test_the_32_bit_view_is_a_subkey_of_its_own(self) -> None:
        assert self.REGISTRY.value(r"SOFTWARE\Wow6432Node\Contoso", "Answer") is None

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (0xFFFFFFFF, {"type": "REG_DWORD", "value": 4294967295}),
            ("1", {"type": "REG_SZ", "value": "1"}),
            (["a", "b"], {"type": "REG_MULTI_SZ", "value": ["a", "b"]}),
            ([], {"type": "REG_MULTI_SZ", "value": []}),
            ({"type": "REG_BINARY", "value": b"\0\1"}, {"type": "REG_BINARY", "value": "AAE="}),
            ({"type": "REG_QWORD", "value": 1 << 40}, {"type": "REG_QWORD", "value": 1 << 40}),
            ({"type": "REG_EXPAND_SZ", "value": "%a%"}, {"type": "REG_EXPAND_SZ", "value": "%a%"}),
            ({"type": "REG_NONE", "value": ""}, {"type": "other", "value": None}),
        ],
    )
    def test_contents_and_how_the_script_writes_them(self, content: Any, expected: dict[str, Any]) -> None:
        assert registry_value(content).as_json() == expected

    @pytest.mark.parametrize("content", [True, 1.5, {"value": 1}])
    def test_what_the_registry_does_not_have(self, content: Any) -> None:
        with pytest.raises(ValueError, match="registry"):
            registry_value(content)

    def test_null_takes_a_default_away(self) -> None:
        key = r"SYSTEM\CurrentControlSet\Control\Lsa\FipsAlgorithmPolicy"
        machine = bare("2016", registry={key: {"Enabled": None}})

        assert document(machine, NOW)["sections"]["security"]["items"]["fips"] is None
        assert document(bare("2016"), NOW)["sections"]["security"]["items"]["fips"] == dword(0)


class TestCertificates:
    @pytest.mark.parametrize("name", MACHINES)
    def test_every_binding_names_a_certificate_of_the_store(self, name: str) -> None:
        items = sections(name)["certificates"]
        thumbprints = {hashlib.sha1(base64.b64decode(each)).digest() for each in items["my"]}
        bound = [each["SslCertHash"] for each in items["bindings"]]

        assert all(each["type"] == "REG_BINARY" for each in bound)
        assert {base64.b64decode(each["value"]) for each in bound} <= thumbprints
        assert all(each["SslCertStoreName"] == {"type": "REG_SZ", "value": "My"} for each in items["bindings"])

    def test_https_and_the_back_end_use_different_ones(self) -> None:
        bindings = sections("exchange-2016-cu7-on-2012-r2")["certificates"]["bindings"]
        used = {each["binding"]: each["SslCertHash"]["value"] for each in bindings}

        assert list(used) == ["0.0.0.0:443", "0.0.0.0:444", "127.0.0.1:443"]
        assert used["0.0.0.0:443"] == used["127.0.0.1:443"] != used["0.0.0.0:444"]

    def test_a_binding_by_name_says_so_in_its_value(self) -> None:
        """Those come last, and the names of their keys need not tell."""
        *_, binding = sections("exchange-2019-cu15-on-2022")["certificates"]["bindings"]

        assert ":" not in binding["binding"]
        assert binding["HostnamePort"] == {"type": "REG_SZ", "value": "mail.contoso.test:443"}

    def test_remote_desktop_may_be_told_to_use_one(self) -> None:
        items = sections("exchange-2010-sp3-ru20-on-2008-r2")["certificates"]

        assert items["rdp"]["SSLCertificateSHA1Hash"] == items["bindings"][0]["SslCertHash"]
        assert items["rdp"]["SecurityLayer"] == dword(2)

    @pytest.mark.parametrize(
        "description",
        [
            CertificateDescription("CN=a,O=Contoso", ("a.test", "b.test"), days=30),
            CertificateDescription("CN=old", key="rsa1024", hash="sha1", days=-3),
            CertificateDescription("CN=new", key="ec256", hash="sha384"),
            CertificateDescription("CN=strong", hash="sha512", days=0),
        ],
        ids=lambda description: description.subject,
    )
    def test_it_is_as_described_and_signed_by_itself(self, description: CertificateDescription) -> None:
        made = x509.load_der_x509_certificate(certificate(description, NOW.date()))
        key, algorithm = made.public_key(), made.signature_hash_algorithm

        assert made.subject.rfc4514_string() == made.issuer.rfc4514_string() == description.subject
        assert algorithm is not None
        assert algorithm.name == description.hash
        assert (made.not_valid_after_utc.date() - NOW.date()).days == description.days
        assert made.not_valid_before_utc < NOW
        if isinstance(key, rsa.RSAPublicKey):
            assert f"rsa{key.key_size}" == description.key
            key.verify(made.signature, made.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(made.signature, made.tbs_certificate_bytes, ec.ECDSA(algorithm))

    def test_names_are_alternative_names(self) -> None:
        made = store(sections("exchange-2019-cu15-on-2022"))[0]
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

        assert names.get_values_for_type(x509.DNSName) == ["mail.contoso.test", "autodiscover.contoso.test"]

    def test_sha1_is_not_for_every_key(self) -> None:
        with pytest.raises(TypeError, match="RSA"):
            certificate(CertificateDescription("CN=a", key="ec256", hash="sha1"), NOW.date())

    def test_it_is_the_same_all_day_and_another_the_next(self) -> None:
        description = CertificateDescription("CN=a")
        today, tomorrow = (certificate(description, (NOW + timedelta(days=days)).date()) for days in (0, 1))

        assert certificate(description, NOW.date()) == today != tomorrow
        # It follows from the description alone, in every process.
        serial_numbers = {x509.load_der_x509_certificate(each).serial_number for each in (today, tomorrow)}
        assert serial_numbers == {90724476969317336818351908731239243376}


class TestUsage:
    FOLDER: Final = r"C:\E\TransportRoles\Logs\Hub\ProtocolLog\SmtpReceive"

    def read(self, *lines: str, name: str = "RECV1.LOG", folder: str = FOLDER) -> dict[str, Any]:
        return usage(r"C:\E", {rf"{folder}\{name}": "\r\n".join([*lines, ""])}, "SmtpReceive")

    @staticmethod
    def line(data: str, peer: str = "192.0.2.1:1", at: str = "2023-01-02T03:04:05.678Z", connector: str = "C") -> str:
        return f"{at},{connector},08D0,1,192.0.2.2:25,{peer},*,,{data}"

    def test_versions_and_peers_are_counted(self) -> None:
        """The data may be the second last field as well, and the connector's name may hold commas."""
        found = self.read(
            "#Fields: date-time,connector-id",
            self.line('"TLS protocol SP_PROT_TLS1_2_SERVER negotiation succeeded, and so on"'),
            self.line("SP_PROT_TLS1_2_SERVER,TLS negotiation succeeded", peer="[2001:db8::1]:77"),
            self.line("SP_PROT_TLS1_2_SERVER", peer="[2001:db8::1]:78", connector='"A, ""B"""'),
            self.line("SP_PROT-TLS1_0_SERVER"),
            self.line("TLS protocol 4096 negotiation succeeded"),
            self.line("MAIL FROM:<a@contoso.test>"),
        )

        assert found["sessions"] == {"4096": 1, "TLS1_0": 1, "TLS1_2": 3}
        assert [(each["protocol"], each["address"], each["sessions"]) for each in found["peers"]] == [
            ("TLS1_2", "[2001:db8::1]", 2),
            ("4096", "192.0.2.1", 1),
            ("TLS1_0", "192.0.2.1", 1),
            ("TLS1_2", "192.0.2.1", 1),
        ]

    def test_the_times_are_the_oldest_and_the_newest_lines(self) -> None:
        """Whatever a line says, and in whatever order; comments do not count."""
        times = ("2023-01-03T00:00:00.000Z", "2023-01-01T00:00:00.000Z", "2023-01-02T00:00:00.000Z")
        found = self.read("#Date: 2020-01-01T00:00:00.000Z,", *(self.line("x", at=time) for time in times))

        assert (found["from"], found["until"]) == ("2023-01-01T00:00:00.000Z", "2023-01-03T00:00:00.000Z")

    def test_twenty_peers_of_each_version_are_named(self) -> None:
        lines = [self.line("SP_PROT_TLS1_0_SERVER", peer=f"192.0.2.{number}:1") for number in range(25)]
        found = self.read(*lines, self.line("SP_PROT_TLS1_2_SERVER"))

        assert [each["protocol"] for each in found["peers"]] == ["TLS1_0"] * 20 + ["TLS1_2"]
        assert found["sessions"] == {"TLS1_0": 25, "TLS1_2": 1}

    def test_only_logs_in_the_folders_of_that_side_are_read(self) -> None:
        line = self.line("SP_PROT_TLS1_0_SERVER")
        nothing = usage(r"C:\E", {}, "SmtpReceive")

        assert self.read(line)["directories"] == [self.FOLDER]
        assert self.read(line, name="recv1.log")["files"] == 1
        assert self.read(line, name="RECV1.TXT") == nothing
        assert self.read(line, folder=self.FOLDER.replace("SmtpReceive", "SmtpSend")) == nothing
        assert nothing["directories"] == []
        assert nothing["from"] is nothing["until"] is None

    def test_without_exchange_there_is_nothing_to_read(self) -> None:
        found = sections("domain-controller-on-2008-r2", usage_megabytes=1)["usage"]

        assert found["receive"] == found["send"] == usage(None, {}, "SmtpSend")
        assert found["receive"]["bytes"] == 0


class TestWhatIsInteresting:
    """Each machine for what it was made for."""

    def test_exchange_2010_ru17_was_never_updated(self) -> None:
        items = sections("exchange-2010-sp3-ru17-on-2008-r2")

        assert items["exchange"]["version_key"] == "v14"
        assert items["exchange"]["install_path"] == r"C:\Program Files\Microsoft\Exchange Server\V14"
        assert items["exchange"]["roles"] == ["ClientAccessRole", "HubTransportRole", "MailboxRole"]
        assert build(items["files"]["ws2_32.dll"]["version"]) < build("6.1.7601.23451")
        assert build(items["dotnet"]["clr2_system_dll"]["native"]["version"]) < build("2.0.50727.8690")
        assert items["servicing"]["packages"] == []
        assert items["certificates"]["rdp"]["SecurityLayer"] == dword(2)

    def test_exchange_2010_ru20_has_all_of_it(self) -> None:
        items = sections("exchange-2010-sp3-ru20-on-2008-r2")
        protocols = items["schannel"]["protocols"]

        assert protocols["TLS 1.2"] == {"Client": side(0xFFFFFFFF, 0), "Server": side(0xFFFFFFFF, 0)}
        assert off(protocols["TLS 1.0"])
        assert off(protocols["TLS 1.1"])
        assert items["winhttp"] == {"native": dword(0xA00), "wow": dword(0xA00)}
        assert items["schannel"]["ciphers"] == {"RC4 128/128": dword(0), "Triple DES 168": dword(0)}
        assert items["schannel"]["hashes"] == {"MD5": dword(0)}

    def test_exchange_2010_ru20_has_kb3154518_superseded(self) -> None:
        """The list of hotfixes does not know it any more, servicing does. Other packages are left out."""
        items = sections("exchange-2010-sp3-ru20-on-2008-r2")
        states = {each["name"].split("~")[0]: each["CurrentState"]["value"] for each in items["servicing"]["packages"]}

        assert "KB3154518" not in {each["id"] for each in items["hotfixes"]["list"]}
        assert states == {
            "Package_for_KB2973337": 0x70,
            "Package_for_KB3080079": 0x70,
            "Package_for_KB3140245": 0x70,
            "Package_for_KB3154518": 0x50,
            "Package_for_KB3161949": 0x70,
            "Package_for_RollupFix": 0x70,
        }

    def test_servicing_times_are_filetimes_in_two_halves(self) -> None:
        *_, rollup = sections("exchange-2010-sp3-ru20-on-2008-r2")["servicing"]["packages"]
        ticks = (rollup["InstallTimeHigh"]["value"] << 32) + rollup["InstallTimeLow"]["value"]
        installed = datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)

        assert rollup["name"] == "Package_for_RollupFix~31bf3856ad364e35~amd64~~7601.24059.1.4"
        assert installed == datetime(2018, 3, 20, tzinfo=UTC)

    def test_exchange_2010_on_2008_has_tls12_but_off_for_the_client(self) -> None:
        items = sections("exchange-2010-sp3-ru19-on-2008-sp2")

        assert items["files"]["schannel.dll"]["version"] == "6.0.6002.24129"
        assert items["schannel"]["protocols"]["TLS 1.2"] == {"Client": side(None, None), "Server": side(None, 0)}
        assert items["windows"]["caption"] == "Microsoft\xae Windows Server\xae 2008 Standard "
        assert items["windows"]["installation_type"] is items["windows"]["ubr"] is None

    def test_exchange_2013_cu18_lacks_the_32_bit_switches(self) -> None:
        items = sections("exchange-2013-cu18-on-2012-r2")

        assert switch_views(items) == {"native": [1, 1], "wow": [None, None]}
        assert build(items["files"]["ws2_32.dll"]["version"]) < build("6.3.9600.18340")

    def test_exchange_2013_on_2012_has_a_sha512_certificate_too_early(self) -> None:
        items = sections("exchange-2013-cu20-on-2012")
        algorithm = store(items)[0].signature_hash_algorithm

        assert algorithm is not None
        assert algorithm.name == "sha512"
        assert "RSA/SHA512" not in items["cipher_suites"]["signatures_local"]["value"]
        assert items["winhttp"] == {"native": None, "wow": None}
        assert build(items["files"]["winhttp.dll"]["version"]) < build("6.2.9200.21797")

    def test_exchange_2013_cu23_has_a_text_for_a_number(self) -> None:
        items = sections("exchange-2013-cu23-on-2012-r2", usage_megabytes=5)
        protocol = items["schannel"]["protocols"]["TLS 1.2"]

        assert protocol["Client"]["Enabled"] == {"type": "REG_SZ", "value": "1"}
        assert protocol["Server"] == side(1, 0)
        (suites,) = items["cipher_suites"]["local"]["value"]
        assert suites.split(",")[-1] == "TLS_RSA_WITH_AES_128_GCM_SHA256"
        assert items["usage"]["receive"]["sessions"] == {"TLS1_0": 3, "TLS1_2": 2}
        assert items["usage"]["receive"]["peers"][0] == {
            "protocol": "TLS1_0",
            "address": "203.0.113.77",
            "sessions": 3,
        }
        assert items["usage"]["send"]["sessions"] == {"TLS1_1": 1, "TLS1_2": 1}

    def test_exchange_2016_cu7_has_dotnet_47_and_waits_for_a_restart(self) -> None:
        items = sections("exchange-2016-cu7-on-2012-r2")

        assert items["dotnet"]["release"] == dword(460805)
        assert items["reboot"] == {
            "cbs": True,
            "windows_update": False,
            "update_exe": dword(1),
            "file_rename": True,
            "sccm": None,
        }

    def test_exchange_2016_cu23_is_half_done(self) -> None:
        protocols = sections("exchange-2016-cu23-on-2016")["schannel"]["protocols"]

        assert protocols["TLS 1.0"] == {"Client": side(None, 1), "Server": side(0, 1)}
        assert protocols["TLS 1.1"] == {"Client": side(None, None), "Server": side(0, 1)}
        assert on(protocols["TLS 1.2"])

    def test_exchange_2019_cu11_was_read_without_rights(self) -> None:
        content = document(load("exchange-2019-cu11-on-2019"), NOW)
        servicing = content["sections"]["servicing"]

        assert content["elevated"] is False
        assert servicing["items"] == {}
        assert servicing["errors"]["packages"]["kind"] == "access_denied"
        assert on(content["sections"]["schannel"]["items"]["protocols"]["TLS 1.3"])
        assert switch_views(sections("exchange-2019-cu11-on-2019")) == {"native": [1, None], "wow": [1, None]}

    def test_exchange_2019_cu15_is_ready(self) -> None:
        items = sections("exchange-2019-cu15-on-2022", usage_megabytes=1)
        protocols = items["schannel"]["protocols"]

        assert on(protocols["TLS 1.2"])
        assert off(protocols["TLS 1.0"])
        assert off(protocols["TLS 1.1"])
        assert protocols["TLS 1.3"] == {"Client": side(None, None), "Server": side(None, None)}
        assert switch_views(items) == {"native": [1, 1], "wow": [1, 1]}
        assert items["schannel"]["renegotiation"] == {
            "AllowInsecureRenegoClients": dword(0),
            "AllowInsecureRenegoServers": dword(0),
        }
        assert items["schannel"]["key_exchange"]["Diffie-Hellman"]["ServerMinKeyBitLength"] == dword(2048)
        assert items["usage"]["receive"]["sessions"] == {"TLS1_2": 1}
        assert items["reboot"]["cbs"] is items["reboot"]["windows_update"] is items["reboot"]["file_rename"] is False

    def test_a_role_without_a_version_is_none(self) -> None:
        """Nor is AdminTools, which has one."""
        machine = load("exchange-2019-cu15-on-2022")
        found = Registry(machine.registry).subkeys(r"SOFTWARE\Microsoft\ExchangeServer\v15")

        assert {"AdminTools", "UnifiedMessagingRole"} <= {*found}
        assert sections(machine.name)["exchange"]["roles"] == [
            "CafeRole",
            "ClientAccessRole",
            "FrontendTransportRole",
            "HubTransportRole",
            "MailboxRole",
        ]

    def test_exchange_se_has_its_suites_from_a_policy(self) -> None:
        items = sections("exchange-se-on-2025", pending_updates=True)

        assert items["windows"]["installation_type"] == {"type": "REG_SZ", "value": "Server Core"}
        assert items["cipher_suites"]["policy"]["type"] == "REG_SZ"
        assert items["cipher_suites"]["policy"]["value"].split(",")[0] == "TLS_AES_256_GCM_SHA384"
        assert items["cipher_suites"]["curves_policy"]["value"] == ["NistP384", "NistP256"]
        assert [each["kb"] for each in items["pending_updates"]["list"]] == [["KB5068861"], ["KB2267602"]]

    def test_the_edge_is_an_edge_that_nobody_looks_after(self) -> None:
        items = sections("edge-2016-cu22-on-2016", usage_megabytes=1)
        (own,) = store(items)
        algorithm = own.signature_hash_algorithm

        assert items["exchange"]["roles"] == ["EdgeTransportRole"]
        assert items["certificates"]["bindings"] == []
        assert algorithm is not None
        assert algorithm.name == "sha1"
        assert own.not_valid_after_utc - NOW < timedelta(days=17)
        assert items["security"]["fips"] == dword(1)
        assert items["reboot"]["windows_update"] is True
        assert items["usage"]["receive"]["sessions"] == {"TLS1_0": 1}

    def test_the_domain_controller_has_no_exchange(self) -> None:
        """A key without MsiInstallPath is none."""
        machine = load("domain-controller-on-2008-r2")
        items = sections(machine.name)

        assert Registry(machine.registry).exists(r"SOFTWARE\Microsoft\ExchangeServer\v15\Setup")
        assert items["exchange"] == {"version_key": None, "install_path": None, "exsetup": None, "roles": []}
        assert items["windows"]["product_type"] == 2
        assert items["schannel"]["protocols"]["TLS 1.2"] == {"Client": side(None, None), "Server": side(None, None)}

    @pytest.mark.parametrize(("soft", "hard"), [(False, False), (True, False), (False, True)])
    def test_configuration_manager_s_client_has_a_say_where_it_is(self, soft: bool, hard: bool) -> None:  # noqa: FBT001
        """No machine that is shipped has one."""
        machine = load("exchange-se-on-2025")
        client = [{"RebootPending": soft, "IsHardRebootPending": hard}]
        managed = replace(machine, wmi={**machine.wmi, "CCM_ClientUtilities": client})

        assert document(managed, NOW)["sections"]["reboot"]["items"]["sccm"] is (soft or hard)
        assert document(machine, NOW)["sections"]["reboot"]["items"]["sccm"] is None
