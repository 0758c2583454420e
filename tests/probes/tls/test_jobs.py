"""What a child says travels well, and is checked before it is believed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporter.facts import Certificate, CertificateChain, EndpointScan, Known, Missing, Protocol, Reason
from exporter.probes.tls.jobs import JOB, OPINION, SCAN, Opinion, OpinionJob, Place, ScanJob

from builders import certificate, chain, scan

PLACE = Place("exch01.test", "192.0.2.1", 443, "https", "probe.example.test")


def _scan(*chains: CertificateChain) -> EndpointScan:
    now = time.time()
    return replace(
        scan(*chains, at=now), certificates=Known(chains or (chain(trusted=Known(value=True, at=now)),), now)
    )


def _said(change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(SCAN.dump_json(_scan()))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "job",
    [
        OpinionJob(PLACE, (Protocol.TLS_1_0, Protocol.TLS_1_3), again=True),
        ScanJob(PLACE, tuple(Protocol), certificates=True, cipher_suites=False, connections=7, ca_file="/ca.pem"),
    ],
)
def test_a_job_arrives_as_it_was_sent(job: OpinionJob | ScanJob) -> None:
    line = JOB.dump_json(job)

    assert JOB.validate_json(line) == job
    assert b"\n" not in line


def test_an_outcome_arrives_as_it_was_sent() -> None:
    """A child's facts, known and missing; words in all alphabets."""
    seen = _scan(chain(certificate(subject="CN=почта", names=("xn--80a1acny.test",)), trusted=Missing(Reason.DNS)))
    opinion = Opinion({Protocol.SSL_2_0: Missing(Reason.DNS, "x"), Protocol.TLS_1_2: Known(value=True, at=time.time())})

    assert SCAN.validate_json(SCAN.dump_json(seen)) == seen
    assert OPINION.validate_json(OPINION.dump_json(opinion)) == opinion


def _date(value: float) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["certificates"]["value"][0]["certificates"][0]["not_after"] = value

    return change


def _subject(value: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["certificates"]["value"][0]["certificates"][0]["subject"] = value

    return change


UNBELIEVABLE: dict[str, Callable[[dict[str, Any]], None]] = {
    "a date that never comes": _date(math.inf),
    "a date that is no number": _date(math.nan),
    "a date beyond all calendars": _date(1e300),
    "seen tomorrow": lambda document: document["certificates"].update(at=time.time() + 86400),
    "no chain": lambda document: document["certificates"].update(value=[]),
    "a chain of nothing": lambda document: document["certificates"]["value"][0].update(certificates=[]),
    "an escape sequence": _subject("CN=\x1b[31mred"),
    "a novel": _subject("x" * 100_000),
    "a million suites": lambda document: document["cipher_suites"]["TLS 1.2"].update(value=["TLS_A"] * 2_000),
    "a version that there is not": lambda document: document["cipher_suites"].update({"TLS 9.9": {"reason": "dns"}}),
    "a reason that there is not": lambda document: document.update(certificates={"reason": "boredom"}),
    "a truth that is a word": lambda document: document["certificates"]["value"][0].update(matches_name="perhaps"),
}


@pytest.mark.parametrize("change", UNBELIEVABLE.values(), ids=UNBELIEVABLE)
def test_what_no_honest_child_says_is_not_believed(change: Callable[[dict[str, Any]], None]) -> None:
    """It would come up where nobody expects it: in the arithmetic of dates, in a terminal, in the metrics."""
    with pytest.raises(ValueError):
        SCAN.validate_json(_said(change))


def test_an_opinion_is_checked_as_well() -> None:
    opinion = Opinion({Protocol.TLS_1_2: Known(value=True, at=time.time() + 86400)})

    with pytest.raises(ValueError):
        OPINION.validate_json(OPINION.dump_json(opinion))


def test_the_longest_list_of_suites_is_believed() -> None:
    """All suites that there are, in the detail of one that is not complete."""
    names = ", ".join(f"TLS_ECDHE_ECDSA_WITH_CAMELLIA_{number}_GCM_SHA256" for number in range(170))
    missing = Missing(Reason.DEADLINE, f"the scan's time was over; TLS 1.2 accepted so far: {names}")
    seen = replace(_scan(), cipher_suites={Protocol.TLS_1_2: missing})

    assert SCAN.validate_json(SCAN.dump_json(seen)) == seen


def test_a_certificate_for_ever_is_believed() -> None:
    """The last date that X.509 can write, and one of the first."""
    seen: Certificate = certificate(not_after=253402300799.0, not_before=-2208988800.0)

    presented = _scan(chain(seen, trusted=Missing(Reason.DNS)))

    assert SCAN.validate_json(SCAN.dump_json(presented)) == presented
