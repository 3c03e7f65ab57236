"""`inspectd cameras`: which there are, what features they have, what they see."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.cli.options import DEFAULT_CONFIG, CameraArgument, ConfigOption, JsonOption
from inspectd.cli.tables import print_rows
from inspectd.runtime.errors import CameraError, UserError
from inspectd.settings import config
from inspectd.settings.camera import GenicamCamera, SimCamera

cameras = typer.Typer(help="Show which GenICam cameras there are, their features, and what they see.")


@cameras.callback(invoke_without_command=True)
def list_cameras(context: typer.Context, path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the cameras of the configured producers and of GENICAM_GENTL64_PATH."""
    if context.invoked_subcommand is not None:
        return
    from inspectd.acquire.survey import Listing, ask

    paths, sim_folder = _producers(path)
    devices = ask(Listing([str(p) for p in paths], sim_folder))
    print_rows(devices, json)
    if not devices:
        raise CameraError(f"no camera found by {', '.join(str(p) for p in paths)}")


def _producers(path: Path) -> tuple[list[Path], str]:
    """Producer files, and the folder of simulated cameras."""
    from inspectd.acquire.genicam.producers import producers
    from inspectd.acquire.simcam import sim, world

    settings = config.load(path) if path != DEFAULT_CONFIG or path.exists() else None
    configured = settings.config.camera if settings else []
    ctis = {c.cti for c in configured if isinstance(c, GenicamCamera)}
    paths = {p for cti in ctis for p in producers(cti, path.parent)}
    simulated = settings and any(isinstance(c, SimCamera) for c in configured)
    if simulated and (built := world.producer()):
        paths.add(built)
    if not paths or os.environ.get("GENICAM_GENTL64_PATH"):
        paths |= set(producers("", path.parent))
    return sorted(paths), str(sim.sim_folder(settings.state_dir)) if settings else ""


@cameras.command()
def features(name: CameraArgument, path: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Show a camera's features as they are once the config and the recipe are applied."""
    from inspectd.acquire.survey import Opening, ask

    print_rows(ask(Opening(_job(name, path), features=True)), json)


@cameras.command()
def snapshot(
    name: CameraArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Write this PNG file.")] = Path(
        "snapshot.png"
    ),
    path: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Write the next picture of a camera as PNG, cropped as the recipe says."""
    from inspectd.acquire.survey import Opening, ask

    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: its folder does not exist")
    ask(Opening(_job(name, path), picture=str(out.absolute())))
    print(out)


def _job(name: str, path: Path) -> Any:
    from inspectd.engine.bundle import load_bundle
    from inspectd.steer.setup import first_jobs

    settings = config.load(path)
    jobs = {job.config.name: job for job in first_jobs(settings, load_bundle(settings.recipe.model_dir))}
    if name not in jobs:
        raise UserError(f"{path} has no camera {name!r}; it has {', '.join(jobs)}")
    return jobs[name]
