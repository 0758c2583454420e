"""Credentials: secrets from their files, Kerberos tickets, and the guard that keeps accounts from being locked.

For everything that logs on somewhere: WinRM now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from exporter.config import CredentialConfig
from exporter.credentials.guard import Attempt, BlockedError, Guard
from exporter.credentials.secret import Keytab, Password, SecretError, read_keytab, read_password
from exporter.credentials.tickets import TicketError, Tickets, missing_tools
from exporter.facts import Missing, Reason
from exporter.threads import DaemonThreads, TooManyThreadsError

__all__ = ["Attempt", "CredentialError", "Credentials", "Grant", "faults"]

_FILE_TIMEOUT: Final = 10.0  # seconds to wait for a file
_FILE_THREADS: Final = 1024  # one for each file, and no more while it hangs
_TICKETS_AT_ONCE: Final = 8
_THE_KDC: Final = ""  # who refuses a Kerberos log-on: no server


_Read: TypeAlias = Callable[[Path], Password | Keytab]
_Reading: TypeAlias = tuple[Path, _Read]


class CredentialError(Exception):
    """The credential cannot be used now; ``missing`` says why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.missing = Missing(reason, detail)


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to log on to one server once.

    Attributes:
        password: the account's password; "" where it takes none.
        ticket_cache: where the Kerberos tickets are, as KRB5CCNAME names it; "" for none.
        attempt: to be told how it went.
    """

    password: str = field(default="", repr=False)
    ticket_cache: str = ""
    attempt: Attempt = field(default_factory=Attempt)


class Credentials:
    """The configured credentials, by name."""

    def __init__(self, configs: Mapping[str, CredentialConfig]) -> None:
        self._configs = configs
        self._guards = {name: Guard() for name in configs}
        self._tickets = Tickets()
        self._ticketing = asyncio.Semaphore(_TICKETS_AT_ONCE)
        self._files = DaemonThreads(_FILE_THREADS)
        self._readings: dict[_Reading, asyncio.Future[Password | Keytab]] = {}

    @property
    def blocked(self) -> Mapping[str, bool]:
        """Per credential, whether its guard lets nobody through."""
        return {name: guard.blocked for name, guard in self._guards.items()}

    async def check(self, name: str, server: str) -> None:
        """Whether there is any sense in going to a server with a credential now.

        Raises:
            CredentialError: it is blocked there, or its secret cannot be read.
        """
        config = self._configs[name]
        if config.auth == "certificate":
            return
        secret = await self._secret(config)
        try:
            self._guards[name].check(_THE_KDC if config.auth == "kerberos" else server, secret)
        except BlockedError as error:
            raise _blocked(name, error) from error

    @asynccontextmanager
    async def grant(self, name: str, server: str, service: str, slots: asyncio.Semaphore) -> AsyncIterator[Grant]:
        """Leave to log on to a server, as soon as its turn comes and there is a slot, which is held meanwhile.

        Args:
            name: the credential.
            server: the name of the server.
            service: what of it, as Kerberos names it: HTTP.
            slots: how many may work at the same time.

        Raises:
            CredentialError: it must not be used now, or what it takes cannot be had.
        """
        config, guard = self._configs[name], self._guards[name]
        try:
            if config.auth == "certificate":  # a refusal locks nothing
                async with slots:
                    yield Grant()
                return
            secret = await self._secret(config)
            if config.auth == "kerberos":
                async with guard.attempt(_THE_KDC, secret, self._ticketing) as attempt:
                    await self._have_tickets(config, secret, service, server, attempt)
                async with slots:
                    yield Grant(ticket_cache=self._tickets.cache)
            elif isinstance(secret, Password):
                async with guard.attempt(server, secret, slots) as attempt:
                    yield Grant(password=secret.text, attempt=attempt)
        except BlockedError as error:
            raise _blocked(name, error) from error

    async def close(self) -> None:
        """Forget the tickets."""
        await self._tickets.close()

    async def _have_tickets(
        self, config: CredentialConfig, secret: Password | Keytab, service: str, server: str, attempt: Attempt
    ) -> None:
        principal = config.username or ""
        try:
            await self._tickets.ensure(principal, secret, service, server)
        except TicketError as error:
            if error.refused:
                attempt.accepted, attempt.detail = False, error.detail
            raise CredentialError(error.reason, error.detail) from error
        attempt.accepted = True

    async def _secret(self, config: CredentialConfig) -> Password | Keytab:
        path = Path(config.password_file or config.keytab_file or "")
        read: _Read = read_password if config.password_file else read_keytab
        try:
            async with asyncio.timeout(_FILE_TIMEOUT):
                return await asyncio.shield(self._readings.get((path, read)) or self._start_reading(path, read))
        except (SecretError, TooManyThreadsError) as error:
            raise CredentialError(Reason.FILE_UNREADABLE, str(error)) from error
        except TimeoutError:
            raise CredentialError(Reason.FILE_UNREADABLE, f"{path}: not read in {_FILE_TIMEOUT:g} s") from None

    def _start_reading(self, path: Path, read: _Read) -> asyncio.Future[Password | Keytab]:
        reading = self._readings[path, read] = self._files.start("secret", lambda: read(path))
        reading.add_done_callback(lambda _: self._readings.pop((path, read)))
        return reading


def _blocked(name: str, error: BlockedError) -> CredentialError:
    return CredentialError(Reason.CREDENTIAL_BLOCKED, f"{name}: {error}")


def faults(configs: Mapping[str, CredentialConfig]) -> list[str]:
    """What keeps configured credentials from being used on this machine, a line for each. Blocks on the file system."""
    found = []
    for name, config in configs.items():
        if config.auth == "kerberos" and (missing := missing_tools()):
            found.append(f"credentials.{name}: {missing}")
        for key in ("password_file", "keytab_file", "certificate_file", "key_file"):
            path = getattr(config, key)
            if path is None:
                continue
            try:
                (read_password if key == "password_file" else read_keytab)(Path(path))
            except SecretError as error:
                found.append(f"credentials.{name}.{key}: {error}")
    return found
