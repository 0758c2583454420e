"""The configuration: three lines work, and every fault is named with its path and its value."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import (
    RESERVED_LABELS,
    Config,
    ConfigError,
    format_duration,
    load_config,
    parse_config,
    parse_duration,
)
from exporter.exposition.metrics import FLEET_METRICS, SERVER_METRICS
from exporter.rules import PROFILES


def _load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "tls-readiness.yml"
    path.write_text(dedent(text), encoding="utf-8")
    return load_config(path, PROFILES)


def test_three_lines_are_a_working_configuration(tmp_path: Path) -> None:
    """Names are enough: role, endpoints, intervals and profiles have their defaults."""
    config = _load(
        tmp_path,
        """\
        servers:
          - exch01.contoso.test
          - exch02.contoso.test
        """,
    )

    assert [server.name for server in config.servers] == ["exch01.contoso.test", "exch02.contoso.test"]
    assert config.defaults.role == "mailbox"
    assert (config.probe.interval, config.probe.timeout, config.probe.max_age) == (3600, 10, 10800)
    assert config.profiles == ("wire-tls12", "wire-tls12-only")


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Each key of the reference arrives."""
    config = _load(
        tmp_path,
        """\
        profiles: [wire-tls12]
        probe: {interval: 15m, timeout: 5s, max_age: 1h, parallel_endpoints: 10, parallel_endpoints_per_server: 1}
        scan: {interval: 12h}
        defaults: {role: edge}
        servers:
          - name: exch01.contoso.test
            address: 10.0.0.11
            role: mailbox
            labels: {site: hanoi}
            expect: wire-tls12
          - name: fd00::25
            address: all
            endpoints: [{port: 25, service: smtp}, {port: 993, service: tls}]
        file_sd_configs: [{files: [targets/*.yml]}]
        """,
    )

    first, second = config.servers
    assert (first.address, first.labels, first.expect, first.role) == (
        "10.0.0.11",
        {"site": "hanoi"},
        "wire-tls12",
        "mailbox",
    )
    assert second.endpoints is not None
    assert [(each.port, each.service) for each in second.endpoints] == [(25, "smtp"), (993, "tls")]
    assert (config.probe.interval, config.probe.max_age, config.scan.interval) == (900, 3600, 43200)
    assert config.file_sd_configs[0].files == (str(tmp_path / "targets/*.yml"),)


BAD = {
    "nothing at all": ("", ["there is nothing to watch: list servers, or file_sd_configs"]),
    "a list": ("[exch01]", ["a mapping is needed"]),
    "an unknown key": ("servers: [a]\nserver: [b]", ["server: there is no such key"]),
    "a key twice": ("servers: [a]\nservers: [b]", ["line 2, column 1: 'servers' is there twice"]),
    "port 0": (
        "servers: [{name: a, endpoints: [{port: 0, service: smtp}]}]",
        ["servers[0].endpoints[0].port: 0: Input should be greater than or equal to 1"],
    ),
    "a port as text": (
        "servers: [{name: a, endpoints: [{port: '25', service: smtp}]}]",
        ["servers[0].endpoints[0].port: '25': Input should be a valid integer"],
    ),
    "a port twice": (
        "servers: [{name: a, endpoints: [{port: 25, service: smtp}, {port: 25, service: tls}]}]",
        [
            (
                "servers[0].endpoints: [{'port': 25, 'service': 'smtp'}, {'port': 25, 'service': 'tls'}]: "
                "port 25 is there twice"
            )
        ],
    ),
    "no endpoints": (
        "servers: [{name: a, endpoints: []}]",
        ["servers[0].endpoints: []: at least one endpoint is needed; leave it out for the role's preset"],
    ),
    "an unknown service": (
        "servers: [{name: a, endpoints: [{port: 21, service: ftp}]}]",
        ["servers[0].endpoints[0].service: 'ftp': Input should be 'https', 'tls', 'smtp', 'imap' or 'pop3'"],
    ),
    "an unknown role": (
        "servers: [{name: a, role: hub}]",
        ["servers[0].role: 'hub': Input should be 'mailbox', 'edge', 'domain-controller' or 'none'"],
    ),
    "a URL for a name": (
        "servers: ['https://exch01:443']",
        ["servers[0].name: 'https://exch01:443': a host name or an IP address is needed, without scheme and port"],
    ),
    "a server twice": ("servers: [exch01, EXCH01]", ["servers[1]: 'EXCH01' is there already, [0]"]),
    "an unknown profile": (
        "profiles: [tls12-only]\nservers: [a]",
        ["profiles: ['tls12-only']: no profile is called 'tls12-only'; there are wire-tls12, wire-tls12-only"],
    ),
    "a profile twice": (
        "profiles: [wire-tls12, wire-tls12]\nservers: [a]",
        ["profiles: ['wire-tls12', 'wire-tls12']: 'wire-tls12' is there twice"],
    ),
    "an expectation that is not judged": (
        "profiles: [wire-tls12]\nservers: [{name: a, expect: wire-tls12-only}]",
        ["servers[0].expect: 'wire-tls12-only' is not among profiles"],
    ),
    "a number for a duration": (
        "probe: {interval: 60}\nservers: [a]",
        ["probe.interval: 60: a duration like 90s, 5m, 1h30m or 7d is needed"],
    ),
    "a max_age below two intervals": (
        "probe: {interval: 1h, max_age: 1h}\nservers: [a]",
        ["probe: {'interval': '1h', 'max_age': '1h'}: max_age 1h is less than twice the interval: at least 2h"],
    ),
    "a time-out above the interval": (
        "probe: {interval: 5s}\nservers: [a]",
        ["probe: {'interval': '5s'}: timeout 10s is longer than the interval 5s"],
    ),
    "a reserved label": (
        "servers: [{name: a, labels: {job: x, __meta: y}}]",
        ["servers[0].labels: {'job': 'x', '__meta': 'y'}: reserved label name: __meta, job"],
    ),
    "a label that is none": (
        "servers: [{name: a, labels: {a-b: x}}]",
        ["servers[0].labels.a-b: 'a-b': String should match pattern '^[a-zA-Z_][a-zA-Z0-9_]*$'"],
    ),
    "a target file of no known kind": (
        "file_sd_configs: [{files: [targets.txt]}]",
        ["file_sd_configs[0].files: ['targets.txt']: 'targets.txt' does not end in .json, .yml or .yaml"],
    ),
    "several faults": (
        "probe: {interval: soon}\nservers: [{name: a b}, {nam: c}]",
        [
            "probe.interval: 'soon': a duration like 90s, 5m, 1h30m or 7d is needed",
            "servers[0].name: 'a b': a host name or an IP address is needed, without scheme and port",
            "servers[1].name: Field required",
            "servers[1].nam: there is no such key",
        ],
    ),
}


@pytest.mark.parametrize(("text", "errors"), BAD.values(), ids=BAD)
def test_faults_are_named(tmp_path: Path, text: str, errors: list[str]) -> None:
    """All of them at once, each with its path and the value that is wrong."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)

    path = str(tmp_path / "tls-readiness.yml")
    assert list(caught.value.errors) == errors
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    "text", ["servers: [", "\t- a", "servers: &a [*a]", "? [a]\n: b", "\x00", "a: !!python/name:os.system ''"]
)
def test_what_is_not_plain_yaml_is_an_error_of_the_file(tmp_path: Path, text: str) -> None:
    """Never a traceback, never a Python object."""
    with pytest.raises(ConfigError):
        _load(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The operating system's words."""
    with pytest.raises(ConfigError, match=r"nowhere\.yml: No such file or directory"):
        load_config(tmp_path / "nowhere.yml", PROFILES)


@pytest.mark.parametrize(
    "name",
    [
        "exch01",
        "exch_01.contoso.test",
        "exch01.contoso.test.",
        "10.0.0.1",
        "fd00::1",
        "bücher.example",
        "a" * 63,
        "exch01.4you",
    ],
)
def test_host_names_and_addresses_are_names(name: str) -> None:
    """What administrators call their servers."""
    assert parse_config({"servers": [name]}, PROFILES).servers[0].name == name


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "-a", "a..b", "a" * 64, "127.0.0.300", "exch01:443", "[::1]", "a\nb", 'a"b']
)
def test_other_things_are_not(name: str) -> None:
    """They could never be connected to."""
    with pytest.raises(ConfigError):
        parse_config({"servers": [name]}, PROFILES)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("7d", 604800), ("500ms", 0.5), ("1w", 604800), ("0s", 0)]
)
def test_durations_are_prometheus(text: str, seconds: float) -> None:
    """The largest unit first, each once."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-5m", "5 m", "m", "30m1h", "1.5h", None, 5, ["5m"]])
def test_other_durations_are_refused(text: object) -> None:
    """A bare number has no unit."""
    with pytest.raises(ValueError, match="a duration like"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_durations_survive_being_written(milliseconds: int) -> None:
    """format_duration is parse_duration's inverse."""
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=1e-6)


_KEYS = [
    "servers", "name", "probe", "interval", "timeout", "endpoints", "port", "service", "labels", "role", "profiles",
    "defaults", "file_sd_configs", "files", "max_age", "expect", "address", "scan",
]  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_document_is_a_configuration_or_an_error(document: object) -> None:
    """Loading is total."""
    try:
        config = parse_config(document, PROFILES)
    except ConfigError as error:
        faults = error.errors
    else:
        faults = ()
        assert config.servers or config.file_sd_configs
    assert all(faults)


def test_every_label_of_a_metric_is_reserved() -> None:
    """A configured label can never collide with one of ours."""
    ours = {label for each in SERVER_METRICS for label in each.labels}
    ours |= {label for each in FLEET_METRICS for label in each.labels}

    assert ours <= RESERVED_LABELS
