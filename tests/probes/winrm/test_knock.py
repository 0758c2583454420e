"""Knocking: which address takes a connection, and what is said where none does."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.facts import Missing, Reason
from exporter.probes.winrm.knock import NobodyThereError, knock

AMPLE = 30.0
"""Seconds for what takes a fraction of one."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on 127.0.0.1 who takes connections, as far as its backlog goes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def port(listener: socket.socket) -> int:
    number: int = listener.getsockname()[1]
    return number


@pytest.fixture
def shut() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens at, and that nobody else gets."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def _nobody(*addresses: str, port: int = 5985, timeout: float = AMPLE) -> Missing:
    with pytest.raises(NobodyThereError) as caught:
        await knock(addresses, port, timeout)
    assert str(caught.value) == caught.value.missing.detail
    return caught.value.missing


class Network:
    """Stands in for the wire: an address does what is said of it, and everything else does not answer."""

    def __init__(self, **answers: OSError | None) -> None:
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.tried: list[str] = []

    async def open_connection(self, address: str, port: int) -> tuple[None, Network]:
        self.tried.append(address)
        if address not in self.answers:
            await asyncio.Event().wait()
        if (answer := self.answers[address]) is not None:
            raise answer
        return None, self

    def close(self) -> None:
        """What a writer has."""

    def replace(self, monkeypatch: pytest.MonkeyPatch) -> Network:
        monkeypatch.setattr(asyncio, "open_connection", self.open_connection)
        return self


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
UNREACHABLE = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))


def _descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


class TestSomebodyIsThere:
    async def test_who_takes_a_connection_is_found(self, port: int) -> None:
        assert await knock(["127.0.0.1"], port, AMPLE) == "127.0.0.1"

    async def test_nothing_is_said_to_it(self, listener: socket.socket, port: int) -> None:
        """One connection, which ends without a word."""
        await knock(["127.0.0.1"], port, AMPLE)
        peer, _ = listener.accept()
        peer.settimeout(AMPLE)

        assert await asyncio.to_thread(peer.recv, 1) == b""
        listener.settimeout(0)
        with peer, pytest.raises(BlockingIOError):
            listener.accept()

    async def test_over_ipv6(self) -> None:
        """Where the machine has it; elsewhere it says that it has not."""
        with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            assert await knock(["::1"], listening.getsockname()[1], AMPLE) == "::1"
            return
        assert (await _nobody("::1")).reason is Reason.TCP_UNREACHABLE

    async def test_the_first_that_answers_wins(self, listener: socket.socket, port: int) -> None:
        """The others are not asked."""
        assert await knock(["127.0.0.2", "127.0.0.1", "127.0.0.3"], port, AMPLE) == "127.0.0.1"
        with socket.create_server(("127.0.0.3", port)) as other:
            other.settimeout(0)
            assert await knock(["127.0.0.1", "127.0.0.3"], port, AMPLE) == "127.0.0.1"
            with pytest.raises(BlockingIOError):
                other.accept()

    async def test_the_order_is_kept(self, port: int) -> None:
        with socket.create_server(("127.0.0.3", port)):
            assert await knock(["127.0.0.3", "127.0.0.1"], port, AMPLE) == "127.0.0.3"

    async def test_one_that_is_silent_leaves_time_for_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = Network(**{"192_0_2_2": None}).replace(monkeypatch)

        assert await knock(["192.0.2.1", "192.0.2.2"], 5985, 0.1) == "192.0.2.2"
        assert network.tried == ["192.0.2.1", "192.0.2.2"]

    async def test_no_connection_is_left_open(self, port: int) -> None:
        """However many hosts are knocked at."""
        before = _descriptors()
        for _ in range(50):
            await knock(["127.0.0.2", "127.0.0.1"], port, AMPLE)
        await asyncio.sleep(0.01)

        assert _descriptors() <= before


class TestNobodyIsThere:
    async def test_who_refuses(self, shut: int) -> None:
        assert await _nobody("127.0.0.1", port=shut) == Missing(Reason.TCP_REFUSED, f"127.0.0.1 port {shut} refused")

    async def test_each_of_whom_refuses(self, shut: int) -> None:
        missing = await _nobody("127.0.0.1", "127.0.0.2", port=shut)

        assert missing.reason is Reason.TCP_REFUSED

    async def test_who_is_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Network().replace(monkeypatch)

        assert await _nobody("192.0.2.1", timeout=0.05) == Missing(
            Reason.TCP_TIMEOUT, "no answer from 192.0.2.1 port 5985"
        )

    async def test_many_who_are_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The time is for all of them together: each has its share."""
        shares = []
        timeout = asyncio.timeout

        def shorter(delay: float | None) -> asyncio.Timeout:
            shares.append(delay)
            return timeout(0.001)

        Network().replace(monkeypatch)
        monkeypatch.setattr(asyncio, "timeout", shorter)
        missing = await _nobody(*(f"192.0.2.{number}" for number in range(8)), timeout=10)

        assert missing.detail == "no answer from 192.0.2.0 port 5985"
        assert shares == [1.25] * 8

    async def test_who_is_silent_by_the_system_s_own_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kernel gave up before."""
        Network(**{"192_0_2_1": TimeoutError(errno.ETIMEDOUT, "Connection timed out")}).replace(monkeypatch)

        assert (await _nobody("192.0.2.1")).reason is Reason.TCP_TIMEOUT

    async def test_whom_no_way_leads_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Network(**{"192_0_2_1": UNREACHABLE}).replace(monkeypatch)

        assert await _nobody("192.0.2.1") == Missing(Reason.TCP_UNREACHABLE, "192.0.2.1 port 5985: No route to host")

    async def test_an_error_without_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is always something to say."""
        Network(**{"192_0_2_1": OSError("could not connect")}).replace(monkeypatch)

        assert (await _nobody("192.0.2.1")).detail == "192.0.2.1 port 5985: could not connect"

    async def test_the_most_telling_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """That one refuses is no news of a host of which another address is silent."""
        Network(**{"192_0_2_1": REFUSED, "192_0_2_2": UNREACHABLE}).replace(monkeypatch)

        both = ("192.0.2.1", "192.0.2.2")
        assert (await _nobody(*both)).reason is Reason.TCP_UNREACHABLE
        assert (await _nobody(*reversed(both))).reason is Reason.TCP_UNREACHABLE
        assert (await _nobody(*both, "192.0.2.3", timeout=0.1)).reason is Reason.TCP_TIMEOUT
        assert (await _nobody("192.0.2.3", *both, timeout=0.1)).detail == "no answer from 192.0.2.3 port 5985"

    async def test_cancelling_is_no_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Network().replace(monkeypatch)
        knocking = asyncio.create_task(knock(["192.0.2.1"], 5985, AMPLE))
        await asyncio.sleep(0)
        knocking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await knocking
