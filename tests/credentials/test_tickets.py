"""Tickets against a real domain controller. What a test expects of an account, it reads from the domain."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from samba_controller import (
    DISABLED,
    EXPIRED,
    HOSTS,
    MUST_CHANGE,
    OTHER,
    PASSWORD,
    READER,
    SambaController,
    SilentKdc,
    SlowKdc,
    krb5_conf,
)

from exporter.credentials.guard import BACK_OFF
from exporter.credentials.secret import Keytab, Password
from exporter.credentials.tickets import TicketError, Tickets, missing_tools
from exporter.facts import Reason

RIGHT = Password(PASSWORD)
WRONG = Password("not the one")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tickets(controller: SambaController, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tickets]:
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5_conf))
    tickets = Tickets(clock=clock)
    yield tickets
    await tickets.close()


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentKdc]:
    with SilentKdc() as kdc:
        monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "silent.conf", kdc.port)))
        yield kdc


def klist(tickets: Tickets) -> str:
    environment = os.environ | {"KRB5CCNAME": tickets.cache, "LC_ALL": "C"}
    return subprocess.run(["klist", "-A"], env=environment, capture_output=True, text=True, check=False).stdout


def granted(tickets: Tickets) -> dict[str, bytes]:
    """The caches' content up to the first ticket, which the session key in it makes unique."""
    folder = Path(tickets.cache.removeprefix("DIR:"))
    return {path.name: path.read_bytes()[:1000] for path in folder.glob("tkt*")}


def children() -> dict[int, bytes]:
    """The programs that we run now, with what /proc shows of them: arguments and environment."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")
            if name in ("kinit", "kvno", "klist") and int(rest.split()[1]) == os.getpid():
                found[int(path.name)] = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def modes(folder: str) -> list[int]:
    """Of the folder and of the caches in it; none if it does not exist."""
    path = Path(folder)
    return [each.stat().st_mode & 0o777 for each in (path, *path.glob("*tkt*")) if each.exists()]


async def failure(tickets: Tickets, principal: str, secret: Password | Keytab, host: str = HOSTS[0]) -> TicketError:
    with pytest.raises(TicketError) as raised:
        await tickets.ensure(principal, secret, "HTTP", host)
    return raised.value


async def test_a_password_gets_both_tickets(tickets: Tickets) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

    assert f"Default principal: {READER}" in klist(tickets)
    assert "krbtgt/CONTOSO.TEST@CONTOSO.TEST" in klist(tickets)
    assert f"HTTP/{HOSTS[0]}" in klist(tickets)


async def test_a_keytab_gets_both_tickets(tickets: Tickets, controller: SambaController, tmp_path: Path) -> None:
    keytab = Keytab(controller.export_keytab(READER, tmp_path / "reader: the.keytab"))

    await tickets.ensure(READER, keytab, "HTTP", HOSTS[0])

    assert f"HTTP/{HOSTS[0]}" in klist(tickets)


async def test_a_second_host_takes_a_service_ticket_only(tickets: Tickets) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    before = granted(tickets)

    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])

    assert granted(tickets) == before
    assert f"HTTP/{HOSTS[1]}" in klist(tickets)


async def test_the_folder_is_private_and_close_removes_it(tickets: Tickets) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    folder = tickets.cache.removeprefix("DIR:")
    assert modes(folder) == [0o700, 0o600]

    await tickets.close()

    assert modes(folder) == []


async def test_a_wrong_password_is_refused_and_counts_once(tickets: Tickets, controller: SambaController) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])  # sets the count to zero

    error = await failure(tickets, READER, WRONG)

    assert (error.refused, error.reason) == (True, Reason.AUTH_REJECTED)
    assert "Password incorrect" in error.detail
    assert WRONG.text not in error.detail
    assert controller.bad_passwords(READER) == 1
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])


async def test_hosts_that_ask_together_share_one_attempt(tickets: Tickets, controller: SambaController) -> None:
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])

    errors = await asyncio.gather(*(failure(tickets, OTHER, WRONG, HOSTS[index % 2]) for index in range(8)))

    assert {error.refused for error in errors} == {True}
    assert controller.bad_passwords(OTHER) == 1


async def test_an_attempt_whose_host_gave_up_is_not_made_again(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])
    with SlowKdc(controller, 0.5) as slow:
        monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "slow.conf", slow.port)))
        with pytest.raises(TimeoutError):
            # The first message, without password, is answered by now, and the second is on its way.
            await asyncio.wait_for(tickets.ensure(OTHER, WRONG, "HTTP", HOSTS[0]), 0.8)
        assert (await failure(tickets, OTHER, WRONG, HOSTS[1])).refused

    assert controller.bad_passwords(OTHER) == 1


async def test_an_answer_that_nobody_waits_for_is_not_logged(
    tickets: Tickets, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(tickets.ensure("nobody@CONTOSO.TEST", WRONG, "HTTP", HOSTS[0]), 0.001)
    while children():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    gc.collect()

    assert not caplog.records  # as asyncio would write


async def test_a_refusal_counts_although_the_old_ticket_is_still_good(
    tickets: Tickets, controller: SambaController, clock: Clock
) -> None:
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])
    clock.now += 10 * 3600 - 300
    controller.set_password(OTHER, "Ch4nged, now!")
    try:
        assert (await failure(tickets, OTHER, RIGHT)).refused
    finally:
        controller.set_password(OTHER, PASSWORD)


async def test_a_slow_kdc_gets_a_wrong_password_once(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, kinit sends it a second time after a second without answer."""
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])
    with SlowKdc(controller, 1.1) as slow:
        monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "slow.conf", slow.port)))
        assert (await failure(tickets, OTHER, WRONG)).refused

    assert controller.bad_passwords(OTHER) == 1


@pytest.mark.parametrize(
    ("principal", "text"),
    [
        ("nobody@CONTOSO.TEST", "not found in Kerberos database"),
        (DISABLED, "credentials have been revoked"),
        (EXPIRED, "credentials have been revoked"),
        (MUST_CHANGE, "the password has expired"),
    ],
)
async def test_an_account_that_cannot_log_on_is_refused(tickets: Tickets, principal: str, text: str) -> None:
    error = await failure(tickets, principal, RIGHT)

    assert (error.refused, error.reason) == (True, Reason.AUTH_REJECTED)
    assert text in error.detail
    assert not granted(tickets)


async def test_a_keytab_of_another_account_or_of_an_old_password_is_refused(
    tickets: Tickets, controller: SambaController, tmp_path: Path
) -> None:
    old = Keytab(controller.export_keytab(OTHER, tmp_path / "other.keytab"))
    controller.set_password(OTHER, "Another-0ne!")
    controller.set_password(OTHER, "And-one-m0re!")
    try:
        assert (await failure(tickets, OTHER, old)).refused
    finally:
        controller.set_password(OTHER, PASSWORD)

    assert (await failure(tickets, READER, old)).refused


async def test_an_empty_password_is_not_tried(tickets: Tickets, controller: SambaController) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

    assert (await failure(tickets, READER, Password(""))).refused
    assert controller.bad_passwords(READER) == 0


async def test_a_new_password_is_used_at_once(tickets: Tickets, controller: SambaController) -> None:
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])
    before = granted(tickets)
    controller.set_password(OTHER, "Ch4nged, now!")
    try:
        await tickets.ensure(OTHER, Password("Ch4nged, now!"), "HTTP", HOSTS[0])
    finally:
        controller.set_password(OTHER, PASSWORD)

    assert granted(tickets).keys() == before.keys()
    assert granted(tickets) != before


@pytest.mark.parametrize("content", [None, b"", b"no keytab at all"])
async def test_a_keytab_that_cannot_be_read_says_nothing_of_the_account(
    tickets: Tickets, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "reader.keytab"
    if content is not None:
        path.write_bytes(content)

    error = await failure(tickets, READER, Keytab(path))

    assert (error.refused, error.reason) == (False, Reason.FILE_UNREADABLE)
    assert str(path) in error.detail


async def test_a_host_without_service_principal_costs_the_others_nothing(tickets: Tickets) -> None:
    error = await failure(tickets, READER, RIGHT, "exch99.contoso.test")

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "Server not found" in error.detail
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])


async def test_two_principals_live_in_one_collection(tickets: Tickets) -> None:
    await asyncio.gather(
        *(tickets.ensure(principal, RIGHT, "HTTP", host) for principal in (READER, OTHER) for host in HOSTS)
    )

    listed = klist(tickets)
    assert listed.count("krbtgt/") == 2
    assert all(f"Default principal: {principal}" in listed for principal in (READER, OTHER))
    assert all(listed.count(f"HTTP/{host}@\n") == 2 for host in HOSTS)


async def test_a_ticket_is_renewed_ten_minutes_before_its_end(tickets: Tickets, clock: Clock) -> None:
    """Samba's tickets live for ten hours."""
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    first = granted(tickets)

    clock.now += 10 * 3600 - 605
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    assert granted(tickets) == first

    clock.now += 10
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    assert granted(tickets) != first
    assert f"HTTP/{HOSTS[0]}" in klist(tickets)


async def test_a_ticket_that_ended_before_its_time_is_replaced(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a machine slept: our clock stands still, the KDC's does not. Samba's KDC says that a ticket-granting
    ticket has expired as soon as it has two minutes left: those it keeps for changing passwords."""
    with monkeypatch.context() as short:
        short.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "conf", controller.port, "ticket_lifetime = 123s")))
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    first = granted(tickets)
    await asyncio.sleep(3.1)

    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    assert granted(tickets) == first  # both are there: nobody is asked
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])
    assert granted(tickets) != first


async def test_a_short_ticket_is_renewed_after_nine_tenths_of_its_life(
    tickets: Tickets, controller: SambaController, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = krb5_conf(tmp_path / "conf", controller.port, "ticket_lifetime = 1000s")
    monkeypatch.setenv("KRB5_CONFIG", str(conf))
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    first = granted(tickets)

    clock.now += 899
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    assert granted(tickets) == first

    clock.now += 2
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    assert granted(tickets) != first


async def test_a_ticket_that_can_never_be_used_is_no_loop(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "c", controller.port, "ticket_lifetime = 60s")))

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "Ticket expired" in error.detail


async def test_cached_tickets_outlive_their_kdc(tickets: Tickets, controller: SambaController, clock: Clock) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    with controller.away():
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

        error = await failure(tickets, READER, RIGHT, HOSTS[1])
        assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
        assert "Cannot contact any KDC" in error.detail

        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])  # although a failure is remembered now
        clock.now += 10 * 3600 - 300  # time to renew, and nobody to ask
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
        clock.now += 301
        assert "Cannot contact any KDC" in (await failure(tickets, READER, RIGHT)).detail

    assert "Cannot contact any KDC" in (await failure(tickets, READER, RIGHT)).detail  # remembered
    clock.now += 60
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])


async def test_a_silent_kdc_costs_one_time_out_and_leaves_no_process(silent: SilentKdc) -> None:
    tickets = Tickets(timeout=0.3)

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "within 0.3 s" in error.detail
    assert silent.was_asked()
    assert not children()
    assert (await failure(tickets, READER, RIGHT, HOSTS[1])).detail == error.detail
    assert not silent.was_asked()
    await failure(tickets, OTHER, RIGHT)  # of another principal nothing is known
    assert silent.was_asked()
    await tickets.close()


async def test_a_kdc_that_falls_silent_costs_each_host_one_time_out(
    controller: SambaController, silent: SilentKdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = Tickets()
    with monkeypatch.context() as before:
        before.setenv("KRB5_CONFIG", str(controller.krb5_conf))
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    monkeypatch.setattr(tickets, "_timeout", 0.3)

    await failure(tickets, READER, RIGHT, HOSTS[1])
    assert silent.was_asked()

    await failure(tickets, READER, RIGHT, HOSTS[1])
    assert not silent.was_asked()
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    await failure(tickets, READER, RIGHT, "exch03.contoso.test")
    assert silent.was_asked()
    await tickets.close()


async def test_a_secret_that_changed_is_tried_although_a_failure_is_remembered(silent: SilentKdc) -> None:
    tickets = Tickets(timeout=0.3)
    await failure(tickets, READER, RIGHT)
    silent.was_asked()

    await failure(tickets, READER, Password("a new one"))

    assert silent.was_asked()
    await tickets.close()


async def test_the_password_is_not_in_arguments_or_environment(silent: SilentKdc) -> None:
    tickets = Tickets()
    task = asyncio.create_task(tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0]))
    while not silent.was_asked():
        await asyncio.sleep(0.01)

    seen = children()
    await tickets.close()

    assert len(seen) == 1
    assert all(b"kinit" in shown and b"LC_ALL=C" in shown for shown in seen.values())
    assert not any(PASSWORD.encode() in shown for shown in seen.values())
    assert not children()  # close() ended it
    assert task.cancelled()


def skewed(offset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the programs that we start see another time."""
    told = subprocess.run(["faketime", "-f", offset, "env"], capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        name, _, value = line.partition("=")
        if name in ("LD_PRELOAD", "FAKETIME"):
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_a_wrong_clock_is_made_up_for(tickets: Tickets, monkeypatch: pytest.MonkeyPatch, offset: str) -> None:
    """libkrb5 measures the difference at the logon. A clock that goes wrong later costs a new ticket."""
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    skewed(offset, monkeypatch)

    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])
    await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])


async def test_clock_skew_is_no_refusal(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(krb5_conf(tmp_path / "c", controller.port, "kdc_timesync = 0")))
    skewed("+1h", monkeypatch)

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "Clock skew too great" in error.detail


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are taken before the system's."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


def runs(log: Path) -> int:
    """How often a program ran that writes a line into a log."""
    return len(log.read_text().splitlines()) if log.exists() else 0


async def pauses(tickets: Tickets, secret: Password, clock: Clock, count: int) -> list[int]:
    """The minutes after which each of some attempts that time out is made again."""
    found = []
    for _ in range(count):
        error = await failure(tickets, READER, secret)
        assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
        found.append(int(error.detail.split()[-2]))
        clock.now += found[-1] * 60 - 1
        assert (await failure(tickets, READER, secret, HOSTS[1])).detail == error.detail
        clock.now += 1
    return found


async def test_an_attempt_that_timed_out_may_have_counted_and_is_repeated_ever_more_rarely(
    controller: SambaController, clock: Clock, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5_conf))
    tickets = Tickets(timeout=0.5, clock=clock)
    with monkeypatch.context() as at_once:
        at_once.setattr(tickets, "_timeout", 0.02)
        program(programs, "kinit", "exec sleep 60")

        assert await pauses(tickets, RIGHT, clock, 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]
        assert await pauses(tickets, Password("a new one"), clock, 2) == [1, 2]

    shutil.rmtree(programs)
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    clock.now += 10 * 3600
    program(programs, "kinit", "exec sleep 60")
    assert await pauses(tickets, RIGHT, clock, 1) == [1]
    await tickets.close()


async def test_other_failures_in_between_do_not_shorten_the_pause(clock: Clock, programs: Path) -> None:
    tickets = Tickets(timeout=0.2, clock=clock)
    program(programs, "kinit", "exec sleep 60")
    assert await pauses(tickets, RIGHT, clock, 2) == [1, 2]

    program(programs, "kinit", "echo 'kinit: Cannot contact any KDC' >&2; exit 1")
    await failure(tickets, READER, RIGHT)
    clock.now += 60
    program(programs, "kinit", "exec sleep 60")

    assert await pauses(tickets, RIGHT, clock, 1) == [4]
    await tickets.close()


async def test_a_refusal_that_nobody_waited_for_is_kept_for_that_secret(
    tickets: Tickets, clock: Clock, programs: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program(programs, "kinit", f"echo >> '{log}'; sleep 0.1; echo 'kinit: Password incorrect' >&2; exit 1")
    for _ in range(2):
        task = asyncio.create_task(tickets.ensure(READER, WRONG, "HTTP", HOSTS[0]))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0.2)

    assert (await failure(tickets, READER, WRONG)).refused
    assert (await failure(tickets, READER, Password("another"))).refused
    assert runs(log) == 2
    clock.now += BACK_OFF - 10
    assert (await failure(tickets, READER, WRONG)).refused  # although another secret was tried meanwhile
    assert runs(log) == 2
    clock.now += 10
    await failure(tickets, READER, WRONG)
    assert runs(log) == 3


async def test_a_wrong_password_is_not_tried_again_at_the_primary_kdc(
    tickets: Tickets, controller: SambaController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another address: libkrb5 knows a KDC that it has asked already by that."""
    with socket.create_server(("127.0.0.3", 0)) as primary:
        conf = krb5_conf(tmp_path / "replica.conf", controller.port)
        conf.write_text(conf.read_text().replace("}", f"master_kdc = 127.0.0.3:{primary.getsockname()[1]}\n}}"))
        monkeypatch.setenv("KRB5_CONFIG", str(conf))
        await tickets.ensure(OTHER, RIGHT, "HTTP", HOSTS[0])

        assert (await failure(tickets, OTHER, WRONG)).refused

        primary.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody came
            primary.accept()


async def test_a_realm_that_would_need_quotes_does_not_break_the_configuration(tickets: Tickets) -> None:
    error = await failure(tickets, "svc@A = {", RIGHT)

    assert "Cannot find KDC for realm" in error.detail


async def test_a_host_for_which_kvno_times_out_costs_the_others_nothing(
    controller: SambaController, clock: Clock, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(controller.krb5_conf))
    tickets, log = Tickets(clock=clock), tmp_path / "log"
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])
    hang = f"case \"$*\" in *cached-only*) ;; *{HOSTS[0]}) echo >> '{log}'; exec sleep 60;; esac"
    program(programs, "kvno", f'{hang}\nexec {shutil.which("kvno", path=os.defpath)} "$@"')

    with monkeypatch.context() as soon:
        soon.setattr(tickets, "_timeout", 0.3)
        error = await failure(tickets, READER, RIGHT, HOSTS[0])
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[1])
    assert (await failure(tickets, READER, RIGHT, HOSTS[0])).detail == error.detail
    assert runs(log) == 1

    clock.now += 60
    shutil.rmtree(programs)
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    await tickets.close()


@pytest.mark.parametrize(("realm", "asked"), [("CONTOSO.TEST", 1), ("CHILD.CONTOSO.TEST", 2)])
async def test_a_realm_without_kdc_is_the_trouble_of_its_own_hosts(
    tickets: Tickets, programs: Path, tmp_path: Path, realm: str, asked: int
) -> None:
    log = tmp_path / "log"
    count = f"case \"$*\" in *cached-only*) ;; *) echo >> '{log}';; esac"
    program(programs, "kvno", f"{count}\necho \"kvno: Cannot contact any KDC for realm '{realm}'\" >&2; exit 1")

    for host in HOSTS:
        await failure(tickets, READER, RIGHT, host)

    assert runs(log) == asked


async def test_a_folder_that_vanished_is_made_anew(tickets: Tickets) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    folder = tickets.cache.removeprefix("DIR:")
    shutil.rmtree(folder)

    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

    assert f"HTTP/{HOSTS[0]}" in klist(tickets)
    assert modes(tickets.cache.removeprefix("DIR:")) == [0o700, 0o600]


async def test_no_ticket_goes_into_a_folder_that_another_user_made_in_its_place(tickets: Tickets) -> None:
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])
    theirs = tickets.cache.removeprefix("DIR:")
    shutil.rmtree(theirs)
    os.mkdir(theirs)  # noqa: PTH102  # a Path's methods are not for coroutines
    os.chown(theirs, 12345, 12345)
    try:
        await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])

        assert not os.listdir(theirs)  # noqa: PTH208
        assert f"HTTP/{HOSTS[0]}" in klist(tickets)
    finally:
        os.rmdir(theirs)  # noqa: PTH106


async def test_without_a_place_for_the_folder_there_are_no_tickets_until_there_is_one(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "No such file or directory" in error.detail
    (tmp_path / "gone").mkdir()
    await tickets.ensure(READER, RIGHT, "HTTP", HOSTS[0])


async def test_a_folder_that_cannot_be_written_to_is_no_refusal(
    tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "No space left on device" in error.detail


async def test_a_refusal_is_one_although_the_folder_vanished_meanwhile(tickets: Tickets, programs: Path) -> None:
    sweep = 'rm -r "$(dirname "${KRB5CCNAME#FILE:}")"'
    program(programs, "kinit", f"{sweep}; echo 'kinit: Password incorrect' >&2; exit 1")

    assert (await failure(tickets, READER, WRONG)).refused


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("Something new", True),
        ("Preauthentication failed while getting initial credentials", True),
        ("KDC policy rejects request while getting initial credentials", True),
        ('Cannot find KDC for realm "CONTOSO.TEST" while getting initial credentials', False),
        ("A service is not available that is required to process the request while getting it", False),
        ("Failed to store credentials: Credentials cache I/O operation failed while getting it", False),
        ("Configuration file does not specify default realm when parsing name svc", False),
    ],
)
async def test_what_is_not_known_to_be_harmless_is_taken_for_a_refusal(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, refused: bool
) -> None:
    program(tmp_path / "bin", "kinit", f"echo 'kinit: {text}' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.detail) == (refused, f"kinit: {text}")


async def test_an_unknown_klist_is_no_refusal(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "klist", "echo 'Credentials cache: FILE:/x'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    error = await failure(tickets, READER, RIGHT)

    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "klist: not understood" in error.detail


def test_nothing_is_missing_where_the_tests_run() -> None:
    assert missing_tools() == ""


async def test_missing_programs_are_named_with_their_package(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert missing_tools().startswith("Kerberos needs kinit, kvno, klist: install krb5-user (Debian")
    error = await failure(tickets, READER, RIGHT)
    assert (error.refused, error.reason) == (False, Reason.AUTH_UNAVAILABLE)
    assert "install krb5-user" in error.detail


@pytest.mark.parametrize("module", [None, ModuleType("kerberos")])
def test_a_missing_or_unfit_module_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "kerberos", module)

    assert "pip install '.[kerberos]' in the project's source folder" in missing_tools()
