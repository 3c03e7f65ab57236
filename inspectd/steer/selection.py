"""What was selected, kept over restarts: on the disk before a change takes effect.

A restart must not go back to another product's recipe: its limits could pass a bad part.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.runtime.durable import UnwritableError, read_regular, sync_folder, write_synced
from inspectd.runtime.errors import ConfigError
from inspectd.settings.config import Settings
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.setup import make_plans

log = structlog.get_logger()


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """`selection.json`; empty strings are nothing."""

    recipe: str = ""
    """Id; empty = the config's first."""
    first: str = ""
    """The config's first recipe at that time: who puts another one there has selected it."""
    model: str = ""
    """Folder as it was given with `swap_model`; empty = the recipe's own."""
    from_part_id: int = 0
    """The recipe is only for parts from this one on."""
    paused: str = ""
    """Why, if somebody paused the line."""
    failed: str = ""
    """Why, if another product was wanted that could not be had: no part is judged by the wrong recipe."""

    @property
    def hold(self) -> str:
        """Why no part is judged; empty if they are."""
        return "; ".join(why for why in (self.failed, self.paused) if why)


class Start(NamedTuple):
    """What the daemon begins with."""

    settings: Settings
    """With the recipe and model that were selected."""
    selection: Selection


def begin_with(settings: Settings, part_ids: Mapping[str, int]) -> tuple[Settings, Selection, Bundle]:
    """What was selected last, its bundle loaded; where that can't be, the recipe's own, held with the reason."""
    start, selection = load_selection(settings, part_ids)
    try:
        bundle = load_bundle(start.recipe.model_dir, settings.config.allow_unproven)
        make_plans(start.recipe, settings.config.camera, bundle.manifest)
        return start, selection, bundle
    except ConfigError as error:
        if not selection.model:
            raise
        why = f"model {selection.model} was in use and can't be loaded ({'; '.join(error.problems)})"
    own = next(recipe for recipe in settings.recipes if recipe.id == start.recipe.id)
    why += f": swap it, or resume with recipe {own.id} and its own model"
    doubtful = _doubtful(start._replace(recipe=own), replace(selection, model=""), why)
    return *doubtful, load_bundle(own.model_dir)


def load_selection(settings: Settings, part_ids: Mapping[str, int]) -> Start:
    """What was selected last, if it can still be had; else the config's first recipe, held with the reason.

    `part_ids`: the last part of each camera that had a result.
    """
    path, first = settings.state_dir / "selection.json", settings.recipe.id
    try:
        chosen = msgspec.json.decode(read_regular(path), type=Selection)
    except FileNotFoundError:
        return Start(settings, Selection())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", "") or error
        return _doubtful(
            settings, Selection(), f"{path} can't be read ({problem}): select a recipe, or resume with {first}"
        )
    recipe = next((recipe for recipe in settings.recipes if recipe.id == chosen.recipe), None)
    if chosen.recipe and recipe is None:
        why = f"recipe {chosen.recipe} was in use and the config no longer has it: select another, or resume with"
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first}")
    if chosen.recipe and chosen.first != first:
        why = f"recipe {chosen.recipe} was in use, the config begins with another now: select one, or resume with"
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first}")
    if chosen.model and not chosen.recipe:  # for whichever recipe was the config's first then
        why = (
            f"model {chosen.model} was in use with a recipe that {path} does not name: select one, or resume with"
        )
        return _doubtful(settings, Selection(paused=chosen.paused), f"{why} {first} and its own model")
    settings = settings._replace(recipe=with_model(recipe or settings.recipe, chosen.model, settings.base))
    if any(part_ids.get(camera.name, 0) + 1 < chosen.from_part_id for camera in settings.config.camera):
        why = f"recipe {chosen.recipe} was to be used from part {chosen.from_part_id} on when the daemon ended"
        why += f": select the recipe of the parts that come now, or resume with {settings.recipe.id}"
        return _doubtful(settings, chosen, why)
    return Start(settings, chosen)


def _doubtful(settings: Settings, chosen: Selection, why: str) -> Start:
    """Held, and kept with the recipe that `resume` goes on with: a later config does not change that unnoticed."""
    log.warning(why)
    recipe, first = settings.recipe.id, settings.recipes[0].id
    return Start(settings, replace(chosen, recipe=recipe, first=first, from_part_id=0, failed=why))


def with_model(recipe: LoadedRecipe, model: str, base: Path) -> LoadedRecipe:
    """The recipe with another bundle than its own; "" = its own."""
    return recipe._replace(model_dir=base / model) if model else recipe


def keep_selection(state_dir: Path, selection: Selection) -> None:
    """Keep a selection for the next start: it is on the disk when this returns, or UnwritableError."""
    path = state_dir / "selection.json"
    new = path.with_suffix(".new")
    try:
        write_synced(new, msgspec.json.format(msgspec.json.encode(selection)), os.O_TRUNC)
        new.rename(path)
        sync_folder(state_dir)
    except OSError as error:
        raise UnwritableError(f"{path} can't be written: {error.strerror}") from None
