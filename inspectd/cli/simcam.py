"""`inspectd simcam`: play the machine around a simulated camera."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption
from inspectd.runtime.errors import UserError
from inspectd.settings import config
from inspectd.settings.camera import SimCamera

MOST_SECONDS, MOST_FRAMES = 86400.0, 10**9
if TYPE_CHECKING:
    from inspectd.acquire.simcam.world import Rig

simcam = typer.Typer(help="Play the machine around a simulated camera: its trigger line, its cable, its defects.")
SimArgument = Annotated[
    str, typer.Option("--camera", help="Its name in the config; needed where there are several.")
]


class SimFault(StrEnum):
    """What can happen to a simulated camera."""

    DROP = "drop"
    INCOMPLETE = "incomplete"
    IDENTICAL = "identical"
    STARVE = "starve"
    UNPLUG = "unplug"
    POWER_OFF = "power-off"
    SERIAL = "serial"
    SILENT = "silent"
    SLOW_REGISTER = "slow-register"
    CLOCK = "clock"
    COUNTER = "counter"


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


@simcam.command(context_settings={"ignore_unknown_options": True})  # a value may be negative
def fault(
    kind: SimFault,
    value: Annotated[str, typer.Argument(help="Frames, seconds, counts, or the new serial.")] = "1",
    path: ConfigOption = DEFAULT_CONFIG,
    camera: SimArgument = "",
) -> None:
    """Do harm: drop, incomplete, identical N frames; starve, unplug, power-off, slow-register, clock SECONDS;
    counter BY; serial NEW; silent.
    """
    with _rig(path, camera) as rig:
        try:
            _harm(rig, kind, value)
        except ValueError as error:
            raise UserError(f"fault {kind}: {error}") from None


def _harm(rig: "Rig", kind: SimFault, value: str) -> None:
    calls: dict[SimFault, Callable[[], None]] = {
        SimFault.DROP: lambda: rig.drop(_whole(value, 0)),
        SimFault.INCOMPLETE: lambda: rig.incomplete(_whole(value, 0)),
        SimFault.IDENTICAL: lambda: rig.identical(_whole(value, 0)),
        SimFault.STARVE: lambda: rig.starve(_seconds(value, 0)),
        SimFault.UNPLUG: lambda: rig.unplug(_seconds(value, 0)),
        SimFault.POWER_OFF: lambda: rig.unplug(_seconds(value, 0), power=True),
        SimFault.SERIAL: lambda: rig.rename(value),
        SimFault.SILENT: rig.fall_silent,
        SimFault.SLOW_REGISTER: lambda: rig.slow_register(_seconds(value, 0)),
        SimFault.CLOCK: lambda: rig.jump_clock(_seconds(value, -MOST_SECONDS)),
        SimFault.COUNTER: lambda: rig.jump_counter(_whole(value, -MOST_FRAMES)),
    }
    calls[kind]()


def _whole(value: str, least: int) -> int:
    if not value.removeprefix("-").isdecimal() or not least <= int(value) <= MOST_FRAMES:
        raise ValueError(f"{value!r} is not a whole number from {least} to {MOST_FRAMES}")
    return int(value)


def _seconds(value: str, least: float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not least <= seconds <= MOST_SECONDS:
        raise ValueError(f"{value} s is not between {least:g} and {MOST_SECONDS:g} s")
    return seconds


def _rig(path: Path, name: str) -> "Rig":
    from inspectd.acquire.simcam import sim
    from inspectd.acquire.simcam.world import Rig, camera_path

    settings = config.load(path)
    names = [camera.name for camera in settings.config.camera if isinstance(camera, SimCamera)]
    if not names or (name and name not in names) or (not name and len(names) > 1):
        there_are = f"; it has {', '.join(names)}: name one with --camera" if names else ""
        raise UserError(f"{path} has no simulated camera {name}".rstrip() + there_are)
    file = camera_path(sim.sim_folder(settings.state_dir), name or names[0])
    try:
        return Rig(file)
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: the daemon makes the camera when it first runs") from None
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from None
