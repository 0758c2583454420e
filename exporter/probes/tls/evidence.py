"""What a sequence of answers from one endpoint proves about each version.

A refusal alone proves nothing: a server that limits its connections, restarts or chokes closes and resets as well, and
Schannel refuses a disabled version by closing or resetting. So a refusal counts as *rejected* only beside an acceptance
on the same endpoint before it and another after it, or when the server named the version as the cause: by alert 70, or
by a ServerHello of a lower version. Where nothing at all is accepted, no refusal counts, not even alert 70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from exporter.facts import Accepted, Fact, Known, Missing, Protocol, Reason
from exporter.probes.tls.answer import Answer, Chose, Refused, Unclear


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer in its place in the sequence.

    Attributes:
        offers: the versions that the hello offered; one, or several for the opening hello.
        answer: what came back.
    """

    offers: tuple[Protocol, ...]
    answer: Answer


def weigh(heard: Sequence[Heard], unasked: Missing, at: float) -> Accepted:
    """The answer per version.

    Args:
        heard: the answers in the order in which they came.
        unasked: what stands for versions that no hello of their own was said for.
        at: when, Unix time in seconds.
    """
    if _all_rejected(heard):
        details = "; ".join(dict.fromkeys(each.answer.detail for each in heard if isinstance(each.answer, Refused)))
        rejected = Unclear(Reason.ALL_REJECTED, details)
        heard = [Heard(each.offers, rejected if isinstance(each.answer, Refused) else each.answer) for each in heard]
    alive = any(isinstance(each.answer, Chose) or _answered_lower(each.answer) for each in heard)
    chosen = {each.answer.protocol for each in heard if isinstance(each.answer, Chose)}
    accepted_at = [index for index, each in enumerate(heard) if isinstance(each.answer, Chose)]
    facts: dict[Protocol, Fact[bool]] = dict.fromkeys(Protocol, unasked)
    facts |= dict.fromkeys(chosen, Known(value=True, at=at))
    for index, each in enumerate(heard):
        if len(each.offers) > 1 or isinstance(each.answer, Chose):
            continue
        protocol = each.offers[0]
        if protocol not in chosen:
            between = bool(accepted_at) and accepted_at[0] < index < accepted_at[-1]
            explicit = alive and isinstance(each.answer, Refused) and each.answer.explicit
            facts[protocol] = _negative(each.answer, at, proven=between or explicit)
        elif isinstance(each.answer, Refused) and each.answer.explicit:
            facts[protocol] = Missing(Reason.CONTRADICTORY, f"accepted once, and {each.answer.detail}")
    return MappingProxyType(facts)


def _all_rejected(heard: Sequence[Heard]) -> bool:
    """Whether every version was refused. Silence to SSL 2.0 makes no difference: its hello is unlike the others."""
    telling = [each for each in heard if not (each.offers == _SSL_2_0 and isinstance(each.answer, Unclear))]
    refused = {each.offers for each in telling if isinstance(each.answer, Refused)}
    return all(isinstance(each.answer, Refused) for each in telling) and refused | {_SSL_2_0} >= _EACH_ALONE


_SSL_2_0: Final = (Protocol.SSL_2_0,)
_EACH_ALONE: Final = {(protocol,) for protocol in Protocol}


def _negative(answer: Refused | Unclear, at: float, *, proven: bool) -> Fact[bool]:
    if isinstance(answer, Unclear):
        return Missing(answer.reason, answer.detail)
    if proven:
        return Known(value=False, at=at, reason=answer.reason, detail=answer.detail)
    return Missing(answer.reason, f"{answer.detail}, but nothing was accepted both before and after it")


def _answered_lower(answer: Answer) -> bool:
    return isinstance(answer, Refused) and answer.reason is Reason.WRONG_VERSION
