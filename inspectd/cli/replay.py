"""`inspectd replay`: the daemon's engine, extraction and judge over a folder of images, offline."""

from pathlib import Path
from typing import Annotated

import typer

from inspectd.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from inspectd.settings import config


def replay(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of images.")],
    path: ConfigOption = DEFAULT_CONFIG,
    camera: Annotated[str, typer.Option(metavar="NAME", help="Camera whose pictures these are.")] = "",
    recipe: Annotated[str, typer.Option(metavar="ID", help="Id of the recipe to judge by.")] = "",
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Another model bundle than the recipe's.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Put each picture with what was found here.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV file for a row per picture.")] = None,
    json: JsonOption = False,
) -> None:
    """Judge a folder of images as the daemon would judge a camera's pictures."""
    from inspectd.cli.inspector import Inspector, chosen_camera, chosen_recipe
    from inspectd.cli.replay_folder import Outputs, replay_folder
    from inspectd.settings.config import view_of

    settings = config.load(path)
    by = chosen_recipe(settings, recipe)
    of = chosen_camera(settings, by, camera)
    if model is not None:
        by = by._replace(model_dir=model)
    view, _ = view_of(by.recipe, of)
    replay_folder(folder, Inspector(by, of, settings.config.engine), view, Outputs(json, csv, overlay))
