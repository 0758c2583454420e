"""What it means when a visit to a host fails: every exception that the WinRM libraries let through, as a reason.

pywinrm's exceptions have no base class, and those of requests, urllib3, ssl and the operating system come wrapped in
each other. The outermost of a chain that says something decides; what only says that something went wrong decides when
there is nothing better.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import requests
import urllib3.exceptions
from urllib3.util.ssl_match_hostname import CertificateError
from winrm.exceptions import (
    AuthenticationError,
    WinRMError,
    WinRMOperationTimeoutError,
    WinRMTransportError,
    WSManFaultError,
)

from exporter.facts import Missing, Reason
from exporter.probes.printable import printable

MAX_SAID: Final = 200
"""Characters that are kept of what a host says."""

REASONS: Final = frozenset(
    {
        Reason.DNS,
        Reason.TCP_REFUSED,
        Reason.TCP_TIMEOUT,
        Reason.TCP_UNREACHABLE,
        Reason.CONNECTION_CLOSED,
        Reason.CONNECTION_RESET,
        Reason.TLS,
        Reason.NOT_WINRM,
        Reason.AUTH_REJECTED,
        Reason.AUTH_UNAVAILABLE,
        Reason.AUTH_CBT,
        Reason.ACCESS_DENIED,
        Reason.QUOTA,
        Reason.WSMAN_FAULT,
        Reason.DEADLINE,
        Reason.OUTPUT_TOO_LARGE,
        Reason.FILE_UNREADABLE,
        Reason.WORKER_DIED,
    }
)
"""Those that an exception can stand for."""


class WinRmFailure(Exception):  # noqa: N818 - the base of errors, and none itself
    """Something that our own part of the transport refuses to go on with. Its text is for people.

    Attributes:
        reason: what it stands for.
    """

    reason = Reason.NOT_WINRM

    @property
    def missing(self) -> Missing:
        """What stands for the facts then."""
        return Missing(self.reason, _said(str(self)))


class NotWinRmError(WinRmFailure):
    """What answers is not a WinRM service, or is none any more."""


class TooLargeError(WinRmFailure):
    """A host says more than any host has to say."""

    reason = Reason.OUTPUT_TOO_LARGE


class PlaintextError(WinRmFailure):
    """Something readable was about to leave although it should have been encrypted. Nothing left."""

    reason = Reason.AUTH_UNAVAILABLE


class NotOfferedError(WinRmFailure):
    """The host does not offer the authentication method; it was sent no proof of a secret.

    Args:
        offered: its WWW-Authenticate, of which only the names of methods are kept.
    """

    reason = Reason.AUTH_UNAVAILABLE

    def __init__(self, offered: str) -> None:
        super().__init__(f"the host does not offer this authentication; it offers {_methods(offered)}")


class RefusedError(WinRmFailure):
    """The host refused the credentials.

    Args:
        offered: its WWW-Authenticate, of which only the names of methods are kept.
        over_tls: whether the connection was https.
        bindings: whether the credentials were bound to it; False where that was wanted and could not be done.
    """

    def __init__(self, offered: str, *, over_tls: bool, bindings: bool) -> None:
        self.reason = Reason.AUTH_CBT if over_tls and not bindings else Reason.AUTH_REJECTED
        why = ", and no channel bindings could be made" if self.reason is Reason.AUTH_CBT else ""
        super().__init__(f"HTTP 401, the host refused the credentials{why}; it offers {_methods(offered)}")


_METHODS: Final = ("Negotiate", "Kerberos", "NTLM", "Basic", "CredSSP", "Digest")


def _methods(offered: str) -> str:
    """The known methods among those offered, without their challenges."""
    unquoted = re.sub('"[^"]*"', "", offered)
    names = {each.lower() for each in re.findall(r"(?:^|,)\s*([A-Za-z]+)", unquoted)}
    return ", ".join(each for each in _METHODS if each.lower() in names) or "nothing known"


def missing_of(error: BaseException) -> Missing:
    """What stands for the facts after an exception: one of `REASONS`, and the cause for people.

    The detail holds no secret: of exceptions that might quote one, only the name is kept.
    """
    chain = list(_chain(error))
    for each in chain:
        for kind, meaning in _TELLING:
            if isinstance(each, kind) and (missing := meaning(each)):
                return missing
    for kind, meaning in _WRAPPING:
        for each in chain:
            if isinstance(each, kind) and (missing := meaning(each)):
                return missing
    return Missing(Reason.WORKER_DIED, f"an unexpected {_name(error)}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it came from, from the outside to the inside, each once."""
    seen: set[int] = set()
    rest: list[Any] = [error]
    while rest:
        link = rest.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            # urllib3 and requests keep what they wrap as an argument, or as the reason.
            context = None if link.__suppress_context__ else link.__context__
            rest += [link.__cause__, getattr(link, "reason", None), *link.args, context]


def _said(text: str) -> str:
    """What a stranger says, on one line, printable and short."""
    joined = " ".join(text[: 4 * MAX_SAID].split())
    return printable(joined if len(joined) <= MAX_SAID else f"{joined[: MAX_SAID - 1]}…")


# WSManFault and HTTP

_QUOTAS: Final = frozenset(
    {
        2150858815,  # ERROR_WSMAN_QUOTA_LIMIT
        *range(2150859173, 2150859177),  # _QUOTA_MAX_SHELLS, _MAX_OPERATIONS, _USER, _SYSTEM
        2150859179,  # _QUOTA_MAX_SHELLUSERS
        *range(2150859236, 2150859243),  # _QUOTA_MAX_SHELLS_PPQ to _MIN_REQUIREMENT_NOT_AVAILABLE_PPQ
        1816,  # ERROR_NOT_ENOUGH_QUOTA: a shell's memory or processes
        2147944216,  # the same as HRESULT
    }
)
"""Source: wsmerror.h and winerror.h of the Windows SDK."""

_DENIED: Final = frozenset(
    {
        5,  # ERROR_ACCESS_DENIED: logged on, but no administrator
        2147942405,  # the same as HRESULT
        2150859012,  # ERROR_WSMAN_WMI_SVC_ACCESS_DENIED
        2150859013,  # ERROR_WSMAN_WMI_PROVIDER_ACCESS_DENIED
        2150859014,  # ERROR_WSMAN_WMI_CANNOT_CONNECT_ACCESS_DENIED
        2150859180,  # ERROR_WSMAN_REMOTESHELLS_NOT_ALLOWED
        2150859229,  # ERROR_WSMAN_SERVICE_REMOTE_ACCESS_DISABLED
        2150859235,  # ERROR_WSMAN_REMOTE_CONNECTION_NOT_ALLOWED
    }
)
"""Same sources."""


def _fault(error: WSManFaultError) -> Missing:
    """By the code, as the text may be in any language; Windows Server 2008 R2 puts some codes into an MSFT_WmiError."""
    codes = {code for code in (error.wsman_fault_code, error.wmierror_code) if code is not None}
    subcode = (error.fault_subcode or "").rpartition(":")[2]
    if codes & _QUOTAS or subcode == "QuotaLimit":
        reason = Reason.QUOTA
    elif codes & _DENIED or subcode == "AccessDenied":
        reason = Reason.ACCESS_DENIED
    else:
        reason = Reason.WSMAN_FAULT
    name = " ".join(map(str, codes)) or subcode or "without a code"
    return Missing(reason, _said(f"WSManFault {name}: {error.reason}"))


_STATUS: Final = {
    403: (Reason.ACCESS_DENIED, "it forbids the access"),
    404: (Reason.NOT_WINRM, "no WinRM service listens at /wsman"),
    503: (Reason.NOT_WINRM, "the WinRM service is not running"),
}


def _http(error: WinRMTransportError) -> Missing:
    if error.code == http.HTTPStatus.INTERNAL_SERVER_ERROR and not error.response_text:
        # What Windows answers to a message that it can read, unless AllowUnencrypted is set: pywinrm issues 129, 208.
        return Missing(Reason.WSMAN_FAULT, "HTTP 500 without a fault: Windows' answer to what it wants encrypted")
    reason, meaning = _STATUS.get(error.code, (Reason.NOT_WINRM, "nothing that WinRM answers"))
    return Missing(reason, f"HTTP {error.code}: {meaning}")


# What the libraries raise


def _logon(error: AuthenticationError) -> Missing:
    """A refusal; or what pywinrm misses before it asks anybody, in the same exception."""
    if "file not found" in str(error):
        return Missing(Reason.FILE_UNREADABLE, _said(str(error)))
    if "requires a" in str(error) or "must be specified" in str(error):
        return Missing(Reason.AUTH_UNAVAILABLE, _said(str(error)))
    return Missing(Reason.AUTH_REJECTED, "HTTP 401, the host refused the credentials")


_LOGON_LIBRARIES: Final = ("spnego.", "kerberos", "gssapi.", "winrm.vendor.requests_kerberos.")
"""By name: the first has another owner here, and those of Kerberos are there with the extra only."""


def _logon_library(error: Exception) -> Missing | None:
    if not f"{type(error).__module__}.".startswith(_LOGON_LIBRARIES):
        return None
    tampered = type(error).__name__ == "BadMICError"
    reason = Reason.NOT_WINRM if tampered else Reason.AUTH_UNAVAILABLE
    return Missing(reason, _said(f"{type(error).__name__}: {error}"))


def _pywinrm(error: WinRMError) -> Missing:
    tampered = "tampered" in str(error)
    return Missing(Reason.NOT_WINRM if tampered else Reason.AUTH_UNAVAILABLE, _said(str(error)))


def _tls(error: ssl.SSLError) -> Missing:
    said = str(error.args[-1] if error.args else error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Missing(Reason.TLS, _said(f"the host's certificate: {error.verify_message}"))
    if any(each in said for each in ("PEM lib", "KEY_VALUES_MISMATCH", "NO_CERTIFICATE_OR_CRL_FOUND")):
        return Missing(Reason.FILE_UNREADABLE, _said(f"a certificate or key file of ours: {said}"))
    return Missing(Reason.TLS, _said(said))


def _wrapped_tls(error: urllib3.exceptions.SSLError) -> Missing:
    own_key = "private key is encrypted" in str(error)
    return Missing(Reason.FILE_UNREADABLE if own_key else Reason.TLS, _said(str(error)))


_NO_ROUTE: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL}
)


def _system(error: OSError) -> Missing | None:
    """The operating system's; or bare ones: requests' for missing files, requests-ntlm's for missing challenges."""
    if error.errno in _NO_ROUTE:
        return Missing(Reason.TCP_UNREACHABLE, _said(error.strerror or str(error)))
    if error.errno == errno.ETIMEDOUT:
        return Missing(Reason.TCP_TIMEOUT, _said(error.strerror or str(error)))
    if type(error) is PermissionError and error.errno is None:
        return Missing(Reason.AUTH_UNAVAILABLE, "the host sent no NTLM challenge")
    if error.filename or "Could not find" in str(error):
        return Missing(Reason.FILE_UNREADABLE, _said(str(error)))
    return Missing(Reason.TCP_UNREACHABLE, _said(error.strerror)) if error.strerror else None


def _not_connected(error: BaseException) -> Missing | None:
    """Too late; or, as urllib3 derives the one from the other, not at all, which what it wraps explains."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return None
    return Missing(Reason.TCP_TIMEOUT, "no answer to the attempt to connect")


def _incomplete(error: http.client.IncompleteRead) -> Missing:
    if getattr(error, "length", b""):  # of a chunk: text that is no length
        return Missing(Reason.NOT_WINRM, f"{_NONE_OF_WINRM} ({_name(error)})")
    return Missing(Reason.CONNECTION_CLOSED, "the host closed the connection in mid answer")


def _always(reason: Reason, detail: str) -> Callable[[Any], Missing]:
    return lambda _: Missing(reason, detail)


def _quoting(reason: Reason) -> Callable[[Any], Missing]:
    """For exceptions whose own words hold nothing that is secret."""
    return lambda error: Missing(reason, _said(f"{type(error).__name__}: {error}" if str(error) else repr(error)))


def _named(reason: Reason, detail: str) -> Callable[[Any], Missing]:
    """For exceptions whose own words might hold anything."""
    return lambda error: Missing(reason, f"{detail} ({_name(error)})")


def _name(error: BaseException) -> str:
    """As in a traceback, but for the modules between a library's top and the class."""
    module = type(error).__module__.partition(".")[0]
    return type(error).__name__ if module == "builtins" else f"{module}.{type(error).__name__}"


_Row: TypeAlias = tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any], Missing | None]]

_NONE_OF_WINRM: Final = "an answer that is none of WinRM's"
_TOLD_TO_WAIT: Final = "the host did not finish an operation in the time that it was given"

# Subclasses before their bases.
_TELLING: Final[tuple[_Row, ...]] = (
    (WinRmFailure, lambda error: error.missing),
    # pywinrm
    (WSManFaultError, _fault),
    (WinRMOperationTimeoutError, _always(Reason.DEADLINE, f"{_TOLD_TO_WAIT} (WSManFault 2150858793)")),
    (WinRMTransportError, _http),
    (AuthenticationError, _logon),
    (WinRMError, _pywinrm),
    # memory and time
    (MemoryError, _always(Reason.OUTPUT_TOO_LARGE, "the answer did not fit into the memory that it may take")),
    (
        (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError),
        _always(Reason.DEADLINE, "the host fell silent in mid exchange"),
    ),
    # no connection, or no more
    ((socket.gaierror, urllib3.exceptions.NameResolutionError), _quoting(Reason.DNS)),
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), _not_connected),
    ((urllib3.exceptions.LocationParseError, requests.exceptions.InvalidURL), _named(Reason.DNS, "no host's name")),
    (ssl.SSLError, _tls),
    (CertificateError, _quoting(Reason.TLS)),
    (http.client.RemoteDisconnected, _always(Reason.CONNECTION_CLOSED, "the host closed the connection")),
    (ConnectionRefusedError, _always(Reason.TCP_REFUSED, "the host refused the connection")),
    (ConnectionError, _always(Reason.CONNECTION_RESET, "the host reset the connection")),
    (http.client.IncompleteRead, _incomplete),
    # another protocol, or nonsense in this one
    (
        (
            http.client.HTTPException,
            urllib3.exceptions.DecodeError,
            urllib3.exceptions.HeaderParsingError,
            requests.exceptions.ContentDecodingError,
            requests.exceptions.InvalidSchema,
            requests.exceptions.TooManyRedirects,
        ),
        _named(Reason.NOT_WINRM, _NONE_OF_WINRM),
    ),
    # NTLM and Kerberos
    (Exception, _logon_library),
    (NotImplementedError, _named(Reason.AUTH_UNAVAILABLE, "the Kerberos library cannot encrypt messages")),
    (UnicodeEncodeError, _named(Reason.AUTH_UNAVAILABLE, "a name or password that this authentication cannot carry")),
    (ET.ParseError, _quoting(Reason.NOT_WINRM)),
)

_WRAPPING: Final[tuple[_Row, ...]] = (
    (urllib3.exceptions.SSLError, _wrapped_tls),
    (OSError, _system),
    (TimeoutError, _always(Reason.DEADLINE, "the host fell silent")),
    (urllib3.exceptions.NewConnectionError, _named(Reason.TCP_UNREACHABLE, "no connection came about")),
    (
        (
            urllib3.exceptions.ProtocolError,
            requests.exceptions.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
        ),
        _named(Reason.CONNECTION_CLOSED, "the connection broke"),
    ),
    (
        (KeyError, IndexError, StopIteration, AssertionError, ValueError, TypeError, AttributeError, struct.error),
        _named(Reason.NOT_WINRM, _NONE_OF_WINRM),
    ),
)
