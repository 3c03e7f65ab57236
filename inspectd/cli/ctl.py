"""`inspectd ctl`: steer a running daemon."""

import getpass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from inspectd.cli.complete import recipe_ids
from inspectd.cli.options import (
    CameraArgument,
    ControlOption,
    DaemonConfigOption,
    JsonAnswerOption,
    KeyOption,
    ServerKeyOption,
    TimeoutOption,
)
from inspectd.cli.target import find_daemon

ctl = typer.Typer(help="Steer a running daemon: recipe, model, pause, software triggers.", no_args_is_help=True)


class Target(NamedTuple):
    """How to find the one that is steered: the options that name it."""

    config: Path | None
    connect: str | None
    server_key: Path | None
    key: Path | None


@ctl.command()
def status(
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 10,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Show the line's state, what is in use, what may be selected, and each camera's books."""
    result = _ask(Target(config, connect, server_key, key), timeout, "status")
    if json:
        _print_json(result)
        return
    print(f"line {result['line']}: {result['state']}, {result['detail']}")
    print(f"recipe {result['recipe']['id']} {result['recipe']['revision']} of {', '.join(result['recipes'])}")
    print(f"model {result['model']['name']} {result['model']['sha256'][:12]}")
    if waiting := result["waiting"]:
        print(f"from part {waiting['from_part_id']} on: recipe {waiting['recipe']}")
    if result["preparing"]:
        print(f"preparing {result['preparing']}")
    if result["journal"] != "ok":
        print(f"journal: {result['journal']}")
    for name, camera in result["cameras"].items():
        counted = ", ".join(f"{count} {what}" for what, count in camera["books"].items() if count)
        balance = "" if camera["balanced"] else "; THE BOOKS DON'T BALANCE"
        print(f"camera {name}: {camera['state']}, {camera['detail']}; {counted or 'no trigger yet'}{balance}")


@ctl.command()
def select(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="Id of one of the config's recipes.", autocompletion=recipe_ids),
    ],
    from_part: Annotated[
        int | None,
        typer.Option(metavar="PART", min=1, help="Switch at this part of each camera, not at once."),
    ] = None,
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 600,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Inspect another product; if that fails, no part is judged any more."""
    fields = {"recipe": recipe} if from_part is None else {"recipe": recipe, "from_part_id": from_part}
    _show_switched(_ask(Target(config, connect, server_key, key), timeout, "select_recipe", **fields), json)


@ctl.command()
def swap(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The bundle, on the daemon's machine; relative to its config.")
    ],
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 600,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Use another model for the recipe in use; if that fails, the old one goes on."""
    _show_switched(_ask(Target(config, connect, server_key, key), timeout, "swap_model", model=folder), json)


@ctl.command()
def pause(
    why: Annotated[str, typer.Argument(metavar="WHY", help="The reason, shown with the state of the line.")] = "",
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 10,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Judge no part until `resume`: each is UNKNOWN/not_ready."""
    result = _ask(Target(config, connect, server_key, key), timeout, "pause", why=why)
    if json:
        _print_json(result)
        return
    print(f"held: {result['hold']}")
    if result["problem"]:
        print(f"but a restart may not know of it: {result['problem']}")


@ctl.command()
def resume(
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 10,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Judge parts again, by the recipe and model in use."""
    result = _ask(Target(config, connect, server_key, key), timeout, "resume")
    _print_json(result) if json else print(f"resumed: {result['state']}")


@ctl.command()
def trigger(
    camera: CameraArgument,
    part_ref: Annotated[
        str, typer.Argument(metavar="PART_REF", help="What the part is called elsewhere; its result says so.")
    ] = "",
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 10,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Send one software trigger to a camera with trigger = "software"."""
    result = _ask(Target(config, connect, server_key, key), timeout, "trigger", camera=camera, part_ref=part_ref)
    if json:
        _print_json(result)
        return
    called = f", part_ref {result['part_ref']}" if result["part_ref"] else ""
    print(f"camera {result['camera']} triggered: `frame` {result['frame_id']} in watch{called}")


@ctl.command("reset-counters")
def reset_counters(
    config: DaemonConfigOption = None,
    connect: ControlOption = None,
    json: JsonAnswerOption = False,
    timeout: TimeoutOption = 10,
    server_key: ServerKeyOption = None,
    key: KeyOption = None,
) -> None:
    """Begin the books anew, with the frames in flight."""
    result = _ask(Target(config, connect, server_key, key), timeout, "reset_counters")
    if json:
        _print_json(result)
        return
    for name, books in result["books"].items():
        counted = f"{books['triggered']} triggers, {books['passed']} passed, {books['failed']} failed"
        print(f"camera {name} was at {counted}")


def _ask(daemon: Target, timeout_s: float, verb: str, **fields: Any) -> dict[str, Any]:
    from inspectd.subscribe.control import Control

    endpoint, keys = find_daemon("control", daemon.connect, daemon.config, daemon.server_key, daemon.key)
    with Control(endpoint, f"ctl of {_user()}"[:64], keys) as control:
        return control.request(verb, timeout_s, **fields)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return "?"


def _show_switched(result: dict[str, Any], json: bool) -> None:
    if json:
        _print_json(result)
        return
    recipe, model = result["recipe"], result["model"]
    print(f"switched {result['switched']}: recipe {recipe['id']} {recipe['revision']}, model {model['name']}")
    for camera, part in result["first_part_ids"].items():
        print(f"camera {camera}: from part {part} on")
    if cancelled := result.get("cancelled"):
        print(f"cancelled: recipe {cancelled['recipe']}, which waited for part {cancelled['from_part_id']}")
    if result["hold"]:
        print(f"held: {result['hold']}")


def _print_json(result: dict[str, Any]) -> None:
    print(msgspec.json.encode(result).decode())
