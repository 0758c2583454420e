"""What a fact is: known, or missing for a reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NoReturn, TypeAlias, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Reason(StrEnum):
    """Why an answer is negative or missing. The closed list of the metrics' ``reason`` label, see docs/concepts.md."""

    NOT_OBSERVED_YET = "not_observed_yet"
    STALE = "stale"
    DNS = "dns"
    TCP_REFUSED = "tcp_refused"
    TCP_TIMEOUT = "tcp_timeout"
    TCP_UNREACHABLE = "tcp_unreachable"
    TLS_TIMEOUT = "tls_timeout"
    DEADLINE = "deadline"
    NOT_TLS = "not_tls"
    STARTTLS_REFUSED = "starttls_refused"
    STARTTLS_MISSING = "starttls_missing"
    RATE_LIMITED = "rate_limited"
    CONNECTION_CLOSED = "connection_closed"
    CONNECTION_RESET = "connection_reset"
    TLS = "tls"
    TLS_ALERT = "tls_alert"
    WRONG_VERSION = "wrong_version"
    ALL_REJECTED = "all_rejected"
    CONTRADICTORY = "contradictory"
    WORKER_DIED = "worker_died"
    NOT_WINRM = "not_winrm"
    AUTH_REJECTED = "auth_rejected"
    AUTH_UNAVAILABLE = "auth_unavailable"
    AUTH_CBT = "auth_cbt"
    CREDENTIAL_BLOCKED = "credential_blocked"
    QUOTA = "quota"
    WSMAN_FAULT = "wsman_fault"
    OUTPUT_TOO_LARGE = "output_too_large"
    NOT_COLLECTED = "not_collected"
    ACCESS_DENIED = "access_denied"
    SCRIPT_ERROR = "script_error"
    REDIRECTED = "redirected"
    WRONG_REGISTRY_TYPE = "wrong_registry_type"
    BAD_DOCUMENT = "bad_document"
    OTHER_HOST = "other_host"
    FILE_UNREADABLE = "file_unreadable"


class MissingFactError(Exception):
    """The value of a missing fact was read."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(f"{missing.reason}: {missing.detail}")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Known(Generic[T_co]):
    """A fact that was observed.

    Attributes:
        value: what was seen.
        at: when, Unix time in seconds.
        reason: how a negative showed itself on the wire (``connection_reset``, ``tls_alert``); None for positives.
        detail: the same for people, for logs and reports.
    """

    value: T_co
    at: float
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that we do not have, and why."""

    reason: Reason
    detail: str = ""

    @property
    def value(self) -> NoReturn:
        """Raise `MissingFactError`: there is no value to read."""
        raise MissingFactError(self)


Fact: TypeAlias = Known[T_co] | Missing

UNSEEN = Missing(Reason.NOT_OBSERVED_YET)
"""What stands for a fact before the first attempt to see it."""


def fresh(fact: Fact[T_co], now: float, max_age: float) -> Fact[T_co]:
    """The fact, or *stale* in its place when it is older than ``max_age`` seconds."""
    if isinstance(fact, Missing):
        return fact
    return kept(fact, Missing(Reason.STALE, f"the last answer is older than {max_age:.0f} s"), now, max_age)


def kept(old: Fact[T_co], new: Fact[T_co], now: float, max_age: float) -> Fact[T_co]:
    """The fact that stands after ``new`` came in: a known one always, else the old one while it is young enough.

    A contradiction is news as well: what was known before is in doubt.
    """
    if isinstance(new, Known) or isinstance(old, Missing) or new.reason is Reason.CONTRADICTORY:
        return new
    return old if now - old.at <= max_age else new
