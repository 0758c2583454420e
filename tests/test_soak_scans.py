"""Two hundred scans in a row, by children that are replaced every fifty: nothing may grow, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
import trustme
from holdings import Size, assert_nothing_grew, children, size_now

from exporter.facts import EndpointFacts, Known, Protocol
from exporter.observe import Observer
from exporter.targets import Port, Target

from builders import accepted, config

pytestmark = pytest.mark.soak

SCANS = 200
AT_ONCE = 2


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real OpenSSL server with TLS 1.2, 1.3 and a handful of suites."""
    folder = tmp_path_factory.mktemp("server")
    issued = trustme.CA().issue_cert("exch01.test", key_type=trustme.KeyType.RSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{number}", "-cert", str(folder / "server.pem")]
    options = ["-cipher", "ECDHE+AESGCM:AES256-SHA", "-no_tls1", "-no_tls1_1", "-quiet"]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 20
        while True:
            assert process.poll() is None
            assert time.monotonic() < until
            try:
                socket.create_connection(("127.0.0.1", number), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield number
        process.terminate()
        process.wait(10)


async def test_two_hundred_scans_leave_nothing_behind(port: int) -> None:
    """Memory, descriptors, threads and children of the last third are those of the first; then none is left."""
    settings = {"certificates": True, "cipher_suites": True, "parallel_endpoints": AT_ONCE}
    observer = Observer(config({"scan": settings}))
    target = Target("exch01.test", role="none", ports=(Port(port, "https", "configured"),), address="127.0.0.1")
    facts = EndpointFacts(
        f"exch01.test:{port}", "https", "configured", address="127.0.0.1", accepted=accepted("000011")
    )
    sizes: list[Size] = []
    children_seen: set[int] = set()

    async def scan() -> None:
        found = await observer.scan(target, target.ports[0], facts)
        assert found.failure is None
        assert set(found.cipher_suites) == {Protocol.TLS_1_2, Protocol.TLS_1_3}
        assert isinstance(found.certificates, Known)

    for _ in range(SCANS // AT_ONCE):
        await asyncio.gather(*(scan() for _ in range(AT_ONCE)))
        children_seen |= set(children())
        gc.collect()
        sizes.append(size_now())
    await observer.close()

    assert_nothing_grew(sizes)
    assert max(each.children for each in sizes) <= AT_ONCE
    assert len(children_seen) == SCANS // 50, "each child does fifty scans"
    assert children() == []
