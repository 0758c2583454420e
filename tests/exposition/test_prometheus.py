"""Prometheus' formats: golden text, both formats, compression, fragments."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition import prometheus
from exporter.exposition.prometheus import FLEET_METRICS, SERVER_LABELS, SERVER_METRICS, Renderer, live_registry
from exporter.facts import EndpointFacts, Reason
from exporter.snapshot import DiscoveryStatus, ServerSnapshot, Snapshot

from builders import TLS10_TO_12, closed_endpoint, endpoint_facts, fleet, server_snapshot

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
GOLDEN = Path(__file__).parent / "expected" / "metrics.prom"


def _render(snapshot: Snapshot, accept: str = "", renderer: Renderer | None = None) -> str:
    return (renderer or Renderer()).render(snapshot).answer(accept, CollectorRegistry(), gzip=False)[0].decode()


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
    body, given_type = Renderer().render(_fleet()).answer(accept, CollectorRegistry(), gzip=False)

    assert given_type.startswith(content_type)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in content_type)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_compressed_is_the_same(accept: str) -> None:
    """One gzip member, the live part included."""
    live = CollectorRegistry()
    Gauge("live", "now", registry=live).set(1)
    exposition = Renderer().render(_fleet())

    compressed, _ = exposition.answer(accept, live, gzip=True)

    assert gzip.decompress(compressed) == exposition.answer(accept, live, gzip=False)[0]
    if shutil.which("gzip"):
        checked = subprocess.run(["gzip", "-dc"], input=compressed, capture_output=True, check=True)
        assert checked.stdout == exposition.answer(accept, live, gzip=False)[0]


def test_fragments_of_unchanged_servers_are_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what changed is rendered."""
    renderer, first, second = Renderer(), server_snapshot(endpoint_facts()), server_snapshot(name="exch02.test")
    before = _render(fleet(first, second), renderer=renderer)
    rendered: list[ServerSnapshot] = []
    real = prometheus._metrics

    def spy(families: object, picture: object) -> object:
        if isinstance(picture, ServerSnapshot):
            rendered.append(picture)
        return real(families, picture)  # type: ignore[type-var, arg-type]

    monkeypatch.setattr(prometheus, "_metrics", spy)
    changed = server_snapshot(endpoint_facts(TLS10_TO_12))

    after = _render(fleet(changed, second), renderer=renderer)

    assert rendered == [changed]
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
    body, _ = Renderer().render(fleet()).answer("", live_registry(), gzip=False)

    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections"} <= {
        family.name for family in parse_text(body.decode())
    }


def test_no_series_twice() -> None:
    """One duplicate would cost the whole scrape."""
    lines = [line.rsplit(" ", 1)[0] for line in _render(_fleet()).splitlines() if not line.startswith("#")]

    assert len(set(lines)) == len(lines)
