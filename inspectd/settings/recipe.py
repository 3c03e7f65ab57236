"""A recipe, the file for a product: model, deadline, limits, and what changes at each camera."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from inspectd.runtime.errors import ConfigError
from inspectd.settings import toml
from inspectd.settings.camera import Name
from inspectd.settings.mistakes import Problem

Score = Annotated[float, Meta(ge=0.004, le=1.0)]
"""A score from 0.004, as 1/255 is the smallest score above nothing, to 1."""
Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
Polygon = Annotated[list[tuple[Coordinate, Coordinate]], Meta(min_length=3)]
Size = Annotated[float, Meta(ge=0, le=1e12)]
"""A size or other measure, bounded so that TOML's inf and nan are refused."""
Feature = bool | int | Annotated[float, Meta(ge=-1e15, le=1e15)] | str


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one defect class may show before the part is bad."""

    suspect: Score
    reject: Score
    min_area_px: Size = 0.0
    max_count: Annotated[int, Meta(ge=0)] = 0
    max_area_px: Size | None = None
    max_length_px: Size | None = None
    min_area_mm2: Size | None = None
    """This and the next two: of cameras that have `mm_per_px`, each instead of the one in pixels."""
    max_area_mm2: Size | None = None
    max_length_mm: Size | None = None

    @property
    def in_mm(self) -> list[str]:
        """The keys whose limits are given in mm or mm2."""
        return [key for key in IN_MM if getattr(self, key) is not None]

    def __post_init__(self) -> None:
        if self.suspect > self.reject:
            raise ValueError(f"suspect ({self.suspect}) must not be above reject ({self.reject})")
        for key in self.in_mm:
            if getattr(self, IN_MM[key]):
                raise ValueError(f"{IN_MM[key]} and {key} are one limit in two units: leave one of them out")


IN_MM = {"min_area_mm2": "min_area_px", "max_area_mm2": "max_area_px", "max_length_mm": "max_length_px"}
"""Limits in mm, and the same limits in pixels."""


class Zone(Struct, frozen=True, forbid_unknown_fields=True):
    """A named part of the image with limits of its own; classes it leaves out keep the recipe's."""

    polygon: Polygon
    limits: dict[str, Limits]


class View(Struct, frozen=True, forbid_unknown_fields=True):
    """What the recipe says of one camera."""

    roi: tuple[int, int, int, int] | None = None
    """Rectangle x, y, width, height that is cut out while copying; all else is neither stored nor judged."""
    ignore: list[Polygon] = []
    zones: dict[Name, Zone] = {}
    features: dict[str, Feature] = {}
    """GenICam features by SFNC name, applied and read back before the start."""

    def __post_init__(self) -> None:
        if self.roi and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 64):
            raise ValueError(f"roi must be [x >= 0, y >= 0, width >= 64, height >= 64], got {list(self.roi)}")


class ImageLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits beyond which a picture is unfit to be judged (UNKNOWN/image); None = not checked."""

    min_mean: Annotated[float, Meta(ge=0, le=255)] | None = None
    max_mean: Annotated[float, Meta(ge=0, le=255)] | None = None
    min_sharpness: Size | None = None
    """Least mean square of the horizontal gradient, in grey levels squared, over every 16th row."""
    refuse_identical: bool = False
    """Whether a frame equal to the last one, pixel for pixel in the sample, is unfit: a frozen camera's."""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe file, the product: model, deadline, limits, and what changes at each camera."""

    model: str
    deadline_ms: Annotated[float, Meta(gt=0, le=3_600_000)]
    limits: Annotated[dict[str, Limits], Meta(min_length=1)]
    image: ImageLimits = ImageLimits()
    camera: dict[Name, View] = {}
    max_regions: Annotated[int, Meta(ge=1, le=1024)] = 64


class LoadedRecipe(NamedTuple):
    """A recipe with what identifies it in every result."""

    recipe: Recipe
    id: str
    """Id of the recipe: the file's name; for a bundle's own `recipe.toml` the bundle's name."""
    revision: str
    """Revision of the recipe: first 12 hex digits of the SHA-256 of the file."""
    model_dir: Path
    path: Path


def load_recipe(path: Path) -> LoadedRecipe:
    """Read a recipe file; raises ConfigError with every problem in it."""
    return loaded_recipe(toml.read(path, Recipe))


def loaded_recipe(document: toml.Document[Recipe], more: Iterable[Problem] = ()) -> LoadedRecipe:
    """Add to a recipe that was read what identifies it; raises ConfigError with its problems and `more`."""
    problems, recipe, path = document.report(more), document.value, document.path
    if problems or recipe is None:
        raise ConfigError(problems)
    revision = hashlib.sha256(document.raw).hexdigest()[:12]
    return LoadedRecipe(recipe, recipe_id(path), revision, path.parent / recipe.model, path)


def recipe_id(path: Path) -> str:
    """Id of the recipe in a file, whatever the file says: it goes by where it lies."""
    return path.resolve().parent.name if path.name == "recipe.toml" else path.stem
