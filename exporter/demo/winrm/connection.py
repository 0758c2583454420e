"""One connection to a simulated host: request after request, and the ways in which an answer may go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from socket import SO_LINGER, SOL_SOCKET

from exporter.demo.winrm import encryption
from exporter.demo.winrm.answering import Answering, Site
from exporter.demo.winrm.authentication import kind_of
from exporter.demo.winrm.http import BadRequestError, Request, Response, read_request
from exporter.demo.winrm.journal import Asked, Closed, Opened, Readable
from exporter.demo.winrm.misbehaviour import Action, Close, CloseAfter, Cut, Delay, Reply, Seen, Silence, Trickle
from exporter.demo.winrm.wsman import operation_of


class Connection:
    """Serves one client until it leaves."""

    def __init__(self, site: Site, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._host = site.host
        self._journal = site.journal
        self._reader = reader
        self._writer = writer
        self._number = number
        self._requests = 0
        self._peer = "{}:{}".format(*writer.get_extra_info("peername")[:2])
        self._answering = Answering(site, certificate=bool(writer.get_extra_info("peercert")))

    async def serve(self) -> None:
        """Answer until the connection ends."""
        self._journal.add(Opened(self._peer))
        try:
            while (request := await read_request(self._reader)) is not None:
                if not await self._exchange(request):
                    break
        except BadRequestError as error:
            await self._write(Response(error.status, close=True).to_bytes())
        except OSError:  # and those of TLS
            pass
        except asyncio.CancelledError:
            self._writer.transport.abort()  # a client that does not end its TLS would keep us
            raise
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._journal.add(Closed(self._peer))

    async def _write(self, content: bytes) -> None:
        with contextlib.suppress(OSError):
            self._writer.write(content)
            await self._writer.drain()

    async def _exchange(self, request: Request) -> bool:
        """Answer one request; False: the connection ends."""
        self._requests += 1
        self._note(request)
        try:
            text = self._answering.text(request)
        except encryption.DecryptionError:
            await self._write(Response(400, close=True).to_bytes())
            return False
        action = self._misbehaviour(request, text)
        if isinstance(action, bytes):
            await self._write(action)
            return True
        if isinstance(action, Close | Silence | Reply):
            return await self._instead(action, request)
        response = await self._answering.answer(request, text)
        return await self._deliver(response, action) and not response.close

    def _note(self, request: Request) -> None:
        kind = kind_of(request.headers.get("authorization", ""))
        self._journal.add(Asked(request.method, request.path, request.headers.get("host", ""), kind))
        if request.body and self._host.https is None and not encryption.is_encrypted(request):
            self._journal.add(Readable(request.body))

    def _misbehaviour(self, request: Request, text: bytes) -> Action | bytes | None:
        if self._host.misbehave is None:
            return None
        operation = operation_of(text) if text else ""
        return self._host.misbehave(Seen(request, operation, text, self._requests, self._number))

    async def _instead(self, action: Close | Silence | Reply, request: Request) -> bool:
        """Do what is no right answer."""
        match action:
            case Close(reset=True):
                self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
            case Silence():
                while await self._reader.read(4096):
                    pass
            case Reply():
                response = Response(action.status, action.body, action.headers)
                sealed = self._answering.sealed(request, response) if action.encrypt else response
                await self._write(sealed.to_bytes())
                return True
        return False

    async def _deliver(self, response: Response, action: Action | None) -> bool:
        """Write an answer, in the manner that is asked for."""
        content = response.to_bytes()
        match action:
            case Delay():
                await asyncio.sleep(action.seconds)
            case Cut():
                content = content[: action.length]
            case Trickle():
                return await self._trickle(content if action.raw is None else action.raw, action)
        await self._write(content)
        return not isinstance(action, Cut | CloseAfter)

    async def _trickle(self, content: bytes, action: Trickle) -> bool:
        await self._write(content[: action.whole])
        for byte in content[action.whole :]:
            await asyncio.sleep(action.seconds)
            if self._writer.is_closing():
                return False
            await self._write(bytes((byte,)))
        return True
