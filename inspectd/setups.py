"""A setup: a recipe with its model, made ready for the cameras of a line. The daemon has one in use, and for a
moment two while it switches from one to the next.
"""

from collections.abc import Sequence
from typing import NamedTuple

from inspectd.acquire.camera import Job
from inspectd.acquire.pixels import converter
from inspectd.config import CameraBase, GentlCamera, LoadedRecipe, Settings, view_of
from inspectd.engine import in_flight, open_backend
from inspectd.engine.backend import Backend
from inspectd.engine.bundle import Bundle
from inspectd.errors import ConfigError
from inspectd.extract.plan import Plan, make_plan
from inspectd.handoff import Handoff
from inspectd.publish.wire import ModelRef, RecipeRef
from inspectd.ring import Ring

SLOTS_BESIDE_ENGINE = 2
"""Slots at work beside those in the engine: one being filled, one being judged."""


class Setup(NamedTuple):
    """Everything that changes with recipe and model. Sequences are by camera."""

    number: int
    """Counted up from 1, as in `Frame.setup`."""
    recipe: LoadedRecipe
    model: ModelRef
    plans: Sequence[Plan]
    rings: Sequence[Ring]
    backend: Backend

    @property
    def refs(self) -> tuple[RecipeRef, ModelRef]:
        """What each result says."""
        return RecipeRef(self.recipe.id, self.recipe.revision), self.model

    @property
    def deadline_ns(self) -> int:
        """From trigger to result."""
        return int(self.recipe.recipe.deadline_ms * 1e6)


def open_setup(
    number: int,
    settings: Settings,
    recipe: LoadedRecipe,
    bundle: Bundle,
    rings: Sequence[Ring],
    wake: Handoff[str] | None = None,
) -> Setup:
    """Resolve the recipe for every camera and open the engine, self-tested.

    Raises UserError, and has nothing open then. What is put into `wake` ends an opening that takes long.
    """
    plans = make_plans(recipe, settings.config.camera, bundle)
    backend = open_backend(settings.config.engine, bundle, rings, wake)
    return Setup(number, recipe, ModelRef(bundle.manifest.name, bundle.sha256), plans, rings, backend)


def make_jobs(settings: Settings, bundle: Bundle) -> list[Job]:
    """What each camera process is told."""
    jobs = []
    for camera in settings.config.camera:
        view, rect = view_of(settings.recipe.recipe, camera)
        slots = in_flight(settings.config.engine) + SLOTS_BESIDE_ENGINE + camera.spare_slots
        base, state_dir = str(settings.base.resolve()), str(settings.state_dir.resolve())
        jobs.append(Job(camera, base, view.features, rect, bundle.manifest.channels, slots, state_dir=state_dir))
    return jobs


def make_plans(recipe: LoadedRecipe, cameras: Sequence[CameraBase], bundle: Bundle) -> list[Plan]:
    """The recipe resolved for every camera; raises ConfigError if it does not fit the model."""
    manifest = bundle.manifest
    plans: list[Plan] = []
    problems: list[str] = []
    for camera in cameras:
        view, rect = view_of(recipe.recipe, camera)
        if isinstance(camera, GentlCamera) and camera.pixel_format:
            try:
                converter(camera.pixel_format, manifest.channels, camera.width, camera.height, rect)
            except ValueError as error:
                problems.append(f"camera {camera.name}: {error}")
        try:
            plan = make_plan(recipe.recipe, view, rect, manifest.classes, manifest.stride, camera.mm_per_px)
        except ConfigError as error:
            problems += [f"{recipe.path}: {problem}" for problem in error.problems]
        else:
            plans.append(plan)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))  # most are the same for each camera
    return plans
