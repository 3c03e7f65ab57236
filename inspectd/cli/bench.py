"""`inspectd bench`: measure on this machine, each figure within one run."""

import signal
import sys
from typing import Annotated

import typer
from msgspec.structs import replace

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from inspectd.settings import config

bench = typer.Typer(help="Measure the daemon against the bare engine; a command below measures something else.")


@bench.callback(invoke_without_command=True)
def throughput(
    context: typer.Context,
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="Measure so long at a time.")] = 3.0,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Measure each N times, in turn.")] = 5,
    json: JsonOption = False,
) -> None:
    """Without a command below: the daemon against the bare engine on the same frames, in one run."""
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
    """Do every harm to simulated cameras of a running daemon, and see whether each trigger has its one result."""
    from inspectd.bench.faults import bench_faults
    from inspectd.bench.line import shown_camera
    from inspectd.cli.inspector import Inspector

    settings = config.load(path)
    recipe = settings.recipe._replace(recipe=replace(settings.recipe.recipe, camera={}))  # its cameras are its own
    inspector = Inspector(recipe, shown_camera(settings), settings.config.engine)
    bench_faults(settings, inspector.inspect, json)


@bench.command()
def wire(
    path: ConfigOption = DEFAULT_CONFIG,
    count: Annotated[int, typer.Option(metavar="N", min=100, help="Take N results of each kind.")] = 20_000,
    json: JsonOption = False,
) -> None:
    """Measure what a result costs on its way out: encoded, kept in the journal, handed to the socket."""
    from inspectd.bench.wire import bench_wire

    bench_wire(config.load(path), count, json)


@bench.command()
def crowd(
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="Measure so long at a time.")] = 10.0,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Measure each N times, in turn.")] = 5,
    json: JsonOption = False,
) -> None:
    """Measure what 20 subscribers, half of them stopped, and a flood of questions do to a result's time."""
    from inspectd.bench.crowd import bench_crowd

    bench_crowd(config.load(path), seconds, rounds, json)


@bench.command()
def overload(
    path: ConfigOption = DEFAULT_CONFIG,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="Measure so long at a time.")] = 5.0,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Measure each load N times, in turn.")] = 3,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            metavar="HZ",
            min=1,
            help="Offer so many parts a second; may be repeated. By default 0.8 to 3.33 x saturation.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure what four cameras get out of one engine when they offer more than it can judge."""
    from inspectd.bench.overload import bench_overload

    bench_overload(config.load(path), seconds, rounds, rate or (), json)
