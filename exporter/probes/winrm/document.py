"""The document that the collector script prints: bytes in, host facts out, whatever the bytes are."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import replace
from typing import Any, Final

from exporter.facts import Fact, HostFacts, Known, Missing, Reason
from exporter.probes.printable import printable
from exporter.probes.winrm import sections, values
from exporter.probes.winrm.sections import Place, section
from exporter.probes.winrm.values import Odd

SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 8 * 1024 * 1024
"""A document has some 20 to 200 KB; certificates and SMTP peers make most of it."""
BEGIN: Final = "-----BEGIN TLS READINESS DOCUMENT-----"
END: Final = "-----END TLS READINESS DOCUMENT-----"
_LONGEST_NUMBER: Final = 20
_TICK: Final = 1.0  # seconds: what a document's clock is cut down to
_BOMS: Final = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def read_document(output: bytes, server: str, during: tuple[float, float] | None = None) -> Fact[HostFacts]:
    """What a host says, from what the script printed, and whatever came before and after it.

    Args:
        output: as it came: ASCII, or as PowerShell redirects it into a file, UTF-16 with a byte order mark.
        server: the configured name, which the host must have.
        during: between which Unix times of our clock the script ran; None where nobody was there.

    Returns:
        The facts, as old as the end of that time, or where there is none as the document's own clock says; or why it
        cannot be used as a whole: *bad_document*, *other_host*, *redirected*.
    """
    try:
        document = _load(output)
    except _UnusableError as error:
        return Missing(Reason.BAD_DOCUMENT, str(error))
    top = Place("", 0.0, document)
    clock, name = top.read("collected_at", values.clock), top.inside("host").read("name", values.text)
    fqdn = top.inside("host").read("fqdn", values.text)
    for fact in (clock, name, fqdn):
        if isinstance(fact, Missing):
            return Missing(Reason.BAD_DOCUMENT, fact.detail)
    if not is_host(server, name.value, fqdn.value):
        return Missing(Reason.OTHER_HOST, f"it is about {fqdn.value} ({name.value}), not about {server}")
    redirected = top.inside("powershell").read("redirected", values.boolean)
    if isinstance(redirected, Known) and redirected.value:
        return Missing(Reason.REDIRECTED, "the script ran in a 32-bit PowerShell on a 64-bit Windows, and read nothing")
    if during is None:
        return Known(_facts(document, clock.value, name.value, fqdn.value), clock.value)
    facts = _facts(document, during[1], name.value, fqdn.value)
    measured = replace(facts, collected_at=clock.value, clock_offset=_offset(clock.value, *during))
    return Known(measured, during[1])


def _offset(clock: float, began: float, ended: float) -> float:
    """By how many seconds a clock was wrong at least. What it showed is cut down to its last tick."""
    return clock - min(max(clock, began - _TICK), ended)


def is_host(server: str, name: str, fqdn: str) -> bool:
    """Whether a configured name is a host's: its full name; or the first part where one of the two has no more."""
    wanted, full = (each.lower().removesuffix(".") for each in (server, fqdn or name))
    if "." in wanted and "." in full:
        return wanted == full
    return wanted.split(".")[0] == full.split(".")[0]


class _UnusableError(Exception):
    """A document as a whole cannot be read."""


def _load(output: bytes) -> dict[str, Any]:
    text = _between_the_lines(_decode(output))
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=Odd, parse_int=_integer)
    except RecursionError as error:
        raise _UnusableError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 30) : error.pos + 10]
        raise _UnusableError(f"not JSON: {error.msg} near {printable(near)}") from error
    except ValueError as error:
        raise _UnusableError(f"not JSON: {printable(str(error))}") from error
    if not isinstance(document, dict):
        raise _UnusableError("not a JSON object")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or type(version) is not int:
        raise _UnusableError(f"schema version {printable(repr(version))}, and this exporter reads {SCHEMA_VERSION}")
    return document


def _decode(output: bytes) -> str:
    if len(output) > MAX_BYTES:
        raise _UnusableError(f"more than {MAX_BYTES} bytes")
    for mark, encoding in _BOMS.items():
        if output.startswith(mark):
            return output[len(mark) :].decode(encoding, errors="replace")
    return output.decode("ascii", errors="replace")


def _between_the_lines(text: str) -> str:
    """The document, without the line breaks that a console may have put into it: JSON proper needs none."""
    begins = [match.end() for match in re.finditer(f"{BEGIN}[ \t]*(?=[\r\n])", text)]
    ends = [match.start() for match in re.finditer(f"[\r\n][ \t]*{END}", text)]
    if not text.strip():
        raise _UnusableError("it is empty")
    if not begins:
        raise _UnusableError(f"no line {BEGIN}: nothing that the collector script printed, or its end alone")
    if len(begins) > 1 or len(ends) > 1:
        raise _UnusableError("several documents in one")
    if not ends or ends[0] < begins[0]:
        raise _UnusableError(f"no line {END} after the beginning: it is cut off")
    return text[begins[0] : ends[0]].replace("\r", "").replace("\n", "")


def _integer(digits: str) -> int | Odd:
    """No number of ours is longer than a REG_QWORD, and int() refuses those that are much longer."""
    return int(digits) if len(digits) <= _LONGEST_NUMBER else Odd(f"a number of {len(digits)} digits")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for name, value in pairs:
        held[name] = Odd("one of two values") if name in held else value
    return held


def _facts(document: dict[str, Any], at: float, name: str, fqdn: str) -> HostFacts:
    top = Place("", at, document)
    there = top.inside("sections")
    every = Place("", at, there.held, failure=there.failure)
    orders, stored = section(every, "cipher_suites"), section(every, "certificates")
    return HostFacts(
        name=name,
        fqdn=fqdn,
        collected_at=at,
        script_version=_text(top, "script_version"),
        simulation=_text(top, "simulation") or ("yes" if document.get("simulation") else ""),
        elevated=top.read("elevated", values.optional(values.boolean)),
        windows=sections.windows(section(every, "windows")),
        exchange=sections.exchange(section(every, "exchange")),
        dotnet=sections.dotnet(section(every, "dotnet")),
        hotfixes=sections.hotfixes(section(every, "hotfixes")),
        packages=sections.servicing(section(every, "servicing")),
        pending_updates=sections.pending_updates(section(every, "pending_updates")),
        files=sections.files(section(every, "files")),
        reboot=sections.reboot(section(every, "reboot")),
        schannel=sections.schannel(section(every, "schannel")),
        cipher_suites=sections.order(orders, ""),
        curves=sections.order(orders, "curves_"),
        signature_algorithms=sections.order(orders, "signatures_"),
        winhttp=sections.winhttp(section(every, "winhttp")),
        fips=section(every, "security").read("fips", values.dword),
        certificates=sections.certificates(stored),
        bindings=sections.bindings(stored),
        remote_desktop=sections.remote_desktop(stored),
        smtp=sections.smtp(section(every, "usage")),
    )


def _text(top: Place, name: str) -> str:
    fact = top.read(name, values.text)
    return fact.value if isinstance(fact, Known) else ""
