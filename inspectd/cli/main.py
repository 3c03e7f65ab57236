"""`inspectd`: the command line. Exit codes: see `errors.py`."""

import logging
import sys
from typing import Annotated

import typer

from inspectd import __version__
from inspectd.cli.bench import bench
from inspectd.cli.cameras import cameras
from inspectd.cli.check import check
from inspectd.cli.ctl import ctl
from inspectd.cli.doctor import doctor
from inspectd.cli.keys import keygen
from inspectd.cli.replay import replay
from inspectd.cli.run import run, watch
from inspectd.cli.simcam import simcam
from inspectd.cli.stderr import leave, log_to_stderr
from inspectd.cli.usage import HELP_OPTIONS, call
from inspectd.runtime.errors import (
    ConfigError,
    UserError,
    missing_package,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings=HELP_OPTIONS)
A_LINE, BEFORE, MACHINE = "Run a line", "Prepare a line", "Look at this machine"
app.command(rich_help_panel=A_LINE)(run)
app.command(rich_help_panel=A_LINE)(watch)
app.add_typer(ctl, name="ctl", rich_help_panel=A_LINE)
app.command(rich_help_panel=BEFORE)(check)
app.command(rich_help_panel=BEFORE)(replay)
app.command(rich_help_panel=BEFORE)(keygen)
app.add_typer(cameras, name="cameras", rich_help_panel=MACHINE)
app.add_typer(simcam, name="simcam", rich_help_panel=MACHINE)
app.add_typer(doctor, name="doctor", rich_help_panel=MACHINE)
app.add_typer(bench, name="bench", rich_help_panel=MACHINE)


def main() -> None:
    """Entry point: a user's mistake is one sentence and an exit code, never a traceback."""
    log_to_stderr(logging.WARNING)
    try:
        sys.exit(call(app, "inspectd"))
    except UserError as error:
        print(f"inspectd: {error}" if not isinstance(error, ConfigError) else error, file=sys.stderr)
        leave(error.exit_code)
    except ModuleNotFoundError as error:
        print(f"inspectd: {missing_package(error, 'run')}", file=sys.stderr)
        sys.exit(UserError.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"inspectd: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(UserError.exit_code)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Inspect every part: camera, network, verdict, message."""
    if show:
        print(f"inspectd {__version__}")
        raise typer.Exit
