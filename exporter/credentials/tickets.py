"""Kerberos tickets, got and renewed by MIT Kerberos' own programs: ``kinit``, ``kvno`` and ``klist``.

Programs and not a library, because a KDC that does not answer blocks the whole process inside of libkrb5 for up to a
minute, and a process can be killed. The password goes to kinit's standard input. What the programs say is read in the C
locale; the texts are those of libkrb5 1.20, each seen in an experiment with a Samba controller or read in its source.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from exporter.credentials.secret import Keytab, Password
from exporter.facts import Reason

_PROGRAMS: Final = ("kinit", "kvno", "klist")
_REMEMBERED: Final = 60.0
"""Seconds for which a failure that says nothing about the secret stands for all hosts of the principal."""
_MARGIN: Final = 600.0
"""Seconds that a ticket must live on; a tenth of its life, if that is shorter. A collection takes two minutes."""

_NO_KDC: Final = ("Cannot contact any KDC", "Cannot find KDC", "Cannot resolve")
_HARMLESS: Final = (
    *_NO_KDC,
    "Clock skew too great",
    "A service is not available that is required",
    "Failed to store credentials",  # the KDC gave them
    # Said before anything is sent, and put right elsewhere than in the secret.
    "Malformed representation of principal",
    "Configuration file does not specify default realm",
    "Improper format of Kerberos configuration file",
)
"""What kinit says when no KDC judged the secret. Every other text is taken for a logon attempt that was refused."""
_NO_KEYS: Final = "Pre-authentication failed:"
"""What kinit says, with the cause behind it, when it could not read the keytab. A KDC's own refusal has no hyphen."""
_CLIENT_REFUSED: Final = (
    "Client's credentials have been revoked",
    "Client's entry in database has expired",
    "Password has expired",
)
"""What kvno says when the account itself is refused. It sends no password: nothing else that it says is a refusal."""
_STALE: Final = (
    "Ticket expired",
    "TGT has been revoked",
    "Clock skew too great",  # libkrb5 measures the skew with each kinit, and reckons with it from then on
    "Message stream modified",
    "Decrypt integrity check failed",  # the key of krbtgt was changed
    "No credentials cache found",
)
"""What kvno says when a new ticket-granting ticket may help."""

_ONCE: Final = "[libdefaults]\nudp_preference_limit = 1\n"
"""What kinit reads before the system's krb5.conf. After a second without answer to a datagram libkrb5 sends the message
again, and a slow KDC counts a wrong password twice: Samba's did, when answers took 1.6 s. By TCP it waits ten seconds.
"""
_ONCE_FILE: Final = "krb5.conf"
_SYSTEM_CONFIG: Final = "/etc/krb5.conf"

# The first ticket of a new cache, in the C locale, as "11/22/26 23:47:22  11/23/26 09:47:22  krbtgt/A.TEST@A.TEST".
_GRANTING: Final = re.compile(
    r"^(\d\d/\d\d/\d\d \d\d:\d\d:\d\d)  (\d\d/\d\d/\d\d \d\d:\d\d:\d\d)  krbtgt/", re.MULTILINE
)

Secret: TypeAlias = Password | Keytab


class TicketError(Exception):
    """There is no ticket.

    Attributes:
        refused: it may have counted as a logon attempt, or will never become right by itself: do not ask again with
            this secret.
        reason: ``auth_rejected`` when refused, else ``auth_unavailable`` or ``file_unreadable``.
        detail: the cause, for logs. Never the secret.
    """

    def __init__(self, *, refused: bool, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.refused = refused
        self.reason = reason
        self.detail = detail

    def again(self) -> TicketError:
        """The same, to be raised for another host."""
        return TicketError(refused=self.refused, reason=self.reason, detail=self.detail)


class _StaleTicketError(TicketError):
    """The KDC does not take the ticket-granting ticket any more."""


@dataclass(frozen=True, slots=True)
class _Said:
    code: int
    output: str
    error: str


@dataclass(frozen=True, slots=True)
class _Granted:
    """A ticket-granting ticket: by which secret, and until when, by the clock of `Tickets`."""

    secret: Secret
    renew_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class _Failure:
    error: TicketError
    secret: Secret
    at: float


@dataclass(slots=True)
class _Principal:
    """What is known of one principal. ``attempts`` counts how often kinit has ended."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    attempts: int = 0
    granted: _Granted | None = None
    failure: _Failure | None = None

    def refusal(self, secret: Secret) -> TicketError | None:
        """The last answer, if it was that this secret is refused."""
        failure = self.failure
        return failure.error.again() if failure and failure.secret == secret and failure.error.refused else None

    def remembered(self, secret: Secret, now: float) -> TicketError | None:
        """The failure that still stands. No refusal: not to ask again after one is the caller's business."""
        failure = self.failure
        if failure is None or failure.error.refused or failure.secret != secret or now >= failure.at + _REMEMBERED:
            return None
        return failure.error.again()


class Tickets:
    """Kerberos tickets of all credentials, in one ``DIR:`` collection in a private folder that `close` removes.

    Args:
        timeout: seconds that kinit, kvno or klist may take, each, until it is killed.
        clock: seconds, of any origin. The computer's time is not asked: the life of a ticket is in the ticket, and a
            clock that is wrong or is put right must not cut it short.
    """

    def __init__(self, timeout: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._principals: dict[str, _Principal] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="tls-readiness-tickets-"))  # 0700
        (folder / _ONCE_FILE).write_text(_ONCE)
        return folder

    @property
    def cache(self) -> str:
        """The collection, for KRB5CCNAME; a principal's tickets are found in it by the principal."""
        return f"DIR:{self._folder}"

    async def ensure(self, principal: str, secret: Secret, service: str, host: str) -> None:
        """Have a ticket-granting ticket with some life left and a service ticket for service/host.

        Goes on to its end when the caller is cancelled: a logon attempt that was begun must have one answer, for all
        who wait for it. While no KDC answers, cached tickets go on being good.

        Raises:
            TicketError: there is none.
        """
        task = asyncio.create_task(self._ensure(principal, secret, service, host))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.shield(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if the caller went

    async def close(self) -> None:
        """End what runs and remove the folder with everything in it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if "_folder" in vars(self):
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ensure(self, principal: str, secret: Secret, service: str, host: str) -> None:
        state = self._principals.setdefault(principal, _Principal())
        known = state.granted
        granted = await self._granting_ticket(principal, state, secret)
        try:
            await self._service_ticket(principal, state, secret, service, host)
        except _StaleTicketError:
            if granted is not known:  # it is new: another will fare no better
                raise
            if state.granted is granted:
                state.granted = None
            await self._granting_ticket(principal, state, secret)
            await self._service_ticket(principal, state, secret, service, host)

    async def _granting_ticket(self, principal: str, state: _Principal, secret: Secret) -> _Granted:
        """The ticket-granting ticket; a new one if it is time."""
        attempts = state.attempts
        async with state.lock:
            granted = state.granted if state.granted and state.granted.secret == secret else None
            if granted and self._clock() < granted.renew_at:
                return granted
            if state.attempts != attempts and (refusal := state.refusal(secret)):
                raise refusal  # the answer to the attempt that this one waited for
            try:
                if remembered := state.remembered(secret, self._clock()):
                    raise remembered
                return await self._attempt(principal, state, secret)
            except TicketError as error:
                if granted and self._clock() < granted.ends_at and not error.refused:
                    return granted
                raise

    async def _attempt(self, principal: str, state: _Principal, secret: Secret) -> _Granted:
        """Get a ticket-granting ticket, and remember what came of it."""
        try:
            state.granted = await self._kinit(principal, secret)
        except TicketError as error:
            state.failure = _Failure(error, secret, self._clock())
            raise
        finally:
            state.attempts += 1
        state.failure = None
        return state.granted

    async def _kinit(self, principal: str, secret: Secret) -> _Granted:
        """Get a ticket-granting ticket, aside first: who reads the old cache meanwhile must find it whole."""
        cache = self._file(principal)
        aside = cache.with_name(f"new-{cache.name}")
        options, given = _identify(secret)
        configs = f"{self._folder / _ONCE_FILE}:{os.environ.get('KRB5_CONFIG') or _SYSTEM_CONFIG}"
        began = self._clock()
        try:
            command = ["kinit", "-c", f"FILE:{aside}", *options, "--", principal]
            said = await self._run(command, aside, given, {"KRB5_CONFIG": configs})
            if said.code:
                raise _kinit_error(said, secret)
            life = _life(await self._run(["klist", "-c", f"FILE:{aside}"], aside))
            aside.replace(cache)
        finally:
            aside.unlink(missing_ok=True)
        return _Granted(secret, began + life - min(life / 10, _MARGIN), began + life)

    async def _service_ticket(self, principal: str, state: _Principal, secret: Secret, service: str, host: str) -> None:
        """Have a service ticket: kvno asks the KDC only for what is not in the cache."""
        cache = self._file(principal)
        remembered = state.remembered(secret, self._clock())
        options = ["--cached-only"] if remembered else []
        try:
            # -S makes the name of the service as GSSAPI will make it, so that it finds the ticket.
            said = await self._run(["kvno", "-q", "-c", f"FILE:{cache}", *options, "-S", service, "--", host], cache)
        except TicketError as error:
            state.failure = _Failure(error, secret, self._clock())
            raise
        if not said.code:
            return
        if remembered:
            raise remembered
        answer = _kvno_error(said)
        # A realm other than the principal's is that host's trouble alone.
        if any(text in answer.detail for text in _NO_KDC) and principal.rpartition("@")[2] in answer.detail:
            state.failure = _Failure(answer, secret, self._clock())
        raise answer

    def _file(self, principal: str) -> Path:
        """The principal's own cache in the collection, whose members are the files that begin with "tkt"."""
        return self._folder / f"tkt{hashlib.sha256(principal.encode()).hexdigest()[:32]}"

    async def _run(
        self, command: list[str], cache: Path, given: bytes = b"", settings: Mapping[str, str] = MappingProxyType({})
    ) -> _Said:
        """Run one program to its end, or to its time-out. It has no terminal on which it could ask for anything."""
        environment = os.environ | {"LC_ALL": "C", "TZ": "UTC", "KRB5CCNAME": f"FILE:{cache}", **settings}
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
            )
        except OSError as error:
            detail = f"{command[0]} cannot be started ({error.strerror}). {missing_tools()}".strip()
            raise _unavailable(detail) from error
        try:
            output, errors = await asyncio.wait_for(process.communicate(given), self._timeout)
        except TimeoutError:
            raise _unavailable(f"{command[0]}: no answer from a KDC within {self._timeout:g} s") from None
        finally:
            await _end(process)
        return _Said(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


def missing_tools() -> str:
    """What Kerberos needs and is missing here, and how to get it; empty when nothing is."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    found = []
    if missing:
        found.append(
            f"Kerberos needs {', '.join(missing)}: install krb5-user (Debian, Ubuntu) or krb5-workstation (Red Hat)."
        )
    if not _has_pykerberos():
        found.append(
            "Kerberos needs pykerberos: pip install 'tls-readiness-exporter[kerberos]', which needs gcc, Python's "
            "headers and those of MIT Kerberos (Debian: gcc python3-dev libkrb5-dev)."
        )
    return " ".join(found)


def _has_pykerberos() -> bool:
    """Whether the module works: built without krb5-config it does not load, and Debian's own lacks the encryption."""
    try:
        module = importlib.import_module("kerberos")
    except ImportError:
        return False
    return hasattr(module, "authGSSWinRMEncryptMessage")


def _identify(secret: Secret) -> tuple[list[str], bytes]:
    """Options of kinit, and what it reads from its standard input."""
    if isinstance(secret, Keytab):
        return ["-k", "-t", f"FILE:{secret.path}"], b""
    if not secret.text:
        raise TicketError(refused=True, reason=Reason.AUTH_REJECTED, detail="the password is empty")
    return [], secret.text.encode() + b"\n"  # and no more: the demand for a new password finds no answer


def _kinit_error(said: _Said, secret: Secret) -> TicketError:
    text = _last_line(said)
    if "Password expired" in said.output:
        return TicketError(refused=True, reason=Reason.AUTH_REJECTED, detail="kinit: the password has expired")
    if isinstance(secret, Keytab) and _NO_KEYS in text:
        return TicketError(refused=False, reason=Reason.FILE_UNREADABLE, detail=f"{secret.path}: {text}")
    if any(known in text for known in _HARMLESS):
        return _unavailable(text)
    return TicketError(refused=True, reason=Reason.AUTH_REJECTED, detail=text)


def _kvno_error(said: _Said) -> TicketError:
    text = _last_line(said)
    if any(known in text for known in _CLIENT_REFUSED):
        return TicketError(refused=True, reason=Reason.AUTH_REJECTED, detail=text)
    if any(known in text for known in _STALE):
        return _StaleTicketError(refused=False, reason=Reason.AUTH_UNAVAILABLE, detail=text)
    return _unavailable(text)


def _unavailable(detail: str) -> TicketError:
    return TicketError(refused=False, reason=Reason.AUTH_UNAVAILABLE, detail=detail)


def _last_line(said: _Said) -> str:
    return (said.error.strip() or f"ended with {said.code} and without a word").splitlines()[-1]


def _life(said: _Said) -> float:
    """Seconds that the ticket-granting ticket in klist's answer lives."""
    match = _GRANTING.search(said.output)
    if match is None:
        raise _unavailable(f"klist: not understood: {said.output or said.error!r}")
    start, end = (datetime.strptime(text, "%m/%d/%y %H:%M:%S") for text in match.groups())  # noqa: DTZ007  # both UTC
    return (end - start).total_seconds()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the program if it still runs, with all of the session that it began."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
