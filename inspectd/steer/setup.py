"""A setup: a recipe with its model, made ready for the cameras of a line. The daemon has one in use, and for a
moment two while it switches from one to the next.
"""

from collections.abc import Sequence
from typing import NamedTuple

from inspectd.acquire.pixels import converter
from inspectd.acquire.protocol import Job
from inspectd.engine import in_flight, open_backend
from inspectd.engine.backend import Backend
from inspectd.engine.bundle import Bundle, Manifest, load_bundle, load_manifest
from inspectd.extract.plan import Plan, class_problems, make_plan
from inspectd.judge.loop import Criteria
from inspectd.pipeline import StageSetup
from inspectd.publish.messages import Names
from inspectd.runtime.errors import BundleError, ConfigError, UserError
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.ring import Ring
from inspectd.settings import toml
from inspectd.settings.camera import CameraBase, GentlCamera
from inspectd.settings.config import Settings, view_of
from inspectd.settings.engine import TensorRtEngine
from inspectd.settings.recipe import LoadedRecipe, Recipe
from inspectd.steer.backends import Backends
from inspectd.wire.results import ModelRef, RecipeRef

SLOTS_BESIDE_ENGINE = 2
"""Slots at work beside those in the engine: one being filled, one being judged."""


class Setup(NamedTuple):
    """Everything that changes with recipe and model. Sequences are by camera."""

    number: int
    """Number of the setup, counted up from 1, as in `Frame.setup`."""
    recipe: LoadedRecipe
    manifest: Manifest
    """Manifest of the model, which identifies it."""
    jobs: Sequence[Job]
    """What the camera processes get to know at their start, without what only a started camera knows."""
    plans: Sequence[Plan]
    rings: Sequence[Ring]
    backend: Backend

    @property
    def names(self) -> Names:
        """What messages say of this setup."""
        model = ModelRef(self.manifest.name, self.manifest.graphs["fp32"].sha256)
        return Names(RecipeRef(self.recipe.id, self.recipe.revision), model, self.backend.description)

    @property
    def for_stages(self) -> StageSetup:
        """What each stage needs of this setup."""
        rings = self.rings
        criteria = Criteria(
            self.plans,
            self.recipe.recipe.image,
            self.backend.scores,
            lambda frame: rings[frame.camera].images[frame.slot],
        )
        return StageSetup(self.number, self.backend, criteria, self.names)

    @property
    def deadline_ns(self) -> int:
        """Time from trigger to result, ns."""
        return int(self.recipe.recipe.deadline_ms * 1e6)


def open_setup(
    settings: Settings, bundle: Bundle, rings: Sequence[Ring], backends: Backends, wake: Handoff[str] | None = None
) -> Setup:
    """The first setup: resolve the recipe for every camera and open the engine, self-tested.

    Raises UserError, and has nothing open then. What is put into `wake` ends an opening that takes long.
    """
    recipe = settings.recipe
    jobs = make_jobs(settings, recipe, bundle.manifest.channels, [ring.slot_bytes for ring in rings])
    plans = make_plans(recipe, settings.config.camera, bundle.manifest)
    backend = backends.open(1, lambda: open_backend(settings.config.engine, bundle, rings, wake))
    return Setup(1, recipe, bundle.manifest, jobs, plans, rings, backend)


def next_setup(number: int, settings: Settings, recipe: LoadedRecipe, now: Setup, backends: Backends) -> Setup:
    """A setup that the running line can switch to; raises UserError, and has nothing open then.

    If only what is judged by changes, the engine of `now` is used on.
    """
    bundle = load_bundle(recipe.model_dir, settings.config.allow_unproven)
    jobs = make_jobs(settings, recipe, bundle.manifest.channels, [ring.slot_bytes for ring in now.rings])
    plans = make_plans(recipe, settings.config.camera, bundle.manifest)
    rings = [_reshaped(ring, job, recipe) for ring, job in zip(now.rings, jobs, strict=True)]
    if bundle.manifest == now.manifest and [r.shape for r in rings] == [r.shape for r in now.rings]:
        backend = backends.share(number, now.number)
        return Setup(number, recipe, bundle.manifest, jobs, plans, now.rings, backend)
    if isinstance(settings.config.engine, TensorRtEngine):  # it would have to page-lock the same memory again
        raise UserError(
            f"{recipe.path}: a line on the GPU can't change its model or the size of its pictures while it "
            "runs; put this recipe first in `recipes` and restart the daemon"
        )
    backend = backends.open(number, lambda: open_backend(settings.config.engine, bundle, rings))
    return Setup(number, recipe, bundle.manifest, jobs, plans, rings, backend)


def _reshaped(ring: Ring, job: Job, recipe: LoadedRecipe) -> Ring:
    """The ring for the pictures of a recipe; raises ConfigError if they find no room."""
    if job.shape == ring.shape:
        return ring
    try:
        return ring.reshaped(job.shape)
    except ValueError:
        raise ConfigError(
            f"{recipe.path}: camera {job.config.name}: the pictures are larger than those of all recipes in the "
            "config, for which there is room; put this recipe into `recipes` and restart the daemon"
        ) from None


def changed_cameras(new: Setup, now: Setup) -> list[int]:
    """The cameras that must be stopped and started again: for features, region, or picture format."""
    pairs = enumerate(zip(new.jobs, now.jobs, strict=True))
    return [index for index, (job, before) in pairs if _camera_part(job) != _camera_part(before)]


def _camera_part(job: Job) -> tuple[object, ...]:
    return job.features, job.rect, job.channels


def first_jobs(settings: Settings, bundle: Bundle) -> list[Job]:
    """The jobs of the start, under the first recipe; raises ConfigError if a recipe's model can't be read."""
    return make_jobs(settings, settings.recipe, bundle.manifest.channels, slot_sizes(settings))


def slot_sizes(settings: Settings) -> list[int]:
    """By camera, bytes of the largest picture that any recipe of the config wants.

    Raises ConfigError where the manifest of a recipe's model, which names the channels, can't be read.
    """
    sizes = [0] * len(settings.config.camera)
    problems: list[str] = []
    for recipe in (*settings.recipes, settings.recipe):  # that may have another model than its own
        try:
            channels = load_manifest(recipe.model_dir).channels
        except BundleError as error:
            problems.append(f"{recipe.path}: model: {error}")
            continue
        for index, camera in enumerate(settings.config.camera):
            _, (_, _, width, height) = view_of(recipe.recipe, camera)
            sizes[index] = max(sizes[index], width * height * channels)
    if problems:
        raise ConfigError(problems)
    return sizes


def make_jobs(settings: Settings, recipe: LoadedRecipe, channels: int, slot_bytes: Sequence[int]) -> list[Job]:
    """What each camera process gets to know under a recipe, for rings whose slots have so much room."""
    jobs = []
    for camera, size in zip(settings.config.camera, slot_bytes, strict=True):
        view, rect = view_of(recipe.recipe, camera)
        slots = in_flight(settings.config.engine) + SLOTS_BESIDE_ENGINE + camera.spare_slots
        base, state_dir = str(settings.base.resolve()), str(settings.state_dir.resolve())
        jobs.append(Job(camera, base, view.features, rect, channels, slots, state_dir=state_dir, slot_bytes=size))
    return jobs


def make_plans(recipe: LoadedRecipe, cameras: Sequence[CameraBase], manifest: Manifest) -> list[Plan]:
    """The recipe resolved for every camera; raises ConfigError, with file and line, if it misfits the model."""
    views = [(("camera", name), view) for name, view in recipe.recipe.camera.items()]
    misfits = class_problems(recipe.recipe, views, manifest.classes)
    problems = toml.read(recipe.path, Recipe).report(misfits) if misfits else []
    resolved = [(camera, *view_of(recipe.recipe, camera)) for camera in cameras]
    for camera, _, rect in resolved:
        if isinstance(camera, GentlCamera) and camera.pixel_format:
            try:
                converter(camera.pixel_format, manifest.channels, camera.width, camera.height, rect)
            except ValueError as error:
                problems.append(f"{recipe.path}: camera {camera.name}: {error}")
    if problems:
        raise ConfigError(problems)
    return [
        make_plan(recipe.recipe, view, rect, manifest.classes, manifest.stride, camera.scale)
        for camera, view, rect in resolved
    ]
