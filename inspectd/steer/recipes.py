"""All recipes of a config held against their models, before any of them is wanted. No engine is opened for it."""

from collections.abc import Sequence
from pathlib import Path

from inspectd.engine.bundle import Manifest, load_bundle
from inspectd.runtime.errors import BundleError, ConfigError
from inspectd.settings import toml
from inspectd.settings.config import Settings, view_of
from inspectd.settings.engine import TensorRtEngine
from inspectd.settings.recipe import LoadedRecipe, Recipe
from inspectd.steer.setup import make_plans


def check_recipes(settings: Settings) -> list[Manifest]:
    """Resolve every recipe for every camera, and check every file of its bundle by its hash.

    Gives the manifests of their models, in the order of the recipes; raises ConfigError with every problem in all
    of them, each with the recipe's file and line.
    """
    manifests: dict[Path, Manifest] = {}
    problems: list[str] = []
    for recipe in settings.recipes:
        try:
            if recipe.model_dir not in manifests:
                manifests[recipe.model_dir] = _manifest_of(recipe, settings.config.allow_unproven)
            make_plans(recipe, settings.config.camera, manifests[recipe.model_dir])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return [manifests[recipe.model_dir] for recipe in settings.recipes]


def _manifest_of(recipe: LoadedRecipe, allow_unproven: bool) -> Manifest:
    """The manifest of a bundle that may be used; raises ConfigError that names the recipe's line."""
    try:
        return load_bundle(recipe.model_dir, allow_unproven).manifest
    except BundleError as error:
        raise ConfigError(toml.read(recipe.path, Recipe).report([(("model",), str(error))])) from None


def need_restart(
    settings: Settings, manifests: Sequence[Manifest], now: LoadedRecipe, model: Manifest
) -> list[str]:
    """Ids of the recipes that a line on the GPU can't change to while it runs: all with another model or size.

    manifests: of the recipes' models, in their order. now, model: recipe and model in use.
    """
    if not isinstance(settings.config.engine, TensorRtEngine):
        return []
    pairs = zip(settings.recipes, manifests, strict=True)
    sizes = _sizes(now, settings)
    return [recipe.id for recipe, own in pairs if own != model or _sizes(recipe, settings) != sizes]


def _sizes(recipe: LoadedRecipe, settings: Settings) -> list[tuple[int, ...]]:
    """Width and height of the pictures of each camera."""
    return [view_of(recipe.recipe, camera)[1][2:] for camera in settings.config.camera]
