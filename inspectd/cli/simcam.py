"""`inspectd simcam`: play the machine around a simulated camera."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption
from inspectd.cli.simfaults import KINDS, table
from inspectd.runtime.errors import UserError
from inspectd.settings import config
from inspectd.settings.camera import SimCamera

if TYPE_CHECKING:
    from inspectd.acquire.simcam.world import Rig

simcam = typer.Typer(help="Play the machine around a simulated camera: its trigger line, its cable, its defects.")
SimArgument = Annotated[
    str, typer.Option("--camera", help="Its name in the config; needed where there are several.")
]


@simcam.command()
def trigger(
    path: ConfigOption = DEFAULT_CONFIG,
    camera: SimArgument = "",
    count: Annotated[int, typer.Option(min=1, help="So many pulses.")] = 1,
    rate_hz: Annotated[float, typer.Option(min=0.01, max=10000, help="So many a second.")] = 10.0,
) -> None:
    """Send pulses to the camera's hardware trigger line, Line0."""
    import time

    with _rig(path, camera) as rig:
        start_s = time.monotonic()
        for i in range(count):
            time.sleep(max(0.0, start_s + i / rate_hz - time.monotonic()))
            rig.pulse()
        print(f"{count} pulses; the camera's trigger counter stands at {rig.memory.counter}")
        if not rig.listens:
            print('the camera does not listen to its line now: that takes trigger = "line" and a running daemon')


HELP = (
    f"Do harm to the camera, now or in its next frames.\n\n\b\n{table()}\n\n"
    "From `serial` on it stays so; lines and ids are new at the next start."
)


@simcam.command(help=HELP, context_settings={"ignore_unknown_options": True})  # a value may be negative
def fault(
    kind: Annotated[str, typer.Argument(help="The first word of a line.")],
    value: Annotated[str, typer.Argument(help="What its second word says.")] = "1",
    path: ConfigOption = DEFAULT_CONFIG,
    camera: SimArgument = "",
) -> None:
    """Do harm of one kind."""
    if kind not in KINDS:
        raise UserError(f"fault {kind!r}: the kinds are {', '.join(KINDS)}")
    with _rig(path, camera) as rig:
        try:
            KINDS[kind].harm(rig, value)
        except ValueError as error:
            raise UserError(f"fault {kind}: {error}") from None


def _rig(path: Path, name: str) -> "Rig":
    from inspectd.acquire.simcam import sim
    from inspectd.acquire.simcam.world import Rig, camera_path

    settings = config.load(path)
    names = [camera.name for camera in settings.config.camera if isinstance(camera, SimCamera)]
    if not name and len(names) > 1:
        raise UserError(f"{path} has the simulated cameras {', '.join(names)}: name one with --camera")
    if not names or (name and name not in names):
        there_are = f"; it has {', '.join(names)}: name one with --camera" if names else ""
        raise UserError(f"{path} has no simulated camera {name}".rstrip() + there_are)
    file = camera_path(sim.sim_folder(settings.state_dir), name or names[0])
    try:
        return Rig(file)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: the daemon makes the camera when it first runs") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
