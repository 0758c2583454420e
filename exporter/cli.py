"""The commands. Wires everything together; sole owner of arguments, exit codes and the event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TextIO, TypeVar

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import exporter
from exporter import logs
from exporter.config import Config, ConfigError, load_config, parse_config
from exporter.credentials import faults
from exporter.exposition import report
from exporter.exposition.table import tables
from exporter.facts import Missing
from exporter.probes.winrm.facts_file import NOT_LOOKED_AT, look, standing
from exporter.probes.winrm.script import SCRIPT
from exporter.refresh import Refresh
from exporter.rules import PROFILES
from exporter.server import Server, listen
from exporter.snapshot import DiscoveryStatus, Snapshot
from exporter.targets import Target, merge, target_of
from exporter.targets.command_line import TargetError, parse_targets
from exporter.targets.file_sd import FileDiscovery
from exporter.verdicts import ProfileState

DEFAULT_PORT: Final = 10912  # not registered with anybody

_Outcome = TypeVar("_Outcome")

log = structlog.get_logger("exporter.cli")
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Are the Exchange servers ready for TLS 1.2, and for life without TLS 1.0 and 1.1?",
)


class Output(StrEnum):
    """How ``audit`` prints."""

    TABLE = "table"
    JSON = "json"


ConfigFile = Annotated[Path, typer.Option("--config.file", help="The configuration file.", metavar="FILE")]
ListenAddress = Annotated[
    str, typer.Option("--web.listen-address", help="Where to serve: host:port, [v6]:port or :port.", metavar="ADDRESS")
]
LogLevel = Annotated[logs.Level, typer.Option("--log.level", help="What to log.")]
LogFormat = Annotated[logs.Format, typer.Option("--log.format", help="How to log.")]


def main() -> None:
    """Run the command that the arguments name."""
    app()


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"tls-readiness {exporter.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and exit.")
    ] = False,
) -> None:
    del version  # the callback saw it


@app.command()
def serve(
    config_file: ConfigFile = Path("tls-readiness.yml"),
    listen_address: ListenAddress = f":{DEFAULT_PORT}",
    log_level: LogLevel = "info",
    log_format: LogFormat = "logfmt",
) -> None:
    """Watch the configured servers and serve what was seen to Prometheus."""
    logs.configure(log_level, log_format)
    config = _load(config_file)
    listener = _listen(listen_address)
    _run(lambda: watch(config, listener), stopped=0)


def _listen(address: str) -> socket.socket:
    try:
        return listen(address)
    except ValueError as error:
        _fail(f"--web.listen-address: {error}")
    except OSError as error:
        _fail(f"--web.listen-address: {address}: {os.strerror(error.errno) if error.errno else error}")


async def watch(config: Config, listener: socket.socket) -> None:
    """Observe and serve until the process is told to end."""
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGHUP, log.warning, "the configuration is read at the start only: restart to apply a change"
    )
    # Facts and snapshots make no cycles and live long. Looking for cycles in all of a large fleet stops the process for
    # a tenth of a second each time, and scrapes with it: do that rarely (docs/performance.md).
    gc.set_threshold(700, 10, 10_000)
    refresh = Refresh(config)
    server = Server(refresh.store)
    host, port = listener.getsockname()[:2]
    log.info("serving", address=host, port=port, servers=len(refresh.store.latest.servers))
    async with asyncio.TaskGroup() as group:
        group.create_task(refresh.run())
        group.create_task(server.run([listener]))


@app.command("check-config")
def check_config(file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration file.")]) -> None:
    """Say whether a configuration and its target files are valid, and its credentials usable here; exit 1 if not.

    Asks no server and no domain controller. Facts files of no use are warnings.
    """
    try:
        config = load_config(file, PROFILES)
    except ConfigError as error:
        _fail(str(error), code=1)
    found = FileDiscovery(config.file_sd_configs, config.defaults, config.profiles, config.credentials).look()
    if found.errors:
        _fail("\n".join(map(str, found.errors)), code=1)
    if unusable := faults(config.credentials):
        _fail("\n".join(f"{file}: {fault}" for fault in unusable), code=1)
    targets, _ = merge([target_of(server, config.defaults) for server in config.servers], found.targets)
    for target in targets:
        _warn_of_facts_file(target)
    for unused in sorted(config.credentials.keys() - {target.credentials for target in targets}):
        typer.echo(f"warning: credentials.{unused}: no server has them", err=True)
    typer.echo(f"{file} is valid: servers in it: {len(config.servers)}, in target files: {len(found.targets)}")
    asked, read = (sum(bool(getattr(each, way)) for each in targets) for way in ("credentials", "facts_file"))
    typer.echo(f"host facts over WinRM: {asked}, from facts files: {read}, of {len(targets)} servers")


def _warn_of_facts_file(target: Target) -> None:
    """A facts file may come later, and is no part of the configuration: what is wrong with it is a warning."""
    if not target.facts_file:
        return
    path = Path(target.facts_file)
    facts = standing(path, look(path, target.name, NOT_LOOKED_AT).facts, time.time(), target.facts_max_age)
    if isinstance(facts, Missing):
        typer.echo(f"warning: {target.name}: facts_file: {facts.reason}: {facts.detail}", err=True)


@app.command("collector-script")
def collector_script() -> None:
    """Print the PowerShell script that runs on servers, to be read, signed or run by hand (docs/permissions.md)."""
    sys.stdout.buffer.write(SCRIPT)
    sys.stdout.flush()


@app.command()
def audit(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="service://host[:port]; https when no service is named."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config.file", help="Audit the servers of this configuration.", metavar="FILE")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help=f"Judge by this profile ({', '.join(PROFILES)}); repeatable.")
    ] = None,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.", metavar="FILE")] = None,
) -> None:
    """Sweep and scan once and print what was seen.

    Exit codes: 0 every server meets every profile asked for, 1 some server does not, 3 none is known not to but some
    are unknown, 2 the arguments or the configuration cannot be used, 130 it was interrupted.
    """
    logs.configure("warning", "logfmt")
    refresh = _what_to_audit(targets or [], config_file, profile or [])
    try:
        with out.open("w", encoding="utf-8") if out else nullcontext(sys.stdout) as stream:
            snapshot = _run(lambda: _audit(refresh), stopped=130)
            if output is Output.JSON:
                stream.write(json.dumps(report.document(snapshot), indent=2) + "\n")
            else:
                _print_tables(snapshot, stream)
            stream.flush()
    except OSError as error:
        _fail(f"{out or 'standard output'}: {error.strerror}")
    raise typer.Exit(_exit_code(snapshot))


def _print_tables(snapshot: Snapshot, stream: TextIO) -> None:
    """As wide as the terminal; where there is none, as wide as they need to be."""
    Console(file=stream, width=None if stream.isatty() else 120, highlight=False).print(tables(snapshot))


def _what_to_audit(targets: list[str], config_file: Path | None, profiles: list[str]) -> Refresh:
    if not targets and config_file is None:
        _fail("name targets, or --config.file")
    if targets and config_file is not None:
        _fail("name targets or --config.file, not both")
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        _fail(f"--profile: no profile is called {unknown[0]!r}; there are {', '.join(PROFILES)}")
    judged = tuple(dict.fromkeys(profiles))
    if config_file is not None:
        refresh = Refresh(_load(config_file), profiles=judged)
    else:
        try:
            parsed = parse_targets(targets)
        except TargetError as error:
            _fail(str(error))
        config = parse_config({"servers": [target.name for target in parsed]}, PROFILES)
        refresh = Refresh(config, parsed, judged)
    if refresh.store.latest.discovery.get("file", DiscoveryStatus(0, 0)).failures:
        _fail("target files are not usable, see above")
    if not refresh.store.latest.servers:
        _fail(f"{config_file}: there are no servers")
    return refresh


async def _audit(refresh: Refresh) -> Snapshot:
    columns = (TextColumn("observing"), BarColumn(), MofNCompleteColumn(), TextColumn("servers"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("observe", total=len(refresh.store.latest.servers))
        return await refresh.once(lambda: progress.advance(bar))


def _exit_code(snapshot: Snapshot) -> int:
    states = {verdict.state for server in snapshot.servers for verdict in server.profiles.values()}
    if ProfileState.NOT_READY in states:
        return 1
    return 3 if ProfileState.UNKNOWN in states else 0


@app.command()
def demo(
    listen_address: ListenAddress = f"127.0.0.1:{DEFAULT_PORT}",
    log_level: LogLevel = "info",
    log_format: LogFormat = "logfmt",
) -> None:
    """Start TLS endpoints on loopback that differ in what they accept, and watch them."""
    from exporter.demo import DemoFleet  # noqa: PLC0415 - nothing else needs its servers

    logs.configure("warning", log_format)
    listener = _listen(listen_address)
    with DemoFleet() as fleet:
        config = parse_config(fleet.configuration(), PROFILES, source="demo")
        typer.echo("A simulation: real TLS on loopback, and what the collector script would print on Windows.\n")
        _print_tables(_run(lambda: _audit(Refresh(config)), stopped=0), sys.stdout)
        logs.configure(log_level, log_format)
        typer.echo("\nThe simulated servers are swept every 5 seconds. Ctrl-C ends it.")
        typer.echo(f"Metrics: http://{listen_address}/metrics\n")
        _run(lambda: watch(config, listener), stopped=0)


def _load(path: Path) -> Config:
    try:
        return load_config(path, PROFILES)
    except ConfigError as error:
        _fail(str(error))


def _fail(message: str, code: int = 2) -> NoReturn:
    """Say what cannot be used and exit."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _run(main_task: Callable[[], Coroutine[Any, Any, _Outcome]], stopped: int) -> _Outcome:
    """Run to the end, on uvloop where it is installed; exit with ``stopped`` if SIGTERM or SIGINT comes before it."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop

    async def cancellable() -> _Outcome:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in it
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await main_task()

    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(cancellable())
        except asyncio.CancelledError:
            raise typer.Exit(stopped) from None
