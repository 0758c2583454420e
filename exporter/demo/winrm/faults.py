"""The faults of a simulated host, in the codes and words of Windows.

Codes are those of winerror.h and wsmerror.h; s:Sender or s:Receiver, subcodes and texts stand in the test data and the
issues of WinRM clients. Where nobody was seen to write something down, it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.demo.winrm.host import Quotas


@dataclass(eq=False)
class FaultError(Exception):
    """The answer is a fault.

    Attributes:
        code: of the WSManFault: a Win32 error, an HRESULT, or one of winerror's ERROR_WSMAN codes.
        subcode: w:TimedOut and its like.
        reason: what s:Text says; where there is no message, f:Message too.
        message: what f:Message says.
        value: whose fault: s:Sender or s:Receiver.
        detail: the last part of the address of w:FaultDetail.
    """

    code: int
    subcode: str
    reason: str
    message: str = ""
    value: str = "s:Sender"
    detail: str = ""


def invalid(why: str) -> FaultError:
    """The message is not what its schema says."""
    reason = "The SOAP XML in the message does not match the corresponding XML schema definition. "
    return FaultError(2150858817, "w:SchemaValidationError", reason, why)


def too_large() -> FaultError:
    """The request is larger than MaxEnvelopeSizekb. The text is ours."""
    reason = "The request has exceeded the configured quota for the maximum envelope size. "
    return FaultError(2150858823, "w:EncodingLimit", reason, detail="MaxEnvelopeSize")


def too_small() -> FaultError:
    """The client allows too small an answer. The text is ours."""
    return FaultError(2150858823, "w:EncodingLimit", "The maximum envelope size is too small. ")


def access_denied() -> FaultError:
    """The user is known, and has no right to this."""
    return FaultError(5, "w:AccessDenied", "Access is denied. ")


def unknown_action() -> FaultError:
    """The text and the code are ours."""
    return FaultError(2150858752, "a:ActionNotSupported", "The action is not supported by the service. ")


def unknown_resource() -> FaultError:
    """Another resource than the shell of cmd. The text is ours."""
    reason = "The WS-Management service cannot process the request because the resource URI is not known. "
    return FaultError(2150858752, "w:InvalidResourceURI", reason)


def no_such_shell(shell: str) -> FaultError:
    """It never was, it ended, or it is another user's."""
    return _selectors(
        f"The request for the Windows Remote Shell with ShellId {shell} failed because the shell was not found on the "
        "server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server. "
        "Provide the correct ShellId or create a new shell and retry the operation. "
    )


def no_such_command(command: str) -> FaultError:
    """The text is ours, and whether Windows uses this code is not known."""
    return _selectors(f"The request for the Windows Remote Shell failed because the command {command} was not found. ")


def _selectors(message: str) -> FaultError:
    reason = (
        "The WS-Management service cannot process the request because the request contained invalid selectors for the "
        "resource. "
    )
    return FaultError(2150858843, "w:InvalidSelectors", reason, message, detail="UnexpectedSelectors")


def too_many_shells(quotas: Quotas) -> FaultError:
    """MaxShellsPerUser."""
    rest = "Close existing shells or raise the quota for this user. "
    return _quota(
        2150859173,
        f"The maximum number of concurrent shells for this user has been exceeded. {rest}",
        f"This user is allowed a maximum number of {quotas.shells_per_user} concurrent shells, which has been "
        f"exceeded. {rest}",
    )


def too_many_users(quotas: Quotas) -> FaultError:
    """MaxConcurrentUsers. The text is ours."""
    return _quota(
        2150859179,
        f"The maximum number of {quotas.users} concurrent users of shells has been exceeded. Try again later. ",
    )


def too_many_operations(quotas: Quotas) -> FaultError:
    """MaxConcurrentOperationsPerUser."""
    rest = "Close existing operations for this user, or raise the quota for this user. "
    return _quota(
        2150859174,
        f"The maximum number of concurrent operations for this user has been exceeded. {rest}",
        f"This user is allowed a maximum number of {quotas.operations_per_user} concurrent operations, which has been "
        f"exceeded. {rest}",
    )


def too_many_commands() -> FaultError:
    """MaxProcessesPerShell. The text is ours, and whether Windows uses this code is not known."""
    return _quota(2150859241, "The maximum number of commands per shell has been exceeded. ")


def _quota(code: int, reason: str, message: str = "") -> FaultError:
    prefix = "The WS-Management service cannot process the request. "
    return FaultError(code, "w:QuotaLimit", prefix + reason, prefix + (message or reason))


def timed_out() -> FaultError:
    """Nothing to say within the OperationTimeout."""
    reason = "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "
    return FaultError(2150858793, "w:TimedOut", reason, value="s:Receiver")


_SYSTEM = {
    13: "The data is invalid. ",
    14: "Not enough storage is available to complete this operation. ",
    87: "The parameter is incorrect. ",
    109: "The pipe has been ended. ",
    206: "The filename or extension is too long. ",
    995: "The I/O operation has been aborted because of either a thread exit or an application request. ",
    2147942402: "The system cannot find the file specified. ",
}


def system_error(code: int) -> FaultError:
    """One of Windows' own. Which of them comes when is knowledge without a source, but for 995 and 2147942402."""
    return FaultError(code, "w:InternalError", _SYSTEM[code], value="s:Receiver")
