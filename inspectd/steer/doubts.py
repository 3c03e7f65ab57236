"""What no mistake forbids and nobody can mean: recipes by which everything passes, or nothing can, and limits that
nothing reaches. `check` and the start say so, with file and line.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from inspectd.engine.bundle import Manifest
from inspectd.extract.plan import Plan
from inspectd.extract.polygons import contains
from inspectd.settings import toml
from inspectd.settings.camera import CameraBase, FolderCamera
from inspectd.settings.config import Settings, view_of
from inspectd.settings.mistakes import Problem
from inspectd.settings.positions import KeyPath
from inspectd.settings.recipe import ImageLimits, Limits, LoadedRecipe, Recipe, View
from inspectd.steer.setup import make_plans

_IDLE = "this limit is never broken; lower it, or leave it out"
STEEPEST = 255.0**2
"""Mean square of the steepest gradient that a picture can have, in grey levels squared."""


class _Largest(NamedTuple):
    """The largest region that a camera can show: area and length in px, and in mm (NaN where they have none)."""

    area_px: float
    length_px: float
    area_mm2: float
    length_mm: float


def doubts(settings: Settings, manifests: Sequence[Manifest]) -> list[str]:
    """Each doubt about the recipes of a config that fits its models, with file and line.

    manifests: of the recipes' models, in their order.
    """
    cameras = settings.config.camera
    told: list[str] = []
    for recipe, manifest in zip(settings.recipes, manifests, strict=True):
        plans = make_plans(recipe, cameras, manifest)
        told += report(recipe, _of_recipe(recipe.recipe, cameras, plans))
    return told


def report(recipe: LoadedRecipe, found: Sequence[Problem] | Iterator[Problem]) -> list[str]:
    """Each doubt about a recipe as a sentence with its place in the recipe's file."""
    problems = list(found)
    return toml.read(recipe.path, Recipe).report(problems) if problems else []


def _of_recipe(recipe: Recipe, cameras: Sequence[CameraBase], plans: Sequence[Plan]) -> Iterator[Problem]:
    all_of_them = [_largest(plan) for plan in plans]
    for name, limits in recipe.limits.items():
        yield from _of_limits(("limits", name), limits, all_of_them, recipe.max_regions)
    yield from _of_image(recipe.image)
    for camera, plan in zip(cameras, plans, strict=True):
        view, _ = view_of(recipe, camera)
        yield from _of_view(camera, view, plan)
        for zone, spec in view.zones.items():
            for name, limits in spec.limits.items():
                place = ("camera", camera.name, "zones", zone, "limits", name)
                yield from _of_limits(place, limits, [_largest(plan)], recipe.max_regions)


def _of_view(camera: CameraBase, view: View, plan: Plan) -> Iterator[Problem]:
    place = ("camera", camera.name)
    if isinstance(camera, FolderCamera) and view.features:
        what = "a camera of kind folder has none: take them out, or use kind sim or genicam"
        yield (*place, "features"), what
    ignored = (plan.floor == 255).all(axis=0)
    if view.ignore and ignored.all():
        what = f"covers all that is judged, {list(plan.rect)}: every part passes; make it smaller"
        yield (*place, "ignore"), what
        return
    left = ~ignored
    for zone, points in plan.zones:
        inside = contains(points, plan.columns[None, :], plan.rows[:, None]) & left
        left &= ~inside
        if not inside.any():
            why = "holds no cell that is judged and in no zone before it: its limits are never used"
            yield (*place, "zones", zone, "polygon"), f"{why}; move it, or take it out"


def _of_limits(place: KeyPath, limits: Limits, largest: Sequence[_Largest], max_regions: int) -> Iterator[Problem]:
    areas = [("px", max(one.area_px for one in largest)), ("mm2", max(one.area_mm2 for one in largest))]
    for unit, area in areas:
        least, most = getattr(limits, f"min_area_{unit}"), getattr(limits, f"max_area_{unit}")
        if least is not None and least > area:
            what = f"no region can be larger than {_shown(area)} {unit}: none counts, every part passes; lower it"
            yield (*place, f"min_area_{unit}"), what
        if most is not None and least is not None and most < least:
            what = f"is below min_area_{unit} ({least:g}): each region that counts breaks it; raise it"
            yield (*place, f"max_area_{unit}"), what
        if most is not None and most >= area:
            yield (*place, f"max_area_{unit}"), f"no region can be larger than {_shown(area)} {unit}: {_IDLE}"
    lengths = [("px", max(one.length_px for one in largest)), ("mm", max(one.length_mm for one in largest))]
    for unit, length in lengths:
        most = getattr(limits, f"max_length_{unit}")
        if most is not None and most >= length:
            yield (*place, f"max_length_{unit}"), f"no region can be longer than {_shown(length)} {unit}: {_IDLE}"
    if limits.max_count >= max_regions:
        what = f"more regions than max_regions ({max_regions}) are UNKNOWN: so many are never counted; lower it"
        yield (*place, "max_count"), what
    for key in ("max_area_px", "max_area_mm2", "max_length_px", "max_length_mm"):
        if limits.max_count == 0 and getattr(limits, key) is not None:
            what = "does nothing: by max_count = 0 one defect is too many; raise that, or leave this out"
            yield (*place, key), what


def _of_image(image: ImageLimits) -> Iterator[Problem]:
    if image.min_mean is not None and image.max_mean is not None and image.min_mean > image.max_mean:
        yield ("image", "min_mean"), "is above max_mean: no picture is fit, every part is UNKNOWN; exchange them"
    if image.min_sharpness is not None and image.min_sharpness > STEEPEST:
        what = f"no picture is sharper than {STEEPEST:.0f}: none is fit, every part is UNKNOWN; lower it"
        yield ("image", "min_sharpness"), what


def _shown(size: float) -> str:
    return f"{size:.2f}".rstrip("0").rstrip(".")


def _largest(plan: Plan) -> _Largest:
    rows, columns = plan.floor.shape[1:]
    across, down = columns * plan.stride, rows * plan.stride
    scale = plan.scale or (math.nan, math.nan)
    area_px = float(np.prod([across, down]))
    return _Largest(
        area_px,
        math.hypot(across, down),
        area_px * scale[0] * scale[1],
        math.hypot(across * scale[0], down * scale[1]),
    )
