"""`inspectd simcam`: play the machine around a simulated camera."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.complete import camera_names
from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption
from inspectd.cli.simfaults import KINDS, table
from inspectd.runtime.errors import UserError
from inspectd.settings import config
from inspectd.settings.camera import SimCamera

if TYPE_CHECKING:
    from inspectd.acquire.simcam.world import Rig

simcam = typer.Typer(help="Play the machine around a simulated camera: its trigger line, its cable, its defects.")
SimArgument = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Its name in the config; needed where there are several.", autocompletion=camera_names
    ),
]


@simcam.command()
def trigger(
    path: ConfigOption = DEFAULT_CONFIG,
    camera: SimArgument = "",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="Send N pulses.")] = 1,
    rate_hz: Annotated[
        float, typer.Option(metavar="HZ", min=0.01, max=10000, help="Send so many a second.")
    ] = 10.0,
) -> None:
    """Send pulses to a camera's hardware trigger line, Line0."""
    import time

    file = _camera_file(path, camera)
    with _rig(file) as rig:
        start_s = time.monotonic()
        for i in range(count):
            time.sleep(max(0.0, start_s + i / rate_hz - time.monotonic()))
            rig.pulse()
        pulses, counted = f"{count} pulse" + "s" * (count > 1), rig.memory.counter
        print(f"camera {file.stem}: {pulses} sent; its own count of triggers, `frame` in watch, is {counted} now")
        if not rig.listens:
            print('it does not listen to its line now: that takes trigger = "line" and a running daemon')


HELP = (
    f"Do harm to the camera, now or in its next frames.\n\n\b\n{table()}\n\n"
    "From `serial` on it stays so; lines and ids are new at the next start."
)


@simcam.command(help=HELP, context_settings={"ignore_unknown_options": True})  # a value may be negative
def fault(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="The first word of a line.", autocompletion=lambda: list(KINDS))
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What its second word says.")] = "1",
    path: ConfigOption = DEFAULT_CONFIG,
    camera: SimArgument = "",
) -> None:
    """Do harm of one kind."""
    if kind not in KINDS:
        raise UserError(f"fault {kind!r}: the kinds are {', '.join(KINDS)}")
    with _rig(_camera_file(path, camera)) as rig:
        try:
            KINDS[kind].harm(rig, value)
        except ValueError as error:
            raise UserError(f"fault {kind}: {error}") from None


def _camera_file(path: Path, name: str) -> Path:
    """The file, called like the camera, of the one that is meant; UserError if there is none or several."""
    from inspectd.acquire.simcam import sim
    from inspectd.acquire.simcam.world import camera_path

    settings = config.load(path)
    names = [camera.name for camera in settings.config.camera if isinstance(camera, SimCamera)]
    if not name and len(names) > 1:
        raise UserError(f"{path} has the simulated cameras {', '.join(names)}: name one with --camera")
    if not names or (name and name not in names):
        there_are = f"; it has {', '.join(names)}: name one with --camera" if names else ""
        raise UserError(f"{path} has no simulated camera {name}".rstrip() + there_are)
    return camera_path(sim.sim_folder(settings.state_dir), name or names[0])


def _rig(file: Path) -> "Rig":
    from inspectd.acquire.simcam.world import Rig

    try:
        return Rig(file)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: the daemon makes the camera when it first runs") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
