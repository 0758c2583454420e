"""The shells of a simulated host: what they do at each operation, and the limits that Windows sets them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import uuid
from typing import Final

from exporter.demo.winrm import faults
from exporter.demo.winrm.host import ScriptOutput, WindowsHost
from exporter.demo.winrm.http import MOST_BODY
from exporter.demo.winrm.scripts import program_of, run
from exporter.demo.winrm.shell import Command, Shell, created, received
from exporter.demo.winrm.wsman import CMD, Message, seconds

_ENVELOPE: Final = 2_048
"""Bytes that the envelope of a Receive's answer needs besides its output."""


class Shells:
    """The shells of one host. All calls belong to its event loop; `len()` does not."""

    def __init__(self, host: WindowsHost) -> None:
        self._host = host
        self._quotas = host.quotas
        self._shells: dict[str, Shell] = {}

    def __len__(self) -> int:
        return len(self._shells)

    def close(self) -> None:
        """End all."""
        for shell in tuple(self._shells.values()):
            self._end(shell)

    async def perform(self, message: Message, user: str) -> tuple[str, str]:
        """Do what a message asks for. The shell, and the body of the answer.

        Raises:
            FaultError: that is the answer.
        """
        if message.envelope is not None and message.envelope < self._quotas.smallest_envelope:
            raise faults.too_small()
        if message.operation == "Create":
            return self._create(message, user)
        shell = self._shell(message, user)
        self._begin(shell)
        try:
            return shell.identifier, await self._in_shell(shell, message)
        finally:
            self._rest(shell)

    async def _in_shell(self, shell: Shell, message: Message) -> str:
        match message.operation:
            case "Command":
                return self._start(shell, message)
            case "Send":
                return self._send(shell, message)
            case "Receive":
                return await self._receive(shell, message)
            case "Signal":
                return self._signal(shell, message)
            case _:
                self._end(shell)
                return ""

    def _shell(self, message: Message, user: str) -> Shell:
        shell = self._shells.get(message.shell.upper())
        if shell is None or shell.owner != user:
            raise faults.no_such_shell(message.shell)
        return shell

    def _begin(self, shell: Shell) -> None:
        shell.operations += 1
        if shell.timer is not None:
            shell.timer.cancel()

    def _rest(self, shell: Shell) -> None:
        shell.operations -= 1
        if not shell.operations and shell.identifier in self._shells:
            shell.timer = asyncio.get_running_loop().call_later(shell.idle_timeout, self._end, shell)

    def _end(self, shell: Shell) -> None:
        self._shells.pop(shell.identifier, None)
        if shell.timer is not None:
            shell.timer.cancel()
        for command in shell.commands.values():
            command.abort()

    def _create(self, message: Message, user: str) -> tuple[str, str]:
        if message.resource != CMD:
            raise faults.unknown_resource()
        self._check_quotas(user)
        shell = Shell(str(uuid.uuid4()).upper(), user, _codec(message), self._idle_timeout(message))
        self._shells[shell.identifier] = shell
        self._begin(shell)
        self._rest(shell)
        return shell.identifier, created(shell, in_body=not self._host.winrm_2)

    def _check_quotas(self, user: str) -> None:
        shells = sum(shell.owner == user for shell in self._shells.values())
        users = {shell.owner for shell in self._shells.values()} | {user}
        if shells >= self._quotas.shells_per_user:
            raise faults.too_many_shells(self._quotas)
        if len(users) > self._quotas.users:
            raise faults.too_many_users(self._quotas)

    def _idle_timeout(self, message: Message) -> float:
        asked = message.text("rsp:IdleTimeOut")
        try:
            return max(seconds(asked), self._quotas.least_idle_timeout) if asked else self._quotas.idle_timeout
        except ValueError as error:
            raise faults.invalid(str(error)) from error

    def _start(self, shell: Shell, message: Message) -> str:
        if len(shell.commands) >= self._quotas.processes_per_shell:
            raise faults.too_many_commands()
        shell.started += 1
        if self._started_by(shell.owner) > self._quotas.operations_per_user:
            raise faults.too_many_operations(self._quotas)
        command_line = command_line_of(message)
        through_cmd = message.options.get("WINRS_SKIP_CMD_SHELL", "FALSE").upper() != "TRUE"
        program = program_of(command_line)
        command = Command(str(uuid.uuid4()).upper(), program)
        if through_cmd and len(command_line) > self._quotas.command_line:
            command.end(ScriptOutput(stderr=b"The command line is too long.\r\n", exit_code=1))
        elif not through_cmd and len(command_line) >= self._quotas.create_process_line:
            raise faults.system_error(206)
        elif program is None:
            command.end(_unknown(command_line, through_cmd=through_cmd))
        elif program.script is not None and not (self._host.winrm_2 and _input_is_a_pipe(message)):
            self._run_soon(shell, command)
        shell.commands[command.identifier] = command
        return f"<rsp:CommandResponse><rsp:CommandId>{command.identifier}</rsp:CommandId></rsp:CommandResponse>"

    def _started_by(self, user: str) -> int:
        return sum(shell.started for shell in self._shells.values() if shell.owner == user)

    def _run_soon(self, shell: Shell, command: Command) -> None:
        def ended() -> None:
            if command.program is not None:
                command.end(run(self._host, command.program, bytes(command.standard_input), shell.code_page))

        command.timer = asyncio.get_running_loop().call_later(self._host.takes, ended)

    def _command(self, shell: Shell, identifier: str) -> Command:
        try:
            return shell.commands[identifier.upper()]
        except KeyError:
            raise faults.no_such_command(identifier) from None

    def _send(self, shell: Shell, message: Message) -> str:
        stream = message.element("rsp:Stream")
        if stream is None or stream.get("Name") != "stdin":
            raise faults.system_error(87)
        command = self._command(shell, stream.get("CommandId", ""))
        if command.input_ended or command.output is not None:
            raise faults.system_error(109)
        try:
            command.standard_input += base64.b64decode(stream.text or "", validate=True)
        except binascii.Error as error:
            raise faults.system_error(13) from error
        if len(command.standard_input) > MOST_BODY:
            raise faults.system_error(14)
        if stream.get("End", "false").lower() in ("true", "1"):
            command.input_ended = True
            if command.timer is None:
                self._run_soon(shell, command)
        return "<rsp:SendResponse/>"

    async def _receive(self, shell: Shell, message: Message) -> str:
        stream = message.element("rsp:DesiredStream")
        command = self._command(shell, stream.get("CommandId", "") if stream is not None else "")
        asked = message.timeout if message.timeout is not None else self._quotas.operation_timeout
        try:
            await asyncio.wait_for(command.changed.wait(), min(asked, self._quotas.operation_timeout))
        except TimeoutError:
            raise faults.timed_out() from None
        if command.aborted or command.output is None:
            raise faults.system_error(995)
        return received(command, command.output, self._room(message))

    def _room(self, message: Message) -> int:
        """Bytes of output that one answer may bring, so that its envelope stays as small as was asked."""
        envelope = min(message.envelope or self._quotas.envelope_bytes, self._quotas.envelope_bytes)
        return min(self._host.receive_bytes, (envelope - _ENVELOPE) // 4 * 3)

    def _signal(self, shell: Shell, message: Message) -> str:
        identifier = message.body.get("CommandId", "") if message.body is not None else ""
        command = self._command(shell, identifier)
        command.abort()
        del shell.commands[command.identifier]
        return "<rsp:SignalResponse/>"


def command_line_of(message: Message) -> str:
    """The command and its arguments, as they are joined for CreateProcess or cmd.exe."""
    return " ".join((message.text("rsp:Command"), *message.texts("rsp:Arguments"))).strip()


def _codec(message: Message) -> str:
    page = message.options.get("WINRS_CODEPAGE", "437")
    name = "utf-8" if page == "65001" else f"cp{page}"
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise faults.system_error(87) from None


def _input_is_a_pipe(message: Message) -> bool:
    return message.options.get("WINRS_CONSOLEMODE_STDIN", "FALSE").upper() != "TRUE"


def _unknown(command_line: str, *, through_cmd: bool) -> ScriptOutput:
    """What a program that is not there leaves through cmd.exe.

    Raises:
        FaultError: without cmd.exe the host cannot start it.
    """
    program = command_line.split(" ", maxsplit=1)[0]
    if "powershell" in program.lower():
        refusal = b"This is a simulation: it knows two ways to run the collector's script, and this is neither.\r\n"
        return ScriptOutput(stderr=refusal, exit_code=1)
    if not through_cmd:
        raise faults.system_error(2147942402)
    message = (
        f"'{program}' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"
    )
    return ScriptOutput(stderr=message.encode(), exit_code=1)
