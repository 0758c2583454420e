"""What each item of the document becomes; and that an item which is missing or wrong costs itself alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from itertools import cycle, islice, zip_longest
from pathlib import Path as File
from typing import Any

import pytest
from documents import (
    AT,
    DENIED,
    SERVER,
    THUMBPRINT,
    Path,
    at,
    base_document,
    below,
    changed,
    changed_in,
    dword,
    facts_of,
    flat,
    others,
    paths,
    read,
    removed,
    value,
    without_lines,
)
from jsonschema import Draft202012Validator

from exporter.demo import machines
from exporter.demo.machines.document import document as document_of
from exporter.facts import Known, Missing, Peer, Protocol, Reason, Side, View
from exporter.probes import winrm

SCHEMA = json.loads((File(winrm.__file__).parent / "document.schema.json").read_text(encoding="utf-8"))
BASE = base_document()
BEFORE = flat(read(BASE))
SECTIONS = tuple(SCHEMA["properties"]["sections"]["properties"])
ITEMS = [
    (section, item)
    for section, each in SCHEMA["properties"]["sections"]["properties"].items()
    for item in each["properties"]["items"]["properties"]
]
SCHANNEL = BASE["sections"]["schannel"]["items"]

JUNK: dict[str, Any] = {
    "null": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "a fraction": 1.5,
    "over 32 bits": 2**32,
    "over 64 bits": 2**70,
    "no text": "",
    "a text": "x",
    "an empty array": [],
    "an empty object": {},
    "arrays in arrays": [[]],
    "objects in objects": {"x": {"y": [None, {"z": 0}]}},
    "not a number": float("nan"),
    "a REG_DWORD": dword(1),
    "a REG_DWORD over 32 bits": dword(2**32),
    "a REG_SZ": value("REG_SZ", "1"),
    "a REG_MULTI_SZ": value("REG_MULTI_SZ", ["1"]),
    "a REG_MULTI_SZ of another type": value("REG_MULTI_SZ", "1"),
    "a REG_BINARY": value("REG_BINARY", "AQ=="),
    "a REG_QWORD": value("REG_QWORD", 1),
    "a registry type that is none of the script's": value("REG_LINK", None),
    "a registry value without its type": {"value": 1},
    "any other registry type": value("other", None),
}


@cache
def _validator(path: Path) -> tuple[Draft202012Validator, int]:
    """The part of the schema that is about a place, and how much of its path that knows by name."""
    part, known = SCHEMA, 0
    while known < len(path) and path[known] in part.get("properties", {}):
        part, known = part["properties"][path[known]], known + 1
    return Draft202012Validator({**part, "$defs": SCHEMA["$defs"]}), known


def _valid(document: Any, path: Path) -> bool:
    """Whether the schema takes the document; only what may be wrong is looked at, the rest is as it was."""
    validator, known = _validator(path)
    return validator.is_valid(at(document, path[:known]))


def _unread(path: Path) -> bool:
    """Places that the schema describes and whose facts are not missing whatever is there.

    How long it took, the path of a file, how many log files were read; the build, where the version is known; and what
    is wrong with the reason why something is missing: it is missing all the same.
    """
    spare = path[-1] in {"milliseconds", "path"} or path[-2:] == ("receive", "files") or path[-2:] == ("send", "files")
    return spare or path[2:3] == ("errors",) or path[1:4:2] == ("windows", "build") or _stands_in(path)


def _stands_in(path: Path) -> bool:
    """A binding has two names, one of which is enough; and an update may always be without a date."""
    return path[3:] == ("bindings", 1, "binding") or bool(
        {"HostnamePort", "InstallTimeHigh", "InstallTimeLow"} & {*path}
    )


def _stricter(path: Path, junk: Any) -> bool:
    """What the schema takes and the reader does not, on purpose.

    JSON Schema does not look into base64; and it has no bounds for counts, where no number of ours is longer than a
    REG_QWORD.
    """
    base64 = path[3:4] == ("my",) or path[-2:] == ("SslCertHash", "value")
    return base64 or junk == JUNK["over 64 bits"]


def _differences(missing: dict[Path, Missing], document: Any, path: Path, junk: Any) -> list[str]:
    """Where schema and reader do not say the same about the junk in that place."""
    reasons = {leaf.reason for leaf in below(missing, facts_of(path)).values()}
    if not _valid(document, path):
        seen = reasons & {Reason.BAD_DOCUMENT, Reason.WRONG_REGISTRY_TYPE, Reason.NOT_COLLECTED}
        return [] if seen or _unread(path) else [f"{path}: {junk!r} passes the reader alone"]
    stopped = Reason.BAD_DOCUMENT in reasons and not _stricter(path, junk)
    return [f"{path}: {junk!r} passes the schema alone"] if stopped else []


def _changes(document: Any, skipped: Iterable[str]) -> list[list[Path]]:
    """Each place below ``sections`` once, those of different sections together."""
    by_section: dict[Any, list[Path]] = {}
    for path in paths(document):
        if path[0:1] == ("sections",) and len(path) > 1 and not {*path} & {*skipped}:
            by_section.setdefault(path[1], []).append(path)
    return [[path for path in places if path is not None] for places in zip_longest(*by_section.values())]


ALIKE = ("SSL 2.0", "SSL 3.0", "TLS 1.1", "TLS 1.2", "TLS 1.3", "DTLS 1.0")
"""Versions that are told just as TLS 1.0 and DTLS 1.2 are."""


@pytest.mark.parametrize("kind", JUNK)
def test_reader_and_schema_agree(kind: str) -> None:
    """Junk in any place: what the schema refuses costs a fact of that place, what it takes costs none; no others.

    An object without its keys is one whose items are not in the document.
    """
    assert _all_differences(BASE, JUNK[kind], _changes(BASE, ALIKE)) == []


@pytest.mark.parametrize("first", [0, 8, 16])
def test_reader_and_schema_agree_about_a_machine(first: int) -> None:
    """The same for a document of the demonstration; the kinds of junk in turn, in three different orders."""
    machine = machines.load("exchange-2016-cu23-on-2016")
    moment = datetime(2026, 11, 22, 8, tzinfo=UTC)
    document = document_of(machine, moment, pending_updates=True, usage_megabytes=64)
    document = changed(document, ("sections", "windows", "items", "build"), None)  # or it stood in for the version
    junk = islice(cycle(JUNK.values()), first, None)

    found = [_all_differences(document, next(junk), [places], machine.fqdn) for places in _changes(document, ALIKE)]

    assert [difference for each in found for difference in each] == []


def _all_differences(document: Any, junk: Any, changes: list[list[Path]], server: str = SERVER) -> list[str]:
    before = flat(read(document, server))
    found = []
    for places in changes:
        with_junk = changed_in(document, places, junk)
        after = flat(read(with_junk, server))
        touched = {fact for path in places for fact in facts_of(path)}
        assert others(after, touched) == others(before, touched), places
        missing = {path: leaf for path, leaf in after.items() if isinstance(leaf, Missing)}
        found += [difference for path in places for difference in _differences(missing, with_junk, path, junk)]
    return found


FULL = changed(changed(BASE, ("sections", "reboot", "items", "sccm"), new=False), ("sections", "reboot", "errors"), {})
"""The same where nothing failed."""
ALL_FACTS = flat(read(FULL))
KINDS = {
    "access_denied": Reason.ACCESS_DENIED,
    "redirected": Reason.REDIRECTED,
    "error": Reason.SCRIPT_ERROR,
    "a kind of tomorrow": Reason.SCRIPT_ERROR,
}


def _item(section: str, item: str) -> Path:
    return ("sections", section, "items", item)


def _failed(section: str, item: str, error: Any, name: str = "") -> Any:
    """The document with an item that could not be read, and why, under its own name or another."""
    without = removed(FULL, _item(section, item))
    return changed(without, ("sections", section, "errors", name or item), error)


def _missing(document: Any, places: Iterable[Path]) -> dict[Path, Missing]:
    """The facts that are missing in these places, none else having changed."""
    return _found(document, places)


def _found(document: Any, places: Iterable[Path]) -> dict[Path, Any]:
    """The facts in these places, none else having changed."""
    facts = flat(read(document))
    places = {*places}
    assert others(facts, places) == others(ALL_FACTS, places)
    return below(facts, places)


class TestItemsAlone:
    @pytest.mark.parametrize(("section", "item"), ITEMS)
    def test_an_item_that_is_not_there(self, section: str, item: str) -> None:
        """Exactly its facts are missing."""
        places = facts_of(_item(section, item))

        missing = _missing(removed(FULL, _item(section, item)), places)

        assert {place: each.reason for place, each in missing.items()} == dict.fromkeys(places, Reason.NOT_COLLECTED)
        assert all(f"{section}.{item}" in each.detail for each in missing.values())

    @pytest.mark.parametrize(("section", "item"), ITEMS)
    def test_an_item_that_could_not_be_read(self, section: str, item: str) -> None:
        """The script's reason is the facts', by its kind; and its message is in the detail."""
        places = facts_of(_item(section, item))
        for kind, reason in KINDS.items():
            missing = _missing(_failed(section, item, DENIED | {"kind": kind}), places)

            assert missing == dict.fromkeys(places, Missing(reason, f"{section}.{item}: Requested access denied."))

    @pytest.mark.parametrize(("section", "item"), ITEMS)
    def test_a_section_that_ended_before_an_item(self, section: str, item: str) -> None:
        """The reason under the asterisk is for what is neither under items nor under errors."""
        places = facts_of(_item(section, item))

        missing = _missing(_failed(section, item, DENIED, "*"), places)

        assert missing == dict.fromkeys(places, Missing(Reason.ACCESS_DENIED, f"{section}: Requested access denied."))

    @pytest.mark.parametrize("section", SECTIONS)
    def test_a_section_that_is_not_there(self, section: str) -> None:
        """Exactly its facts are missing."""
        places = facts_of(("sections", section))

        missing = _missing(removed(FULL, ("sections", section)), places)

        assert {place: each.reason for place, each in missing.items()} == dict.fromkeys(places, Reason.NOT_COLLECTED)

    @pytest.mark.parametrize("section", SECTIONS)
    def test_a_section_that_failed_as_a_whole(self, section: str) -> None:
        """As in a redirected process."""
        places = facts_of(("sections", section))
        failed = {"items": {}, "errors": {"*": DENIED | {"kind": "redirected"}}, "milliseconds": 0}

        missing = _missing(changed(FULL, ("sections", section), failed), places)

        assert missing == dict.fromkeys(places, Missing(Reason.REDIRECTED, f"{section}: Requested access denied."))

    @pytest.mark.parametrize("protocol", SCHANNEL["protocols"])
    @pytest.mark.parametrize("side", ["Client", "Server"])
    @pytest.mark.parametrize("name", ["Enabled", "DisabledByDefault"])
    def test_a_protocol_value_of_another_type(self, protocol: str, side: str, name: str) -> None:
        """All versions are told alike: a REG_SZ costs that value."""
        path = (*_item("schannel", "protocols"), protocol, side, name)

        missing = _missing(changed(FULL, path, value("REG_SZ", "0")), facts_of(path))

        told = f"schannel.protocols.{protocol}.{side}.{name}: REG_SZ '0' where a REG_DWORD belongs"
        assert [*missing.values()] == [Missing(Reason.WRONG_REGISTRY_TYPE, told)]

    def test_what_is_both_read_and_failed_has_failed(self) -> None:
        """A document that contradicts itself proves nothing."""
        document = changed(FULL, ("sections", "security", "errors"), {"fips": DENIED})

        assert _missing(document, [("fips",)])["fips",].reason is Reason.ACCESS_DENIED

    @pytest.mark.parametrize("error", [None, "denied", [], {}, {"kind": 5, "message": ["x"]}])
    def test_a_failure_that_does_not_say_why(self, error: Any) -> None:
        """It is one all the same."""
        missing = _missing(_failed("security", "fips", error), [("fips",)])

        told = "security.fips: the document does not say why"
        assert missing["fips",] == Missing(Reason.SCRIPT_ERROR, told)

    @pytest.mark.parametrize("errors", [None, True, 0, "x", [], [DENIED], float("nan")])
    def test_failures_that_are_no_object(self, errors: Any) -> None:
        """Whether an item that is absent failed cannot be known then; those that are there stay known."""
        path = ("sections", "security", "errors")

        assert _found(changed(FULL, path, errors), ()) == {}
        without = changed(removed(FULL, _item("security", "fips")), path, errors)
        missing = _missing(without, [("fips",)])["fips",]
        assert missing.reason is Reason.BAD_DOCUMENT
        assert missing.detail.startswith("security.errors: ")
        assert missing.detail.endswith(" where an object belongs")

    def test_a_section_without_failures(self) -> None:
        """Then nothing failed: an absent item was not looked at."""
        document = removed(removed(FULL, _item("security", "fips")), ("sections", "security", "errors"))

        missing = _missing(document, [("fips",)])
        assert missing["fips",] == Missing(Reason.NOT_COLLECTED, "security.fips is not in the document")

    def test_what_is_new_is_ignored(self) -> None:
        """Tomorrow's script may say more, in any object but those whose keys are names of something."""
        named = {"ciphers", "hashes", "key_exchange", "sessions", "errors"}
        grown = FULL
        for path in paths(FULL):
            if isinstance(at(FULL, path), dict) and (not path or path[-1] not in named):
                grown = changed(grown, (*path, "new"), {"type": "REG_DWORD", "value": "x"})

        assert flat(read(grown)) == ALL_FACTS


MEANINGS: list[tuple[Path, Any]] = [
    (("name",), "EXCH01"),
    (("fqdn",), "exch01.contoso.test"),
    (("script_version",), "1.0.0"),
    (("elevated",), True),
    (("windows", "last_boot"), datetime(2026, 11, 10, 2, 17, 43, tzinfo=UTC).timestamp()),
    (("windows", "ubr"), 5850),
    (("windows", "installation_type"), "Server"),
    (("exchange", "build", 3), 39),
    (("dotnet", "v35_installed"), True),
    (("dotnet", "v35_version"), "3.5.30729.4926"),
    (("dotnet", "system_dll", "native", 3), 9031),
    (("dotnet", "system_dll", "wow"), None),
    (("dotnet", "switches", "v2.0.50727", "wow", "system_default_tls_versions"), 1),
    (("dotnet", "switches", "v4.0.30319", "wow", "system_default_tls_versions"), None),
    (("hotfixes", 0, "installed_on"), datetime(2025, 10, 14, tzinfo=UTC).timestamp()),
    (("hotfixes", 1, "installed_on"), None),
    (("hotfixes", 1, "text"), "13/6/2016"),
    (("hotfixes", 2, "text"), ""),
    (("packages", 0, "state"), 0x70),
    (("packages", 1, "state"), None),
    (("packages", 1, "installed_at"), None),
    (("reboot", "update_exe"), True),
    (("schannel", "protocols", "TLS 1.0", "client", "enabled"), None),
    (("schannel", "protocols", "TLS 1.0", "server", "enabled"), 0),
    (("schannel", "protocols", "TLS 1.1", "client", "enabled"), 0xFFFFFFFF),
    (("schannel", "key_exchange", "Diffie-Hellman", "client_min_bits"), 2048),
    (("schannel", "key_exchange", "Diffie-Hellman", "server_min_bits"), 1024),
    (("schannel", "insecure_renegotiation", "server"), 0),
    (("schannel", "insecure_renegotiation", "client"), None),
    (("cipher_suites", "policy", 1), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (("curves", "local", 0), "curve25519"),
    (("signature_algorithms", "local", 0), "RSA/SHA512"),
    (("winhttp", "native"), 0xA80),
    (("winhttp", "wow"), 0x800),
    (("certificates", 0, "thumbprint"), THUMBPRINT),
    (("certificates", 0, "certificate", "names", 1), "mail.contoso.test"),
    (("bindings", 0, "name"), "0.0.0.0:443"),
    (("bindings", 0, "thumbprint"), THUMBPRINT),
    (("bindings", 1, "name"), "mail.contoso.test:443"),
    (("bindings", 0, "store"), "My"),
    (("bindings", 1, "thumbprint"), None),
    (("bindings", 1, "store"), None),
    (("remote_desktop", "thumbprint"), None),
    (("remote_desktop", "security_layer"), 2),
    (("remote_desktop", "min_encryption_level"), 3),
    (("smtp", "server", "sessions", "TLS 1.2"), 1999),
    (("smtp", "server", "others", "12288"), 4),
    (("smtp", "server", "since"), datetime(2026, 11, 20, 0, 0, 0, 123_000, tzinfo=UTC).timestamp()),
    (("smtp", "server", "truncated"), True),
    (("smtp", "server", "folders", 1), r"C:\Logs\Hub\ProtocolLog\SmtpReceive"),
    (("smtp", "client", "sessions", "TLS 1.3"), 12),
    (("smtp", "client", "until"), datetime(2026, 11, 22, 7, 30, 0, 456_000, tzinfo=UTC).timestamp()),
]


class TestMeaning:
    @pytest.mark.parametrize(("path", "fact"), MEANINGS)
    def test_of_a_full_document(self, path: Path, fact: Any) -> None:
        """What needs more than copying."""
        assert ALL_FACTS[path] == fact
        assert type(ALL_FACTS[path]) is type(fact)

    def test_every_fact_is_of_the_documents_time(self) -> None:
        """By the host's own clock."""
        host = read(FULL)

        assert host.collected_at == AT
        assert host.windows.caption == Known("Microsoft Windows Server 2016 Standard", AT)
        assert host.schannel.ciphers == Known({"RC4 128/128": Known(0, AT), "Triple DES 168": Known(None, AT)}, AT)
        assert isinstance(host.certificates, Known)
        assert host.certificates.at == host.certificates.value[0].certificate.at == AT  # type: ignore[union-attr]

    def test_without_exchange(self) -> None:
        """That is known, and so is that it has no build and no folder."""
        items: dict[str, Any] = {"version_key": None, "install_path": None, "exsetup": None, "roles": []}

        exchange = read(changed(FULL, ("sections", "exchange", "items"), items)).exchange

        assert exchange.installed == Known(value=False, at=AT)
        assert exchange.build == exchange.folder == Known(None, AT)
        assert exchange.roles == Known((), AT)

    @pytest.mark.parametrize("exsetup", [None, "x", {"path": "x", "version": "0.0.0.0"}, {"version": "15.1.2507.39"}])
    def test_without_exchange_a_file_says_nothing(self, exsetup: Any) -> None:
        """No Exchange has no build, whatever was left behind, or could not be read."""
        document = changed(FULL, _item("exchange", "version_key"), None)
        denied = changed(_failed("exchange", "exsetup", DENIED), _item("exchange", "version_key"), None)

        assert read(changed(document, _item("exchange", "exsetup"), exsetup)).exchange.build == Known(None, AT)
        assert read(denied).exchange.build == Known(None, AT)
        assert read(removed(document, _item("exchange", "exsetup"))).exchange.build == Known(None, AT)

    @pytest.mark.parametrize("key", ["", "V15", "v15 ", "v16", "v8", 15, False])
    def test_an_exchange_of_another_kind(self, key: Any) -> None:
        """Neither installed nor not."""
        places = facts_of(_item("exchange", "version_key"))

        missing = _missing(changed(FULL, _item("exchange", "version_key"), key), places)

        assert {each.reason for each in missing.values()} == {Reason.BAD_DOCUMENT}
        assert [*missing] == [*places]

    @pytest.mark.parametrize("key", ["v15", "v14"])
    def test_exchanges_that_we_know(self, key: str) -> None:
        """2013 and newer, and 2010."""
        exchange = read(changed(FULL, _item("exchange", "version_key"), key)).exchange

        assert exchange.installed == Known(value=True, at=AT)
        assert exchange.build == Known((15, 1, 2507, 39), AT)

    @pytest.mark.parametrize("kind", [1, 2, 3])
    def test_product_types(self, kind: int) -> None:
        """Workstation, domain controller, server."""
        assert read(changed(FULL, _item("windows", "product_type"), kind)).windows.product_type == Known(kind, AT)

    @pytest.mark.parametrize("kind", [0, 4, True, 3.0, "3"])
    def test_product_types_that_there_are_not(self, kind: Any) -> None:
        """True is no 1, and a fraction no whole number."""
        fact = read(changed(FULL, _item("windows", "product_type"), kind)).windows.product_type

        assert isinstance(fact, Missing)
        assert fact.reason is Reason.BAD_DOCUMENT
        assert fact.detail.startswith("windows.product_type: ")

    @pytest.mark.parametrize("version", ["0.0.0.0", "00.0.0.0", "10.0.14393", "10.0.14393.0.0", "10.0.14393.x"])
    def test_file_versions_that_are_none(self, version: str) -> None:
        """0.0.0.0 is what .NET says of a file that it cannot read: not an old file. The schema says the same."""
        for path in (_item("exchange", "exsetup"), _item("files", "schannel.dll")):
            document = changed(FULL, (*path, "version"), version)
            assert [each.reason for each in _missing(document, facts_of(path)).values()] == [Reason.BAD_DOCUMENT]
            assert not _valid(document, path)

    @pytest.mark.parametrize("version", ["0.0.0.1", "10.0.0.0", "6.1.7601.23915"])
    def test_file_versions(self, version: str) -> None:
        """Zeros among others are numbers."""
        path = _item("files", "schannel.dll")
        document = changed(FULL, (*path, "version"), version)

        assert read(document).files["schannel.dll"] == Known(tuple(map(int, version.split("."))), AT)
        assert _valid(document, path)

    def test_arrays_that_are_too_long(self) -> None:
        """No host has that much of anything: it costs the item, and never a report of that length."""
        path = _item("exchange", "roles")

        assert read(changed(FULL, path, ["x"] * 10_000)).exchange.roles == Known(("x",) * 10_000, AT)
        missing = _missing(changed(FULL, path, ["x"] * 10_001), [("exchange", "roles")])
        told = "exchange.roles: an array where an array of at most 10000 belongs"
        assert missing == {("exchange", "roles"): Missing(Reason.BAD_DOCUMENT, told)}

    def test_an_exchange_without_its_file(self) -> None:
        """Its build is not known, which is something else than no Exchange."""
        exchange = read(changed(FULL, _item("exchange", "exsetup"), None)).exchange

        told = "exchange: v15 is installed, but has no ExSetup.exe"
        assert exchange.installed == Known(value=True, at=AT)
        assert exchange.build == Missing(Reason.NOT_COLLECTED, told)

    @pytest.mark.parametrize(("flags", "pending"), [(None, False), (0, False), (1, True), (3, True), (2**32 - 1, True)])
    def test_flags_of_update_exe(self, flags: int | None, pending: bool) -> None:  # noqa: FBT001
        """Any but 0 await a restart."""
        document = changed(FULL, _item("reboot", "update_exe"), None if flags is None else dword(flags))

        assert read(document).reboot["update_exe"] == Known(pending, AT)

    @pytest.mark.parametrize(("install", "installed"), [(None, False), (0, False), (1, True)])
    def test_whether_dotnet_35_is_installed(self, install: int | None, installed: bool) -> None:  # noqa: FBT001
        """By Install alone; what is not there is not installed."""
        document = changed(FULL, (*_item("dotnet", "v35"), "Install"), None if install is None else dword(install))

        assert read(document).dotnet.v35_installed == Known(installed, AT)

    @pytest.mark.parametrize("data", ["", "AAAA", "MAA="])
    def test_a_certificate_that_is_none(self, data: str) -> None:
        """It costs itself: its thumbprint and the next one are there."""
        document = changed(FULL, _item("certificates", "my"), [data, *at(FULL, _item("certificates", "my"))])

        broken, good = read(document).certificates.value

        assert isinstance(broken.certificate, Missing)
        assert broken.certificate.reason is Reason.BAD_DOCUMENT
        assert len(broken.thumbprint) == 40
        assert good == read(FULL).certificates.value[0]

    def test_sessions_by_the_logs_own_words(self) -> None:
        """What has no name here stays what the log says, in sessions as in peers."""
        tokens = {"SSL2": 1, "SSL3": 2, "TLS1_0": 3, "TLS1_1": 4, "TLS1_2": 5, "TLS1_3": 6, "TLS1_4": 7, "12288": 8}
        peers = [{"protocol": token, "address": "192.0.2.1", "sessions": 1} for token in ("SSL3", "12288")]
        document = changed(FULL, (*_item("usage", "send"), "sessions"), tokens)
        document = changed(document, (*_item("usage", "send"), "peers"), peers)

        usage = read(document).smtp[Side.CLIENT].value

        assert usage.sessions == dict(zip(Protocol, range(1, 7), strict=True))
        assert usage.others == {"TLS1_4": 7, "12288": 8}
        assert usage.peers == (Peer("SSL 3.0", "192.0.2.1", 1), Peer("12288", "192.0.2.1", 1))

    @pytest.mark.parametrize(
        ("protocol", "token", "server", "client"),
        [
            ("SSL 2.0", "SSL2", 0x4, 0x8),
            ("SSL 3.0", "SSL3", 0x10, 0x20),
            ("TLS 1.0", "TLS1_0", 0x40, 0x80),
            ("TLS 1.1", "TLS1_1", 0x100, 0x200),
            ("TLS 1.2", "TLS1_2", 0x400, 0x800),
            ("TLS 1.3", "TLS1_3", 0x1000, 0x2000),
        ],
    )
    def test_sessions_by_schannels_numbers(self, protocol: str, token: str, server: int, client: int) -> None:
        """A log may write what its Exchange has no name for as a number: SP_PROT_…_SERVER, or …_CLIENT."""
        path = (*_item("usage", "receive"), "sessions")
        peer = {"protocol": str(server), "address": "192.0.2.1", "sessions": 1}
        document = changed(FULL, path, {token: 100, str(server): 20, str(client): 3, str(server + 1): 7})
        document = changed(document, (*_item("usage", "receive"), "peers"), [peer, peer | {"protocol": str(client)}])

        usage = read(document).smtp[Side.SERVER].value

        assert usage.sessions == {protocol: 123}
        assert usage.others == {str(server + 1): 7}
        assert {each.protocol for each in usage.peers} == {protocol}

    @pytest.mark.parametrize("side", ["receive", "send"])
    def test_logs_without_a_line(self, side: str) -> None:
        """They may be somewhere else, or switched off: never zero sessions."""
        path = _item("usage", side)

        missing = _missing(changed(FULL, path, without_lines(at(FULL, path))), facts_of(path))

        told = f"usage.{side}: no line in protocol logs where they usually are"
        assert [*missing.values()] == [Missing(Reason.NOT_COLLECTED, told)]

    def test_logs_with_lines_and_without_sessions(self) -> None:
        """That is known to be none."""
        document = changed(
            changed(FULL, (*_item("usage", "send"), "sessions"), {}), (*_item("usage", "send"), "peers"), []
        )

        usage = read(document).smtp[Side.CLIENT].value

        assert usage.sessions == usage.others == {}
        assert usage.peers == ()
        assert usage.since == datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()

    def test_wrong_logs_without_a_line(self) -> None:
        """What is wrong with them is said first."""
        path = _item("usage", "send")
        wrong = without_lines(at(FULL, path)) | {"bytes": -1}

        missing = _missing(changed(FULL, path, wrong), [("smtp", "client")])

        assert missing["smtp", "client"].reason is Reason.BAD_DOCUMENT

    @pytest.mark.parametrize("half", ["from", "until"])
    @pytest.mark.parametrize("time", ["", "x", "2026-11-22", "2026-11-22T08:00:00.123", "2026-11-22 08:00:00.123Z"])
    def test_times_of_logs_that_are_none(self, half: str, time: str) -> None:
        """To the schema as well."""
        path = (*_item("usage", "receive"), half)
        document = changed(FULL, path, time)

        assert _missing(document, facts_of(path))["smtp", "server"].reason is Reason.BAD_DOCUMENT
        assert not _valid(document, path)

    def test_a_wrong_name_of_a_key_counts_where_nothing_else_names_the_binding(self) -> None:
        """Bindings by address are called by their keys."""
        document = changed(FULL, (*_item("certificates", "bindings"), 0, "binding"), 443)

        assert _missing(document, [("bindings",)])["bindings",].reason is Reason.BAD_DOCUMENT

    def test_a_name_for_terminals(self) -> None:
        """Whoever may create a key under Ciphers may not write escape sequences to the report."""
        document = changed(FULL, (*_item("schannel", "ciphers"), "\x1b[2J\u202e"), dword(0))

        assert read(document).schannel.ciphers.value["\\x1b[2J\\x202e"] == Known(0, AT)


class TestRows:
    """One odd value of a row costs itself, and neither the row nor the list."""

    PACKAGE = (*_item("servicing", "packages"), 0)
    BINDING = (*_item("certificates", "bindings"), 0)

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ((*PACKAGE, "CurrentState"), "servicing.packages.CurrentState: REG_SZ '112' where a REG_DWORD belongs"),
            ((*BINDING, "SslCertHash"), "certificates.bindings.SslCertHash: REG_DWORD 1 where a REG_BINARY belongs"),
            (
                (*BINDING, "SslCertStoreName"),
                "certificates.bindings.SslCertStoreName: REG_DWORD 1 where a REG_SZ belongs",
            ),
        ],
    )
    def test_of_the_wrong_type(self, path: Path, told: str) -> None:
        """Its own fact says so."""
        odd = value("REG_SZ", "112") if path[-1] == "CurrentState" else dword(1)

        missing = _missing(changed(FULL, path, odd), facts_of(path))

        assert missing == dict.fromkeys(facts_of(path), Missing(Reason.WRONG_REGISTRY_TYPE, told))

    @pytest.mark.parametrize(
        "path", [(*PACKAGE, "CurrentState"), (*BINDING, "SslCertHash"), (*BINDING, "SslCertStoreName")]
    )
    def test_that_is_not_there(self, path: Path) -> None:
        """Nobody looked at it then; null is what says that there is no such value."""
        (place,) = facts_of(path)

        assert _missing(removed(FULL, path), [place])[place].reason is Reason.NOT_COLLECTED
        assert _found(changed(FULL, path, None), [place]) == {place: None}

    @pytest.mark.parametrize("half", ["InstallTimeHigh", "InstallTimeLow"])
    @pytest.mark.parametrize("odd", [None, "x", value("REG_SZ", "1"), dword(2**32)])
    def test_half_of_an_install_time(self, half: str, odd: Any) -> None:
        """The package has no date then, and is installed all the same."""
        path = (*self.PACKAGE, half)
        place = ("packages", 0, "installed_at")

        for document in (changed(FULL, path, odd), removed(FULL, path)):
            assert _found(document, [place]) == {place: None}
            assert read(document).packages.value[0].installed

    @pytest.mark.parametrize("odd", ["x", dword(443), value("REG_BINARY", "AQ==")])
    def test_a_binding_whose_host_cannot_be_read(self, odd: Any) -> None:
        """It has the name of its key."""
        path = (*_item("certificates", "bindings"), 1, "HostnamePort")

        assert _found(changed(FULL, path, odd), facts_of(path)) == {("bindings", 1, "name"): "c0ffee"}

    @pytest.mark.parametrize("path", [(*PACKAGE, "name"), (*BINDING, "binding"), PACKAGE, BINDING])
    def test_without_a_name(self, path: Path) -> None:
        """A row that is none costs the list: nobody knows what it would have been."""
        missing = _missing(changed(FULL, path, 5), facts_of(path))

        assert [each.reason for each in missing.values()] == [Reason.BAD_DOCUMENT]


class TestWindowsVersion:
    VERSION = _item("windows", "version")
    BUILD = _item("windows", "build")

    @pytest.mark.parametrize(
        ("build", "version"),
        [
            ("6001", (6, 0)),
            ("6003", (6, 0)),
            ("7599", (6, 0)),
            ("7600", (6, 1)),
            ("7601", (6, 1)),
            ("9199", (6, 1)),
            ("9200", (6, 2)),
            ("9600", (6, 3)),
            ("10239", (6, 3)),
            ("10240", (10, 0)),
            ("14393", (10, 0)),
            ("26100", (10, 0)),
        ],
    )
    def test_by_the_build(self, build: str, version: tuple[int, int]) -> None:
        """Where WMI does not answer, whatever the reason."""
        document = changed(FULL, self.BUILD, value("REG_SZ", build))
        denied = changed(document, ("sections", "windows", "errors"), {"version": DENIED})

        for without in (removed(document, self.VERSION), changed(document, self.VERSION, "x"), denied):
            assert read(without).windows.version == Known((*version, int(build)), AT)

    @pytest.mark.parametrize(
        "build",
        [
            None,
            "14393",
            14393,
            dword(14393),
            value("REG_MULTI_SZ", ["14393"]),
            *(
                value("REG_SZ", each)
                for each in ("", "x", "0", "6000", "-14393", "14393.5850", "1e4", "0x3839", "¹²³⁴⁵")
            ),
        ],
    )
    def test_by_a_build_that_is_none(self, build: Any) -> None:
        """What is missing is the version, for its own reason."""
        document = changed(_failed("windows", "version", DENIED), self.BUILD, build)

        missing = _missing(document, [("windows", "version")])

        told = Missing(Reason.ACCESS_DENIED, "windows.version: Requested access denied.")
        assert missing == {("windows", "version"): told}

    @pytest.mark.parametrize("build", ["9600", "20348", "x"])
    def test_is_wmis_where_it_answers(self, build: str) -> None:
        """Whatever the registry says."""
        assert _found(changed(FULL, self.BUILD, value("REG_SZ", build)), ()) == {}


class TestWindowsBuild:
    UBR = _item("windows", "ubr")

    def test_with_the_revision(self) -> None:
        """Where there is one."""
        assert read(FULL).windows.build == Known((10, 0, 14393, 5850), AT)

    @pytest.mark.parametrize(
        ("ubr", "reason"), [(value("REG_SZ", "5850"), Reason.WRONG_REGISTRY_TYPE), ("x", Reason.BAD_DOCUMENT)]
    )
    def test_with_a_revision_that_cannot_be_read(self, ubr: Any, reason: Reason) -> None:
        """A build without it would pass for the first of its line."""
        windows = read(changed(FULL, self.UBR, ubr)).windows

        assert isinstance(windows.build, Missing)
        assert windows.build.reason is reason
        assert windows.build == windows.ubr
        assert windows.version == Known((10, 0, 14393), AT)

    def test_without_a_revision(self) -> None:
        """Every Windows of that age has one: without it nobody knows the build."""
        told = Missing(Reason.NOT_COLLECTED, "windows.ubr: there is no such value")

        assert read(changed(FULL, self.UBR, None)).windows.build == told
        absent = read(removed(FULL, self.UBR)).windows.build
        assert absent == Missing(Reason.NOT_COLLECTED, "windows.ubr is not in the document")

    @pytest.mark.parametrize("ubr", [None, dword(20000), value("REG_SZ", "5850"), "x"])
    def test_of_an_old_windows(self, ubr: Any) -> None:
        """There the revision in the registry does not follow the updates, if there is one at all."""
        document = changed(changed(FULL, _item("windows", "version"), "6.3.9600"), self.UBR, ubr)

        assert read(document).windows.build == Known((6, 3, 9600), AT)

    def test_by_the_registry_alone(self) -> None:
        """Where WMI does not answer."""
        document = changed(
            removed(FULL, _item("windows", "version")), _item("windows", "build"), value("REG_SZ", "14393")
        )

        assert read(document).windows.build == Known((10, 0, 14393, 5850), AT)

    def test_without_the_version(self) -> None:
        """A revision alone says nothing."""
        build = read(removed(FULL, _item("windows", "version"))).windows.build

        assert isinstance(build, Missing)
        assert build.reason is Reason.NOT_COLLECTED


class TestNewestUpdate:
    PACKAGES = _item("servicing", "packages")
    HOTFIXES = _item("hotfixes", "list")
    HOTFIX_DAY = datetime(2025, 10, 14, tzinfo=UTC).timestamp()

    def test_is_the_newest_of_both_lists(self) -> None:
        """Here a package, which has the time of the day as well."""
        host = read(FULL)

        assert host.newest_update == Known(host.packages.value[0].installed_at, AT)
        assert host.newest_update.value > self.HOTFIX_DAY

    @pytest.mark.parametrize("packages", [[], "x"])
    def test_does_without_packages(self, packages: Any) -> None:
        """They are for administrators."""
        assert read(changed(FULL, self.PACKAGES, packages)).newest_update == Known(self.HOTFIX_DAY, AT)

    def test_is_missing_without_hotfixes(self) -> None:
        """For the same reason."""
        document = _failed("hotfixes", "list", DENIED)

        assert read(document).newest_update == Missing(Reason.ACCESS_DENIED, "hotfixes.list: Requested access denied.")

    def test_is_missing_without_dates(self) -> None:
        """Updates that do not say when are no time at all."""
        document = changed(changed(FULL, self.PACKAGES, []), self.HOTFIXES, at(FULL, self.HOTFIXES)[1:])

        newest = read(document).newest_update

        assert isinstance(newest, Missing)
        assert newest.reason is Reason.NOT_COLLECTED

    @pytest.mark.parametrize("state", [0x50, 0x70, 0x80])
    def test_counts_packages_that_are_installed(self, state: int) -> None:
        """A superseded one was installed that day; a permanent one is."""
        host = read(changed(FULL, (*self.PACKAGES, 0, "CurrentState"), dword(state)))

        assert host.packages.value[0].installed
        assert host.newest_update == Known(host.packages.value[0].installed_at, AT)

    @pytest.mark.parametrize("state", [None, dword(0), dword(0x40), dword(0x60), dword(0x71), dword(2**32 - 1), "x"])
    def test_does_not_count_packages_that_are_not(self, state: Any) -> None:
        """Staged, on its way, uninstalled, or nobody knows: it has a date all the same."""
        host = read(changed(FULL, (*self.PACKAGES, 0, "CurrentState"), state))

        assert not host.packages.value[0].installed
        assert host.packages.value[0].installed_at is not None
        assert host.newest_update == Known(self.HOTFIX_DAY, AT)


class TestEveryUpdateDated:
    PACKAGES = _item("servicing", "packages")
    HOTFIXES = _item("hotfixes", "list")
    DATED = changed(FULL, HOTFIXES, at(FULL, HOTFIXES)[:1])

    def test_where_every_update_has_a_date(self) -> None:
        """A package that is not installed needs none."""
        assert read(self.DATED).packages.value[1].installed_at is None
        assert read(self.DATED).every_update_dated

    def test_without_the_date_of_a_hotfix(self) -> None:
        """It may be the newest."""
        assert not read(FULL).every_update_dated

    def test_without_the_date_of_a_package(self) -> None:
        """Once it is installed."""
        assert not read(changed(self.DATED, (*self.PACKAGES, 1, "CurrentState"), dword(0x70))).every_update_dated

    @pytest.mark.parametrize("half", ["InstallTimeHigh", "InstallTimeLow"])
    def test_with_a_date_that_cannot_be_read(self, half: str) -> None:
        """It is none."""
        document = changed(self.DATED, (*self.PACKAGES, 0, half), value("REG_SZ", "1"))

        assert not read(document).every_update_dated

    def test_without_packages(self) -> None:
        """Win32_QuickFixEngineering does not list every update."""
        assert not read(changed(self.DATED, self.PACKAGES, "x")).every_update_dated
        assert read(changed(self.DATED, self.PACKAGES, [])).every_update_dated


class TestMissing:
    DENIED = Missing(Reason.ACCESS_DENIED, "reboot.sccm: Requested access denied.")

    def test_nothing(self) -> None:
        """Of a document that has everything."""
        assert read(FULL).missing == ()

    def test_what_could_not_be_read(self) -> None:
        """Here one item."""
        assert read(BASE).missing == (self.DENIED,)

    def test_each_once(self) -> None:
        """One reason of the script's costs many facts of a section."""
        failed = {"items": {}, "errors": {"*": DENIED}, "milliseconds": 0}

        missing = read(changed(FULL, ("sections", "schannel"), failed)).missing

        assert missing == (Missing(Reason.ACCESS_DENIED, "schannel: Requested access denied."),)

    def test_what_nobody_asked_for(self) -> None:
        """Sections that are for those who ask, and logs without a line."""
        document = removed(FULL, ("sections", "pending_updates"))
        document = changed(document, _item("usage", "send"), without_lines(at(FULL, _item("usage", "send"))))

        assert isinstance(read(document).pending_updates, Missing)
        assert read(document).missing == ()

    @pytest.mark.parametrize(
        ("path", "detail"),
        [
            (("elevated",), "elevated: "),
            (_item("windows", "last_boot"), "windows.last_boot: "),
            ((*_item("servicing", "packages"), 0, "CurrentState"), "servicing.packages.CurrentState: "),
            ((*_item("certificates", "bindings"), 0, "SslCertHash"), "certificates.bindings.SslCertHash: "),
            ((*_item("certificates", "my"), 0), "not a certificate: "),
            ((*_item("schannel", "ciphers"), "RC4 128/128"), "schannel.ciphers.RC4 128/128: "),
            ((*_item("schannel", "key_exchange"), "Diffie-Hellman", "Enabled"), "schannel.key_exchange."),
            ((*_item("dotnet", "switches"), "v2.0.50727", "wow", "SchUseStrongCrypto"), "dotnet.switches."),
            ((*_item("usage", "send"), "bytes"), "usage.send: "),
        ],
    )
    def test_wherever_it_is(self, path: Path, detail: str) -> None:
        """At the top, in a list, in a table within a table, and in a row of what is known."""
        (missing,) = read(changed(FULL, path, "AAAA")).missing

        assert missing.reason is Reason.BAD_DOCUMENT
        assert missing.detail.startswith(detail)

    def test_is_what_is_missing_in_a_host(self) -> None:
        """By another way to look for it."""
        for places in _changes(FULL, ALIKE):
            host = read(changed_in(FULL, places, JUNK["a REG_SZ"]))
            found = {leaf for leaf in flat(host).values() if isinstance(leaf, Missing)}
            assert {*host.missing} == {each for each in found if each.reason is not Reason.NOT_COLLECTED}
            assert len(host.missing) == len({*host.missing})


def _protocol_values(*protocols: str) -> list[Path]:
    return [
        (*_item("schannel", "protocols"), protocol, side, name)
        for protocol in protocols
        for side in ("Client", "Server")
        for name in ("Enabled", "DisabledByDefault")
    ]


def _switches(clr: str) -> list[Path]:
    names = ("SystemDefaultTlsVersions", "SchUseStrongCrypto")
    return [(*_item("dotnet", "switches"), clr, view, name) for view in View for name in names]


class TestSettingsDigest:
    COMPARED = (*_protocol_values("TLS 1.0", "TLS 1.1", "TLS 1.2"), *_switches("v4.0.30319"))
    NOT_COMPARED = (
        *_protocol_values("SSL 2.0", "SSL 3.0", "TLS 1.3", "DTLS 1.0", "DTLS 1.2"),
        *_switches("v2.0.50727"),
        _item("security", "fips"),
        _item("winhttp", "native"),
    )

    def test_is_sixteen_digits(self) -> None:
        """For a label."""
        digest = read(FULL).settings_digest

        assert isinstance(digest, Known)
        assert digest.at == AT
        assert len(digest.value) == 16
        assert int(digest.value, 16) >= 0

    def test_is_shared_by_servers_with_the_same_settings(self) -> None:
        """Whatever they are called and whenever that was."""
        document = changed(FULL, ("host",), {"name": "EXCH02", "fqdn": "exch02.contoso.test"})
        document = changed(document, ("collected_at",), "2026-11-23T08:00:00Z")

        assert read(document, "exch02.contoso.test").settings_digest.value == read(FULL).settings_digest.value

    @pytest.mark.parametrize("path", COMPARED)
    def test_differs_with_each_value(self, path: Path) -> None:
        """Nothing, 0, 1 and 0xFFFFFFFF are four things, though some of them mean the same."""
        settings = (None, dword(0), dword(1), dword(0xFFFFFFFF))

        assert len({read(changed(FULL, path, each)).settings_digest.value for each in settings}) == 4

    def test_knows_which_value_it_was(self) -> None:
        """The same change in different places makes different settings."""
        absent = FULL
        for path in self.COMPARED:
            absent = changed(absent, path, None)
        digests = {read(changed(absent, path, dword(1))).settings_digest.value for path in self.COMPARED}

        assert len(digests) == len(self.COMPARED)

    @pytest.mark.parametrize("path", NOT_COMPARED)
    def test_does_not_depend_on_anything_else(self, path: Path) -> None:
        """Not even where that cannot be read."""
        for each in (dword(7), value("REG_SZ", "1")):
            assert read(changed(FULL, path, each)).settings_digest == read(FULL).settings_digest

    @pytest.mark.parametrize("path", COMPARED)
    def test_is_missing_with_any_value(self, path: Path) -> None:
        """A guess must not make two servers the same."""
        digest = read(changed(FULL, path, value("REG_SZ", "1"))).settings_digest

        assert isinstance(digest, Missing)
        assert digest.reason is Reason.WRONG_REGISTRY_TYPE
