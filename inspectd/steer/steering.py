"""Steering: what a good request does. The main thread executes."""

import math
from collections.abc import Callable, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from inspectd.acquire.source import Source
from inspectd.acquire.supervisor import CameraProcess
from inspectd.publish.control import Answered, Asked, ControlLink
from inspectd.publish.journal.writer import Journal
from inspectd.runtime.books import Ledger
from inspectd.runtime.durable import UnwritableError
from inspectd.runtime.errors import UserError
from inspectd.runtime.steps import Stepper, Steps, at_once
from inspectd.settings.camera import GentlCamera
from inspectd.settings.config import Settings
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.changes import Answers, Changes, Reply
from inspectd.steer.kept import Kept, who
from inspectd.steer.line import RunningLine
from inspectd.steer.selection import Selection
from inspectd.wire.requests import (
    Answer,
    Pause,
    Request,
    ResetCounters,
    Resume,
    SelectRecipe,
    Status,
    SwapModel,
    Trigger,
)

log = structlog.get_logger()
PER_TURN = 16
"""Requests executed in one turn of the main thread's loop, which has cameras and a watchdog to look after."""
STEP_S = 0.01
"""How often a change that is going on is looked after."""
ABANDON_S = 3.0
"""Longest wait for the disk at the very end, in seconds."""
ENDS = "the daemon ends"


class Steering:
    """Executes good requests, and answers each exactly once. For the main thread alone, but for `state`.

    What waits for the disk is done by a helper thread, one request after the other, and answered when it is on the
    disk. Meanwhile questions and triggers go on, and a pause that waits for its turn holds the line already.
    """

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        link: ControlLink,
        line: RunningLine,
        cameras: Sequence[CameraProcess],
        journal: Journal,
        ledger: Ledger,
        state: Callable[[], tuple[str, str]],
    ) -> None:
        self._settings, self._link, self._line = settings, link, line
        self._journal, self._ledger, self._line_state = journal, ledger, state
        self._sources = [camera.source for camera in cameras]
        self._waiting: list[Asked] = []
        self._ending = False
        line.hold(selection.hold)
        self._kept = Kept(settings.state_dir, selection)
        answers = Answers(self._answer, self._refuse)
        self._changes = Changes(settings, line, cameras, self._kept, answers)
        self._stepper = Stepper("steering-disk")

    # ---- the main thread's loop ----

    @property
    def wakers(self) -> Sequence[int]:
        """What the main thread polls: readable while requests wait, or when the disk is done."""
        return self._link.requests.fileno(), self._stepper.fileno()

    def turn(self) -> float:
        """Execute what waits, a bounded number; seconds after which it wants to be called again."""
        self._stepper.turn()
        if not self._ending and not self._stepper.busy:
            self._stepper.begin(self._changes.step())
        self._waiting += self._link.requests.drain()
        later: list[Asked] = []
        taken = 0
        for asked in self._waiting:
            at_any_time = self._ending or isinstance(asked.request, Status | Trigger)
            if taken == PER_TURN or (self._stepper.busy and not at_any_time):
                later.append(asked)
            else:
                taken += 1
                at_once(self._take(asked)) if at_any_time else self._stepper.begin(self._take(asked))
        self._waiting = later
        pause = next((_why(asked) for asked in later if isinstance(asked.request, Pause)), "")
        if pause != self._line.urgent:
            self._line.hold_meanwhile(pause)
        if self._waiting and not self._stepper.busy:
            return 0.0
        return STEP_S if self._changes.ongoing else math.inf

    def end(self) -> None:
        """The line stops: from now on every request is refused, and what is being prepared is given up."""
        self._ending = True
        self._changes.refuse(ENDS)

    def abandon(self) -> None:
        """Wait at the very end, for a while, until nothing goes on in the background any more."""
        self._stepper.close(ABANDON_S)
        self._changes.abandon()

    def offer(self, recipes: tuple[LoadedRecipe, ...]) -> None:
        """Let these recipes be selected from now on; the one in use stays in use."""
        self._changes.recipes = recipes

    def state(self) -> tuple[str, str] | None:
        """OPC 40100-1 state while no part is judged, and why; None while they are. For any thread."""
        selection = self._kept.selection
        if selection.failed:
            return "Initialized", selection.hold
        paused = selection.hold or self._line.urgent
        return ("Ready", paused) if paused else None

    def _take(self, asked: Asked) -> Steps[None]:
        try:
            if self._ending:
                raise UserError(f"nothing was changed: {ENDS}")
            result = yield from self._execute(asked, asked.request)
        except UnwritableError as error:
            self._refuse(asked, f"nothing was changed: {error}")
        except UserError as error:
            self._refuse(asked, str(error))
        else:
            if result is not None:
                self._answer(asked, result)

    def _execute(self, asked: Asked, request: Request) -> Steps[Reply | None]:
        """What to answer; None = that comes later."""
        match request:
            case Status():
                return self._status()
            case SelectRecipe():
                yield from self._changes.select(asked, request)
            case SwapModel():
                yield from self._changes.swap(asked, request)
            case Pause():
                return (yield from self._pause(asked))
            case Resume():
                return (yield from self._resume(asked))
            case Trigger():
                self._trigger(asked, request)
            case ResetCounters():
                return (yield from self._reset(asked))
        return None

    def _answer(self, asked: Asked, result: Reply) -> None:
        self._link.answers.put(Answered(asked, Answer(asked.request.id, True, result)))

    def _refuse(self, asked: Asked, sentence: str) -> None:
        self._link.answers.put(Answered(asked, Answer(asked.request.id, False, error=sentence)))

    # ---- at once ----

    def _status(self) -> Reply:
        state, detail = self._line_state()
        recipe, model, _ = self._line.in_use
        return {
            "line": self._settings.config.line,
            "state": state,
            "detail": detail,
            "ready": state == "ContinuousExecution",
            "hold": self._kept.selection.hold,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "waiting": self._changes.waiting,
            "recipes": [recipe.id for recipe in self._changes.recipes],
            "preparing": self._changes.ongoing,
            "journal": self._journal.failure or "ok",
            "cameras": {source.name: self._camera(source) for source in self._sources},
            "control": msgspec.to_builtins(self._link.counts),
        }

    def _camera(self, source: Source) -> Reply:
        books = self._ledger.read(source.index)
        more = {"in_flight": books.in_flight, "balanced": books.balanced}
        return {"state": source.state, "detail": source.detail, "books": msgspec.to_builtins(books)} | more

    def _pause(self, asked: Asked) -> Steps[Reply]:
        """Whatever the disk says: it is the safe way."""
        why, problems = _why(asked), []
        if not self._kept.selection.paused:
            old = self._kept.selection.hold
            self._kept.selection = replace(self._kept.selection, paused=why)
            self._line.hold(self._kept.selection.hold)
            log.info("pause", by=who(asked), hold=self._kept.selection.hold)
            problems.append((yield from self._kept.note(asked, old, why, "done")))
        problems.append((yield from self._kept.try_to_keep()))
        return {"hold": self._kept.selection.hold, "problem": "; ".join(filter(None, problems))}

    def _resume(self, asked: Asked) -> Steps[Reply]:
        old = self._kept.selection.hold
        if self._changes.ongoing and self._kept.selection.failed:
            raise UserError(f"nothing is ready yet: {self._changes.ongoing} is being prepared")
        if old:
            yield from self._kept.commit(asked, old, "", replace(self._kept.selection, paused="", failed=""))
            self._line.hold("")
            log.info("resume", by=who(asked))
        return {"state": self._line_state()[0]}

    def _trigger(self, asked: Asked, request: Trigger) -> None:
        source = next((source for source in self._sources if source.name == request.camera), None)
        if source is None:
            names = ", ".join(source.name for source in self._sources)
            raise UserError(f"there is no camera {request.camera!r}; there is {names}")
        camera = self._settings.config.camera[source.index]
        if not isinstance(camera, GentlCamera) or camera.trigger != "software":
            raise UserError(f'camera {source.name} takes no software triggers: it needs trigger = "software"')

        def sent(frame_id: int, why: str) -> None:  # by the engine thread, mostly
            if frame_id:
                self._answer(asked, {"camera": source.name, "frame_id": frame_id, "part_ref": request.part_ref})
            else:
                self._refuse(asked, f"camera {source.name} was not triggered: {why}")

        source.order(request.part_ref, sent)

    def _reset(self, asked: Asked) -> Steps[Reply]:
        yield from self._kept.check()
        old = self._ledger.reset()  # first: the line that is written down has the books as they were then
        books = {source.name: msgspec.to_builtins(old[source.index]) for source in self._sources}
        log.info("counters reset", by=who(asked))
        return {"books": books, "problem": (yield from self._kept.note(asked, books, "", "done"))}


def _why(asked: Asked) -> str:
    """What the line is held for by a pause."""
    assert isinstance(asked.request, Pause)
    return f"paused by {who(asked)}" + (f": {asked.request.why}" if asked.request.why else "")
