"""A visit to a simulated Windows host: what it asks for, in which order, and that it leaves nothing behind."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from requests_ntlm.requests_ntlm import NoCertificateRetrievedWarning, UnknownSignatureAlgorithmOID
from urllib3.exceptions import SecurityWarning
from winrm_hosts import (
    ACCOUNT,
    AMPLE,
    DOCUMENT,
    PASSWORD,
    USER,
    Pki,
    at_operation,
    job,
    pki,
    proofs,
    readable,
    tapped,
    visit,
    windows,
)

from exporter.demo.winrm import (
    Account,
    Asked,
    ClientCertificates,
    Close,
    CloseAfter,
    Cut,
    Delay,
    Https,
    Listening,
    Logon,
    Operation,
    Quotas,
    Readable,
    Reply,
    SimulatedHosts,
)
from exporter.demo.winrm.misbehaviour import Action
from exporter.demo.winrm.misbehaviour import Seen as Request
from exporter.facts import Reason
from exporter.probes.winrm.command_line import Parameters, deflate_command, stdin_command
from exporter.probes.winrm.jobs import Collected, CollectJob
from exporter.probes.winrm.script import SCRIPT
from exporter.probes.winrm.session import IDLE_TIMEOUT, _noting_what_is_unbound, collect
from exporter.probes.winrm.transport import Seen

LOST = "perhaps a shell: the answer to Create was lost"
GOOD = ("Create", "Command", "Send", "Receive", "Signal", "Delete")


def reason(outcome: Collected) -> Reason | None:
    return outcome.failure.reason if outcome.failure else None


def assert_good(outcome: Collected) -> None:
    """The document is there, and nothing is to be said about how it came."""
    assert (outcome.failure, outcome.left_behind, outcome.accepted) == (None, "", True)
    assert outcome.output == DOCUMENT
    assert 0 < outcome.began <= outcome.ended


# Good visits


def test_a_visit_with_ntlm_over_http_is_six_operations_that_nobody_can_read(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows())

    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    assert_good(outcome)
    assert not outcome.fallback
    assert host.journal.operations == GOOD
    assert host.open_shells == 0
    assert (host.journal.of(Readable), readable(tap.received), proofs(tap.received)) == ((), [], 1)
    assert {each.host for each in host.journal.of(Asked)} == {f"exch01.contoso.test:{tap.port}"}


def test_a_visit_with_ntlm_over_https(hosts: SimulatedHosts, trust: Pki) -> None:
    host = hosts.start(windows(https=Https(trust.certificate_file, trust.key_file)))

    assert_good(visit(host, https=True, ca_file=str(trust.ca_file)))
    assert host.journal.operations == GOOD
    assert [each.mechanism for each in host.journal.of(Logon)] == ["ntlm"]


def test_a_visit_with_basic_over_https(hosts: SimulatedHosts, trust: Pki) -> None:
    host = hosts.start(
        windows(https=Https(trust.certificate_file, trust.key_file), offers=frozenset({"basic", "negotiate"}))
    )

    assert_good(visit(host, "basic", https=True, ca_file=str(trust.ca_file)))
    assert host.journal.operations == GOOD
    assert {each.authorization for each in host.journal.of(Asked)} == {"Basic"}


def test_a_visit_with_a_client_certificate(hosts: SimulatedHosts, trust: Pki) -> None:
    host = hosts.start(
        windows(
            https=Https(trust.certificate_file, trust.key_file),
            offers=frozenset({"certificate"}),
            client_certificates=ClientCertificates(trust.ca_file, ACCOUNT),
        )
    )
    files: dict[str, Any] = {"certificate_file": str(trust.client_file), "key_file": str(trust.client_key_file)}

    assert_good(visit(host, "certificate", https=True, ca_file=str(trust.ca_file), **files))
    assert host.journal.operations == GOOD
    assert {each.authorization for each in host.journal.of(Asked)} == {"certificate"}


def test_output_comes_in_several_receives(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(receive_bytes=1 + len(DOCUMENT) // 3))

    assert_good(visit(host))
    assert host.journal.operations == (*GOOD[:3], "Receive", "Receive", "Receive", "Signal", "Delete")


def test_the_parameters_reach_the_script(hosts: SimulatedHosts) -> None:
    asked: list[Mapping[str, Any]] = []

    @dataclass(frozen=True)
    class Recording:
        def __call__(self, _: object, parameters: Mapping[str, Any]) -> bytes:
            asked.append(parameters)
            return DOCUMENT

    at = windows()
    host = hosts.start(type(at)(document=Recording(), script_sha256=at.script_sha256, accounts=at.accounts))
    wanted = job(host.port)

    assert_good(
        collect(CollectJob(wanted.server, wanted.address, wanted.login, Parameters(64, pending_updates=True)), 20)
    )
    assert asked == [{"usage_megabytes": 64, "pending_updates": True}]


def test_the_shell_is_asked_for_in_utf_8_and_ends_by_itself_soon(hosts: SimulatedHosts) -> None:
    said: list[bytes] = []

    def listen(request: Request) -> None:
        said.append(request.soap)

    visit(hosts.start(windows(misbehave=listen)))

    create = next(each for each in said if b"transfer/Create<" in each)
    assert b'<w:Option Name="WINRS_CODEPAGE">65001</w:Option>' in create
    assert b'<w:Option Name="WINRS_NOPROFILE">TRUE</w:Option>' in create
    assert f"<rsp:IdleTimeOut>{IDLE_TIMEOUT}</rsp:IdleTimeOut>".encode() in create


# The fallback


def test_where_standard_input_does_not_arrive_the_script_goes_into_the_command_line(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(stdin=False))

    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    assert_good(outcome)
    assert outcome.fallback
    assert host.journal.operations == (*GOOD[:5], "Command", "Receive", "Signal", "Delete")
    assert [each.command_line for each in host.journal.of(Operation) if each.command_line] == [
        stdin_command(Parameters()),
        deflate_command(SCRIPT, Parameters()),
    ]
    assert len({each.shell for each in host.journal.of(Operation)} - {""}) == 1
    assert (readable(tap.received), host.open_shells) == ([], 0)


def test_a_fault_of_the_first_way_is_no_failure_if_the_second_works(hosts: SimulatedHosts) -> None:
    fault = Reply(500, FAULT.format(code=109).encode(), encrypt=True)
    host = hosts.start(windows(misbehave=at_operation("Send", fault, times=1)))

    outcome = visit(host)

    assert_good(outcome)
    assert outcome.fallback
    assert host.open_shells == 0


def test_a_script_that_prints_no_document_is_tried_in_both_ways(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(b"Access denied by policy\r\n"))

    outcome = visit(host)

    assert (outcome.failure, outcome.fallback, outcome.output) == (None, True, b"Access denied by policy\r\n")
    assert host.journal.operations.count("Command") == 2
    assert host.open_shells == 0


# Refusals and faults

FAULT = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code>'
    "<s:Value>s:Receiver</s:Value></s:Code><s:Reason><s:Text>It is as it is</s:Text></s:Reason><s:Detail><f:WSManFault "
    'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}"/></s:Detail></s:Fault></s:Body>'
    "</s:Envelope>"
)


def test_a_wrong_password(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows())

    outcome = visit(host, password="wrong")

    assert (reason(outcome), outcome.accepted, outcome.left_behind) == (Reason.AUTH_REJECTED, False, "")
    assert [each.ok for each in host.journal.of(Logon)] == [False]
    assert host.journal.operations == ()


@pytest.mark.parametrize("certified", [True, False], ids=["ours", "of a stranger"])
def test_a_client_certificate_that_nobody_knows(
    hosts: SimulatedHosts,
    trust: Pki,
    tmp_path: Path,
    certified: bool,  # noqa: FBT001
) -> None:
    """Either the handshake fails or the log-on."""
    stranger = trust if certified else pki(tmp_path)
    host = hosts.start(
        windows(
            https=Https(trust.certificate_file, trust.key_file),
            offers=frozenset({"negotiate"} if certified else {"certificate"}),
            client_certificates=ClientCertificates(trust.ca_file, ACCOUNT),
        )
    )
    files: dict[str, Any] = {"certificate_file": str(stranger.client_file), "key_file": str(stranger.client_key_file)}

    outcome = visit(host, "certificate", https=True, ca_file=str(trust.ca_file), **files)

    assert reason(outcome) in ({Reason.AUTH_REJECTED} if certified else {Reason.TLS, Reason.CONNECTION_RESET})
    assert len(host.journal.of(Asked)) <= 1


def test_who_is_no_administrator_is_denied(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(accounts=(Account("CONTOSO", "svc-tlsread", PASSWORD, administrator=False),)))

    outcome = visit(host)

    assert (reason(outcome), outcome.accepted) == (Reason.ACCESS_DENIED, True)
    assert [each.ok for each in host.journal.of(Logon)] == [True]
    assert host.journal.operations == ("Create",)


def test_no_shell_is_to_be_had(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(quotas=Quotas(shells_per_user=0)))

    outcome = visit(host)

    assert (reason(outcome), outcome.accepted, outcome.left_behind) == (Reason.QUOTA, True, "")
    assert host.journal.operations == ("Create",)


@pytest.mark.parametrize("operation", ["Create", "Command", "Receive"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Reply(500, FAULT.format(code=5).encode(), encrypt=True), Reason.ACCESS_DENIED),
        (Reply(500, FAULT.format(code=2150859174).encode(), encrypt=True), Reason.QUOTA),
        (Reply(500, FAULT.format(code=1115).encode(), encrypt=True), Reason.WSMAN_FAULT),
        (Reply(500), Reason.WSMAN_FAULT),
        (Reply(403), Reason.ACCESS_DENIED),
        (Reply(404), Reason.NOT_WINRM),
    ],
    ids=["denied", "quota", "shutdown", "500", "403", "404"],
)
def test_a_fault_at_an_operation_is_a_reason(
    hosts: SimulatedHosts, operation: str, answer: Reply, expected: Reason
) -> None:
    host = hosts.start(windows(misbehave=at_operation(operation, answer)))

    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    is_winrm = operation != "Create" or (answer.encrypt and answer.body != b"")
    assert reason(outcome) is expected
    assert (outcome.output, outcome.accepted) == (b"", True if is_winrm else None)
    assert outcome.left_behind in ({""} if is_winrm else {"", LOST})
    assert (host.open_shells, readable(tap.received)) == (0, [])


# Connections that are lost


@pytest.mark.parametrize("operation", GOOD)
@pytest.mark.parametrize(
    "action", [Close(), Close(reset=True), CloseAfter(), Cut(500)], ids=["before", "reset", "after", "within"]
)
def test_a_connection_that_is_lost_leaves_no_shell(hosts: SimulatedHosts, operation: str, action: Action) -> None:
    """Whenever it is lost, the shell is deleted over a new one; the facts come where they were there already."""
    host = hosts.start(windows(misbehave=at_operation(operation, action, times=1)))

    with tapped(host.port) as tap:
        outcome = visit(tap.port)

    assert readable(tap.received) == []
    assert proofs(tap.received) <= 2
    answered = operation != "Create" or action == CloseAfter()
    assert (outcome.accepted, outcome.left_behind) == ((True, "") if answered else (None, LOST))
    if operation in {"Signal", "Delete"}:
        assert_good(outcome)
    elif (operation, action) == ("Receive", CloseAfter()):
        assert outcome.output == DOCUMENT
    else:
        assert reason(outcome) in {Reason.CONNECTION_CLOSED, Reason.CONNECTION_RESET}
    if (operation, action) == ("Create", Cut(500)):
        return  # what it is called was lost: see the next test
    assert host.open_shells == 0


def test_a_shell_whose_name_was_lost_ends_by_itself(hosts: SimulatedHosts) -> None:
    """Nobody can delete it then, and that is said; it was asked for with the shortest life that Windows grants."""
    host = hosts.start(windows(misbehave=at_operation("Create", Cut(500))))

    outcome = visit(host)

    assert reason(outcome) is Reason.CONNECTION_CLOSED
    assert host.open_shells == 1
    assert outcome.left_behind == LOST
    assert IDLE_TIMEOUT == "PT60S"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_where_no_log_on_came_about_no_shell_was_lost(hosts: SimulatedHosts, number: int) -> None:
    """Whichever of its messages it is that nobody answers."""
    host = hosts.start(windows(misbehave=lambda request: Close() if request.number == number else None))

    outcome = visit(host)

    assert reason(outcome) is Reason.CONNECTION_CLOSED
    assert (outcome.accepted, outcome.left_behind) == (None, "")


def test_there_is_time_to_tidy_up_on_a_host_that_is_far_away(hosts: SimulatedHosts) -> None:
    """Where a visit has it: a log-on and two operations take six answers, each of them late."""
    lose = at_operation("Receive", Close(), times=1)
    host = hosts.start(windows(misbehave=lambda request: lose(request) or Delay(0.3)))

    outcome = visit(host)

    assert reason(outcome) is Reason.CONNECTION_CLOSED
    assert outcome.left_behind == ""
    assert host.open_shells == 0
    assert [each.ok for each in host.journal.of(Logon)] == [True, True]


def test_an_accepted_log_on_is_told_before_the_script_begins(hosts: SimulatedHosts) -> None:
    """Once, and by WinRM: also where all that it says is a fault."""
    host = hosts.start(windows())
    told: list[tuple[str, ...]] = []
    denied = hosts.start(windows(quotas=Quotas(shells_per_user=0)))
    for each in (host, denied):
        collect(job(each.port), AMPLE, lambda each=each: told.append(each.journal.operations))  # type: ignore[misc]

    assert told == [("Create",), ("Create",)]


def test_a_log_on_that_is_not_accepted_is_not_told(hosts: SimulatedHosts) -> None:
    """Neither where it is refused, nor where HTTP lets it through and who answers is not WinRM."""
    told: list[str] = []
    html = Reply(200, b"<html>", headers=(("Content-Type", "text/html"),))
    for host in (windows(accounts=()), windows(misbehave=at_operation("Create", html))):
        collect(job(hosts.start(host).port), AMPLE, lambda: told.append("accepted"))

    assert told == []


def test_what_cannot_be_deleted_is_said(hosts: SimulatedHosts) -> None:
    host = hosts.start(windows(misbehave=at_operation("Delete", Close())))

    outcome = visit(host)

    assert outcome.output == DOCUMENT
    assert outcome.failure is None
    assert re.fullmatch(r"shell [0-9A-F-]{36}: connection_closed: the host closed the connection", outcome.left_behind)
    assert [each.ok for each in host.journal.of(Logon)] == [True, True]


# Answers that are none


@dataclass
class Answering:
    """At an operation, the first time: an answer to that very message."""

    operation: str
    body: str
    times: int = 1
    seen: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply | None:
        if request.operation != self.operation or len(self.seen) >= self.times:
            return None
        self.seen.append(request.operation)
        return Reply(200, self.body.encode(), encrypt=True)


ENVELOPE = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
    'xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"><s:Header>'
    "<a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
)
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + ']><x Name="ShellId">&l9;</x>'
)
NONSENSE = {
    "laughs": LAUGHS,
    "no-xml": "what?",
    "empty": "",
    "other-xml": "<html><body>It works</body></html>",
    "cut": "<s:Envelope",
    "no-name": ENVELOPE.format(relates_to="", body='<x Name="ShellId"/><rsp:CommandId/>'),
    "long-name": ENVELOPE.format(
        relates_to="", body=f'<x Name="ShellId">{"A" * 9999}</x><rsp:CommandId>{"A" * 999}</rsp:CommandId>'
    ),
}


@pytest.mark.parametrize("operation", ["Create", "Command", "Receive"])
@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_not_winrm(hosts: SimulatedHosts, operation: str, body: str) -> None:
    host = hosts.start(windows(misbehave=Answering(operation, body)))

    outcome = visit(host)

    assert outcome.left_behind in ({"", LOST} if operation == "Create" else {""})
    assert outcome.accepted is (None if operation == "Create" else True)
    assert host.open_shells == 0
    if operation == "Receive" and body == NONSENSE["other-xml"]:
        return  # it brings no output, and no end: the next Receive brings both
    if operation == "Receive" and body in {NONSENSE["no-name"], NONSENSE["long-name"]}:
        return
    assert reason(outcome) is Reason.NOT_WINRM
    assert outcome.output == b""


@pytest.mark.parametrize("operation", ["Signal", "Delete"])
def test_an_answer_to_another_message_is_not_taken_for_the_right_one(hosts: SimulatedHosts, operation: str) -> None:
    """The host may not have done what it was asked; so it is asked again, over a new connection."""
    wrong = ENVELOPE.format(relates_to="uuid:00000000-0000-0000-0000-000000000000", body="")
    host = hosts.start(windows(misbehave=Answering(operation, wrong)))

    assert_good(visit(host))
    assert host.open_shells == 0
    assert len(host.journal.of(Logon)) == 2


def test_a_user_name_without_a_password_is_no_log_on(hosts: SimulatedHosts) -> None:
    host: Listening = hosts.start(windows())

    outcome = visit(host, username=USER, password="")

    assert outcome.failure is not None
    assert outcome.output == b""
    assert not [each for each in host.journal.of(Logon) if each.ok]


# Channel bindings that cannot be made


@pytest.mark.parametrize("category", [NoCertificateRetrievedWarning, UnknownSignatureAlgorithmOID])
def test_what_a_library_says_of_missing_bindings_is_noted(category: type[Warning]) -> None:
    seen = Seen()
    with _noting_what_is_unbound(seen):
        warnings.warn("no hash\x1b of 1.2.3", category, stacklevel=1)

    assert seen.unbound == r"no hash\x1b of 1.2.3"


@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, RuntimeWarning, SecurityWarning])
def test_other_warnings_say_nothing_of_bindings(category: type[Warning]) -> None:
    """Or a wrong password would be put down to them."""
    seen = Seen()
    with _noting_what_is_unbound(seen):
        warnings.warn("the sky is falling", category, stacklevel=1)

    assert seen == Seen()


@pytest.mark.parametrize(
    ("category", "expected"),
    [(UserWarning, Reason.AUTH_REJECTED), (UnknownSignatureAlgorithmOID, Reason.AUTH_CBT)],
)
def test_a_refusal_after_a_warning(
    hosts: SimulatedHosts, trust: Pki, category: type[Warning], expected: Reason
) -> None:
    """Only what says that there were no bindings may be why; the host warns here in the library's place."""

    def misbehave(request: Request) -> None:
        if request.number == 1:
            warnings.warn("of one kind or another", category, stacklevel=1)

    host = hosts.start(windows(https=Https(trust.certificate_file, trust.key_file), misbehave=misbehave))

    outcome = visit(host, https=True, ca_file=str(trust.ca_file), password="wrong")

    assert (reason(outcome), outcome.accepted) == (expected, False)
