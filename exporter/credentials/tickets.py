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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from exporter.credentials.guard import BACK_OFF
from exporter.credentials.secret import Keytab, Password
from exporter.facts import Reason

_PROGRAMS: Final = ("kinit", "kvno", "klist")
_REMEMBERED: Final = 60.0
"""Seconds for which a failure that says nothing about the secret stands. If kinit was killed while it waited, twice as
many each further time, up to `BACK_OFF`, until it succeeds: a KDC that is only slow may have counted a wrong password.
"""
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
_NO_PRIMARY: Final = "[realms]\n{realm} = {{\nprimary_kdc = 127.0.0.1:9\n}}\n"
"""And this: a refused logon libkrb5 tries again at the realm's primary KDC, where it counts again. Here nobody listens,
and the first answer stands. A ``master_kdc`` of the system's is not asked any more; its ``primary_kdc`` still is, as
values of the same name are joined.
"""
_REALM: Final = re.compile(r"[\w.-]+", re.ASCII)  # that needs no quotes in a krb5.conf
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


class _UndecidedError(TicketError):
    """kinit was killed while it waited: a KDC may have counted the attempt."""


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
    """What came of an attempt, and until when it stands. ``pause``: how many seconds the last undecided one stood."""

    error: TicketError
    until: float
    pause: float = 0.0


@dataclass(slots=True)
class _Principal:
    """What is known of one principal. ``hosts`` has the failures of single services, by service and host."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    granted: _Granted | None = None
    failures: dict[Secret, _Failure] = field(default_factory=dict)
    hosts: dict[tuple[str, str], _Failure] = field(default_factory=dict)

    def standing(self, secret: Secret, now: float, *service: str) -> TicketError | None:
        """The failure that still stands for a secret, or else for a service and its host."""
        for failure in (self.failures.get(secret), self.hosts.get((service[0], service[1])) if service else None):
            if failure and now < failure.until:
                return failure.error.again()
        return None

    def fail(self, secret: Secret, error: TicketError, now: float) -> TicketError:
        """Keep what came of an attempt with a secret; the answer is what to raise.

        A refusal stands as long as the guard keeps one, which nobody may have been there to tell of it.
        """
        before = self.failures.get(secret)
        pause = before.pause if before else 0.0
        stands = BACK_OFF if error.refused else _REMEMBERED
        if isinstance(error, _UndecidedError):
            stands = pause = min(2 * pause or _REMEMBERED, BACK_OFF)
            error = _unavailable(
                f"{error.detail}. It may have counted as a wrong password: not asked again for {stands / 60:g} min"
            )
        if before is None or before.until <= now + stands:
            # The pauses of those that are long over are of no use any more.
            self.failures = {key: old for key, old in self.failures.items() if now < old.until + BACK_OFF}
            self.failures[secret] = _Failure(error, now + stands, pause)
        return error

    def fail_for(self, service: str, host: str, error: TicketError, now: float) -> None:
        """Keep what is one service's trouble alone."""
        self.hosts = {key: old for key, old in self.hosts.items() if now < old.until}
        self.hosts[service, host] = _Failure(error, now + _REMEMBERED)


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
        self._folder = Path()
        self._identity: tuple[int, ...] | None = None  # of the folder, once there is one

    @property
    def cache(self) -> str:
        """The collection, for KRB5CCNAME; a principal's tickets are found in it by the principal.

        `ensure` makes it, and makes another one when the folder has vanished.
        """
        return f"DIR:{self._folder}"

    def _have_folder(self) -> None:
        """Make the folder if there is none: not yet, or not any more, as when /tmp is swept.

        Raises:
            OSError: it cannot be made.
        """
        # Not only whether there is one of that name: in /tmp another user may have made it.
        if self._identity is not None and _identity(self._folder) == self._identity:
            return
        self._identity = None
        self._folder = Path(tempfile.mkdtemp(prefix="tls-readiness-tickets-"))  # 0700
        self._identity = _identity(self._folder)
        for state in self._principals.values():
            state.granted = None

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
        if self._identity is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _ensure(self, principal: str, secret: Secret, service: str, host: str) -> None:
        state = self._principals.setdefault(principal, _Principal())
        with _folder_trouble():
            self._have_folder()
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
        async with state.lock:
            granted = state.granted if state.granted and state.granted.secret == secret else None
            if granted and self._clock() < granted.renew_at:
                return granted
            try:
                if standing := state.standing(secret, self._clock()):
                    raise standing
                return await self._attempt(principal, state, secret)
            except TicketError as error:
                if granted and self._clock() < granted.ends_at and not error.refused:
                    return granted
                raise

    async def _attempt(self, principal: str, state: _Principal, secret: Secret) -> _Granted:
        """Get a ticket-granting ticket, and remember what came of it."""
        try:
            with _folder_trouble():
                state.granted = await self._kinit(principal, secret)
        except TicketError as error:
            raise state.fail(secret, error, self._clock()) from error
        state.failures.pop(secret, None)
        return state.granted

    async def _kinit(self, principal: str, secret: Secret) -> _Granted:
        """Get a ticket-granting ticket, aside first: who reads the old cache meanwhile must find it whole."""
        cache = self._file(principal)
        aside = cache.with_name(f"new-{cache.name}")
        config = cache.with_name(f"conf-{cache.name}")
        options, given = _identify(secret)
        configs = {"KRB5_CONFIG": f"{config}:{os.environ.get('KRB5_CONFIG') or _SYSTEM_CONFIG}"}
        began = self._clock()
        try:
            config.write_text(_first_config(principal))
            command = ["kinit", "-c", f"FILE:{aside}", *options, "--", principal]
            said = await self._run(command, aside, given, configs, late=_UndecidedError)
            if said.code:
                raise _kinit_error(said, secret)
            life = _life(await self._run(["klist", "-c", f"FILE:{aside}"], aside))
            aside.replace(cache)
        finally:
            for path in (aside, config):
                with suppress(OSError):  # which would hide a refusal
                    path.unlink()
        return _Granted(secret, began + life - min(life / 10, _MARGIN), began + life)

    async def _service_ticket(self, principal: str, state: _Principal, secret: Secret, service: str, host: str) -> None:
        """Have a service ticket: kvno asks the KDC only for what is not in the cache."""
        cache = self._file(principal)
        standing = state.standing(secret, self._clock(), service, host)
        options = ["--cached-only"] if standing else []
        try:
            # -S makes the name of the service as GSSAPI will make it, so that it finds the ticket.
            said = await self._run(["kvno", "-q", "-c", f"FILE:{cache}", *options, "-S", service, "--", host], cache)
        except TicketError as error:
            # It may have waited for the KDC of the host's realm, of which the principal's other hosts know nothing.
            state.fail_for(service, host, error, self._clock())
            raise
        if not said.code:
            return
        if standing:
            raise standing
        answer = _kvno_error(said)
        if _is_without_kdc(answer, principal):
            state.fail(secret, answer, self._clock())
        raise answer

    def _file(self, principal: str) -> Path:
        """The principal's own cache in the collection, whose members are the files that begin with "tkt"."""
        return self._folder / f"tkt{hashlib.sha256(principal.encode()).hexdigest()[:32]}"

    async def _run(
        self,
        command: list[str],
        cache: Path,
        given: bytes = b"",
        settings: Mapping[str, str] = MappingProxyType({}),
        late: type[TicketError] = TicketError,
    ) -> _Said:
        """Run one program to its end, or to its time-out, which is ``late``. It has no terminal to ask for anything."""
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
            detail = f"{command[0]}: no answer from a KDC within {self._timeout:g} s"
            raise late(refused=False, reason=Reason.AUTH_UNAVAILABLE, detail=detail) from None
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
            "Kerberos needs pykerberos: pip install '.[kerberos]' in the project's source folder, with the pip of the "
            "environment that it runs in. That needs gcc, Python's headers and those of MIT Kerberos (Debian: gcc "
            "python3-dev libkrb5-dev)."
        )
    return " ".join(found)


def _has_pykerberos() -> bool:
    """Whether the module works: built without krb5-config it does not load, and Debian's own lacks the encryption."""
    try:
        module = importlib.import_module("kerberos")
    except ImportError:
        return False
    return hasattr(module, "authGSSWinRMEncryptMessage")


@contextmanager
def _folder_trouble() -> Iterator[None]:
    """A folder that is full, or is gone, or cannot be made, says nothing of the secret."""
    try:
        yield
    except OSError as error:
        raise _unavailable(f"the folder for the tickets: {error}") from error


def _identity(folder: Path) -> tuple[int, ...] | None:
    """Which folder it is, and whose; None if there is none."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_uid


def _first_config(principal: str) -> str:
    """What kinit reads before the system's krb5.conf."""
    realm = principal.rpartition("@")[2] if "@" in principal else ""
    return _ONCE + (_NO_PRIMARY.format(realm=realm) if _REALM.fullmatch(realm) else "")


def _is_without_kdc(answer: TicketError, principal: str) -> bool:
    """Whether no KDC of the principal's own realm was reached. Another realm is the trouble of the hosts in it."""
    realm = principal.rpartition("@")[2]
    own = any(f"{quote}{realm}{quote}" in answer.detail for quote in "'\"")
    return own and any(text in answer.detail for text in _NO_KDC)


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
