"""One scan of one endpoint: the certificates that it presents and the cipher suites that it accepts.

The suites of a version are found by offering all of them, then all but the one that the server chose, and so on until
it refuses: one connection for each suite accepted and one more, where asking for each would cost 160.

Runs in a child process. The handshakes are `exporter.probes.tls.handshake`'s, or a test's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from exporter.facts import NOT_WANTED, CertificateChain, EndpointScan, Fact, Known, Missing, Protocol, Reason
from exporter.probes.printable import printable
from exporter.probes.tls.answer import Refused, Unclear
from exporter.probes.tls.certificates import chain_facts
from exporter.probes.tls.handshake import Agreed, Connect, Offer, WeakKey, offers, verify
from exporter.probes.tls.jobs import ScanJob

CONNECTION_LIMIT: Final = 15.0
"""Seconds that any one wait may take. Exchange delays its answers to strangers by 5 seconds (tarpitting)."""

MAX_CHAINS: Final = 4
"""Different chains of one endpoint that are kept. A server that shows another one each time must not fill us."""
MAX_CERTIFICATES: Final = 10
"""Certificates of a chain that are kept."""

_OVER: Final = Missing(Reason.DEADLINE, "the scan's time was over")
_NO_CERTIFICATE: Final = Missing(
    Reason.NOT_OBSERVED_YET,
    "what is accepted comes without a certificate, or with a Diffie-Hellman key that is too small for OpenSSL",
)
# The versions that stay come first: should the connections run out, their suites are known.
_ORDER: Final = (
    Protocol.TLS_1_2,
    Protocol.TLS_1_3,
    Protocol.TLS_1_0,
    Protocol.TLS_1_1,
    Protocol.SSL_3_0,
    Protocol.SSL_2_0,
)


def scan(job: ScanJob, timeout: float, connect: Connect) -> EndpointScan:
    """Do the job in ``timeout`` seconds. What the server does never raises."""
    return _Scan(job, timeout, connect).run()


class _Stop(Exception):  # noqa: N818 - not an error: the scan is over, and this is what stands for the rest
    def __init__(self, missing: Missing) -> None:
        super().__init__()
        self.missing = missing


class _Scan:
    """The state of a scan under way.

    A refusal counts only between two acceptances, as in a sweep: versions with one since the last acceptance are
    `unproven`.
    """

    def __init__(self, job: ScanJob, timeout: float, connect: Connect) -> None:
        self._job = job
        self._connect = connect
        self._started = time.monotonic()
        self._deadline = self._started + timeout
        self._connections = 0
        self._chains: dict[tuple[str, ...], None] = {}
        self._suites: dict[Protocol, list[str]] = {}
        self._complete: set[Protocol] = set()
        self._unproven: set[Protocol] = set()
        self._accepted = False

    def run(self) -> EndpointScan:
        wanted = [protocol for protocol in _ORDER if protocol in self._job.protocols]
        stopped = Missing(Reason.CONTRADICTORY, "the sweep saw it accepted, the scan did not")
        try:
            known = self._first_agreement(wanted)
            if self._job.cipher_suites:
                for protocol in wanted:
                    self._find_suites(protocol)
                if self._unproven and isinstance(refusal := self._ask(known), Refused):
                    stopped = Missing(refusal.reason, f"{refusal.detail}, and nothing was accepted after it")
        except _Stop as stop:
            stopped = stop.missing
        except TimeoutError:  # the child's timer
            stopped = _OVER
        at = time.time()
        return EndpointScan(
            at=at,
            duration=time.monotonic() - self._started,
            connections=self._connections,
            certificates=self._certificates(at, stopped),
            cipher_suites={each: self._suites_fact(each, at, stopped) for each in wanted if self._job.cipher_suites},
        )

    def _first_agreement(self, wanted: Sequence[Protocol]) -> Offer:
        """The first offer that the server takes: the acceptance before all refusals."""
        for protocol in wanted:
            for offer in offers(protocol):
                outcome = self._ask(offer)
                if isinstance(outcome, WeakKey):  # so far without a certificate
                    self._ask(replace(offer, suites=tuple(each for each in offer.suites if not _ephemeral_dh(each))))
                if not isinstance(outcome, Refused):
                    return offer
        raise _Stop(Missing(Reason.CONTRADICTORY, "the sweep saw versions accepted, the scan none of them"))

    def _find_suites(self, protocol: Protocol) -> None:
        for offer in offers(protocol):
            singly = self._find_by_elimination(offer)
            for suite in singly:
                outcome = self._ask(replace(offer, suites=(suite,)))
                if isinstance(outcome, WeakKey):
                    self._found(protocol, suite)
        self._complete.add(protocol)

    def _find_by_elimination(self, offer: Offer) -> list[str]:
        """Find what the server takes of an offer; the suites that have to be asked for one by one are left."""
        left = list(offer.suites)
        singly: list[str] = []
        while left:
            outcome = self._ask(replace(offer, suites=tuple(left)))
            if isinstance(outcome, Refused) and outcome.reason is not Reason.TLS_ALERT:
                # It hung up. That is how Schannel refuses, and what a server does that is busy for a moment.
                outcome = self._ask(replace(offer, suites=tuple(left)))
            if isinstance(outcome, Refused):
                break
            if isinstance(outcome, Agreed):
                left.remove(outcome.suite)
            elif not any(map(_ephemeral_dh, left)):
                raise _Stop(_NO_CERTIFICATE)
            else:  # which one it chose does not show: one of those with ephemeral Diffie-Hellman
                singly += [suite for suite in left if _ephemeral_dh(suite)]
                left = [suite for suite in left if not _ephemeral_dh(suite)]
        return singly

    def _ask(self, offer: Offer) -> Agreed | WeakKey | Refused:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _Stop(_OVER)
        if self._connections == self._job.connections:
            raise _Stop(Missing(Reason.DEADLINE, f"all connections of the scan ({self._connections}) are used up"))
        self._connections += 1
        outcome = self._connect(offer, min(left, CONNECTION_LIMIT))
        if isinstance(outcome, Unclear):
            late = outcome.reason is Reason.TLS_TIMEOUT and time.monotonic() >= self._deadline
            raise _Stop(_OVER if late else Missing(outcome.reason, outcome.detail))
        if isinstance(outcome, Refused):
            if outcome.explicit and offer.protocol in self._suites:
                raise _Stop(Missing(Reason.CONTRADICTORY, f"{offer.protocol} was accepted, and then: {outcome.detail}"))
            self._unproven.add(offer.protocol)
            return outcome
        self._unproven.clear()
        self._accepted = True
        if isinstance(outcome, Agreed):
            if len(self._chains) < MAX_CHAINS:
                self._chains[outcome.chain[:MAX_CERTIFICATES]] = None
            self._found(offer.protocol, outcome.suite)
        return outcome

    def _found(self, protocol: Protocol, suite: str) -> None:
        suites = self._suites.setdefault(protocol, [])
        if suite not in suites:
            suites.append(suite)

    def _suites_fact(self, protocol: Protocol, at: float, stopped: Missing) -> Fact[tuple[str, ...]]:
        suites = tuple(self._suites.get(protocol, ()))
        if suites and protocol in self._complete and protocol not in self._unproven:
            return Known(suites, at)
        so_far = f"; {protocol} accepted so far: {', '.join(suites)}" if suites else ""
        return Missing(stopped.reason, f"{stopped.detail}{so_far}")

    def _certificates(self, at: float, stopped: Missing) -> Fact[tuple[CertificateChain, ...]]:
        if not self._job.certificates:
            return NOT_WANTED
        chains = [chain for chain in self._chains if chain]
        if not chains:
            return _NO_CERTIFICATE if self._accepted else stopped
        place = self._job.place
        try:
            facts = tuple(chain_facts(chain, place.server_name, self._job.ca_file, verify, at) for chain in chains)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - strangers' certificates bring out exceptions of all kinds
            return Missing(Reason.NOT_TLS, f"a certificate that cannot be read: {printable(str(error))}")
        return Known(facts, at)


def _ephemeral_dh(suite: str) -> bool:
    return suite.startswith(("TLS_DHE_", "TLS_DH_anon_", "SSL_DHE_"))
