"""SMTP protocol logs, counted as the collector script counts them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

_FOLDERS: Final = ("FrontEnd\\", "Hub\\", "Edge\\", "")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z,")
_SESSION: Final = re.compile(
    r'[^,]*,(?:"(?:[^"]|"")*"|[^,]*),[^,]*,[^,]*,[^,]*,(?P<peer>[^,]*):[0-9]+,\*,'
    r',?"?(?:(?:TLS protocol )?SP_PROT[_-](?P<name>[A-Z]{3,4}[0-9](?:_[0-9])?)_(?:SERVER|CLIENT)(?:[ ",]|$)'
    r"|TLS protocol (?P<number>[0-9]{1,10}) )"
)
_MOST: Final = 20
"""How many peers of each version are named."""


def usage(install_path: str | None, logs: Mapping[str, str], side: str) -> dict[str, Any]:
    """What the logs of ``SmtpReceive`` or ``SmtpSend`` say.

    A simulated machine's logs are smaller than the least limit, one megabyte: none are left out.
    """
    directories = [rf"{install_path}\TransportRoles\Logs\{each}ProtocolLog\{side}" for each in _FOLDERS]
    found = {each: [text for path, text in logs.items() if _in(path, each)] for each in directories if install_path}
    texts = [text for there in found.values() for text in there]
    lines = [line for text in texts for line in text.split("\r\n") if _TIME.match(line)]
    times = [line[:24] for line in lines]
    matches = [match for line in lines if (match := _SESSION.match(line))]
    sessions = [(match["name"] or match["number"], match["peer"]) for match in matches]
    return {
        "directories": [each for each, there in found.items() if there],
        "files": len(texts),
        "bytes": sum(len(text.encode()) for text in texts),
        "truncated": False,
        "from": min(times, default=None),
        "until": max(times, default=None),
        "sessions": dict(sorted(Counter(protocol for protocol, _ in sessions).items())),
        "peers": _peers(sessions),
    }


def _in(path: str, directory: str) -> bool:
    folder, _, name = path.rpartition("\\")
    return folder.lower() == directory.lower() and name.lower().endswith(".log")


def _peers(sessions: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The remote addresses with most sessions first, so many of each version."""
    counted = Counter(sessions)
    named: Counter[str] = Counter()
    peers = []
    for (protocol, address), number in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        named[protocol] += 1
        if named[protocol] <= _MOST:
            peers.append({"protocol": protocol, "address": address, "sessions": number})
    return peers
