"""`inspectd`: the command line. Exit codes: see `errors.py`."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer

from inspectd import __version__
from inspectd.cli.cameras import cameras, simcam
from inspectd.cli.ctl import ctl
from inspectd.cli.doctor import doctor
from inspectd.cli.keys import keygen
from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption, KeyOption, ServerKeyOption, keys_of
from inspectd.runtime.errors import (
    CameraError,
    ConfigError,
    DeviceError,
    UnavailableError,
    UserError,
    missing_package,
)
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.log import Stderr
from inspectd.settings import config

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(cameras, name="cameras")
app.add_typer(simcam, name="simcam")
app.add_typer(doctor, name="doctor")
app.add_typer(ctl, name="ctl")
app.command()(keygen)
LOG = Stderr()
PR_SET_PDEATHSIG = 1
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5556"
DESCRIPTORS = 16384
"""As many as systemd/inspectd@.service allows: each connection takes one, and silent ones must not use them up."""


def main() -> None:
    """Entry point: a user's mistake is one sentence and an exit code, never a traceback."""
    _log_to_stderr(logging.WARNING)
    try:
        app()
    except UserError as error:
        print(f"inspectd: {error}" if not isinstance(error, ConfigError) else error, file=sys.stderr)
        _leave(error.exit_code)
    except ModuleNotFoundError as error:
        print(f"inspectd: {missing_package(error, 'run')}", file=sys.stderr)
        sys.exit(UserError.exit_code)
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
    _allow_descriptors()
    from inspectd.daemon import Daemon

    settings = config.load(path)
    endpoint = settings.config.publish.results
    if watch and settings.config.publish.server_key and not endpoint.startswith("ipc://"):
        raise UserError(f"--watch has no key for {endpoint}: leave it out, and use `inspectd watch` with one")
    daemon = Daemon(settings, wake)
    if settings.config.publish.server_key:
        signal.signal(signal.SIGHUP, lambda *_: daemon.renew_keys())
    if not watch:
        _leave(daemon.run(count))
    command = [sys.executable, "-P", "-m", "inspectd", "watch", "--with-parent"]
    command += ["--connect", endpoint]
    watcher = subprocess.Popen(command, start_new_session=True)  # the daemon's Ctrl-C is not its own
    try:
        code = daemon.run(count)
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.wait()
    _leave(code)


def _allow_descriptors() -> None:
    """As many as we may have, up to DESCRIPTORS; a shell mostly gives 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _leave(code: int) -> NoReturn:
    if code == DeviceError.exit_code:
        LOG.goodbye()
        os._exit(code)  # at once: what is left of TensorRT on a lost GPU could crash on a tidy way out
    sys.exit(code)


@app.command()
def check(path: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check config, recipes, model and cameras, without starting anything."""
    from inspectd.acquire.survey import Opening, ask
    from inspectd.engine import outlook
    from inspectd.engine.bundle import load_bundle
    from inspectd.publish.security import read_keyring
    from inspectd.runtime.ring import check_memory
    from inspectd.steer.setup import first_jobs, make_plans

    settings = config.load(path)
    bundle = load_bundle(settings.recipe.model_dir)
    make_plans(settings.recipe, settings.config.camera, bundle)
    jobs = first_jobs(settings, bundle)
    shapes = [job.shape for job in jobs]
    engine = outlook(settings.config.engine, bundle, shapes)
    print(f"{path}: line {settings.config.line}, recipe {settings.recipe.id} {settings.recipe.revision}")
    print(f"{bundle.path}: model {bundle.manifest.name}, {engine}")
    if keyring := read_keyring(settings.config.publish):
        names = {domain: ", ".join(sorted(keys.values())) for domain, keys in keyring.clients.items()}
        print(f"keys: may read: {names['read'] or 'nobody'}; may control: {names['control'] or 'nobody'}")
    missing = []
    for job, shape in zip(jobs, shapes, strict=True):
        try:
            check_memory(job.slots, shape, job.config.name, job.slot_bytes)
            print(f"camera {job.config.name}: {ask(Opening(job))[0]['device']}")
        except CameraError as error:
            missing.append(f"camera {job.config.name}: {error}")
        except UnavailableError as error:
            missing.append(str(error))
    if missing:
        raise CameraError("\n".join(missing))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="Folder of images.")],
    path: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Judge a folder of images by the config's recipe, offline."""
    from inspectd.cli.replay import replay as replay_folder

    settings = config.load(path)
    replay_folder(folder, settings.recipe, settings.config.engine, json)


@app.command()
def watch(
    connect: Annotated[str, typer.Option(help="The daemon's results endpoint.")] = DEFAULT_ENDPOINT,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many results.")] = None,
    json: JsonOption = False,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
    with_parent: Annotated[bool, typer.Option(hidden=True, help="End when the parent ends.")] = False,
) -> None:
    """Show every result of a running daemon once; tells of silence, and of what can't be had any more."""
    from inspectd.subscribe.watch import watch as watch_results

    if with_parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    watch_results(connect, count, json, keys_of(server_key, key))


bench = typer.Typer(help="Measure on this machine, each figure within one run.")
app.add_typer(bench, name="bench")


@bench.callback(invoke_without_command=True)
def throughput(
    context: typer.Context,
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each kind, taken in turn.")] = 5,
    json: JsonOption = False,
) -> None:
    """Without a subcommand: the daemon against the bare engine on the same frames, in one run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what it has begun is put away
    if context.invoked_subcommand is not None:
        return
    from inspectd.bench.throughput import bench_throughput

    bench_throughput(config.load(path), seconds, rounds, json)


@bench.command()
def acquire(json: JsonOption = False) -> None:
    """Measure a simulated camera: from the trigger to the frame in the ring, and frames per second."""
    from inspectd.bench.acquire import bench_acquire

    bench_acquire(json)


@bench.command()
def faults(path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Do every harm that a camera can come to, with the daemon running: has each trigger its one result?"""
    from inspectd.bench.faults import bench_faults

    bench_faults(config.load(path), json)


@bench.command()
def wire(
    path: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int, typer.Option(min=100, help="Results of each kind.")] = 20_000,
    json: JsonOption = False,
) -> None:
    """Measure what a result costs on its way out: encoded, kept in the journal, handed to the socket."""
    from inspectd.bench.wire import bench_wire

    bench_wire(config.load(path), count, json)


@bench.command()
def crowd(
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each kind, taken in turn.")] = 5,
    json: JsonOption = False,
) -> None:
    """Measure what 20 subscribers, half of them stopped, and a flood of questions do to a result's time."""
    from inspectd.bench.crowd import bench_crowd

    bench_crowd(config.load(path), seconds, rounds, json)


def _log_to_stderr(level: int) -> None:
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S"),
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr is not None and sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(LOG),  # type: ignore[arg-type]  # all it needs of a file
    )
