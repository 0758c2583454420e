"""The commands. Wires everything together; sole owner of arguments, exit codes and the event loop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import exporter
from exporter import logs
from exporter.config import Config, ConfigError, load_config, parse_config
from exporter.exposition import report
from exporter.exposition.table import tables
from exporter.refresh import Refresh
from exporter.rules import PROFILES
from exporter.server import Server, listen
from exporter.snapshot import Snapshot
from exporter.targets import Target
from exporter.targets.command_line import TargetError, parse_targets
from exporter.targets.file_sd import FileDiscovery
from exporter.verdicts import ProfileState

DEFAULT_PORT: Final = 10912  # not registered with anybody

log = structlog.get_logger("exporter.cli")
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
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


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"tls-readiness {exporter.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,  # noqa: FBT002
) -> None:
    pass


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
    _run(lambda: watch(config, listen_address))


async def watch(config: Config, listen_address: str) -> None:
    """Sweep and serve until the process is told to end."""
    try:
        listener = listen(listen_address)
    except (ValueError, OSError) as error:
        _fail(f"--web.listen-address: {error}")
    refresh = Refresh(config)
    server = Server(refresh.store)
    host, port = listener.getsockname()[:2]
    log.info("serving", address=host, port=port, servers=len(refresh.store.latest.servers))
    async with asyncio.TaskGroup() as group:
        group.create_task(refresh.run())
        group.create_task(server.run([listener]))


@app.command("check-config")
def check_config(file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration file.")]) -> None:
    """Say whether a configuration and its target files are valid; exit 1 if not."""
    config = _load(file)
    found = FileDiscovery(config.file_sd_configs, config.defaults, config.profiles).look()
    for error in found.errors:
        typer.echo(str(error), err=True)
    if found.errors:
        raise typer.Exit(1)
    typer.echo(f"{file} is valid: {len(config.servers)} servers in it, {len(found.targets)} in target files")


@app.command()
def audit(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET]...", help="service://host[:port]; https when no service is named."),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config.file", help="Audit the servers of this configuration.", metavar="FILE")
    ] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Judge by this profile; repeatable.")] = None,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.", metavar="FILE")] = None,
) -> None:
    """Sweep once and print what was seen.

    Exit codes: 0 every server meets every profile asked for, 1 some server does not, 3 none is known not to but some
    are unknown, 2 the arguments or the configuration cannot be used.
    """
    logs.configure("warning", "logfmt")
    config, only = _what_to_audit(targets or [], config_file, profile or [])
    snapshot = _run(lambda: _audit(config, only))
    if output is Output.JSON:
        text = json.dumps(report.document(snapshot), indent=2) + "\n"
    else:
        console = Console(width=None if out is None and sys.stdout.isatty() else 160, highlight=False)
        with console.capture() as capture:
            console.print(tables(snapshot))
        text = capture.get()
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
    raise typer.Exit(_exit_code(snapshot))


def _what_to_audit(targets: list[str], config_file: Path | None, profiles: list[str]) -> tuple[Config, list[Target]]:
    if bool(targets) == bool(config_file):
        _fail("name either targets or --config.file")
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        _fail(f"--profile: no profile is called {unknown[0]!r}; there are {', '.join(PROFILES)}")
    if config_file is not None:
        config = _load(config_file)
        return config.model_copy(update={"profiles": tuple(profiles)} if profiles else {}), []
    try:
        parsed = parse_targets(targets)
    except TargetError as error:
        _fail(str(error))
    document = {"servers": [target.name for target in parsed], **({"profiles": profiles} if profiles else {})}
    return parse_config(document, PROFILES), parsed


async def _audit(config: Config, targets: list[Target]) -> Snapshot:
    refresh = Refresh(config, targets)
    columns = (TextColumn("sweeping"), BarColumn(), MofNCompleteColumn(), TextColumn("servers"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("sweep", total=len(refresh.store.latest.servers))
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
    with DemoFleet() as fleet:
        config = parse_config(fleet.configuration(), PROFILES, source="demo")
        first = _run(lambda: _audit(config, []))
        Console(highlight=False).print(tables(first))
        logs.configure(log_level, log_format)
        typer.echo("\nThese are simulated servers: real TLS on loopback, swept every 5 seconds. Ctrl-C ends it.")
        typer.echo(f"Metrics: http://{listen_address}/metrics\n")
        _run(lambda: watch(config, listen_address))


def _load(path: Path) -> Config:
    try:
        return load_config(path, PROFILES)
    except ConfigError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    """Say what cannot be used and exit 2."""
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _run(main_task: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run to the end, or until SIGTERM or SIGINT cancels it; on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop

    async def cancellable() -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in it
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await main_task()

    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(cancellable())
        except asyncio.CancelledError:
            raise typer.Exit(0) from None
