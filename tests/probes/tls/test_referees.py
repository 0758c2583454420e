"""Referees: sslscan and testssl.sh look at the same servers as the sweep does, and must come to the same answers.

Where one of them does not, `referee_differences.yml` says so, with the reason on the wire. A difference that is not
listed there fails, and so does one that is listed and no longer occurs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias
from xml.etree import ElementTree as ET

import pytest
import yaml

from exporter.facts import EndpointSweep, Fact, Missing, Protocol

from real_servers import S2, TABLE, Server

Said: TypeAlias = dict[Protocol, str]
"""What a referee says of each version: ``offered``, ``not offered``, or in its own words why it cannot tell."""

DIFFERENCES: Final = Path(__file__).with_name("referee_differences.yml")
REFEREES: Final = ("sslscan", "testssl")
NO_ANSWER: Final = "no answer"
_LIMIT: Final = 180.0
"""Seconds after which a referee is ended. testssl.sh is a shell script and needs ten of them on an idle machine."""

_STARTTLS: Final = frozenset({"smtp", "imap", "pop3"})

_SSLSCAN: Final = {
    Protocol.SSL_2_0: ("ssl", "2"),
    Protocol.SSL_3_0: ("ssl", "3"),
    Protocol.TLS_1_0: ("tls", "1.0"),
    Protocol.TLS_1_1: ("tls", "1.1"),
    Protocol.TLS_1_2: ("tls", "1.2"),
    Protocol.TLS_1_3: ("tls", "1.3"),
}
_TESTSSL: Final = {
    Protocol.SSL_2_0: "SSLv2",
    Protocol.SSL_3_0: "SSLv3",
    Protocol.TLS_1_0: "TLS1",
    Protocol.TLS_1_1: "TLS1_1",
    Protocol.TLS_1_2: "TLS1_2",
    Protocol.TLS_1_3: "TLS1_3",
}


def ask_sslscan(server: Server) -> Said:
    """Protocols only. The target is a name where possible: sslscan sends an address as SNI."""
    nothing_else = ("ciphersuites", "fallback", "groups", "heartbleed", "renegotiation", "compression")
    command = ["sslscan", "--no-check-certificate", *(f"--no-{test}" for test in nothing_else), "--xml=-"]
    if server.row.service in _STARTTLS:
        command.append(f"--starttls-{server.row.service}")
    if ":" in server.row.address:  # localhost need not have an IPv6 address
        command += ["--ipv6", "--sni-name=localhost", f"[{server.row.address}]:{server.port}"]
    else:
        command += ["--ipv4", f"localhost:{server.port}"]
    # The system's own policy must not decide which versions sslscan can offer.
    output = _run(command, {"OPENSSL_CONF": "/dev/null"})
    try:
        found = ET.fromstring(output).findall(".//protocol")
    except ET.ParseError:
        found = []
    enabled = {(each.get("type"), each.get("version")): each.get("enabled") for each in found}
    words = {"1": "offered", "0": "not offered"}
    return {protocol: words.get(enabled.get(key) or "", NO_ANSWER) for protocol, key in _SSLSCAN.items()}


def ask_testssl(server: Server, folder: Path) -> Said:
    """Protocols only, without any DNS."""
    report = folder / f"{server.name}.json"
    report.unlink(missing_ok=True)
    command = ["testssl", "--protocols", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"]
    command += ["--connect-timeout", "10", "--openssl-timeout", "10", "--jsonfile", str(report)]
    command += ["--ip", server.row.address, *(["-6"] if ":" in server.row.address else [])]
    if server.row.service in _STARTTLS:
        command += ["--starttls", server.row.service]
    _run([*command, f"localhost:{server.port}"], {"LC_ALL": "C"})
    try:
        findings = {each["id"]: str(each["finding"]) for each in json.loads(report.read_text())}
    except (OSError, ValueError):
        findings = {}
    return {protocol: _in_a_word(findings.get(key, "")) for protocol, key in _TESTSSL.items()}


def _in_a_word(finding: str) -> str:
    if re.match(r"offered|vulnerable with \d+ ciphers", finding):
        return "offered"
    if re.match(r"(TLSv1\.1 is )?not offered", finding):
        return "not offered"
    return finding or NO_ANSWER


def _run(command: list[str], environment: Mapping[str, str]) -> str:
    """The output of a referee that is ended, whatever it does, when its time is up."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT,
            env=os.environ | environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout


@pytest.fixture(scope="session")
def said(
    real_servers: Mapping[str, Server], swept: Mapping[str, EndpointSweep], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, str], Said]:
    """What each referee says of each server. One after the other at a server: some serve one client at a time."""
    assert len(swept) == len(real_servers)  # our own sweep is over before the referees come
    folder = tmp_path_factory.mktemp("testssl")

    def ask(server: Server) -> dict[tuple[str, str], Said]:
        answers: dict[tuple[str, str], Said] = {}
        for referee in REFEREES:
            for _ in range(2):  # once more where it came to no answer: these machines may be busy
                said = ask_sslscan(server) if referee == "sslscan" else ask_testssl(server, folder)
                answers[referee, server.name] = said
                if NO_ANSWER not in said.values():
                    break
        return answers

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)) + 1) as executor:
        return {key: said for answers in executor.map(ask, real_servers.values()) for key, said in answers.items()}


Difference: TypeAlias = tuple[str, str]
"""Our word and the referee's."""


def _listed() -> Iterator[tuple[tuple[str, str, Protocol], Difference]]:
    """The cells of the list: referee, server and version, and what each of the two says."""
    for entry in yaml.safe_load(DIFFERENCES.read_text()):
        for server in entry["servers"]:
            yield (entry["referee"], server, Protocol(entry["version"])), (entry["ours"], entry["theirs"])


def _our_word(fact: Fact[bool]) -> str:
    if isinstance(fact, Missing):
        return f"unknown, {fact.reason}"
    return "accepted" if fact.value else "rejected"


_SAME: Final = frozenset({("accepted", "offered"), ("rejected", "not offered")})


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("referee", REFEREES)
def test_the_referee_agrees_but_for_what_is_listed(
    referee: str, name: str, swept: Mapping[str, EndpointSweep], said: Mapping[tuple[str, str], Said]
) -> None:
    """The differences that occur are those that are listed, each with both words as they are listed."""
    both = {
        protocol: (_our_word(swept[name].accepted[protocol]), said[referee, name][protocol]) for protocol in Protocol
    }
    differences = {protocol: words for protocol, words in both.items() if words not in _SAME}
    listed = {key[2]: words for key, words in _listed() if key[:2] == (referee, name)}
    assert differences == listed


@pytest.mark.parametrize("referee", REFEREES)
def test_the_referees_see_ssl2_in_the_simulation(referee: str, said: Mapping[tuple[str, str], Said]) -> None:
    """The SERVER-HELLO of the simulation is one that two independent clients take for SSL 2.0."""
    simulations = [name for name, row in TABLE.items() if S2 in row.accepted]
    assert simulations
    assert {said[referee, name][S2] for name in simulations} == {"offered"}


def test_the_list_of_differences_is_well_formed() -> None:
    """Every entry names a referee, a version, servers of the table, both words and a reason; no cell twice."""
    entries: list[dict[str, Any]] = yaml.safe_load(DIFFERENCES.read_text())
    for entry in entries:
        assert entry.keys() == {"referee", "version", "servers", "ours", "theirs", "reason"}
        assert entry["referee"] in REFEREES
        assert set(entry["servers"]) <= TABLE.keys()
        assert len(entry["reason"]) > 40
    cells = [key for key, _ in _listed()]
    assert len(cells) == len(set(cells))
