"""The only wiring: the way of a frame through the daemon, read it first.

    camera process --slot--> Source --Frame--> Engine --scores--> Judge --Judgement--> Publisher --> subscribers
         (acquire)           (acquire)          (engine)          (judge, extract)      (publish)

Three threads (engine, judge, publish) joined by two hand-offs; each ends when the one before it has ended
and nothing is left, so the last frame still gets its result. What changes while the line runs is the room `steer`:
it gives each stage its part of a new setup, and every frame goes its whole way under the setup it was taken under.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from inspectd.acquire.protocol import Job
from inspectd.acquire.source import Source
from inspectd.engine.backend import Backend
from inspectd.engine.loop import Engine, FrameSource
from inspectd.judge.loop import Criteria, Judge
from inspectd.publish.control import ControlLink
from inspectd.publish.journal.writer import Journal
from inspectd.publish.loop import Publisher
from inspectd.publish.messages import CameraStatus, Identity, Names
from inspectd.runtime.books import Ledger
from inspectd.runtime.frame import Ended, Frame, Late
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.runtime.ring import Ring, create
from inspectd.settings.camera import is_simulated
from inspectd.settings.config import Config

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
    """The daemon's end of a camera: the engine thread reads frames from it, the heartbeat reports on it."""


class StageSetup(NamedTuple):
    """What each stage needs of a setup: of a recipe with its model, made ready. `Frame.setup` is its number."""

    number: int
    backend: Backend
    criteria: Criteria
    names: Names


class Pipeline(NamedTuple):
    """A built pipeline, which runs once its stages are started."""

    stages: tuple[Stage, ...]
    engine: Engine
    criteria: dict[int, Criteria]
    """What the judge judges by, by setup: added before there is a frame of it, gone after its last."""
    publisher: Publisher
    changed: Handoff[FrameSource]
    """The main thread puts a source here to wake the engine thread when the source's socket changed."""


def make_sources(
    jobs: Sequence[Job], ledger: Ledger, deadline_ns: int, part_ids: Mapping[str, int]
) -> list[Source]:
    """A ring and an account for every camera; their processes are not started yet.

    part_ids: by camera, the last one that had a result.
    """
    sources = []
    for index, job in enumerate(jobs):
        name = job.config.name
        ring = create(job.slots, job.shape, name, job.slot_bytes)
        sources.append(Source(index, job, ring, ledger, deadline_ns, part_ids.get(name, 0)))
    return sources


def build(
    config: Config,
    setup: StageSetup,
    sources: Sequence[CameraEnd],
    rings: Sequence[Ring],
    journal: Journal,
    ledger: Ledger,
    progress: Progress,
    state: Callable[[], tuple[str, str]],
    failed: Callable[[], None],
    control: ControlLink,
    retire: Callable[[int], None],
    judged: Callable[[], None],
) -> Pipeline:
    """Bind the sockets and join the stages; nothing runs yet. Raises UnavailableError, and then nothing is bound.

    retire: called by the engine thread with a setup's number when no frame needs its backend any more; must not
    block. judged: called when the last frame is judged: the judge reads scores in the memory of the backends.
    """
    identity = Identity(config.line, tuple(is_simulated(camera) for camera in config.camera))
    named = {camera.name: ring for camera, ring in zip(config.camera, rings, strict=True)}
    publisher = Publisher(
        config.publish, identity, {setup.number: setup.names}, journal, ledger, sources, state, control, named
    )
    criteria = {setup.number: setup.criteria}
    changed: Handoff[FrameSource] = Handoff()
    scored: Handoff[Frame] = Handoff()
    results: Handoff[Ended | Late] = Handoff()

    def retired(number: int, _: Backend) -> None:
        del criteria[number]
        retire(number)

    engine = Engine(sources, {setup.number: setup.backend}, scored, results, changed, failed, retired)
    judge = Judge(criteria, lambda frame: sources[frame.camera].give_back(frame.slot), failed)
    scoring_ended, judging_ended = threading.Event(), threading.Event()
    works = (
        ("engine", lambda: engine.run(progress), (scoring_ended.set,)),
        ("judge", lambda: judge.run(scored, results, scoring_ended, progress), (judging_ended.set, judged)),
        ("publish", lambda: publisher.run(results, judging_ended.is_set, progress), (publisher.close,)),
    )
    stages = tuple(Stage(name, work, after, failed) for name, work, after in works)
    return Pipeline(stages, engine, criteria, publisher, changed)
