"""A document of the collector script, written by hand, and changes to it: tests of the reader need no writer."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from exporter.facts import HostFacts, Known, Missing
from exporter.probes.winrm.document import read_document

Path: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a place, in a document as in facts."""

SERVER = "exch01.contoso.test"
AT = datetime(2026, 11, 22, 8, tzinfo=UTC).timestamp()
BEGIN = "-----BEGIN TLS READINESS DOCUMENT-----"
END = "-----END TLS READINESS DOCUMENT-----"

CERTIFICATE = (
    "MIIBYTCCAQegAwIBAgICEmcwCgYIKoZIzj0EAwIwHjEcMBoGA1UEAwwTZXhjaDAxLmNvbnRvc28udGVzdDAeFw0yNTAzMDEwMDAw"
    "MDBaFw0zMDAzMDEwMDAwMDBaMB4xHDAaBgNVBAMME2V4Y2gwMS5jb250b3NvLnRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC"
    "AASLUqi7ojjSqaE0ebO25zNaGio/2xMhjfTCiM4MCyq/qZNePKTyknrOJxgzLUm3Jb/E02jSI5OcK4X3AtS3NrDIozUwMzAxBgNV"
    "HREEKjAoghNleGNoMDEuY29udG9zby50ZXN0ghFtYWlsLmNvbnRvc28udGVzdDAKBggqhkjOPQQDAgNIADBFAiAfQmU9Deu7huUp"
    "M6wtxDEXYg5AS1P14eXmpC/o/eoREQIhAM2MyulG4Dm7OS+DsNgi2XzNMFr/O0Ay5WIr6lQQQNqD"
)
"""Self-signed, EC P-256, valid from 2025-03-01 to 2030-03-01; its key was thrown away."""
THUMBPRINT = "4034f4528a8cfccb75ceaafcf4a1abe2e68f3c79"
_THUMBPRINT_BASE64 = "QDT0UoqM/Mt1zqr89KGr4uaPPHk="

DENIED = {"kind": "access_denied", "type": "System.Security.SecurityException", "message": "Requested access denied."}


def value(kind: str, data: Any) -> dict[str, Any]:
    """A registry value."""
    return {"type": kind, "value": data}


def dword(number: int) -> dict[str, Any]:
    """A REG_DWORD."""
    return value("REG_DWORD", number)


def base_document() -> dict[str, Any]:
    """What an Exchange 2016 might say, with all sections; one item could not be read. As much as possible differs."""
    document = {
        "schema_version": 1,
        "script_version": "1.0.0",
        "collected_at": "2026-11-22T08:00:00Z",
        "host": {"name": "EXCH01", "fqdn": "exch01.contoso.test"},
        "powershell": {"version": "5.1.14393.5582", "clr": "4.0.30319.42000", "bits": 64, "redirected": False},
        "elevated": True,
        "options": {"pending_updates": True, "usage_megabytes": 64},
        "sections": {name: _section(*parts) for name, parts in _sections().items()},
    }
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]  # nothing in it is in two places


def _section(items: dict[str, Any], errors: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"items": items, "errors": errors or {}, "milliseconds": 7}


def _sections() -> dict[str, tuple[Any, ...]]:
    return {
        "windows": (_windows(),),
        "exchange": (_exchange(),),
        "dotnet": (_dotnet(),),
        "hotfixes": (_hotfixes(),),
        "servicing": (_servicing(),),
        "files": (_files(),),
        "reboot": (
            {"cbs": False, "windows_update": True, "update_exe": dword(2), "file_rename": True},
            {"sccm": DENIED},
        ),
        "schannel": (_schannel(),),
        "cipher_suites": (_cipher_suites(),),
        "winhttp": ({"native": dword(0xA80), "wow": dword(0x800)},),
        "security": ({"fips": dword(0)},),
        "certificates": (_certificates(),),
        "usage": ({"receive": _receive(), "send": _send()},),
        "pending_updates": ({"list": [{"title": "2026-11 Cumulative Update", "kb": ["KB5099999"]}]},),
    }


def _windows() -> dict[str, Any]:
    return {
        "ubr": dword(5850),
        "installation_type": value("REG_SZ", "Server"),
        "caption": "Microsoft Windows Server 2016 Standard",
        "version": "10.0.14393",
        "service_pack": 0,
        "product_type": 3,
        "last_boot": "20261110031743.500000+060",
        "build": None,  # or it would stand in for a version that cannot be read
    }


def _exchange() -> dict[str, Any]:
    folder = r"C:\Program Files\Microsoft\Exchange Server\V15"
    return {
        "version_key": "v15",
        "install_path": folder,
        "exsetup": {"path": rf"{folder}\bin\ExSetup.exe", "version": "15.1.2507.39"},
        "roles": ["ClientAccessRole", "MailboxRole"],
    }


def _dotnet() -> dict[str, Any]:
    folder = r"C:\Windows\Microsoft.NET"
    return {
        "release": dword(528049),
        "v35": {"Install": dword(1), "SP": dword(1), "Version": value("REG_SZ", "3.5.30729.4926")},
        "clr2_system_dll": {
            "native": {"path": rf"{folder}\Framework64\v2.0.50727\System.dll", "version": "2.0.50727.9031"},
            "wow": None,
        },
        "switches": {
            "v2.0.50727": {"native": _switches(None, None), "wow": _switches(1, None)},
            "v4.0.30319": {"native": _switches(1, 1), "wow": _switches(None, 1)},
        },
    }


def _switches(system_default: int | None, strong: int | None) -> dict[str, Any]:
    names = {"SystemDefaultTlsVersions": system_default, "SchUseStrongCrypto": strong}
    return {name: None if number is None else dword(number) for name, number in names.items()}


def _hotfixes() -> dict[str, Any]:
    rows = {"KB5066136": "10/14/2025", "KB3161949": "13/6/2016", "KB4103720": None}
    return {"list": [{"id": name, "installed_on": date} for name, date in rows.items()]}


def _servicing() -> dict[str, Any]:
    package = {
        "name": "Package_for_RollupFix~31bf3856ad364e35~amd64~~14393.8519.1.16",
        "CurrentState": dword(0x70),
        "InstallTimeHigh": dword(31_210_752),
        "InstallTimeLow": dword(0),
    }
    bare = {"name": "Package_for_KB3161949~31bf3856ad364e35~amd64~~10.0.1.0"}
    return {"packages": [package, bare | dict.fromkeys(("CurrentState", "InstallTimeHigh", "InstallTimeLow"))]}


def _files() -> dict[str, Any]:
    names = ("ws2_32.dll", "schannel.dll", "winhttp.dll", "webio.dll")
    present = {
        name: {"path": rf"C:\Windows\System32\{name}", "version": f"10.0.14393.{number}"}
        for number, name in enumerate(names, 5850)
    }
    return {**present, "win32k.sys": None}


def _schannel() -> dict[str, Any]:
    off, on = {"Enabled": dword(0), "DisabledByDefault": dword(1)}, {"Enabled": dword(0xFFFFFFFF)}
    nothing: dict[str, Any] = {}
    told: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "SSL 2.0": ({"DisabledByDefault": dword(1)}, nothing),
        "SSL 3.0": (off, off),
        "TLS 1.0": (nothing, off),
        "TLS 1.1": (on, off),
        "TLS 1.2": (on | {"DisabledByDefault": dword(0)}, {"Enabled": dword(1), "DisabledByDefault": dword(0)}),
        "TLS 1.3": (nothing, nothing),
        "DTLS 1.0": (nothing, nothing),
        "DTLS 1.2": (nothing, {"Enabled": dword(1)}),
    }
    absent = dict.fromkeys(("Enabled", "DisabledByDefault"))
    bits = {"Enabled": None, "ClientMinKeyBitLength": dword(2048), "ServerMinKeyBitLength": dword(1024)}
    return {
        "protocols": {
            name: {"Client": absent | client, "Server": absent | server} for name, (client, server) in told.items()
        },
        "ciphers": {"RC4 128/128": dword(0), "Triple DES 168": None},
        "hashes": {"MD5": dword(0xFFFFFFFF)},
        "key_exchange": {"Diffie-Hellman": bits},
        "renegotiation": {"AllowInsecureRenegoClients": dword(0), "AllowInsecureRenegoServers": None},
    }


def _cipher_suites() -> dict[str, Any]:
    return {
        "policy": value("REG_SZ", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        "local": value("REG_MULTI_SZ", ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA"]),
        "curves_policy": None,
        "curves_local": value("REG_MULTI_SZ", ["curve25519", "NistP256"]),
        "signatures_policy": None,
        "signatures_local": value("REG_MULTI_SZ", ["RSA/SHA512", "ECDSA/SHA256"]),
    }


def _certificates() -> dict[str, Any]:
    used = {"SslCertHash": value("REG_BINARY", _THUMBPRINT_BASE64), "SslCertStoreName": value("REG_SZ", "My")}
    by_name = {"SslCertHash": None, "SslCertStoreName": None}
    return {
        "my": [CERTIFICATE],
        "bindings": [
            {"binding": "0.0.0.0:443", **used, "HostnamePort": None},
            {"binding": "c0ffee", **by_name, "HostnamePort": value("REG_SZ", "mail.contoso.test:443")},
        ],
        "rdp": {"SSLCertificateSHA1Hash": None, "SecurityLayer": dword(2), "MinEncryptionLevel": dword(3)},
    }


def _receive() -> dict[str, Any]:
    return {
        "directories": [r"C:\Logs\FrontEnd\ProtocolLog\SmtpReceive", r"C:\Logs\Hub\ProtocolLog\SmtpReceive"],
        "files": 5,
        "bytes": 1_234_567,
        "truncated": True,
        "from": "2026-11-20T00:00:00.123Z",
        "until": "2026-11-22T07:59:59.999Z",
        "sessions": {"TLS1_0": 3, "TLS1_2": 1999, "12288": 4},
        "peers": [
            {"protocol": "TLS1_2", "address": "192.0.2.25", "sessions": 1500},
            {"protocol": "12288", "address": "2001:db8::25", "sessions": 4},
        ],
    }


def _send() -> dict[str, Any]:
    return {
        "directories": [r"C:\Logs\Hub\ProtocolLog\SmtpSend"],
        "files": 1,
        "bytes": 4567,
        "truncated": False,
        "from": "2026-11-21T12:00:00.000Z",
        "until": "2026-11-22T07:30:00.456Z",
        "sessions": {"TLS1_3": 12},
        "peers": [],
    }


def without_lines(logs: dict[str, Any]) -> dict[str, Any]:
    """One side's logs where the script found no line."""
    nothing = {"directories": [], "files": 0, "bytes": 0, "truncated": False, "from": None, "until": None}
    return logs | nothing | {"sessions": {}, "peers": []}


def printed(document: Any) -> bytes:
    """The document as it stands between its two lines."""
    return framed(json.dumps(document))


def framed(text: str) -> bytes:
    """Any ASCII text between the two lines."""
    return f"{BEGIN}\r\n{text}\r\n{END}\r\n".encode("ascii")


# Changes. A path leads there; the document itself stays as it is.


def at(document: Any, path: Path) -> Any:
    """What is there."""
    for each in path:
        document = document[each]
    return document


def changed(document: Any, path: Path, new: Any) -> Any:
    """The same with something else in that place."""
    return changed_in(document, [path], new) if path else new


def changed_in(document: Any, places: Iterable[Path], new: Any) -> Any:
    """The same with something else in several places, none of which is inside another."""
    whole = copy.deepcopy(document)
    for path in places:
        at(whole, path[:-1])[path[-1]] = new
    return whole


def removed(document: Any, path: Path) -> Any:
    """The same without that."""
    whole = copy.deepcopy(document)
    del at(whole, path[:-1])[path[-1]]
    return whole


def paths(document: Any, before: Path = ()) -> Iterator[Path]:
    """All places in it, itself first."""
    yield before
    if isinstance(document, dict | list):
        for each in document if isinstance(document, dict) else range(len(document)):
            yield from paths(document[each], (*before, each))


# Facts


def read(document: Any, server: str = SERVER) -> HostFacts:
    """The facts of a document that is good as a whole."""
    return host_of(printed(document), server)


def host_of(output: bytes, server: str = SERVER) -> HostFacts:
    """The facts of output that is good as a whole."""
    fact = read_document(output, server)
    assert isinstance(fact, Known), fact
    return fact.value


def flat(facts: Any, before: Path = ()) -> dict[Path, Any]:
    """All that facts say, each by its place: texts, numbers, what is missing, and containers that are empty."""
    return dict(_leaves(facts, before))


def _leaves(facts: Any, before: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(facts, Known):
        yield from _leaves(facts.value, before)
        return
    parts = _parts(facts)
    if not parts:
        yield before, facts
    for name, part in parts.items():
        yield from _leaves(part, (*before, name))


def _parts(facts: Any) -> Mapping[Any, Any]:
    if isinstance(facts, Missing):
        return {}
    if isinstance(facts, Mapping):
        return {str(name): part for name, part in facts.items()}
    if isinstance(facts, tuple):
        return dict(enumerate(facts))
    if is_dataclass(facts):
        return {each.name: getattr(facts, each.name) for each in fields(facts)}
    return {}


# Which facts an item makes

_PROTOCOLS = ("SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3", "DTLS 1.0", "DTLS 1.2")
_SWITCHES = {"SystemDefaultTlsVersions": "system_default_tls_versions", "SchUseStrongCrypto": "strong_crypto"}
_PROTOCOL_VALUES = {"Enabled": "enabled", "DisabledByDefault": "disabled_by_default"}
_LENGTHS = {
    "Enabled": "enabled", "ClientMinKeyBitLength": "client_min_bits", "ServerMinKeyBitLength": "server_min_bits",
}  # fmt: skip
_LISTS = {"": "cipher_suites", "curves_": "curves", "signatures_": "signature_algorithms"}
_VIEWS = ("native", "wow")
_SAME = {
    "windows": ("caption", "version", "service_pack", "product_type", "last_boot", "ubr", "installation_type"),
    "files": ("ws2_32.dll", "schannel.dll", "winhttp.dll", "webio.dll", "win32k.sys"),
    "reboot": ("cbs", "windows_update", "update_exe", "sccm", "file_rename"),
    "schannel": ("ciphers", "hashes", "key_exchange"),
    "winhttp": _VIEWS,
}
"""Per section, the items whose facts are called just so."""

_FACTS: dict[Path, tuple[Path, ...]] = {
    **{(section, item): ((section, item),) for section, items in _SAME.items() for item in items},
    ("exchange", "version_key"): (("exchange", "installed"), ("exchange", "build")),
    ("exchange", "install_path"): (("exchange", "folder"),),
    ("exchange", "exsetup"): (("exchange", "build"),),
    ("exchange", "roles"): (("exchange", "roles"),),
    ("dotnet", "release"): (("dotnet", "release"),),
    ("dotnet", "v35", "Install"): (("dotnet", "v35_installed"),),
    ("dotnet", "v35", "SP"): (("dotnet", "v35_service_pack"),),
    ("dotnet", "v35", "Version"): (("dotnet", "v35_version"),),
    **{("dotnet", "clr2_system_dll", view): (("dotnet", "system_dll", view),) for view in _VIEWS},
    **{
        ("dotnet", "switches", clr, view, name): (("dotnet", "switches", clr, view, fact),)
        for clr in ("v2.0.50727", "v4.0.30319")
        for view in _VIEWS
        for name, fact in _SWITCHES.items()
    },
    ("hotfixes", "list"): (("hotfixes",),),
    ("servicing", "packages"): (("packages",),),
    ("pending_updates", "list"): (("pending_updates",),),
    **{
        ("schannel", "protocols", protocol, side, name): (("schannel", "protocols", protocol, side.lower(), fact),)
        for protocol in _PROTOCOLS
        for side in ("Client", "Server")
        for name, fact in _PROTOCOL_VALUES.items()
    },
    ("schannel", "renegotiation", "AllowInsecureRenegoClients"): (("schannel", "insecure_renegotiation", "server"),),
    ("schannel", "renegotiation", "AllowInsecureRenegoServers"): (("schannel", "insecure_renegotiation", "client"),),
    **{
        ("cipher_suites", f"{prefix}{kind}"): ((fact, kind),)
        for prefix, fact in _LISTS.items()
        for kind in ("policy", "local")
    },
    ("security", "fips"): (("fips",),),
    ("certificates", "my"): (("certificates",),),
    ("certificates", "bindings"): (("bindings",),),
    ("certificates", "rdp", "SSLCertificateSHA1Hash"): (("remote_desktop", "thumbprint"),),
    ("certificates", "rdp", "SecurityLayer"): (("remote_desktop", "security_layer"),),
    ("certificates", "rdp", "MinEncryptionLevel"): (("remote_desktop", "min_encryption_level"),),
    ("usage", "receive"): (("smtp", "server"),),
    ("usage", "send"): (("smtp", "client"),),
}
"""Per item, without ``sections`` and ``items``, the facts that it makes."""


_OF_ROWS: dict[Path, dict[str | int, str]] = {
    ("servicing", "packages"): {
        "CurrentState": "state", "InstallTimeHigh": "installed_at", "InstallTimeLow": "installed_at",
    },
    ("certificates", "bindings"): {
        "SslCertHash": "thumbprint", "SslCertStoreName": "store", "HostnamePort": "name",
    },
}  # fmt: skip
"""Per list, what a value of a row makes of that row alone."""


def facts_of(path: Path) -> tuple[Path, ...]:
    """The facts that a place below ``sections`` decides about: an item's, or of all items that are in it."""
    item = (path[1], *path[3:]) if path[2:3] == ("items",) else path[1:2]
    named = _named_by_key(item) or _of_a_row(item)
    if named:
        return named
    return tuple(fact for made_of, facts in _FACTS.items() if _touch(made_of, item) for fact in facts)


def _named_by_key(item: Path) -> tuple[Path, ...]:
    """Ciphers, hashes and key exchanges are whatever keys there are."""
    if len(item) < 3 or item[0] != "schannel" or item[1] not in _SAME["schannel"]:
        return ()
    if item[1] == "key_exchange" and len(item) > 3:
        return ((*item[:3], _LENGTHS[str(item[3])]),)
    return (item[:3],)


def _of_a_row(item: Path) -> tuple[Path, ...]:
    """Some values of a row cost themselves, and not the list."""
    of_it = _OF_ROWS.get(item[:2], {})
    if len(item) < 4 or item[3] not in of_it:
        return ()
    return ((*_FACTS[item[:2]][0], item[2], of_it[item[3]]),)


def _touch(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def below(facts: Mapping[Path, Any], places: Collection[Path]) -> dict[Path, Any]:
    """Of `flat` facts, those in these places."""
    return {path: leaf for path, leaf in facts.items() if _is_below(path, places)}


def others(facts: Mapping[Path, Any], places: Collection[Path]) -> dict[Path, Any]:
    """Of `flat` facts, all but those in these places."""
    return {path: leaf for path, leaf in facts.items() if not _is_below(path, places)}


def _is_below(path: Path, places: Collection[Path]) -> bool:
    return any(path[:length] in places for length in range(1, len(path) + 1))
