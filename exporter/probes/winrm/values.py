"""Readers of single JSON values: each takes what a document has in a place, and returns what it means.

Raises:
    WrongValueError: it is something else. Every reader; that costs the one item that it was for.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, TypeVar

from exporter.facts import Reason, Version
from exporter.probes.printable import printable

T = TypeVar("T")
Reader = Callable[[Any], T]


class WrongValueError(Exception):
    """A value is not what belongs in its place."""

    def __init__(self, wanted: str, value: object, reason: Reason = Reason.BAD_DOCUMENT) -> None:
        super().__init__(f"{_shown(value)} where {wanted} belongs")
        self.reason = reason


class Odd(str):
    """What stands for a value that JSON proper does not have; its text says what it was."""

    __slots__ = ()


def _shown(value: object) -> str:
    """A value for people. Never all of it: it may be long, or deep."""
    if isinstance(value, Odd):
        return str(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    shown = printable(repr(value[:_SHOWN] if isinstance(value, str) else value))
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


_SHOWN: Final = 60
_FILE_NUMBERS: Final = 4


def text(value: Any) -> str:
    """A text, fit for terminals and labels."""
    return printable(_raw_text(value).strip())


def _raw_text(value: Any) -> str:
    if not isinstance(value, str) or isinstance(value, Odd):
        raise WrongValueError("a text", value)
    return value


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WrongValueError("true or false", value)
    return value


def number(value: Any) -> int:
    """A whole number, 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WrongValueError("a whole number", value)
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise WrongValueError("an object", value)
    return value


MAX_ITEMS: Final = 10_000
"""Items of an array that are read; more than any host has of anything."""


def items(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A JSON array, each of whose items is what ``read`` reads."""

    def read_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise WrongValueError(f"an array of at most {MAX_ITEMS}", value)
        return tuple(map(read, value))

    return read_all


def optional(read: Reader[T]) -> Reader[T | None]:
    """What ``read`` reads, or null."""
    return lambda value: None if value is None else read(value)


def key(name: str, read: Reader[T]) -> Reader[T]:
    """What stands under a key of an object."""

    def read_key(value: Any) -> T:
        held = mapping(value)
        if name not in held:
            raise WrongValueError(f"an object with {name}", value)
        return read(held[name])

    return read_key


def version(value: Any) -> Version:
    """A version: three or four numbers with dots between them."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){2,3}", value):
        raise WrongValueError("a version", value)
    numbers = tuple(map(int, value.split(".")))
    if not any(numbers):  # what Windows says of a file whose version it cannot read
        raise WrongValueError("a version", value)
    return numbers


def file_version(value: Any) -> Version:
    """The version of a file: four numbers."""
    numbers = key("version", version)(value)
    if len(numbers) != _FILE_NUMBERS:
        raise WrongValueError("a file's version", value)
    return numbers


# Times, all as Unix time in seconds


def clock(value: Any) -> float:
    """ISO 8601 in UTC, to the second: how the script writes the time."""
    return _iso_8601(value, "[0-9:]{8}", "a time like 2026-11-22T08:00:00Z")


def log_time(value: Any) -> float:
    """The date-time field of a protocol log: the same, to the millisecond."""
    return _iso_8601(value, "[0-9:.]{12}", "a time of a protocol log")


def _iso_8601(value: Any, time_of_day: str, wanted: str) -> float:
    if isinstance(value, str) and re.fullmatch(f"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{time_of_day}Z", value):
        with contextlib.suppress(ValueError):
            return _of_our_days(datetime.fromisoformat(value))
    raise WrongValueError(wanted, value)


def one_of(*allowed: T) -> Reader[T]:
    """One of these values."""

    def read(value: Any) -> T:
        for each in allowed:
            if value == each and type(value) is type(each):
                return each
        raise WrongValueError(f"one of {', '.join(map(str, allowed))}", value)

    return read


def wmi_time(value: Any) -> float:
    """A CIM datetime: ``20261122080000.500000+060``, the last part in minutes (DMTF DSP0004)."""
    match = re.fullmatch(r"([0-9]{14})\.([0-9]{6})([+-][0-9]{3})", value) if isinstance(value, str) else None
    if match:
        with contextlib.suppress(ValueError, OverflowError):
            offset = timezone(timedelta(minutes=int(match[3])))
            return _of_our_days(datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=offset))
    raise WrongValueError("a WMI time", value)


_FIRST_DAY: Final = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LAST_DAY: Final = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


def _of_our_days(moment: datetime) -> float:
    """A clock that is not set, or a figure that is none, must not come out as a time."""
    timestamp = moment.timestamp()
    if not _FIRST_DAY <= timestamp < _LAST_DAY:
        raise ValueError("not a time of our days")
    return timestamp


def hotfix_day(value: str, collected_at: float) -> float | None:
    """The day in Win32_QuickFixEngineering's InstalledOn; None where it makes no date.

    Windows writes M/d/yyyy in US order whatever its language, on Windows Server 2008 a FILETIME in hexadecimal or
    yyyyMMdd. A day in the future is none: then the order is another after all.
    """
    try:
        if re.fullmatch(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}", value):
            day = datetime.strptime(value, "%m/%d/%Y").replace(tzinfo=UTC).timestamp()
        elif re.fullmatch(r"[0-9]{8}", value):
            day = datetime.strptime(value, "%Y%m%d").replace(tzinfo=UTC).timestamp()
        elif re.fullmatch(r"[0-9A-Fa-f]{16}", value):
            day = filetime(int(value, 16))
        else:
            return None
    except ValueError:
        return None
    return _past(day, collected_at)


def filetime(ticks: int) -> float:
    """A FILETIME: 100 ns since 1601."""
    return ticks / 10_000_000 - 11_644_473_600


def install_time(high: int | None, low: int | None, collected_at: float) -> float | None:
    """When a package was installed, from the two halves of a FILETIME; None where there is no such time."""
    return None if high is None or low is None else _past(filetime(high << 32 | low), collected_at)


def _past(timestamp: float, collected_at: float) -> float | None:
    return timestamp if _FIRST_DAY <= timestamp <= collected_at + 86400 else None


# Registry values


def dword(value: Any) -> int | None:
    """A REG_DWORD; None where there is no value."""
    return _registry(value, "a REG_DWORD", {"REG_DWORD": _within_dword})


def registry_text(value: Any) -> str | None:
    """A REG_SZ or REG_EXPAND_SZ; None where there is no value."""
    return _registry(value, "a REG_SZ", {"REG_SZ": text, "REG_EXPAND_SZ": text})


def registry_hash(value: Any) -> str | None:
    """A REG_BINARY, in lower-case hexadecimal; None where there is no value, or nothing in it."""
    return _registry(value, "a REG_BINARY", {"REG_BINARY": lambda data: binary(data).hex() or None})


def names_in_order(value: Any) -> tuple[str, ...] | None:
    """A list of names, however it is written; None where there is no value.

    Policy has one REG_SZ with commas, the local list is REG_MULTI_SZ; and Microsoft's own instructions for Windows
    Server 2012 R2 put one string with commas into the latter.
    """
    return _registry(value, "a list of names", {"REG_SZ": _split, "REG_EXPAND_SZ": _split, "REG_MULTI_SZ": _split_each})


def binary(value: Any) -> bytes:
    """Base64."""
    try:
        return base64.b64decode(_raw_text(value), validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise WrongValueError("base64", value) from error


def _registry(value: Any, wanted: str, readers: Mapping[str, Reader[T]]) -> T | None:
    if value is None:
        return None
    kind = key("type", _raw_text)(value)
    data = mapping(value).get("value")
    if kind in readers:
        return readers[kind](data)
    raise WrongValueError(wanted, Odd(f"{printable(kind)} {_shown(data)}"), Reason.WRONG_REGISTRY_TYPE)


def _within_dword(value: Any) -> int:
    if number(value) > 0xFFFFFFFF:
        raise WrongValueError("a REG_DWORD", value)
    return number(value)


def _split(value: Any) -> tuple[str, ...]:
    return tuple(printable(name.strip()) for name in _raw_text(value).split(",") if name.strip())


def _split_each(value: Any) -> tuple[str, ...]:
    return tuple(name for names in items(_split)(value) for name in names)
