"""The only wiring: the way of a frame through the daemon, read it first.

    camera process --slot--> Source --Frame--> Engine --scores--> Judge --Judgement--> Publisher --> subscribers
         (acquire)           (acquire)          (engine)          (judge, extract)      (publish)

Three threads (engine, judge, publish) joined by two hand-offs; each ends when the one before it has ended
and nothing is left, so the last frame still gets its result.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from inspectd.acquire.camera import Job
from inspectd.acquire.pixels import converter
from inspectd.acquire.source import Source
from inspectd.config import CameraBase, FolderCamera, GentlCamera, LoadedRecipe, Settings, SimCamera, view_of
from inspectd.engine import in_flight, open_backend
from inspectd.engine.bundle import Bundle
from inspectd.engine.loop import Engine, FrameSource
from inspectd.errors import ConfigError
from inspectd.extract.plan import Plan, make_plan
from inspectd.handoff import Handoff
from inspectd.health import Ledger, Progress
from inspectd.judge.loop import Judge
from inspectd.publish.images import ImageServer
from inspectd.publish.journal import Journal
from inspectd.publish.messages import CameraStatus, Identity
from inspectd.publish.wire import ModelRef, RecipeRef
from inspectd.publish.zmq import Publisher
from inspectd.results import Ended, Frame
from inspectd.ring import Ring, Shape, create

SIMULATED = (FolderCamera, SimCamera)
SLOTS_BESIDE_ENGINE = 2
"""Slots at work beside those in the engine: one being filled, one being judged."""
STAGES = ("engine", "judge", "publish")


class Stage(threading.Thread):
    """A thread that runs one function, then what comes after it in any case; `error` is what ended it early."""

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        after: Sequence[Callable[[], None]],
        failed: Callable[[], None],
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._after, self._failed = work, after, failed
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run the function; `failed` is called if it raises."""
        try:
            self._work()
        except BaseException as error:
            self.error = error
            self._failed()
        finally:
            for call in self._after:
                call()


class CameraEnd(FrameSource, CameraStatus, Protocol):
    """The daemon's end of a camera: the engine thread reads frames from it, the heartbeat tells of it."""


class Pipeline(NamedTuple):
    """What the main thread holds of a running pipeline."""

    stages: tuple[Stage, ...]
    publisher: Publisher
    changed: Handoff[FrameSource]
    """The main thread puts a source here to wake the engine thread when the source's socket changed."""
    engine: str
    """What the backend says of itself: library, precision, threads."""


def make_sources(settings: Settings, bundle: Bundle, ledger: Ledger, part_ids: dict[str, int]) -> list[Source]:
    """A ring and an account for every camera; their processes are not started yet."""
    deadline_ns = int(settings.recipe.recipe.deadline_ms * 1e6)
    sources = []
    for index, job in enumerate(make_jobs(settings, bundle)):
        name, (_, _, width, height) = job.config.name, job.rect
        ring = create(job.slots, Shape(height, width, job.channels), name)
        sources.append(Source(index, job, ring, ledger, deadline_ns, part_ids.get(name, 0)))
    return sources


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


def build(
    settings: Settings,
    bundle: Bundle,
    sources: Sequence[CameraEnd],
    rings: Sequence[Ring],
    journal: Journal,
    ledger: Ledger,
    progress: Progress,
    state: Callable[[], tuple[str, str]],
    failed: Callable[[], None],
    wake: Handoff[str] | None = None,
) -> Pipeline:
    """Open the engine, bind the socket, join the stages; nothing runs yet. What is put into `wake` ends that."""
    config, recipe = settings.config, settings.recipe
    plans = make_plans(recipe, config.camera, bundle)
    backend = open_backend(config.engine, bundle, rings, wake)
    identity = _identity(settings, bundle, backend.description)
    with ExitStack() as undo:
        undo.callback(backend.close)  # where the endpoint can't be had, a GPU is let go of
        named = {camera.name: ring for camera, ring in zip(config.camera, rings, strict=True)}
        publisher = Publisher(config.publish, identity, journal, ledger, sources, state)
        undo.callback(publisher.close)
        publisher.serve(ImageServer(Path(config.publish.images), config.line, named))
        undo.pop_all()
    scored: Handoff[Frame] = Handoff()
    results: Handoff[Ended] = Handoff()
    changed: Handoff[FrameSource] = Handoff()
    engine = Engine(sources, backend, scored, results, ledger, changed, failed)
    judge = Judge(
        plans,
        recipe.recipe.image,
        backend.scores,
        lambda frame: rings[frame.camera].images[frame.slot],
        lambda frame: sources[frame.camera].give_back(frame.slot),
        ledger,
        failed,
    )
    scoring_ended, judging_ended = threading.Event(), threading.Event()
    after_judge = judging_ended.set, backend.close  # not before: the judge reads scores in the backend's memory
    stages = (
        Stage("engine", lambda: engine.run(progress), (scoring_ended.set,), failed),
        Stage("judge", lambda: judge.run(scored, results, scoring_ended, progress), after_judge, failed),
        Stage(
            "publish", lambda: publisher.run(results, judging_ended.is_set, progress), (publisher.close,), failed
        ),
    )
    return Pipeline(stages, publisher, changed, backend.description)


def _identity(settings: Settings, bundle: Bundle, engine: str) -> Identity:
    recipe = settings.recipe
    return Identity(
        settings.config.line,
        RecipeRef(recipe.id, recipe.revision),
        ModelRef(bundle.manifest.name, bundle.sha256),
        engine,
        tuple(isinstance(camera, SIMULATED) for camera in settings.config.camera),
    )
