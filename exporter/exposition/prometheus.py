"""A snapshot in Prometheus' text and OpenMetrics formats.

What a server contributes is rendered once for each picture of it and kept. A snapshot is put together from these
fragments and compressed once, then served many times. The process metrics are collected anew for each scrape.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Head:
    """A family's HELP and TYPE lines in each format, plain and deflated."""

    text: tuple[bytes, bytes]
    openmetrics: tuple[bytes, bytes]


def _heads(families: Iterable[Family[Any]]) -> list[_Head]:
    """The heads of families, as the client library writes them. They are the same for every snapshot."""
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    empty = _Families([kinds[family.kind](family.name, family.help, labels=family.labels) for family in families])
    texts, openmetrics = (
        [b"# HELP " + head for head in encode(empty).removesuffix(_END).split(b"# HELP ")[1:]]
        for encode in (generate_latest, generate_openmetrics)
    )
    return [
        _Head((text, _deflate(text)), (other, _deflate(other))) for text, other in zip(texts, openmetrics, strict=True)
    ]


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

    def add(self, head: _Head, lines: bytes) -> None:
        """Append a family. What both formats share is compressed once."""
        shared = _deflate(lines)
        for body, plain, deflated in ((self._text, *head.text), (self._openmetrics, *head.openmetrics)):
            body.add(plain, deflated)
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
        self._fleet_heads = _heads([*FLEET_METRICS, server_labels(Snapshot(at=0.0))])
        self._server_heads = _heads(SERVER_METRICS)

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
        fragments = [fragment for _, fragment in self._fragments.values()]
        exposition = Exposition()
        for head, family in zip(self._fleet_heads, (*FLEET_METRICS, server_labels(snapshot)), strict=True):
            exposition.add(head, _lines(family, snapshot))
        for index, head in enumerate(self._server_heads):
            exposition.add(head, b"".join([fragment[index] for fragment in fragments]))
        return exposition


def live_registry() -> CollectorRegistry:
    """The exporter's own process, read anew at each scrape."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
