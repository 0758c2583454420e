"""The JSON document: the fields that were promised, what scans found, and why something is not there."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

import exporter
from exporter.demo.machines import MACHINES
from exporter.exposition.report import document
from exporter.facts import (
    NOT_WANTED,
    EndpointFacts,
    Fact,
    HostFacts,
    Known,
    Missing,
    Protocol,
    Reason,
    StoredCertificate,
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
    swept,
)

AT = "2027-01-15T08:00:00Z"
DAY = 86400.0


def _server(*endpoints: EndpointFacts, **changes: Any) -> dict[str, Any]:
    """What a reader of the document has of one server: after a trip through JSON."""
    read = json.loads(json.dumps(document(fleet(server_snapshot(*endpoints, **changes)))))
    (server,) = read["servers"]
    assert isinstance(server, dict)
    return server


def _endpoint(facts: EndpointFacts) -> dict[str, Any]:
    (endpoint,) = _server(facts)["endpoints"]
    assert isinstance(endpoint, dict)
    return endpoint


class TestWhatWasPromised:
    def test_the_document(self) -> None:
        """Version of the schema, when it was made, and by what."""
        made = document(fleet(server_snapshot(endpoint_facts()), server_snapshot(name="exch02.test")))

        assert {key: value for key, value in made.items() if key != "servers"} == {
            "schema_version": 1,
            "generated_at": AT,
            "version": exporter.__version__,
        }
        assert [server["server"] for server in made["servers"]] == ["exch01.test", "exch02.test"]

    def test_a_server(self) -> None:
        """Its labels, when it was observed, its profiles, endpoints and rules."""
        server = _server(endpoint_facts().after_scan(scan(at=NOW - 60), DAY), labels={"site": "hanoi"})

        assert {"server", "labels", "observed", "profiles", "endpoints", "rules"} <= set(server)
        assert server["labels"] == {"site": "hanoi"}
        assert server["observed"] == {"sweep": AT, "scan": "2027-01-15T07:59:00Z", "collect": None}

    def test_before_anything_was_observed(self) -> None:
        """Null, not 1970."""
        server = _server(EndpointFacts("exch01.test:443", "https", "core"))

        assert server["observed"] == {"sweep": None, "scan": None, "collect": None}
        assert server["profiles"]["wire-tls12"]["reason"] == "not_observed_yet"

    def test_profiles(self) -> None:
        """The state, what is in the way, and the next step."""
        profiles = _server(endpoint_facts(TLS10_TO_12))["profiles"]

        assert profiles["wire-tls12"] == {"state": "ready", "blockers": [], "unknown": [], "next_step": ""}
        blocked = profiles["wire-tls12-only"]
        assert (blocked["state"], blocked["blockers"]) == ("not_ready", ["endpoints-reject-legacy"])
        assert blocked["next_step"].startswith("Only once every server has passed parts 1 and 2")

    def test_endpoints(self) -> None:
        """What each version is: accepted, rejected and how, or unknown and why."""
        endpoint = _endpoint(endpoint_facts("?0001?", 25, service="smtp", origin="configured"))

        assert [endpoint[key] for key in ("endpoint", "service", "origin")] == ["exch01.test:25", "smtp", "configured"]
        assert list(endpoint["protocols"]) == ["SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3"]
        assert endpoint["protocols"]["TLS 1.2"] == {"state": "accepted", "at": AT}
        assert endpoint["protocols"]["TLS 1.0"]["state"] == "rejected"
        assert endpoint["protocols"]["TLS 1.0"]["reason"] == "connection_reset"
        assert endpoint["protocols"]["SSL 2.0"] == {
            "state": "unknown",
            "reason": "tls_timeout",
            "detail": "connected, then silence",
        }

    def test_optional_endpoints_that_are_not_in_use_are_apart(self) -> None:
        """Named with what their port showed, and not among those that count."""
        server = _server(endpoint_facts(), closed_endpoint(143, "optional"))

        assert [endpoint["endpoint"] for endpoint in server["endpoints"]] == ["exch01.test:443"]
        assert server["endpoints_not_in_use"] == [
            {"endpoint": "exch01.test:143", "service": "https", "door": "refused"}
        ]

    def test_rules(self) -> None:
        """Each with its state, what it rests on, what to do, and where that is written."""
        rules = {rule.pop("rule"): rule for rule in _server(endpoint_facts(TLS10_TO_12))["rules"]}

        assert list(rules) == [
            "endpoints-accept-tls12",
            "endpoints-reject-legacy",
            "certificates-sound",
            "cipher-suites-recommended",
        ]
        assert all({"state", "severity", "evidence", "remedy", "source"} <= set(rule) for rule in rules.values())
        failed, unknown = rules["endpoints-reject-legacy"], rules["certificates-sound"]
        assert (failed["state"], failed["severity"]) == ("failed", "blocker")
        assert failed["evidence"] == "still accepted: exch01.test:443 (TLS 1.0, TLS 1.1)"
        assert (unknown["state"], unknown["severity"], unknown["reason"]) == ("unknown", "advice", "not_observed_yet")


class TestCertificates:
    def _chains(self, facts: EndpointFacts) -> Any:
        return _endpoint(facts)["certificates"]

    def test_a_certificate(self) -> None:
        """All that was seen of it."""
        leaf = certificate(names=("exch01.test", "192.0.2.1"), signature_hash="sha512", key_type="EC", key_size=384)
        known = self._chains(endpoint_facts().after_scan(scan(chain(leaf)), DAY))

        assert (known["state"], known["at"]) == ("known", AT)
        assert known["value"] == [
            {
                "matches_name": True,
                "trusted": {"state": "known", "at": AT, "value": True},
                "certificates": [
                    {
                        "subject": "CN=exch01.test",
                        "issuer": "CN=Test CA",
                        "names": ["exch01.test", "192.0.2.1"],
                        "not_before": "2027-01-05T08:00:00Z",
                        "not_after": "2027-04-15T08:00:00Z",
                        "public_key": "EC 384",
                        "signature_hash": "sha512",
                        "sha512_signed": True,
                        "fingerprint_sha256": "0123456789abcdef" * 4,
                    }
                ],
            }
        ]

    def test_chains_and_what_is_in_them_keep_their_order(self) -> None:
        """The leaf first, as the server sent them."""
        names = [["CN=rsa", "CN=ca", "CN=root"], ["CN=ec", "CN=ca"]]
        chains = [chain(*(certificate(subject=name) for name in each)) for each in names]
        known = self._chains(endpoint_facts().after_scan(scan(*chains), DAY))

        assert [[each["subject"] for each in found["certificates"]] for found in known["value"]] == names

    def test_only_a_sha512_signature_is_one(self) -> None:
        """Windows before Server 2016 needs an update for it (part 1 of the guidance)."""
        hashes = ("sha512", "sha256", "sha1", "")
        chains = [chain(certificate(signature_hash=each)) for each in hashes]
        known = self._chains(endpoint_facts().after_scan(scan(*chains), DAY))

        signed = [found["certificates"][0]["sha512_signed"] for found in known["value"]]
        assert signed == [True, False, False, False]

    def test_a_key_of_an_unknown_kind(self) -> None:
        """It has a name all the same."""
        known = self._chains(endpoint_facts().after_scan(scan(chain(certificate(key_type="", key_size=0))), DAY))

        assert known["value"][0]["certificates"][0]["public_key"] == "unknown"

    @pytest.mark.parametrize(
        ("trusted", "said"),
        [
            (Known(value=True, at=NOW), {"trusted": {"state": "known", "at": AT, "value": True}}),
            (
                Known(value=False, at=NOW, detail="certificate has expired"),
                {"trusted": {"state": "known", "at": AT, "value": False}, "objection": "certificate has expired"},
            ),
            (
                Missing(Reason.NOT_OBSERVED_YET, "scan.ca_file is not set"),
                {"trusted": {"state": "unknown", "reason": "not_observed_yet", "detail": "scan.ca_file is not set"}},
            ),
        ],
        ids=["trusted", "not trusted", "unknown"],
    )
    def test_trust(self, trusted: Fact[bool], said: dict[str, Any]) -> None:
        """With what OpenSSL has against it, or why nobody knows."""
        known = self._chains(endpoint_facts().after_scan(scan(chain(matches_name=False, trusted=trusted)), DAY))

        (found,) = known["value"]
        assert {key: found[key] for key in ("trusted", "objection") if key in found} == said
        assert found["matches_name"] is False

    @pytest.mark.parametrize(
        ("changes", "key", "said"),
        [
            ({"not_before": 0.0}, "not_before", "1970-01-01T00:00:00Z"),
            ({"not_before": -631152000.0}, "not_before", "1950-01-01T00:00:00Z"),
            ({"not_after": 253402300799.0}, "not_after", "9999-12-31T23:59:59Z"),
        ],
        ids=["the epoch", "1950", "for ever"],
    )
    def test_unlikely_dates_are_dates(self, changes: dict[str, float], key: str, said: str) -> None:
        """From the first that X.509 can write to the last. Null is for what was not seen."""
        known = self._chains(endpoint_facts().after_scan(scan(chain(certificate(**changes))), DAY))

        assert known["value"][0]["certificates"][0][key] == said

    def test_hostile_subjects_are_values(self) -> None:
        """Quotes, line feeds, terminal control, every script: the same text back."""
        subject = 'CN="}],\n\x1b[31m\\ \u202eevil bücher 日本 😀'
        known = self._chains(endpoint_facts().after_scan(scan(chain(certificate(subject=subject))), DAY))

        assert known["value"][0]["certificates"][0]["subject"] == subject


class TestCipherSuites:
    def test_per_version_that_was_scanned(self) -> None:
        """The suites in the order in which the server chose them; of one version they may be missing."""
        facts: dict[Protocol, Fact[tuple[str, ...]]] = {
            Protocol.TLS_1_2: Known(("TLS_B", "TLS_A"), NOW),
            Protocol.TLS_1_0: Missing(Reason.DEADLINE, "the scan's 100 connections are used up"),
        }
        endpoint = _endpoint(endpoint_facts(TLS10_TO_12).after_scan(replace(scan(), cipher_suites=facts), DAY))

        assert endpoint["cipher_suites"] == {
            "TLS 1.2": {"state": "known", "at": AT, "value": ["TLS_B", "TLS_A"]},
            "TLS 1.0": {
                "state": "unknown",
                "reason": "deadline",
                "detail": "the scan's 100 connections are used up",
            },
        }


class TestWhatIsMissing:
    @pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.WORKER_DIED, Reason.CONTRADICTORY])
    def test_a_failed_scan_gives_its_reason(self, reason: Reason) -> None:
        """To both parts; and the scan has a time all the same."""
        server = _server(endpoint_facts().after_scan(failed_scan(reason), DAY))

        unknown = {"state": "unknown", "reason": reason, "detail": f"the scan: {reason}"}
        assert server["endpoints"][0]["certificates"] == unknown
        assert server["endpoints"][0]["cipher_suites"] == {"TLS 1.2": unknown}
        assert server["observed"]["scan"] == AT

    def test_before_the_first_scan(self) -> None:
        """Not observed yet; versions that no scan looked at are left out."""
        endpoint = _endpoint(endpoint_facts())

        assert endpoint["certificates"] == {"state": "unknown", "reason": "not_observed_yet", "detail": ""}
        assert endpoint["cipher_suites"] == {}

    def test_what_is_too_old(self) -> None:
        """Its value is not there any more."""
        endpoint = _endpoint(endpoint_facts().after_scan(scan(), DAY).aged(NOW + 4 * DAY, 30 * DAY, 3 * DAY))

        stale = {"state": "unknown", "reason": "stale", "detail": "the last answer is older than 259200 s"}
        assert endpoint["certificates"] == stale
        assert endpoint["cipher_suites"] == {"TLS 1.2": stale}

    def test_a_part_that_is_switched_off_says_so(self) -> None:
        """It did not fail: nobody asked for it."""
        off = replace(scan(), certificates=NOT_WANTED, cipher_suites={})
        endpoint = _endpoint(endpoint_facts().after_scan(off, DAY))

        assert endpoint["certificates"] == {
            "state": "unknown",
            "reason": "not_observed_yet",
            "detail": "the configuration does not ask for it",
        }
        assert endpoint["cipher_suites"] == {}


def _known(value: Any) -> dict[str, Any]:
    return {"state": "known", "value": value}


class TestHost:
    def _value(self, host: HostFacts) -> Any:
        known = _server(host=host)["host"]
        assert known["state"] == "known"
        return known["value"]

    def test_who_it_is_and_when_it_was_asked(self) -> None:
        """By its own clock."""
        server = _server(host=host_facts(collected_at=NOW - 3600))

        assert server["observed"]["collect"] == "2027-01-15T07:00:00Z"
        assert {key: server["host"]["value"][key] for key in ("name", "fqdn", "collected_at", "script_version")} == {
            "name": "EXCH2016B",
            "fqdn": "exch2016b.contoso.test",
            "collected_at": "2027-01-15T07:00:00Z",
            "script_version": "1.0.0",
        }
        assert server["host"]["value"]["simulation"] == "exchange-2016-cu23-on-2016"

    @pytest.mark.parametrize(
        "missing",
        [
            Missing(Reason.OTHER_HOST, "it is about exch02.test"),
            Missing(Reason.NOT_OBSERVED_YET, "no facts_file is configured"),
        ],
    )
    def test_an_unknown_host(self, missing: Missing) -> None:
        """Why it is unknown; and it was not observed."""
        server = _server(host=missing)

        assert server["host"] == {"state": "unknown", "reason": missing.reason, "detail": missing.detail}
        assert server["observed"]["collect"] is None

    def test_every_item_of_the_facts_is_there(self) -> None:
        """By the names that the facts have."""
        assert set(self._value(host_facts())) == {each.name for each in fields(HostFacts)}

    def test_versions_have_dots(self) -> None:
        """As people write them."""
        value = self._value(host_facts("exchange-2016-cu7-on-2012-r2"))

        assert value["exchange"]["build"] == _known("15.1.1261.35")
        assert value["windows"]["version"] == _known("6.3.9600")
        assert value["files"]["ws2_32.dll"] == _known("6.3.9600.18340")

    def test_times_are_iso_8601(self) -> None:
        """In UTC."""
        value = self._value(host_facts("exchange-2013-cu23-on-2012-r2"))

        assert value["hotfixes"]["value"][-1]["installed_on"].endswith("T00:00:00Z")
        assert value["packages"]["value"][0]["installed_at"].endswith("Z")
        assert value["windows"]["last_boot"]["value"] == "2027-01-03T02:17:43Z"
        smtp = value["smtp"]["server"]["value"]
        assert (smtp["since"], smtp["until"]) == ("2023-03-20T07:00:11Z", "2023-03-20T07:05:51Z")

    def test_what_is_not_there_is_null_and_what_is_unknown_is_not(self) -> None:
        """No Exchange, no .NET 4, no value in the registry; nobody who could ask for a restart."""
        host = host_facts("domain-controller-on-2008-r2", fips=Missing(Reason.ACCESS_DENIED, "security.fips: denied"))
        value = self._value(host)

        assert value["exchange"]["build"] == value["dotnet"]["release"] == value["reboot"]["sccm"] == _known(None)
        assert value["winhttp"]["native"] == _known(None)
        assert value["fips"] == {"state": "unknown", "reason": "access_denied", "detail": "security.fips: denied"}
        assert value["pending_updates"]["reason"] == "not_collected"

    @pytest.mark.parametrize("offset", [0.0, -2.5, 3598.0, None])
    def test_the_clock_s_offset_is_a_number_of_seconds(self, offset: float | None) -> None:
        """And no time, as all other numbers with a fraction are; null where nobody measured it."""
        assert self._value(host_facts(clock_offset=offset))["clock_offset"] == offset

    def test_numbers_and_lists_stay_what_they_are(self) -> None:
        """0 is neither null nor a time; an empty list is one; true is no number."""
        value = self._value(host_facts("exchange-2016-cu7-on-2012-r2", hotfixes=Known((), NOW)))

        assert value["windows"]["service_pack"] == _known(0)
        assert value["hotfixes"] == _known([])
        assert value["reboot"]["cbs"] == _known(True)  # noqa: FBT003
        assert value["schannel"]["protocols"]["TLS 1.2"]["server"] == {
            "enabled": _known(1),
            "disabled_by_default": _known(0),
        }
        assert value["cipher_suites"]["policy"] == _known(None)
        assert value["exchange"]["roles"]["value"][0] == "CafeRole"

    def test_sessions_and_peers(self) -> None:
        """By side; the peers in the document only, most sessions first."""
        smtp = self._value(host_facts("exchange-2013-cu23-on-2012-r2"))["smtp"]

        assert smtp["server"]["value"]["sessions"] == {"TLS 1.0": 3, "TLS 1.2": 2}
        assert smtp["server"]["value"]["peers"][0] == {
            "protocol": "TLS 1.0",
            "address": "203.0.113.77",
            "sessions": 3,
        }
        assert smtp["client"]["value"]["truncated"] is False

    def test_stored_certificates_are_shown_like_those_on_the_wire(self) -> None:
        """With the thumbprint that bindings name them by; one that nobody can read has its reason."""
        unreadable = StoredCertificate("ab" * 20, Missing(Reason.BAD_DOCUMENT, "no certificate"))
        stored = StoredCertificate("cd" * 20, Known(certificate(), NOW))
        first, second = self._value(host_facts(certificates=Known((stored, unreadable), NOW)))["certificates"]["value"]

        on_the_wire = _endpoint(endpoint_facts().after_scan(scan(), DAY))["certificates"]["value"][0]["certificates"][0]
        assert first == {"thumbprint": "cd" * 20, "certificate": _known(on_the_wire)}
        assert second["certificate"] == {"state": "unknown", "reason": "bad_document", "detail": "no certificate"}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_s_facts_are_made_of_what_json_has(machine: str) -> None:
    """No enumerations, tuples or views: what is written is what was there."""
    made = document(fleet(server_snapshot(host=host_facts(machine))))

    assert json.loads(json.dumps(made, allow_nan=False)) == made


@pytest.mark.parametrize("connections", [0, 3])
def test_second_opinions_show_what_they_cost(connections: int) -> None:
    """The connections of the last day."""
    endpoint = _endpoint(endpoint_facts(asked_again=(NOW - 60,) * connections))

    assert endpoint["second_opinion_connections"] == connections


def test_everything_is_made_of_what_json_has() -> None:
    """No enumerations, tuples or views: what is written is what was there, whatever the facts."""
    facts = (
        endpoint_facts(TLS10_TO_12).after_scan(scan(chain(), chain(certificate(subject="CN=other"))), DAY),
        endpoint_facts("?0001?", 25).after_scan(failed_scan(), DAY),
        EndpointFacts("exch01.test:587", "smtp", "core").after(swept("111111"), DAY),
        closed_endpoint(993),
        closed_endpoint(143, "optional"),
    )
    made = document(fleet(server_snapshot(*facts, labels={"site": "hanoi"})))

    assert json.loads(json.dumps(made, allow_nan=False)) == made
