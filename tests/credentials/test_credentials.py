"""Credentials: who gets what to log on with, when, and what is said when there is nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from exporter import credentials as credentials_module
from exporter.config import CredentialConfig
from exporter.credentials import CredentialError, Credentials, Grant, faults
from exporter.credentials.guard import BACK_OFF
from exporter.credentials.secret import Keytab, Password, SecretError, read_password
from exporter.credentials.tickets import TicketError
from exporter.facts import Missing, Reason

SECRET = "geheim-Pa55w0rd"
NAME = "exchange-readers"
PRINCIPAL = "svc-tlsread@CONTOSO.TEST"
HOST = "exch01.contoso.test"
FLEET = [f"exch{number:03}.contoso.test" for number in range(500)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "winrm.password"
    _put(path, f"{SECRET}\n")
    return path


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="latin-1")


def _delete(path: Path) -> None:
    path.unlink()


def _config(auth: str = "ntlm", **settings: Any) -> CredentialConfig:
    username = {"kerberos": {"username": PRINCIPAL}, "certificate": {}}.get(auth, {"username": r"CONTOSO\svc-tlsread"})
    return CredentialConfig.model_validate({"auth": auth, **username, **settings})


def _ntlm(path: Path) -> Credentials:
    return Credentials({NAME: _config(password_file=str(path))})


@dataclass
class FakeTickets:
    """Stands in for `Tickets`: has them, or says why not."""

    error: TicketError | None = None
    asked: list[tuple[str, Password | Keytab, str, str]] = field(default_factory=list)
    closed: bool = False
    at_once: int = 0
    most: int = 0
    cache: str = "DIR:/tickets"

    async def ensure(self, principal: str, secret: Password | Keytab, service: str, host: str) -> None:
        self.asked.append((principal, secret, service, host))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed = True


def _kerberos(tickets: FakeTickets, **settings: Any) -> Credentials:
    credentials = Credentials({NAME: _config("kerberos", **settings)})
    vars(credentials)["_tickets"] = tickets
    return credentials


def _refused() -> TicketError:
    return TicketError(refused=True, reason=Reason.AUTH_REJECTED, detail="kinit: Preauthentication failed")


def _unavailable() -> TicketError:
    return TicketError(refused=False, reason=Reason.AUTH_UNAVAILABLE, detail="kinit: Cannot contact any KDC")


async def _log_on(
    credentials: Credentials,
    server: str = HOST,
    slots: asyncio.Semaphore | None = None,
    *,
    accepted: bool | None = True,
) -> Grant | Missing:
    """What is granted for a server that says this to it; or why nothing is."""
    try:
        async with credentials.grant(NAME, server, "HTTP", slots or asyncio.Semaphore(8)) as grant:
            await asyncio.sleep(0)
            grant.attempt.accepted = accepted
            grant.attempt.detail = f"{server} refused it"
    except CredentialError as error:
        return error.missing
    return grant


async def _check(credentials: Credentials, server: str = HOST) -> Missing | None:
    try:
        await credentials.check(NAME, server)
    except CredentialError as error:
        return error.missing
    return None


class TestPasswords:
    @pytest.mark.parametrize("settings", [{"auth": "ntlm"}, {"auth": "basic"}, {"auth": "ntlm", "transport": "https"}])
    async def test_a_grant_has_the_password(self, path: Path, settings: dict[str, Any]) -> None:
        credentials = Credentials({NAME: _config(password_file=str(path), **settings)})

        assert await _check(credentials) is None
        grant = await _log_on(credentials)
        assert isinstance(grant, Grant)
        assert (grant.password, grant.ticket_cache) == (SECRET, "")
        await credentials.close()

    async def test_it_shows_nowhere(self, path: Path) -> None:
        """Nor does anything that it passes through."""
        credentials = _ntlm(path)
        grant = await _log_on(credentials, accepted=False)
        with pytest.raises(CredentialError) as caught:
            await credentials.check(NAME, HOST)

        assert str(caught.value) == caught.value.missing.detail
        assert isinstance(grant, Grant)
        assert grant.password == SECRET
        inside = [vars(credentials), *credentials._guards.values()]
        told = [grant, str(grant), caught.value, caught.value.missing, *traceback.format_exception(caught.value)]
        assert SECRET not in repr(inside)
        assert SECRET not in "".join(map(repr, told))

    async def test_a_change_is_seen_at_the_next_use(self, path: Path) -> None:
        credentials = _ntlm(path)
        await _log_on(credentials)
        _put(path, "another\n")

        grant = await _log_on(credentials)
        assert isinstance(grant, Grant)
        assert grant.password == "another"

    async def test_a_refusal_blocks_it_for_all_servers(self, path: Path) -> None:
        """Whose outcome says which credential it is, and who refused it."""
        credentials = _ntlm(path)
        outcomes = await asyncio.gather(*(_log_on(credentials, server, accepted=False) for server in FLEET))

        tried = [server for server, outcome in zip(FLEET, outcomes, strict=True) if isinstance(outcome, Grant)]
        (first,) = tried
        blocked = Missing(Reason.CREDENTIAL_BLOCKED, f"{NAME}: {first} refused it")
        assert outcomes.count(blocked) == len(FLEET) - 1
        assert await _check(credentials) == blocked
        assert credentials.blocked == {NAME: True}

    async def test_a_new_password_is_tried_after_a_refusal(self, path: Path) -> None:
        """No restart is needed; the check says so first."""
        credentials = _ntlm(path)
        await _log_on(credentials, accepted=False)
        _put(path, "another\n")

        assert await _check(credentials) is None
        assert isinstance(await _log_on(credentials), Grant)
        assert credentials.blocked == {NAME: False}

    async def test_a_file_that_is_only_touched_is_no_new_password(self, path: Path) -> None:
        credentials = _ntlm(path)
        await _log_on(credentials, accepted=False)
        _put(path, f"{SECRET}\r\n# with a comment now\n")

        missing = await _check(credentials)
        assert missing is not None
        assert missing.reason is Reason.CREDENTIAL_BLOCKED

    async def test_each_credential_has_a_guard_of_its_own(self, path: Path) -> None:
        """Also where two have the same password."""
        config = _config(password_file=str(path))
        credentials = Credentials({NAME: config, "others": config})
        await _log_on(credentials, accepted=False)

        await credentials.check("others", HOST)
        assert credentials.blocked == {NAME: True, "others": False}

    async def test_an_outcome_that_is_not_told_proves_nothing(self, path: Path) -> None:
        """Such as that of a host that hung."""
        credentials = _ntlm(path)
        outcomes = await asyncio.gather(*(_log_on(credentials, server, accepted=None) for server in FLEET[:20]))

        assert all(isinstance(outcome, Grant) for outcome in outcomes)
        assert credentials.blocked == {NAME: False}

    async def test_an_acceptance_holds_nobody_up_any_longer(self, path: Path) -> None:
        """What the log-on is for may take as long as it likes."""
        credentials, slots = _ntlm(path), asyncio.Semaphore(2)
        async with credentials.grant(NAME, HOST, "HTTP", slots) as grant:
            waiting = [asyncio.create_task(_log_on(credentials, server, slots)) for server in FLEET[:20]]
            grant.attempt.accept()
            async with asyncio.timeout(20):
                outcomes = await asyncio.gather(*waiting)

        assert all(isinstance(outcome, Grant) for outcome in outcomes)

    async def test_a_whole_fleet_can_use_it_at_the_same_time(self, path: Path) -> None:
        """The file is read for each, and not one of them is turned away for that."""
        credentials = _ntlm(path)
        slots = asyncio.Semaphore(32)

        assert await asyncio.gather(*(_check(credentials, server) for server in FLEET)) == [None] * len(FLEET)
        outcomes = await asyncio.gather(*(_log_on(credentials, server, slots) for server in FLEET))
        assert all(isinstance(outcome, Grant) for outcome in outcomes)


class TestFiles:
    async def test_a_file_that_is_not_there(self, path: Path) -> None:
        """Is no attempt, and blocks nothing. When it is there it is used."""
        credentials = _ntlm(path)
        _delete(path)
        unreadable = Missing(Reason.FILE_UNREADABLE, f"{path}: No such file or directory")

        assert await _check(credentials) == unreadable
        assert await _log_on(credentials) == unreadable
        assert credentials.blocked == {NAME: False}
        _put(path, "another\n")
        assert isinstance(await _log_on(credentials), Grant)

    async def test_a_file_that_is_no_good(self, path: Path) -> None:
        """It says what is wrong with it, and nothing of what is in it."""
        _put(path, f"{SECRET}\xff")

        assert await _log_on(_ntlm(path)) == Missing(Reason.FILE_UNREADABLE, f"{path}: not UTF-8")

    async def test_a_file_that_hangs(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is not waited for, stops no other credential, and is read again when it comes back."""
        released = threading.Event()

        def hanging(each: Path) -> Password:
            if each == path:
                released.wait(20)
            return read_password(each)

        monkeypatch.setattr(credentials_module, "read_password", hanging)
        monkeypatch.setattr(credentials_module, "_FILE_TIMEOUT", 0.05)
        good = path.with_name("good.password")
        _put(good, "another\n")
        credentials = Credentials({NAME: _config(password_file=str(path)), "good": _config(password_file=str(good))})
        try:
            assert await _check(credentials) == Missing(Reason.FILE_UNREADABLE, f"{path}: not read in 0.05 s")
            await credentials.check("good", HOST)
        finally:
            released.set()
        await _until_no_thread_reads()

        assert await _check(credentials) is None

    async def test_a_pipe_that_hangs_stops_no_other_credential(self, path: Path) -> None:
        """However many hosts wait for it: they wait together, and the others' files are read meanwhile."""
        pipe = path.with_name("pipe")
        os.mkfifo(pipe)
        credentials = Credentials({NAME: _config(password_file=str(pipe)), "good": _config(password_file=str(path))})
        waiting = [asyncio.create_task(_check(credentials, server)) for server in FLEET]
        await asyncio.sleep(0)
        try:
            for server in FLEET[:20]:
                await credentials.check("good", server)
            done, threads = [task.done() for task in waiting], _reading()
        finally:
            pipe.write_text(f"{SECRET}\n", encoding="ascii")  # whoever reads it has waited for that
        outcomes = await asyncio.gather(*waiting)
        await _until_no_thread_reads()

        assert not any(done)
        assert threads == 1
        assert outcomes == [None] * len(FLEET)

    async def test_a_reading_that_is_over_is_not_the_next_one_s(self, path: Path) -> None:
        """Nor is one that failed: each use comes after what it sees."""
        credentials = _ntlm(path)
        grants = []
        for text in ("one", "two"):
            _put(path, text)
            grants.append(await _log_on(credentials))
            _delete(path)
            assert await _check(credentials) is not None

        assert [each.password for each in grants if isinstance(each, Grant)] == ["one", "two"]

    async def test_files_that_hang_do_not_use_up_all_threads(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is an end to how many there are. What they say when nobody waits any more is no error in the log."""
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        released = threading.Event()

        def hanging(_: Path) -> Password:
            released.wait(20)
            raise SecretError("late")

        monkeypatch.setattr(credentials_module, "read_password", hanging)
        monkeypatch.setattr(credentials_module, "_FILE_TIMEOUT", 0.05)
        monkeypatch.setattr(credentials_module, "_FILE_THREADS", 3)
        configs = {f"{n}": _config(password_file=str(path.with_name(f"{n}.password"))) for n in range(5)}
        credentials = Credentials(configs)
        try:
            outcomes = await asyncio.gather(
                *(credentials.check(name, server) for name in configs for server in FLEET[:30]), return_exceptions=True
            )
            threads = _reading()
        finally:
            released.set()
        await _until_no_thread_reads()

        assert {each.missing.reason for each in outcomes if isinstance(each, CredentialError)} == {
            Reason.FILE_UNREADABLE
        }
        assert [type(each) for each in outcomes] == [CredentialError] * 150
        assert sum("3 calls hang" in str(each) for each in outcomes) == 60
        assert threads == 3
        gc.collect()
        assert complaints == []


def _reading() -> int:
    return sum(thread.name == "secret" for thread in threading.enumerate())


async def _until_no_thread_reads() -> None:
    async with asyncio.timeout(20):
        while _reading():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)


class TestKerberos:
    async def test_a_grant_has_the_tickets(self, path: Path) -> None:
        """For this principal and this host, got with the password, which goes nowhere else."""
        tickets = FakeTickets()
        credentials = _kerberos(tickets, password_file=str(path))

        grant = await _log_on(credentials)
        assert isinstance(grant, Grant)
        assert (grant.password, grant.ticket_cache) == ("", "DIR:/tickets")
        assert tickets.asked == [(PRINCIPAL, Password(SECRET), "HTTP", HOST)]

    async def test_a_keytab_in_place_of_a_password(self, tmp_path: Path) -> None:
        """Another one when its file changes."""
        tickets, path = FakeTickets(), tmp_path / "winrm.keytab"
        credentials = _kerberos(tickets, keytab_file=str(path))
        for content in (b"one", b"two, longer"):
            path.write_bytes(content)
            await _log_on(credentials)

        (_, one, _, _), (_, two, _, _) = tickets.asked
        assert isinstance(one, Keytab)
        assert isinstance(two, Keytab)
        assert (one.path, two.path) == (path, path)
        assert one != two

    async def test_a_keytab_that_is_put_there_again_stays_blocked(self, tmp_path: Path) -> None:
        """The KDC is not asked again with keys that it refused, whatever was done to their file."""
        tickets, path = FakeTickets(_refused()), tmp_path / "winrm.keytab"
        credentials = _kerberos(tickets, keytab_file=str(path))
        path.write_bytes(b"keys")
        await _log_on(credentials)
        path.chmod(0o600)
        chmodded = await _log_on(credentials)
        path.with_suffix(".new").write_bytes(b"keys")
        path.with_suffix(".new").replace(path)

        for missing in (chmodded, await _log_on(credentials), await _check(credentials)):
            assert isinstance(missing, Missing)
            assert missing.reason is Reason.CREDENTIAL_BLOCKED
        assert len(tickets.asked) == 1

    async def test_a_keytab_that_is_not_there(self, tmp_path: Path) -> None:
        """It is no attempt, and blocks nothing."""
        tickets, path = FakeTickets(), tmp_path / "winrm.keytab"
        credentials = _kerberos(tickets, keytab_file=str(path))
        unreadable = Missing(Reason.FILE_UNREADABLE, f"{path}: No such file or directory")

        assert await _check(credentials) == unreadable
        assert await _log_on(credentials) == unreadable
        assert tickets.asked == []
        assert credentials.blocked == {NAME: False}

    async def test_a_refusal_by_the_kdc_blocks_it_for_all_servers(self, path: Path) -> None:
        """One asks; the others do not."""
        tickets = FakeTickets(_refused())
        credentials = _kerberos(tickets, password_file=str(path))

        outcomes = await asyncio.gather(*(_log_on(credentials, server) for server in FLEET))
        detail = "kinit: Preauthentication failed"
        assert len(tickets.asked) == 1
        assert outcomes.count(Missing(Reason.AUTH_REJECTED, detail)) == 1
        assert outcomes.count(Missing(Reason.CREDENTIAL_BLOCKED, f"{NAME}: {detail}")) == len(FLEET) - 1
        assert await _check(credentials) == Missing(Reason.CREDENTIAL_BLOCKED, f"{NAME}: {detail}")
        assert credentials.blocked == {NAME: True}

    async def test_a_refusal_after_others_is_no_server_s_own(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is always the KDC that refuses: the second time in a row blocks as the first did."""
        now = 0.0
        tickets = FakeTickets()
        credentials = _kerberos(tickets, password_file=str(path))
        monkeypatch.setattr(credentials._guards[NAME], "clock", lambda: now)
        one, two = FLEET[:2]
        for server, error in ((one, _refused()), (two, None), (one, _refused()), (one, _refused())):
            tickets.error = error
            await _log_on(credentials, server)
            assert credentials.blocked == {NAME: error is not None}
            now += BACK_OFF

    async def test_no_kdc_blocks_nothing(self, path: Path) -> None:
        """Each asks in its turn; the tickets remember who does not answer."""
        tickets = FakeTickets(_unavailable())
        credentials = _kerberos(tickets, password_file=str(path))
        outcomes = await asyncio.gather(*(_log_on(credentials, server) for server in FLEET[:20]))

        assert outcomes == [Missing(Reason.AUTH_UNAVAILABLE, "kinit: Cannot contact any KDC")] * 20
        assert credentials.blocked == {NAME: False}
        assert tickets.most == 1

    async def test_tickets_are_got_in_parallel_once_there_is_one(self, path: Path) -> None:
        """A few at a time; and not in the slots, which are for those who have theirs."""
        tickets = FakeTickets()
        credentials = _kerberos(tickets, password_file=str(path))
        slots = asyncio.Semaphore(1)
        await slots.acquire()
        waiting = [asyncio.create_task(_log_on(credentials, server, slots)) for server in FLEET[:40]]
        async with asyncio.timeout(20):
            while len(tickets.asked) < 40:
                await asyncio.sleep(0.001)
        slots.release()
        outcomes = await asyncio.gather(*waiting)

        assert all(isinstance(outcome, Grant) for outcome in outcomes)
        assert 1 < tickets.most <= 8

    async def test_a_slot_is_held_while_it_is_used(self, path: Path) -> None:
        credentials = _kerberos(FakeTickets(), password_file=str(path))
        slots = asyncio.Semaphore(1)
        async with credentials.grant(NAME, HOST, "HTTP", slots):
            assert slots.locked()

        assert not slots.locked()

    async def test_a_host_that_refuses_a_ticket_blocks_nothing(self, path: Path) -> None:
        """The KDC has accepted the password; no account is locked by what a host makes of a ticket."""
        credentials = _kerberos(FakeTickets(), password_file=str(path))
        await _log_on(credentials, accepted=False)

        assert await _check(credentials) is None
        assert credentials.blocked == {NAME: False}

    async def test_closing_forgets_the_tickets(self, path: Path) -> None:
        tickets = FakeTickets()
        await _kerberos(tickets, password_file=str(path)).close()

        assert tickets.closed

    async def test_the_password_shows_nowhere(self, path: Path) -> None:
        credentials = _kerberos(FakeTickets(_refused()), password_file=str(path))
        with pytest.raises(CredentialError) as caught:
            async with credentials.grant(NAME, HOST, "HTTP", asyncio.Semaphore(1)):
                pass

        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in repr([vars(credentials), *credentials._guards.values()])


class TestCertificates:
    async def test_it_needs_no_secret_of_ours(self) -> None:
        """The child reads certificate and key itself; a refusal locks no account, and blocks nothing."""
        credentials = Credentials(
            {NAME: _config("certificate", certificate_file="/client.pem", key_file="/client.key")}
        )
        slots = asyncio.Semaphore(2)
        outcomes = await asyncio.gather(*(_log_on(credentials, server, slots, accepted=False) for server in FLEET))

        assert all(isinstance(each, Grant) and (each.password, each.ticket_cache) == ("", "") for each in outcomes)
        assert await _check(credentials) is None
        assert credentials.blocked == {NAME: False}

    async def test_it_takes_a_slot(self) -> None:
        credentials = Credentials(
            {NAME: _config("certificate", certificate_file="/client.pem", key_file="/client.key")}
        )
        slots = asyncio.Semaphore(1)
        async with credentials.grant(NAME, HOST, "HTTP", slots):
            assert slots.locked()

        assert not slots.locked()


class TestSlots:
    async def test_are_free_again_whatever_happens(self, path: Path) -> None:
        """A credential that is blocked, one that cannot be read, a fault, a cancellation."""
        credentials, slots = _ntlm(path), asyncio.Semaphore(1)
        with pytest.raises(RuntimeError):
            async with credentials.grant(NAME, HOST, "HTTP", slots):
                raise RuntimeError
        waiting = asyncio.create_task(_log_on(credentials, HOST, slots))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for accepted in (False, True):
            await _log_on(credentials, HOST, slots, accepted=accepted)
        _delete(path)
        await _log_on(credentials, HOST, slots)

        assert not slots.locked()


class TestFaults:
    @pytest.fixture(autouse=True)
    def _tools(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Whether this machine has Kerberos' programs is not the question."""
        monkeypatch.setattr(credentials_module, "missing_tools", lambda: "")
        return iter(())

    def test_there_are_none(self, path: Path) -> None:
        config = _config(password_file=str(path))
        certificate = _config("certificate", certificate_file=str(path), key_file=str(path))

        assert faults({NAME: config, "kerberos": _config("kerberos", keytab_file=str(path)), "c": certificate}) == []
        assert faults({}) == []

    def test_each_file_that_cannot_be_read_is_one(self, path: Path) -> None:
        """With the place in the configuration, and the file."""
        gone = path.with_name("gone")
        configs = {
            "a": _config(password_file=str(gone)),
            "b": _config("kerberos", keytab_file=str(gone)),
            "c": _config("certificate", certificate_file=str(gone), key_file=str(gone)),
        }

        assert faults(configs) == [
            f"credentials.{key}: {gone}: No such file or directory"
            for key in ("a.password_file", "b.keytab_file", "c.certificate_file", "c.key_file")
        ]

    def test_a_password_that_is_none_is_one(self, path: Path) -> None:
        """It says nothing of what is in the file."""
        _put(path, f"{SECRET}\xff")

        assert faults({NAME: _config(password_file=str(path))}) == [
            f"credentials.{NAME}.password_file: {path}: not UTF-8"
        ]

    def test_tools_that_kerberos_needs(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only where it is used."""
        monkeypatch.setattr(credentials_module, "missing_tools", lambda: "Kerberos needs kinit: install it.")
        ntlm = _config(password_file=str(path))

        assert faults({"k": _config("kerberos", password_file=str(path)), NAME: ntlm}) == [
            "credentials.k: Kerberos needs kinit: install it."
        ]
        assert faults({NAME: ntlm}) == []
