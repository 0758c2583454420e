"""Names to addresses: with the system's resolver where that needs no network, and with resolvers that hang or break."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from exporter.probes.tls.resolve import _MAX_LOOKUPS, _MAX_THREADS, MAX_ADDRESSES, ResolveError, Resolver


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A resolver that hangs for names below ``hang.invalid`` until the event is set."""
    answer = threading.Event()
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> Any:
        if not host.endswith("hang.invalid"):
            return real(host, *args, **kwargs)
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    before = set(threading.enumerate())
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answer
    answer.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
async def test_an_address_answers_itself(monkeypatch: pytest.MonkeyPatch, address: str, answer: str) -> None:
    """Without the system's resolver, which might be down, and without a thread."""

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise AssertionError("nobody asks the resolver for an address")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    (found,) = await Resolver().resolve(address, 1)
    assert found == answer or socket.inet_pton(socket.AF_INET6, found) == socket.inet_pton(socket.AF_INET6, answer)


async def test_localhost_is_a_loopback_address() -> None:
    addresses = await Resolver().resolve("localhost", 10)
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}


async def test_a_name_that_does_not_resolve() -> None:
    """RFC 6761: .invalid never does, whatever resolver there is."""
    with pytest.raises(ResolveError, match=r"^nothere\.invalid: ."):
        await Resolver().resolve("nothere.invalid", 20)


@pytest.mark.parametrize("name", ["a..b.test", "x" * 64 + ".test", "\ud800.test", ".test"])
async def test_a_name_that_idna_cannot_encode(name: str) -> None:
    resolver = Resolver()
    with pytest.raises(ResolveError) as caught:
        await resolver.resolve(name, 10)
    assert "no answer" not in str(caught.value)  # it was found out, not waited for
    assert resolver._slots._value == _MAX_LOOKUPS


@pytest.mark.parametrize("name", ["", "a\0b.test", "-", " ", "%", "[::1]", "127.0.0.1.invalid", "300.300.300.300"])
async def test_a_strange_name_is_an_error_and_no_wait(name: str) -> None:
    resolver = Resolver()
    with suppress(ResolveError):  # the system's resolver may make something of it
        assert await resolver.resolve(name, 20)
    assert resolver._slots._value == _MAX_LOOKUPS


async def test_each_address_once_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{number // 2}", 0)) for number in range(2, 100)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: many)
    found = await Resolver().resolve("many.test", 10)
    assert found == tuple(f"192.0.2.{number}" for number in range(1, MAX_ADDRESSES + 1))


async def test_a_resolver_that_hangs_times_out(hanging: threading.Event) -> None:
    started = time.monotonic()
    with pytest.raises(ResolveError, match=r"^a\.hang\.invalid: no answer from the resolver within 0\.2 s"):
        await Resolver().resolve("a.hang.invalid", 0.2)
    assert time.monotonic() - started < 5
    assert not hanging.is_set()


async def test_lookups_that_hang_do_not_delay_another(hanging: threading.Event) -> None:
    resolver = Resolver()
    stuck = [asyncio.create_task(resolver.resolve(f"{number}.hang.invalid", 20)) for number in range(_MAX_LOOKUPS - 1)]
    await asyncio.sleep(0.1)
    assert await resolver.resolve("localhost", 10)
    assert not any(task.done() for task in stuck)
    hanging.set()
    outcomes = await asyncio.gather(*stuck, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ResolveError}


@pytest.mark.usefixtures("hanging")
async def test_lookups_that_hung_keep_no_place() -> None:
    """Once nobody waits for them, others get their turn, and the clock starts with the turn."""
    resolver = Resolver()
    stuck = [asyncio.create_task(resolver.resolve(f"{number}.hang.invalid", 1)) for number in range(_MAX_LOOKUPS)]
    await asyncio.sleep(0.1)
    assert await resolver.resolve("localhost", 0.5)
    outcomes = await asyncio.gather(*stuck, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ResolveError}


async def test_the_number_of_threads_is_bounded_and_comes_back(hanging: threading.Event) -> None:
    """Lookups that hang for ever pile up to a limit only; addresses go on answering."""
    resolver = Resolver()
    before = threading.active_count()
    names = [f"{number}.hang.invalid" for number in range(_MAX_THREADS + _MAX_LOOKUPS)]
    outcomes = await asyncio.gather(*(resolver.resolve(name, 0.5) for name in names), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ResolveError}
    assert threading.active_count() - before <= _MAX_THREADS
    assert "256 calls hang" in str(outcomes[-1])
    assert await resolver.resolve("127.0.0.1", 1) == ("127.0.0.1",)
    hanging.set()
    async with asyncio.timeout(10):
        while resolver._threads.running:
            await asyncio.sleep(0.01)
    assert await resolver.resolve("localhost", 10)


async def test_a_lookup_that_was_cancelled_gives_its_place_back(hanging: threading.Event) -> None:
    resolver = Resolver()
    task = asyncio.create_task(resolver.resolve("a.hang.invalid", 20))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hanging.set()
    for _ in range(100):
        if resolver._slots._value == _MAX_LOOKUPS:
            break
        await asyncio.sleep(0.05)
    assert resolver._slots._value == _MAX_LOOKUPS


async def test_no_thread_to_be_had_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process at its limit of threads: the lookup fails, and its place is free again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(ResolveError):
            await resolver.resolve("localhost", 5)
    assert resolver._slots._value == _MAX_LOOKUPS
    assert await resolver.resolve("localhost", 10)


def test_an_answer_after_the_loop_is_gone_disturbs_nobody(hanging: threading.Event) -> None:
    async def give_up() -> None:
        with pytest.raises(ResolveError):
            await Resolver().resolve("a.hang.invalid", 0.1)

    asyncio.run(give_up())
    hanging.set()  # the fixture joins the thread; an exception in it would be a warning, and that an error


def test_a_resolver_that_hangs_does_not_keep_the_process_alive() -> None:
    program = """
import asyncio, socket, threading
from exporter.probes.tls.resolve import ResolveError, Resolver
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
async def main():
    try:
        await Resolver().resolve("a.hang.invalid", 0.1)
    except ResolveError:
        print("timed out")
asyncio.run(main())
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert outcome.stdout == "timed out\n"
    assert outcome.stderr == ""
