"""The landing page: where things are, and how the fleet stands, in a page without scripts."""

from __future__ import annotations

from html import escape

import exporter
from exporter.snapshot import Snapshot
from exporter.verdicts import ProfileVerdict

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse}th,td{text-align:left;padding:.25rem 1rem .25rem 0;vertical-align:top}"
    ".ready{color:#1a7f37}.not_ready{color:#cf222e}.unknown{color:#8a6d00}"
    "@media(prefers-color-scheme:dark){.ready{color:#3fb950}.not_ready{color:#ff7b72}.unknown{color:#d29922}}"
)


def _state(verdict: ProfileVerdict) -> str:
    """The state in words, with what is in the way."""
    because = ", ".join(verdict.blockers) or verdict.reason
    return verdict.state.replace("_", " ") + (f": {because}" if because else "")


def landing_page(snapshot: Snapshot) -> str:
    """The page."""
    heads = "".join(f"<th scope=col>{escape(profile)}" for profile in snapshot.profiles)
    rows = "".join(
        f"<tr><th scope=row>{escape(server.target.name)}"
        + "".join(f"<td class={verdict.state}>{escape(_state(verdict))}" for verdict in server.profiles.values())
        for server in snapshot.servers
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>tls-readiness-exporter</title><style>{_STYLE}</style>"
        "<h1>tls-readiness-exporter</h1>"
        f"<p>Version {escape(exporter.__version__)}. "
        "<a href=metrics>Metrics</a> · <a href=-/healthy>Healthy</a> · <a href=-/ready>Ready</a>"
        f"<table><thead><tr><th scope=col>server{heads}<tbody>{rows}</table></html>\n"
    )
