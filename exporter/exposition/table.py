"""A snapshot for the terminal: what each endpoint accepts and presents, what that makes of each server, what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from exporter.facts import (
    NOT_WANTED,
    CertificateChain,
    EndpointFacts,
    Fact,
    HostFacts,
    Known,
    Missing,
    Protocol,
    T_co,
    dotted,
)
from exporter.snapshot import Snapshot
from exporter.verdicts import ProfileState, RuleState, Severity

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
    parts: list[RenderableType] = [_endpoints(used), *_unknown(used)] if used else []
    if unused:
        parts.append(Text(f"Optional endpoints never seen open, not judged: {', '.join(unused)}", style="dim"))
    parts += _hosts(snapshot)
    parts += [*_certificates(used, snapshot.at), *_cipher_suites(used), *_advice(snapshot)]
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


def _hosts(snapshot: Snapshot) -> list[RenderableType]:
    """What is known of the hosts themselves; nothing where nobody asks any."""
    asked = [server for server in snapshot.servers if "collect" in server.observations]
    table = Table(title="Hosts", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("server", no_wrap=True)
    for column in ("Exchange", "Windows", ".NET", "updated", "restart", "collected"):
        table.add_column(column, overflow="fold")
    missing = []
    for server in asked:
        name, host = server.target.name, server.facts.host
        if isinstance(host, Missing):
            why = f"{host.reason}: {host.detail}" if host.detail else host.reason
            missing.append(Text(f"? {name} host: {why}", style="yellow"))
            continue
        shown = Text(name + (" (simulated)" if host.value.simulation else ""))
        table.add_row(shown, *_host(host.value), _day(host.at))
        missing += [Text(f"? {name} {fact.reason}: {fact.detail}", style="yellow") for fact in host.value.missing]
    return ["", *([table] if table.row_count else []), *missing] if asked else []


def _host(host: HostFacts) -> tuple[Text, ...]:
    return (
        _fact(host.exchange.build, lambda build: dotted(build) if build else "none"),
        _fact(host.windows.caption, _short),
        _fact(host.dotnet.release, lambda release: "none" if release is None else str(release)),
        _fact(host.newest_update, _day),
        _restart(host),
    )


def _short(caption: str) -> str:
    """Windows' name as people say it, ``Server 2016``; a client keeps its own."""
    match = re.search(r"Server\W+(\d{4}( R2)?)", caption)
    return f"Server {match[1]}" if match else caption


def _restart(host: HostFacts) -> Text:
    """Who asks for a restart; files to be replaced at the next start mean little by themselves."""
    pending = [kind for kind, fact in host.reboot.items() if isinstance(fact, Known) and fact.value]
    unknown = next((fact for fact in host.reboot.values() if isinstance(fact, Missing)), None)
    if pending:
        return Text(", ".join(pending).replace("_", " "), style="dim" if pending == ["file_rename"] else "yellow")
    return Text("no") if unknown is None else Text(f"? {unknown.reason}", style="yellow")


def _fact(fact: Fact[T_co], shown: Callable[[T_co], str]) -> Text:
    return Text(f"? {fact.reason}", style="yellow") if isinstance(fact, Missing) else Text(shown(fact.value))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _certificates(used: list[EndpointFacts], now: float) -> list[RenderableType]:
    """Endpoints with the same certificate share a row: a server's mostly do."""
    rows: dict[tuple[tuple[str, str], ...], list[str]] = {}
    missing = []
    for facts in used:
        fact = facts.certificates
        cells = dict.fromkeys(_certificate(chain, now) for chain in fact.value) if isinstance(fact, Known) else ()
        for row in cells:
            rows.setdefault(row, []).append(facts.endpoint)
        if isinstance(fact, Missing) and facts.scanned_at and fact != NOT_WANTED:
            missing.append(Text(f"? {facts.endpoint} certificates: {fact.reason}: {fact.detail}", style="yellow"))
    table = Table(title="Certificates", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("endpoints", "subject", "until", "key", "hash", "name", "trusted"):
        table.add_column(column, overflow="fold")
    for row, endpoints in rows.items():
        table.add_row(Text("\n".join(endpoints)), *(Text(text, style=style) for text, style in row))
    return ["", *([table] if rows else []), *missing] if rows or missing else []


def _certificate(chain: CertificateChain, now: float) -> tuple[tuple[str, str], ...]:
    """The cells of a row, with their styles."""
    leaf = chain.leaf
    common_name = re.match(r"CN=((?:[^,\\]|\\.)+)", leaf.subject)
    subject = common_name[1] if common_name else leaf.subject or leaf.fingerprint_sha256[:16]
    return (
        (subject, ""),
        (_day(leaf.not_after), "red" if leaf.not_after < now else ""),
        (leaf.public_key, ""),
        (leaf.signature_hash, ""),
        ("matches", "") if chain.matches_name else ("another" if leaf.names else "none", "yellow"),
        _trust(chain.trusted),
    )


def _trust(trusted: Fact[bool]) -> tuple[str, str]:
    if isinstance(trusted, Missing):
        return "-", "dim"
    return ("yes", "") if trusted.value else ("no", "yellow")


def _cipher_suites(used: list[EndpointFacts]) -> list[RenderableType]:
    """Endpoints and versions with the same suites share a row: a server's mostly have."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for facts in used:
        versions: dict[tuple[str, str], list[Protocol]] = {}
        for protocol in Protocol:
            fact = facts.cipher_suites.get(protocol)
            if isinstance(fact, Missing):
                versions.setdefault((f"? {fact.reason}: {fact.detail}", "yellow"), []).append(protocol)
            elif fact is not None:
                versions.setdefault((", ".join(fact.value), ""), []).append(protocol)
        for (suites, style), protocols in versions.items():
            rows.setdefault(("\n".join(protocols), suites, style), []).append(facts.endpoint)
    table = Table(title="Cipher suites accepted", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("endpoints", overflow="fold")
    table.add_column("version")
    table.add_column("suites", overflow="fold")
    for (names, suites, style), endpoints in rows.items():
        table.add_row(Text("\n".join(endpoints)), names, Text(suites, style=style))
    return ["", table] if rows else []


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


def _advice(snapshot: Snapshot) -> list[RenderableType]:
    """What does not stand in the way, and should be mended all the same."""
    failed = [
        (server.target.name, verdict)
        for server in snapshot.servers
        for verdict in server.verdicts
        if verdict.rule.severity is Severity.ADVICE and verdict.state is RuleState.FAILED
    ]
    lines: list[RenderableType] = [Text("Advice\n", style="italic")] if failed else []
    for server, verdict in failed:
        lines.append(Text(f" {server} {verdict.rule.id}", style="bold"))
        lines += [Padding(Text(each), (0, 0, 0, 3)) for each in (verdict.evidence, verdict.rule.remedy)]
    return lines
