"""Where NTLM and Kerberos come from: pyspnego's acceptors, and what they read from files and the environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings

from exporter.demo.winrm.host import Account, WindowsHost

_ENVIRONMENT: Final = threading.Lock()
"""The environment is the process's, and the acceptors of two hosts may need another one."""


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with _ENVIRONMENT:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


class Acceptors:
    """Makes the acceptors of a fleet of hosts, and takes each of their steps in the environment that it needs.

    `create` is the one place that says which library they come from. The accounts are in files that only we can read,
    in a folder that `close` removes.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="tls-readiness-accounts-")
        self._files: dict[tuple[Account, ...], str] = {}

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def create(self) -> spnego.ContextProxy:
        """A new acceptor, for one connection."""
        return spnego.server(protocol="negotiate")

    def step(
        self,
        host: WindowsHost,
        acceptor: spnego.ContextProxy | None,
        token: bytes,
        bindings: GssChannelBindings | None,
    ) -> tuple[spnego.ContextProxy, bytes | None]:
        """The acceptor, a new one where there is none, after the token; and its answer.

        Raises:
            Exception: the token is refused, in the words of the library or of those below it.
        """
        with _environment(self._variables(host)):
            acceptor = acceptor or self.create()
            return acceptor, acceptor.step(token, channel_bindings=bindings)

    def _variables(self, host: WindowsHost) -> dict[str, str]:
        keytab = {} if host.keytab is None else {"KRB5_KTNAME": host.keytab}
        return {"NTLM_USER_FILE": self._file(tuple(host.accounts)), **keytab}

    def _file(self, accounts: Sequence[Account]) -> str:
        """The file of these accounts; hosts that have the same share it."""
        key = tuple(accounts)
        if key not in self._files:
            path = os.path.join(self._folder.name, str(len(self._files)))  # noqa: PTH118 - one file, no Path's worth
            lines = "".join(_lines(account) for account in accounts)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - of a descriptor
                file.write(lines)
            self._files[key] = path
        return self._files[key]


def _lines(account: Account) -> str:
    """One line for each way to say who it is; pyspnego compares them as they stand, but for upper and lower case."""
    names = [(domain, account.user) for domain in account.domains]
    names += [("", f"{account.user}@{domain}") for domain in account.domains]
    return "".join(f"{domain}:{user}:{account.password}\n" for domain, user in names)


@cache
def bindings_of(certificate_file: Path) -> GssChannelBindings:
    """What ties a logon to that server certificate: tls-server-end-point, RFC 5929."""
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + certificate.fingerprint(algorithm))
