"""Prometheus' formats: golden text, both formats, compression, fragments."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
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
from exporter.facts import (
    REBOOT_KINDS,
    CertificateChain,
    Door,
    EndpointFacts,
    HostFacts,
    Known,
    Missing,
    Protocol,
    Reason,
    Side,
)
from exporter.snapshot import (
    CollectorScript,
    DiscoveryStatus,
    ObservationSettings,
    ObservationStatus,
    ServerSnapshot,
    Snapshot,
)

from builders import (
    NOW,
    TLS10_TO_12,
    certificate,
    chain,
    closed_endpoint,
    endpoint_facts,
    failed_scan,
    fleet,
    host_facts,
    scan,
    server_snapshot,
)

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
GZIP = shutil.which("gzip")
GOLDEN = Path(__file__).parent / "expected" / "metrics.prom"


def _render(snapshot: Snapshot, accept: str = "", renderer: Renderer | None = None) -> str:
    return gzip.decompress((renderer or Renderer()).render(snapshot).answer(accept, CollectorRegistry())[0]).decode()


def _fleet() -> Snapshot:
    intermediate = certificate(subject="CN=Test CA", issuer="CN=Test Root", names=(), fingerprint_sha256="ca" * 32)
    elliptic = certificate(
        not_after=NOW + 30 * 86400,
        fingerprint_sha256="ec" * 32,
        key_type="EC",
        key_size=256,
        signature_hash="sha384",
    )
    return fleet(
        server_snapshot(
            _presenting(chain(certificate(), intermediate), chain(elliptic, intermediate), pattern=TLS10_TO_12),
            endpoint_facts("?0001?", 25, service="smtp").after_scan(failed_scan(), max_age=86400),
            closed_endpoint(587),
            closed_endpoint(143, "optional"),
            scanned=False,
            labels={"site": "hanoi"},
            expect="wire-tls12",
        ),
        server_snapshot(EndpointFacts("exch02.test:443", "https", "core"), name="exch02.test", success=None),
        server_snapshot(
            _presenting(chain(certificate(subject="CN=exch03.test")), endpoint="exch03.test:443"),
            name="exch03.test",
            scanned=True,
        ),
        server_snapshot(
            name="exch04.test",
            host=host_facts("exchange-2019-cu15-on-2022", clock_offset=-2.5),
            ports=(),
            role="none",
        ),
        server_snapshot(name="exch05.test", host=Missing(Reason.OTHER_HOST, "it is about exch04.test"), scans=False),
        observations={
            "sweep": ObservationSettings(3600.0, 10800.0),
            "scan": ObservationSettings(86400.0, 259200.0),
            "collect": ObservationSettings(5.0, 604800.0),
        },
        discovery={"file": DiscoveryStatus(targets=1, failures=2)},
        failures={
            ("sweep", Reason.TCP_REFUSED): 3,
            ("scan", Reason.DEADLINE): 1,
            ("collect", Reason.OTHER_HOST): 2,
        },
        script=CollectorScript("1.0.0", "5c" * 32),
        second_opinions={"agreed": 4, "contradictory": 1, "undecided": 0, "budget_spent": 2},
        worker_deaths={("second_opinion", "deadline"): 0, ("scan", "deadline"): 1, ("scan", "memory"): 0},
        credentials_blocked={"exchange-readers": False, "edge-readers": True},
    )


def _presenting(*chains: CertificateChain, pattern: str = "000010", **changes: Any) -> EndpointFacts:
    """An endpoint whose last scan saw these chains."""
    return endpoint_facts(pattern, **changes).after_scan(scan(*chains), max_age=86400)


def _samples(snapshot: Snapshot, family: str) -> list[tuple[dict[str, str], float]]:
    """The samples of one family, from either format, which agree."""
    found: list[list[tuple[dict[str, str], float]]] = [
        [
            (sample.labels, sample.value)
            for each in parse(_render(snapshot, accept))
            if each.name == family
            for sample in each.samples
        ]
        for parse, accept in ((parse_text, ""), (parse_openmetrics, OPENMETRICS))
    ]
    assert found[0] == found[1]
    return found[0]


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


class TestCertificates:
    def test_the_first_to_end_counts(self) -> None:
        """Of several leaves. Intermediates end when they will: their renewal is not this server's business."""
        late, early = (certificate(not_after=NOW + days * 86400) for days in (90, 30))
        intermediate = certificate(subject="CN=Test CA", not_after=NOW + 10 * 86400)
        snapshot = fleet(server_snapshot(_presenting(chain(late, intermediate), chain(early), chain(late))))

        assert _samples(snapshot, "tls_readiness_certificate_not_after_timestamp_seconds") == [
            ({"server": "exch01.test", "endpoint": "exch01.test:443", "service": "https"}, NOW + 30 * 86400)
        ]

    def test_each_leaf_has_a_sample(self) -> None:
        """And what belongs to no server in particular, the intermediates, has none."""
        intermediate = certificate(subject="CN=Test CA", fingerprint_sha256="ca" * 32)
        elliptic = certificate(fingerprint_sha256="ec" * 32, key_type="EC", key_size=256, signature_hash="sha384")
        snapshot = fleet(
            server_snapshot(_presenting(chain(certificate(), intermediate), chain(elliptic, intermediate)))
        )

        info = [labels for labels, _ in _samples(snapshot, "tls_readiness_certificate_info")]
        assert [(labels["fingerprint_sha256"], labels["public_key"], labels["signature_hash"]) for labels in info] == [
            ("0123456789abcdef" * 4, "RSA 2048", "sha256"),
            ("ec" * 32, "EC 256", "sha384"),
        ]

    def test_a_leaf_that_comes_with_different_intermediates_is_one_sample(self) -> None:
        """Two chains, one certificate: the formats know no series that is there twice."""
        root = certificate(subject="CN=Test Root", issuer="CN=Test Root")
        snapshot = fleet(server_snapshot(_presenting(chain(certificate()), chain(certificate(), root))))

        assert len(_samples(snapshot, "tls_readiness_certificate_info")) == 1

    @pytest.mark.parametrize(
        "endpoint",
        [
            _presenting(chain(), origin="optional", ever_open=False, door=Door.REFUSED),
            endpoint_facts().after_scan(failed_scan(), max_age=86400),
            endpoint_facts(),
        ],
        ids=["not in use", "scan failed", "not scanned"],
    )
    def test_where_there_is_none_there_is_no_series(self, endpoint: EndpointFacts) -> None:
        """Absent, not 0: nobody's certificate ended in 1970."""
        snapshot = fleet(server_snapshot(endpoint))

        assert _samples(snapshot, "tls_readiness_certificate_info") == []
        assert _samples(snapshot, "tls_readiness_certificate_not_after_timestamp_seconds") == []

    def test_a_stale_certificate_has_no_series(self) -> None:
        """What it was is not what it is."""
        snapshot = fleet(server_snapshot(_presenting(chain()).aged(NOW + 4 * 86400, 30 * 86400, 3 * 86400)))

        assert _samples(snapshot, "tls_readiness_certificate_info") == []

    def test_what_a_server_says_stays_inside_its_label(self) -> None:
        """Subject and issuer are the server's words: quotes, backslashes and line feeds are escaped."""
        subject, issuer = 'CN=a"} 1\nx\\n,O=\\', 'CN="'
        snapshot = fleet(server_snapshot(_presenting(chain(certificate(subject=subject, issuer=issuer)))))

        ((labels, _),) = _samples(snapshot, "tls_readiness_certificate_info")
        assert (labels["subject"], labels["issuer"]) == (subject, issuer)
        (line,) = [line for line in _render(snapshot).splitlines() if line.startswith("tls_readiness_certificate_info")]
        assert r'subject="CN=a\"} 1\nx\\n,O=\\"}' in line
        assert r'issuer="CN=\"",' in line


def _of_host(host: HostFacts | Missing | None, family: str) -> list[tuple[dict[str, str], float]]:
    """What a family says of one server with these host facts."""
    return _samples(fleet(server_snapshot(host=host)), f"tls_readiness_{family}")


class TestHosts:
    def test_what_it_is(self) -> None:
        """In the labels of one series. Exchange's name needs a table that is not there yet."""
        assert _of_host(host_facts(simulation=""), "server_info") == [
            (
                {
                    "server": "exch01.test",
                    "role": "mailbox",
                    "exchange": "",
                    "exchange_build": "15.1.2507.61",
                    "windows": "Microsoft Windows Server 2016 Standard",
                    "windows_build": "10.0.14393.8519",
                    "dotnet": "528049",
                },
                1.0,
            )
        ]

    def test_a_simulated_host_says_so(self) -> None:
        """Whoever looks at the series must not take it for a server."""
        ((labels, _),) = _of_host(host_facts(), "server_info")

        assert labels["windows"] == "Microsoft Windows Server 2016 Standard (simulated)"

    @pytest.mark.parametrize("host", [None, Missing(Reason.STALE, "")])
    def test_what_nobody_knows_is_empty(self, host: Missing | None) -> None:
        """The series is there all the same: role and name are known."""
        ((labels, value),) = _of_host(host, "server_info")

        assert {name: label for name, label in labels.items() if label} == {"server": "exch01.test", "role": "mailbox"}
        assert value == 1.0

    def test_what_is_not_installed_is_empty_as_well(self) -> None:
        """A domain controller without Exchange and .NET 4."""
        ((labels, _),) = _of_host(host_facts("domain-controller-on-2008-r2"), "server_info")

        assert (labels["exchange_build"], labels["dotnet"]) == ("", "")
        assert labels["windows_build"] == "6.1.7601"

    def test_each_label_alone_may_be_unknown(self) -> None:
        """The others are there."""
        host, denied = host_facts(), Missing(Reason.ACCESS_DENIED, "")
        parts: dict[str, Any] = {
            "exchange": replace(host.exchange, build=denied),
            "windows": replace(host.windows, version=denied),
            "dotnet": replace(host.dotnet, release=denied),
        }
        ((labels, _),) = _of_host(replace(host, simulation="", **parts), "server_info")

        assert [labels[name] for name in ("exchange_build", "windows_build", "dotnet")] == ["", "", ""]
        assert labels["windows"] == "Microsoft Windows Server 2016 Standard"

    def test_what_a_host_says_stays_inside_its_label(self) -> None:
        """Quotes, backslashes and line feeds are escaped."""
        windows = replace(host_facts().windows, caption=Known('a"} 1\nx\\', NOW))
        ((labels, _),) = _of_host(host_facts(windows=windows, simulation=""), "server_info")

        assert labels["windows"] == 'a"} 1\nx\\'

    def test_who_awaits_a_restart(self) -> None:
        """One series per kind. Without Configuration Manager's client there is none that could ask for it."""
        pending = _of_host(host_facts("exchange-2016-cu7-on-2012-r2"), "reboot_pending")

        assert {labels["kind"]: value for labels, value in pending} == {
            "cbs": 1.0, "windows_update": 0.0, "update_exe": 1.0, "file_rename": 1.0,
        }  # fmt: skip

    def test_what_is_unknown_is_absent(self) -> None:
        """Not 0: nobody knows whether a restart is pending."""
        denied = Missing(Reason.ACCESS_DENIED, "")
        reboot = {kind: Known(value=True, at=NOW) if kind == "sccm" else denied for kind in REBOOT_KINDS}

        assert _of_host(host_facts(reboot=reboot), "reboot_pending") == [
            ({"server": "exch01.test", "kind": "sccm"}, 1.0)
        ]

    def test_when_it_was_updated(self) -> None:
        """The newest day that the host lists."""
        assert _of_host(host_facts(), "windows_update_timestamp_seconds") == [
            ({"server": "exch01.test"}, datetime(2025, 10, 21, tzinfo=UTC).timestamp())
        ]

    @pytest.mark.parametrize("hotfixes", [Missing(Reason.ACCESS_DENIED, ""), Known((), NOW)], ids=["denied", "none"])
    def test_without_a_date_there_is_no_series(self, hotfixes: Any) -> None:
        """Nothing was updated in 1970."""
        host = host_facts(hotfixes=hotfixes, packages=Known((), NOW))

        assert _of_host(host, "windows_update_timestamp_seconds") == []

    def test_the_settings_have_a_digest(self) -> None:
        """Sixteen digits, the same of equal settings."""
        ((labels, value),) = _of_host(host_facts(), "tls_settings_info")

        assert re.fullmatch("[0-9a-f]{16}", labels["digest"])
        assert value == 1.0
        assert _of_host(host_facts(), "tls_settings_info") != _of_host(
            host_facts("exchange-se-on-2025"), "tls_settings_info"
        )

    def test_a_value_of_a_wrong_type_has_none(self) -> None:
        """What Windows makes of it nobody knows; the other series are there."""
        host = host_facts("exchange-2013-cu23-on-2012-r2")

        assert isinstance(host.schannel.protocols["TLS 1.2"][Side.CLIENT].enabled, Missing)
        assert _of_host(host, "tls_settings_info") == []
        assert _of_host(host, "reboot_pending")

    def test_smtp_sessions(self) -> None:
        """All versions of both sides: one that nobody negotiated is 0, which is news in a migration."""
        sessions = _of_host(host_facts("exchange-2013-cu23-on-2012-r2"), "smtp_sessions")

        found = {(labels["side"], labels["protocol"]): value for labels, value in sessions}
        assert set(found) == {(side, protocol) for side in ("server", "client") for protocol in Protocol}
        assert {pair: value for pair, value in found.items() if value} == {
            ("server", "TLS 1.0"): 3.0,
            ("server", "TLS 1.2"): 2.0,
            ("client", "TLS 1.1"): 1.0,
            ("client", "TLS 1.2"): 1.0,
        }

    @pytest.mark.parametrize("side", Side)
    def test_logs_that_nobody_read_have_no_series(self, side: Side) -> None:
        """Of one side; 0 would say that nobody uses TLS 1.0 any more."""
        host = host_facts("exchange-2013-cu23-on-2012-r2")
        smtp = {**host.smtp, side: Missing(Reason.NOT_COLLECTED, "usage is not in the document")}
        sessions = _of_host(replace(host, smtp=smtp), "smtp_sessions")

        assert {labels["side"] for labels, _ in sessions} == set(Side) - {side}

    def test_logs_without_a_line_have_no_series(self) -> None:
        """The script was asked to read them, and found none: they may be somewhere else, or switched off."""
        host = host_facts("exchange-2016-cu23-on-2016")

        assert {fact.reason for fact in host.smtp.values()} == {Reason.NOT_COLLECTED}
        assert _of_host(host, "smtp_sessions") == []

    @pytest.mark.parametrize("host", [None, Missing(Reason.OTHER_HOST, ""), Missing(Reason.STALE, "")])
    @pytest.mark.parametrize(
        "family",
        [
            "reboot_pending",
            "windows_update_timestamp_seconds",
            "tls_settings_info",
            "smtp_sessions",
            "server_clock_offset_seconds",
        ],
    )
    def test_without_facts_there_is_no_series(self, family: str, host: Missing | None) -> None:
        """What it was is not what it is."""
        assert _of_host(host, family) == []

    @pytest.mark.parametrize("offset", [0.0, -3598.0, 0.25])
    def test_its_clock(self, offset: float) -> None:
        """Ahead or behind; right is 0."""
        assert _of_host(host_facts(clock_offset=offset), "server_clock_offset_seconds") == [
            ({"server": "exch01.test"}, offset)
        ]

    def test_a_clock_that_nobody_measured_has_no_series(self) -> None:
        """As with a facts file, which may be older than it says."""
        assert _of_host(host_facts(), "server_clock_offset_seconds") == []

    def test_how_it_was_observed(self) -> None:
        """Beside sweeps and scans, also of a server that has no endpoints; when, by the host's own clock."""
        host = host_facts(collected_at=NOW - 80000)
        text = _render(fleet(server_snapshot(host=host, ports=(), success=None, scans=False)))

        assert sorted(line for line in text.splitlines() if 'kind="collect"' in line) == [
            'tls_readiness_observation_duration_seconds{kind="collect",server="exch01.test"} 0.25',
            'tls_readiness_observation_last_success_timestamp_seconds{kind="collect",server="exch01.test"} 1.79992e+09',
            'tls_readiness_observation_success{kind="collect",server="exch01.test"} 1.0',
        ]

    def test_how_it_failed(self) -> None:
        """0, and never."""
        text = _render(fleet(server_snapshot(host=Missing(Reason.FILE_UNREADABLE, ""))))

        assert 'observation_success{kind="collect",server="exch01.test"} 0.0\n' in text
        assert 'observation_last_success_timestamp_seconds{kind="collect",server="exch01.test"} 0.0\n' in text

    def test_before_the_first_look_there_is_only_never(self) -> None:
        """Neither success nor failure."""
        server = server_snapshot(host=Missing(Reason.NOT_OBSERVED_YET))
        server = replace(server, observations={**server.observations, "collect": ObservationStatus()})
        said = [line for line in _render(fleet(server)).splitlines() if 'kind="collect"' in line]

        assert said == [
            'tls_readiness_observation_last_success_timestamp_seconds{kind="collect",server="exch01.test"} 0.0'
        ]

    def test_failures_are_counted_from_nought_where_it_is_configured(self) -> None:
        """By each reason that there is."""
        settings = {"sweep": ObservationSettings(3600.0, 10800.0), "collect": ObservationSettings(5.0, 604800.0)}
        snapshot = fleet(observations=settings, failures={("collect", Reason.OTHER_HOST): 2})
        counted = [
            (labels["reason"], value)
            for labels, value in _samples(snapshot, "tls_readiness_observation_failures")
            if labels["kind"] == "collect"
        ]

        assert {reason: value for reason, value in counted if value} == {"other_host": 2.0}
        assert [reason for reason, _ in counted] == list(Reason)


def test_credentials_that_were_refused() -> None:
    """1 while they are not used; those that are have their series as well, or no alert could tell."""
    snapshot = fleet(credentials_blocked={"exchange-readers": True, "edge readers": False})

    assert _samples(snapshot, "tls_readiness_credential_blocked") == [
        ({"credential": "exchange-readers"}, 1.0),
        ({"credential": "edge readers"}, 0.0),
    ]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_where_nothing_is_collected_there_is_no_series_of_it(accept: str) -> None:
    """An alert on it would fire for ever."""
    assert 'kind="collect"' not in _render(fleet(server_snapshot(endpoint_facts())), accept)


def test_the_collector_script_that_comes_with_the_exporter() -> None:
    """Its version and its digest, to be compared with what runs."""
    snapshot = fleet(script=CollectorScript("1.2.3", "ab" * 32))

    assert _samples(snapshot, "tls_readiness_collector_script_info") == [
        ({"version": "1.2.3", "sha256": "ab" * 32}, 1.0)
    ]


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_where_scans_are_off_there_is_no_series_of_them(accept: str) -> None:
    """An alert on them would fire for ever."""
    snapshot = fleet(server_snapshot(endpoint_facts(), scans=False))

    assert 'kind="sweep"' in _render(snapshot, accept)
    assert 'kind="scan"' not in _render(snapshot, accept)


def test_before_the_first_scan_only_what_is_known_is_said() -> None:
    """When the last success was: never. How it went, and how long it took: there was none."""
    snapshot = fleet(server_snapshot(endpoint_facts(), scanned=None))
    said = [line for line in _render(snapshot).splitlines() if 'kind="scan"' in line]

    assert said == ['tls_readiness_observation_last_success_timestamp_seconds{kind="scan",server="exch01.test"} 0.0']


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
