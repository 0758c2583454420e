"""What the children that use pywinrm are asked, what they answer, and how both travel: as one line of JSON each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Base64Bytes, TypeAdapter

from exporter.facts import Missing
from exporter.probes.winrm.command_line import Parameters
from exporter.probes.winrm.document import MAX_BYTES

Auth: TypeAlias = Literal["kerberos", "ntlm", "basic", "certificate"]


@dataclass(frozen=True, slots=True)
class Login:
    """What is needed to log on to a host. Of the texts that an authentication does not need, each is empty.

    Attributes:
        auth: how.
        https: whether over TLS; without it every message is encrypted, where the authentication can do that.
        port: the TCP port of the WinRM service.
        username: the account: the principal where it is Kerberos.
        password: its password.
        ticket_cache: where the Kerberos tickets are, as KRB5CCNAME names it.
        certificate_file: the client certificate, PEM.
        key_file: its key.
        ca_file: the certificates to trust, PEM; "" for the system's.
        channel_bindings: whether to bind the log-on to the TLS connection (RFC 5929).
    """

    auth: Auth
    https: bool
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    ticket_cache: str = ""
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    channel_bindings: bool = True


@dataclass(frozen=True, slots=True)
class CollectJob:
    """Run the collector script on a host.

    Attributes:
        server: the configured name: what the host's certificate and its Kerberos tickets are made out to.
        address: the IP address to connect to, and to no other.
        login: how to log on.
        parameters: of the script.
    """

    server: str
    address: str
    login: Login
    parameters: Parameters = field(default_factory=Parameters)


@dataclass(frozen=True, slots=True)
class Collected:
    """What came of it.

    Attributes:
        output: what the script printed.
        failure: why there is no whole output.
        accepted: whether the host accepted the log-on; None where it was not asked, or did not say.
        began: when the script was started last, Unix time in seconds.
        ended: when its output was there, or it failed.
        fallback: whether the script had to be sent as part of the command line.
        left_behind: what could not be put away on the host, in words; "" for nothing.
        errors: what came on standard error, the beginning.
    """

    output: Base64Bytes = field(default=b"", repr=False)  # JSON has no bytes
    failure: Missing | None = None
    accepted: bool | None = None
    began: float = 0.0
    ended: float = 0.0
    fallback: bool = False
    left_behind: str = ""
    errors: str = ""


_MAX_TEXT: Final = 2_000


def _believable(collected: Collected) -> Collected:
    """An outcome with nothing in it that would disturb those who read it."""
    if len(collected.output) > MAX_BYTES:
        raise ValueError(f"{len(collected.output)} bytes")
    if not all(math.isfinite(each) for each in (collected.began, collected.ended)):
        raise ValueError("no time")
    detail = collected.failure.detail if collected.failure else ""
    for text in (collected.left_behind, collected.errors, detail):
        if len(text) > _MAX_TEXT or not text.isprintable():
            raise ValueError("not a text to show")
    return collected


JOB: Final = TypeAdapter(CollectJob)
OUTCOME: Final[TypeAdapter[Collected]] = TypeAdapter(Annotated[Collected, AfterValidator(_believable)])
