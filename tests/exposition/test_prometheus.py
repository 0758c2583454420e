"""Prometheus' formats: golden text, both formats, compression, fragments."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import prometheus
from exporter.exposition.metrics import FLEET_METRICS, SERVER_LABELS, SERVER_METRICS, server_labels
from exporter.exposition.prometheus import Renderer, live_registry
from exporter.facts import EndpointFacts, Reason
from exporter.snapshot import DiscoveryStatus, ServerSnapshot, Snapshot

from builders import TLS10_TO_12, closed_endpoint, endpoint_facts, fleet, server_snapshot

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
GZIP = shutil.which("gzip")
GOLDEN = Path(__file__).parent / "expected" / "metrics.prom"


def _render(snapshot: Snapshot, accept: str = "", renderer: Renderer | None = None) -> str:
    return gzip.decompress((renderer or Renderer()).render(snapshot).answer(accept, CollectorRegistry())[0]).decode()


def _fleet() -> Snapshot:
    return fleet(
        server_snapshot(
            endpoint_facts(TLS10_TO_12),
            endpoint_facts("?0001?", 25, service="smtp"),
            closed_endpoint(587),
            closed_endpoint(143, "optional"),
            labels={"site": "hanoi"},
            expect="wire-tls12",
        ),
        server_snapshot(EndpointFacts("exch02.test:443", "https", "core"), name="exch02.test", success=None),
        discovery={"file": DiscoveryStatus(targets=1, failures=2)},
        failures={("sweep", Reason.TCP_REFUSED): 3},
    )


def test_golden() -> None:
    """The whole text of a small fleet. To renew it after an intended change: delete the file and run this test."""
    text = re.sub(r'python_version="[^"]*"', 'python_version="3.x"', _render(_fleet()))
    if not GOLDEN.exists():
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")

    assert text == GOLDEN.read_text(encoding="utf-8")


def test_every_family_is_there_from_the_first_scrape() -> None:
    """Also of a fleet that nothing is known of."""
    families = {family.name for family in parse_text(_render(fleet()))}

    names = [family.name for family in SERVER_METRICS] + [family.name for family in FLEET_METRICS]
    expected = {name.removesuffix("_total") for name in names}
    assert families == expected | {SERVER_LABELS}


def test_both_formats_say_the_same() -> None:
    """OpenMetrics and text differ in form only."""
    text = {
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in parse_text(_render(_fleet()))
        for sample in family.samples
    }
    openmetrics = [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in parse_openmetrics(_render(_fleet(), OPENMETRICS))
        for sample in family.samples
    ]

    assert set(openmetrics) == text
    assert len(openmetrics) == len(text)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_negotiation(accept: str, content_type: str) -> None:
    """Prometheus gets what it asks for, everyone else the classic text."""
    body, given_type = Renderer().render(_fleet()).answer(accept, CollectorRegistry())

    assert given_type.startswith(content_type)
    assert gzip.decompress(body).endswith(b"# EOF\n") == ("openmetrics" in content_type)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_lines_are_those_of_the_client_library(accept: str) -> None:
    """What we write by hand for speed is byte for byte what prometheus_client writes."""
    snapshot = _fleet()
    families = [_client_family(family, [snapshot]) for family in (*FLEET_METRICS, server_labels(snapshot))]
    families += [_client_family(family, snapshot.servers) for family in SERVER_METRICS]
    encode, _ = choose_encoder(accept)

    assert _render(snapshot, accept).encode() == encode(prometheus._Families(families))


def _client_family(family: Any, pictures: Iterable[Any]) -> Metric:
    made = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(
        family.name, family.help, labels=family.labels
    )
    for picture in pictures:
        for values, value in family.samples(picture):
            made.add_metric(values, value)
    return made


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_gzip_stream_is_one_that_others_read(accept: str) -> None:
    """One member, the live part included: gzip itself finds its checksum and its length right."""
    live = CollectorRegistry()
    Gauge("live", "now", registry=live).set(1)

    compressed, _ = Renderer().render(_fleet()).answer(accept, live)

    assert GZIP, "gzip is not here"
    checked = subprocess.run([GZIP, "-dc"], input=compressed, capture_output=True, check=True).stdout
    assert b"\nlive 1.0\n" in checked
    assert len(zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(compressed)) == len(checked)


def test_fragments_of_unchanged_servers_are_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what changed is rendered."""
    renderer, first, second = Renderer(), server_snapshot(endpoint_facts()), server_snapshot(name="exch02.test")
    before = _render(fleet(first, second), renderer=renderer)
    rendered: list[str] = []
    real = prometheus._lines

    def spy(family: Any, picture: Any) -> bytes:
        if isinstance(picture, ServerSnapshot):
            rendered.append(picture.target.name)
        return real(family, picture)

    monkeypatch.setattr(prometheus, "_lines", spy)
    changed = server_snapshot(endpoint_facts(TLS10_TO_12))

    after = _render(fleet(changed, second), renderer=renderer)

    assert set(rendered) == {"exch01.test"}
    assert before != after
    assert after == _render(fleet(changed, second))


def test_a_removed_server_leaves_nothing_behind() -> None:
    """Stale series cannot happen."""
    renderer = Renderer()
    _render(fleet(server_snapshot(endpoint_facts()), server_snapshot(name="exch02.test")), renderer=renderer)

    assert "exch01" not in _render(fleet(server_snapshot(name="exch02.test")), renderer=renderer)


def test_labels_are_the_union_over_all_servers() -> None:
    """A label that a server does not have is empty."""
    snapshot = fleet(
        server_snapshot(labels={"site": "hanoi"}), server_snapshot(name="exch02.test", labels={"tier": "1"})
    )

    assert 'tls_readiness_server_labels{server="exch01.test",site="hanoi",tier=""} 1.0' in _render(snapshot)
    assert 'tls_readiness_server_labels{server="exch02.test",site="",tier="1"} 1.0' in _render(snapshot)


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.text(st.characters(codec="utf-8"), max_size=20))
def test_hostile_values_stay_values(label: str, address: str) -> None:
    """Quotes, backslashes, line feeds and what looks like a comment: one sample, the same value back."""
    label = f'# HELP x\n# TYPE "x"\\ {label}'
    snapshot = fleet(server_snapshot(endpoint_facts(address=address), labels={"site": label}))
    for parse, accept in ((parse_text, ""), (parse_openmetrics, OPENMETRICS)):
        samples = {family.name: family.samples for family in parse(_render(snapshot, accept))}
        assert [sample.labels["site"] for sample in samples["tls_readiness_server_labels"]] == [label]
        assert [sample.labels["address"] for sample in samples["tls_readiness_endpoint_info"]] == [address]


def test_the_exporters_own_process_is_there() -> None:
    """Read anew at each scrape."""
    body, _ = Renderer().render(fleet()).answer("", live_registry())

    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= {
        family.name for family in parse_text(gzip.decompress(body).decode())
    }


def test_no_series_twice() -> None:
    """One duplicate would cost the whole scrape."""
    lines = [line.rsplit(" ", 1)[0] for line in _render(_fleet()).splitlines() if not line.startswith("#")]

    assert len(set(lines)) == len(lines)
