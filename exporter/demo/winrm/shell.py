"""One shell with its commands, and how both stand in an answer."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

from exporter.demo.winrm.host import ScriptOutput
from exporter.demo.winrm.scripts import Program
from exporter.demo.winrm.wsman import CMD, SHELL

_STATE: Final = f"{SHELL}/CommandState"


@dataclass(slots=True)
class Command:
    """A running process, or one that ended and waits for being asked.

    Attributes:
        identifier: its CommandId.
        program: what runs; None: nothing that this simulation knows, and it ended at once.
        standard_input: so far.
        input_ended: there will be no more of it.
        output: what it left; None while it runs.
        told: how many bytes of each stream the client has.
        changed: it ended, or was aborted.
        aborted: by a Signal, or with its shell.
        timer: of its end; None before it runs.
    """

    identifier: str
    program: Program | None
    standard_input: bytearray = field(default_factory=bytearray)
    input_ended: bool = False
    output: ScriptOutput | None = None
    told: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    aborted: bool = False
    timer: asyncio.TimerHandle | None = None

    def end(self, output: ScriptOutput) -> None:
        """It left that."""
        self.output = output
        self.changed.set()

    def abort(self) -> None:
        """Nobody will see what it leaves."""
        self.aborted = True
        if self.timer is not None:
            self.timer.cancel()
        self.changed.set()


@dataclass(slots=True)
class Shell:
    """An open shell.

    Attributes:
        identifier: its ShellId.
        owner: who opened it; nobody else sees it.
        code_page: name of Python's codec.
        idle_timeout: seconds without an operation after which it ends.
        commands: by their identifiers.
        operations: how many are under way.
        started: how many commands ever were; Windows counts them until the shell ends.
        timer: ends it.
    """

    identifier: str
    owner: str
    code_page: str
    idle_timeout: float
    commands: dict[str, Command] = field(default_factory=dict)
    operations: int = 0
    started: int = 0
    timer: asyncio.TimerHandle | None = None


def created(shell: Shell, *, in_body: bool) -> str:
    """The answer to a Create; *in_body*: it names the shell in its body too, and not in its selectors only."""
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell.identifier}</w:Selector></w:SelectorSet>'
    created = (
        f"<x:ResourceCreated><a:Address>http://localhost:5985/wsman</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{CMD}</w:ResourceURI>{selector}</a:ReferenceParameters></x:ResourceCreated>"
    )
    if not in_body:
        return created
    return (
        f"{created}<rsp:Shell><rsp:ShellId>{shell.identifier}</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri>"
        f"<rsp:Owner>{escape(shell.owner)}</rsp:Owner><rsp:ClientIP>127.0.0.1</rsp:ClientIP>"
        f"<rsp:IdleTimeOut>PT{shell.idle_timeout:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>"
        "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams><rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime>"
        "<rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
    )


def received(command: Command, output: ScriptOutput, room: int) -> str:
    """The next part of the output; with the last one the end."""
    streams, done = [], True
    for name, content in (("stdout", output.stdout), ("stderr", output.stderr)):
        part = content[command.told[name] : command.told[name] + room]
        command.told[name] += len(part)
        room -= len(part)
        tag = f'<rsp:Stream Name="{name}" CommandId="{command.identifier}"'
        if part:
            streams.append(f"{tag}>{base64.b64encode(part).decode()}</rsp:Stream>")
        if command.told[name] == len(content):
            streams.append(f'{tag} End="true"></rsp:Stream>')
        else:
            done = False
    state = f'<rsp:CommandState CommandId="{command.identifier}" State="{_STATE}/{"Done" if done else "Running"}">'
    code = f"<rsp:ExitCode>{output.exit_code}</rsp:ExitCode>" if done else ""
    return f"<rsp:ReceiveResponse>{''.join(streams)}{state}{code}</rsp:CommandState></rsp:ReceiveResponse>"
