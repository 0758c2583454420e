"""Keeps a wrong password from locking an account: it is tried once, not once for every server that it is for.

Windows counts refused log-ons per account and locks it after a few, whichever server they came through. So a secret
that has not proven itself yet is tried on one server at a time, and the first clear refusal ends all use of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

BACK_OFF: Final = 6 * 3600.0
"""Seconds after which a refused secret is tried again, once: four times a day is below any sensible lock-out."""
PROVEN: Final = 60.0
"""Seconds for which an accepted secret may be used for several servers at the same time."""


class BlockedError(Exception):
    """The secret was refused, and is not to be tried now."""


@dataclass(slots=True)
class Attempt:
    """One log-on. Whoever makes it says how it went, at once or at the end.

    Attributes:
        accepted: whether the secret was accepted; None if that did not come out.
        detail: who refused it and how.
    """

    accepted: bool | None = None
    detail: str = ""
    _conclude: Callable[[Attempt], None] = lambda _: None

    def accept(self) -> None:
        """It was accepted: others need not wait until all is over that this log-on is for."""
        self.accepted = True
        self._conclude(self)
        self._conclude = _only_a_refusal(self._conclude)


def _only_a_refusal(conclude: Callable[[Attempt], None]) -> Callable[[Attempt], None]:
    """An acceptance that is old by now is no news; a refusal would be."""
    return lambda attempt: conclude(attempt) if attempt.accepted is False else None


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    detail: str


@dataclass(slots=True)
class Guard:
    """Stands between a credential and the servers that it is for. One for each credential."""

    clock: Callable[[], float] = time.monotonic
    _refused: dict[Hashable, _Refusal] = field(default_factory=dict, repr=False)  # secrets, for every server
    _refusers: dict[tuple[str, Hashable], _Refusal] = field(default_factory=dict, repr=False)  # for those that refused
    _proven: tuple[Hashable, float] | None = field(default=None, repr=False)  # a secret, and until when
    _accepted: Hashable = field(default=None, repr=False)  # the secret that some server accepted last
    _latest: Hashable = field(default=None, repr=False)  # the secret that counts now
    _trial: asyncio.Event | None = None  # set when the one attempt that may be made now is over

    @property
    def blocked(self) -> bool:
        """Whether no server is asked at all."""
        return self._is_refused(self._latest)

    @asynccontextmanager
    async def attempt(self, server: str, secret: Hashable, slots: asyncio.Semaphore) -> AsyncIterator[Attempt]:
        """Make an attempt, when it is its turn and there is a slot.

        Raises:
            BlockedError: the secret was refused, by this server or, not yet accepted by any other since, by another.
        """
        while True:
            if self._trial is not None:
                await self._trial.wait()
            async with slots:
                if self._trial is not None:
                    continue  # somebody else's began while this one waited for the slot
                self._check(server, secret)
                attempt = Attempt(_conclude=self._begin(server, secret))
                try:
                    yield attempt
                finally:
                    attempt._conclude(attempt)  # noqa: SLF001 - that of this guard
                return

    def _begin(self, server: str, secret: Hashable) -> Callable[[Attempt], None]:
        """Let an attempt begin, alone unless the secret is proven; what to do when its outcome is known."""
        trial = self._trial = None if self._is_proven(secret) else asyncio.Event()

        def conclude(attempt: Attempt) -> None:
            self._settle(server, secret, attempt)
            if trial is not None and self._trial is trial:
                self._trial = None
                trial.set()

        return conclude

    def check(self, server: str, secret: Hashable) -> None:
        """Whether a server may be asked now, with the secret that counts now.

        Raises:
            BlockedError: it may not.
        """
        self._latest = secret
        self._check(server, secret)

    def _check(self, server: str, secret: Hashable) -> None:
        for refusal in (self._refused.get(secret), self._refusers.get((server, secret))):
            if refusal is not None and self.clock() < refusal.until:
                raise BlockedError(refusal.detail)

    def _is_proven(self, secret: Hashable) -> bool:
        return self._proven is not None and self._proven[0] == secret and self.clock() < self._proven[1]

    def _is_refused(self, secret: Hashable) -> bool:
        return secret in self._refused and self.clock() < self._refused[secret].until

    def _settle(self, server: str, secret: Hashable, attempt: Attempt) -> None:
        if attempt.accepted and not self._is_refused(secret):  # else it began before another server refused the same
            self._proven, self._accepted = (secret, self.clock() + PROVEN), secret
            self._latest = secret
            self._refused.pop(secret, None)
            self._refusers.pop((server, secret), None)
        elif attempt.accepted is False:
            self._refuse(server, secret, _Refusal(self.clock() + BACK_OFF, attempt.detail))

    def _refuse(self, server: str, secret: Hashable, refusal: _Refusal) -> None:
        # A server that refuses again what others accept has a problem of its own.
        its_own = (server, secret) in self._refusers and secret == self._accepted
        self._refusers[server, secret] = refusal
        another_is_proven = (
            self._proven is not None and not self._is_proven(secret) and self._is_proven(self._proven[0])
        )
        if not another_is_proven:
            self._proven, self._latest = None, secret
        if not its_own:
            self._refused[secret] = refusal
            self._accepted = None if self._accepted == secret else self._accepted
