"""The configuration: three lines work, and every fault is named with its path and its value."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import (
    RESERVED_LABELS,
    Config,
    ConfigError,
    CredentialConfig,
    FactsFileConfig,
    format_duration,
    load_config,
    parse_config,
    parse_duration,
)
from exporter.exposition.metrics import FLEET_METRICS, SERVER_METRICS
from exporter.rules import PROFILES
from exporter.targets import target_of


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
        collect: {interval: 30m, parallel_hosts: 8, pending_updates: true, usage_megabytes: 20}
        credentials:
          readers: {auth: kerberos, username: svc@CONTOSO.TEST, keytab_file: svc.keytab}
        defaults: {role: edge, credentials: readers}
        servers:
          - name: exch01.contoso.test
            address: 10.0.0.11
            role: mailbox
            labels: {site: hanoi}
            facts_file: {path: facts/exch01.txt, max_age: 2d}
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
    assert first.facts_file is not None
    assert (first.facts_file.path, first.facts_file.max_age) == (str(tmp_path / "facts/exch01.txt"), 172800)
    assert second.endpoints is not None
    assert [(each.port, each.service) for each in second.endpoints] == [(25, "smtp"), (993, "tls")]
    assert (config.probe.interval, config.probe.max_age, config.scan.interval) == (900, 3600, 43200)
    assert config.file_sd_configs[0].files == (str(tmp_path / "targets/*.yml"),)
    assert (config.collect.interval, config.collect.max_age, config.collect.parallel_hosts) == (1800, 5400, 8)
    assert (config.collect.pending_updates, config.collect.usage_megabytes) == (True, 20)
    assert config.credentials["readers"].keytab_file == str(tmp_path / "svc.keytab")
    assert config.defaults.credentials == "readers"


def test_scans_and_second_opinions_have_defaults() -> None:
    """A day, two minutes, both parts, nobody trusted; six connections a day to have answers confirmed."""
    config = parse_config({"servers": ["a"]}, PROFILES)

    assert config.scan.model_dump() == {
        "interval": "1d",
        "timeout": "2m",
        "max_age": "3d",
        "certificates": True,
        "cipher_suites": True,
        "connections": 100,
        "parallel_endpoints": 2,
        "ca_file": None,
    }
    assert config.scan.wanted
    assert config.probe.second_opinions == 6


def test_all_of_a_scan_can_be_said() -> None:
    """Each key of the reference arrives."""
    scan = {
        "interval": "12h",
        "timeout": "90s",
        "max_age": "2d",
        "certificates": False,
        "cipher_suites": True,
        "connections": 30,
        "parallel_endpoints": 8,
        "ca_file": "ca.pem",
    }
    config = parse_config({"servers": ["a"], "scan": scan, "probe": {"second_opinions": 12}}, PROFILES)

    assert config.scan.model_dump() == scan | {"timeout": "1m30s"}
    assert config.probe.second_opinions == 12


def test_collections_have_defaults() -> None:
    """Hourly, from 32 hosts at a time, and nothing that takes a host long."""
    assert parse_config({"servers": ["a"]}, PROFILES).collect.model_dump() == {
        "interval": "1h",
        "timeout": "2m",
        "max_age": "3h",
        "parallel_hosts": 32,
        "pending_updates": False,
        "usage_megabytes": 0,
    }


@pytest.mark.parametrize("interval", ["1h", "36h", "7d"])
def test_the_outcome_of_a_scan_stands_for_three_intervals(interval: str) -> None:
    """Unless the configuration says otherwise."""
    scan = parse_config({"servers": ["a"], "scan": {"interval": interval}}, PROFILES).scan

    assert scan.max_age == 3 * scan.interval


@pytest.mark.parametrize(
    ("certificates", "cipher_suites", "wanted"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
def test_with_both_parts_off_there_is_no_scan(certificates: bool, cipher_suites: bool, wanted: bool) -> None:  # noqa: FBT001
    """Either part alone is one."""
    scan = {"certificates": certificates, "cipher_suites": cipher_suites}

    assert parse_config({"servers": ["a"], "scan": scan}, PROFILES).scan.wanted is wanted


@pytest.mark.parametrize(
    "settings",
    [
        {"scan": {"interval": "1h"}},
        {"scan": {"interval": "15m"}, "probe": {"interval": "15m"}},
        {"scan": {"interval": "1h", "timeout": "1h"}},
        {"scan": {"interval": "1h", "max_age": "2h"}},
        {"scan": {"interval": "5m", "certificates": False, "cipher_suites": False}},
        {"scan": {"connections": 1, "parallel_endpoints": 1}, "probe": {"second_opinions": 0}},
        {"scan": {"connections": 1000, "parallel_endpoints": 64}, "probe": {"second_opinions": 1000}},
        {"collect": {"interval": "1m", "timeout": "1m", "max_age": "2m", "parallel_hosts": 1, "usage_megabytes": 0}},
        {"collect": {"parallel_hosts": 64, "usage_megabytes": 1000}},
    ],
    ids=str,
)
def test_the_bounds_themselves_are_allowed(settings: dict[str, Any]) -> None:
    """As often as the sweep, or more often where nothing is scanned; least and most of each budget."""
    config = parse_config({"servers": ["a"], **settings}, PROFILES)

    for part in ("scan", "probe", "collect"):
        said = settings.get(part, {})
        assert {key: getattr(config, part).model_dump()[key] for key in said} == said


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
        "probe: {interval: 5s, timeout: 10s}\nservers: [a]",
        ["probe: {'interval': '5s', 'timeout': '10s'}: timeout 10s is longer than the interval 5s"],
    ),
    "a max_age of scans below two intervals": (
        "scan: {max_age: 47h}\nservers: [a]",
        ["scan: {'max_age': '47h'}: max_age 1d23h is less than twice the interval: at least 2d"],
    ),
    "a time-out of scans above the interval": (
        "scan: {interval: 1h, timeout: 61m}\nservers: [a]",
        ["scan: {'interval': '1h', 'timeout': '61m'}: timeout 1h1m is longer than the interval 1h"],
    ),
    "no time for a scan": (
        "scan: {timeout: 0s}\nservers: [a]",
        ["scan.timeout: '0s': Input should be greater than 0"],
    ),
    "no time between scans": (
        "scan: {interval: 500ms}\nservers: [a]",
        ["scan.interval: '500ms': Input should be greater than or equal to 1"],
    ),
    "scans more often than sweeps": (
        "scan: {interval: 59m}\nservers: [a]",
        ["scan.interval 59m is less than probe.interval 1h: scans follow sweeps"],
    ),
    "sweeps less often than scans": (
        "probe: {interval: 2d}\nscan: {certificates: false}\nservers: [a]",
        ["scan.interval 1d, the default, is less than probe.interval 2d: scans follow sweeps"],
    ),
    "a number for an interval of scans": (
        "scan: {interval: 86400}\nservers: [a]",
        ["scan.interval: 86400: a duration like 90s, 5m, 1h30m or 7d is needed"],
    ),
    "budgets below their bounds": (
        "scan: {connections: 0, parallel_endpoints: 0}\nprobe: {second_opinions: -1}\nservers: [a]",
        [
            "probe.second_opinions: -1: Input should be greater than or equal to 0",
            "scan.connections: 0: Input should be greater than or equal to 1",
            "scan.parallel_endpoints: 0: Input should be greater than or equal to 1",
        ],
    ),
    "budgets above their bounds": (
        "scan: {connections: 1001, parallel_endpoints: 65}\nprobe: {second_opinions: 1001}\nservers: [a]",
        [
            "probe.second_opinions: 1001: Input should be less than or equal to 1000",
            "scan.connections: 1001: Input should be less than or equal to 1000",
            "scan.parallel_endpoints: 65: Input should be less than or equal to 64",
        ],
    ),
    "budgets that are no numbers": (
        "scan: {connections: many}\nprobe: {second_opinions: 1.5}\nservers: [a]",
        [
            "probe.second_opinions: 1.5: Input should be a valid integer",
            "scan.connections: 'many': Input should be a valid integer",
        ],
    ),
    "collections without bounds": (
        "collect: {interval: 5s, parallel_hosts: 257, usage_megabytes: 1001, pending_updates: 5}\nservers: [a]",
        [
            "collect.parallel_hosts: 257: Input should be less than or equal to 64",
            "collect.pending_updates: 5: Input should be a valid boolean, unable to interpret input",
            "collect.usage_megabytes: 1001: Input should be less than or equal to 1000",
        ],
    ),
    "collections by nobody": (
        "collect: {parallel_hosts: 0}\nservers: [a]",
        ["collect.parallel_hosts: 0: Input should be greater than or equal to 1"],
    ),
    "collections that last too long": (
        "collect: {interval: 1m, timeout: 2m}\nservers: [a]",
        ["collect: {'interval': '1m', 'timeout': '2m'}: timeout 2m is longer than the interval 1m"],
    ),
    "a part that is neither on nor off": (
        "scan: {certificates: daily, cipher_suites: []}\nservers: [a]",
        [
            "scan.certificates: 'daily': Input should be a valid boolean, unable to interpret input",
            "scan.cipher_suites: []: Input should be a valid boolean",
        ],
    ),
    "unknown keys of scans and second opinions": (
        "scan: {certs: true, second_opinions: 6}\nprobe: {second_opinion: 6, ca_file: ca.pem}\nservers: [a]",
        [
            "probe.second_opinion: there is no such key",
            "probe.ca_file: there is no such key",
            "scan.certs: there is no such key",
            "scan.second_opinions: there is no such key",
        ],
    ),
    "a duration for scans": ("scan: 24h\nservers: [a]", ["scan: '24h': a mapping is needed"]),
    "scans of nothing": ("scan:\nservers: [a]", ["scan: None: a mapping is needed"]),
    "a ca_file that is no name": (
        "scan: {ca_file: [ca.pem]}\nservers: [a]",
        ["scan.ca_file: ['ca.pem']: Input should be a valid string"],
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
    "a facts_file without its path": (
        "servers: [{name: a, facts_file: {max_age: 1d}}]",
        ["servers[0].facts_file.path: Field required"],
    ),
    "a facts_file that is a name": (
        "servers: [{name: a, facts_file: exch01.txt}]",
        ["servers[0].facts_file: 'exch01.txt': a mapping is needed"],
    ),
    "several facts_files": (
        "servers: [{name: a, facts_file: [{path: exch01.txt}]}]",
        ["servers[0].facts_file: [{'path': 'exch01.txt'}]: a mapping is needed"],
    ),
    "an unknown key of a facts_file": (
        "servers: [{name: a, facts_file: {path: exch01.txt, interval: 1m}}]",
        ["servers[0].facts_file.interval: there is no such key"],
    ),
    "a facts_file with an empty path": (
        "servers: [{name: a, facts_file: {path: ''}}]",
        ["servers[0].facts_file.path: '': the name of a file is needed"],
    ),
    "a facts_file whose path no file can have": (
        'servers: [{name: a, facts_file: {path: "a\\0b"}}]',
        ["servers[0].facts_file.path: 'a\\x00b': the name of a file is needed"],
    ),
    "a facts_file whose path is none": (
        "servers: [{name: a, facts_file: {path: 5}}]",
        ["servers[0].facts_file.path: 5: Input should be a valid string"],
    ),
    "facts that stand for no time": (
        "servers: [{name: a, facts_file: {path: exch01.txt, max_age: 0s}}]",
        ["servers[0].facts_file.max_age: '0s': Input should be greater than 0"],
    ),
    "facts that stand for a number": (
        "servers: [{name: a, facts_file: {path: exch01.txt, max_age: 0}}]",
        ["servers[0].facts_file.max_age: 0: a duration like 90s, 5m, 1h30m or 7d is needed"],
    ),
    "a facts_file of an IPv4 address": (
        "servers: [{name: 10.0.0.1, facts_file: {path: exch01.txt}}]",
        [
            (
                "servers[0]: {'name': '10.0.0.1', 'facts_file': {'path': 'exch01.txt'}}: "
                "facts_file needs the server's name, and 10.0.0.1 is an address"
            )
        ],
    ),
    "a facts_file of an IPv6 address": (
        "servers: [{name: 'fd00::25', facts_file: {path: exch01.txt}}]",
        [
            (
                "servers[0]: {'name': 'fd00::25', 'facts_file': {'path': 'exch01.txt'}}: "
                "facts_file needs the server's name, and fd00::25 is an address"
            )
        ],
    ),
    "a facts_file in another place": (
        "facts_file: {path: exch01.txt}\ndefaults: {facts_file: {path: exch01.txt}}\nservers: [a]",
        ["defaults.facts_file: there is no such key", "facts_file: there is no such key"],
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


@pytest.mark.parametrize(
    "text",
    [
        "scan: {interval: .inf}",
        "probe: {interval: -.inf}",
        "scan: {interval: .nan}",
        f"scan: {{timeout: {'9' * 400}y}}",
        r'scan: {ca_file: "a\0b"}',
        r'scan: {ca_file: "\ud800"}',
    ],
    ids=["inf", "-inf", "nan", "400 digits", "NUL", "surrogate"],
)
def test_values_that_nothing_can_be_done_with_are_errors(tmp_path: Path, text: str) -> None:
    """Named like any other. Never a traceback."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"{text}\nservers: [a]")

    assert re.match(r"(scan|probe)\.(interval|timeout|ca_file): ", caught.value.errors[0])


AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.cert_pem.bytes()
NO_CERTIFICATE = "[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found"


class TestCaFile:
    def _load(self, folder: Path, content: bytes | None = None, name: str = "ca.pem") -> Config:
        """Load a configuration that names such a file; without a content there is none."""
        if content is not None:
            (folder / "ca.pem").write_bytes(content)
        return _load(folder, f"scan: {{ca_file: '{name}'}}\nservers: [a]")

    def test_it_is_relative_to_the_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wherever the exporter was started."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)

        assert self._load(tmp_path, CERTIFICATE).scan.ca_file == str(tmp_path / "ca.pem")
        assert _load(elsewhere, "scan: {ca_file: ../ca.pem}\nservers: [a]").scan.ca_file == str(
            elsewhere / ".." / "ca.pem"
        )

    def test_it_may_be_absolute(self, tmp_path: Path) -> None:
        """Then it is where it says."""
        path = tmp_path / "trusted" / "ca.pem"
        path.parent.mkdir()
        path.write_bytes(CERTIFICATE)

        assert self._load(tmp_path, name=str(path)).scan.ca_file == str(path)

    def test_the_rest_of_the_settings_stays(self, tmp_path: Path) -> None:
        """Only the path is made whole."""
        (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
        config = _load(tmp_path, "scan: {ca_file: ca.pem, interval: 12h, connections: 30}\nservers: [a]")

        assert (config.scan.interval, config.scan.max_age, config.scan.connections) == (43200, 129600, 30)

    @pytest.mark.parametrize(
        "content",
        [
            CERTIFICATE + trustme.CA().cert_pem.bytes(),
            b"# Contoso's authorities\n" + CERTIFICATE,
            AUTHORITY.private_key_pem.bytes() + CERTIFICATE,
            AUTHORITY.issue_cert("exch01.test").cert_chain_pems[0].bytes(),
        ],
        ids=["a bundle", "with a comment", "behind a key", "a server's own, to be pinned"],
    )
    def test_one_certificate_in_it_is_enough(self, tmp_path: Path, content: bytes) -> None:
        """Bundles have several, and comments."""
        assert self._load(tmp_path, content).scan.ca_file == str(tmp_path / "ca.pem")

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            (None, "No such file or directory"),
            (b"", NO_CERTIFICATE),
            (b"CN=Contoso CA\n", NO_CERTIFICATE),
            (b"\x30\x82\x01\x00\xff\x00", NO_CERTIFICATE),
            (AUTHORITY.private_key_pem.bytes(), NO_CERTIFICATE),
        ],
        ids=["missing", "empty", "text", "DER", "a private key"],
    )
    def test_a_file_that_cannot_be_used_is_named(self, tmp_path: Path, content: bytes | None, error: str) -> None:
        """At the start, not a day later in each scan."""
        with pytest.raises(ConfigError) as caught:
            self._load(tmp_path, content)

        (fault,) = caught.value.errors
        assert re.sub(r" \(_ssl\.c:\d+\)$", "", fault) == f"scan.ca_file: '{tmp_path}/ca.pem': {error}"
        assert str(caught.value) == f"{tmp_path}/tls-readiness.yml: {fault}"

    def test_a_damaged_certificate_is_an_error_of_that_file(self, tmp_path: Path) -> None:
        """OpenSSL's words, which differ from version to version."""
        with pytest.raises(ConfigError, match=rf"scan\.ca_file: '{re.escape(str(tmp_path))}/ca\.pem': \["):
            self._load(tmp_path, CERTIFICATE.replace(b"M", b"!"))

    @pytest.mark.parametrize("name", ["", "."])
    def test_a_folder_is_no_file(self, tmp_path: Path, name: str) -> None:
        """The operating system's words."""
        with pytest.raises(ConfigError) as caught:
            self._load(tmp_path, name=name)

        assert caught.value.errors == (f"scan.ca_file: '{tmp_path}': Is a directory",)

    def test_check_config_says_so(self, tmp_path: Path) -> None:
        """One line that names both files, and exit 1; valid once the file is right."""
        path, ca_file = tmp_path / "tls-readiness.yml", tmp_path / "ca.pem"
        path.write_text("scan: {ca_file: ca.pem}\nservers: [a]", encoding="utf-8")
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "exporter", "check-config", str(path)]
        bad = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        ca_file.write_bytes(CERTIFICATE)
        good = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        assert (bad.returncode, bad.stdout) == (1, "")
        assert bad.stderr == f"{path}: scan.ca_file: '{ca_file}': No such file or directory\n"
        assert (good.returncode, good.stderr) == (0, "")
        assert good.stdout.startswith(f"{path} is valid: servers in it: 1, in target files: 0\n")


class TestFactsFile:
    def _load(self, folder: Path, facts_file: str) -> FactsFileConfig:
        (server,) = _load(folder, f"servers: [{{name: exch01.contoso.test, facts_file: {facts_file}}}]").servers
        assert server.facts_file is not None
        return server.facts_file

    def test_its_path_is_enough(self, tmp_path: Path) -> None:
        """What it says stands for a week. It need not be there yet: somebody else puts it there."""
        facts_file = self._load(tmp_path, "{path: facts/exch01.txt}")

        assert (facts_file.path, facts_file.max_age) == (str(tmp_path / "facts/exch01.txt"), 7 * 86400)

    def test_all_of_it_can_be_said(self, tmp_path: Path) -> None:
        """An absolute path is where it says."""
        facts_file = self._load(tmp_path, "{path: /srv/facts/exch01.txt, max_age: 36h}")

        assert (facts_file.path, facts_file.max_age) == ("/srv/facts/exch01.txt", 36 * 3600)

    def test_it_is_relative_to_the_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wherever the exporter was started; the other servers stay as they are."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        config = _load(
            tmp_path,
            "servers: [{name: a, role: edge, facts_file: {path: ../a.txt, max_age: 2d}}, {name: b, role: edge}]",
        )

        first, second = config.servers
        assert first.facts_file == FactsFileConfig(path=str(tmp_path / ".." / "a.txt"), max_age="2d")
        assert second.facts_file is None
        assert (first.role, second.role, second.name) == ("edge", "edge", "b")

    def test_none_is_none(self, tmp_path: Path) -> None:
        """As where the key is left out."""
        assert _load(tmp_path, "servers: [{name: a, facts_file: null}]").servers[0].facts_file is None

    def test_an_address_may_still_be_where_to_connect(self, tmp_path: Path) -> None:
        """A document says the host's name: that is what the server must be called by."""
        (server,) = _load(tmp_path, "servers: [{name: a, address: 10.0.0.1, facts_file: {path: a.txt}}]").servers

        assert server.facts_file is not None

    def test_what_a_target_has_of_it(self, tmp_path: Path) -> None:
        """Path and age; nothing where there is none."""
        config = _load(tmp_path, "servers: [{name: a, facts_file: {path: a.txt, max_age: 2d}}, b]")

        first, second = (target_of(server, config.defaults) for server in config.servers)
        assert (first.facts_file, first.facts_max_age) == (str(tmp_path / "a.txt"), 2 * 86400)
        assert (second.facts_file, second.facts_max_age) == ("", 0.0)


NTLM = {"auth": "ntlm", "username": r"CONTOSO\svc", "password_file": "p"}
KERBEROS = {"auth": "kerberos", "username": "svc@CONTOSO.TEST", "password_file": "p"}
KEYTAB = {"auth": "kerberos", "username": "svc@CONTOSO.TEST", "keytab_file": "k"}
BASIC = {"auth": "basic", "username": "svc", "password_file": "p"}
CERTIFICATE_AUTH = {"auth": "certificate", "certificate_file": "c.pem", "key_file": "c.key"}
HTTPS = {"transport": "https"}

BAD_CREDENTIALS: dict[str, tuple[dict[str, Any], str]] = {
    "no method": ({"username": "svc"}, ".auth: Field required"),
    "an unknown method": (NTLM | {"auth": "digest"}, ".auth: Input should be 'kerberos', 'ntlm', 'basic' or"),
    "no account": ({"auth": "ntlm", "password_file": "p"}, ".username: auth ntlm needs one"),
    "an account for a certificate": (CERTIFICATE_AUTH | {"username": "svc"}, ".username: auth certificate needs none"),
    "an empty account": (NTLM | {"username": ""}, ".username: the name of an account is needed"),
    "an account of two lines": (NTLM | {"username": "a\nb"}, ".username: the name of an account is needed"),
    "an account like an option": (KERBEROS | {"username": "-c/x@A.TEST"}, ".username: the name of an account is"),
    "no realm": (KERBEROS | {"username": "svc"}, ".username: 'svc': auth kerberos needs a principal, user@REALM"),
    "a NetBIOS domain": (
        KERBEROS | {"username": r"CONTOSO\svc"},
        r".username: 'CONTOSO\\svc': auth kerberos needs a principal, user@REALM",
    ),
    "two realms": (KERBEROS | {"username": "a@B@C"}, ".username: 'a@B@C': auth kerberos needs a principal"),
    "a colon in basic's account": (BASIC | {"username": "a:b"}, ".username: 'a:b': auth basic allows no colon"),
    "no secret": (
        {"auth": "ntlm", "username": "svc"},
        ": auth ntlm needs password_file, and there is none",
    ),
    "two secrets": (
        KERBEROS | KEYTAB,
        ": auth kerberos needs password_file, or keytab_file, and there is keytab_file, password_file",
    ),
    "a keytab for NTLM": (
        {"auth": "ntlm", "username": "svc", "keytab_file": "k"},
        ": auth ntlm needs password_file, and there is keytab_file",
    ),
    "a password for a certificate": (
        CERTIFICATE_AUTH | {"password_file": "p"},
        ": auth certificate needs certificate_file and key_file, and there is certificate_file, key_file, pass",
    ),
    "half a certificate": (
        {"auth": "certificate", "certificate_file": "c.pem"},
        ": auth certificate needs certificate_file and key_file, and there is certificate_file",
    ),
    "a secret without a name": (NTLM | {"password_file": ""}, ".password_file: the name of a file is needed"),
    "a readable password": (
        BASIC | {"transport": "http"},
        ".transport: 'http': auth basic sends the password readably: https, or allow_unencrypted",
    ),
    "a certificate without TLS": (
        CERTIFICATE_AUTH | {"transport": "http"},
        ".transport: 'http': auth certificate needs https",
    ),
    "leave to what is encrypted": (
        NTLM | {"allow_unencrypted": True},
        ".allow_unencrypted: only auth basic over http is unencrypted",
    ),
    "the same over https": (
        BASIC | {"allow_unencrypted": True},
        ".allow_unencrypted: only auth basic over http is unencrypted",
    ),
    "trust without TLS": (NTLM | {"ca_file": "ca"}, ".ca_file: there are no certificates with transport http"),
    "bindings without TLS": (
        NTLM | {"channel_bindings": False},
        ".channel_bindings: they exist with transport https and auth kerberos or ntlm only",
    ),
    "bindings of a password": (
        BASIC | {"channel_bindings": True},
        ".channel_bindings: they exist with transport https and auth kerberos or ntlm only",
    ),
    "an unknown transport": (NTLM | {"transport": "ssh"}, ".transport: Input should be 'http' or 'https'"),
    "no port": (NTLM | {"port": 0}, ".port: Input should be greater than or equal to 1"),
    "an unknown key": (NTLM | {"pass": "x"}, ".pass: there is no such key"),
}


class TestCredentials:
    def _credential(self, **settings: Any) -> CredentialConfig:
        return parse_config({"servers": ["a"], "credentials": {"x": settings}}, PROFILES).credentials["x"]

    @pytest.mark.parametrize(
        ("settings", "transport", "port"),
        [
            (NTLM, "http", 5985),
            (KERBEROS, "http", 5985),
            (KEYTAB, "http", 5985),
            (BASIC, "https", 5986),
            (CERTIFICATE_AUTH, "https", 5986),
            (NTLM | HTTPS, "https", 5986),
            (KERBEROS | HTTPS | {"port": 443}, "https", 443),
            (NTLM | {"port": 80}, "http", 80),
            (BASIC | {"transport": "http", "allow_unencrypted": True}, "http", 5985),
        ],
        ids=str,
    )
    def test_transport_and_port_follow_the_method(self, settings: dict[str, Any], transport: str, port: int) -> None:
        """What encrypts its messages goes over http, the rest over https; with WinRM's own ports."""
        credential = self._credential(**settings)

        assert (credential.transport, credential.port) == (transport, port)

    def test_what_is_not_said_is_none(self) -> None:
        """And channel bindings are made where they can be."""
        credential = self._credential(**NTLM)

        assert (credential.keytab_file, credential.certificate_file, credential.key_file) == (None, None, None)
        assert (credential.ca_file, credential.channel_bindings, credential.allow_unencrypted) == (None, True, False)
        assert not self._credential(**NTLM, **HTTPS, channel_bindings=False).channel_bindings

    @pytest.mark.parametrize(
        "username", ["svc", r"CONTOSO\svc", r".\svc", "svc@contoso.test", r"CONTOSO\a b", "CONTOSO\\dịch-vụ"]
    )
    def test_ntlm_takes_names_as_windows_does(self, username: str) -> None:
        """Of the host, of a domain, and principal names of users."""
        assert self._credential(**NTLM | {"username": username}).username == username

    @pytest.mark.parametrize("username", ["svc@CONTOSO.TEST", "svc/host@CONTOSO.TEST", "EXCH01$@contoso.test"])
    def test_kerberos_takes_principals(self, username: str) -> None:
        """Realms are not always in capitals."""
        assert self._credential(**KEYTAB | {"username": username}).username == username

    @pytest.mark.parametrize(("settings", "message"), BAD_CREDENTIALS.values(), ids=BAD_CREDENTIALS)
    def test_faults_are_named(self, settings: dict[str, Any], message: str) -> None:
        """Each with the path of the credential's key."""
        with pytest.raises(ConfigError) as caught:
            self._credential(**settings)

        assert any(error.startswith(f"credentials.x{message}") for error in caught.value.errors), caught.value.errors

    @pytest.mark.parametrize("name", ["readers", "svc_1", "a.b-c@d", "9", "a" * 64])
    def test_names_are_words(self, name: str) -> None:
        """They are values of a label, and of a label in target files."""
        assert name in parse_config({"servers": ["a"], "credentials": {name: NTLM}}, PROFILES).credentials

    @pytest.mark.parametrize("name", ["", "none", "a b", "-a", "a\n", "é", "a" * 65, 5, None])
    def test_other_things_are_no_names(self, name: object) -> None:
        """`none` has a meaning of its own."""
        with pytest.raises(ConfigError, match="credentials"):
            parse_config({"servers": ["a"], "credentials": {name: NTLM}}, PROFILES)

    @pytest.mark.parametrize(
        "credentials",
        ["hunter2", ["hunter2"], {"x": "hunter2"}, {"x": ["hunter2"]}]
        + [
            {"x": NTLM | {key: value}}
            for key in CredentialConfig.model_fields
            for value in (["hunter2"], {"a": "hunter2"})
        ]
        + [{"x": NTLM | {"password": "hunter2"}}, {"x": {"auth": "ntlm", "password": "hunter2"}}],
        ids=str,
    )
    def test_a_password_in_the_wrong_place_is_not_repeated(self, credentials: object) -> None:
        """Errors go to logs and terminals."""
        with pytest.raises(ConfigError) as caught:
            parse_config({"servers": ["a"], "credentials": credentials}, PROFILES)

        assert "hunter2" not in str(caught.value)

    def test_files_are_relative_to_the_configuration(self, tmp_path: Path) -> None:
        """All of them; those with an absolute path are where that says."""
        (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
        config = _load(
            tmp_path,
            """\
            servers: [a]
            credentials:
              password: {auth: ntlm, username: svc, password_file: secrets/p, transport: https, ca_file: ca.pem}
              keytab: {auth: kerberos, username: svc@A.TEST, keytab_file: /etc/krb5.keytab}
              certificate: {auth: certificate, certificate_file: c.pem, key_file: c.key}
            """,
        )

        password, keytab, certificate = config.credentials.values()
        assert (password.password_file, password.ca_file) == (str(tmp_path / "secrets/p"), str(tmp_path / "ca.pem"))
        assert (keytab.keytab_file, keytab.password_file) == ("/etc/krb5.keytab", None)
        assert (certificate.certificate_file, certificate.key_file) == (
            str(tmp_path / "c.pem"),
            str(tmp_path / "c.key"),
        )
        assert certificate.ca_file is None

    def test_every_ca_file_must_be_one(self, tmp_path: Path) -> None:
        """All faults at once, that of scans with them; the secrets themselves may come later."""
        (tmp_path / "bad.pem").write_text("no certificate", encoding="ascii")

        with pytest.raises(ConfigError) as caught:
            _load(
                tmp_path,
                """\
                servers: [a]
                scan: {ca_file: none.pem}
                credentials:
                  x: {auth: ntlm, username: svc, password_file: p, transport: https, ca_file: none.pem}
                  y: {auth: certificate, certificate_file: c.pem, key_file: c.key, ca_file: bad.pem}
                """,
            )

        first, second, third = caught.value.errors
        assert first == f"scan.ca_file: '{tmp_path}/none.pem': No such file or directory"
        assert second == f"credentials.x.ca_file: '{tmp_path}/none.pem': No such file or directory"
        assert third.startswith(f"credentials.y.ca_file: '{tmp_path}/bad.pem': ")


class TestCredentialsOfServers:
    def _config(self, *servers: Any, default: str | None = None) -> Config:
        document = {
            "credentials": {"readers": NTLM, "others": NTLM},
            "defaults": {"credentials": default},
            "servers": list(servers),
        }
        return parse_config(document, PROFILES)

    def _effective(self, server: Any, default: str | None = None) -> str:
        config = self._config(server, default=default)
        return target_of(config.servers[0], config.defaults).credentials

    def test_a_server_names_its_own(self) -> None:
        """Its own, else the default, else none."""
        assert self._effective("a") == ""
        assert self._effective("a", default="readers") == "readers"
        assert self._effective({"name": "a", "credentials": "others"}, default="readers") == "others"
        assert self._effective({"name": "a", "credentials": None}, default="readers") == "readers"

    def test_a_server_may_have_none(self) -> None:
        """Where there is no way to WinRM, as in a DMZ."""
        assert self._effective({"name": "a", "credentials": "none"}, default="readers") == ""
        assert self._effective({"name": "10.0.0.1", "credentials": "none"}) == ""

    def test_a_facts_file_wins_over_the_default(self) -> None:
        """What a host says comes from one place."""
        assert self._effective({"name": "a", "facts_file": {"path": "a.txt"}}, default="readers") == ""
        assert self._effective({"name": "a", "facts_file": {"path": "a.txt"}, "credentials": "none"}) == ""

    @pytest.mark.parametrize("address", ["10.0.0.1", "fd00::25"])
    def test_the_default_is_not_for_addresses(self, address: str) -> None:
        """A document says the host's name, and no address. As the address to connect to it is good."""
        assert self._effective(address, default="readers") == ""
        assert self._effective({"name": "a", "address": address}, default="readers") == "readers"

    @pytest.mark.parametrize(
        ("server", "error"),
        [
            ({"name": "a", "credentials": "x"}, "servers[1].credentials: 'x' is not among credentials"),
            ({"name": "a", "credentials": ""}, "servers[1].credentials: '' is not among credentials"),
            (
                {"name": "10.0.0.1", "credentials": "readers"},
                (
                    "servers[1]: {'name': '10.0.0.1', 'credentials': 'readers'}: "
                    "credentials needs the server's name, and 10.0.0.1 is an address"
                ),
            ),
            (
                {"name": "a", "credentials": "readers", "facts_file": {"path": "f"}},
                (
                    "servers[1]: {'name': 'a', 'credentials': 'readers', 'facts_file': {'path': 'f'}}: "
                    "facts_file and credentials: one of the two"
                ),
            ),
        ],
    )
    def test_faults_are_named(self, server: dict[str, Any], error: str) -> None:
        """As everywhere, with their place."""
        with pytest.raises(ConfigError) as caught:
            self._config("first", server)

        assert list(caught.value.errors) == [error]

    @pytest.mark.parametrize("default", ["x", "none", ""])
    def test_the_default_must_exist(self, default: str) -> None:
        """Leaving it out is how to have none."""
        with pytest.raises(ConfigError) as caught:
            self._config("a", default=default)

        assert list(caught.value.errors) == [f"defaults.credentials: {default!r} is not among credentials"]

    def test_one_fault_in_credentials_is_one_fault(self) -> None:
        """Those that name it are not blamed."""
        with pytest.raises(ConfigError) as caught:
            parse_config(
                {
                    "credentials": {"x": {"auth": "ntlm"}},
                    "defaults": {"credentials": "x"},
                    "servers": [{"name": "a", "credentials": "x"}],
                },
                PROFILES,
            )

        assert list(caught.value.errors) == ["credentials.x.username: auth ntlm needs one"]


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
    "defaults", "file_sd_configs", "files", "max_age", "expect", "address", "scan", "facts_file", "path",
    "collect", "credentials", "auth", "username", "password_file", "transport", "ca_file",
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
