"""Who asks: Negotiate with NTLM or Kerberos, basic, and client certificates, for one connection."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final

import spnego
from spnego.channel_bindings import GssChannelBindings

from exporter.demo.winrm import ntlm
from exporter.demo.winrm.acceptors import Acceptors, bindings_of
from exporter.demo.winrm.host import Account, WindowsHost
from exporter.demo.winrm.journal import Journal, Logon

MUTUAL: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"


@dataclass(frozen=True, slots=True)
class User:
    r"""Who was authenticated.

    Attributes:
        name: DOMAIN\user or principal.
        administrator: may use WinRM.
    """

    name: str
    administrator: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request's Authorization.

    Attributes:
        user: who asks; None: the answer is 401.
        headers: of the answer.
        refused: a secret was wrong.
    """

    user: User | None
    headers: tuple[tuple[str, str], ...] = ()
    refused: bool = False


class Authentication:
    """One connection's. NTLM and Kerberos authenticate the connection, the other ways each request.

    Attributes:
        context: of NTLM or Kerberos, for encryption; None before.
    """

    def __init__(self, host: WindowsHost, acceptors: Acceptors, journal: Journal, *, certificate: bool) -> None:
        """Begin with nobody; *certificate*: the client showed one that is trusted."""
        self._host = host
        self._acceptors = acceptors
        self._journal = journal
        self._certificate = certificate
        self._acceptor: spnego.ContextProxy | None = None
        self._user: User | None = None
        self.context: spnego.ContextProxy | None = None

    def ask(self, authorization: str) -> Outcome:
        """Look at a request's Authorization header, "" where it has none."""
        scheme, _, token = authorization.partition(" ")
        match scheme.lower():
            case "":
                return Outcome(self._user) if self._user else self._unknown()
            case "negotiate" | "kerberos" if self._host.offers & {"negotiate", "kerberos"}:
                return self._negotiate(scheme, token)
            case "basic" if self._offers_basic():
                return self._basic(token)
            case _ if authorization == MUTUAL and "certificate" in self._host.offers:
                return self._mutual()
            case _:
                return self._unknown()

    def _offers_basic(self) -> bool:
        return "basic" in self._host.offers and (self._host.https is not None or self._host.allow_unencrypted)

    def _unknown(self, *, refused: bool = False) -> Outcome:
        """What Windows offers; that it takes client certificates it does not say."""
        offers = [each for each in ("Negotiate", "Kerberos") if each.lower() in self._host.offers]
        if self._offers_basic():
            offers.append('Basic realm="WSMAN"')
        return Outcome(None, tuple(("WWW-Authenticate", offer) for offer in offers), refused)

    def _refuse(self, user: str, mechanism: str, detail: str) -> Outcome:
        self._acceptor = self.context = self._user = None
        self._journal.add(Logon(user, ok=False, mechanism=mechanism, detail=detail))
        return self._unknown(refused=True)

    def _grant(self, name: str, account: Account | None, mechanism: str) -> User:
        """Whoever has a Kerberos ticket is somebody; only accounts that the host knows may do something."""
        self._journal.add(Logon(name, ok=True, mechanism=mechanism))
        return User(name, administrator=False) if account is None else User(account.name, account.administrator)

    def _negotiate(self, scheme: str, text: str) -> Outcome:
        token = _decoded(text)
        kind = ntlm.kind_of(token)
        if not token or (kind and "negotiate" not in self._host.offers):
            return self._unknown()
        if kind == 1 or self.context is not None:
            self._acceptor = self.context = self._user = None
        if self._acceptor is None and (kind == 3 or (kind == 0 and self._host.keytab is None)):
            return self._unknown()  # the answer to a challenge that this connection never had; a ticket without a use
        said = ntlm.read_authenticate(token) if kind == 3 else ntlm.NOBODY
        return self._step(scheme, token, kind, said)

    def _step(self, scheme: str, token: bytes, kind: int, said: ntlm.Authenticate) -> Outcome:
        if kind == 3 and self._host.channel_bindings == "strict" and self._host.https and not said.bound:
            return self._refuse(said.name, "ntlm", "no channel bindings")
        try:
            bindings = self._bindings(said, kind)
            self._acceptor, reply = self._acceptors.step(self._host, self._acceptor, token, bindings)
        except Exception as error:  # noqa: BLE001 - the library's own, and those of the libraries below it
            if kind == 1:
                return self._unknown()
            return self._refuse(said.name, "ntlm" if kind else "kerberos", str(error))
        return self._stepped(scheme, self._acceptor, reply)

    def _stepped(self, scheme: str, acceptor: spnego.ContextProxy, reply: bytes | None) -> Outcome:
        word = f"{scheme} {base64.b64encode(reply).decode()}" if reply else scheme
        header = ("WWW-Authenticate", word)
        if not acceptor.complete:
            return Outcome(None, (header,))
        name = acceptor.client_principal or ""
        self.context = acceptor
        self._user = self._grant(name, self._account(name), acceptor.negotiated_protocol or "")
        return Outcome(self._user, (header,) if reply else ())

    def _bindings(self, said: ntlm.Authenticate, kind: int) -> GssChannelBindings | None:
        """What the client must have bound its logon to, where that is looked at."""
        if self._host.https is None or self._host.channel_bindings == "none" or (kind == 3 and not said.bound):
            return None
        return bindings_of(self._host.https.certificate_file)

    def _account(self, name: str) -> Account | None:
        r"""The account of DOMAIN\user, of a principal, or of a name without domain."""
        domain, backslash, user = name.rpartition("\\")
        if not backslash:
            user, _, domain = name.partition("@")
        return next((each for each in self._host.accounts if each.is_named(domain, user)), None)

    def _basic(self, token: str) -> Outcome:
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return self._unknown()
        account = self._account(name)
        if account is None or not hmac.compare_digest(account.password.encode(), password.encode()):
            return self._refuse(name, "basic", "unknown user or wrong password")
        return Outcome(self._grant(name, account, "basic"))

    def _mutual(self) -> Outcome:
        mapped = self._host.client_certificates
        if mapped is None or not self._certificate:
            return self._unknown()
        return Outcome(self._grant(mapped.account.name, mapped.account, "certificate"))


def _decoded(text: str) -> bytes:
    """What base64 says; b"" where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def kind_of(authorization: str) -> str:
    """The kind of credential in an Authorization header, as the journal names it."""
    scheme, _, token = authorization.partition(" ")
    match scheme.lower():
        case "":
            return ""
        case "basic":
            return "Basic"
        case "negotiate" | "kerberos":
            kind = ntlm.kind_of(_decoded(token))
            return {0: "Kerberos", 1: "NTLM negotiate", 3: "NTLM authenticate"}.get(kind, "other")
        case _:
            return "certificate" if authorization == MUTUAL else "other"
