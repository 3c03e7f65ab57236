"""One camera's pictures judged offline: the daemon's own way from the image file to the verdict."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import structlog

from inspectd.acquire.folder import load_picture
from inspectd.engine import open_segmenter
from inspectd.engine.bundle import load_bundle
from inspectd.extract.plan import U8
from inspectd.judge.image import sample_of
from inspectd.judge.inspect import NOT_CHECKED, inspect
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Reason, unknown
from inspectd.settings.camera import CameraConfig
from inspectd.settings.config import Settings, view_of
from inspectd.settings.engine import EngineConfig
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.setup import make_plans

log = structlog.get_logger()


class Inspector:
    """Judges image files as the daemon judges a camera's pictures: cut to its roi, without what is ignored, by the
    limits of its zones. The picture before the first is not known; from then on it is the one judged last.
    """

    def __init__(self, recipe: LoadedRecipe, camera: CameraConfig, engine: EngineConfig) -> None:
        """Raises ConfigError where the recipe does not fit model or camera, or the model can't be used."""
        bundle = load_bundle(recipe.model_dir)
        if bundle.manifest.unproven:
            log.warning("the model is unproven", model=str(recipe.model_dir), why=bundle.manifest.unproven)
        (self.plan,) = make_plans(recipe, [camera], bundle.manifest)
        self.model = bundle.manifest.name
        self._camera, self._channels, self._limits = camera, bundle.manifest.channels, recipe.recipe.image
        self._segment: Callable[[U8], tuple[U8, U8]] = open_segmenter(engine, bundle)
        self._last_sample: U8 | None = None

    def inspect(self, path: Path) -> Judgement:
        """The judgement of one image file; one that is no picture of the camera is UNKNOWN/incomplete."""
        return self.judge(self.picture(path))

    def picture(self, path: Path) -> U8 | str:
        """The picture of an image file as the camera would send it, uint8 [H, W, C], or why it can't be one."""
        return load_picture(path, self._camera, self._channels)

    def judge(self, picture: U8 | str) -> Judgement:
        """The judgement of a picture, or of why there is none."""
        if isinstance(picture, str):
            return unknown(Reason.INCOMPLETE, picture)
        x, y, width, height = self.plan.rect
        judged = np.ascontiguousarray(picture[y : y + height, x : x + width])
        scores, peak = self._segment(judged)
        if self._limits == NOT_CHECKED:
            return inspect(scores, peak, self.plan)
        previous, self._last_sample = self._last_sample, sample_of(judged)
        return inspect(scores, peak, self.plan, self._limits, self._last_sample, previous)


def chosen_recipe(settings: Settings, recipe_id: str) -> LoadedRecipe:
    """The recipe of this id; "" = the only one. Raises UserError if there is none, or they differ."""
    found = [recipe for recipe in settings.recipes if recipe_id in ("", recipe.id)]
    names = ", ".join(recipe.id for recipe in settings.recipes)
    if not found:
        raise UserError(f"{settings.path} has no recipe {recipe_id!r}; it has {names}")
    if any((other.recipe, other.model_dir) != (found[0].recipe, found[0].model_dir) for other in found):
        raise UserError(
            f"{settings.path} has the recipes {names}: say with --recipe which one judges the pictures"
        )
    return found[0]


def chosen_camera(settings: Settings, recipe: LoadedRecipe, name: str) -> CameraConfig:
    """The camera of this name; "" = the only one. Raises UserError if there is none, or they judge differently."""
    found = [camera for camera in settings.config.camera if name in ("", camera.name)]
    names = ", ".join(camera.name for camera in settings.config.camera)
    if not found:
        raise UserError(f"{settings.path} has no camera {name!r}; it has {names}")
    ways = [(view_of(recipe.recipe, camera), camera.width, camera.height, camera.scale) for camera in found]
    if any(way != ways[0] for way in ways):
        raise UserError(
            f"the cameras {names} are judged differently: say with --camera which one's pictures these are"
        )
    return found[0]
