"""A snapshot in Prometheus' text and OpenMetrics formats.

What a server contributes is rendered once for each picture of it and kept. A snapshot is put together from these
fragments and compressed once, then served many times. The process metrics are collected anew for each scrape.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.exposition.metrics import FLEET_METRICS, SERVER_METRICS, Family, server_labels
from exporter.snapshot import ServerSnapshot, Snapshot

_BREATH: Final = 0.0005
"""Seconds between two servers. The event loop gives the interpreter away at each of its system calls, and while this
thread wants it too, gets it back only when this thread pauses: without the pause scrapes wait three times as long."""
_END: Final = b"# EOF\n"


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _heads(families: Iterable[Family[Any]], encode: Callable[[Collector], bytes]) -> list[bytes]:
    """The HELP and TYPE lines of each family, as the client library writes them in one of the formats."""
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    empty = _Families([kinds[family.kind](family.name, family.help, labels=family.labels) for family in families])
    return [b"# HELP " + head for head in encode(empty).removesuffix(_END).split(b"# HELP ")[1:]]


def _lines(family: Family[Any], picture: Any) -> bytes:
    """The sample lines, the same in both formats. By hand: the client library takes five times as long."""
    order: list[int] = sorted(range(len(family.labels)), key=family.labels.__getitem__)
    labels = ",".join(f'{family.labels[index]}="%s"' for index in order)
    template = f"{family.name}{{{labels}}} %s\n" if labels else f"{family.name} %s\n"
    return "".join(
        [
            template % (*[_escape(values[index]) for index in order], floatToGoString(value))
            for values, value in family.samples(picture)
        ]
    ).encode()


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _deflate(data: bytes) -> bytes:
    """A piece of a deflate stream that needs nothing from the pieces before it and ends on a whole byte."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


class _Body:
    """Finished bytes, kept as the beginning of a gzip stream: nearly every scraper asks for gzip."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._checksum = 0
        self._size = 0

    def add(self, plain: bytes, deflated: bytes) -> None:
        self._pieces.append(deflated)
        self._checksum = zlib.crc32(plain, self._checksum)
        self._size += len(plain)

    def gzip(self, more: bytes) -> bytes:
        """One gzip member (RFC 1952) of these bytes and some more, compressing only those."""
        compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        rest = compressor.compress(more) + compressor.flush()
        trailer = struct.pack("<II", zlib.crc32(more, self._checksum), (self._size + len(more)) & 0xFFFFFFFF)
        return b"".join([b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", *self._pieces, rest, trailer])


class Exposition:
    """A rendered snapshot."""

    def __init__(self) -> None:
        self._text = _Body()
        self._openmetrics = _Body()

    def add(self, text_head: bytes, openmetrics_head: bytes, lines: bytes) -> None:
        """Append a family. What both formats share is compressed once."""
        shared = _deflate(lines)
        for body, head in ((self._text, text_head), (self._openmetrics, openmetrics_head)):
            body.add(head, _deflate(head))
            body.add(lines, shared)

    def answer(self, accept: str, live: Collector) -> tuple[bytes, str]:
        """The body of a scrape, compressed with gzip, and its content type.

        Args:
            accept: the scraper's Accept header.
            live: what is collected anew for each scrape: the process metrics.
        """
        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        return (self._openmetrics if openmetrics else self._text).gzip(encode(live)), content_type


class Renderer:
    """Renders snapshots one after another, reusing the fragments of servers that did not change. For one thread."""

    def __init__(self) -> None:
        self._fragments: dict[str, tuple[ServerSnapshot, list[bytes]]] = {}

    def render(self, snapshot: Snapshot) -> Exposition:
        """Render a snapshot."""
        before, self._fragments = self._fragments, {}
        for server in snapshot.servers:
            name = server.target.name
            known = before.get(name)
            if known is None or known[0] is not server:
                known = (server, [_lines(family, server) for family in SERVER_METRICS])
                time.sleep(_BREATH)
            self._fragments[name] = known
        fleet = (*FLEET_METRICS, server_labels(snapshot))
        bodies = [_lines(family, snapshot) for family in fleet]
        fragments = [fragment for _, fragment in self._fragments.values()]
        exposition = Exposition()
        families: list[Family[Any]] = [*fleet, *SERVER_METRICS]
        heads = zip(_heads(families, generate_latest), _heads(families, generate_openmetrics), strict=True)
        for index, (text_head, openmetrics_head) in enumerate(heads):
            own = index - len(fleet)
            lines = bodies[index] if own < 0 else b"".join([fragment[own] for fragment in fragments])
            exposition.add(text_head, openmetrics_head, lines)
        return exposition


def live_registry() -> CollectorRegistry:
    """The exporter's own process, read anew at each scrape."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
