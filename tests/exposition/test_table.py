"""What the terminal shows: versions, certificates, cipher suites, advice, and why something is not there."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from exporter.exposition.table import _restart, tables
from exporter.facts import NOT_WANTED, REBOOT_KINDS, EndpointFacts, Fact, HostFacts, Known, Missing, Protocol, Reason
from exporter.rules.certificates import CERTIFICATES_SOUND
from exporter.rules.cipher_suites import CIPHER_SUITES_RECOMMENDED
from exporter.snapshot import Snapshot

from builders import (
    NOW,
    RECOMMENDED_SUITES,
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

DAY = 86400.0
CBC = "TLS_RSA_WITH_AES_256_CBC_SHA"


def _show(snapshot: Snapshot, width: int = 200) -> str:
    """What a terminal of that width shows, without colours."""
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(tables(snapshot))
    return stream.getvalue()


def _shown(*endpoints: EndpointFacts) -> str:
    return _show(fleet(server_snapshot(*endpoints)))


def _section(text: str, title: str) -> list[list[str]]:
    """The rows below the heads of a section, in cells; a row of several lines is several rows."""
    lines = text.splitlines()
    rows = lines[lines.index(next(line for line in lines if line.strip() == title)) :]
    rows = rows[next(number for number, line in enumerate(rows) if "──" in line) + 1 :]
    body = rows[: next(number for number, line in enumerate(rows) if not line.strip())]
    return [re.split(r"\s{2,}", line.strip()) for line in body]


def _presenting(port: int = 443, **changes: object) -> EndpointFacts:
    return endpoint_facts(port=port).after_scan(scan(chain(certificate(**changes))), DAY)


def _offering(
    suites: Mapping[Protocol, Sequence[str] | Missing], pattern: str = "000010", port: int = 443
) -> EndpointFacts:
    facts: dict[Protocol, Fact[tuple[str, ...]]] = {
        protocol: found if isinstance(found, Missing) else Known(tuple(found), NOW)
        for protocol, found in suites.items()
    }
    return endpoint_facts(pattern, port).after_scan(replace(scan(), cipher_suites=facts), DAY)


class TestVersions:
    def test_each_endpoint_has_a_row(self) -> None:
        """Yes, no, or a question mark, SSL 2.0 first."""
        text = _shown(endpoint_facts(TLS10_TO_12), endpoint_facts("?0001?", 25, service="smtp"))

        assert _section(text, "Versions accepted") == [
            ["exch01.test:443", "https", "no", "no", "yes", "yes", "yes", "no"],
            ["exch01.test:25", "smtp", "?", "no", "no", "no", "yes", "?"],
        ]

    def test_every_question_mark_has_its_reason(self) -> None:
        """Versions with the same one together; none are named where it is all of them."""
        text = _shown(endpoint_facts("?0001?", 25), EndpointFacts("exch01.test:443", "https", "core"))

        lines = [line.strip() for line in text.splitlines() if line.startswith("?")]
        assert lines == [
            "? exch01.test:25 SSL 2.0, TLS 1.3: tls_timeout: connected, then silence",
            "? exch01.test:443: not_observed_yet",
        ]

    def test_optional_endpoints_that_are_not_in_use_are_named_apart(self) -> None:
        """With nothing else said about them."""
        text = _shown(endpoint_facts(), closed_endpoint(143, "optional"), closed_endpoint(993, "optional"))

        assert "Optional endpoints never seen open, not judged: exch01.test:143, exch01.test:993" in text
        assert [row[0] for row in _section(text, "Versions accepted")] == ["exch01.test:443"]


class TestCertificates:
    def test_what_is_in_a_row(self) -> None:
        """What it is called, until when, its key, and how it is signed; whether it is for this server, and trusted."""
        assert _section(_shown(_presenting(key_type="EC", key_size=384, signature_hash="sha512")), "Certificates") == [
            ["exch01.test:443", "exch01.test", "2027-04-15", "EC 384", "sha512", "matches", "yes"]
        ]

    @pytest.mark.parametrize(
        ("matches_name", "trusted", "said"),
        [
            (False, Known(value=True, at=NOW), ["another", "yes"]),
            (True, Known(value=False, at=NOW, detail="self signed certificate"), ["matches", "no"]),
            (True, Missing(Reason.NOT_OBSERVED_YET, "scan.ca_file is not set"), ["matches", "-"]),
        ],
    )
    def test_whom_it_is_for_and_who_trusts_it(self, matches_name: bool, trusted: Fact[bool], said: list[str]) -> None:  # noqa: FBT001
        """A dash where nobody asked whether it is trusted."""
        seen = scan(chain(matches_name=matches_name, trusted=trusted))

        (row,) = _section(_shown(endpoint_facts().after_scan(seen, DAY)), "Certificates")
        assert row[-2:] == said

    def test_endpoints_with_the_same_certificate_share_a_row(self) -> None:
        """A server's mostly do; another one has its own."""
        text = _shown(_presenting(), _presenting(25), _presenting(587, subject="CN=mail.test"))

        first, second, third = _section(text, "Certificates")
        assert (first[:2], second) == (["exch01.test:443", "exch01.test"], ["exch01.test:25"])
        assert third[:2] == ["exch01.test:587", "mail.test"]

    def test_every_certificate_of_an_endpoint_is_shown(self) -> None:
        """RSA and EC; the leaves alone."""
        intermediate = certificate(subject="CN=Test CA")
        rsa, elliptic = certificate(), certificate(key_type="EC", key_size=256)
        text = _shown(endpoint_facts().after_scan(scan(chain(rsa, intermediate), chain(elliptic)), DAY))

        assert [row[3] for row in _section(text, "Certificates")] == ["RSA 2048", "EC 256"]

    def test_a_leaf_that_comes_with_different_intermediates_is_shown_once(self) -> None:
        """The endpoint is not there twice either."""
        seen = scan(chain(certificate()), chain(certificate(), certificate(subject="CN=Test CA")))

        assert len(_section(_shown(endpoint_facts().after_scan(seen, DAY)), "Certificates")) == 1

    @pytest.mark.parametrize(
        ("subject", "called"),
        [
            ("CN=exch01.test,OU=Mail,O=Contoso", "exch01.test"),
            ("O=Contoso,C=VN", "O=Contoso,C=VN"),
            ("", "0123456789abcdef"),
            ("CN=[bold red]not markup[/bold red]", "[bold red]not markup[/bold red]"),
            ("CN=[link=https://a.test]x", "[link=https://a.test]x"),
            ("CN=:smile:", ":smile:"),
        ],
    )
    def test_what_it_is_called(self, subject: str, called: str) -> None:
        """The common name, else all of the subject, else the fingerprint; literally, whatever it looks like."""
        (row,) = _section(_shown(_presenting(subject=subject)), "Certificates")

        assert row[1] == called

    def test_a_fault_is_shown_literally_as_well(self) -> None:
        """The evidence of a rule has the subject, too."""
        text = _shown(_presenting(subject="CN=[bold]a[/bold]", key_size=1024))

        assert "exch01.test:443: CN=[bold]a[/bold] has the key RSA 1024" in text

    def test_a_certificate_for_ever_has_a_date(self) -> None:
        """The last one that X.509 can write."""
        (row,) = _section(_shown(_presenting(not_after=253402300799.0)), "Certificates")

        assert row[2] == "9999-12-31"


class TestCipherSuites:
    def test_endpoints_with_the_same_list_share_a_row(self) -> None:
        """A server's mostly do; others have their own."""
        same = {Protocol.TLS_1_2: RECOMMENDED_SUITES}
        text = _shown(_offering(same), _offering(same, port=25), _offering({Protocol.TLS_1_2: [CBC]}, port=587))

        assert _section(text, "Cipher suites accepted") == [
            ["exch01.test:443", "TLS 1.2", ", ".join(RECOMMENDED_SUITES)],
            ["exch01.test:25"],
            ["exch01.test:587", "TLS 1.2", CBC],
        ]

    def test_versions_with_the_same_list_share_a_row(self) -> None:
        """The older first."""
        text = _shown(_offering({Protocol.TLS_1_2: [CBC], Protocol.TLS_1_0: [CBC]}, TLS10_TO_12))

        first, second = _section(text, "Cipher suites accepted")
        assert (first, second) == (["exch01.test:443", "TLS 1.0", CBC], ["TLS 1.2"])

    def test_what_is_missing_is_there_with_its_reason(self) -> None:
        """Beside the lists that are known."""
        over = Missing(Reason.DEADLINE, "the scan's 9 connections are used up; accepted so far: TLS_A")
        text = _shown(_offering({Protocol.TLS_1_2: [CBC], Protocol.TLS_1_0: over}, TLS10_TO_12))

        assert _section(text, "Cipher suites accepted") == [
            ["exch01.test:443", "TLS 1.0", "? deadline: the scan's 9 connections are used up; accepted so far: TLS_A"],
            ["exch01.test:443", "TLS 1.2", CBC],
        ]


class TestHosts:
    def _rows(self, *hosts: HostFacts) -> list[list[str]]:
        servers = [server_snapshot(name=f"exch0{number}.test", host=host) for number, host in enumerate(hosts, 1)]
        return _section(_show(fleet(*servers)), "Hosts")

    def test_each_host_has_a_row(self) -> None:
        """Exchange, Windows, .NET, the newest update, whether a restart is pending, and when it was asked."""
        assert self._rows(host_facts(simulation=""), host_facts("domain-controller-on-2008-r2", simulation="")) == [
            ["exch01.test", "15.1.2507.61", "Server 2016", "528049", "2025-10-21", "no", "2027-01-15"],
            ["exch02.test", "none", "Server 2008 R2", "none", "2017-07-18", "no", "2027-01-15"],
        ]

    def test_a_simulated_host_says_so(self) -> None:
        """It is none that runs anywhere."""
        ((server, _, windows, *_),) = self._rows(host_facts())

        assert (server, windows) == ("exch01.test (simulated)", "Server 2016")

    @pytest.mark.parametrize(
        ("caption", "shown"),
        [
            ("Microsoft Windows Server 2025 Datacenter", "Server 2025"),
            ("Microsoft Windows Server 2012 R2 Standard", "Server 2012 R2"),
            ("Microsoft\N{REGISTERED SIGN} Windows Server\N{REGISTERED SIGN} 2008 Standard", "Server 2008"),
            ("Microsoft Windows Server 2008 R2 Enterprise ", "Server 2008 R2"),
            ("Microsoft Hyper-V Server 2019", "Server 2019"),
            ("Microsoft Windows 11 Enterprise", "Microsoft Windows 11 Enterprise"),
            ("Microsoft Windows Server Datacenter", "Microsoft Windows Server Datacenter"),
        ],
    )
    def test_windows_is_called_as_people_call_it(self, caption: str, shown: str) -> None:
        """The edition takes room and means nothing here; what is no such server keeps its name."""
        host = host_facts(simulation="")
        ((_, _, windows, *_),) = self._rows(replace(host, windows=replace(host.windows, caption=Known(caption, NOW))))

        assert windows == shown

    @pytest.mark.parametrize("width", [80, 100, 120])
    def test_the_name_is_in_one_piece(self, width: int) -> None:
        """To be searched for and copied; the other cells fold."""
        name = "exch2016a.hanoi.contoso.test"
        text = _show(fleet(server_snapshot(name=name, host=host_facts("exchange-2016-cu7-on-2012-r2"))), width)

        assert re.search(rf"^ ?{re.escape(name)} \(simulated\) ", text[text.index("Hosts") :], re.MULTILINE)

    def test_who_awaits_a_restart(self) -> None:
        """Each that asks for it."""
        ((*_, restart, _),) = self._rows(host_facts("exchange-2016-cu7-on-2012-r2"))

        assert restart == "cbs, update exe, file rename"

    @pytest.mark.parametrize(
        ("pending", "shown", "style"),
        [
            ((), "no", ""),
            (("file_rename",), "file rename", "dim"),
            (("cbs",), "cbs", "yellow"),
            (("windows_update", "file_rename"), "windows update, file rename", "yellow"),
        ],
    )
    def test_files_to_be_replaced_mean_little(self, pending: tuple[str, ...], shown: str, style: str) -> None:
        """Printer drivers and virus scanners leave them behind all the time: alone they are no warning."""
        cell = _restart(host_facts(reboot={kind: Known(kind in pending, NOW) for kind in REBOOT_KINDS}))

        assert (cell.plain, cell.style) == (shown, style)

    def test_what_is_unknown_has_its_reason(self) -> None:
        """In its place; the rest of the row is there."""
        host, denied = host_facts(simulation=""), Missing(Reason.ACCESS_DENIED, "denied")
        changed = replace(host, exchange=replace(host.exchange, build=denied), hotfixes=denied)
        changed = replace(changed, dotnet=replace(host.dotnet, release=Missing(Reason.WRONG_REGISTRY_TYPE, "")))

        assert self._rows(changed) == [
            [
                *("exch01.test", "? access_denied", "Server 2016", "? wrong_registry_type"),
                *("? access_denied", "no", "2027-01-15"),
            ]
        ]

    @pytest.mark.parametrize("known", [(), ("file_rename", "cbs")], ids=["nothing", "two kinds"])
    def test_whether_a_restart_is_pending_may_be_unknown(self, known: tuple[str, ...]) -> None:
        """Where somebody may ask for it of whom nothing is known, nobody can say that none does."""
        denied = Missing(Reason.ACCESS_DENIED, "denied")
        reboot = {kind: Known(value=False, at=NOW) if kind in known else denied for kind in REBOOT_KINDS}
        ((*_, restart, _),) = self._rows(host_facts(reboot=reboot))

        assert restart == "? access_denied"

    def test_who_asks_for_a_restart_counts_whatever_else_is_unknown(self) -> None:
        """One is enough."""
        denied = Missing(Reason.ACCESS_DENIED, "denied")
        reboot = {kind: Known(value=True, at=NOW) if kind == "cbs" else denied for kind in REBOOT_KINDS}
        ((*_, restart, _),) = self._rows(host_facts(reboot=reboot))

        assert restart == "cbs"

    def test_each_fact_that_could_not_be_read_has_a_line(self) -> None:
        """Once, however many facts it keeps from being known; not what nobody asked the script for."""
        denied = Missing(Reason.ACCESS_DENIED, "security: denied")
        odd = Missing(Reason.WRONG_REGISTRY_TYPE, "exchange.build: [b]")
        host = host_facts(fips=denied, hotfixes=denied, pending_updates=Missing(Reason.NOT_COLLECTED, "not asked"))
        text = _show(fleet(server_snapshot(host=replace(host, exchange=replace(host.exchange, build=odd)))))

        assert [line.rstrip() for line in text.splitlines() if line.startswith("? ")] == [
            "? exch01.test wrong_registry_type: exchange.build: [b]",
            "? exch01.test access_denied: security: denied",
        ]

    def test_servers_without_endpoints_have_no_empty_table_of_versions(self) -> None:
        """Their hosts alone."""
        text = _show(fleet(server_snapshot(host=host_facts(), ports=())))

        assert "Versions accepted" not in text
        assert text.startswith("\nHosts")

    def test_a_missing_host_has_a_line(self) -> None:
        """With its reason, below those that are known."""
        missing = server_snapshot(name="exch02.test", host=Missing(Reason.OTHER_HOST, "it is about exch03.test"))
        text = _show(fleet(server_snapshot(host=host_facts()), missing))

        assert "? exch02.test host: other_host: it is about exch03.test" in text
        assert [row[0] for row in _section(text, "Hosts")] == ["exch01.test (simulated)"]

    def test_a_reason_without_words_stands_alone(self) -> None:
        """Nothing hangs over."""
        text = _show(fleet(server_snapshot(host=Missing(Reason.NOT_OBSERVED_YET))))

        assert [line.rstrip() for line in text.splitlines() if "host" in line] == [
            "? exch01.test host: not_observed_yet"
        ]

    def test_where_none_is_known_there_is_no_empty_table(self) -> None:
        """The reasons alone."""
        text = _show(fleet(server_snapshot(host=Missing(Reason.FILE_UNREADABLE, "a.txt: No such file or directory"))))

        assert "? exch01.test host: file_unreadable: a.txt: No such file or directory" in text
        assert "Hosts" not in text

    def test_servers_that_nobody_asks_are_left_out(self) -> None:
        """No title, no question mark."""
        text = _show(fleet(server_snapshot(endpoint_facts())))

        assert "Hosts" not in text
        assert "host:" not in text

    def test_what_a_host_says_is_shown_literally(self) -> None:
        """Whatever it looks like."""
        host = host_facts(simulation="")
        ((_, _, windows, *_),) = self._rows(replace(host, windows=replace(host.windows, caption=Known("[red]x", NOW))))

        assert windows == "[red]x"


class TestWhatIsMissing:
    @pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.WORKER_DIED, Reason.CONTRADICTORY])
    def test_a_failed_scan_gives_its_reason(self, reason: Reason) -> None:
        """Of the certificates, on a line of its own."""
        text = _shown(_presenting(), endpoint_facts(port=25).after_scan(failed_scan(reason), DAY))

        assert f"? exch01.test:25 certificates: {reason}: the scan: {reason}" in text
        assert [row[0] for row in _section(text, "Certificates")] == ["exch01.test:443"]

    def test_where_no_scan_found_any_there_is_no_empty_table(self) -> None:
        """The reason alone."""
        text = _shown(endpoint_facts().after_scan(failed_scan(), DAY))

        assert "? exch01.test:443 certificates: deadline: the scan: deadline" in text
        assert "for this name" not in text

    def test_what_is_too_old_is_stale(self) -> None:
        """Both parts."""
        text = _shown(_presenting().aged(NOW + 4 * DAY, 30 * DAY, 3 * DAY))

        assert "? exch01.test:443 certificates: stale: the last answer is older than 259200 s" in text
        assert _section(text, "Cipher suites accepted")[0][2].startswith("? stale: ")

    @pytest.mark.parametrize(
        "facts",
        [
            endpoint_facts(),
            endpoint_facts().after_scan(replace(scan(), certificates=NOT_WANTED, cipher_suites={}), DAY),
        ],
        ids=["never scanned", "scanned for nothing"],
    )
    def test_parts_that_are_switched_off_are_silent(self, facts: EndpointFacts) -> None:
        """No title, no question mark."""
        text = _shown(facts)

        assert "ertificates" not in text
        assert "ipher suites" not in text
        assert "?" not in text

    @pytest.mark.parametrize(
        ("changes", "there", "silent"),
        [
            ({"certificates": NOT_WANTED}, "Cipher suites accepted", "Certificates"),
            ({"cipher_suites": {}}, "Certificates", "Cipher suites accepted"),
        ],
    )
    def test_one_part_may_be_switched_off(self, changes: dict[str, Any], there: str, silent: str) -> None:
        """The other is shown."""
        titles = [
            line.strip() for line in _shown(endpoint_facts().after_scan(replace(scan(), **changes), DAY)).splitlines()
        ]

        assert there in titles
        assert silent not in titles

    def test_endpoints_that_are_not_in_use_show_nothing(self) -> None:
        """Not the certificate of long ago either."""
        gone = replace(_presenting(143, subject="CN=gone"), origin="optional", ever_open=False)

        assert "gone" not in _shown(_presenting(), gone)


def _lines(text: str, shown: str) -> list[str]:
    """The lines that a text was broken into."""
    lines = [line.strip() for line in shown.splitlines()]
    first = next(index for index, line in enumerate(lines) if line and text.startswith(line))
    for last in range(first + 1, len(lines) + 1):
        if " ".join(lines[first:last]) == text:
            return lines[first:last]
    raise AssertionError(text)


class TestAdvice:
    def test_what_failed_is_named_with_its_evidence(self) -> None:
        """Per server and rule."""
        first = server_snapshot(_presenting(signature_hash="sha1"))
        second = server_snapshot(_offering({Protocol.TLS_1_2: [CBC]}), name="exch02.test")
        text = _show(fleet(first, second))

        advice = text[text.index("Advice") : text.index("Readiness")]
        assert [line.strip() for line in advice.splitlines() if line.strip()] == [
            "Advice",
            "exch01.test certificates-sound",
            "exch01.test:443: CN=exch01.test is signed with SHA-1",
            *_lines(CERTIFICATES_SOUND.remedy, advice),
            "exch02.test cipher-suites-recommended",
            f"not recommended: exch01.test:443: {CBC}",
            *_lines(CIPHER_SUITES_RECOMMENDED.remedy, advice),
        ]

    @pytest.mark.parametrize("facts", [_presenting(), endpoint_facts()], ids=["passed", "unknown"])
    def test_where_none_failed_there_is_none(self, facts: EndpointFacts) -> None:
        """What is unknown is no advice."""
        assert "Advice" not in _shown(facts)

    def test_it_does_not_stand_in_the_way(self) -> None:
        """The server is ready all the same, and there is no next step."""
        text = _shown(_presenting(signature_hash="sha1"))

        assert _section(text, "Readiness") == [["exch01.test", "ready", "ready"]]
        assert "Next steps" not in text


def test_next_steps_name_the_servers_that_they_are_for() -> None:
    """Each step once."""
    servers = [server_snapshot(endpoint_facts(TLS10_TO_12), name=f"exch0{number}.test") for number in (1, 2)]
    text = _show(fleet(*servers))

    steps = text[text.index("Next steps") :]
    assert "exch01.test, exch02.test" in steps
    assert steps.count("disable SSL 2.0 to TLS 1.1") == 1


@pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 40, 80, 120, 1000])
def test_any_width_will_do(width: int) -> None:
    """It may become hard to read, but it is printed, and nothing runs over from where lines can be kept on."""
    facts = (
        _presenting(subject="CN=[bold]a name that is rather long for a narrow terminal", key_size=1024),
        _offering({Protocol.TLS_1_2: [*RECOMMENDED_SUITES, CBC]}, port=25),
        endpoint_facts("??????", 587).after_scan(failed_scan(), DAY),
        closed_endpoint(143, "optional"),
    )
    hosts = (host_facts("exchange-2016-cu7-on-2012-r2"), Missing(Reason.FILE_UNREADABLE, "/a/long/path: no such file"))
    text = _show(fleet(server_snapshot(*facts), *(server_snapshot(host=host) for host in hosts)), width)

    assert text.count("\n") > 20
    if width >= 20:
        assert max(map(len, text.splitlines())) <= width


def test_a_fleet_without_servers_is_shown() -> None:
    """Heads alone."""
    assert "Readiness" in _show(fleet())
