"""The commands as a person runs them: in processes of their own, against real endpoints."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from exporter.demo import FLEET, DemoFleet
from exporter.demo.machines import load
from exporter.demo.machines.document import output
from exporter.probes.winrm import script

COMMAND = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "exporter"]
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "TERM": "dumb"}
_HOST = re.compile(r'^tls_readiness_server_info\{.*server="(.*?)",windows="(?:.+) \(simulated\)"', re.MULTILINE)
READY = {"forgotten": (False, False), "part-3-done": (True, True), "modern": (True, True)}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False
    )


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _get(url: str, seconds: float = 20) -> str:
    """The answer, as soon as there is one."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.read().decode())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, str]]:
    """The demo's endpoints as targets of audit, by name."""
    with DemoFleet() as demo:
        servers = {server["name"].split(".")[0]: server for server in demo.configuration()["servers"]}
        yield {name: _target(server["address"], **server["endpoints"][0]) for name, server in servers.items()}


def _target(address: str, port: int, service: str) -> str:
    return f"{service}://{address}:{port}"


class TestAudit:
    def test_table(self, endpoints: dict[str, str]) -> None:
        """Versions by endpoint, readiness by server, the next step."""
        done = _run("audit", endpoints["part-2-done"])

        place = endpoints["part-2-done"].rpartition("/")[2]
        address = place.rpartition(":")[0]
        assert re.search(rf"{re.escape(place)} +https +no +no +yes +yes +yes +no", done.stdout)
        assert re.search(rf"{re.escape(address)} +ready +not ready", done.stdout)
        assert "disable SSL 2.0 to TLS 1.1" in done.stdout
        assert done.returncode == 1

    def test_json(self, endpoints: dict[str, str]) -> None:
        """The document, whatever each endpoint speaks."""
        names = [name for name, *_ in FLEET]
        done = _run("audit", "--output", "json", *(endpoints[name] for name in names))

        document = json.loads(done.stdout)
        servers = {each["server"]: each for each in document["servers"]}
        by_place = {each["endpoint"]: each for server in servers.values() for each in server["endpoints"]}
        for name, service, lowest, highest in FLEET:
            endpoint = by_place[endpoints[name].rpartition("/")[2]]
            accepted = [version for version, answer in endpoint["protocols"].items() if answer["state"] == "accepted"]
            assert endpoint["service"] == service
            assert (accepted[0], accepted[-1]) == (lowest, highest)
            assert not [answer for answer in endpoint["protocols"].values() if answer["state"] == "unknown"]
        assert document["schema_version"] == 1
        server = servers[endpoints["forgotten"].rpartition("/")[2].rpartition(":")[0]]
        assert server["profiles"]["wire-tls12"]["blockers"] == ["endpoints-accept-tls12"]
        assert {rule["rule"]: rule["state"] for rule in server["rules"]} == {
            "endpoints-accept-tls12": "failed",
            "endpoints-reject-legacy": "failed",
            "certificates-sound": "failed",
            "cipher-suites-recommended": "unknown",
        }

    @pytest.mark.parametrize(
        ("name", "profile", "code"),
        [
            ("part-3-done", "wire-tls12-only", 0),
            ("part-2-done", "wire-tls12", 0),
            ("part-2-done", "wire-tls12-only", 1),
            ("forgotten", "wire-tls12", 1),
            ("switched-off", "wire-tls12", 3),
        ],
    )
    def test_exit_codes(self, endpoints: dict[str, str], name: str, profile: str, code: int) -> None:
        """0 ready, 1 not ready, 3 unknown."""
        assert _run("audit", "--profile", profile, endpoints[name]).returncode == code

    def test_of_a_configuration_into_a_file(self, endpoints: dict[str, str], tmp_path: Path) -> None:
        """--config.file and --out."""
        address, _, port = endpoints["modern"].rpartition("/")[2].partition(":")
        path = tmp_path / "tls-readiness.yml"
        path.write_text(
            f"servers: [{{name: modern.test, address: {address}, endpoints: [{{port: {port}, service: https}}]}}]"
        )

        done = _run("audit", "--config.file", str(path), "--output", "json", "--out", str(tmp_path / "report.json"))

        assert (done.returncode, done.stdout) == (0, "")
        assert json.loads((tmp_path / "report.json").read_text())["servers"][0]["server"] == "modern.test"

    def _with_facts_files(self, tmp_path: Path) -> str:
        """A configuration of three servers, two with a facts file, of which one is there."""
        machine = load("exchange-2016-cu7-on-2012-r2")
        (tmp_path / "facts").mkdir()
        printed = output(machine, datetime.now(UTC))
        (tmp_path / "facts" / "there.txt").write_text(printed, encoding="ascii")
        servers = [
            {"name": machine.fqdn, "role": "none", "facts_file": {"path": "facts/there.txt"}},
            {"name": "exch02.test", "role": "none", "facts_file": {"path": "facts/nowhere.txt"}},
            {"name": "exch03.test", "role": "none"},
        ]
        path = tmp_path / "tls-readiness.yml"
        path.write_text(json.dumps({"servers": servers}))
        return str(path)

    def test_host_facts_in_the_table(self, tmp_path: Path) -> None:
        """What the collector script found; why something is missing; nothing of servers that nobody asks."""
        done = _run("audit", "--config.file", self._with_facts_files(tmp_path))

        hosts = done.stdout[done.stdout.index("Hosts") : done.stdout.index("Readiness")]
        assert re.search(r"exch2016a\.contoso\.test \(simulated\) +15\.1\.1261\.35 +Server 2012 R2 +460805", hosts)
        missing = " ".join(hosts[hosts.index("?") :].split())
        assert missing.startswith("? exch02.test host: file_unreadable: ")
        assert missing.endswith(": No such file or directory")
        assert "exch03.test" not in hosts
        assert done.returncode == 3
        assert "Traceback" not in done.stderr

    def test_host_facts_in_the_document(self, tmp_path: Path) -> None:
        """Of each server, known or not."""
        done = _run("audit", "--config.file", self._with_facts_files(tmp_path), "--output", "json")

        hosts = {server["server"]: server["host"] for server in json.loads(done.stdout)["servers"]}
        known = hosts.pop("exch2016a.contoso.test")
        assert known["value"]["exchange"]["build"] == {"state": "known", "value": "15.1.1261.35"}
        assert known["value"]["reboot"]["cbs"] == {"state": "known", "value": True}
        assert {name: host["reason"] for name, host in hosts.items()} == {
            "exch02.test": "file_unreadable",
            "exch03.test": "not_observed_yet",
        }

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "name targets, or --config.file"),
            (["--config.file", "x.yml", "a"], "name targets or --config.file, not both"),
            (["https://a:443", "smtp://A:443"], "port 443 was named before with another service"),
            (["--out", "/nonexistent/report", "a"], "/nonexistent/report: No such file or directory"),
            (["--config.file", "nowhere.yml"], "nowhere.yml: No such file or directory"),
            (["ftp://a"], "'ftp://a': no service is called 'ftp'"),
            (["--profile", "tls14", "a"], "no profile is called 'tls14'"),
            (["--output", "xml", "a"], "'xml' is not one of"),
        ],
    )
    def test_arguments_that_cannot_be_used(self, arguments: list[str], message: str) -> None:
        """Exit 2 and a message, no traceback."""
        done = _run("audit", *arguments)

        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
    def test_interrupted(self, number: signal.Signals, code: int) -> None:
        """Never the code that says that all is well."""
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            _running("audit", f"127.0.0.1:{silent.getsockname()[1]}") as process,
            silent.accept()[0] as connection,
        ):
            connection.recv(1000)
            process.send_signal(number)
            assert process.wait(timeout=3) == code

    def test_target_files_count(self, tmp_path: Path) -> None:
        """Nothing to audit, or a file that is not usable, is not all well either; --profile narrows what is judged."""
        path = tmp_path / "tls-readiness.yml"
        path.write_text("file_sd_configs: [{files: [more.yml]}]")
        nothing = _run("audit", "--config.file", str(path))
        (tmp_path / "more.yml").write_text("- targets: [a b]")
        broken = _run("audit", "--config.file", str(path))
        (tmp_path / "more.yml").write_text(
            "- targets: [127.0.0.1]\n  labels: {__expect__: wire-tls12-only, __role__: none}"
        )
        narrowed = _run("audit", "--config.file", str(path), "--profile", "wire-tls12")

        assert (nothing.returncode, broken.returncode, narrowed.returncode) == (2, 2, 3)
        assert "there are no servers" in nothing.stderr
        assert "'a b'" in broken.stderr
        assert "wire-tls12-only" not in narrowed.stdout


class TestCollectorScript:
    def _printed(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [*COMMAND, "collector-script", *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, env=ENVIRONMENT, check=False)

    def test_it_is_the_file_byte_for_byte(self) -> None:
        """Into a pipe, which is how it gets to a server: a signature counts every byte."""
        done = self._printed()

        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == Path(script.__file__).with_name("collect.ps1").read_bytes()
        assert sha256(done.stdout).hexdigest() == script.SHA256

    def test_its_version_is_the_one_that_is_exported(self) -> None:
        """The metric tells which script an exporter brings."""
        assert f"$ScriptVersion = '{script.VERSION}'".encode() in self._printed().stdout

    def test_it_needs_no_configuration(self, tmp_path: Path) -> None:
        """Nor one that is valid."""
        (tmp_path / "tls-readiness.yml").write_text("servers: [")
        command = [sys.executable, "-P", *COMMAND[1:], "collector-script"]

        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60, env=ENVIRONMENT, check=False)

        assert (done.returncode, done.stdout) == (0, script.SCRIPT)

    def test_into_a_file(self, tmp_path: Path) -> None:
        """As a person redirects it."""
        with (tmp_path / "collect.ps1").open("wb") as file:
            done = subprocess.run([*COMMAND, "collector-script"], stdout=file, timeout=60, env=ENVIRONMENT, check=False)

        assert done.returncode == 0
        assert (tmp_path / "collect.ps1").read_bytes() == script.SCRIPT

    def test_a_reader_that_does_not_read_to_the_end(self) -> None:
        """As ``head`` does. No traceback."""
        with subprocess.Popen(
            [*COMMAND, "collector-script"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            said = process.stderr.read()

        assert b"Traceback" not in said

    def test_it_takes_no_arguments(self) -> None:
        """Exit 2 and a message."""
        done = self._printed("exch01")

        assert (done.returncode, done.stdout) == (2, b"")
        assert b"Traceback" not in done.stderr


class TestCheckConfig:
    def test_valid(self, tmp_path: Path) -> None:
        """What was found."""
        path = tmp_path / "tls-readiness.yml"
        (tmp_path / "more.yml").write_text("- targets: [exch02.test, exch03.test]")
        path.write_text("servers: [exch01.test]\nfile_sd_configs: [{files: [more.yml]}]")

        done = _run("check-config", str(path))

        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            f"{path} is valid: servers in it: 1, in target files: 2",
            "host facts over WinRM: 0, from facts files: 0, of 3 servers",
        ]

    def test_invalid(self, tmp_path: Path) -> None:
        """Every fault on a line of its own."""
        path = tmp_path / "tls-readiness.yml"
        path.write_text("servers: [a b]\nprobe: {interval: soon}")

        done = _run("check-config", str(path))

        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 2
        assert f"{path}: servers[0].name: 'a b'" in done.stderr

    def test_invalid_target_file(self, tmp_path: Path) -> None:
        """It is checked as well."""
        path = tmp_path / "tls-readiness.yml"
        (tmp_path / "more.yml").write_text("- targets: exch02.test")
        path.write_text("file_sd_configs: [{files: [more.yml]}]")

        done = _run("check-config", str(path))

        assert done.returncode == 1
        assert "more.yml: [0].targets: 'exch02.test': a list is needed" in done.stderr

    def _with_facts_file(self, folder: Path, content: str | None, **facts_file: str) -> Path:
        if content is not None:
            (folder / "exch.txt").write_text(content, encoding="ascii")
        server = {"name": load("exchange-se-on-2025").fqdn, "facts_file": {"path": "exch.txt", **facts_file}}
        path = folder / "tls-readiness.yml"
        path.write_text(json.dumps({"servers": [server, "exch02.test"]}))
        return path

    def test_a_facts_file_that_is_good(self, tmp_path: Path) -> None:
        """There is nothing to say of it."""
        path = self._with_facts_file(tmp_path, output(load("exchange-se-on-2025"), datetime.now(UTC)))

        done = _run("check-config", str(path))

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            f"{path} is valid: servers in it: 2, in target files: 0",
            "host facts over WinRM: 0, from facts files: 1, of 2 servers",
        ]

    def test_facts_files_that_are_of_no_use(self, tmp_path: Path) -> None:
        """A warning with the reason; the configuration is valid all the same, for somebody else brings the file."""
        machine, at = load("exchange-se-on-2025"), datetime.now(UTC)
        cases: dict[str, str | None] = {
            "file_unreadable: {}: No such file or directory": None,
            "bad_document: {}: it is empty": "",
            "other_host: {}: it is about exch2016a": output(load("exchange-2016-cu7-on-2012-r2"), at),
            "stale: {}: collected at ": output(machine, at - timedelta(days=3)),
            "bad_document: {}: collected at ": output(machine, at + timedelta(days=3)),
        }
        for number, (why, content) in enumerate(cases.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = self._with_facts_file(folder, content, max_age="2d")

            done = _run("check-config", str(path))

            start = f"warning: {machine.fqdn}: facts_file: {why.format(folder / 'exch.txt')}"
            assert (done.returncode, done.stderr[: len(start)], done.stderr.count("\n")) == (0, start, 1)
            assert done.stdout.startswith(f"{path} is valid: ")

    def test_facts_files_of_targets_in_files(self, tmp_path: Path) -> None:
        """They are looked at as well."""
        path, targets = tmp_path / "tls-readiness.yml", tmp_path / "targets" / "more.yml"
        targets.parent.mkdir()
        targets.write_text("- targets: [exch02.test]\n  labels: {__facts_file__: exch02.txt}")
        path.write_text("file_sd_configs: [{files: [targets/more.yml]}]")

        done = _run("check-config", str(path))

        assert done.returncode == 0
        assert done.stderr == (
            f"warning: exch02.test: facts_file: file_unreadable: {targets.parent / 'exch02.txt'}: "
            "No such file or directory\n"
        )


class TestServe:
    def _config(self, tmp_path: Path, *servers: dict[str, Any], **settings: Any) -> str:
        path = tmp_path / "tls-readiness.yml"
        path.write_text(json.dumps({"servers": servers, **settings}))
        return str(path)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals_end_a_sweep_under_way(self, tmp_path: Path, number: signal.Signals) -> None:
        """Within three seconds, though the peer never answers."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = {"port": silent.getsockname()[1], "service": "https"}
            path = self._config(tmp_path, {"name": "127.0.0.1", "endpoints": [endpoint]}, probe={"timeout": "1m"})
            port = _free_port()
            with _running("serve", "--config.file", path, "--web.listen-address", f"127.0.0.1:{port}") as process:
                assert "not_observed_yet" in _get(f"http://127.0.0.1:{port}/metrics")
                with silent.accept()[0] as connection:
                    connection.recv(1000)
                    process.send_signal(number)
                    assert process.wait(timeout=3) == 0

    @pytest.mark.parametrize("log_format", ["json", "logfmt"])
    def test_logs(self, tmp_path: Path, log_format: str) -> None:
        """One object, or one line of pairs, for each event."""
        path = self._config(tmp_path, {"name": "127.0.0.1", "endpoints": [{"port": 1, "service": "https"}]})
        port = _free_port()
        with _running(
            "serve", f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=debug", f"--log.format={log_format}",
        ) as process:  # fmt: skip
            _get(f"http://127.0.0.1:{port}/-/ready")
            process.terminate()
            lines = process.communicate(timeout=10)[1].splitlines()

        if log_format == "json":
            events = [json.loads(line) for line in lines]
            assert {"serving", "swept"} <= {event["event"] for event in events}
            assert all({"ts", "level", "logger"} <= set(event) for event in events)
        else:
            assert all(line.startswith("ts=") and " level=" in line for line in lines)
            assert any("endpoint=127.0.0.1:1" in line and "TLS_1.2=unknown:tcp_refused" in line for line in lines)

    def test_sighup_is_answered(self, tmp_path: Path) -> None:
        """It does not end the exporter; the log says what to do."""
        path = self._config(tmp_path, {"name": "127.0.0.1", "endpoints": [{"port": 1, "service": "https"}]})
        port = _free_port()
        with _running("serve", f"--config.file={path}", f"--web.listen-address=127.0.0.1:{port}") as process:
            _get(f"http://127.0.0.1:{port}/-/ready")
            process.send_signal(signal.SIGHUP)
            _get(f"http://127.0.0.1:{port}/-/healthy")
            process.terminate()
            output = process.communicate(timeout=10)[1]

        assert "restart to apply a change" in output
        assert 'event="every server was swept" profile=wire-tls12 unknown=1' in output

    def test_a_port_that_is_taken(self, tmp_path: Path) -> None:
        """Exit 2 with the reason."""
        path = self._config(tmp_path, {"name": "127.0.0.1"})
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = _run("serve", "--config.file", path, f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}")

        assert done.returncode == 2
        assert "Address already in use" in done.stderr
        assert "Traceback" not in done.stderr


def test_demo() -> None:
    """A table, a URL, and metrics that agree with what each simulated server is."""
    port = _free_port()
    with _running("demo", f"--web.listen-address=127.0.0.1:{port}") as process:
        metrics = _get(f"http://127.0.0.1:{port}/metrics", seconds=40)
        _get(f"http://127.0.0.1:{port}/-/ready")
        names = {f"{name}.demo.test" for name, *_ in FLEET}
        end = time.monotonic() + 40
        while (hosts := set(_HOST.findall(metrics))) != names and time.monotonic() < end:
            time.sleep(0.1)  # they are asked, which takes longer than a sweep
            metrics = _get(f"http://127.0.0.1:{port}/metrics")
        process.terminate()
        output = process.communicate(timeout=10)[0]

    assert f"http://127.0.0.1:{port}/metrics" in output
    for name, (tls12, only) in READY.items():
        for profile, ready in (("wire-tls12", tls12), ("wire-tls12-only", only)):
            state = "ready" if ready else "not_ready"
            series = f'tls_readiness_server_state{{profile="{profile}",server="{name}.demo.test",state="{state}"}} 1.0'
            assert series in metrics
    assert 'server="switched-off.demo.test",state="unknown"} 1.0' in metrics
    assert hosts == names
    assert (
        'endpoint_up{endpoint="switched-off.demo.test:1",server="switched-off.demo.test",service="https"} 0.0'
        in metrics
    )


def test_version_and_help() -> None:
    """Every command is listed."""
    assert re.fullmatch(r"tls-readiness \d+\.\d+\.\d+\n", _run("--version").stdout)
    assert {"serve", "audit", "check-config", "collector-script", "demo"} <= set(_run("--help").stdout.split())
