"""The document as a whole: how it is found in output, what makes it unusable, and that reading it is total."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path as File
from typing import Any

import pytest
from documents import (
    AT,
    BEGIN,
    CERTIFICATE,
    END,
    SERVER,
    Path,
    at,
    base_document,
    below,
    changed,
    dword,
    facts_of,
    flat,
    framed,
    host_of,
    others,
    paths,
    printed,
    read,
    removed,
    value,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from exporter.demo import machines
from exporter.demo.machines import document as writer
from exporter.facts import CLR_2, CLR_4, Fact, HostFacts, Known, Missing, Reason
from exporter.probes import winrm
from exporter.probes.printable import printable
from exporter.probes.winrm import document as reader
from exporter.probes.winrm.document import MAX_BYTES, is_host, read_document

SCHEMA = Draft202012Validator(json.loads((File(winrm.__file__).parent / "document.schema.json").read_text("utf-8")))
BASE = base_document()
OUTPUT = printed(BASE)
BEFORE = flat(host_of(OUTPUT))
FIPS: Path = ("sections", "security", "items", "fips")
CAPTION: Path = ("sections", "windows", "items", "caption")
MARK = "what is replaced by raw text"

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says something about the machine alone."""


def _raw(path: Path, text: str) -> bytes:
    """The base document with any text for a value, which need not be JSON."""
    return printed(changed(BASE, path, MARK)).replace(f'"{MARK}"'.encode(), text.encode("ascii"))


def _twice(path: Path) -> bytes:
    """The base document with one key a second time, and the same value."""
    parent = (*path[:-1], MARK)
    return printed(changed(BASE, parent, at(BASE, path))).replace(MARK.encode(), str(path[-1]).encode())


def _refusal(output: bytes, server: str = SERVER) -> Missing:
    """Why output cannot be used at all."""
    fact = read_document(output, server)
    assert isinstance(fact, Missing), fact
    return fact


def _bad(output: bytes) -> str:
    """What is wrong with a bad document."""
    missing = _refusal(output)
    assert missing.reason is Reason.BAD_DOCUMENT
    assert missing.detail.isprintable()
    return missing.detail


def _missing(output: bytes, places: tuple[Path, ...]) -> dict[Path, Missing]:
    """The facts in these places, no others having changed."""
    facts = flat(host_of(output))
    assert others(facts, places) == others(BEFORE, places)
    return below(facts, places)


def test_the_schema_is_one_and_takes_what_the_other_tests_start_from() -> None:
    """A mistake in either would hide many."""
    Draft202012Validator.check_schema(SCHEMA.schema)

    assert [error.message for error in SCHEMA.iter_errors(BASE)] == []
    assert {
        section for _, section in (path for path in paths(BASE) if path[:1] == ("sections",) and len(path) == 2)
    } == {
        *SCHEMA.schema["properties"]["sections"]["properties"]  # type: ignore[index]
    }


def test_reader_and_writer_mean_the_same_lines() -> None:
    """Three places name them."""
    assert reader.BEGIN == writer.BEGIN == BEGIN
    assert reader.END == writer.END == END


@pytest.mark.parametrize("name", machines.MACHINES)
def test_simulated_machines_are_read(name: str) -> None:
    """As their own hosts; nothing of them is a bad document, and they are printable and of their own time."""
    machine = machines.load(name)
    moment = datetime(2026, 11, 22, 8, tzinfo=UTC)
    output = writer.output(machine, moment, pending_updates=True, usage_megabytes=64).encode("ascii")

    host = host_of(output, machine.fqdn)

    assert host.collected_at == AT
    assert not [
        each for each in flat(host).values() if isinstance(each, Missing) and each.reason is Reason.BAD_DOCUMENT
    ]
    _check(Known(host, AT))


# Where the document is in the output

NOISE_BEFORE = {
    "what a profile says": b"Loading personal and system profiles took 1234ms.\r\n",
    "progress": b'#< CLIXML\r\n<Objs Version="1.1.0.1"><Obj S="progress"><TN/></Obj></Objs>',
    "progress and a line break": b"#< CLIXML\r\n<Objs/>\r\n",
    "a prompt": b"PS C:\\Users\\Administrator> ",
    "bytes that are no text": bytes(range(256)),
    "JSON": b'{"schema_version": 1}\r\n',
    "the name of the lines": b"BEGIN TLS READINESS DOCUMENT\r\n",
    "line breaks": b"\r\n\n\r",
}
NOISE_AFTER = {**NOISE_BEFORE, "nothing, not even a line break": b""}


@pytest.mark.parametrize("before", NOISE_BEFORE)
@pytest.mark.parametrize("after", NOISE_AFTER)
def test_noise_around_the_document(before: str, after: str) -> None:
    """Profiles, progress and prompts do not disturb it, nor does a missing line break."""
    output = NOISE_BEFORE[before] + OUTPUT.removesuffix(b"\r\n") + NOISE_AFTER[after]

    assert flat(host_of(output)) == BEFORE


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b" \t\r\n"])
def test_line_ends_of_all_systems(end: bytes) -> None:
    """A document that was copied somewhere else."""
    assert flat(host_of(OUTPUT.replace(b"\r\n", end))) == BEFORE


@pytest.mark.parametrize("width", [80, 120, 37])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_lines_that_a_console_broke(width: int, end: str) -> None:
    """Within texts and numbers as well."""
    text = json.dumps(BASE)
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    assert any(line.count('"') % 2 for line in lines), "no text is broken"

    assert flat(host_of(framed(end.join(lines)))) == BEFORE


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings_with_a_byte_order_mark(encoding: str) -> None:
    """As PowerShell redirects output into files."""
    assert flat(host_of(OUTPUT.decode().encode(encoding))) == BEFORE


def test_utf_16_of_the_other_order() -> None:
    """Some programs write it."""
    assert flat(host_of(b"\xfe\xff" + OUTPUT.decode().encode("utf-16-be"))) == BEFORE
    assert flat(host_of(b"\xff\xfe" + OUTPUT.decode().encode("utf-16-le") + b"\n")) == BEFORE


def test_utf_16_without_a_mark_is_refused() -> None:
    """It has no line that anybody could find."""
    assert "no line" in _bad(OUTPUT.decode().encode("utf-16-le"))


def test_bytes_that_are_not_ascii_stay_where_they_are() -> None:
    """The script writes none; somebody else's cost no more than a character."""
    output = OUTPUT.replace(b"Microsoft Windows", b"Microsoft\xae Windows")

    caption = "Microsoft\ufffd Windows Server 2016 Standard"
    assert flat(host_of(output)) == BEFORE | {("windows", "caption"): caption}


def test_nul_bytes() -> None:
    """Around the document they are noise; within it they are no JSON."""
    assert flat(host_of(bytes(100) + OUTPUT + bytes(100))) == BEFORE
    assert "not JSON" in _bad(OUTPUT.replace(b"Microsoft Windows", b"Microsoft\x00Windows"))


def test_every_cut_is_noticed() -> None:
    """Output that ends too early never passes for a host that has less."""
    whole = OUTPUT.removesuffix(b"\r\n")
    for length in (*range(0, len(whole), 50), *range(len(whole) - len(END) - 5, len(whole))):
        assert _bad(whole[:length])

    assert flat(host_of(whole)) == BEFORE


def test_a_missing_beginning_is_noticed() -> None:
    """As when a buffer kept the end alone."""
    assert all("no line" in _bad(OUTPUT[start:]) for start in range(1, len(OUTPUT), 50))


@pytest.mark.parametrize(
    ("output", "detail"),
    [
        (b"", "it is empty"),
        (b" \r\n\t\n", "it is empty"),
        (b"\xff\xfe", "it is empty"),
        (b"\xff\xfe\r\x00\n\x00", "it is empty"),
        (b"\xef\xbb\xbf", "it is empty"),
        (b"\x00", "no line"),
        (b"x", "no line"),
        (json.dumps(BASE).encode(), "no line"),
        (f"{END}\r\n{json.dumps(BASE)}\r\n{BEGIN}\r\n".encode(), "no line"),
        (f"{BEGIN} {json.dumps(BASE)}\r\n{END}".encode(), "no line"),
        (f"{BEGIN}\r\n{json.dumps(BASE)} {END}".encode(), "no line"),
        (OUTPUT + OUTPUT, "several"),
        (f"{BEGIN}\r\n".encode() + OUTPUT, "several"),
        (OUTPUT + f"\r\n{END}\r\n".encode(), "several"),
        (OUTPUT[:200] + OUTPUT, "several"),
        (framed(""), "not JSON"),
        (framed("x"), "not JSON"),
        (framed("{'schema_version': 1}"), "not JSON"),
        (framed(json.dumps(BASE) + "x"), "not JSON"),
        (framed("WARNING: x\r\n" + json.dumps(BASE)), "not JSON"),
        (framed("[]"), "not a JSON object"),
        (framed("null"), "not a JSON object"),
        (framed("NaN"), "not a JSON object"),
        (framed('{"a": 1} {"b": 2}'), "not JSON"),
        (framed(json.dumps([BASE])), "not a JSON object"),
        (framed("{}"), "schema version"),
    ],
)
def test_output_without_one_whole_document(output: bytes, detail: str) -> None:
    """And what is wrong with it."""
    assert detail in _bad(output)


@pytest.mark.parametrize("indent", [b" ", b"\t", b"    ", b" \t" * 40])
def test_lines_that_are_indented(indent: bytes) -> None:
    """As by whatever pasted it somewhere; the end of another line is none all the same."""
    text = OUTPUT.replace(b"\r\n", b"\r\n" + indent)

    assert flat(host_of(indent + text)) == BEFORE
    assert "several" in _bad(text + indent + END.encode())
    assert "no line" in _bad(OUTPUT.replace(END.encode(), b"x" + indent + END.encode()))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "not JSON: Expecting value near "),
        ("x", "not JSON: Expecting value near x"),
        ('{"a": 1,\r\n\r\n"b" 2}', 'not JSON: Expecting \':\' delimiter near {"a": 1,"b" 2}'),
        (f'{{"{"a" * 100}": True, "{"b" * 100}": 1}}', f'not JSON: Expecting value near {"a" * 27}": True, "bbb'),
        ('{"a": "\t\x1b[2J"}', 'not JSON: Invalid control character at near {"a": "\\x09\\x1b[2J"}'),
    ],
)
def test_what_is_no_json_is_shown(text: str, detail: str) -> None:
    """A place in a line of 100 KB helps nobody; what stands there does, some 40 characters fit for terminals."""
    assert _bad(framed(text)) == detail


def test_sizes() -> None:
    """50 MB are not even looked at; the limit itself is not too much."""
    assert "more than 8388608 bytes" in _bad(OUTPUT + bytes(50 * 2**20 - len(OUTPUT)))
    assert "more than 8388608 bytes" in _bad(OUTPUT + bytes(MAX_BYTES - len(OUTPUT) + 1))
    assert flat(host_of(OUTPUT + bytes(MAX_BYTES - len(OUTPUT)))) == BEFORE


# What makes it unusable as a whole


@pytest.mark.parametrize(
    "version", [0, 2, -1, "1", True, False, None, 1.0, 1.5, float("nan"), 10**30, [1], {}, "\x1b" * 500]
)
def test_schema_versions_that_are_not_ours(version: Any) -> None:
    """Somebody else's document, or tomorrow's. The script does not write 1.0, though it is JSON's 1 as well."""
    detail = _bad(printed(changed(BASE, ("schema_version",), version)))

    assert detail.startswith("schema version")
    assert len(detail) < 400


def test_without_a_schema_version() -> None:
    """Some other JSON."""
    assert _bad(printed(removed(BASE, ("schema_version",)))).startswith("schema version")


@pytest.mark.parametrize("path", [("collected_at",), ("host",), ("host", "name"), ("host", "fqdn")])
def test_what_nothing_goes_without(path: Path) -> None:
    """Neither age nor host can be guessed: missing, twice, and of the wrong type."""
    told = ".".join(map(str, path))

    assert told in _bad(printed(removed(BASE, path)))
    assert told in _bad(_twice(path))
    for junk in (None, True, 0, 1.5, [], [BASE], float("nan")):
        assert told in _bad(printed(changed(BASE, path, junk)))


@pytest.mark.parametrize(
    "time", ["", "2026-11-22", "2026-02-30T00:00:00Z", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z"]
)
def test_a_clock_that_is_none(time: str) -> None:
    """A document's age is by its own clock, so there must be one."""
    assert "collected_at" in _bad(printed(changed(BASE, ("collected_at",), time)))


@pytest.mark.parametrize(
    ("began", "ended", "offset"),
    [
        (-2.5, 1.5, 0.0),
        (0.0, 2.0, 0.0),
        (-2.0, 0.0, 0.0),
        (0.999, 3.0, 0.0),
        (1.0, 1.0, 0.0),
        (1.25, 3.0, -0.25),
        (61.0, 63.0, -60.0),
        (-2.0, -0.25, 0.25),
        (-3600.0, -3598.0, 3598.0),
    ],
)
def test_a_clock_beside_ours(began: float, ended: float, offset: float) -> None:
    """Ahead by what is left after the script's end, behind by what is missing to its start; its ticks last a second."""
    fact = read_document(OUTPUT, SERVER, (AT + began, AT + ended))

    assert isinstance(fact, Known)
    assert fact.value.clock_offset == offset
    assert fact.value.collected_at == AT


def test_of_which_time_facts_are() -> None:
    """Of ours, where we were there: of the end. Nobody measured the clock where we were not."""
    collected, found = read_document(OUTPUT, SERVER, (AT + 3600, AT + 3602)), read_document(OUTPUT, SERVER)

    for fact, since, offset in ((collected, AT + 3602, -3599.0), (found, AT, None)):
        assert isinstance(fact, Known)
        assert (fact.value.clock_offset, fact.value.collected_at) == (offset, AT)
        caption, uses = fact.value.windows.caption, fact.value.winhttp.values()
        assert isinstance(caption, Known)
        assert {fact.at, caption.at, *(each.at for each in uses if isinstance(each, Known))} == {since}


def test_a_document_that_is_none_is_none_whoever_was_there() -> None:
    """For the same reason."""
    during = (AT, AT + 2)

    assert read_document(b"", SERVER, during) == read_document(b"", SERVER)
    assert read_document(OUTPUT, "exch02.contoso.test", during) == _refusal(OUTPUT, "exch02.contoso.test")


def test_another_host() -> None:
    """Whoever sent it: it is not about the server that was asked for."""
    missing = _refusal(OUTPUT, "exch02.contoso.test")

    told = "it is about exch01.contoso.test (EXCH01), not about exch02.contoso.test"
    assert missing == Missing(Reason.OTHER_HOST, told)


def _redirected(answer: Any) -> Any:
    return changed(BASE, ("powershell", "redirected"), answer)


def test_a_redirected_process() -> None:
    """It saw another registry and other files: nothing of what it says is about the host, even if it says much."""
    told = "the script ran in a 32-bit PowerShell on a 64-bit Windows, and read nothing"

    assert _refusal(printed(_redirected(answer=True))) == Missing(Reason.REDIRECTED, told)
    assert _refusal(printed(changed(_redirected(answer=True), ("sections",), {}))).reason is Reason.REDIRECTED


@pytest.mark.parametrize("answer", [False, None, 1, "true", [], {}, float("nan")])
def test_a_process_that_does_not_say_that_it_is_redirected(answer: Any) -> None:
    """Only true is."""
    assert flat(host_of(printed(_redirected(answer)))) == BEFORE
    assert flat(host_of(printed(removed(BASE, ("powershell", "redirected"))))) == BEFORE


def test_what_is_wrong_first() -> None:
    """A document that is bad says nothing of its host, and one of another host nothing of this one's PowerShell."""
    document = _redirected(answer=True)

    assert "collected_at" in _bad(printed(changed(document, ("collected_at",), "x")))
    assert "host.name" in _bad(printed(changed(document, ("host", "name"), 5)))
    assert _refusal(printed(document), "exch02.contoso.test").reason is Reason.OTHER_HOST
    bad = changed(BASE, ("collected_at",), "x")
    assert _refusal(printed(bad), "exch02.contoso.test").reason is Reason.BAD_DOCUMENT


LONG = "EXCHANGE-MAILBO"  # what NetBIOS keeps of exchange-mailbox-01


@pytest.mark.parametrize(
    ("server", "name", "fqdn", "same"),
    [
        ("exch01.contoso.test", "EXCH01", "exch01.contoso.test", True),
        ("EXCH01.Contoso.TEST", "EXCH01", "exch01.contoso.test", True),
        ("exch01.contoso.test", "EXCH01", "EXCH01.CONTOSO.TEST", True),
        ("exch01.contoso.test.", "EXCH01", "exch01.contoso.test", True),
        ("exch01.contoso.test", "EXCH01", "exch01.contoso.test.", True),
        ("exch01.fabrikam.test", "EXCH01", "exch01.contoso.test", False),
        ("exch01.contoso.test", "EXCH01", "exch01.test", False),
        ("exch01.test", "EXCH01", "exch01.test.contoso.test", False),
        ("exch02.contoso.test", "EXCH01", "exch01.contoso.test", False),
        ("mail.contoso.test", "EXCH01", "exch01.contoso.test", False),
        ("exch01", "EXCH01", "exch01.contoso.test", True),
        ("ExCh01.", "EXCH01", "exch01.contoso.test", True),
        ("exch02", "EXCH01", "exch01.contoso.test", False),
        ("exch0", "EXCH01", "exch01.contoso.test", False),
        ("contoso", "EXCH01", "exch01.contoso.test", False),
        ("exch01.contoso.test", "EXCH01", "exch01", True),
        ("exch01", "EXCH01", "exch01", True),
        ("exch02.contoso.test", "EXCH01", "exch01", False),
        ("exchange-mailbox-01", LONG, "exchange-mailbox-01.contoso.test", True),
        ("exchange-mailbox-01.contoso.test", LONG, "exchange-mailbox-01.contoso.test", True),
        ("exchange-mailbox-01.contoso.test", LONG, "exchange-mailbox-01", True),
        ("exchange-mailbo", LONG, "exchange-mailbox-01.contoso.test", False),
        ("exchange-mailbo", LONG, "", True),
        ("exchange-mailbox-01", LONG, "", False),
        ("exch01", "EXCH01", "", True),
        ("exch01.contoso.test", "EXCH01", "", True),
        ("exch02", "EXCH01", "", False),
        ("exch02.contoso.test", "EXCH01", "", False),
        ("exch02", "EXCH02", "exch01.contoso.test", False),
        ("exch02.contoso.test", "EXCH02", "exch01", False),
        ("exch01", "", "exch01.contoso.test", True),
        ("exchange-mailbox-02", LONG, "exchange-mailbox-01.contoso.test", False),
        ("exchange-mailbox-02.contoso.test", LONG, "exchange-mailbox-01.contoso.test", False),
        ("exchange-mailbo.contoso.test", LONG, "exchange-mailbox-01.contoso.test", False),
        ("192.0.2.1", "EXCH01", "exch01.contoso.test", False),
        ("192.0.2.1", "EXCH01", "exch01", False),
        ("2001:db8::1", "EXCH01", "exch01.contoso.test", False),
        ("exch01", "", "", False),
        ("exch01.contoso.test", "", "", False),
    ],
)
def test_is_host(server: str, name: str, fqdn: str, same: bool) -> None:  # noqa: FBT001
    """A full name must be the host's own; where one of both is short, first parts count; addresses never do.

    The NetBIOS name is cut after 15 characters, so that two hosts may share it: it counts where there is no other.
    """
    assert is_host(server, name, fqdn) is same


# What costs a part


@pytest.mark.parametrize(
    "path",
    [
        ("elevated",),
        FIPS,
        ("sections", "windows", "items", "version"),
        ("sections", "dotnet", "items", "switches", CLR_4),
        ("sections", "dotnet", "items", "switches", CLR_2, "wow", "SchUseStrongCrypto"),
        ("sections", "schannel", "items", "ciphers", "Triple DES 168"),
        ("sections", "schannel", "items", "protocols", "TLS 1.2"),
        ("sections", "hotfixes", "items"),
        ("sections", "files"),
        ("sections",),
        (*FIPS, "type"),
        (*FIPS, "value"),
        ("sections", "usage", "items", "receive", "sessions", "TLS1_2"),
        ("sections", "hotfixes", "items", "list", 0, "id"),
    ],
)
def test_duplicate_keys(path: Path) -> None:
    """Which of two is meant cannot be known, though both may be the same here: it costs what they stand for."""
    places = facts_of(path) if path != ("sections",) else tuple({place[:1] for place in BEFORE} - AT_THE_TOP)

    missing = _missing(_twice(path), (("elevated",),) if path == ("elevated",) else places)

    assert missing
    assert {each.reason for each in missing.values()} == {Reason.BAD_DOCUMENT}
    assert all("one of two values" in each.detail for each in missing.values())


AT_THE_TOP: set[Path] = {
    ("name",),
    ("fqdn",),
    ("collected_at",),
    ("script_version",),
    ("simulation",),
    ("elevated",),
    ("clock_offset",),
}


def test_duplicate_keys_that_nobody_reads() -> None:
    """They cost nothing."""
    assert flat(host_of(_twice(("powershell", "bits")))) == BEFORE
    assert flat(host_of(framed('{"new":1,"new":2,' + json.dumps(BASE)[1:]))) == BEFORE


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1.0", "4294967296", "-1", "1" * 20, "9" * 21, "9" * 5000],
)
def test_numbers_that_are_none_of_ours(number: str) -> None:
    """Numbers that JSON does not have, that no type holds, or that Python would take minutes for."""
    for path in (FIPS, (*FIPS, "value")):
        missing = _missing(_raw(path, number), facts_of(FIPS))

        assert [each.reason for each in missing.values()] == [Reason.BAD_DOCUMENT]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_have_is_named_as_it_was_written(number: str) -> None:
    """Whoever looks for it finds it."""
    missing = _missing(_raw(FIPS, number), facts_of(FIPS))

    assert [each.detail for each in missing.values()] == [f"security.fips: {number} where an object belongs"]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth(opening: str, closing: str) -> None:
    """200 levels cost the item, or nothing where nobody reads them; 100,000 cost the document, and no stack."""
    deep = opening * 200 + "1" + closing * 200

    assert flat(host_of(_raw(("powershell", "bits"), deep))) == BEFORE
    assert [each.reason for each in _missing(_raw(FIPS, deep), facts_of(FIPS)).values()] == [Reason.BAD_DOCUMENT]
    assert _bad(_raw(("schema_version",), deep)).startswith("schema version")
    for levels in (100_000, 1_000_000):
        deeper = opening * levels + "1" + closing * levels
        assert _bad(_raw(("powershell", "bits"), deeper)) == "it is nested too deeply"
    assert _bad(framed(opening * 100_000)) == "it is nested too deeply"


@pytest.mark.parametrize("levels", range(900, 1000, 7))
def test_depth_near_the_limit(levels: int) -> None:
    """What could just be parsed can be talked about."""
    assert _bad(_raw(("schema_version",), "[" * levels + "]" * levels))
    assert _bad(_raw(("collected_at",), "[" * levels + "]" * levels))


@pytest.mark.parametrize("junk", [None, True, 0, 1.5, "x", [], [[]]])
def test_no_sections_at_all(junk: Any) -> None:
    """The host is known then, and nothing about it."""
    facts = flat(host_of(printed(changed(BASE, ("sections",), junk))))

    assert {path for path, leaf in facts.items() if not isinstance(leaf, Missing)} == AT_THE_TOP
    assert {leaf.reason for leaf in facts.values() if isinstance(leaf, Missing)} == {Reason.BAD_DOCUMENT}


def test_sections_that_are_not_there() -> None:
    """Each of their facts says so."""
    for document in (removed(BASE, ("sections",)), changed(BASE, ("sections",), {})):
        facts = flat(read(document))
        assert {leaf.reason for leaf in facts.values() if isinstance(leaf, Missing)} == {Reason.NOT_COLLECTED}
        assert {path for path, leaf in facts.items() if not isinstance(leaf, Missing)} == AT_THE_TOP


@pytest.mark.parametrize("answer", [True, False, None])
def test_elevated(answer: bool | None) -> None:  # noqa: FBT001
    """The script may not be able to find out."""
    assert read(changed(BASE, ("elevated",), answer)).elevated == Known(answer, AT)


@pytest.mark.parametrize("junk", [0, 1.5, "x", [], {}, float("nan")])
def test_elevated_of_the_wrong_type(junk: Any) -> None:
    """It is a fact like any other."""
    missing = _missing(printed(changed(BASE, ("elevated",), junk)), (("elevated",),))

    assert missing["elevated",].reason is Reason.BAD_DOCUMENT


@pytest.mark.parametrize("path", [("script_version",), ("powershell",), ("options",), ("powershell", "redirected")])
@pytest.mark.parametrize("junk", [None, 0, [], {}, float("nan")])
def test_what_no_fact_depends_on(path: Path, junk: Any) -> None:
    """How the script was run is for people who read the document."""
    facts = flat(host_of(printed(changed(BASE, path, junk))))

    assert facts == BEFORE | ({("script_version",): ""} if path == ("script_version",) else {})


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("exchange-2016", "exchange-2016"),
        ("\x1b[2J", r"\x1b[2J"),
        (" ", "yes"),
        (True, "yes"),
        (1, "yes"),
        (["exchange-2016"], "yes"),
        ({"name": "exchange-2016"}, "yes"),
        (float("nan"), "yes"),
        (None, ""),
        ("", ""),
        (False, ""),
    ],
)
def test_simulation(said: Any, name: str) -> None:
    """Whatever it says there: nobody is to take a simulated host for a real one."""
    document = {**BASE, "simulation": said}

    assert flat(read(document)) == BEFORE | {("simulation",): name}


def test_two_simulations() -> None:
    """They are one all the same."""
    document = printed({**BASE, "simulation": "a", MARK: "b"}).replace(MARK.encode(), b"simulation")

    assert host_of(document).simulation == "yes"


# The serializer's rules: what the script prints is what is read


def _as_the_script_prints(value: Any, depth: int = 0) -> str:
    """What Write-Json in collect.ps1 makes of a value."""
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        between = ",\r\n" if depth < 3 else ","
        pairs = [f"{_string(name)}:{_as_the_script_prints(each, depth + 1)}" for name, each in value.items()]
        return "{" + between.join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_as_the_script_prints(each, depth + 1) for each in value) + "]"
    return "null" if value is None else str(value).lower()  # True, False and whole numbers


def _string(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[each : each + 2]) for each in range(0, len(units), 2)]
    plain = {*range(32, 127)} - {ord('"'), ord("\\")}
    return '"' + "".join(chr(code) if code in plain else f"\\u{code:04x}" for code in codes) + '"'


def test_the_scripts_own_form_is_read() -> None:
    """Lines end after the pairs of the outer objects alone."""
    assert flat(host_of(framed(_as_the_script_prints(BASE)))) == BEFORE


TEXTS = {
    "quotes and backslashes": r'C:\Program Files\"x"\/',
    "a text like an escape": r"\u0041\n",
    "the Kelvin sign": "\u212a",
    "beyond the basic plane": "\U0001f600",
    "letters of other languages": "Größe 数",
    "a brace": '"},{',
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_come_out_as_they_were(kind: str) -> None:
    """Everything but plain ASCII is escaped by UTF-16 units, quotes and backslashes as well."""
    output = framed(_as_the_script_prints(changed(BASE, CAPTION, TEXTS[kind])))

    assert output.isascii()
    assert host_of(output).windows.caption == Known(TEXTS[kind], AT)


@pytest.mark.parametrize("code", [*range(32), 127, 0x85, 0xA0, 0xAD, 0x200B, 0x2028, 0x2029, 0x202E, 0xFEFF, 0xFFFF])
def test_control_characters_come_out_in_hexadecimal(code: int) -> None:
    """They reach no terminal and no label."""
    output = framed(_as_the_script_prints(changed(BASE, CAPTION, f"a{chr(code)}b")))

    assert host_of(output).windows.caption == Known(f"a\\x{code:02x}b", AT)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (r"a\ud83d\ude00b", "a\U0001f600b"),
        (r"a\ud800b", r"a\xd800b"),
        (r"a\ude00\ud83db", r"a\xde00\xd83db"),
        (r"a\ud800", r"a\xd800"),
        (r"\ud800", r"\xd800"),
        (r"\uD83D\uDE00", "\U0001f600"),
        (r"a\/b\b", r"a/b\x08"),
    ],
)
def test_surrogates(written: str, shown: str) -> None:
    """Pairs are one character; half of one is shown as what it is."""
    assert host_of(_raw(CAPTION, f'"{written}"')).windows.caption == Known(shown, AT)


@UNTIMED
@given(st.text(st.characters()))
@example("\ud83d\ude00")
def test_any_text(text: str) -> None:
    """What the script prints of it comes back, fit for terminals."""
    units = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    caption = host_of(framed(_as_the_script_prints(changed(BASE, CAPTION, text)))).windows.caption

    assert caption == Known(printable(units.strip()), AT)


@pytest.mark.parametrize("roles", [[], ["MailboxRole"], ["MailboxRole", "UnifiedMessagingRole"]])
def test_arrays_of_none_and_of_one(roles: list[str]) -> None:
    """PowerShell likes to unroll them; the script does not let it."""
    output = framed(_as_the_script_prints(changed(BASE, ("sections", "exchange", "items", "roles"), roles)))

    assert host_of(output).exchange.roles == Known(tuple(roles), AT)


def test_an_unrolled_array_is_noticed() -> None:
    """One text is not an array of one text."""
    document = changed(BASE, ("sections", "exchange", "items", "roles"), "MailboxRole")

    assert isinstance(read(document).exchange.roles, Missing)


@pytest.mark.parametrize("number", [0, 1, 4294967295])
def test_numbers_of_a_dword(number: int) -> None:
    """All of its 32 bits, and no sign."""
    assert host_of(framed(_as_the_script_prints(changed(BASE, FIPS, dword(number))))).fips == Known(number, AT)


@pytest.mark.parametrize("number", [0, 4294967296, 9007199254740993, 18446744073709551615])
def test_numbers_of_64_bits(number: int) -> None:
    """To the last digit, where a double would have lost some."""
    path = ("sections", "usage", "items", "send", "bytes")
    usage = host_of(framed(_as_the_script_prints(changed(BASE, path, number)))).smtp

    assert [each.value.bytes_read for each in usage.values()] == [1_234_567, number]
    qword = host_of(framed(_as_the_script_prints(changed(BASE, FIPS, value("REG_QWORD", number))))).fips
    assert qword == Missing(Reason.WRONG_REGISTRY_TYPE, f"security.fips: REG_QWORD {number} where a REG_DWORD belongs")


def test_null_is_not_absent_and_neither_is_zero() -> None:
    """A value that is not there, an item that was not looked at, and 0 are three things."""
    assert read(changed(BASE, FIPS, None)).fips == Known(None, AT)
    assert read(changed(BASE, FIPS, dword(0))).fips == Known(0, AT)
    absent = read(removed(BASE, FIPS)).fips
    assert absent == Missing(Reason.NOT_COLLECTED, "security.fips is not in the document")


@pytest.mark.parametrize("answer", [True, False])
def test_truth_values(answer: bool) -> None:  # noqa: FBT001
    """In the script's lower case; not PowerShell's True."""
    path = ("sections", "reboot", "items", "cbs")

    assert read(changed(BASE, path, answer)).reboot["cbs"] == Known(answer, AT)
    assert "not JSON" in _bad(_raw(path, str(answer)))


# Reading is total

REASONS = {
    Reason.BAD_DOCUMENT,
    Reason.WRONG_REGISTRY_TYPE,
    Reason.NOT_COLLECTED,
    Reason.ACCESS_DENIED,
    Reason.REDIRECTED,
    Reason.SCRIPT_ERROR,
}
"""Why a fact of a host may be missing."""


def _check(fact: Fact[HostFacts]) -> None:
    """What holds whatever was read: reasons of the list, texts that can be shown, times that can be told."""
    if isinstance(fact, Missing):
        assert fact.reason in {Reason.BAD_DOCUMENT, Reason.OTHER_HOST, Reason.REDIRECTED}
        assert fact.detail
        assert fact.detail.isprintable()
        return
    assert isinstance(fact.value, HostFacts)
    for path, leaf in flat(fact.value).items():
        assert all(str(each).isprintable() for each in path)
        _check_leaf(leaf)
    for derived in (fact.value.newest_update, fact.value.settings_digest, fact.value.windows.build):
        assert isinstance(derived, Known) or derived.reason in REASONS
    assert isinstance(fact.value.every_update_dated, bool)
    assert {each.reason for each in fact.value.missing} <= REASONS - {Reason.NOT_COLLECTED}


def _check_leaf(leaf: Any) -> None:
    if isinstance(leaf, Missing):
        assert leaf.reason in REASONS
        assert leaf.detail
        assert leaf.detail.isprintable()
    elif isinstance(leaf, str):
        assert leaf.isprintable()
    elif isinstance(leaf, float):
        datetime.fromtimestamp(leaf, UTC)  # raises where nobody could show it


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
REGISTRY = st.builds(
    value, st.sampled_from(["REG_DWORD", "REG_QWORD", "REG_SZ", "REG_MULTI_SZ", "REG_BINARY", "other"]), JSON
)
WRITTEN = st.sampled_from([
    "20261122080000.500000+060", "2026-11-22T08:00:00Z", "2026-11-22T08:00:00.123Z", "6/12/2016", "15.1.2507.39",
    CERTIFICATE, CERTIFICATE[:400], "v15", SERVER, "EXCH01", "AQ==", "TLS1_2",
])  # fmt: skip
"""Texts that mean something in some places."""
JUNK_TEXT = st.text('{}[]",:0123456789eE.+-truefalsnNI\\u \r\n', max_size=200)


@UNTIMED
@given(st.binary() | st.binary(max_size=500).map(lambda inner: framed("@").replace(b"@", inner)))
@example(b"\xff\xfe\x00")
@example(b"\xef\xbb\xbf")
def test_any_bytes(output: bytes) -> None:
    """Alone and between the lines."""
    _check(read_document(output, SERVER))


@UNTIMED
@given(st.text(st.characters(), max_size=300) | JUNK_TEXT, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_any_text_between_the_lines(text: str, encoding: str) -> None:
    """Between the lines, in any encoding."""
    output = f"{BEGIN}\r\n{text}\r\n{END}\r\n".encode(encoding, "surrogatepass")

    _check(read_document(output, SERVER))


@UNTIMED
@given(st.lists(st.tuples(st.sampled_from([*paths(BASE)]), JSON | REGISTRY | WRITTEN), min_size=1, max_size=4))
def test_any_values_in_any_places(changes: list[tuple[Path, Any]]) -> None:
    """Of a good document, several of them at once."""
    document: Any = BASE
    for path, junk in changes:
        try:
            document = changed(document, path, junk)
        except (TypeError, KeyError, IndexError):  # an earlier change took that place away
            continue

    _check(read_document(printed(document), SERVER))


@UNTIMED
@given(st.lists(st.tuples(st.integers(0, len(OUTPUT) - 1), st.binary(max_size=3)), min_size=1, max_size=6))
def test_any_changes_of_bytes(edits: list[tuple[int, bytes]]) -> None:
    """Bytes of a good document replaced, doubled or gone."""
    output = bytearray(OUTPUT)
    for position, replacement in edits:
        output[position : position + 1] = replacement

    _check(read_document(bytes(output), SERVER))


@UNTIMED
@given(st.integers(0, len(OUTPUT)), st.integers(0, len(OUTPUT)))
def test_any_piece_of_it(start: int, end: int) -> None:
    """Unless it has all of the document it is a bad one."""
    whole = start == 0 and end >= len(OUTPUT) - 2

    fact = read_document(OUTPUT[start:end], SERVER)

    assert isinstance(fact, Known) is whole
    _check(fact)
