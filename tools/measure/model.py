"""Joins what scores pictures and what judges them: a bundle with a recipe, or a peer in the same harness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inspectd.engine.bundle import Bundle
from inspectd.extract.plan import Plan, make_plan
from inspectd.judge.inspect import counted_regions, inspect
from inspectd.runtime.frame import Judgement, Region
from inspectd.settings.recipe import ImageLimits, Recipe, View
from inspectd_train.data.dataset import SMALLEST_PX
from inspectd_train.measure.scores import U8, Score

DEFAULT_LEVEL = 128
"""The level of the class map, of 255, where the manifest names none."""


@dataclass(frozen=True)
class Model:
    """What scores pictures: `stride` in px, the class map's levels (1..255) per class; and its recipe."""

    score: Score
    classes: tuple[str, ...]
    stride: int
    mask_levels: tuple[int, ...]
    recipe: Recipe

    def plan(self, shape: tuple[int, int]) -> Plan:
        """Plans the recipe for pictures of (H, W) px, without zones."""
        return make_plan(self.recipe, View(), (0, 0, shape[1], shape[0]), self.classes, self.stride)

    def judged(self, scores: U8, peak: U8, shape: tuple[int, ...]) -> Judgement:
        """Judges a picture of (H, W) px with these scores as the daemon does."""
        return inspect(scores, peak, self.plan((shape[0], shape[1])))

    def regions(self, image: U8) -> tuple[Region, ...]:
        """Finds the regions of a picture uint8 [H, W, C] that count, by `min_area_px`."""
        return counted_regions(*self.score(image), self.plan((image.shape[0], image.shape[1]))).regions


def model_of(bundle: Bundle, score: Score, recipe: Recipe) -> Model:
    """Makes the model of a bundle, scored by one of its engines; ConfigError when a recipe has other classes."""
    manifest = bundle.manifest
    levels = manifest.mask_levels or [DEFAULT_LEVEL] * len(manifest.classes)
    made = Model(score, tuple(manifest.classes), manifest.stride, tuple(levels), recipe)
    made.plan((SMALLEST_PX, SMALLEST_PX))
    return made


def not_applied(model: Model, recipe_file: Path) -> list[str]:
    """Says what of a recipe labelled pictures are not judged by: they come from no camera of the line."""
    recipe, found = model.recipe, []
    if recipe.camera:
        found.append("settings per camera (roi, ignore, zones)")
    if recipe.image != ImageLimits(refuse_identical=recipe.image.refuse_identical):
        found.append("limits of the picture")
    return [f"{recipe_file}: its {' and its '.join(found)} are not applied here"] if found else []
