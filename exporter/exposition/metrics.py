"""The metrics: names, labels, help, and how their samples follow from a picture of the fleet.

`SERVER_METRICS` and `FLEET_METRICS` are the one place with them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import exporter
from exporter.facts import Certificate, EndpointFacts, HostFacts, Known, Missing, Protocol, Reason, dotted
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
    host = server.facts.host
    labels = _host_labels(host.value) if isinstance(host, Known) else ("",) * 5
    yield (server.target.name, server.target.role, *labels), 1.0


def _host_labels(host: HostFacts) -> tuple[str, ...]:
    """Exchange's name, which needs a table that is not there yet; its build, Windows' name and build, .NET Release."""
    build, name, windows, release = host.exchange.build, host.windows_name, host.windows.build, host.dotnet.release
    return (
        "",
        dotted(build.value) if isinstance(build, Known) and build.value else "",
        name.value if isinstance(name, Known) else "",
        dotted(windows.value) if isinstance(windows, Known) else "",
        str(release.value) if isinstance(release, Known) and release.value is not None else "",
    )


def _host(server: ServerSnapshot) -> Iterator[tuple[str, HostFacts]]:
    if isinstance(server.facts.host, Known):
        yield server.target.name, server.facts.host.value


def _reboot_pending(server: ServerSnapshot) -> Iterator[Sample]:
    for name, host in _host(server):
        for kind, fact in host.reboot.items():
            if isinstance(fact, Known) and fact.value is not None:
                yield (name, kind), float(fact.value)


def _windows_update(server: ServerSnapshot) -> Iterator[Sample]:
    for name, host in _host(server):
        newest = host.newest_update
        if isinstance(newest, Known):
            yield (name,), newest.value


def _tls_settings_info(server: ServerSnapshot) -> Iterator[Sample]:
    for name, host in _host(server):
        digest = host.settings_digest
        if isinstance(digest, Known):
            yield (name, digest.value), 1.0


def _smtp_sessions(server: ServerSnapshot) -> Iterator[Sample]:
    for name, host in _host(server):
        for side, usage in host.smtp.items():
            if isinstance(usage, Known):
                for protocol in Protocol:
                    yield (name, side, protocol), float(usage.value.sessions.get(protocol, 0))


def _clock_offset(server: ServerSnapshot) -> Iterator[Sample]:
    for name, host in _host(server):
        if host.clock_offset is not None:
            yield (name,), host.clock_offset


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


def _certificates(server: ServerSnapshot) -> Iterator[tuple[tuple[str, str, str], list[Certificate]]]:
    for labels, facts in _in_use(server):
        if isinstance(facts.certificates, Known):
            # Several chains may lead to the same certificate.
            yield labels, list(dict.fromkeys(chain.leaf for chain in facts.certificates.value))


def _certificate_not_after(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, leaves in _certificates(server):
        yield labels, min(leaf.not_after for leaf in leaves)


def _certificate_info(server: ServerSnapshot) -> Iterator[Sample]:
    for labels, leaves in _certificates(server):
        for leaf in leaves:
            named = (leaf.subject, leaf.issuer, leaf.fingerprint_sha256, leaf.signature_hash, leaf.public_key)
            yield (*labels, *named), 1.0


def _observation_success(server: ServerSnapshot) -> Iterator[Sample]:
    for kind, status in server.observations.items():
        if status.success is not None:
            yield (server.target.name, kind), float(status.success)


def _observation_last_success(server: ServerSnapshot) -> Iterator[Sample]:
    for kind, status in server.observations.items():
        if server.target.ports or kind == "collect":
            yield (server.target.name, kind), status.last_success


def _observation_duration(server: ServerSnapshot) -> Iterator[Sample]:
    for kind, status in server.observations.items():
        if status.success is not None:
            yield (server.target.name, kind), status.duration


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
        "An endpoint that counts, where it comes from, and the address that was observed last." + _IN_BACKGROUND,
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
        "tls_readiness_certificate_not_after_timestamp_seconds",
        "gauge",
        "When the endpoint's own certificate ends; the first to end where it has several." + _IN_BACKGROUND,
        _ENDPOINT,
        _certificate_not_after,
    ),
    Family(
        "tls_readiness_certificate_info",
        "gauge",
        "The endpoint's own certificate, one for each where it has several." + _IN_BACKGROUND,
        (*_ENDPOINT, "subject", "issuer", "fingerprint_sha256", "signature_hash", "public_key"),
        _certificate_info,
    ),
    Family(
        "tls_readiness_reboot_pending",
        "gauge",
        "1 if the host awaits a restart, by who asks for it; absent where there is no such, and while unknown."
        + _IN_BACKGROUND,
        ("server", "kind"),
        _reboot_pending,
    ),
    Family(
        "tls_readiness_windows_update_timestamp_seconds",
        "gauge",
        "When the newest update was installed that the host lists with a date; Windows tells the day." + _IN_BACKGROUND,
        ("server",),
        _windows_update,
    ),
    Family(
        "tls_readiness_tls_settings_info",
        "gauge",
        "The same digest means the same raw values of Schannel's TLS 1.0 to 1.2 and of .NET 4's switches."
        + _IN_BACKGROUND,
        ("server", "digest"),
        _tls_settings_info,
    ),
    Family(
        "tls_readiness_smtp_sessions",
        "gauge",
        "SMTP sessions that negotiated the protocol version, in the logs that the collector script read last: the host "
        "as server (receive) or client (send)." + _IN_BACKGROUND,
        ("server", "side", "protocol"),
        _smtp_sessions,
    ),
    Family(
        "tls_readiness_server_clock_offset_seconds",
        "gauge",
        "By how much the host's clock is ahead of the exporter's, beyond what the time that the collection took "
        "explains; only where facts are collected over WinRM." + _IN_BACKGROUND,
        ("server",),
        _clock_offset,
    ),
    Family(
        "tls_readiness_observation_success",
        "gauge",
        "1 if the last attempt to observe the server succeeded for every endpoint that counts: a sweep decided "
        "something about it, a scan all that it looked for. collect: if the facts that the host gave last can be used."
        + _IN_BACKGROUND,
        ("server", "kind"),
        _observation_success,
    ),
    Family(
        "tls_readiness_observation_last_success_timestamp_seconds",
        "gauge",
        "When the server was last observed successfully; 0 never. collect: over WinRM when its answer was there, of a "
        "facts file when the host said it, by its own clock." + _IN_BACKGROUND,
        ("server", "kind"),
        _observation_last_success,
    ),
    Family(
        "tls_readiness_observation_duration_seconds",
        "gauge",
        "How long the last attempt to observe the server took." + _IN_BACKGROUND,
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
        "tls_readiness_collector_script_info",
        "gauge",
        "The collector script that comes with this exporter.",
        ("version", "sha256"),
        lambda snapshot: [((snapshot.script.version, snapshot.script.sha256), 1.0)],
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
        "Observations that failed, by the reason: of an endpoint, sweeps that decided nothing and scans that did not "
        "decide all; of a host, attempts to collect its facts." + _IN_BACKGROUND,
        ("kind", "reason"),
        _failures,
    ),
    Family(
        "tls_readiness_second_opinions_total",
        "counter",
        "Protocol versions whose new answer was to be confirmed by a complete handshake, by what came of it."
        + _IN_BACKGROUND,
        ("outcome",),
        lambda snapshot: [((outcome,), float(count)) for outcome, count in snapshot.second_opinions.items()],
    ),
    Family(
        "tls_readiness_worker_deaths_total",
        "counter",
        "Child processes that ended in the midst of their work, by the kind of work and the reason." + _IN_BACKGROUND,
        ("kind", "reason"),
        lambda snapshot: [(key, float(count)) for key, count in snapshot.worker_deaths.items()],
    ),
    Family(
        "tls_readiness_credential_blocked",
        "gauge",
        "1 while the credential is not used because it was refused, so that no account is locked out." + _IN_BACKGROUND,
        ("credential",),
        lambda snapshot: [((name,), float(blocked)) for name, blocked in snapshot.credentials_blocked.items()],
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


def server_labels(snapshot: Snapshot) -> Family[Snapshot]:
    """The family of the configured labels: the union over all servers, empty where a server has none."""
    names = tuple(sorted({name for server in snapshot.servers for name in server.target.labels}))

    def samples(snapshot: Snapshot) -> Iterator[Sample]:
        for server in snapshot.servers:
            yield (server.target.name, *(server.target.labels.get(name, "") for name in names)), 1.0

    return Family(
        SERVER_LABELS, "gauge", "The labels that the configuration gives to the server.", ("server", *names), samples
    )
