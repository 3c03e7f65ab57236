"""`inspectd doctor camera | gpu`: look at this machine before the line stands still."""

import sys
from typing import Annotated

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from inspectd.cli.tables import print_rows
from inspectd.settings import config
from inspectd.settings.engine import TensorRtEngine

ABOUT_DOCTOR = "Look at this machine for what breaks cameras in practice, and at what its GPU does."
doctor = typer.Typer(help=ABOUT_DOCTOR, no_args_is_help=True)


@doctor.command("camera")
def doctor_camera(json: JsonOption = False) -> None:
    """Check network, USB, permissions and producers, and name the remedies. Run it as the daemon's user."""
    import msgspec

    from inspectd.doctor.camera import camera_findings

    findings = camera_findings()
    print_rows([msgspec.to_builtins(finding) for finding in findings], json)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


@doctor.command("gpu")
def doctor_gpu(
    path: ConfigOption = DEFAULT_CONFIG,
    idle_s: Annotated[float, typer.Option("--idle", min=0, help="Seconds without a part, before one.")] = 10.0,
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
        print_rows([{name: getattr(figure, name) for name in shown} for figure in figures], json)
    if any(figure.status == "fail" for figure in figures):
        raise typer.Exit(1)
