"""Logs to standard error, as logfmt or JSON."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal, TypeAlias

import structlog

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["logfmt", "json"]

_FIRST_KEYS: Final = ("ts", "level", "logger", "event")


def configure(level: Level, log_format: Format) -> None:
    """Set up logging for the whole process, libraries included."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    render = (
        structlog.processors.JSONRenderer(default=str)
        if log_format == "json"
        else structlog.processors.LogfmtRenderer(key_order=_FIRST_KEYS, drop_missing=True, bool_as_flag=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _plain, render],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("exporter").setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def _plain(_: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Logfmt takes keys without spaces ("TLS 1.2") and values that are texts."""
    return {key.replace(" ", "_"): value for key, value in event.items()}
