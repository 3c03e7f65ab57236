"""A recipe resolved for one camera and one model: what extraction and judging need per frame."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inspectd.extract.polygons import F64, Points, cells_inside, contains
from inspectd.runtime.errors import ConfigError
from inspectd.settings.mistakes import Problem
from inspectd.settings.positions import KeyPath
from inspectd.settings.recipe import Limits, Recipe, View

U8 = npt.NDArray[np.uint8]
NO_ZONE = ""


class Plan(NamedTuple):
    """What a camera's score maps are judged by; made once per recipe and camera, and only read."""

    classes: tuple[str, ...]
    stride: int
    rect: tuple[int, int, int, int]
    """Judged rectangle in the full sensor image: x, y, width, height in pixels."""
    floor: U8
    """Score above which a cell belongs to a region, uint8 [K, h, w]; 255 = ignored."""
    lowest: U8
    """Lowest `suspect` of each class in score units, uint8 [K]; a peak below it needs no further look."""
    columns: F64
    """Centre of each column's cells, x in px of the full sensor image, [w]; the last column may be narrower."""
    rows: F64
    """Centre of each row's cells, y in px of the full sensor image, [h]; the last row may be lower."""
    limits: dict[tuple[str, str], Limits]
    """Limits by (zone, class); the zone "" is the rest of the image."""
    zones: tuple[tuple[str, Points], ...]
    """Zones by name, with polygons in px of the full sensor image; the first that holds a centroid wins."""
    max_regions: int
    scale: tuple[float, float] | None
    """Width and height of a pixel on the part in mm; None if they are not known."""


def make_plan(
    recipe: Recipe,
    view: View,
    rect: tuple[int, int, int, int],
    classes: Sequence[str],
    stride: int,
    scale: tuple[float, float] | None = None,
) -> Plan:
    """Resolve `recipe` for a judged rectangle; raises ConfigError when it and the model's classes differ, or where
    it has limits in mm and the pixels no size in mm (`scale`).
    """
    _check_classes(recipe, view, classes)
    lefts, rights = _borders(rect[0], rect[2], stride)
    tops, bottoms = _borders(rect[1], rect[3], stride)
    columns, rows = (lefts + rights) / 2, (tops + bottoms) / 2
    limits = {(NO_ZONE, name): recipe.limits[name] for name in classes}
    for zone, spec in view.zones.items():
        limits |= {(zone, name): spec.limits.get(name, recipe.limits[name]) for name in classes}
    if scale is None and (in_mm := {key for spec in limits.values() for key in spec.in_mm}):
        keys = ", ".join(sorted(in_mm))
        raise ConfigError(f"the recipe has limits in mm ({keys}), and no camera's mm_per_px: give them in px")
    ignored = np.zeros((len(rows), len(columns)), bool)
    for polygon in view.ignore:
        ignored |= cells_inside(polygon, lefts, rights, tops, bottoms)
    floor = np.empty((len(classes), len(rows), len(columns)), np.uint8)
    for k, name in enumerate(classes):
        floor[k] = _units(limits[NO_ZONE, name].suspect) - 1
        for zone, spec in reversed(view.zones.items()):  # the first zone wins, so it is painted last
            inside = contains(spec.polygon, columns[None, :], rows[:, None])
            floor[k][inside] = _units(limits[zone, name].suspect) - 1
        floor[k][ignored] = 255
    lowest = [min(_units(lim.suspect) for (_, name), lim in limits.items() if name == c) for c in classes]
    zones = tuple((zone, spec.polygon) for zone, spec in view.zones.items())
    return Plan(
        tuple(classes), stride, rect, floor, np.array(lowest, np.uint8), columns, rows, limits, zones,
        recipe.max_regions, scale,
    )  # fmt: skip


def _borders(start: int, length: int, stride: int) -> tuple[F64, F64]:
    """First and last edge of each cell along one axis, clipped to the image."""
    edges = np.append(np.arange(0, length, stride), length) + float(start)
    return edges[:-1], edges[1:]


def _units(score: float) -> int:
    """The lowest score of the map, 0 to 255, that is at least `score`."""
    return max(1, math.ceil(score * 255 - 1e-9))


def class_problems(recipe: Recipe, views: Iterable[tuple[KeyPath, View]], classes: Sequence[str]) -> list[Problem]:
    """What of a recipe does not fit a model with these classes, each with its place in the recipe's file.

    views: of cameras, each with its place.
    """
    named: list[KeyPath] = [("limits", name) for name in sorted(recipe.limits)]
    for place, view in views:
        for zone, spec in view.zones.items():
            named += [(*place, "zones", zone, "limits", name) for name in sorted(spec.limits)]
    known = ", ".join(classes)
    problems: list[Problem] = [
        (place, f"names the class {place[-1]!r}, which the model does not know; it knows {known}")
        for place in named
        if place[-1] not in classes
    ]
    problems += [
        (("limits",), f"has no limits for the class {name!r} of the model: add [limits.{name}]")
        for name in classes
        if name not in recipe.limits
    ]
    return problems


def _check_classes(recipe: Recipe, view: View, classes: Sequence[str]) -> None:
    problems = []
    for place, what in class_problems(recipe, [((), view)], classes):
        where = ".".join(str(key) for key in place[:-1])
        problems.append(f"the recipe's {where} {what}" if where else f"the recipe {what}")
    if problems:
        raise ConfigError(problems)
