"""One visit to a host: open a shell, run the script in it, take its output, and leave nothing behind."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from winrm.exceptions import WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

from exporter.facts import Missing, Reason
from exporter.probes.printable import printable
from exporter.probes.winrm.command_line import deflate_command, stdin_command
from exporter.probes.winrm.document import BEGIN, MAX_BYTES
from exporter.probes.winrm.failures import NotWinRmError, TooLargeError, WinRmFailure, missing_of
from exporter.probes.winrm.jobs import Collected, CollectJob
from exporter.probes.winrm.script import SCRIPT
from exporter.probes.winrm.transport import Seen, connect
from exporter.workers import TimeIsUp, time_limit, undisturbed

IDLE_TIMEOUT: Final = "PT60S"
"""After which the host ends a shell that nobody asks anything of: what ends those of an exporter that was killed."""
UTF_8: Final = 65001
"""The shell's code page; Windows' own would be that of the host's language."""

_TO_TIDY_UP: Final = 1.0  # seconds of a visit's time, or a quarter of it
_MOST_TO_TIDY_UP: Final = 20.0  # seconds, of what is left of it
_WHEN_ABANDONED: Final = 2.5  # seconds to tidy up when the exporter ends, which waits a little longer for that
_UNBOUND: Final = frozenset({"NoCertificateRetrievedWarning", "UnknownSignatureAlgorithmOID"})  # of both HTTP libraries
_MAX_IDENTIFIER: Final = 100  # characters
_MAX_ERRORS: Final = 1_000  # bytes of standard error to keep
_ATTEMPTS: Final = 2
_IN_TIME: Final = 0.9  # of it, so that a visit ends before its time does
_NOT_FOUND: Final = 2150858843  # ERROR_WSMAN_UNEXPECTED_SELECTORS: there is no such shell any more
_NOTHING_NEW: Final = 0.05  # seconds to wait when an answer brings nothing, so that such a host costs no processor


@dataclass(slots=True)
class _Visit:
    """How far a visit came."""

    job: CollectJob
    on_accepted: Callable[[], None]
    seen: Seen = field(default_factory=Seen)
    protocol: Protocol | None = None  # None once anything failed: what it would send next is not known
    creating: bool = False  # a shell, whose name is not known yet
    shell: str = ""
    command: str = ""
    outcome: Collected = field(default_factory=Collected)

    def accepted(self) -> None:
        """Note that the host accepted the log-on, and tell those who wait for that."""
        self.seen.accepted = True
        self.on_accepted()

    def hang_up(self) -> None:
        """End the connection, if there is one."""
        if self.protocol is not None:
            self.protocol.transport.close_session()
        self.protocol = None


def collect(job: CollectJob, timeout: float, on_accepted: Callable[[], None] = lambda: None) -> Collected:
    """Run the collector script on a host and return what it printed, whatever the host does, within ``timeout``.

    Args:
        job: the host, and how to log on there.
        timeout: seconds, with the time that is kept back for tidying up.
        on_accepted: called when the host has accepted the log-on, long before the script is done.

    Raises:
        TimeoutError: the time is over although some of it was kept back for tidying up.
    """
    if job.login.ticket_cache:
        os.environ["KRB5CCNAME"] = job.login.ticket_cache
    visit = _Visit(job, on_accepted)
    until = time.monotonic() + timeout
    failure: Missing | None = None
    try:
        with time_limit(timeout - min(_TO_TIDY_UP, timeout / 4)), _noting_what_is_unbound(visit.seen):
            _run(visit)
    except TimeIsUp:
        visit.hang_up()
        failure = Missing(Reason.DEADLINE, f"{_stage(visit)} was not over after {timeout:.3g} s")
    except Exception as error:  # noqa: BLE001 - pywinrm's errors have no base class, and this is the boundary
        if not isinstance(error, WSManFaultError):
            visit.hang_up()
        failure = missing_of(error)
    except SystemExit:  # the exporter ends, and waits for so long
        visit.hang_up()
        until = min(until, time.monotonic() + _WHEN_ABANDONED)
        raise
    finally:
        ended, accepted = time.time(), visit.seen.accepted
        with undisturbed():
            left_behind = _tidy_up(visit, until)
            visit.hang_up()
        if visit.seen.accepted is False:  # by now: the next host must not be asked
            accepted = False
    return replace(visit.outcome, failure=failure, accepted=accepted, ended=ended, left_behind=left_behind)


def _stage(visit: _Visit) -> str:
    if visit.command:
        return "the script"
    return "the shell" if visit.seen.logged_on else "the log-on"


@contextmanager
def _noting_what_is_unbound(seen: Seen) -> Iterator[None]:
    """The libraries warn when they cannot make channel bindings of the host's certificate, and go on without."""

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if category.__name__ in _UNBOUND:
            seen.unbound = printable(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield


def _run(visit: _Visit) -> None:
    protocol = visit.protocol = connect(visit.job, visit.seen)
    visit.shell = _open_shell(protocol, visit)
    parameters = visit.job.parameters
    with suppress(WSManFaultError):  # a host that takes no standard input says so, or the script prints nothing
        _command(visit, stdin_command(parameters), SCRIPT)
    if BEGIN.encode() in visit.outcome.output:
        return
    visit.outcome = replace(visit.outcome, fallback=True)
    _signal(protocol, visit)
    _command(visit, deflate_command(SCRIPT, parameters), b"")


def _open_shell(protocol: Protocol, visit: _Visit) -> str:
    """The first answer that only WinRM can give, if over http sealed with a key that takes the password: a log-on."""
    visit.creating = True
    try:
        shell = _identifier(protocol.open_shell(noprofile=True, codepage=UTF_8, idle_timeout=IDLE_TIMEOUT))
    except WSManFaultError:
        visit.creating = False
        visit.accepted()
        raise
    except (WinRmFailure, WinRMTransportError):  # an answer came
        visit.creating = False
        raise
    visit.creating = False
    visit.accepted()
    return shell


def _identifier(text: str | None) -> str:
    """What a host calls a shell or a command: a GUID, from those that are Windows."""
    if not text or len(text) > _MAX_IDENTIFIER:
        raise NotWinRmError("it names no shell, or no command")
    return text


def _command(visit: _Visit, line: str, script: bytes) -> None:
    """Run a command line, give it the script on standard input if there is one, and take what it prints.

    Without a script its standard input is a console: PowerShell 2.0 would wait for the end of a pipe.
    """
    protocol = visit.protocol
    assert protocol is not None  # noqa: S101 - it is there until something fails
    visit.outcome = replace(visit.outcome, began=time.time(), output=b"", errors="")
    command = protocol.run_command(visit.shell, line, console_mode_stdin=not script, skip_cmd_shell=not script)
    visit.command = _identifier(command)
    if script:
        protocol.send_command_input(visit.shell, visit.command, script, end=True)
    output, errors, done = bytearray(), bytearray(), False
    while not done:
        try:
            more, more_errors, _, done = protocol.get_command_output_raw(visit.shell, visit.command)
        except WinRMOperationTimeoutError:
            time.sleep(_NOTHING_NEW)
            continue  # nothing to say yet; the visit's own time bounds it
        output += more
        errors += more_errors[: _MAX_ERRORS - len(errors)]
        if len(output) > MAX_BYTES:
            raise TooLargeError(f"more than {MAX_BYTES} bytes of output")
        if not (done or more or more_errors):
            time.sleep(_NOTHING_NEW)
    said = printable(errors.decode("utf-8", errors="replace"))
    visit.outcome = replace(visit.outcome, output=bytes(output), errors=said)


def _signal(protocol: Protocol, visit: _Visit) -> None:
    """End the command, if there is one; a host that has ended it says that it does not know it."""
    command, visit.command = visit.command, ""
    if command:
        with suppress(WSManFaultError):
            protocol.cleanup_command(visit.shell, command)


def _tidy_up(visit: _Visit, until: float) -> str:
    """Leave no command and no shell on the host. What could not be put away, in words.

    Over the connection if there is still one, and if that fails once more over a new one; never with credentials that
    the host refuses by now. Each attempt has its share of the time until ``until``.
    """
    if not visit.shell:
        return "perhaps a shell: the answer to Create was lost" if visit.creating and visit.seen.logged_on else ""
    share = min(_MOST_TO_TIDY_UP, until - time.monotonic()) * _IN_TIME / _ATTEMPTS
    missing = Missing(Reason.AUTH_REJECTED, "the host refuses the credentials by now")
    for _ in range(_ATTEMPTS):
        if visit.seen.accepted is False:
            break
        try:
            with time_limit(max(share, _NOTHING_NEW)):
                _put_away(visit)
        except TimeIsUp:
            missing = Missing(Reason.DEADLINE, f"it was not deleted after {share:.3g} s")
        except Exception as error:  # noqa: BLE001 - as above
            missing = missing_of(error)
        else:
            return ""
        visit.hang_up()
    return printable(f"shell {visit.shell}: {missing.reason}: {missing.detail}")


def _put_away(visit: _Visit) -> None:
    protocol = visit.protocol or _afresh(visit)
    _signal(protocol, visit)
    try:
        protocol.close_shell(visit.shell, close_session=False)
    except WSManFaultError as fault:
        if fault.wsman_fault_code != _NOT_FOUND:
            raise


def _afresh(visit: _Visit) -> Protocol:
    """A new connection, and a new log-on."""
    visit.seen = Seen()
    visit.protocol = connect(visit.job, visit.seen)
    return visit.protocol
