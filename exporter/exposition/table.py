"""A snapshot for the terminal: what each endpoint accepts, what that makes of each server, and what to do next."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from exporter.facts import EndpointFacts, Fact, Missing, Protocol
from exporter.snapshot import Snapshot
from exporter.verdicts import ProfileState

_STATES = {
    ProfileState.READY: ("ready", "green"),
    ProfileState.NOT_READY: ("not ready", "red"),
    ProfileState.UNKNOWN: ("unknown", "yellow"),
}


def tables(snapshot: Snapshot) -> RenderableType:
    """Everything, one below the other."""
    endpoints = [facts for server in snapshot.servers for facts in server.facts.endpoints]
    used = [facts for facts in endpoints if facts.in_use]
    unused = [facts.endpoint for facts in endpoints if not facts.in_use]
    parts: list[RenderableType] = [_endpoints(used), *_unknown(used)]
    if unused:
        parts.append(Text(f"Optional endpoints never seen open, not judged: {', '.join(unused)}", style="dim"))
    parts += ["", _servers(snapshot), *_next_steps(snapshot)]
    return Group(*parts)


def _endpoints(used: list[EndpointFacts]) -> Table:
    table = Table(title="Versions accepted", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("\nendpoint", overflow="fold")
    table.add_column("\nservice")
    for protocol in Protocol:
        table.add_column(protocol.replace(" ", "\n"), justify="center")
    for facts in used:
        cells = [_cell(protocol, facts.accepted[protocol]) for protocol in Protocol]
        table.add_row(Text(facts.endpoint), facts.service, *cells)
    return table


def _cell(protocol: Protocol, fact: Fact[bool]) -> Text:
    if isinstance(fact, Missing):
        return Text("?", style="yellow")
    good = fact.value is (protocol in {Protocol.TLS_1_2, Protocol.TLS_1_3})
    harmless = protocol is Protocol.TLS_1_3 and not fact.value
    return Text("yes" if fact.value else "no", style="dim" if harmless else "green" if good else "red")


def _unknown(used: list[EndpointFacts]) -> list[Text]:
    """A line for each question mark's reason."""
    lines = []
    for facts in used:
        reasons: dict[str, list[str]] = {}
        for protocol, fact in facts.accepted.items():
            if isinstance(fact, Missing):
                reasons.setdefault(f"{fact.reason}: {fact.detail}" if fact.detail else fact.reason, []).append(protocol)
        for reason, protocols in reasons.items():
            which = "" if len(protocols) == len(Protocol) else f" {', '.join(protocols)}"
            lines.append(Text(f"? {facts.endpoint}{which}: {reason}", style="yellow"))
    return lines


def _servers(snapshot: Snapshot) -> Table:
    table = Table(title="Readiness", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("server", overflow="fold")
    for name in snapshot.profiles:
        table.add_column(name)
    for server in snapshot.servers:
        states = [_STATES[verdict.state] for verdict in server.profiles.values()]
        table.add_row(Text(server.target.name), *(Text(word, style=style) for word, style in states))
    return table


def _next_steps(snapshot: Snapshot) -> list[RenderableType]:
    """Each step once, with the servers that it is for."""
    steps: dict[str, list[str]] = {}
    for server in snapshot.servers:
        for step in dict.fromkeys(verdict.next_step for verdict in server.profiles.values() if verdict.next_step):
            steps.setdefault(step, []).append(server.target.name)
    lines: list[RenderableType] = [Text("Next steps\n", style="italic")] if steps else []
    for step, servers in steps.items():
        lines += [Text(f" {', '.join(servers)}", style="bold"), Padding(Text(step), (0, 0, 0, 3))]
    return lines
