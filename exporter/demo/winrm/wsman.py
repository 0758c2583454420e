"""WS-Management messages of remote shells ([MS-WSMV]): what a request says, and what Windows answers."""

from __future__ import annotations

import re
import uuid
import xml.etree.ElementTree as ET  # a demo server on loopback; a DOCTYPE is refused, and sizes are limited
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from exporter.demo.winrm import faults
from exporter.demo.winrm.faults import FaultError

SOAP: Final = "application/soap+xml;charset=UTF-8"
SHELL: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD: Final = f"{SHELL}/cmd"
_NAMES: Final = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "e": "http://schemas.xmlsoap.org/ws/2004/08/eventing",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
}
_READ: Final = {**_NAMES, "rsp": SHELL}
_ACTIONS: Final = {
    f"{_NAMES['x']}/Create": "Create",
    f"{_NAMES['x']}/Delete": "Delete",
    **{f"{SHELL}/{name}": name for name in ("Command", "Send", "Receive", "Signal")},
}
_DURATION: Final = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


@dataclass(frozen=True, slots=True)
class Message:
    """One request.

    Attributes:
        operation: Create, Command, Send, Receive, Signal, Delete; "" for anything else.
        action: the address that said so.
        identifier: its MessageID.
        resource: the resource's address.
        shell: the selector ShellId; "" without.
        timeout: seconds that it may take; None where it does not say.
        envelope: bytes that the answer may have; None where it does not say.
        options: of its OptionSet, by name.
        body: the first element of its body; None without.
    """

    operation: str
    action: str
    identifier: str
    resource: str
    shell: str
    timeout: float | None
    envelope: int | None
    options: Mapping[str, str]
    body: ET.Element | None

    def text(self, path: str, default: str = "") -> str:
        """The text of an element below the first one of the body; rsp: is the shells' namespace."""
        return default if self.body is None else (self.body.findtext(path, default, _READ) or default)

    def texts(self, path: str) -> list[str]:
        """The texts of all such elements."""
        return [] if self.body is None else [each.text or "" for each in self.body.findall(path, _READ)]

    def element(self, path: str) -> ET.Element | None:
        """The first such element."""
        return None if self.body is None else self.body.find(path, _READ)


def operation_of(text: bytes) -> str:
    """The operation that a text asks for; "" where it is none."""
    try:
        return read_message(text, len(text)).operation
    except FaultError:
        return ""


def read_message(text: bytes, most: int) -> Message:
    """What a request says.

    Raises:
        FaultError: it has more bytes than that, or is no SOAP.
    """
    if len(text) > most:
        raise faults.too_large()
    if b"<!" in text:
        raise faults.invalid("no document type, no comment")
    try:
        return _message(ET.fromstring(text))  # noqa: S314 - see the import
    except (ET.ParseError, ValueError) as error:
        raise faults.invalid(str(error)) from error


def _message(root: ET.Element) -> Message:
    def header(name: str) -> str:
        return root.findtext(f"s:Header/{name}", "", _READ) or ""

    envelope, timeout, action = header("w:MaxEnvelopeSize"), header("w:OperationTimeout"), header("a:Action")
    selectors = _named(root, "w:SelectorSet/w:Selector")
    return Message(
        operation=_ACTIONS.get(action, ""),
        action=action,
        identifier=header("a:MessageID"),
        resource=header("w:ResourceURI"),
        shell=selectors.get("ShellId", ""),
        timeout=seconds(timeout) if timeout else None,
        envelope=int(envelope) if envelope else None,
        options=_named(root, "w:OptionSet/w:Option"),
        body=root.find("s:Body/*", _READ),
    )


def _named(root: ET.Element, path: str) -> dict[str, str]:
    return {each.get("Name", ""): each.text or "" for each in root.findall(f"s:Header/{path}", _READ)}


def seconds(duration: str) -> float:
    """A duration of XML Schema, without months and years.

    Raises:
        ValueError: it is none.
    """
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"no duration: {duration}")
    days, hours, minutes, rest = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def answer(message: Message, body: str) -> bytes:
    """The envelope of a right answer."""
    return _envelope(f"{message.action}Response", message.identifier, body)


def fault_document(fault: FaultError, machine: str, identifier: str = "") -> bytes:
    """The envelope of a fault, as Windows writes it."""
    detail = f"{_NAMES['w'].removesuffix('.xsd')}/faultDetail/{fault.detail}"
    message = escape(fault.message or fault.reason)
    return _envelope(
        f"{_NAMES['w'].removesuffix('.xsd')}/fault",
        identifier,
        f"<s:Fault><s:Code><s:Value>{fault.value}</s:Value><s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(fault.reason)}</s:Text></s:Reason><s:Detail>'
        f"{f'<w:FaultDetail>{detail}</w:FaultDetail>' if fault.detail else ''}"
        f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{fault.code}" '
        f'Machine="{escape(machine)}"><f:Message>{message}</f:Message></f:WSManFault></s:Detail></s:Fault>',
    )


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    names = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in _NAMES.items())
    return (
        f'<s:Envelope xml:lang="en-US" {names} xmlns:rsp="{SHELL}"><s:Header><a:Action>{escape(action)}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{_NAMES['a']}/role/anonymous</a:To><a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()
