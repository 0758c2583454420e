"""The simulated Windows host, asked by pywinrm as it is: logons, messages, operations, limits."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from winrm.exceptions import InvalidCredentialsError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

from exporter.demo.machines import load
from exporter.demo.winrm import (
    Acceptors,
    Account,
    Asked,
    Listening,
    Logon,
    Operation,
    Quotas,
    Readable,
    ScriptOutput,
    SimulatedHosts,
    WindowsHost,
)
from exporter.facts import Known
from exporter.probes.winrm.document import read_document

SCRIPT = b"# Not PowerShell, and nothing runs it.\r\n" * 500
SHA256 = hashlib.sha256(SCRIPT).hexdigest()
READER = Account("CONTOSO.TEST", "svc-tlsread", "Sekret-7")
POWERSHELL = "powershell.exe -NoLogo -NoProfile -NonInteractive"
BOOTSTRAP = '&([scriptblock]::Create((@($input)-join"`n")))'
BEGIN = b"-----BEGIN TLS READINESS DOCUMENT-----"


@pytest.fixture
def hosts() -> Iterator[SimulatedHosts]:
    with SimulatedHosts() as fleet:
        yield fleet


def host(content: str | bytes | ScriptOutput = "printed", **changes: Any) -> WindowsHost:
    """A host that one account may ask, and whose script prints that."""
    return WindowsHost(**{"document": lambda *_: content, "script_sha256": SHA256, "accounts": (READER,), **changes})


def client(listening: Listening, account: Account = READER, **changes: Any) -> Protocol:
    """One that authenticates by NTLM and encrypts, unless told otherwise."""
    options: dict[str, Any] = {
        "transport": "ntlm",
        "username": account.name,
        "password": account.password,
        "message_encryption": "always",
        "proxy": None,
        "ca_trust_path": None,
    }
    return Protocol(listening.endpoint, **options | changes)


def from_input(parameters: str = "") -> str:
    encoded = base64.b64encode((BOOTSTRAP + parameters).encode("utf-16-le")).decode()
    return f"{POWERSHELL} -EncodedCommand {encoded}"


def packed(script: bytes = SCRIPT, parameters: str = "") -> str:
    packer = zlib.compressobj(level=9, wbits=-15)
    text = base64.b64encode(packer.compress(script) + packer.flush()).decode()
    return (
        f'{POWERSHELL} -Command "&([scriptblock]::Create((New-Object IO.StreamReader((New-Object '
        f"IO.Compression.DeflateStream([IO.MemoryStream][Convert]::FromBase64String('{text}'),"
        f'[IO.Compression.CompressionMode]::Decompress)))).ReadToEnd())){parameters}"'
    )


def collect(asking: Protocol, line: str = "", script: bytes = SCRIPT) -> tuple[bytes, bytes, int]:
    """All operations that a collection takes. Output, errors and exit code."""
    shell = asking.open_shell(codepage=65001, idle_timeout="PT60S", noprofile=True)
    command = asking.run_command(shell, line or from_input(), console_mode_stdin=False)
    asking.send_command_input(shell, command, script, end=True)
    output = asking.get_command_output(shell, command)
    asking.cleanup_command(shell, command)
    asking.close_shell(shell)
    return output


def packed_collect(asking: Protocol, line: str, *, console_mode_stdin: bool = True) -> tuple[bytes, bytes, int]:
    shell = asking.open_shell(codepage=65001)
    command = asking.run_command(shell, line, skip_cmd_shell=True, console_mode_stdin=console_mode_stdin)
    return asking.get_command_output(shell, command)


def logons(listening: Listening) -> list[tuple[str, bool]]:
    return [(logon.user, logon.ok) for logon in listening.journal.of(Logon)]


class Tap:
    """A way to a host that keeps all that goes through it."""

    def __init__(self, listening: Listening) -> None:
        self._to = (listening.address, listening.port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}/wsman"
        self.seen = bytearray()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._to)
            self._connections += (near, far)
            for one, other in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._copy, args=(one, other)))
                self._threads[-1].start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        while content := one.recv(65536):
            self.seen += content
            other.sendall(content)
        with suppress(OSError):  # it went first
            other.shutdown(socket.SHUT_WR)


class TestACollection:
    def test_brings_the_machine_s_document(self, hosts: SimulatedHosts) -> None:
        machine = load("exchange-2016-cu23-on-2016")
        listening = hosts.start(WindowsHost.from_machine(machine, script_sha256=SHA256, accounts=(READER,)))

        output, errors, code = collect(client(listening))

        assert (errors, code) == (b"", 0)
        document = read_document(output, machine.fqdn)
        assert isinstance(document, Known)
        assert document.value.simulation == machine.name

    def test_is_an_operation_each_and_leaves_no_shell(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host())

        assert collect(client(listening)) == (b"printed", b"", 0)

        assert listening.journal.operations == ("Create", "Command", "Send", "Receive", "Signal", "Delete")
        assert len({operation.shell for operation in listening.journal.of(Operation)}) == 1
        assert listening.journal.of(Operation)[1].command_line == from_input()
        assert listening.open_shells == 0

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ("", {"usage_megabytes": 0, "pending_updates": False}),
            (" -UsageMegabytes 12", {"usage_megabytes": 12, "pending_updates": False}),
            (" -UsageMegabytes 3 -PendingUpdates", {"usage_megabytes": 3, "pending_updates": True}),
        ],
    )
    def test_passes_the_parameters_to_the_script(
        self, hosts: SimulatedHosts, parameters: str, expected: Mapping[str, Any]
    ) -> None:
        listening = hosts.start(host(document=lambda _, parameters: repr(parameters)))

        assert collect(client(listening), from_input(parameters))[0] == repr(expected).encode()
        assert packed_collect(client(listening), packed(parameters=parameters))[0] == repr(expected).encode()

    def test_brings_long_output_in_several_envelopes(self, hosts: SimulatedHosts) -> None:
        content = bytes(range(256)) * 300
        listening = hosts.start(host(content, receive_bytes=10_000))

        assert collect(client(listening)) == (content, b"", 0)
        assert listening.journal.operations.count("Receive") == 8

    def test_keeps_answers_as_small_as_is_asked(self, hosts: SimulatedHosts) -> None:
        content = b"x" * 40_000
        listening = hosts.start(host(content, receive_bytes=1_000_000))
        asking = client(listening)
        send, sizes = asking.transport.send_message, []

        def small(message: str | bytes) -> bytes:
            answer = send(str(message).replace(">153600<", ">16384<"))
            sizes.append(len(answer))
            return answer

        asking.transport.send_message = small  # type: ignore[method-assign]

        assert collect(asking)[0] == content
        assert 14_000 < max(sizes) <= 16_384

    def test_keeps_errors_and_output_apart(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(ScriptOutput(b"out" * 9, b"err" * 9, 3), receive_bytes=8))

        assert collect(client(listening)) == (b"out" * 9, b"err" * 9, 3)

    @pytest.mark.parametrize(("code_page", "expected"), [(65001, "ü".encode()), (437, b"\x81"), (1252, b"\xfc")])
    def test_prints_in_the_shell_s_code_page(self, hosts: SimulatedHosts, code_page: int, expected: bytes) -> None:
        asking = client(hosts.start(host("ü")))
        shell = asking.open_shell(codepage=code_page)
        command = asking.run_command(shell, packed(), skip_cmd_shell=True)

        assert asking.get_command_output(shell, command)[0] == expected

    def test_a_shell_of_windows_2008_r2_is_named_in_the_selectors_only(self, hosts: SimulatedHosts) -> None:
        assert collect(client(hosts.start(host(winrm_2=True)))) == (b"printed", b"", 0)

    def test_one_journal_per_host(self, hosts: SimulatedHosts) -> None:
        one, other = hosts.start(host(), "127.0.3.1"), hosts.start(host(), "127.0.3.2")

        collect(client(one))

        assert one.journal.operations
        assert other.journal.entries == ()

    def test_a_thousand_hosts_need_one_thread(self, hosts: SimulatedHosts) -> None:
        before = threading.active_count()
        first = hosts.start(host("0"), "127.4.0.1")
        for number in range(1, 1000):
            last = hosts.start(host(str(number)), f"127.4.{number // 250}.{number % 250 + 1}", first.port)

        assert threading.active_count() == before
        assert (collect(client(first))[0], collect(client(last))[0]) == (b"0", b"999")


class TestEncryption:
    def test_nobody_on_the_way_reads_anything(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host("printed " * 100))
        with Tap(listening) as tap:
            asking = client(listening)
            asking.transport.endpoint = tap.endpoint

            assert collect(asking)[2] == 0

        assert b"multipart/encrypted" in tap.seen
        for readable in (b"Envelope", b"printed", b"powershell", b"ShellId", READER.password.encode()):
            assert readable not in tap.seen
        assert listening.journal.of(Readable) == ()

    def test_a_message_that_was_changed_on_its_way_is_refused(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host())
        asking = client(listening)
        asking.transport.build_session()
        assert asking.transport.encryption is not None
        build = asking.transport.encryption._build_message

        def changed(message: bytes, host: str | bytes | None) -> bytes:
            sealed = build(message, host)
            return sealed[:-1] + bytes((sealed[-1] ^ 1,))

        asking.transport.encryption._build_message = changed

        with pytest.raises(WinRMTransportError) as refusal:
            asking.open_shell()

        assert refusal.value.code == 400
        assert listening.journal.operations == ()

    def test_a_readable_message_is_refused_and_remembered(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host())

        with pytest.raises(WinRMTransportError) as refusal:
            client(listening, message_encryption="never").open_shell()

        assert (refusal.value.code, refusal.value.response_text) == (500, "")
        assert b"WINRS_CODEPAGE" in listening.journal.of(Readable)[0].text
        assert listening.journal.operations == ()

    def test_unless_the_host_allows_it(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(allow_unencrypted=True))

        assert collect(client(listening, message_encryption="never"))[0] == b"printed"


class TestLogons:
    def test_a_right_password_is_asked_once_for_a_connection(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host())

        collect(client(listening))

        assert logons(listening) == [("CONTOSO.TEST\\svc-tlsread", True)]
        kinds = [asked.authorization for asked in listening.journal.of(Asked)]
        assert kinds == ["", "NTLM negotiate", "NTLM authenticate", *[""] * 6]

    @pytest.mark.parametrize("name", ["contoso\\SVC-tlsread", "CONTOSO.TEST\\svc-tlsread", "svc-tlsread@contoso.test"])
    def test_a_user_may_be_named_in_several_ways(self, hosts: SimulatedHosts, name: str) -> None:
        listening = hosts.start(host())

        assert collect(client(listening, username=name))[2] == 0
        assert logons(listening) == [(name, True)]

    @pytest.mark.parametrize(
        ("name", "password"),
        [
            (READER.name, "wrong"),
            ("FABRIKAM\\svc-tlsread", READER.password),
            ("CONTOSO\\nobody", READER.password),
            ("svc-tlsread", READER.password),
        ],
    )
    def test_a_wrong_one_is_one_failed_logon(self, hosts: SimulatedHosts, name: str, password: str) -> None:
        listening = hosts.start(host())

        with pytest.raises(InvalidCredentialsError):
            client(listening, username=name, password=password).open_shell()

        assert logons(listening) == [(name, False)]
        assert listening.journal.operations == ()

    def test_basic_is_not_offered_over_http(self, hosts: SimulatedHosts) -> None:
        """And what was sent all the same counts for nothing."""
        listening = hosts.start(host(offers=frozenset({"basic"})))

        with pytest.raises(InvalidCredentialsError):
            client(listening, transport="basic", message_encryption="never").open_shell()

        assert logons(listening) == []
        assert [asked.authorization for asked in listening.journal.of(Asked)] == ["Basic"]

    def test_basic_over_http_where_it_is_allowed(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(offers=frozenset({"basic"}), allow_unencrypted=True))

        assert collect(client(listening, transport="basic", message_encryption="never"))[2] == 0

    @pytest.mark.parametrize(
        ("domain", "name", "known"),
        [
            ("CONTOSO", "svc@contoso.test", True),
            ("CONTOSO.TEST", "SVC@CONTOSO.TEST", True),
            ("CONTOSO.TEST", "contoso\\svc", True),
            ("CONTOSO.TEST", "svc", True),
            ("CONTOSO.TEST", "svc@contoso.example", False),
            ("CONTOSO", "svc@contoso2.test", False),
            ("CONTOSO", "CONTOSO\\svc2", False),
        ],
    )
    def test_a_domain_has_a_long_name_and_a_short_one(
        self, hosts: SimulatedHosts, domain: str, name: str, *, known: bool
    ) -> None:
        account = Account(domain, "svc", "right")
        listening = hosts.start(host(accounts=(account,), offers=frozenset({"basic"}), allow_unencrypted=True))
        asking = client(listening, account, transport="basic", message_encryption="never", username=name)

        with nullcontext() if known else pytest.raises(InvalidCredentialsError):
            collect(asking)

        assert (name, known) in logons(listening)

    def test_a_host_without_negotiate_takes_no_ntlm(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(offers=frozenset({"kerberos"})))

        with pytest.raises(InvalidCredentialsError):
            client(listening).open_shell()

        assert logons(listening) == []

    def test_whoever_is_no_administrator_is_denied_access(self, hosts: SimulatedHosts) -> None:
        guest = Account("CONTOSO", "guest", "guest", administrator=False)
        listening = hosts.start(host(accounts=(guest,)))

        with pytest.raises(WSManFaultError, match="Access is denied") as fault:
            client(listening, guest).open_shell()

        assert (fault.value.code, fault.value.wsman_fault_code, fault.value.fault_subcode) == (500, 5, "w:AccessDenied")
        assert logons(listening) == [("CONTOSO\\guest", True)]
        assert [operation.fault for operation in listening.journal.of(Operation)] == [5]

    def test_hosts_of_one_fleet_have_their_own_accounts(self, hosts: SimulatedHosts) -> None:
        other = Account("CONTOSO", "svc-tlsread", "another")
        listening, elsewhere = hosts.start(host()), hosts.start(host(accounts=(other,)))

        assert collect(client(listening))[2] == 0
        assert collect(client(elsewhere, other))[2] == 0
        with pytest.raises(InvalidCredentialsError):
            client(elsewhere).open_shell()

    def test_accounts_are_in_files_of_our_own_that_go(self) -> None:
        acceptors = Acceptors()
        with SimulatedHosts(lambda: acceptors) as hosts:
            collect(client(hosts.start(host())))
            (path,) = Path(acceptors._folder.name).iterdir()
            mode, folder_mode = path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777
            text = path.read_text(encoding="utf-8")

        assert (mode, folder_mode) == (0o600, 0o700)
        assert READER.password in text
        assert not path.parent.exists()

    def test_a_password_stays_out_of_what_is_shown(self) -> None:
        assert READER.password not in repr(host())

    def test_an_account_that_cannot_be_stored_is_refused(self) -> None:
        with pytest.raises(ValueError, match="colon"):
            Account("CONTOSO", "svc", "with:colon")


class TestScripts:
    @pytest.mark.parametrize("script", [SCRIPT + b"#", b"", SCRIPT[:-1]])
    def test_another_one_does_not_run(self, hosts: SimulatedHosts, script: bytes) -> None:
        listening = hosts.start(host())

        for output, errors, code in (
            collect(client(listening), script=script),
            packed_collect(client(listening), packed(script)),
        ):
            assert (output, code) == (b"", 1)
            assert b"simulation" in errors

    def test_other_programs_are_not_there(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()

        command = asking.run_command(shell, "ipconfig", ["/all"])
        assert asking.get_command_output(shell, command)[1:] == (
            b"'ipconfig' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n",
            1,
        )
        with pytest.raises(WSManFaultError, match="cannot find the file") as fault:
            asking.run_command(shell, "ipconfig", ["/all"], skip_cmd_shell=True)
        assert fault.value.wsman_fault_code == 2147942402

    def test_powershell_runs_nothing_else(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()
        other = base64.b64encode("Get-Date".encode("utf-16-le")).decode()

        for line in (f"{POWERSHELL} -EncodedCommand {other}", f"{POWERSHELL} -Command Get-Date"):
            command = asking.run_command(shell, line)
            output, errors, code = asking.get_command_output(shell, command)
            assert (output, code) == (b"", 1)
            assert b"simulation" in errors

    def test_one_that_fails_says_so(self, hosts: SimulatedHosts) -> None:
        def fails(*_: object) -> str:
            raise RuntimeError("no registry")

        output, errors, code = collect(client(hosts.start(host(document=fails))))

        assert (output, code) == (b"", 1)
        assert b"no registry" in errors

    def test_where_standard_input_does_not_arrive_nothing_is_printed(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(stdin=False))

        assert collect(client(listening)) == (b"", b"", 0)
        assert packed_collect(client(listening), packed()) == (b"printed", b"", 0)

    def test_powershell_2_waits_for_the_end_of_a_pipe(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(winrm_2=True))
        asking = client(listening, operation_timeout_sec=1)
        shell = asking.open_shell()
        command = asking.run_command(shell, packed(), skip_cmd_shell=True, console_mode_stdin=False)

        with pytest.raises(WinRMOperationTimeoutError):
            asking.get_command_output_raw(shell, command)
        asking.send_command_input(shell, command, b"", end=True)
        assert asking.get_command_output(shell, command)[0] == b"printed"
        assert packed_collect(client(listening), packed())[0] == b"printed"

    def test_cmd_refuses_a_long_line(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()

        outputs = []
        for length in (8191, 8192):
            command = asking.run_command(shell, "powershell.exe".ljust(length, "x"))
            outputs.append(asking.get_command_output(shell, command))

        assert outputs[0][1].startswith(b"This is a simulation")
        assert outputs[1] == (b"", b"The command line is too long.\r\n", 1)

    def test_windows_starts_no_process_with_a_very_long_line(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()

        asking.run_command(shell, "powershell.exe".ljust(32_766, "x"), skip_cmd_shell=True)
        with pytest.raises(WSManFaultError, match="too long") as fault:
            asking.run_command(shell, "powershell.exe".ljust(32_767, "x"), skip_cmd_shell=True)

        assert fault.value.wsman_fault_code == 206


class TestLimits:
    def test_a_receive_without_output_times_out(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(takes=1.5))
        asking = client(listening, operation_timeout_sec=1)

        assert collect(asking) == (b"printed", b"", 0)

        receives = [operation.fault for operation in listening.journal.of(Operation) if operation.name == "Receive"]
        assert receives == [2150858793, 0]

    def test_one_user_s_shells_are_counted(self, hosts: SimulatedHosts) -> None:
        other = Account("CONTOSO", "other", "other")
        listening = hosts.start(host(accounts=(READER, other), quotas=Quotas(shells_per_user=2)))
        asking = client(listening)
        shells = [asking.open_shell() for _ in range(2)]

        with pytest.raises(WSManFaultError, match="maximum number of concurrent shells") as fault:
            asking.open_shell()
        assert (fault.value.wsman_fault_code, fault.value.fault_subcode) == (2150859173, "w:QuotaLimit")
        assert "maximum number of 2 concurrent shells" in fault.value.response
        client(listening, other).open_shell()
        asking.close_shell(shells[0], close_session=False)
        asking.open_shell()
        assert listening.open_shells == 3

    def test_users_with_shells_are_counted(self, hosts: SimulatedHosts) -> None:
        other = Account("CONTOSO", "other", "other")
        listening = hosts.start(host(accounts=(READER, other), quotas=Quotas(users=1)))
        client(listening).open_shell()

        with pytest.raises(WSManFaultError) as fault:
            client(listening, other).open_shell()

        assert fault.value.wsman_fault_code == 2150859179

    def test_a_user_s_commands_are_counted_even_when_they_ended(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host(quotas=Quotas(operations_per_user=2))))
        shell = asking.open_shell()
        for _ in range(2):
            asking.cleanup_command(shell, asking.run_command(shell, from_input()))

        with pytest.raises(WSManFaultError, match="concurrent operations") as fault:
            asking.run_command(shell, from_input())
        assert fault.value.wsman_fault_code == 2150859174
        asking.close_shell(shell, close_session=False)
        asking.run_command(asking.open_shell(), from_input())

    def test_commands_of_a_shell_are_counted(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host(quotas=Quotas(processes_per_shell=1))))
        shell = asking.open_shell()
        command = asking.run_command(shell, from_input())

        with pytest.raises(WSManFaultError) as fault:
            asking.run_command(shell, from_input())
        assert fault.value.fault_subcode == "w:QuotaLimit"
        asking.cleanup_command(shell, command)
        asking.run_command(shell, from_input())

    @pytest.mark.parametrize("whose", ["nobody's", "another user's", "deleted"])
    def test_a_shell_that_is_not_there_is_a_fault(self, hosts: SimulatedHosts, whose: str) -> None:
        other = Account("CONTOSO", "other", "other")
        listening = hosts.start(host(accounts=(READER, other)))
        asking = client(listening)
        shell = client(listening, other).open_shell() if whose == "another user's" else asking.open_shell()
        if whose == "deleted":
            asking.close_shell(shell, close_session=False)

        with pytest.raises(WSManFaultError, match="invalid selectors") as fault:
            asking.run_command("11111111-1111-1111-1111-111111111111" if whose == "nobody's" else shell, "x")

        assert fault.value.wsman_fault_code == 2150858843
        assert "the shell was not found on the server" in fault.value.response
        assert f'Machine="{listening.host.name}"' in fault.value.response

    def test_an_idle_shell_ends(self, hosts: SimulatedHosts) -> None:
        listening = hosts.start(host(quotas=Quotas(least_idle_timeout=0.2)))
        asking = client(listening)
        shell = asking.open_shell(idle_timeout="PT0.3S")
        assert listening.open_shells == 1

        while listening.open_shells:
            threading.Event().wait(0.05)

        with pytest.raises(WSManFaultError, match="invalid selectors"):
            asking.close_shell(shell)

    def test_a_shorter_one_than_windows_takes_is_made_longer(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        send, answers = asking.transport.send_message, []

        def keeping(message: str | bytes) -> bytes:
            answers.append(send(message))
            return answers[-1]

        asking.transport.send_message = keeping  # type: ignore[method-assign]
        asking.open_shell(idle_timeout="PT5S")
        asking.open_shell(idle_timeout="PT2M")

        assert b"<rsp:IdleTimeOut>PT60.000S<" in answers[0]
        assert b"<rsp:IdleTimeOut>PT120.000S<" in answers[1]

    @pytest.mark.parametrize("how", ["Signal", "Delete"])
    def test_the_end_of_a_command_ends_the_wait_for_it(self, hosts: SimulatedHosts, how: str) -> None:
        listening = hosts.start(host())
        asking, ending = client(listening), client(listening)
        shell = asking.open_shell()
        command = asking.run_command(shell, from_input())
        faults: list[int | None] = []

        def wait() -> None:
            with pytest.raises(WSManFaultError) as fault:
                asking.get_command_output_raw(shell, command)
            faults.append(fault.value.wsman_fault_code)

        waiting = threading.Thread(target=wait)
        waiting.start()
        while [asked.authorization for asked in listening.journal.of(Asked)].count("") < 4:
            threading.Event().wait(0.01)
        if how == "Signal":
            ending.cleanup_command(shell, command)
        else:
            ending.close_shell(shell)
        waiting.join(5)

        assert faults == [995]

    def test_a_message_that_is_too_large_is_a_fault(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()
        command = asking.run_command(shell, from_input())

        asking.send_command_input(shell, command, b"#" * 112_000)
        with pytest.raises(WSManFaultError, match="maximum envelope size"):
            asking.send_command_input(shell, command, b"#" * 116_000)

    def test_input_after_its_end_is_a_fault(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()
        command = asking.run_command(shell, from_input(), console_mode_stdin=False)
        asking.send_command_input(shell, command, SCRIPT[:100])
        asking.send_command_input(shell, command, SCRIPT[100:], end=True)

        with pytest.raises(WSManFaultError, match="pipe"):
            asking.send_command_input(shell, command, b"more")
        assert asking.get_command_output(shell, command)[0] == b"printed"

    @pytest.mark.parametrize(
        ("asked", "changed", "code"),
        [
            ("PT7S", "seven seconds", 2150858817),
            (">65001<", ">1<", 87),
            ("windows/shell/cmd", "windows/shell/other", 2150858752),
            (">153600<", ">8191<", 2150858823),
            ("transfer/Create", "transfer/Get", 2150858752),
        ],
    )
    def test_what_a_shell_cannot_have_is_a_fault(
        self, hosts: SimulatedHosts, asked: str, changed: str, code: int
    ) -> None:
        listening = hosts.start(host())
        asking = client(listening)
        send = asking.transport.send_message

        def other(message: str | bytes) -> bytes:
            assert asked in str(message)
            return send(str(message).replace(asked, changed))

        asking.transport.send_message = other  # type: ignore[method-assign]
        with pytest.raises(WSManFaultError) as fault:
            asking.open_shell(codepage=65001, idle_timeout="PT7S")

        assert fault.value.wsman_fault_code == code
        assert listening.open_shells == 0

    def test_a_command_that_is_not_there_is_a_fault(self, hosts: SimulatedHosts) -> None:
        asking = client(hosts.start(host()))
        shell = asking.open_shell()

        with pytest.raises(WSManFaultError, match="invalid selectors"):
            asking.get_command_output_raw(shell, "11111111-1111-1111-1111-111111111111")
