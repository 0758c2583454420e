"""Jobs and outcomes as they travel between the exporter and its children."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.facts import Missing, Reason
from exporter.probes.winrm.command_line import Parameters
from exporter.probes.winrm.document import MAX_BYTES
from exporter.probes.winrm.jobs import JOB, OUTCOME, Collected, CollectJob, Login
from exporter.workers import _MAX_LINE

SECRET = 'geheim-\u20ac-"Pa55w0rd\\\n'
LOGIN = Login("ntlm", https=False, port=5985, username="CONTOSO\\svc-tlsread", password=SECRET)
JOBS = {
    "least": CollectJob("exch01.contoso.test", "192.0.2.1", LOGIN),
    "kerberos": CollectJob(
        "exch01.contoso.test",
        "2001:db8::1",
        Login("kerberos", https=True, port=443, username="svc@CONTOSO.TEST", ticket_cache="DIR:/t", ca_file="/ca.pem"),
        Parameters(usage_megabytes=64, pending_updates=True),
    ),
    "certificate": CollectJob(
        "exch01",
        "192.0.2.1",
        Login("certificate", https=True, port=5986, certificate_file="/c", key_file="/k", channel_bindings=False),
    ),
}
WHOLE = Collected(
    output=bytes(range(256)) * 3,
    failure=Missing(Reason.DEADLINE, "the script was not over after 120 s"),
    accepted=True,
    began=1_800_000_000.25,
    ended=1_800_000_002.5,
    fallback=True,
    left_behind="shell 1234: tcp_timeout: gone",
    errors="At line:1 char:7…",
)


def _line(**changes: Any) -> bytes:
    """The outcome that has everything, with changes, as JSON."""
    return json.dumps(json.loads(OUTCOME.dump_json(WHOLE)) | changes).encode()


class TestJobs:
    @pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
    def test_arrives_as_it_was(self, job: CollectJob) -> None:
        """In one line, whatever is in it."""
        line = JOB.dump_json(job)

        assert b"\n" not in line
        assert JOB.validate_json(line) == job

    def test_shows_no_password(self) -> None:
        """It is in the line, and nowhere where a job is printed."""
        job = JOBS["least"]

        assert b"Pa55w0rd" in JOB.dump_json(job)
        for shown in (job, str(job), job.login, [job]):
            assert "Pa55w0rd" not in repr(shown)

    def test_every_text_of_a_log_on_arrives(self) -> None:
        """None is taken for another."""
        texts: dict[str, Any] = {each.name: f"the {each.name}" for each in fields(Login) if each.default == ""}
        login = replace(LOGIN, **texts)

        assert len(texts) == 6
        assert JOB.validate_json(JOB.dump_json(CollectJob("a", "b", login))).login == login


class TestOutcomes:
    @pytest.mark.parametrize(
        "outcome",
        [Collected(), WHOLE, *(replace(WHOLE, accepted=accepted, failure=None) for accepted in (True, False, None))],
    )
    def test_arrives_as_it_was(self, outcome: Collected) -> None:
        """Whatever bytes the host printed; in one line."""
        line = OUTCOME.dump_json(outcome)

        assert b"\n" not in line
        assert OUTCOME.validate_json(line + b"\n") == outcome

    def test_does_not_show_what_was_printed(self) -> None:
        """It may be megabytes."""
        assert "x" * 10 not in repr(Collected(output=b"x" * 1000))

    def test_the_largest_travels(self) -> None:
        """Through the pipe between a child and the exporter as well."""
        largest = replace(WHOLE, output=b"\xff" * MAX_BYTES)
        line = OUTCOME.dump_json(largest)

        assert len(line) < _MAX_LINE
        assert OUTCOME.validate_json(line) == largest

    def test_a_larger_one_is_not_believed(self) -> None:
        with pytest.raises(ValueError, match=f"{MAX_BYTES + 1} bytes"):
            OUTCOME.validate_json(OUTCOME.dump_json(replace(WHOLE, output=b"x" * (MAX_BYTES + 1))))

    @pytest.mark.parametrize(
        "changes",
        [
            {"output": "AAA"},
            {"output": None},
            {"output": [1, 2]},
            {"failure": "deadline"},
            {"failure": {"reason": "no such reason", "detail": ""}},
            {"failure": {"detail": "no reason"}},
            {"failure": {"reason": "deadline", "detail": "\x1b[2J"}},
            {"failure": {"reason": "deadline", "detail": "two\nlines"}},
            {"failure": {"reason": "deadline", "detail": "x" * 2001}},
            {"left_behind": "\x07"},
            {"left_behind": "x" * 2001},
            {"errors": "\r"},
            {"errors": "\u202e"},
            {"errors": "x" * 2001},
            {"errors": 5},
            {"accepted": "perhaps"},
            {"accepted": 2},
            {"began": "yesterday"},
            {"ended": None},
            {"fallback": None},
        ],
        ids=str,
    )
    def test_what_no_child_of_ours_says_is_not_believed(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            OUTCOME.validate_json(_line(**changes))

    @pytest.mark.parametrize(
        "line", [b"", b"\n", b"null", b"[]", b'"text"', b"5", b'{"output": "', b"\xff\xfe", b"{}{}", b"[" * 100_000]
    )
    def test_what_is_no_outcome_is_not_believed(self, line: bytes) -> None:
        with pytest.raises(ValueError):
            OUTCOME.validate_json(line)

    @pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
    @pytest.mark.parametrize("moment", ["began", "ended"])
    def test_a_time_that_is_none_is_not_believed(self, moment: str, word: str) -> None:
        """Nothing that is reckoned with it would be a number."""
        with pytest.raises(ValidationError):
            OUTCOME.validate_json(_line(**{moment: float(word.lower())}))

    def test_is_read_by_a_document_s_reader(self) -> None:
        """It is base64 of what was printed, no more."""
        assert json.loads(OUTCOME.dump_json(WHOLE))["output"] == base64.b64encode(WHOLE.output).decode()
