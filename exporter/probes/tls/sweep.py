"""One sweep of one endpoint: offer each of the six versions once and say what each answer proves.

The first hello offers TLS 1.0 to 1.3 at once, as every client does: its answer is the acceptance *before* the others.
The version that it chose is asked for by itself at the end: the acceptance *after* them. That makes seven connections.
Where the first hello is refused (a server that stumbles over newer hellos, or knows only what it did not offer) the six
versions follow one by one, and the first that is accepted is asked for again at the end: eight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.facts import Door, EndpointSweep, Missing, Protocol, Reason, all_missing
from exporter.probes.tls.answer import Answer, Chose, Refused, Unclear
from exporter.probes.tls.connection import ConnectError, NoTls, ask
from exporter.probes.tls.evidence import Heard, weigh
from exporter.probes.tls.hello import Hello, hello_for, hello_for_any
from exporter.probes.tls.starttls import DIALOGUES

MAX_CONNECTIONS = 8
"""TCP connections that one sweep opens at most to an endpoint's pinned address."""

_AFTER_THE_FIRST = (
    Protocol.TLS_1_3,
    Protocol.TLS_1_2,
    Protocol.TLS_1_1,
    Protocol.TLS_1_0,
    Protocol.SSL_3_0,
    Protocol.SSL_2_0,
)
# A server that refused the opening hello is old: what old servers know comes first, to have an acceptance early.
_WITHOUT_A_FIRST = (
    Protocol.TLS_1_0,
    Protocol.SSL_3_0,
    Protocol.TLS_1_2,
    Protocol.TLS_1_1,
    Protocol.TLS_1_3,
    Protocol.SSL_2_0,
)


@dataclass(frozen=True, slots=True)
class SweepJob:
    """All that one sweep needs to know: plain data, so that it can be done anywhere.

    Attributes:
        server_name: for SNI.
        addresses: where to connect; the first that answers is used for the whole sweep.
        port: the TCP port.
        service: https, tls, smtp, imap or pop3.
        timeout: seconds until the sweep ends, whatever the server does.
        client_name: how the prober calls itself in EHLO.
    """

    server_name: str
    addresses: tuple[str, ...]
    port: int
    service: str
    timeout: float
    client_name: str


async def sweep(job: SweepJob) -> EndpointSweep:
    """Do the job. Never raises for what the server does, and never outlives the job's time-out."""
    return await _Sweep(job).run()


_DEADLINE = Missing(Reason.DEADLINE, "the sweep's time was over")


class _Stop(Exception):  # noqa: N818 - not an error: the sweep is over, and this is what stands for the rest
    def __init__(self, missing: Missing) -> None:
        super().__init__()
        self.missing = missing


class _Sweep:
    """The state of a sweep under way."""

    def __init__(self, job: SweepJob) -> None:
        self._job = job
        self._clock = asyncio.get_running_loop().time
        self._started = self._clock()
        self._deadline = self._started + job.timeout
        self._address = ""
        self._connections = 0
        self._heard: list[Heard] = []

    async def run(self) -> EndpointSweep:
        unasked = _DEADLINE
        door = Door.OPEN
        try:
            await self._all_versions()
        except ConnectError as error:
            unasked = Missing(error.reason, error.detail)
            if not self._address:
                door = Door.REFUSED if error.reason is Reason.TCP_REFUSED else Door.UNREACHABLE
        except _Stop as stop:
            unasked = stop.missing
        now = time.time()
        return EndpointSweep(
            at=now,
            duration=self._clock() - self._started,
            address=self._address,
            door=door,
            accepted=weigh(self._heard, unasked, now) if self._heard else all_missing(unasked),
            connections=self._connections,
            named=frozenset(
                each.offers[0] for each in self._heard if len(each.offers) == 1 and _named_the_version(each.answer)
            ),
        )

    async def _all_versions(self) -> None:
        first = await self._say(hello_for_any(self._job.server_name))
        control = first.protocol if isinstance(first, Chose) else None
        for protocol in _AFTER_THE_FIRST if control else _WITHOUT_A_FIRST:
            if protocol is control:
                continue
            answer = await self._say(hello_for(protocol, self._job.server_name))
            if control is None and isinstance(answer, Chose):
                control = answer.protocol
        if control is not None:
            await self._say(hello_for(control, self._job.server_name))

    async def _say(self, hello: Hello) -> Answer:
        """Say one hello on a connection of its own."""
        answer = await self._ask(hello)
        if isinstance(answer, NoTls):
            raise _Stop(Missing(answer.reason, answer.detail))
        if isinstance(answer, Unclear) and answer.reason is Reason.NOT_TLS and not self._heard:
            raise _Stop(Missing(answer.reason, answer.detail))
        self._heard.append(Heard(hello.offers, answer))
        return answer

    async def _ask(self, hello: Hello) -> Answer | NoTls:
        job = self._job
        failures: list[ConnectError] = []
        for address in (self._address,) if self._address else job.addresses:
            limit = self._limit(failures)
            self._connections += 1
            ask_for_tls = DIALOGUES[job.service]
            try:
                answer = await ask(address, job.port, hello, ask_for_tls and ask_for_tls(job.client_name), limit)
            except ConnectError as error:
                failures.append(error)
                continue
            self._address = address
            return answer
        raise _most_telling(failures)

    def _limit(self, failures: Sequence[ConnectError]) -> float:
        """When the next connection must end: half of what is left, so that one silence leaves time for the rest."""
        now = self._clock()
        left = self._deadline - now
        if left <= 0:
            if failures:
                raise _most_telling(failures)
            raise _Stop(_DEADLINE)
        return now + min(left, max(left / 2, self._job.timeout / 10))


def _most_telling(failures: Sequence[ConnectError]) -> ConnectError:
    """Of several addresses' failures the first that is not a plain refusal: only when all refuse is the door shut."""
    return next((failure for failure in failures if failure.reason is not Reason.TCP_REFUSED), failures[0])


def _named_the_version(answer: Answer) -> bool:
    """Whether it is alert 70."""
    return isinstance(answer, Refused) and answer.explicit and answer.reason is Reason.TLS_ALERT
