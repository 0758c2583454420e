"""Makes pywinrm's HTTP safe: where it connects to, what it may send there, how often, and how much it may read.

pywinrm leaves HTTP to requests, which would follow redirects (and log on there), take an answer of any size, and whose
authentication handlers may answer one refusal with another attempt. And pywinrm itself, once its first message
failed, sends the next one in the clear. All of it passes the adapter here, which lets through what is expected only.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context
from winrm.exceptions import WinRMTransportError
from winrm.protocol import Protocol

from exporter.probes.winrm.failures import (
    NotOfferedError,
    NotWinRmError,
    PlaintextError,
    RefusedError,
    TooLargeError,
)
from exporter.probes.winrm.jobs import CollectJob

OPERATION_TIMEOUT: Final = 20
"""Seconds after which the host says that there is no output yet, and is asked again. WinRM's own most is 60."""
READ_TIMEOUT: Final = 30
"""Seconds of silence after which a connection is given up."""
MAX_RESPONSE: Final = 2 << 20
"""Bytes. A host is asked for envelopes of 150 kB at most; WinRM's own limit is 500 kB."""

_ENCRYPTED: Final = "multipart/encrypted"
_SEALED: Final = 'protocol="application/HTTP-SPNEGO-session-encrypted"'
_METHODS: Final = {"ntlm": ("negotiate", "ntlm"), "kerberos": ("negotiate", "kerberos"), "basic": ("basic",)}
_LOST: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED)  # to what nobody can decrypt: pywinrm issue 377
_AUTHENTICATE: Final = b"NTLMSSP\0\x03"  # the third message of NTLM, which holds the proof of the password


@dataclass(slots=True)
class Seen:
    """What the exchange with a host has shown so far.

    Attributes:
        logged_on: whether the host let a request through that proves who we are: some web server may, of whoever asks.
        accepted: whether it accepted the log-on, as WinRM does; None before that is known.
        unbound: why no channel bindings could be made, though they were wanted.
    """

    logged_on: bool = False
    accepted: bool | None = None
    unbound: str = ""


def connect(job: CollectJob, seen: Seen) -> Protocol:
    """Log on to a host, if that takes a message of its own. One connection, for one thread, to be thrown away after.

    What it raises `exporter.probes.winrm.failures` knows.
    """
    login = job.login
    protocol = Protocol(
        endpoint=endpoint(job),
        transport=login.auth,
        username=login.username or None,
        password=login.password,
        cert_pem=login.certificate_file or None,
        cert_key_pem=login.key_file or None,
        ca_trust_path=login.ca_file or _system_trust(),
        message_encryption="never",  # until the adapter is in place; then by hand
        operation_timeout_sec=OPERATION_TIMEOUT,
        read_timeout_sec=READ_TIMEOUT,
        send_cbt=login.channel_bindings,
        proxy=None,
    )
    session = protocol.transport.build_session()  # sends nothing yet
    session.trust_env = False
    adapter = _Adapter(job, seen)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.headers["Host"] = f"{_bracketed(job.server)}:{login.port}"
    try:
        if adapter.encrypts:
            protocol.transport.setup_encryption(session)
    except BaseException:
        protocol.transport.close_session()
        raise
    return protocol


def endpoint(job: CollectJob) -> str:
    """The address of the WinRM service, whole: pywinrm's own way to build one gets ports and IPv6 wrong."""
    return f"{'https' if job.login.https else 'http'}://{_bracketed(job.server)}:{job.login.port}/wsman"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _system_trust() -> str:
    """The system's trusted certificates: requests would take its own list, which no private authority is in.

    Where there are none, a path that does not exist: without any path, requests would trust everybody.
    """
    paths = ssl.get_default_verify_paths()
    return next((path for path in (paths.cafile, paths.capath) if path and Path(path).exists()), paths.openssl_cafile)


class _Adapter(HTTPAdapter):
    """Carries the requests to one host."""

    def __init__(self, job: CollectJob, seen: Seen) -> None:
        self._job = job
        self._seen = seen
        self._endpoint = endpoint(job).lower()
        self.encrypts = not job.login.https and job.login.auth in {"ntlm", "kerberos"}
        # A Kerberos client that finds TLS does its first attempt without channel bindings, and a second with them.
        self._attempts = 2 if job.login.auth == "kerberos" and job.login.https else 1
        self._last: requests.Response | None = None
        super().__init__(pool_connections=1, pool_maxsize=1)

    def close(self) -> None:
        """End the connection, at once and also with an answer that nobody read; called by the session."""
        if self._last is not None:
            self._last.close()
        pools = self.poolmanager.pools
        for key in pools.keys():  # noqa: SIM118 - it is no mapping that can be iterated
            pools[key].close()
        super().close()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:  # noqa: FBT001, FBT002 - the base class'
        """Add what pools need to know; called by the base class."""
        login = self._job.login
        if login.https:
            kwargs["server_hostname"] = kwargs["assert_hostname"] = self._job.server
        if login.auth == "certificate":
            # Windows asks for client certificates after the handshake, which TLS 1.3 forbids (pywinrm issue 376).
            kwargs["ssl_context"] = create_urllib3_context(ssl_maximum_version=ssl.TLSVersion.TLSv1_2)
        super().init_poolmanager(connections, maxsize, block, **kwargs)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Connect to the address, whatever the name in the request is; called by the base class."""
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        host["host"] = self._job.address
        return host, pool

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send one request and look at what comes back, before anybody acts on it."""
        self._check(request)
        proves = _proves_who_we_are(request, self._job.login.auth)
        if proves:
            self._attempts -= 1
        response = self._last = super().send(request, *args, **options)
        response.raw.stream = _bounded(response.raw.stream)  # type: ignore[method-assign]  # of this response alone
        try:
            self._judge(request, response, proves=proves)
        except BaseException:
            response.close()
            raise
        return response

    def _check(self, request: requests.PreparedRequest) -> None:
        if (request.url or "").lower() != self._endpoint:
            raise NotWinRmError(f"it leads to {request.url}")
        if self.encrypts and request.body and not _is_encrypted(request.headers):
            raise PlaintextError("a message was about to leave without encryption")
        if self._attempts < 1 and not self._seen.logged_on:
            raise RefusedError("", over_tls=self._job.login.https, bindings=not self._seen.unbound)

    def _judge(self, request: requests.PreparedRequest, response: requests.Response, *, proves: bool) -> None:
        status = response.status_code
        if response.is_redirect or HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise NotWinRmError(f"HTTP {status}, to {response.headers.get('Location', 'nowhere')}")
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:  # requests-ntlm would log on there as well
            raise NotWinRmError(f"HTTP {status}: it takes itself for a proxy")
        if self.encrypts and self._seen.logged_on and status in _LOST:
            raise ConnectionResetError("the connection was lost, and with it the log-on")
        if status == HTTPStatus.UNAUTHORIZED:
            self._judge_refusal(request, response, proves=proves)
        elif proves and status in {HTTPStatus.OK, HTTPStatus.INTERNAL_SERVER_ERROR}:
            self._seen.logged_on = True
        if self.encrypts and request.body and not _is_sealed(response.headers):
            if _says_something(response):
                raise NotWinRmError(f"it answered an encrypted message without encryption, HTTP {status}")
            raise WinRMTransportError("http", status, "")  # nobody vouches for what it may say beside the status

    def _judge_refusal(self, request: requests.PreparedRequest, response: requests.Response, *, proves: bool) -> None:
        offered = response.headers.get("WWW-Authenticate", "")
        login = self._job.login
        wanted = _METHODS.get(login.auth, ())
        fits = not wanted or any(method in offered.lower() for method in wanted)
        # Basic is sent unasked: a host that takes other methods only has not looked at the password.
        unseen = login.auth == "basic" and offered and not fits
        if proves and self._attempts < 1 and not unseen:
            self._seen.accepted = False
            raise RefusedError(offered, over_tls=login.https, bindings=not self._seen.unbound)
        if not fits or (not proves and _token(request) and not _challenge(offered)):
            raise NotOfferedError(offered)


def _proves_who_we_are(request: requests.PreparedRequest, auth: str) -> bool:
    """Whether a request carries the whole proof; a certificate is part of the connection."""
    if auth == "ntlm":
        return _token(request).startswith(_AUTHENTICATE)
    return auth == "certificate" or bool(request.headers.get("Authorization"))


def _token(request: requests.PreparedRequest) -> bytes:
    """The authentication token of a request."""
    _, _, token = str(request.headers.get("Authorization", "")).partition(" ")
    try:
        return base64.b64decode(token)
    except binascii.Error:
        return b""


def _challenge(offered: str) -> bool:
    """Whether one of the offered methods comes with a token."""
    return any(len(each.split()) > 1 for each in offered.split(","))


def _says_something(response: requests.Response) -> bool:
    """Whether there is a message in it that somebody might believe: an outcome or a fault."""
    fault = response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR and response.headers.get("Content-Length") != "0"
    return response.ok or fault


def _is_encrypted(headers: Any) -> bool:
    return str(headers.get("Content-Type", "")).lower().startswith(_ENCRYPTED)


def _is_sealed(headers: Any) -> bool:
    """Whether pywinrm, too, will take an answer for an encrypted one, and check its seal."""
    return _is_encrypted(headers) and _SEALED in headers["Content-Type"]


def _bounded(stream: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    """The stream of a response's body, with an end."""

    def read(*args: Any, **options: Any) -> Iterator[bytes]:
        size = 0
        for chunk in stream(*args, **options):
            size += len(chunk)
            if size > MAX_RESPONSE:
                raise TooLargeError(f"one answer of more than {MAX_RESPONSE} bytes")
            yield chunk

    return read
