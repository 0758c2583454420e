"""A real Active Directory domain controller on loopback: Samba's, of which only the KDC runs.

`running` provisions a domain in a folder of its own and starts it on 127.0.0.2, which some seconds of CPU go into.
It must be started as root, as Postfix must. `SlowKdc`, `SilentKdc` and `krb5_conf` are for the KDCs that tests need
besides.
"""

from __future__ import annotations

import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from real_servers import StartError

REALM: Final = "CONTOSO.TEST"
PASSWORD: Final = "Re4d-Only! pass phrase"
"""Of every user."""
READER: Final = f"svc-tlsread@{REALM}"
OTHER: Final = f"svc-other@{REALM}"
DISABLED: Final = f"svc-disabled@{REALM}"
EXPIRED: Final = f"svc-expired@{REALM}"
MUST_CHANGE: Final = f"svc-mustchange@{REALM}"
HOSTS: Final = ("exch01.contoso.test", "exch02.contoso.test")
"""Computers that have an account with the service principal HTTP/<name>."""

_ADDRESS: Final = "127.0.0.2"
_LIMIT: Final = 60.0
_PYTHON: Final = "/usr/bin/python3"  # Samba's modules belong to the system's own

_CONNECT: Final = """
import sys
from samba.auth import system_session
from samba.credentials import Credentials
from samba.net import Net
from samba.param import LoadParm
from samba.samdb import SamDB
import samba.dckeytab
folder, *arguments = sys.argv[1:]
lp = LoadParm()
lp.load(f"{folder}/smb.conf")
db = SamDB(url=f"{folder}/private/sam.ldb", session_info=system_session(), lp=lp)
def one(name, *attributes):
    return db.search(expression=f"(sAMAccountName={name})", attrs=list(attributes))[0]
def export(principal, path):
    Net(Credentials(), lp).export_keytab(keytab=path, principal=principal)
"""
_POPULATE: Final = """
password, hosts = arguments[0], arguments[1:]
for name in ("svc-tlsread", "svc-other", "svc-disabled", "svc-expired", "svc-mustchange"):
    db.newuser(name, password, force_password_change_at_next_login_req=name == "svc-mustchange")
db.disable_account("(sAMAccountName=svc-disabled)")
db.setexpiry("(sAMAccountName=svc-expired)", -86400)
for host in hosts:
    name = host.split(".")[0]
    db.newcomputer(name)
    # An SPN on a user's account would get keys for RC4 only: 28 is RC4, AES128 and AES256.
    db.modify_ldif(f'''dn: {one(name + "$").dn}
changetype: modify
replace: servicePrincipalName
servicePrincipalName: HTTP/{host}
-
replace: msDS-SupportedEncryptionTypes
msDS-SupportedEncryptionTypes: 28
''')
    db.setpassword(f"(sAMAccountName={name}$)", f"Machine-{name}-0!")
    export(f"HTTP/{host}", f"{folder}/{host}.keytab")
db.modify_ldif(f'''dn: {db.domain_dn()}
changetype: modify
replace: lockoutThreshold
lockoutThreshold: 10
-
replace: minPwdAge
minPwdAge: 0
''')
"""


class SambaController:
    """The controller of `REALM`.

    Attributes:
        krb5_conf: what KRB5_CONFIG must name to find it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.krb5_conf = krb5_conf(folder / "krb5.conf", self.port)

    def provision(self) -> None:
        """Make the domain, and who is in it."""
        command = [
            *("samba-tool", "domain", "provision", "--quiet", f"--targetdir={self._folder}", f"--realm={REALM}"),
            *("--domain=CONTOSO", "--host-name=dc01", f"--host-ip={_ADDRESS}", "--dns-backend=NONE"),
            *("--base-schema=2008_R2", "--function-level=2008_R2"),  # the smaller schema: a second less
        ]
        _run(command, self.krb5_conf)
        for part in ("cache", "run", "ncalrpc"):
            (self._folder / part).mkdir(exist_ok=True)
        (self._folder / "smb.conf").write_text(
            f"""
[global]
realm = {REALM}
workgroup = CONTOSO
netbios name = DC01
server role = active directory domain controller
server services = kdc
dcerpc endpoint servers =
interfaces = {_ADDRESS}/8
bind interfaces only = yes
krb5 port = {self.port}
kpasswd port = 0
lock directory = {self._folder}
state directory = {self._folder}/state
cache directory = {self._folder}/cache
private dir = {self._folder}/private
pid directory = {self._folder}/run
ncalrpc dir = {self._folder}/ncalrpc
log file = {self._folder}/log
"""
        )
        self._ask(_POPULATE, PASSWORD, *HOSTS)

    def start(self) -> None:
        """Return once it answers."""
        output = self._folder / "output"
        with output.open("ab") as writer:
            self._process = subprocess.Popen(
                ["samba", "-F", "-M", "single", "--no-process-group", "-s", str(self._folder / "smb.conf")],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                env=_environment(self.krb5_conf),
                start_new_session=True,
            )
        limit = time.monotonic() + _LIMIT
        while True:
            with suppress(OSError), socket.create_connection((_ADDRESS, self.port), timeout=1):
                return
            if self._process.poll() is not None or time.monotonic() > limit:
                self.stop()
                raise StartError(f"samba does not listen:\n{output.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it: its port is closed then, as that of a machine whose service was stopped."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # there is nothing that it must put in order
        self._process.wait(timeout=10)
        self._process = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is stopped meanwhile."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def host_keytab(self, host: str) -> Path:
        """The keys of a host's HTTP service, for AES."""
        return self._folder / f"{host}.keytab"

    def export_keytab(self, principal: str, path: Path) -> Path:
        """Write the keys that a user has now."""
        self._ask("export(*arguments)", principal, str(path))
        return path

    def set_password(self, principal: str, password: str) -> None:
        """Give a user a new password."""
        self._ask("db.setpassword(f'(sAMAccountName={arguments[0]})', arguments[1])", _account(principal), password)

    def bad_passwords(self, principal: str) -> int:
        """How many wrong passwords of a user it has counted since his last right one."""
        code = "print(one(arguments[0], 'badPwdCount').get('badPwdCount', [b'0'])[0].decode())"
        return int(self._ask(code, _account(principal)).split()[-1])

    def _ask(self, code: str, *arguments: str) -> str:
        return _run([_PYTHON, "-c", _CONNECT + code, str(self._folder), *arguments], self.krb5_conf)


@contextmanager
def running(folder: Path) -> Iterator[SambaController]:
    """A controller while it runs."""
    if os.geteuid() != 0:
        raise StartError("samba gives files to other users, for which it must be started as root")
    controller = SambaController(folder)
    controller.provision()
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()


class SlowKdc:
    """Hands what it is sent to a controller, by UDP or TCP, and the answer back later. A context manager.

    Attributes:
        port: where, on the controller's address.
    """

    def __init__(self, controller: SambaController, delay: float) -> None:
        self.port = _free_port()
        self._servers: list[socketserver.BaseServer] = []
        target = (_ADDRESS, controller.port)

        class Datagram(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                with socket.socket(type=socket.SOCK_DGRAM) as onward:
                    onward.settimeout(_LIMIT)
                    onward.sendto(self.rfile.read(), target)
                    answer = onward.recv(65536)
                time.sleep(delay)
                self.wfile.write(answer)

        class Stream(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(target, timeout=_LIMIT) as onward, suppress(OSError):
                    onward.sendall(self.request.recv(65536))
                    answer = onward.recv(65536)
                    time.sleep(delay)
                    self.request.sendall(answer)

        for server in (
            socketserver.ThreadingUDPServer((_ADDRESS, self.port), Datagram),
            socketserver.ThreadingTCPServer((_ADDRESS, self.port), Stream),
        ):
            server.daemon_threads = True
            self._servers.append(server)

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class SilentKdc:
    """Takes what it is sent, by UDP and TCP, and never answers. A context manager.

    Attributes:
        port: where, on the controller's address.
    """

    def __init__(self) -> None:
        self.port = _free_port()
        self._stack = ExitStack()
        self._datagrams = self._open(socket.SOCK_DGRAM)
        self._connections = self._open(socket.SOCK_STREAM)
        self._connections.listen(64)

    def _open(self, kind: socket.SocketKind) -> socket.socket:
        opened = self._stack.enter_context(socket.socket(socket.AF_INET, kind))
        opened.bind((_ADDRESS, self.port))
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def was_asked(self) -> bool:
        """Whether a datagram or a connection came since the last call."""
        count = 0
        self._datagrams.settimeout(0)
        self._connections.settimeout(0)
        with suppress(BlockingIOError):
            while self._datagrams.recv(65536):
                count += 1
        with suppress(BlockingIOError):
            while True:
                self._stack.enter_context(self._connections.accept()[0])  # stays open, and silent
                count += 1
        return count > 0


def krb5_conf(path: Path, port: int, *settings: str) -> Path:
    """Write a krb5.conf that names one KDC and asks no DNS. ``settings`` are lines for libdefaults."""
    path.write_text(
        "\n".join(
            [
                "[libdefaults]",
                f"default_realm = {REALM}",
                *("dns_lookup_kdc = false", "dns_lookup_realm = false"),
                *("rdns = false", "dns_canonicalize_hostname = false"),
                *settings,
                *("[realms]", f"{REALM} = {{", f"kdc = {_ADDRESS}:{port}", "}", ""),
            ]
        )
    )
    return path


def _account(principal: str) -> str:
    return principal.partition("@")[0]


def _free_port() -> int:
    """A port that is free for both UDP and TCP."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams, suppress(OSError):
            stream.bind((_ADDRESS, 0))
            port = int(stream.getsockname()[1])
            datagrams.bind((_ADDRESS, port))
            return port


def _environment(conf: Path) -> dict[str, str]:
    path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    return os.environ | {"PATH": path, "KRB5_CONFIG": str(conf), "TDB_NO_FSYNC": "1"}


def _run(command: list[str], conf: Path) -> str:
    try:
        done = subprocess.run(
            command, env=_environment(conf), capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except FileNotFoundError as error:
        raise StartError(f"these tests need {command[0]}; scripts/install-test-servers.sh installs it") from error
    if done.returncode:
        raise StartError(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout
