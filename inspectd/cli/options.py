"""What several commands have in common: their options, once."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.cli.complete import camera_names

DEFAULT_CONFIG = Path("config.toml")
ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", metavar="FILE", show_default=True, help="Read the line's config here.")
]
DaemonConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c", "--config", metavar="FILE", help="Find the daemon by its config; config.toml, where it is there."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
JsonAnswerOption = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
ResultsOption = Annotated[
    str | None,
    typer.Option("--connect", metavar="ENDPOINT", help="Find the daemon by its results endpoint instead."),
]
ControlOption = Annotated[
    str | None,
    typer.Option("--connect", metavar="ENDPOINT", help="Find the daemon by its control endpoint instead."),
]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, max=86400, help="Wait so long for the answer."),
]
ServerKeyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Use this public key of the daemon, where it wants keys.")
]
KeyOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Use this secret key of our own with it.")]
CameraArgument = Annotated[
    str, typer.Argument(metavar="CAMERA", help="Its name in the config.", autocompletion=camera_names)
]
