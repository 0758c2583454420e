"""A second opinion on single versions: one complete handshake each, by another prober. Runs in a child process."""

from __future__ import annotations

import time
from typing import Final

from exporter.facts import Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls.answer import Refused, Unclear
from exporter.probes.tls.handshake import Agreed, Connect, Outcome, whole_offer
from exporter.probes.tls.jobs import Opinion, OpinionJob

_SHARE: Final = 2  # one connection may take half of what is left, as in a sweep


def give_opinion(job: OpinionJob, timeout: float, connect: Connect) -> Opinion:
    """Do the job in ``timeout`` seconds. What the server does never raises."""
    deadline = time.monotonic() + timeout
    accepted: dict[Protocol, Fact[bool]] = {}
    for protocol in job.protocols:
        left = deadline - time.monotonic()
        if left <= 0:
            accepted[protocol] = Missing(Reason.DEADLINE, "the second opinion's time was over")
            continue
        outcome = connect(whole_offer(protocol, again=job.again), left / _SHARE)
        accepted[protocol] = _fact(protocol, outcome, time.time())
    return Opinion(accepted)


def _fact(protocol: Protocol, outcome: Outcome, at: float) -> Fact[bool]:
    if isinstance(outcome, Unclear):
        return Missing(outcome.reason, outcome.detail)
    if isinstance(outcome, Refused):
        return Known(value=False, at=at, reason=outcome.reason, detail=outcome.detail)
    said_it_all = protocol is Protocol.SSL_2_0  # with its SERVER-HELLO
    if isinstance(outcome, Agreed) and outcome.ended and not outcome.chain and not said_it_all:
        return Missing(outcome.ended.reason, f"the version was chosen, and then: {outcome.ended.detail}")
    return Known(value=True, at=at)
