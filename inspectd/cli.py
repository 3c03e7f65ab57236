"""`inspectd`: the command line. Exit codes: see `errors.py`."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from inspectd import __version__, config
from inspectd.errors import CameraError, ConfigError, UserError
from inspectd.handoff import Handoff
from inspectd.log import Stderr

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
ConfigOption = Annotated[Path, typer.Option("-c", "--config", help="The line's config file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
LOG = Stderr()
DEFAULT_CONFIG = Path("config.toml")
PR_SET_PDEATHSIG = 1
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"


def main() -> None:
    """Entry point: a user's mistake is one sentence and an exit code, never a traceback."""
    _log_to_stderr(logging.WARNING)
    try:
        app()
    except UserError as error:
        print(f"inspectd: {error}" if not isinstance(error, ConfigError) else error, file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"inspectd: {error.strerror or error}", file=sys.stderr)
        sys.exit(UserError.exit_code)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Inspect every part: camera, network, verdict, message."""
    if show:
        print(f"inspectd {__version__}")
        raise typer.Exit


@app.command()
def run(
    path: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after at least so many results.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the results here as well.")] = False,
) -> None:
    """Run the daemon of a line until Ctrl-C or SIGTERM."""
    wake: Handoff[str] = Handoff()  # before anything slow: an early Ctrl-C ends what is being started, cleanly
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: wake.put(signal.Signals(n).name))
    if not watch:
        _log_to_stderr(logging.INFO)
    from inspectd.daemon import Daemon

    settings = config.load(path)
    daemon = Daemon(settings, wake)
    if not watch:
        raise typer.Exit(daemon.run(count))
    command = [sys.executable, "-P", "-m", "inspectd", "watch", "--with-parent"]
    command += ["--connect", settings.config.publish.results]
    watcher = subprocess.Popen(command, start_new_session=True)  # the daemon's Ctrl-C is not its own
    try:
        code = daemon.run(count)
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.wait()
    raise typer.Exit(code)


@app.command()
def check(path: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check config, recipes, model and cameras, without starting anything."""
    from inspectd.acquire import probe
    from inspectd.engine.bundle import load_bundle
    from inspectd.engine.openvino import open_segmenter, precision_of, thread_count
    from inspectd.pipeline import make_plans
    from inspectd.ring import Shape

    settings = config.load(path)
    bundle = load_bundle(settings.recipe.model_dir)
    make_plans(settings.recipe, settings.config.camera, bundle)
    segmenter = open_segmenter(bundle, thread_count(settings.config.engine))
    precision = precision_of(segmenter.compile(Shape(64, 64, bundle.manifest.channels)))
    print(f"{path}: line {settings.config.line}, recipe {settings.recipe.id} {settings.recipe.revision}")
    golden = f"golden test within {segmenter.golden_difference}/255"
    print(f"{bundle.path}: model {bundle.manifest.name}, {precision}, {golden}")
    missing = []
    for camera in settings.config.camera:
        try:
            view, _ = config.view_of(settings.recipe.recipe, camera)
            print(f"camera {camera.name}: {probe(camera, view, settings.base, bundle.manifest.channels)}")
        except CameraError as error:
            missing.append(f"camera {camera.name}: {error}")
    if missing:
        raise CameraError("\n".join(missing))


@app.command()
def cameras(
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """List the GenICam cameras of the configured producers and of GENICAM_GENTL64_PATH."""
    import msgspec

    from inspectd.acquire.genicam import Device, list_devices, producers

    configured = config.load(path).config.camera if path != DEFAULT_CONFIG or path.exists() else []
    ctis = {c.cti for c in configured if isinstance(c, config.GenicamCamera) and c.cti}
    paths = [p for cti in ctis for p in producers(cti, path.parent)]
    if not paths or os.environ.get("GENICAM_GENTL64_PATH"):
        paths += producers("", path.parent)
    devices = list_devices(sorted(set(paths)))
    if json:
        for device in devices:
            print(msgspec.json.encode(device._asdict()).decode())
    else:
        _print_table(Device._fields, devices)
    if not devices:
        raise CameraError(f"no camera found by {', '.join(str(p) for p in paths)}")


def _print_table(titles: tuple[str, ...], rows: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="Folder of images.")],
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Judge a folder of images by the config's recipe, offline."""
    from inspectd.replay import replay as replay_folder

    settings = config.load(path)
    replay_folder(folder, settings.recipe, settings.config.engine, json)


@app.command()
def watch(
    connect: Annotated[str, typer.Option(help="The daemon's results endpoint.")] = DEFAULT_ENDPOINT,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many results.")] = None,
    json: JsonOption = False,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when the parent ends.")] = False,
) -> None:
    """Show the results of a running daemon; tells of gaps and of silence."""
    from inspectd.subscribe.watch import watch as watch_results

    if with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    watch_results(connect, count, json)


@app.command()
def bench(
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each kind, taken in turn.")] = 5,
    json: JsonOption = False,
) -> None:
    """Measure the daemon against the bare engine on the same frames, in one run."""
    from inspectd.bench import bench as run_bench

    run_bench(config.load(path), seconds, rounds, json)


def _log_to_stderr(level: int) -> None:
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S"),
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(LOG),  # type: ignore[arg-type]  # all it needs of a file
    )
