"""Whether a recipe, the product, fits the cameras of the machine. The rules look at the plain data of the cameras,
so that a mistake in one table does not hide theirs.
"""

import re
from pathlib import Path
from typing import Any

from inspectd.settings import toml
from inspectd.settings.mistakes import Problem
from inspectd.settings.positions import KeyPath
from inspectd.settings.recipe import IN_MM, Limits, LoadedRecipe, Polygon, Recipe, View, loaded_recipe

Tables = list[dict[str, Any]]
"""The `[[camera]]` tables of a config."""
FEATURE_NAME = re.compile(r"([A-Za-z]\w*::)?[A-Za-z_]\w*", re.ASCII)
"""What GenICam calls a feature, perhaps with its name space."""


def read_recipe(path: Path, cameras: Tables) -> LoadedRecipe:
    """Read a recipe for these cameras; raises ConfigError with all its problems, NoFileError without a file."""
    document = toml.read(path, Recipe)
    return loaded_recipe(document, _misfits(document.value, cameras) if document.value else [])


def _misfits(recipe: Recipe, cameras: Tables) -> list[Problem]:
    """What a recipe says that the machine's cameras can't keep, as problems."""
    by_name = {camera["name"]: camera for camera in cameras if isinstance(camera.get("name"), str)}
    are_known = bool(cameras) and len(by_name) == len(cameras)  # else a name may be missing there
    problems = _without_scale(cameras, [((), recipe.limits)])
    for name, view in recipe.camera.items():
        problems += [
            (("camera", name, "features", feature), "no GenICam feature can have this name")
            for feature in view.features
            if not FEATURE_NAME.fullmatch(feature)
        ]
        if name not in by_name:
            if are_known:
                problems.append((("camera", name), f"there is no such camera; there is {', '.join(by_name)}"))
            continue
        zones: list[tuple[KeyPath, dict[str, Limits]]] = [
            (("camera", name, "zones", zone), spec.limits) for zone, spec in view.zones.items()
        ]
        problems += _without_scale([by_name[name]], zones)
        width, height = by_name[name].get("width"), by_name[name].get("height")
        if isinstance(width, int) and isinstance(height, int):
            problems += _outside(name, view, width, height)
    return problems


def _without_scale(cameras: Tables, tables: list[tuple[KeyPath, dict[str, Limits]]]) -> list[Problem]:
    """Limits in mm that cameras whose pixels have no size in mm can't keep. tables: each with its place."""
    names = [str(camera.get("name")) for camera in cameras if camera.get("mm_per_px") is None]
    if not names:
        return []
    who = f"camera {names[0]} has" if len(names) == 1 else f"cameras {', '.join(names)} have"
    return [
        ((*place, "limits", of, key), f"{who} no mm_per_px: set it in the config, or give {IN_MM[key]} here")
        for place, limits in tables
        for of, spec in limits.items()
        for key in spec.in_mm
    ]


def _outside(name: str, view: View, width: int, height: int) -> list[Problem]:
    """What of a view does not lie in the camera's picture."""
    problems: list[Problem] = []
    whole = (0, 0, width, height)
    judged = view.roi or whole
    if view.roi and (view.roi[0] + view.roi[2] > width or view.roi[1] + view.roi[3] > height):
        problems.append((("camera", name, "roi"), f"reaches outside the {width}x{height} image"))
        judged = whole
    for i, polygon in enumerate(view.ignore):
        if not _touches(polygon, whole):
            problems.append((("camera", name, "ignore", i), f"lies outside the {width}x{height} image"))
    for zone, spec in view.zones.items():
        if not _touches(spec.polygon, judged):
            what = (
                f"lies outside what is judged, {list(judged)} (x, y, width, height): no region would belong to it"
            )
            problems.append((("camera", name, "zones", zone, "polygon"), what))
    return problems


def _touches(polygon: Polygon, rect: tuple[int, int, int, int]) -> bool:
    """Whether the box around a polygon has points inside a rectangle."""
    x, y, width, height = rect
    xs, ys = zip(*polygon, strict=True)
    return bool(min(xs) < x + width and max(xs) > x and min(ys) < y + height and max(ys) > y)
