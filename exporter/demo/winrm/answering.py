"""The right answer to one request: who asks, may they, and what the shells say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exporter.demo.winrm import encryption, faults
from exporter.demo.winrm.acceptors import Acceptors
from exporter.demo.winrm.authentication import Authentication, User
from exporter.demo.winrm.faults import FaultError
from exporter.demo.winrm.host import WindowsHost
from exporter.demo.winrm.http import Request, Response
from exporter.demo.winrm.journal import Journal, Operation
from exporter.demo.winrm.shells import Shells, command_line_of
from exporter.demo.winrm.wsman import SOAP, Message, answer, fault_document, read_message

_NOT_FOUND: Final = (
    b'<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN""http://www.w3.org/TR/html4/strict.dtd">\r\n<HTML><HEAD>'
    b"<TITLE>Not Found</TITLE></HEAD>\r\n<BODY><h2>Not Found</h2>\r\n<hr><p>HTTP Error 404. The requested resource is "
    b"not found.</p>\r\n</BODY></HTML>\r\n"
)


@dataclass(frozen=True, slots=True)
class Site:
    """What the connections of one host share."""

    host: WindowsHost
    shells: Shells
    acceptors: Acceptors
    journal: Journal


class Answering:
    """Answers the requests of one connection."""

    def __init__(self, site: Site, *, certificate: bool) -> None:
        """Begin with nobody; *certificate*: the client showed one that is trusted."""
        self._host = site.host
        self._shells = site.shells
        self._journal = site.journal
        self._authentication = Authentication(site.host, site.acceptors, site.journal, certificate=certificate)

    def text(self, request: Request) -> bytes:
        """The message of a request, readable.

        Raises:
            encryption.DecryptionError: there is none.
        """
        if not encryption.is_encrypted(request):
            return request.body
        if self._authentication.context is None:
            raise encryption.DecryptionError("nobody is authenticated")
        return encryption.decrypt(self._authentication.context, request.body)

    async def answer(self, request: Request, text: bytes) -> Response:
        """The right answer, to a request with that message."""
        if request.path.partition("?")[0].lower().rstrip("/") != "/wsman":
            return Response(404, _NOT_FOUND, (("Content-Type", "text/html; charset=us-ascii"),), close=True)
        if request.method != "POST":
            return Response(405, headers=(("Allow", "POST"),))
        outcome = self._authentication.ask(request.headers.get("authorization", ""))
        if outcome.user is None:
            return Response(401, headers=outcome.headers, close=outcome.refused)
        if not request.body:
            return Response(200, headers=outcome.headers)
        if not (encryption.is_encrypted(request) or self._host.https or self._host.allow_unencrypted):
            return Response(500, headers=outcome.headers)
        status, document = await self._perform(text, outcome.user)
        return self.sealed(request, Response(status, document, outcome.headers))

    def sealed(self, request: Request, response: Response) -> Response:
        """The same, encrypted if the request was."""
        context = self._authentication.context
        kind, body = SOAP, response.body
        if encryption.is_encrypted(request) and context is not None:
            kind, body = encryption.encrypt(context, body, encryption.protocol_of(request))
        return Response(response.status, body, (("Content-Type", kind), *response.headers))

    async def _perform(self, text: bytes, user: User) -> tuple[int, bytes]:
        """The status and the envelope that answer a message."""
        identifier = ""
        try:
            message = read_message(text, self._host.quotas.envelope_bytes)
            identifier = message.identifier
            return 200, answer(message, await self._operate(message, user))
        except FaultError as fault:
            return 500, fault_document(fault, self._host.name, identifier)

    async def _operate(self, message: Message, user: User) -> str:
        line = command_line_of(message) if message.operation == "Command" else ""
        try:
            _check(message, user)
            shell, body = await self._shells.perform(message, user.name)
        except FaultError as fault:
            self._journal.add(Operation(message.operation, message.shell, line, fault.code))
            raise
        self._journal.add(Operation(message.operation, shell, line))
        return body


def _check(message: Message, user: User) -> None:
    if not user.administrator:
        raise faults.access_denied()
    if not message.operation:
        raise faults.unknown_action()
