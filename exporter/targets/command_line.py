"""Targets as they are written on the command line: ``service://host[:port]``, https where no service is named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from exporter.config import ServerConfig, describe
from exporter.targets import Port, Target

_DEFAULT_PORTS: Final = {"https": 443, "smtp": 25, "imap": 143, "pop3": 110, "tls": None}
_TARGET: Final = re.compile(r"(?:(?P<service>[^:/]+)://)?(?P<host>\[[^\]]*\]|[^:/\[\]]+)(?::(?P<port>\d+))?")


class TargetError(Exception):
    """A target cannot be understood; the message names it."""


def parse_targets(texts: Iterable[str]) -> list[Target]:
    """The servers that are named, each with the endpoints that are named.

    Raises:
        TargetError: one cannot be understood.
    """
    ports: dict[str, dict[int, Port]] = {}
    for text in texts:
        host, port = _parse(text)
        if ports.setdefault(host.lower(), {}).setdefault(port.number, port) != port:
            raise TargetError(f"{text!r}: port {port.number} was named before with another service")
    return [Target(host, "none", tuple(each.values())) for host, each in ports.items()]


def _parse(text: str) -> tuple[str, Port]:
    match = _TARGET.fullmatch(text)
    if match is None:
        raise TargetError(f"{text!r} is not service://host[:port], without a path")
    service = match["service"] or "https"
    if service not in _DEFAULT_PORTS:
        raise TargetError(f"{text!r}: no service is called {service!r}; there are {', '.join(_DEFAULT_PORTS)}")
    number = match["port"] or _DEFAULT_PORTS[service]
    if number is None:
        raise TargetError(f"{text!r}: {service} has no port of its own, name one")
    settings = {"name": match["host"].strip("[]"), "endpoints": [{"port": int(number), "service": service}]}
    try:
        server = ServerConfig.model_validate(settings)
    except ValidationError as error:
        raise TargetError(f"{text!r}: {'; '.join(describe(error, settings))}") from error
    return server.name, Port(int(number), service, "configured")
