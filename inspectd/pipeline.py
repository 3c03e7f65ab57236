"""The only wiring: the way of a frame through the daemon, read it first.

    camera process --slot--> Source --Frame--> Engine --scores--> Judge --Judgement--> Publisher --> subscribers
         (acquire)           (acquire)          (engine)          (judge, extract)      (publish)

Three threads (engine, judge, publish) joined by two hand-offs; each ends when the one before it has ended
and nothing is left, so the last frame still gets its result. A change of recipe or model gives each stage its part
of a new `Setup`; every frame goes its whole way under the setup that it was taken under.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from inspectd.acquire.source import Source
from inspectd.engine.backend import Backend
from inspectd.engine.bundle import Bundle
from inspectd.engine.loop import Engine, FrameSource, Switch
from inspectd.judge.loop import Criteria, Judge
from inspectd.publish.control import ControlLink
from inspectd.publish.images import ImageServer
from inspectd.publish.journal.writer import Journal
from inspectd.publish.loop import Publisher
from inspectd.publish.messages import CameraStatus, Identity, Names
from inspectd.runtime.background import in_background
from inspectd.runtime.books import Ledger
from inspectd.runtime.frame import Ended, Frame, Late
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.runtime.ring import Ring, create
from inspectd.settings.camera import FolderCamera, SimCamera
from inspectd.settings.config import Settings
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.setup import Setup, first_jobs, next_setup, open_setup

SIMULATED = (FolderCamera, SimCamera)
STAGES = ("engine", "judge", "publish")
KEPT_SETUPS = 16
"""So many back the publisher knows what a setup was: results of a retired one may still wait to be sent."""


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


class Pipeline:
    """What the main thread holds of a running pipeline, and how it steers it. Nothing here waits for a stage."""

    def __init__(
        self, settings: Settings, setup: Setup, publisher: Publisher, criteria: dict[int, Criteria]
    ) -> None:
        self._settings = settings
        self._numbers = itertools.count(setup.number + 1)
        self.stages: tuple[Stage, ...] = ()
        self.publisher = publisher
        self.changed: Handoff[FrameSource] = Handoff()
        """The main thread puts a source here to wake the engine thread when the source's socket changed."""
        self.setup = setup
        """The newest one that was switched to."""
        self._engine: Engine | None = None
        self._sources: Sequence[FrameSource] = ()
        self._criteria = criteria
        self._open = {setup.number: setup.backend}
        self._closing = threading.Lock()

    @property
    def engine(self) -> str:
        """What the backend says of itself: library, precision, threads."""
        return self.setup.backend.description

    @property
    def in_use(self) -> Names:
        """What parts are judged by now, as results say it; `setup` may still wait for its part."""
        return self.publisher.setups[self.publisher.setup]

    @property
    def waits(self) -> bool:
        """Whether the newest setup still waits for its part, at any camera."""
        return not self._is_everywhere(self.setup.number)

    def _is_everywhere(self, number: int) -> bool:
        return all(source.setups == {number} or source.finished for source in self._sources)

    def join_stages(self, engine: Engine, sources: Sequence[FrameSource], stages: Sequence[Stage]) -> None:
        """Once, by its maker."""
        self._engine, self._sources, self.stages = engine, sources, tuple(stages)

    def prepare(self, recipe: LoadedRecipe) -> Setup:
        """A setup of this recipe, whose model is loaded, self-tested and warm, to be switched to.

        Takes seconds, in the background of the line: for a helper thread, one at a time, to be joined before the
        process ends. Raises UserError, and then nothing has changed. The pictures' shape may differ from that of
        now: then the cameras must be stopped before the switch (`changed_cameras` tells).
        """
        with in_background():
            return next_setup(next(self._numbers), self._settings, recipe, self.setup)

    def discard(self, setup: Setup) -> None:
        """Close what was prepared and is not switched to."""
        if setup.backend not in self._open.values():
            setup.backend.close()
            setup.backend.completed.close()

    def switch(self, setup: Setup, from_part_id: int | None, done: Callable[[dict[str, int]], None]) -> None:
        """Parts to come are inspected under another setup: from the next one on, or from `from_part_id` on.

        Frames in flight keep theirs. `done` is called by the engine thread, within STAGE_WAIT_S, with the first
        part id under the new setup by camera. When no frame needs the old backend any more it is closed, by a
        thread of its own. A switch that still waited for its part is forgotten.
        """
        assert self._engine is not None
        self._open[setup.number] = setup.backend
        self._criteria[setup.number] = criteria_of(setup)
        setups = self.publisher.setups
        setups[setup.number] = setup.names
        for number in sorted(setups)[:-KEPT_SETUPS]:
            if number not in self._criteria and number != self.publisher.setup:
                del setups[number]
        self.setup = setup

        def told(first: dict[str, int]) -> None:
            if self._is_everywhere(setup.number):  # else it is in use with its first result
                self.publisher.setup = setup.number
            done(first)

        self._engine.switch(Switch(setup.number, setup.backend, setup.deadline_ns, from_part_id or 0, told))

    def hold(self, why: str) -> None:
        """Frames received from now on end as UNKNOWN/not_ready with this sentence; "" ends that. Cameras go on."""
        assert self._engine is not None
        self._engine.hold(why)

    def retire(self, number: int, backend: Backend) -> None:
        """No frame of this setup is left. For the engine thread, which must not wait while memory is freed."""
        del self._criteria[number]
        threading.Thread(target=self._close, args=(number, backend), name="retire", daemon=True).start()

    def close(self) -> None:
        """Close every backend; all frames are judged."""
        for number, backend in list(self._open.items()):
            self._close(number, backend)

    def _close(self, number: int, backend: Backend) -> None:
        with self._closing:
            if number not in self._open:
                return
            if list(self._open.values()).count(backend) == 1:  # setups of one model share it
                backend.close()
                backend.completed.close()
            del self._open[number]


def criteria_of(setup: Setup) -> Criteria:
    """The judge's part of a setup."""
    rings = setup.rings
    return Criteria(
        setup.plans,
        setup.recipe.recipe.image,
        setup.backend.scores,
        lambda frame: rings[frame.camera].images[frame.slot],
    )


def make_sources(settings: Settings, bundle: Bundle, ledger: Ledger, part_ids: dict[str, int]) -> list[Source]:
    """A ring and an account for every camera; their processes are not started yet."""
    deadline_ns = int(settings.recipe.recipe.deadline_ms * 1e6)
    sources = []
    for index, job in enumerate(first_jobs(settings, bundle)):
        name = job.config.name
        ring = create(job.slots, job.shape, name, job.slot_bytes)
        sources.append(Source(index, job, ring, ledger, deadline_ns, part_ids.get(name, 0)))
    return sources


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
    control: ControlLink,
    wake: Handoff[str] | None = None,
) -> Pipeline:
    """Open the engine, bind the sockets, join the stages; nothing runs yet. What is put into `wake` ends that."""
    config = settings.config
    setup = open_setup(settings, bundle, rings, wake)
    simulated = tuple(isinstance(camera, SIMULATED) for camera in config.camera)
    identity = Identity(config.line, simulated)
    with ExitStack() as undo:
        undo.callback(setup.backend.close)  # where the endpoint can't be had, a GPU is let go of
        named = {camera.name: ring for camera, ring in zip(config.camera, rings, strict=True)}
        publisher = Publisher(config.publish, identity, {1: setup.names}, journal, ledger, sources, state, control)
        undo.callback(publisher.close)
        publisher.serve(ImageServer(Path(config.publish.images), config.line, named))
        undo.pop_all()
    criteria = {1: criteria_of(setup)}
    pipeline = Pipeline(settings, setup, publisher, criteria)
    scored: Handoff[Frame] = Handoff()
    results: Handoff[Ended | Late] = Handoff()
    engine = Engine(sources, {1: setup.backend}, scored, results, pipeline.changed, failed, pipeline.retire)
    judge = Judge(criteria, lambda frame: sources[frame.camera].give_back(frame.slot), failed)
    scoring_ended, judging_ended = threading.Event(), threading.Event()
    after_judge = judging_ended.set, pipeline.close  # not before: the judge reads scores in the backend's memory
    stages = (
        Stage("engine", lambda: engine.run(progress), (scoring_ended.set,), failed),
        Stage("judge", lambda: judge.run(scored, results, scoring_ended, progress), after_judge, failed),
        Stage(
            "publish", lambda: publisher.run(results, judging_ended.is_set, progress), (publisher.close,), failed
        ),
    )
    pipeline.join_stages(engine, sources, stages)
    return pipeline
