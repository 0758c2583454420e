"""Readers of single values: what each takes, what it makes of it, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from documents import AT, value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.facts import Reason
from exporter.probes.winrm import values
from exporter.probes.winrm.values import MAX_ITEMS, Odd, WrongValueError

NAN = Odd("NaN")

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long an example takes says something about the machine alone."""
ANYTHING: tuple[Any, ...] = (None, True, 0, 1.5, "x", NAN, [], {}, [[]], {"type": "REG_DWORD"})
"""One value of each kind of JSON, and one that JSON does not have."""


def _but(*kinds: type) -> list[Any]:
    """Anything but values of these very types."""
    return [each for each in ANYTHING if type(each) not in kinds]


def _day(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


ACCEPTED: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (values.text, "", ""),
    (values.text, " x\r\n", "x"),
    (values.text, "a\x1b[2J\x00", "a\\x1b[2J\\x00"),
    (values.text, "\ud800", "\\xd800"),
    (values.text, "\u2028", ""),
    (values.text, "a\u2028b", "a\\x2028b"),
    (values.text, "Größe 数 😀", "Größe 数 😀"),
    (values.boolean, True, True),
    (values.boolean, False, False),
    (values.number, 0, 0),
    (values.number, 2**64 - 1, 2**64 - 1),
    (values.mapping, {}, {}),
    (values.items(values.number), [], ()),
    (values.items(values.number), [1], (1,)),
    (values.items(values.number), [2, 1], (2, 1)),
    (values.items(values.number), [7] * MAX_ITEMS, (7,) * MAX_ITEMS),
    (values.one_of(1, 2, 3), 1, 1),
    (values.one_of(1, 2, 3), 3, 3),
    (values.one_of("v15", "v14"), "v14", "v14"),
    (values.optional(values.one_of("v15", "v14")), None, None),
    (values.optional(values.number), None, None),
    (values.optional(values.number), 1, 1),
    (values.key("a", values.number), {"a": 1, "b": "x"}, 1),
    (values.key("a", values.optional(values.number)), {"a": None}, None),
    (values.version, "6.1.7601", (6, 1, 7601)),
    (values.version, "15.01.2507.039", (15, 1, 2507, 39)),
    (values.version, "0.0.0.1", (0, 0, 0, 1)),
    (values.version, "10.0.999999999", (10, 0, 999999999)),
    (values.file_version, {"path": "x", "version": "15.1.2507.39"}, (15, 1, 2507, 39)),
    (values.clock, "2026-11-22T08:00:00Z", AT),
    (values.clock, "2000-01-01T00:00:00Z", 946684800.0),
    (values.clock, "2028-02-29T23:59:59Z", _day(2028, 2, 29, 23, 59, 59)),
    (values.clock, "2099-12-31T23:59:59Z", _day(2100, 1, 1) - 1),
    (values.log_time, "2026-11-22T08:00:00.123Z", AT + 0.123),
    (values.wmi_time, "20261122080000.000000+000", AT),
    (values.wmi_time, "20261122080000.500000+060", AT - 3600),
    (values.wmi_time, "20261122080000.999999-480", AT + 8 * 3600),
    (values.wmi_time, "20261122214500.000000+825", AT),
    (values.wmi_time, "20240229120000.000000+330", _day(2024, 2, 29, 6, 30)),
    (values.wmi_time, "20000101000000.000000-060", 946684800.0 + 3600),
    (values.dword, None, None),
    (values.dword, value("REG_DWORD", 0), 0),
    (values.dword, value("REG_DWORD", 1), 1),
    (values.dword, value("REG_DWORD", 4294967295), 4294967295),
    (values.registry_text, None, None),
    (values.registry_text, value("REG_SZ", ""), ""),
    (values.registry_text, value("REG_SZ", " Server Core\x00"), "Server Core\\x00"),
    (values.registry_text, value("REG_EXPAND_SZ", "%windir%"), "%windir%"),
    (values.registry_hash, None, None),
    (values.registry_hash, value("REG_BINARY", ""), None),
    (values.registry_hash, value("REG_BINARY", "/wCr"), "ff00ab"),
    (values.names_in_order, None, None),
    (values.names_in_order, value("REG_SZ", "B,A"), ("B", "A")),
    (values.names_in_order, value("REG_SZ", " B , A,,\r\n"), ("B", "A")),
    (values.names_in_order, value("REG_SZ", ""), ()),
    (values.names_in_order, value("REG_EXPAND_SZ", "B,A"), ("B", "A")),
    (values.names_in_order, value("REG_MULTI_SZ", []), ()),
    (values.names_in_order, value("REG_MULTI_SZ", ["B"]), ("B",)),
    (values.names_in_order, value("REG_MULTI_SZ", ["B", "A"]), ("B", "A")),
    (values.names_in_order, value("REG_MULTI_SZ", ["B,A"]), ("B", "A")),
    (values.names_in_order, value("REG_MULTI_SZ", ["C", "B, A", "", ","]), ("C", "B", "A")),
    (values.names_in_order, value("REG_MULTI_SZ", ["\x1b[2J"]), ("\\x1b[2J",)),
    (values.binary, "", b""),
    (values.binary, "AP8=", b"\x00\xff"),
]


@pytest.mark.parametrize(("read", "written", "meant"), ACCEPTED)
def test_what_is_accepted(read: Callable[[Any], Any], written: Any, meant: Any) -> None:
    """And what it means; a number is never a truth value."""
    found = read(written)

    assert found == meant
    assert type(found) is type(meant)


ARABIC_DIGITS = "\u0661.\u0662.\u0663"
REFUSED: list[tuple[Callable[[Any], Any], list[Any]]] = [
    (values.text, _but(str)),
    (values.boolean, [*_but(bool), 1, "true"]),
    (values.number, [*_but(int), -1, 1.0, float("inf"), "1"]),
    (values.mapping, _but(dict)),
    (values.items(values.number), [*_but(list), [-1], [0, None], ["0"], [[]], [7] * (MAX_ITEMS + 1)]),
    (values.one_of(1, 2, 3), [*ANYTHING, 4, -1, 1.0, "1", Odd("1")]),
    (values.one_of("v15", "v14"), [*ANYTHING, "", "V15", "v15 ", "v1", "v16", 15, Odd("v15")]),
    (values.optional(values.number), [each for each in _but(int) if each is not None]),
    (values.key("a", values.number), [*ANYTHING, {"b": 1}, {"a": None}, {"A": 1}]),
    (values.version, [*ANYTHING, "", "10", "1.2.3.4.5", "1..2", ".1.2", "1.2.", " 1.2", "1.2\n", "-1.2", "1.2b", 1.2]),
    (values.version, ["1.2.1234567890", ARABIC_DIGITS, "1,2", "6.1.7601 ", "10.0", "0.0.0", "0.0.0.0", "00.0.000"]),
    (values.file_version, [*ANYTHING, "1.2.3.4", {"version": None}, {"path": "1.2.3.4"}]),
    (values.file_version, [{"version": each} for each in ("0.0.0.0", "00.0.0.0", "10.0.14393", "1.2.3.4.5", "")]),
    (values.clock, [*ANYTHING, "", "2026-11-22", "2026-11-22T08:00:00", "2026-11-22 08:00:00Z", AT]),
    (
        values.clock,
        ["2026-11-22T08:00:00.5Z", "2026-11-22T08:00:00+00:00", "2026-11-22T08:00:00Z\n", "20261122T080000Z"],
    ),
    (values.clock, ["2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22T08:00:60Z"]),
    (values.clock, ["1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z"]),
    (values.clock, ["\u0662026-11-22T08:00:00Z"]),
    (
        values.log_time,
        [*ANYTHING, "", "2026-11-22", "2026-11-22T08:00:00Z", "2026-11-22T08:00:00.123", "2026-11-22T25:00:00.000Z"],
    ),
    (values.log_time, ["2026-02-29T08:00:00.000Z", "1601-01-01T00:00:00.000Z", "2026-11-22T:::::::Z", "#Date"]),
    (values.wmi_time, [*ANYTHING, "", "20261122080000", "20261122080000.500000", "20261122080000.500000+60"]),
    (values.wmi_time, ["20261122080000.500000+***", "20261122080000.5+060", "2026-11-22T08:00:00Z"]),
    (values.wmi_time, ["20260229000000.000000+000", "20261322000000.000000+000", "20261122240000.000000+000"]),
    (values.wmi_time, ["19991231235959.000000+000", "21000101000000.000000+000", "16010101000000.000000+000"]),
    (values.wmi_time, ["00000000000000.000000+000", "99991231235959.000000-999", "00010101000000.000000+999"]),
    (values.dword, [each for each in ANYTHING if each is not None]),
    (values.dword, [value("REG_DWORD", each) for each in (*_but(int), -1, 2**32, "1", NAN)]),
    (values.dword, [{"value": 1}, value(NAN, 1), value(None, 1), value(["REG_DWORD"], 1)]),  # type: ignore[arg-type]
    (values.registry_text, [value("REG_SZ", each) for each in _but(str)]),
    (values.registry_text, [value("REG_EXPAND_SZ", each) for each in _but(str)]),
    (values.registry_hash, [value("REG_BINARY", each) for each in (*_but(str), "x", "AP8", "AP8=\n", "ä", "A\x00==")]),
    (values.names_in_order, [value("REG_SZ", each) for each in _but(str)]),
    (values.names_in_order, [value("REG_MULTI_SZ", each) for each in (*_but(list), [None], ["A", 1], [NAN])]),
    (values.binary, [*_but(str), "x", "AP8", " AP8=", "AP8=\r\n", "ä", "A-_="]),
]


@pytest.mark.parametrize(("read", "wrong"), [(read, each) for read, wrong in REFUSED for each in wrong])
def test_what_is_refused(read: Callable[[Any], Any], wrong: Any) -> None:
    """It is a bad document there, and the message shows what was found."""
    with pytest.raises(WrongValueError) as caught:
        read(wrong)

    assert caught.value.reason is Reason.BAD_DOCUMENT
    assert " where " in str(caught.value)


DATA = {
    "REG_DWORD": 1,
    "REG_QWORD": 18446744073709551615,
    "REG_SZ": "1",
    "REG_EXPAND_SZ": "1",
    "REG_MULTI_SZ": ["1"],
    "REG_BINARY": "AQ==",
    "other": None,
    "REG_LINK": None,
}
OF_TYPES: list[tuple[Callable[[Any], Any], set[str]]] = [
    (values.dword, {"REG_DWORD"}),
    (values.registry_text, {"REG_SZ", "REG_EXPAND_SZ"}),
    (values.registry_hash, {"REG_BINARY"}),
    (values.names_in_order, {"REG_SZ", "REG_EXPAND_SZ", "REG_MULTI_SZ"}),
]


@pytest.mark.parametrize(
    ("read", "kind"), [(read, kind) for read, kinds in OF_TYPES for kind in DATA if kind not in kinds]
)
def test_registry_types_are_never_converted(read: Callable[[Any], Any], kind: str) -> None:
    """Schannel ignores a value of the wrong type, so it is neither absent nor what its data looks like."""
    with pytest.raises(WrongValueError, match=f"^{kind} .* where a (REG_|list)") as caught:
        read(value(kind, DATA[kind]))

    assert caught.value.reason is Reason.WRONG_REGISTRY_TYPE


@pytest.mark.parametrize("kind", ["REG_DWORD ", " REG_DWORD", "reg_dword", "REG_DWORD\x00", "REG_DWOR", "DWORD", ""])
def test_registry_types_are_compared_exactly(kind: str) -> None:
    """What only looks like a type of the script's is another, shown so that terminals stay as they are."""
    with pytest.raises(WrongValueError, match=r"1 where a REG_DWORD belongs$") as caught:
        values.dword(value(kind, 1))

    assert caught.value.reason is Reason.WRONG_REGISTRY_TYPE
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("x" * 1000, f"'{'x' * 59}…"),
        ("\x1b[2J\u202e", r"'\x1b[2J\u202e'"),
        ("\ud800", r"'\ud800'"),
        (NAN, "NaN"),
        ({"a": 1}, "an object"),
        ([[[]]], "an array"),
        (None, "None"),
        (2.5, "2.5"),
    ],
)
def test_wrong_values_are_shown_for_people(wrong: Any, shown: str) -> None:
    """Not all of them, and nothing that a terminal might obey."""
    with pytest.raises(WrongValueError) as caught:
        values.boolean(wrong)

    assert str(caught.value) == f"{shown} where true or false belongs"
    assert str(caught.value).isprintable()


def test_texts_are_cut() -> None:
    """No text of a host is longer than what a label or a table can stand."""
    assert len(values.text("x" * 100_000)) == 300
    assert [len(name) for name in values.names_in_order(value("REG_SZ", "x" * 100_000)) or ()] == [300]


JUNE_12 = _day(2016, 6, 12)


def _filetime(timestamp: float) -> int:
    return int(timestamp + 11_644_473_600) * 10_000_000


@pytest.mark.parametrize(
    ("written", "day"),
    [
        ("6/12/2016", JUNE_12),
        ("06/12/2016", JUNE_12),
        ("12/6/2016", _day(2016, 12, 6)),
        ("20160612", JUNE_12),
        (f"{_filetime(JUNE_12):016x}", JUNE_12),
        (f"{_filetime(JUNE_12):016X}", JUNE_12),
        ("2/29/2016", _day(2016, 2, 29)),
        ("20160229", _day(2016, 2, 29)),
        ("1/1/2000", _day(2000, 1, 1)),
        ("11/22/2026", _day(2026, 11, 22)),
        ("11/23/2026", _day(2026, 11, 23)),
    ],
)
def test_hotfix_days(written: str, day: float) -> None:
    """US order whatever the language; where it is tomorrow already, tomorrow is no error."""
    assert values.hotfix_day(written, AT) == day


@pytest.mark.parametrize(
    "written",
    [
        "",
        "13/6/2016",
        "6/13/16",
        "13.6.2016",
        "2016-06-13",
        "6/13/2016 12:00:00 AM",
        "2/29/2015",
        "20150229",
        "20161306",
        "0/0/0000",
        "00000000",
        "11/24/2026",
        "20261124",
        "12/31/9999",
        "12/31/1999",
        f"{_filetime(AT) + 2 * 86400 * 10_000_000:016x}",
        "0000000000000000",
        "ffffffffffffffff",
        f"{_filetime(JUNE_12):015x}",
        "\u0666/\u0661\u0662/2016",
        "x",
    ],
)
def test_hotfix_days_that_are_none(written: str) -> None:
    """Other orders, days that there are not, days to come, days before all this."""
    assert values.hotfix_day(written, AT) is None


@UNTIMED
@given(st.text() | st.from_regex(r"\A[0-9A-Fa-f/]{8,16}\Z"))
def test_hotfix_days_are_total(written: str) -> None:
    """Whatever is written there: a day that has been, or none."""
    day = values.hotfix_day(written, AT)

    assert day is None or 946684800 <= day <= AT + 86400


HIGH, LOW = divmod(_filetime(JUNE_12), 2**32)


@pytest.mark.parametrize(
    ("high", "low", "installed_at"),
    [
        (HIGH, LOW, JUNE_12),
        (HIGH, None, None),
        (None, LOW, None),
        (None, None, None),
        (0, 0, None),
        (0xFFFFFFFF, 0xFFFFFFFF, None),
        (HIGH + 100_000_000, LOW, None),
    ],
)
def test_install_times(high: int | None, low: int | None, installed_at: float | None) -> None:
    """Two halves of a FILETIME, or none."""
    assert values.install_time(high, low, AT) == installed_at


@UNTIMED
@given(st.from_regex(r"\A[0-9]{14}\.[0-9]{6}[+-][0-9]{3}\Z") | st.text())
def test_wmi_times_are_total(written: str) -> None:
    """A time of our days, or a wrong value."""
    try:
        moment = values.wmi_time(written)
    except WrongValueError:
        return
    assert 946684800 <= moment < _day(2100, 1, 1)
