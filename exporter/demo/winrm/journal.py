"""What a simulated host saw, in order, for tests that ask whether the client behaved."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Opened:
    """A TCP connection (over https: its TLS handshake succeeded too)."""

    peer: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of one, whoever ended it."""

    peer: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request, whatever was answered.

    Attributes:
        method: POST.
        path: /wsman.
        host: its Host header.
        authorization: the kind of what its Authorization header carries: "", "Basic", "certificate", "Kerberos",
            "NTLM negotiate", "NTLM authenticate", or "other". Only "NTLM authenticate", "Kerberos" and "Basic" hold
            something that was made with a secret.
    """

    method: str
    path: str
    host: str
    authorization: str


@dataclass(frozen=True, slots=True)
class Logon:
    r"""One logon attempt, as a domain controller would count it.

    Attributes:
        user: DOMAIN\user or principal, as the client said it.
        ok: the secret was right.
        mechanism: ntlm, kerberos, basic or certificate.
        detail: why not.
    """

    user: str
    ok: bool
    mechanism: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One WS-Management operation of an authenticated user.

    Attributes:
        name: Create, Command, Send, Receive, Signal or Delete.
        shell: the shell's identifier; of a Create that was refused "".
        command_line: of a Command.
        fault: the code of the fault that answered it; 0 where none did.
    """

    name: str
    shell: str
    command_line: str = ""
    fault: int = 0


@dataclass(frozen=True, slots=True)
class Readable:
    """A message that came unencrypted over http: everybody on the way could read it."""

    text: bytes


Entry: TypeAlias = Opened | Closed | Asked | Logon | Operation | Readable
E = TypeVar("E", Opened, Closed, Asked, Logon, Operation, Readable)

_MOST: Final = 20_000
"""A demo that runs for days keeps the newest entries only."""


class Journal:
    """The entries of one host. Any thread may read it while the host writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_MOST)

    def add(self, entry: Entry) -> None:
        """One more."""
        with self._lock:
            self._entries.append(entry)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All so far, in order."""
        with self._lock:
            return tuple(self._entries)

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """All of that kind so far, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, kind))

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations so far, in order."""
        return tuple(entry.name for entry in self.of(Operation))
