"""Collects what one host says about itself, over WinRM: finds it, logs on within what the guard allows, reads.

pywinrm runs in child processes, one host in each at a time: what hangs, grows or crashes there costs that one host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from exporter.config import Config, CredentialConfig, format_duration
from exporter.credentials import CredentialError, Credentials, Grant
from exporter.credentials.guard import BACK_OFF
from exporter.facts import Fact, HostFacts, Missing, Reason
from exporter.probes.printable import printable
from exporter.probes.tls.resolve import ResolveError, Resolver
from exporter.probes.winrm.command_line import Parameters
from exporter.probes.winrm.document import BEGIN, read_document
from exporter.probes.winrm.jobs import JOB, OUTCOME, Collected, CollectJob, Login
from exporter.probes.winrm.knock import NobodyThereError, knock
from exporter.targets import Target
from exporter.workers import Death, WorkerDied, Workers

WORKER: Final = "exporter.probes.winrm.worker"
"""The module that the child processes run."""
KNOCK: Final = 10.0
"""Seconds that a host may take to accept a TCP connection."""
_TIDY_UP: Final = 3.0  # seconds that a child has to delete its shell when the exporter ends
_KNOCKS_AT_ONCE: Final = 128
_SERVICE: Final = "HTTP"  # as Kerberos names WinRM

log = structlog.get_logger("exporter.collect")


class Collector:
    """Collects from hosts, as many at the same time as ask for it, within the configured limits."""

    def __init__(self, config: Config) -> None:
        self._config = config.collect
        self._credential_configs = config.credentials
        self._credentials = Credentials(config.credentials)
        self._parameters = Parameters(config.collect.usage_megabytes, config.collect.pending_updates)
        self._resolver = Resolver()
        self._knocks = asyncio.Semaphore(_KNOCKS_AT_ONCE)
        self._reading = asyncio.Lock()
        self._slots = asyncio.Semaphore(config.collect.parallel_hosts)
        self._workers = Workers(WORKER, config.collect.parallel_hosts, tidy_up=_TIDY_UP)

    @property
    def worker_deaths(self) -> Mapping[tuple[str, str], int]:
        """Per way to die, the children that died of it; every one that can occur is there."""
        return {("collect", death): self._workers.deaths[death] for death in Death} if self._credential_configs else {}

    @property
    def credentials_blocked(self) -> Mapping[str, bool]:
        """Per credential, whether nobody is asked with it because it was refused."""
        return self._credentials.blocked

    async def close(self) -> None:
        """End the child processes that wait for work, and forget the Kerberos tickets."""
        await self._workers.close()
        await self._credentials.close()

    async def collect(self, target: Target) -> Fact[HostFacts]:
        """Ask a host. Its facts, or why there are none."""
        config, name = self._credential_configs[target.credentials], _dns_name(target.name)
        try:
            await self._credentials.check(target.credentials, name)
            address = await self._find(target, config.port)
            async with self._credentials.grant(target.credentials, name, _SERVICE, self._slots) as grant:
                job = CollectJob(name, address, _login(config, grant), self._parameters)
                collected = await self._visit(job, grant.attempt.accept)
                _report(grant, target, config, collected)
        except CredentialError as error:
            if error.missing.reason is Reason.AUTH_REJECTED:  # by the KDC
                _say_refused(target, config, error.missing.detail)
            return error.missing
        except NobodyThereError as error:
            return error.missing
        except ResolveError as error:
            return Missing(Reason.DNS, str(error))
        if collected.left_behind:
            log.warning("something was left on a host", server=target.name, what=collected.left_behind)
        log.debug(
            "visited",
            server=target.name,
            address=address,
            seconds=round(collected.ended - collected.began, 3) if collected.began else "",
            bytes=len(collected.output),
            fallback=collected.fallback,
            errors=collected.errors,
        )
        async with self._reading:  # one at a time: of what a hostile host says it may take 300 MB
            return await asyncio.to_thread(_facts, target.name, collected)

    async def _find(self, target: Target, port: int) -> str:
        """An address of the host that takes connections."""
        timeout = min(KNOCK, self._config.timeout)
        addresses = await self._resolver.resolve(target.host, timeout)
        async with self._knocks:
            return await knock(addresses, port, timeout)

    async def _visit(self, job: CollectJob, on_accepted: Callable[[], None]) -> Collected:
        try:
            said = await self._workers.run(JOB.dump_json(job), self._config.timeout, on_news=on_accepted)
            return OUTCOME.validate_json(said)
        except WorkerDied as death:
            reason = Reason.DEADLINE if death.reason is Death.DEADLINE else Reason.WORKER_DIED
            log.warning("a child process died", kind="collect", server=job.server, reason=death.reason)
            return Collected(failure=Missing(reason, f"the child process: {death.detail}"))
        except ValueError as error:  # words that make no sense
            log.warning("a child process said nothing sensible", kind="collect", server=job.server)
            return Collected(failure=Missing(Reason.WORKER_DIED, printable(type(error).__name__)))


def _dns_name(name: str) -> str:
    """As certificates, Kerberos tickets and URLs have it."""
    return name.removesuffix(".").encode("idna").decode() if not name.isascii() else name.removesuffix(".")


def _login(config: CredentialConfig, grant: Grant) -> Login:
    return Login(
        auth=config.auth,
        https=config.transport == "https",
        port=config.port,
        username=config.username or "",
        password=grant.password,
        ticket_cache=grant.ticket_cache,
        certificate_file=config.certificate_file or "",
        key_file=config.key_file or "",
        ca_file=config.ca_file or "",
        channel_bindings=config.channel_bindings,
    )


def _report(grant: Grant, target: Target, config: CredentialConfig, collected: Collected) -> None:
    """Tell the guard how the log-on went."""
    grant.attempt.accepted = collected.accepted
    # A ticket or a certificate that a host refuses is its own affair, and blocks nothing.
    if collected.accepted is False and grant.password:
        detail = collected.failure.detail if collected.failure else collected.left_behind
        grant.attempt.detail = f"{target.name} refused it: {detail}"
        _say_refused(target, config, detail)


def _say_refused(target: Target, config: CredentialConfig, detail: str) -> None:
    log.error(
        "a credential was refused",
        credential=target.credentials,
        account=config.username,
        server=target.name,
        detail=detail,
        consequence=f"no server is asked with it until its file changes, or for {format_duration(BACK_OFF)}",
    )


def _facts(server: str, collected: Collected) -> Fact[HostFacts]:
    """What a host's output says."""
    if collected.failure is not None:
        return collected.failure
    if BEGIN.encode() not in collected.output:
        said = collected.errors or printable(collected.output.decode("ascii", errors="replace")) or "nothing"
        return Missing(Reason.SCRIPT_ERROR, f"the script printed no document: {said}")
    return read_document(collected.output, server, (collected.began, collected.ended))
