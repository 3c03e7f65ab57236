"""`inspectd doctor camera | gpu`: look at this machine before the line stands still."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from inspectd.cli.tables import print_findings, print_rows
from inspectd.runtime.errors import CameraError
from inspectd.settings import config
from inspectd.settings.engine import TensorRtEngine

ABOUT_DOCTOR = "Look at this machine for what breaks cameras in practice, and at what its GPU does."
doctor = typer.Typer(help=ABOUT_DOCTOR, no_args_is_help=True)


@doctor.command("camera")
def doctor_camera(
    path: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", metavar="FILE", help="Open this config's cameras too, and look at their links."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check network, USB, permissions and producers as the daemon's user, and name the remedies."""
    import msgspec

    from inspectd.doctor.camera import ask_here, camera_findings

    findings = camera_findings(told=ask_here(), opened=_opened(path) if path else ())
    print_findings([msgspec.to_builtins(finding) for finding in findings], json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _opened(path: Path) -> list[Any]:
    """Open the config's cameras one after the other, as the daemon would, and read their features."""
    from inspectd.acquire.survey import Opening, ask
    from inspectd.doctor.opened import OpenedCamera
    from inspectd.engine.bundle import load_bundle
    from inspectd.settings.camera import GentlCamera, is_simulated
    from inspectd.steer.setup import first_jobs

    settings = config.load(path)
    found = []
    for job in first_jobs(settings, load_bundle(settings.recipe.model_dir)):
        camera = job.config
        if not isinstance(camera, GentlCamera):
            continue
        rows, trouble = [], ""
        try:
            rows = ask(Opening(job, features=True))
        except CameraError as error:
            trouble = str(error)
        found.append(
            OpenedCamera(
                camera.name,
                features={row["name"]: row["value"] for row in rows},
                limits={row["name"]: row["max"] for row in rows if isinstance(row.get("max"), int | float)},
                rate_hz=camera.acquisition_frame_rate_hz if camera.trigger != "line" else None,
                is_free_run=camera.trigger == "free_run",
                is_simulated=is_simulated(job.config),
                trouble=trouble,
            )
        )
    return found


@doctor.command("gpu")
def doctor_gpu(
    path: ConfigOption = DEFAULT_CONFIG,
    idle_s: Annotated[
        float, typer.Option("--idle", metavar="SECONDS", min=0, help="Leave the GPU idle so long before a part.")
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    """Measure the GPU with the config's model and first camera: link, copies, plan, latency, throughput."""
    import msgspec

    from inspectd.engine.bundle import load_bundle
    from inspectd.runtime.slots import Shape
    from inspectd.steer.setup import first_jobs

    settings = config.load(path)
    bundle = load_bundle(settings.recipe.model_dir)
    job = first_jobs(settings, bundle)[0]
    engine = settings.config.engine
    if not isinstance(engine, TensorRtEngine):
        engine = TensorRtEngine()
    from inspectd.doctor.gpu import gpu_figures  # pycuda looks for the driver now

    figures = []
    for figure in gpu_figures(engine, bundle, Shape(job.rect[3], job.rect[2], job.channels), idle_s):
        figures.append(figure)
        if json:
            print_rows([msgspec.to_builtins(figure)], json)
        else:
            print(f"{figure.check}: {figure.found}", file=sys.stderr)  # it takes a minute: show that it goes on
    if not json:
        shown = ("check", "status", "found", "wanted", "remedy")
        print_findings([{name: getattr(figure, name) for name in shown} for figure in figures], json)
    if any(figure.status == "fail" for figure in figures):
        raise typer.Exit(1)
