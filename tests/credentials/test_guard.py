"""The guard: how often a secret is tried, whatever the servers say and however many wait for their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from exporter.credentials.guard import BACK_OFF, PROVEN, BlockedError, Guard

OLD, NEW = "old secret", "new secret"
FLEET = tuple(f"exch{number:03}.test" for number in range(300))
ONE, TWO, THREE = FLEET[:3]


@dataclass
class Clock:
    now: float = 50.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Servers:
    """A guard with the servers behind it.

    Attributes:
        answers: what a server says to a secret, or to any; where it is not there it accepts it.
        held: whether log-ons take until `release`.
        tried: the log-ons, in order.
        most: as many as there were at the same time.
    """

    answers: dict[str, bool | None] = field(default_factory=dict)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    clock: Clock = field(default_factory=Clock)
    held: bool = False
    tried: list[tuple[str, str]] = field(default_factory=list)
    most: int = 0
    at_once: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.clock)

    async def visit(self, server: str, secret: str = OLD) -> str:
        """Log on to a server: "accepted", "refused", "nothing", or "blocked: …" where that was not allowed."""
        try:
            async with self.guard.attempt(server, secret, self.slots) as attempt:
                self.tried.append((server, secret))
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                try:
                    await (self.gate.wait() if self.held else asyncio.sleep(0))
                finally:
                    self.at_once -= 1
                attempt.accepted = self.answers.get(server, self.answers.get(secret, True))
                attempt.detail = f"{server} refused it"
        except BlockedError as error:
            return f"blocked: {error}"
        return {True: "accepted", False: "refused", None: "nothing"}[attempt.accepted]

    async def visit_all(self, servers: Iterable[str] = FLEET, secret: str = OLD) -> list[str]:
        async with asyncio.timeout(20):
            return await asyncio.gather(*(self.visit(server, secret) for server in servers))

    def start(self, server: str, secret: str = OLD) -> asyncio.Task[str]:
        return asyncio.create_task(self.visit(server, secret))

    def release(self) -> None:
        """Let the log-ons that are held end, and hold none any more."""
        self.held = False
        self.gate.set()

    @property
    def servers_tried(self) -> list[str]:
        return [server for server, _ in self.tried]


async def _everything_stands_still() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def _proven(servers: Servers, server: str = ONE, secret: str = OLD) -> Servers:
    assert await servers.visit(server, secret) == "accepted"
    return servers


class TestARefusal:
    async def test_ends_all_use_of_the_secret(self) -> None:
        """Of hundreds of servers that wait for their turn one is asked. The others learn who refused, and how."""
        servers = Servers({OLD: False})

        outcomes = await servers.visit_all()

        assert servers.tried == [(ONE, OLD)]
        assert outcomes == ["refused", *[f"blocked: {ONE} refused it"] * (len(FLEET) - 1)]
        assert servers.guard.blocked

    @pytest.mark.parametrize("slots", [1, 2, 64, 1000])
    async def test_whatever_the_number_of_slots(self, slots: int) -> None:
        servers = Servers({OLD: False}, asyncio.Semaphore(slots))

        await servers.visit_all()
        await servers.visit_all()

        assert len(servers.tried) == 1

    async def test_lasts_until_the_back_off_is_over(self) -> None:
        servers = Servers({OLD: False})
        await servers.visit_all()
        servers.clock.now += BACK_OFF - 1
        await servers.visit_all()

        assert len(servers.tried) == 1
        assert servers.guard.blocked

    def test_lasts_for_hours(self) -> None:
        """An account that is locked after five refusals within a day is not locked by the exporter."""
        assert 86400 / BACK_OFF <= 4

    async def test_is_tried_again_once_when_the_back_off_is_over(self) -> None:
        """By one server; and then it is as blocked as before, for as long."""
        servers = Servers({OLD: False})
        await servers.visit_all()
        for rounds in (2, 3):
            servers.clock.now += BACK_OFF
            assert not servers.guard.blocked
            await servers.visit_all()

            assert len(servers.tried) == rounds
            assert servers.guard.blocked

    async def test_ends_with_an_acceptance_after_the_back_off(self) -> None:
        """Somebody has unlocked the account: all is well."""
        servers = Servers({OLD: False})
        await servers.visit_all()
        servers.answers[OLD] = True
        servers.clock.now += BACK_OFF

        assert set(await servers.visit_all()) == {"accepted"}
        assert not servers.guard.blocked

    async def test_of_a_proven_secret_ends_its_use_as_well(self) -> None:
        """The password was changed: those on their way are refused too, and nobody sets out any more."""
        servers = await _proven(Servers())
        servers.answers[OLD] = False
        servers.held = True
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()
        servers.release()
        outcomes = await asyncio.gather(*visits)

        assert outcomes.count("refused") <= 8
        assert len(servers.tried) == 1 + outcomes.count("refused")
        assert servers.guard.blocked

    async def test_is_seen_without_an_attempt(self) -> None:
        """Those who would look for the host first need not."""
        servers = Servers({OLD: False})
        servers.guard.check(TWO, OLD)
        await servers.visit(ONE)

        with pytest.raises(BlockedError, match=f"^{ONE} refused it$"):
            servers.guard.check(TWO, OLD)
        servers.guard.check(TWO, NEW)

    async def test_that_nobody_made_blocks_nothing(self) -> None:
        assert not Servers().guard.blocked


class TestANewSecret:
    async def test_is_tried_at_once(self) -> None:
        """Also by the server that refused the old one."""
        servers = Servers({OLD: False})
        await servers.visit_all()

        assert await servers.visit(ONE, NEW) == "accepted"
        assert not servers.guard.blocked

    async def test_is_tried_alone(self) -> None:
        """However proven the one before was."""
        servers = await _proven(Servers())
        servers.held = True
        visits = [servers.start(server, NEW) for server in FLEET]
        await _everything_stands_still()

        assert servers.tried == [(ONE, OLD), (ONE, NEW)]
        servers.release()
        assert set(await asyncio.gather(*visits)) == {"accepted"}

    async def test_that_is_wrong_as_well_is_tried_once(self) -> None:
        servers = Servers({OLD: False, NEW: False})
        await servers.visit_all()
        await servers.visit_all(secret=NEW)
        await servers.visit_all(secret=NEW)

        assert servers.tried == [(ONE, OLD), (ONE, NEW)]
        assert servers.guard.blocked

    async def test_does_not_make_a_refused_one_good(self) -> None:
        """Somebody tries one password, another, and the first again; or waited with it while the file was changed."""
        servers = Servers({OLD: False, NEW: False})
        await servers.visit(ONE, OLD)
        await servers.visit(ONE, NEW)

        assert (await servers.visit(TWO, OLD)).startswith("blocked")
        assert servers.tried == [(ONE, OLD), (ONE, NEW)]

    async def test_that_is_accepted_does_not_make_the_refused_one_good(self) -> None:
        """Who still waits with the old one does not try it."""
        servers = Servers({OLD: False})
        servers.held = True
        visits = [servers.start(ONE, OLD), servers.start(TWO, NEW), *(servers.start(each, OLD) for each in FLEET[2:])]
        await _everything_stands_still()
        servers.release()
        await asyncio.gather(*visits)

        assert servers.tried == [(ONE, OLD), (TWO, NEW)]
        assert not servers.guard.blocked

    async def test_that_is_refused_stays_so_when_the_old_one_is_accepted_late(self) -> None:
        """By a host that was asked before the file was changed, and is slow to answer."""
        servers = await _proven(Servers({NEW: False}))
        servers.held = True
        late = servers.start(TWO, OLD)
        await _everything_stands_still()
        servers.held = False
        assert await servers.visit(ONE, NEW) == "refused"
        servers.release()
        assert await late == "accepted"

        assert (await servers.visit(THREE, NEW)).startswith("blocked")

    async def test_that_is_accepted_stays_so_when_the_old_one_is_refused_late(self) -> None:
        """It is in use, and nothing is blocked."""
        servers = await _proven(Servers({TWO: False}))
        servers.held = True
        late = servers.start(TWO, OLD)
        await _everything_stands_still()
        servers.held = False
        assert await servers.visit(ONE, NEW) == "accepted"
        servers.release()
        assert await late == "refused"

        assert not servers.guard.blocked
        assert await servers.visit(THREE, NEW) == "accepted"


class TestAProvenSecret:
    @pytest.mark.parametrize("slots", [1, 5, 1000])
    async def test_is_used_in_parallel(self, slots: int) -> None:
        """As far as there are slots."""
        servers = await _proven(Servers(slots=asyncio.Semaphore(slots)))
        servers.held = True
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()
        servers.release()

        assert set(await asyncio.gather(*visits)) == {"accepted"}
        assert servers.most == min(slots, len(FLEET))

    async def test_proves_itself_on_one_server_first(self) -> None:
        """And until then on no other."""
        servers = Servers(held=True)
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()
        tried = list(servers.servers_tried)
        servers.release()
        outcomes = await asyncio.gather(*visits)

        assert tried == [ONE]
        assert set(outcomes) == {"accepted"}
        assert sorted(servers.servers_tried) == sorted(FLEET)

    async def test_lapses(self) -> None:
        """A password may have been changed since."""
        servers = await _proven(Servers(held=False))
        servers.clock.now += PROVEN
        servers.held = True
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()

        assert len(servers.tried) == 2
        servers.release()
        assert set(await asyncio.gather(*visits)) == {"accepted"}

    async def test_lasts_a_minute_from_the_last_acceptance(self) -> None:
        servers = await _proven(Servers())
        servers.clock.now += PROVEN - 1
        await servers.visit(TWO)
        servers.clock.now += PROVEN - 1
        servers.held = True
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()

        assert PROVEN == 60
        assert servers.at_once == 8
        servers.release()
        await asyncio.gather(*visits)


class TestNothingComesOfIt:
    async def test_the_next_one_tries(self) -> None:
        """One at a time, until one says what it thinks of the secret."""
        down = dict.fromkeys(FLEET[:20])
        servers = Servers({**down})
        seen: list[int] = []
        watch = asyncio.create_task(_watch(servers, seen))
        outcomes = await servers.visit_all(FLEET[:25])
        watch.cancel()

        assert outcomes == ["nothing"] * 20 + ["accepted"] * 5
        assert max(seen[:20]) == 1
        assert servers.servers_tried[:21] == list(FLEET[:21])

    async def test_a_refusal_after_that_ends_it(self) -> None:
        servers = Servers({ONE: None, TWO: None, OLD: False})

        outcomes = await servers.visit_all()

        assert servers.servers_tried == [ONE, TWO, THREE]
        assert outcomes[:3] == ["nothing", "nothing", "refused"]

    async def test_it_proves_nothing(self) -> None:
        servers = Servers({OLD: None})

        assert set(await servers.visit_all()) == {"nothing"}
        assert servers.most == 1
        assert not servers.guard.blocked

    async def test_it_blocks_nothing_after_a_refusal_is_over(self) -> None:
        """The one trial said nothing: the next server has another."""
        servers = Servers({OLD: False})
        await servers.visit(ONE)
        servers.clock.now += BACK_OFF
        servers.answers[TWO] = None

        assert await servers.visit(TWO) == "nothing"
        assert await servers.visit(THREE) == "refused"
        assert servers.servers_tried == [ONE, TWO, THREE]

    async def _fail(self, servers: Servers, *, accepted: bool | None) -> None:
        async with servers.guard.attempt(ONE, OLD, servers.slots) as attempt:
            attempt.accepted = accepted
            raise RuntimeError("a bug")

    async def test_an_error_is_nothing_as_well(self) -> None:
        """It comes out where it was raised, and the next one has its turn."""
        servers = Servers()
        with pytest.raises(RuntimeError, match="a bug"):
            await self._fail(servers, accepted=None)

        assert await servers.visit(TWO) == "accepted"

    async def test_an_error_after_a_refusal_does_not_undo_it(self) -> None:
        """Who was refused says so, and then raises what it likes."""
        servers = Servers()
        with pytest.raises(RuntimeError, match="a bug"):
            await self._fail(servers, accepted=False)

        assert servers.guard.blocked


async def _watch(servers: Servers, seen: list[int]) -> None:
    """Note how many log-ons there are at each one that begins."""
    while True:
        if len(servers.tried) > len(seen):
            seen.append(servers.at_once)
        await asyncio.sleep(0)


class TestAServerOfItsOwnKind:
    """One that refuses what others accept."""

    async def _refused_by_one(self) -> Servers:
        """It was refused there, and when the back-off was over accepted elsewhere."""
        servers = Servers({ONE: False})
        assert await servers.visit(ONE) == "refused"
        servers.clock.now += BACK_OFF - 1
        assert (await servers.visit(TWO)).startswith("blocked")
        servers.clock.now += 1
        return servers

    async def test_blocks_all_at_first(self) -> None:
        """Whatever those say that were asked before it refused: the account may have been locked since."""
        servers = await _proven(Servers({ONE: False}), THREE)
        servers.held = True
        late = servers.start(TWO)
        await _everything_stands_still()
        servers.held = False
        assert await servers.visit(ONE) == "refused"
        servers.release()
        assert await late == "accepted"

        assert servers.guard.blocked
        assert set(await servers.visit_all()) == {f"blocked: {ONE} refused it"}

    async def test_stays_blocked_while_others_accept(self) -> None:
        """Once others have accepted after its back-off; for as long as it would be alone."""
        servers = await self._refused_by_one()
        await servers.visit(TWO)
        assert await servers.visit(ONE) == "refused"
        outcomes = await servers.visit_all()

        assert outcomes[0] == f"blocked: {ONE} refused it"
        assert set(outcomes[1:]) == {"accepted"}
        assert servers.servers_tried.count(ONE) == 2

    async def test_that_refuses_again_does_not_block_the_others(self) -> None:
        """After its back-off; it is blocked for another one."""
        servers = await self._refused_by_one()
        await servers.visit(TWO)
        assert await servers.visit(ONE) == "refused"

        assert not servers.guard.blocked
        assert set(await servers.visit_all(FLEET[1:])) == {"accepted"}
        assert (await servers.visit(ONE)).startswith("blocked")
        servers.clock.now += BACK_OFF - 1
        assert (await servers.visit(ONE)).startswith("blocked")

    async def test_that_refuses_another_secret_is_no_exception(self) -> None:
        """What it refuses now has been accepted by others, but never yet been refused by it."""
        servers = await self._refused_by_one()
        await servers.visit(TWO, NEW)
        assert await servers.visit(ONE, NEW) == "refused"

        assert servers.guard.blocked
        assert (await servers.visit(THREE, NEW)).startswith("blocked")

    async def test_that_accepts_again_is_like_any_other(self) -> None:
        """Its next refusal counts for all."""
        servers = await self._refused_by_one()
        servers.answers[ONE] = True
        assert await servers.visit(ONE) == "accepted"
        servers.answers[ONE] = False
        assert await servers.visit(ONE) == "refused"

        assert servers.guard.blocked

    async def test_two_of_them_cost_two_attempts_in_a_back_off(self) -> None:
        """Each of which blocks all; there is no more to it while nobody accepts."""
        servers = Servers({ONE: False, TWO: False})
        await servers.visit_all()
        servers.clock.now += BACK_OFF
        await servers.visit_all(FLEET[1:])

        assert servers.servers_tried == [ONE, TWO]


class TestCancellation:
    async def test_of_the_one_whose_turn_it_is_frees_the_turn(self) -> None:
        """For one, not for all."""
        servers = Servers(held=True)
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()
        visits[0].cancel()
        await _everything_stands_still()

        assert servers.servers_tried == [ONE, TWO]
        servers.release()
        outcomes = await asyncio.gather(*visits, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert set(map(str, outcomes[1:])) == {"accepted"}

    @pytest.mark.parametrize("slots", [1, 8])
    async def test_of_those_that_wait_disturbs_nobody(self, slots: int) -> None:
        servers = Servers(held=True, slots=asyncio.Semaphore(slots))
        visits = [servers.start(server) for server in FLEET]
        await _everything_stands_still()
        for visit in visits[1::2]:
            visit.cancel()
        servers.release()
        outcomes = await asyncio.gather(*visits, return_exceptions=True)

        assert outcomes[::2] == ["accepted"] * (len(FLEET) // 2)
        assert len(servers.tried) == len(FLEET) // 2
        assert not servers.slots.locked()

    async def test_of_all_leaves_a_guard_that_works(self) -> None:
        """Whenever it comes."""
        for steps in range(8):
            servers = Servers(held=True, slots=asyncio.Semaphore(2))
            visits = [servers.start(server) for server in FLEET[:10]]
            for _ in range(steps):
                await asyncio.sleep(0)
            for visit in visits:
                visit.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
            servers.release()

            assert await servers.visit(ONE) == "accepted"
            assert not servers.slots.locked()


class TestAnAcceptanceThatIsToldAtOnce:
    """A log-on is accepted long before all is over that it is for."""

    async def test_lets_the_others_begin(self) -> None:
        servers = Servers()
        async with servers.guard.attempt("first", OLD, servers.slots) as attempt:
            waiting = [servers.start(server) for server in FLEET]
            await _everything_stands_still()
            assert servers.tried == []
            attempt.accept()

            assert set(await asyncio.gather(*waiting)) == {"accepted"}

    async def test_counts_from_then(self) -> None:
        """The end of the visit is no new proof of the secret."""
        servers = Servers()
        async with servers.guard.attempt("first", OLD, servers.slots) as attempt:
            attempt.accept()
            servers.clock.now += PROVEN
        servers.held = True
        visits = [servers.start(server) for server in FLEET[:4]]
        await _everything_stands_still()

        assert servers.servers_tried == [ONE]
        servers.release()
        await asyncio.gather(*visits)

    async def test_does_not_undo_what_another_server_said_since(self) -> None:
        """That one refused the secret: what is over later is not newer."""
        servers = Servers()
        async with servers.guard.attempt("first", OLD, servers.slots) as attempt:
            attempt.accept()
            servers.answers[OLD] = False
            await servers.visit(ONE)

        assert servers.guard.blocked
        assert await servers.visit(TWO) == f"blocked: {ONE} refused it"

    async def test_is_no_longer_believed_when_a_refusal_follows(self) -> None:
        """The password was changed in mid visit."""
        servers = Servers()
        async with servers.guard.attempt("first", OLD, servers.slots) as attempt:
            attempt.accept()
            attempt.accepted, attempt.detail = False, "first refused it"

        assert servers.guard.blocked
        assert await servers.visit(ONE) == "blocked: first refused it"
        assert servers.tried == []

    async def test_ends_no_other_attempt(self) -> None:
        """Neither at its end nor where it is told twice: that of another secret goes on alone."""
        servers = Servers()
        async with servers.guard.attempt("first", OLD, servers.slots) as attempt:
            attempt.accept()
            servers.held = True
            visits = [servers.start(server, NEW) for server in FLEET[:5]]
            await _everything_stands_still()
            attempt.accept()
        await _everything_stands_still()

        assert servers.tried == [(ONE, NEW)]
        servers.release()
        assert set(await asyncio.gather(*visits)) == {"accepted"}


class TestSlots:
    async def test_two_credentials_share_them_without_a_deadlock(self) -> None:
        """Nobody keeps a slot while it waits for its turn, and nobody its turn while it waits for a slot."""
        for number in (1, 2, 3):
            slots = asyncio.Semaphore(number)
            both = [Servers(slots=slots, answers=dict.fromkeys(FLEET[:30])) for _ in range(2)]

            outcomes = await asyncio.gather(*(servers.visit_all(FLEET[:60]) for servers in both))

            assert outcomes == [["nothing"] * 30 + ["accepted"] * 30] * 2
            assert not slots.locked()

    async def test_the_trial_of_one_takes_one(self) -> None:
        """The other credential's servers have the rest, however many wait for the first's."""
        slots = asyncio.Semaphore(4)
        stuck, other = Servers(slots=slots, held=True), Servers(slots=slots)
        waiting = [stuck.start(server) for server in FLEET]
        await _everything_stands_still()

        assert set(await other.visit_all()) == {"accepted"}
        assert other.most == 3
        stuck.release()
        assert set(await asyncio.gather(*waiting)) == {"accepted"}

    async def test_without_a_free_slot_nobody_has_a_turn(self) -> None:
        """Whoever gets a slot first has it; the guard does not say who."""
        slots = asyncio.Semaphore(1)
        busy, other = Servers(slots=slots, held=True), Servers(slots=slots)
        holder = busy.start(ONE)
        await _everything_stands_still()
        waiting = [other.start(server) for server in FLEET[:5]]
        await _everything_stands_still()
        waiting[0].cancel()
        busy.release()

        assert await holder == "accepted"
        outcomes: Mapping[int, object] = dict(enumerate(await asyncio.gather(*waiting, return_exceptions=True)))
        assert [outcomes[each] for each in range(1, 5)] == ["accepted"] * 4

    async def test_a_blocked_one_keeps_no_slot(self) -> None:
        servers = Servers({OLD: False}, asyncio.Semaphore(1))
        await servers.visit_all()

        assert not servers.slots.locked()
