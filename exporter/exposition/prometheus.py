"""A snapshot as Prometheus metrics.

`SERVER_METRICS` and `FLEET_METRICS` are the one place with metric names, labels and help. What a server contributes is
rendered once for each picture of it and kept; a snapshot is put together from these fragments, compressed once, and
served many times.
"""

from __future__ import annotations

import platform
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

import exporter
from exporter.facts import EndpointFacts, Known, Missing, Reason
from exporter.snapshot import ServerSnapshot, Snapshot
from exporter.verdicts import ProfileState, RuleState

Sample: TypeAlias = tuple[Sequence[str], float]
Picture = TypeVar("Picture", ServerSnapshot, Snapshot)

_IN_BACKGROUND: Final = " Collected in the background."


@dataclass(frozen=True, slots=True)
class Family(Generic[Picture]):
    """A metric family: what it is called, what it means, and how its samples follow from a picture."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Picture], Iterable[Sample]]


def _server_state(server: ServerSnapshot) -> Iterator[Sample]:
    for profile, verdict in server.profiles.items():
        for state in ProfileState:
            yield (server.target.name, profile, state), float(verdict.state is state)


def _server_expected(server: ServerSnapshot) -> Iterator[Sample]:
    if server.target.expect:
        yield (server.target.name, server.target.expect), 1.0


def _server_info(server: ServerSnapshot) -> Iterator[Sample]:
    yield (server.target.name, server.target.role, "", "", "", "", ""), 1.0


def _rule_failed(server: ServerSnapshot) -> Iterator[Sample]:
    for verdict in server.verdicts:
        if verdict.state in {RuleState.PASSED, RuleState.FAILED, RuleState.WAIVED}:
            yield (server.target.name, verdict.rule.id), float(verdict.state is RuleState.FAILED)


def _rule_unknown(server: ServerSnapshot) -> Iterator[Sample]:
    for verdict in server.verdicts:
        if verdict.state is not RuleState.NOT_APPLICABLE:
            yield (server.target.name, verdict.rule.id), float(verdict.state is RuleState.UNKNOWN)


def _in_use(server: ServerSnapshot) -> Iterator[tuple[tuple[str, str, str], EndpointFacts]]:
    for facts in server.facts.endpoints:
        if facts.in_use:
            yield (server.target.name, facts.endpoint, facts.service), facts


def _protocol_accepted(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, facts in _in_use(server):
        for protocol, fact in facts.accepted.items():
            if isinstance(fact, Known):
                yield (*labels, protocol), float(fact.value)


def _protocol_unknown(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, facts in _in_use(server):
        for protocol, fact in facts.accepted.items():
            if isinstance(fact, Missing):
                yield (*labels, protocol, fact.reason), 1.0


def _endpoint_info(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, facts in _in_use(server):
        yield (*labels, facts.origin, facts.address), 1.0


def _endpoint_up(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, facts in _in_use(server):
        if facts.speaks_tls is not None:
            yield labels, float(facts.speaks_tls)


def _endpoint_probe_duration(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, facts in _in_use(server):
        if facts.tried_at:
            yield labels, facts.duration


def _observation_success(server: ServerSnapshot) -> Iterator[Sample]:
    if server.sweep.success is not None:
        yield (server.target.name, "sweep"), float(server.sweep.success)


def _observation_last_success(server: ServerSnapshot) -> Iterator[Sample]:
    yield (server.target.name, "sweep"), server.sweep.last_success


def _observation_duration(server: ServerSnapshot) -> Iterator[Sample]:
    if server.sweep.success is not None:
        yield (server.target.name, "sweep"), server.sweep.duration


_ENDPOINT: Final = ("server", "endpoint", "service")

SERVER_METRICS: Final[tuple[Family[ServerSnapshot], ...]] = (
    Family(
        "tls_readiness_server_state",
        "gauge",
        "Whether the server meets the profile: the one state that holds is 1." + _IN_BACKGROUND,
        ("server", "profile", "state"),
        _server_state,
    ),
    Family(
        "tls_readiness_server_expected",
        "gauge",
        "1 where the configuration declares that the server meets the profile.",
        ("server", "profile"),
        _server_expected,
    ),
    Family(
        "tls_readiness_server_info",
        "gauge",
        "What the server is; an unknown field is empty." + _IN_BACKGROUND,
        ("server", "role", "exchange", "exchange_build", "windows", "windows_build", "dotnet"),
        _server_info,
    ),
    Family(
        "tls_readiness_rule_failed",
        "gauge",
        "1 where the readiness rule failed, 0 where it passed; absent while unknown." + _IN_BACKGROUND,
        ("server", "rule"),
        _rule_failed,
    ),
    Family(
        "tls_readiness_rule_unknown",
        "gauge",
        "1 where the readiness rule could not be judged; absent where it does not apply." + _IN_BACKGROUND,
        ("server", "rule"),
        _rule_unknown,
    ),
    Family(
        "tls_readiness_protocol_accepted",
        "gauge",
        "1 where the endpoint accepts the protocol version, 0 where it rejects it; absent while unknown."
        + _IN_BACKGROUND,
        (*_ENDPOINT, "protocol"),
        _protocol_accepted,
    ),
    Family(
        "tls_readiness_protocol_unknown",
        "gauge",
        "1 while it is unknown whether the endpoint accepts the protocol version, with the reason." + _IN_BACKGROUND,
        (*_ENDPOINT, "protocol", "reason"),
        _protocol_unknown,
    ),
    Family(
        "tls_readiness_endpoint_info",
        "gauge",
        "An endpoint that counts, where it comes from, and the address that was observed last.",
        (*_ENDPOINT, "origin", "address"),
        _endpoint_info,
    ),
    Family(
        "tls_readiness_endpoint_up",
        "gauge",
        "1 if the last sweep saw the endpoint speak TLS in some version." + _IN_BACKGROUND,
        _ENDPOINT,
        _endpoint_up,
    ),
    Family(
        "tls_readiness_endpoint_probe_duration_seconds",
        "gauge",
        "How long the last sweep of the endpoint took." + _IN_BACKGROUND,
        _ENDPOINT,
        _endpoint_probe_duration,
    ),
    Family(
        "tls_readiness_observation_success",
        "gauge",
        "1 if the last attempt to observe the server decided something about every endpoint that counts.",
        ("server", "kind"),
        _observation_success,
    ),
    Family(
        "tls_readiness_observation_last_success_timestamp_seconds",
        "gauge",
        "When the server was last observed successfully; 0 never.",
        ("server", "kind"),
        _observation_last_success,
    ),
    Family(
        "tls_readiness_observation_duration_seconds",
        "gauge",
        "How long the last attempt to observe the server took.",
        ("server", "kind"),
        _observation_duration,
    ),
)
"""What each server contributes."""


def _build_info(_: Snapshot) -> Iterator[Sample]:
    yield (exporter.__version__, exporter.REVISION, platform.python_version()), 1.0


def _profile_rule_info(snapshot: Snapshot) -> Iterator[Sample]:
    severities = {rule.id: rule.severity for rule in snapshot.rules}
    for profile, rules in snapshot.profiles.items():
        for rule in rules:
            yield (profile, rule, severities[rule]), 1.0


def _failures(snapshot: Snapshot) -> Iterator[Sample]:
    for kind in snapshot.observations:
        for reason in Reason:
            yield (kind, reason), float(snapshot.failures.get((kind, reason), 0))


FLEET_METRICS: Final[tuple[Family[Snapshot], ...]] = (
    Family(
        "tls_readiness_build_info",
        "gauge",
        "The exporter that is running.",
        ("version", "revision", "python_version"),
        _build_info,
    ),
    Family(
        "tls_readiness_config_last_reload_successful",
        "gauge",
        "1 if the last attempt to load the configuration succeeded.",
        (),
        lambda snapshot: [((), float(snapshot.config_ok))],
    ),
    Family(
        "tls_readiness_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When the configuration was last loaded successfully.",
        (),
        lambda snapshot: [((), snapshot.config_loaded_at)],
    ),
    Family(
        "tls_readiness_profile_rule_info",
        "gauge",
        "The readiness rules of each profile in use.",
        ("profile", "rule", "severity"),
        _profile_rule_info,
    ),
    Family(
        "tls_readiness_observation_interval_seconds",
        "gauge",
        "How often this kind of observation is made.",
        ("kind",),
        lambda snapshot: [((kind,), each.interval) for kind, each in snapshot.observations.items()],
    ),
    Family(
        "tls_readiness_observation_max_age_seconds",
        "gauge",
        "How long the outcome of this kind of observation stands.",
        ("kind",),
        lambda snapshot: [((kind,), each.max_age) for kind, each in snapshot.observations.items()],
    ),
    Family(
        "tls_readiness_observation_failures_total",
        "counter",
        "Endpoints that an observation decided nothing about, by the reason.",
        ("kind", "reason"),
        _failures,
    ),
    Family(
        "tls_readiness_sd_discovered_targets",
        "gauge",
        "Servers that this discovery mechanism found.",
        ("mechanism",),
        lambda snapshot: [((name,), float(each.targets)) for name, each in snapshot.discovery.items()],
    ),
    Family(
        "tls_readiness_sd_refresh_failures_total",
        "counter",
        "Target files or answers that could not be used.",
        ("mechanism",),
        lambda snapshot: [((name,), float(each.failures)) for name, each in snapshot.discovery.items()],
    ),
)
"""What the fleet as a whole contributes."""

SERVER_LABELS: Final = "tls_readiness_server_labels"
"""The one family whose label names the configuration sets."""


def _server_labels(snapshot: Snapshot) -> Metric:
    names = sorted({name for server in snapshot.servers for name in server.target.labels})
    family = GaugeMetricFamily(SERVER_LABELS, "The labels that the configuration gives to the server.", labels=())
    for server in snapshot.servers:
        given = server.target.labels
        family.add_sample(
            SERVER_LABELS, {"server": server.target.name, **{name: given.get(name, "") for name in names}}, 1.0
        )
    return family


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _metrics(families: Iterable[Family[Picture]], picture: Picture) -> Iterator[Metric]:
    for family in families:
        make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = make(family.name, family.help, labels=family.labels)
        for labels, value in family.samples(picture):
            metric.add_metric(labels, value)
        yield metric


def _bodies(text: bytes) -> list[bytes]:
    """The sample lines of each family; a line feed in a label value is escaped, so the split is safe."""
    families = (b"\n" + text).split(b"\n# HELP ")[1:]
    return [family.partition(b"\n")[2].partition(b"\n")[2].removesuffix(b"\n") for family in families]


_END: Final = b"# EOF\n"  # the process metrics still follow
_NO_SERVERS: Final = tuple(
    (GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily)(
        family.name, family.help, labels=family.labels
    )
    for family in SERVER_METRICS
)


@dataclass(frozen=True, slots=True)
class _Body:
    """Finished bytes, plain and as the beginning of a gzip stream."""

    plain: bytes
    deflated: bytes
    checksum: int

    @classmethod
    def of(cls, plain: bytes) -> _Body:
        # Level 1: a fleet's metrics repeat themselves so much that more effort gains little (docs/performance.md).
        compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)
        return cls(plain, deflated, zlib.crc32(plain))

    def gzip(self, more: bytes) -> bytes:
        """One gzip member (RFC 1952) of these bytes and some more, compressing only those."""
        compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        rest = compressor.compress(more) + compressor.flush()
        trailer = struct.pack("<II", zlib.crc32(more, self.checksum), (len(self.plain) + len(more)) & 0xFFFFFFFF)
        return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + self.deflated + rest + trailer


class Exposition:
    """A rendered snapshot."""

    def __init__(self, text: _Body, openmetrics: _Body) -> None:
        self._text = text
        self._openmetrics = openmetrics

    def answer(self, accept: str, live: Collector, *, gzip: bool) -> tuple[bytes, str]:
        """The body of a scrape and its content type.

        Args:
            accept: the scraper's Accept header.
            live: what is collected anew for each scrape: the process metrics.
            gzip: whether to compress.
        """
        encode, content_type = choose_encoder(accept)
        openmetrics = content_type.startswith("application/openmetrics-text")
        body = self._openmetrics if openmetrics else self._text
        more = encode(live)
        return (body.gzip(more) if gzip else body.plain + more), content_type


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
                known = (server, _bodies(generate_latest(_Families(_metrics(SERVER_METRICS, server)))))
                # A sweep of a large fleet changes it all: hand the interpreter over to the event loop between servers.
                time.sleep(0)
            self._fragments[name] = known
        fragments = [fragment for _, fragment in self._fragments.values()]
        fleet = [*_metrics(FLEET_METRICS, snapshot), _server_labels(snapshot)]
        return Exposition(
            _Body.of(_join(generate_latest, fleet, fragments)),
            _Body.of(_join(generate_openmetrics, fleet, fragments)),
        )


def _join(encode: Callable[[Collector], bytes], fleet: Iterable[Metric], fragments: Sequence[Sequence[bytes]]) -> bytes:
    """All families but OpenMetrics' end mark: the fleet's, then each server family's head with the servers' lines."""
    heads = encode(_Families(_NO_SERVERS)).removesuffix(_END)
    parts = [encode(_Families(fleet)).removesuffix(_END)]
    for index, head in enumerate((b"\n" + heads).split(b"\n# HELP ")[1:]):
        parts += [b"# HELP ", head.removesuffix(b"\n"), b"\n"]
        for fragment in fragments:
            if fragment[index]:
                parts += [fragment[index], b"\n"]
    return b"".join(parts)


def live_registry() -> CollectorRegistry:
    """The exporter's own process, read anew at each scrape."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
