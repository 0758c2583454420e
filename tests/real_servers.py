"""Real TLS servers on loopback, and what each is configured to accept: the oracle of the wire tests.

`TABLE` names every server with the protocol versions that it is configured for. `running` starts them all at once, from
Debian's packages and from tlslite-ng in threads of this process, and ends them again. Nothing is skipped: a server that
cannot be started is an error that says why.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import ExtensionType
from tlslite.errors import BaseTLSException
from tlslite.messages import ClientHello
from tlslite.utils.codec import Parser

from exporter.demo import begin_tls
from exporter.facts import Protocol

S2, S3, T10, T11, T12, T13 = Protocol
Versions: TypeAlias = frozenset[Protocol]

_WIRE: Final = {S3: (3, 0), T10: (3, 1), T11: (3, 2), T12: (3, 3), T13: (3, 4)}
_CONTIGUOUS: Final = (S3, T10, T11, T12, T13)
_START_LIMIT: Final = 30.0
"""Seconds that a server may take until it listens."""


@dataclass(frozen=True, slots=True)
class Row:
    """One server of the table.

    Attributes:
        accepted: the versions that it is configured for.
        kind: which program it is; a method of the same name below starts it.
        options: what that program is told, in its own words.
        service: https, tls, smtp, imap or pop3.
        certificate: rsa or ecdsa.
        address: where it listens, and where to connect.
    """

    accepted: Versions
    kind: str
    options: tuple[str, ...] = ()
    service: str = "https"
    certificate: str = "rsa"
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    name: str
    row: Row
    port: int


def _openssl(accepted: Sequence[Protocol], *options: str, certificate: str = "rsa", address: str = "127.0.0.1") -> Row:
    # OpenSSL's security level 1 and above forbids the SHA-1 that TLS 1.0 and 1.1 sign with.
    switched_off = {T10: "-no_tls1", T11: "-no_tls1_1", T12: "-no_tls1_2", T13: "-no_tls1_3"}
    off = [option for version, option in switched_off.items() if version not in accepted]
    told = ("-cipher", "ALL:@SECLEVEL=0", *off, *options)
    return Row(frozenset(accepted), "openssl", told, certificate=certificate, address=address)


def _gnutls(accepted: Sequence[Protocol], certificate: str = "rsa") -> Row:
    # LEGACY rather than NORMAL: it has what old versions need, and its versions are replaced by ours.
    versions = "".join(f":+VERS-{version.replace(' ', '')}" for version in accepted)
    return Row(frozenset(accepted), "gnutls", (f"LEGACY:-VERS-ALL{versions}:%COMPAT",), certificate=certificate)


def _nss(lowest: Protocol, highest: Protocol) -> Row:
    spelled = {S3: "ssl3", T10: "tls1.0", T11: "tls1.1", T12: "tls1.2", T13: "tls1.3"}
    return Row(frozenset(_between(lowest, highest)), "nss", (f"{spelled[lowest]}:{spelled[highest]}",))


def _tlslite(*accepted: Protocol, service: str = "https") -> Row:
    return Row(frozenset(accepted), "tlslite", service=service)


def _nginx(*accepted: Protocol) -> Row:
    spelled = {T10: "TLSv1", T11: "TLSv1.1", T12: "TLSv1.2", T13: "TLSv1.3"}
    return Row(frozenset(accepted), "nginx", tuple(spelled[version] for version in accepted))


def _postfix(accepted: Sequence[Protocol], protocols: str, level: str = "may") -> Row:
    return Row(frozenset(accepted), "postfix", (protocols, level), service="smtp")


def _dovecot(lowest: Protocol, minimum: str, service: str) -> Row:
    return Row(frozenset(_between(lowest, T13)), "dovecot", (minimum,), service=service)


def _between(lowest: Protocol, highest: Protocol) -> tuple[Protocol, ...]:
    return _CONTIGUOUS[_CONTIGUOUS.index(lowest) : _CONTIGUOUS.index(highest) + 1]


def _span(lowest: Protocol, highest: Protocol) -> str:
    """The range for a server's name: ``tls1.0-to-tls1.2``, or ``tls1.2-only``."""
    low, high = (version.lower().replace(" ", "") for version in (lowest, highest))
    return f"{low}-only" if low == high else f"{low}-to-{high}"


# fmt: off
TABLE: Final[Mapping[str, Row]] = MappingProxyType({
    "openssl-tls1.0-to-tls1.3": _openssl((T10, T11, T12, T13)),
    "openssl-tls1.0-to-tls1.2": _openssl((T10, T11, T12)),
    "openssl-tls1.0-only": _openssl((T10,)),
    "openssl-tls1.1-only": _openssl((T11,)),
    "openssl-tls1.2-only": _openssl((T12,)),
    "openssl-tls1.3-only": _openssl((T13,)),
    "openssl-tls1.0-and-tls1.2": _openssl((T10, T12)),
    "openssl-tls1.0-and-tls1.3": _openssl((T10, T13)),
    "openssl-tls1.1-and-tls1.3": _openssl((T11, T13)),
    "openssl-ecdsa-tls1.0-to-tls1.3": _openssl((T10, T11, T12, T13), certificate="ecdsa"),
    "openssl-ecdsa-tls1.2-to-tls1.3": _openssl((T12, T13), certificate="ecdsa"),
    "openssl-client-certificate": _openssl((T10, T11, T12, T13), "-Verify", "1"),
    "openssl-hello-retry-request": _openssl((T12, T13), "-groups", "P-384"),
    # As it comes: TLS 1.0 and 1.1 are not switched off, but no signature is left for them, and it answers alert 80.
    "openssl-as-it-comes": Row(frozenset({T12, T13}), "openssl"),
    "openssl-ipv6": _openssl((T12, T13), address="::1"),

    "gnutls-tls1.0-to-tls1.3": _gnutls((T10, T11, T12, T13)),
    "gnutls-tls1.0-to-tls1.2": _gnutls((T10, T11, T12)),
    "gnutls-tls1.2-to-tls1.3": _gnutls((T12, T13), certificate="ecdsa"),
    "gnutls-tls1.0-only": _gnutls((T10,)),
    "gnutls-tls1.3-only": _gnutls((T13,)),
    "gnutls-tls1.0-and-tls1.2": _gnutls((T10, T12)),
    "gnutls-tls1.0-and-tls1.2-to-tls1.3": _gnutls((T10, T12, T13)),
    # Asked for 1.1 and 1.3 without 1.2, GnuTLS silently leaves out 1.3: the wire decides, not the configuration.
    "gnutls-tls1.1-and-tls1.3": replace(_gnutls((T11, T13)), accepted=frozenset({T11})),

    "nss-ssl3.0-to-tls1.2": _nss(S3, T12),
    "nss-ssl3.0-to-tls1.0": _nss(S3, T10),
    "nss-ssl3.0-only": _nss(S3, S3),
    "nss-tls1.0-to-tls1.3": _nss(T10, T13),
    "nss-tls1.1-only": _nss(T11, T11),
    "nss-tls1.2-to-tls1.3": _nss(T12, T13),
    "nss-tls1.3-only": _nss(T13, T13),

    **{
        f"tlslite-{_span(lowest, highest)}": _tlslite(*_between(lowest, highest))
        for lowest in _CONTIGUOUS for highest in _CONTIGUOUS[_CONTIGUOUS.index(lowest):]
    },
    "tlslite-ssl3.0-and-tls1.2": _tlslite(S3, T12),
    "tlslite-tls1.0-and-tls1.2": _tlslite(T10, T12),
    "tlslite-ssl3.0-tls1.1-tls1.3": _tlslite(S3, T11, T13),
    "tlslite-starttls-ssl3.0-to-tls1.2": _tlslite(S3, T10, T11, T12, service="smtp"),
    "simulation-ssl2.0-and-tls1.0-to-tls1.2": _tlslite(S2, T10, T11, T12),
    "simulation-ssl2.0-to-tls1.0": _tlslite(S2, S3, T10),

    "nginx-tls1.0-to-tls1.3": _nginx(T10, T11, T12, T13),
    "nginx-tls1.2-to-tls1.3": _nginx(T12, T13),
    "nginx-tls1.2-only": _nginx(T12),
    "nginx-tls1.0-and-tls1.2": _nginx(T10, T12),

    "postfix-25-tls1.0-to-tls1.2": _postfix((T10, T11, T12), ">=TLSv1, <=TLSv1.2"),
    "postfix-25-tls1.0-to-tls1.3": _postfix((T10, T11, T12, T13), ">=TLSv1"),
    "postfix-587-tls1.2-to-tls1.3": _postfix((T12, T13), ">=TLSv1.2", "encrypt"),
    "postfix-587-tls1.0-and-tls1.2": _postfix((T10, T12), "TLSv1, TLSv1.2", "encrypt"),

    "dovecot-imap-tls1.0-to-tls1.3": _dovecot(T10, "TLSv1", "imap"),
    "dovecot-imaps-tls1.0-to-tls1.3": _dovecot(T10, "TLSv1", "tls"),
    "dovecot-pop3-tls1.2-to-tls1.3": _dovecot(T12, "TLSv1.2", "pop3"),
    "dovecot-pop3s-tls1.2-to-tls1.3": _dovecot(T12, "TLSv1.2", "tls"),
})
# fmt: on


class StartError(Exception):
    """A server could not be started: a program or a right is missing, or it ended by itself."""


@contextmanager
def running(table: Mapping[str, Row] = TABLE) -> Iterator[Mapping[str, Server]]:
    """Every server of the table, listening; they are started side by side and ended together."""
    with ExitStack() as stack:
        # Not pytest's folder: only root may enter that one, and postfix and dovecot give up root's rights.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tls-readiness-tests-")))
        folder.chmod(0o755)
        ports = free_ports(table)
        servers = {name: Server(name, row, ports[name]) for name, row in table.items()}
        starter = _Starter(folder, stack)
        kinds: dict[str, list[Server]] = {}
        for server in servers.values():
            kinds.setdefault(server.row.kind, []).append(server)
        for kind, members in kinds.items():
            getattr(starter, kind)(members)
        starter.wait()
        yield servers


def free_ports(names: Mapping[str, Row]) -> dict[str, int]:
    """A free port for each name, below those that the system gives to outgoing connections."""
    ports: dict[str, int] = {}
    candidates = iter(random.sample(range(20000, 32000), 4000))
    for name, row in names.items():
        ports[name] = next(port for port in candidates if _is_free(row.address, port))
    return ports


def _is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            if ":" in address and not socket.has_dualstack_ipv6():
                raise StartError(f"these tests need IPv6 on loopback: {error}") from error
            return False
    return True


class _Starter:
    """Starts the programs. Their methods are named like the kinds in the table."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._started: list[tuple[Server, _Program]] = []
        self._certificates = {name: Certificate(folder, name) for name in ("rsa", "ecdsa")}

    def openssl(self, servers: Sequence[Server]) -> None:
        for server in servers:
            listen = f"[{server.row.address}]" if ":" in server.row.address else server.row.address
            certificate = self._certificates[server.row.certificate]
            # -www: answer and go on, instead of reading from the terminal.
            command = ["openssl", "s_server", "-accept", f"{listen}:{server.port}", "-www", "-quiet"]
            command += ["-cert", certificate.chain, "-key", certificate.key, *server.row.options]
            self._start([server], command)

    def gnutls(self, servers: Sequence[Server]) -> None:
        for server in servers:
            certificate = self._certificates[server.row.certificate]
            command = ["gnutls-serv", "--http", "--quiet", f"--port={server.port}", "--disable-client-cert"]
            command += [f"--x509certfile={certificate.chain}", f"--x509keyfile={certificate.key}"]
            self._start([server], [*command, f"--priority={server.row.options[0]}"])

    def nss(self, servers: Sequence[Server]) -> None:
        """NSS keeps certificates in a database of its own, which all of its servers read."""
        database = self._folder / "nss"
        database.mkdir()
        bundle = database / "rsa.p12"
        _run("certutil", "-N", "-d", f"sql:{database}", "--empty-password")
        certificate = self._certificates["rsa"]
        _run(
            *("openssl", "pkcs12", "-export", "-in", certificate.chain, "-inkey", certificate.key),
            *("-name", "localhost", "-passout", "pass:test", "-out", str(bundle)),
        )
        _run("pk12util", "-i", str(bundle), "-d", f"sql:{database}", "-W", "test", "-K", "")
        for server in servers:
            versions = server.row.options[0]
            command = ["selfserv", "-d", f"sql:{database}", "-n", "localhost", "-p", str(server.port), "-V", versions]
            self._start([server], command)

    def tlslite(self, servers: Sequence[Server]) -> None:
        certificate = self._certificates["rsa"]
        for server in servers:
            endpoint = TlsliteServer(certificate, server.row.accepted, server.port, smtp=server.row.service == "smtp")
            self._stack.enter_context(endpoint)

    def nginx(self, servers: Sequence[Server]) -> None:
        """One nginx with a server block for each row."""
        folder, certificate = self._folder / "nginx", self._certificates["rsa"]
        folder.mkdir()
        blocks = "".join(
            f"""
            server {{
                listen {server.row.address}:{server.port} ssl;
                ssl_protocols {" ".join(server.row.options)};
            }}"""
            for server in servers
        )
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"""
            daemon off;
            worker_processes 1;
            pid {folder}/nginx.pid;
            error_log {folder}/error.log;
            events {{ worker_connections 256; }}
            http {{
                access_log off;
                {temporary}
                ssl_certificate {certificate.chain};
                ssl_certificate_key {certificate.key};
                ssl_ciphers ALL:@SECLEVEL=0;
                {blocks}
            }}
            """
        )
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        self._start(servers, command, folder / "error.log")

    def postfix(self, servers: Sequence[Server]) -> None:
        """One postfix with an smtpd for each row."""
        _need_root("postfix")
        folder, certificate = self._folder / "postfix", self._certificates["rsa"]
        for part in (folder, folder / "conf", folder / "spool", folder / "data"):
            part.mkdir()
        owner = pwd.getpwnam("postfix")
        os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
        (folder / "conf" / "main.cf").write_text(
            f"""
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mail.example.test
mydestination =
default_transport = error:nothing is delivered here
alias_maps =
alias_database =
smtpd_relay_restrictions = reject
smtpd_tls_chain_files = {certificate.key} {certificate.chain}
smtpd_tls_security_level = may
smtpd_tls_ciphers = low
smtpd_tls_mandatory_ciphers = low
tls_low_cipherlist = ALL:@SECLEVEL=0
"""
        )
        lines = ["postlog unix-dgram n - n - 1 postlogd", "tlsmgr unix - - n 1000? 1 tlsmgr"]
        lines += [
            "anvil unix - - n - 1 anvil",
            "rewrite unix - - n - - trivial-rewrite",
            "proxymap unix - - n - - proxymap",
        ]
        for server in servers:
            protocols, level = server.row.options
            lines += [
                f"{server.row.address}:{server.port} inet n - n - - smtpd",
                f"  -o {{ smtpd_tls_protocols = {protocols} }}",
                f"  -o {{ smtpd_tls_mandatory_protocols = {protocols} }}",
                f"  -o {{ smtpd_tls_security_level = {level} }}",
            ]
        (folder / "conf" / "master.cf").write_text("\n".join(lines) + "\n")
        configuration = str(folder / "conf")
        _run("postfix", "-c", configuration, "check")
        # Not "postfix start-fg": that puts the master into a session of its own, out of our reach.
        programs = _run("postconf", "-c", configuration, "-h", "daemon_directory").strip()
        self._start(servers, [f"{programs}/master", "-c", configuration, "-d"], folder / "log")

    def dovecot(self, servers: Sequence[Server]) -> None:
        """One dovecot for each lowest version, which is a setting of the whole program."""
        _need_root("dovecot")
        for minimum in dict.fromkeys(server.row.options[0] for server in servers):
            members = [server for server in servers if server.row.options[0] == minimum]
            folder = self._folder / f"dovecot-{minimum}"
            folder.mkdir()
            (folder / "dovecot.conf").write_text(self._dovecot_conf(folder, minimum, members))
            self._start(members, ["dovecot", "-F", "-c", str(folder / "dovecot.conf")], folder / "log")

    def _dovecot_conf(self, folder: Path, minimum: str, servers: Sequence[Server]) -> str:
        certificate = self._certificates["rsa"]
        listeners: dict[str, str] = {"imap": "", "imaps": "", "pop3": "", "pop3s": ""}
        for server in servers:
            listener = server.name.split("-")[1]
            implicit = "ssl = yes" if listener.endswith("s") else ""
            listeners[listener] = f"port = {server.port}\n address = {server.row.address}\n {implicit}"
        blocks = "".join(
            f"service {login}-login {{\n"
            + "".join(
                # Port 0 closes a listener that dovecot would open by itself.
                f"inet_listener {name} {{\n {listeners[name] or 'port = 0'}\n}}\n"
                for name in (login, f"{login}s")
            )
            + "}\n"
            for login in ("imap", "pop3")
        )
        return f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap pop3
ssl = yes
ssl_cert = <{certificate.chain}
ssl_key = <{certificate.key}
ssl_min_protocol = {minimum}
ssl_cipher_list = ALL:@SECLEVEL=0
passdb {{
  driver = static
  args = nopassword=n
}}
{blocks}"""

    def _start(self, servers: Sequence[Server], command: Sequence[str], log: Path | None = None) -> None:
        output = self._folder / f"{servers[0].name}.out"
        program = self._stack.enter_context(_Program(command, self._folder, output, log))
        self._started += [(server, program) for server in servers]

    def wait(self) -> None:
        """Return once every program listens where it should."""
        limit = time.monotonic() + _START_LIMIT
        for server, program in self._started:
            listens = False
            while not listens:
                listens = _listens(server)
                if program.ended:  # even if somebody listens: then that is somebody else
                    raise StartError(f"{server.name} ended by itself:\n{program.said()}")
                if time.monotonic() > limit:
                    raise StartError(f"{server.name} does not listen after {_START_LIMIT:g} s:\n{program.said()}")
                time.sleep(0.01)


def _listens(server: Server) -> bool:
    with suppress(OSError), socket.create_connection((server.row.address, server.port), timeout=1):
        return True
    return False


class Certificate:
    """A certificate for localhost as files: a chain and its key, in PEM."""

    def __init__(self, folder: Path, kind: str) -> None:
        issued = trustme.CA().issue_cert("localhost", "127.0.0.1", "::1", key_type=trustme.KeyType[kind.upper()])
        chain, key = folder / f"{kind}.pem", folder / f"{kind}.key"
        self.chain_pem = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        self.der = load_pem_x509_certificate(self.chain_pem).public_bytes(Encoding.DER)
        # tlslite-ng and Postfix read PKCS#8 as well; trustme writes the traditional form.
        self.key_pem = load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        chain.write_bytes(self.chain_pem)
        key.write_bytes(self.key_pem)
        self.chain, self.key = str(chain), str(key)


class _Program:
    """A server program while it runs, as a context manager."""

    def __init__(self, command: Sequence[str], folder: Path, output: Path, log: Path | None) -> None:
        self._output, self._log = output, log
        program = _find(command[0])
        # The system's own policies must not decide what the table says that a server accepts.
        policies = {
            "OPENSSL_CONF": "/dev/null",
            "GNUTLS_SYSTEM_PRIORITY_FILE": "/dev/null",
            "NSS_IGNORE_SYSTEM_POLICY": "1",
        }
        with output.open("wb") as writer:
            self._process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=os.environ | policies,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        # What is left of the session that it began: programs that start others do not always take them along.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=5)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def said(self) -> str:
        texts = [path.read_text(errors="replace") for path in (self._output, self._log) if path and path.exists()]
        return "\n".join(texts)[-4000:]


def _find(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise StartError(f"these tests need {program}; scripts/install-test-servers.sh installs it")
    return path


def _run(*command: str) -> str:
    done = subprocess.run([_find(command[0]), *command[1:]], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise StartError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _need_root(program: str) -> None:
    if os.geteuid() != 0:
        raise StartError(f"{program} gives its processes to other users, for which it must be started as root")


class TlsliteServer(socketserver.ThreadingTCPServer):
    """A tlslite-ng server in threads of this process, as a context manager. It remembers its clients.

    Attributes:
        connections: how many TCP connections it took.
        hellos: each ClientHello that it was sent, in order; None for one of SSL 2.0.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, certificate: Certificate, accepted: Versions, port: int = 0, *, smtp: bool = False) -> None:
        super().__init__(("127.0.0.1", port), _TlsliteHandler)
        self.certificate = certificate
        self.accepted = accepted
        self.smtp = smtp
        self.chain = X509CertChain()
        self.chain.parsePemList(certificate.chain_pem.decode())
        self.key = parsePEMKey(certificate.key_pem.decode(), private=True)
        self.connections = 0
        self.hellos: list[ClientHello | None] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def settings_for(self, hello: ClientHello | None) -> HandshakeSettings:
        """tlslite-ng knows ranges only. For a set with a gap the hello decides which single version of it remains."""
        versions = sorted(_WIRE[version] for version in self.accepted if version is not S2)
        settings = HandshakeSettings()
        if hello is not None and len(versions) <= _ordinal(versions[-1]) - _ordinal(versions[0]):
            versions = [_best(versions, hello)]
        settings.minVersion, settings.maxVersion = versions[0], versions[-1]
        settings.versions = versions[::-1]
        if (3, 4) in versions and (3, 3) not in versions:  # it refuses to start with groups that TLS 1.3 does not have
            settings.eccCurves = ["x25519", "secp256r1", "secp384r1", "secp521r1"]
        return settings


def _ordinal(version: tuple[int, int]) -> int:
    return version[1]


def _best(versions: Sequence[tuple[int, int]], hello: ClientHello) -> tuple[int, int]:
    """What a server of these versions chooses: the highest that is offered, else one that it will refuse with."""
    extension = hello.getExtension(ExtensionType.supported_versions)
    if extension is not None and versions[-1] == (3, 4):
        offered = [version for version in versions if version in extension.versions]
    else:
        offered = [version for version in versions if version <= min(hello.client_version, (3, 3))]
    return max(offered, default=versions[0])


class _TlsliteHandler(socketserver.BaseRequestHandler):
    server: TlsliteServer

    def handle(self) -> None:
        self.request.settimeout(10)
        with suppress(OSError, BaseTLSException, SyntaxError):
            if self.server.smtp and not begin_tls(self.request):
                return
            first = self._peek(5)
            hello = self._peek_hello(first) if first[:1] == b"\x16" else None
            self.server.hellos.append(hello)
            if S2 in self.server.accepted and first[:1] >= b"\x80" and first[2:5] == b"\x01\x00\x02":
                simulate_ssl2(self.request, self.server.certificate.der)
                return
            connection = TLSConnection(self.request)
            settings = self.server.settings_for(hello)
            # Some ALPN, because without one it stumbles over a TLS 1.3 client that offers it.
            connection.handshakeServer(
                certChain=self.server.chain, privateKey=self.server.key, settings=settings, alpn=[b"http/1.1"]
            )
            connection.close()

    def _peek(self, length: int) -> bytes:
        """The first bytes, left where they are; fewer if the client sends no more."""
        limit = time.monotonic() + 5
        while True:  # MSG_WAITALL does nothing on a socket that has a time-out
            data: bytes = self.request.recv(length, socket.MSG_PEEK)
            if not data or len(data) == length or time.monotonic() > limit:
                return data
            time.sleep(0.005)

    def _peek_hello(self, first: bytes) -> ClientHello:
        record = self._peek(5 + int.from_bytes(first[3:5], "big"))
        parser = Parser(bytearray(record[5:]))
        parser.get(1)
        return ClientHello().parse(parser)


_SSL2_CIPHER_KINDS: Final = bytes.fromhex("010080 020080 030080 040080 050080 060040 0700c0")


def simulate_ssl2(connection: socket.socket, certificate: bytes) -> None:
    """A SIMULATION of an SSL 2.0 server (draft-hickman-netscape-ssl-00): no packaged server speaks SSL 2.0 any more.

    It answers a CLIENT-HELLO with the SERVER-HELLO of section 2.6 (no session, an X.509 certificate, all seven cipher
    kinds, a connection id of 16 bytes) and then waits for the client to go: the handshake is never finished.
    """
    header = _exactly(connection, 2)
    _exactly(connection, (header[0] & 0x7F) << 8 | header[1])
    lengths = struct.pack(">HHH", len(certificate), len(_SSL2_CIPHER_KINDS), 16)
    # MSG-SERVER-HELLO, SESSION-ID-HIT, CERTIFICATE-TYPE, SERVER-VERSION
    message = b"\x04\x00\x01\x00\x02" + lengths + certificate + _SSL2_CIPHER_KINDS + os.urandom(16)
    connection.sendall(struct.pack(">H", 0x8000 | len(message)) + message)
    connection.recv(4096)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the client went in the middle of its hello")
        data += part
    return data
