"""Steering: what a good request does. The main thread executes; a change of recipe or model is a `Changeover`.

A change is written down (`audit.jsonl`), then kept for the next start (`selection.json`), then takes effect.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from inspectd.acquire.source import Source
from inspectd.acquire.supervisor import CameraProcess
from inspectd.pipeline import Pipeline
from inspectd.publish.control import Answered, Asked, ControlLink
from inspectd.publish.journal.writer import Journal
from inspectd.publish.security import name_of
from inspectd.runtime.books import Ledger
from inspectd.runtime.durable import UnwritableError
from inspectd.runtime.errors import UserError
from inspectd.settings.camera import GentlCamera
from inspectd.settings.config import Settings
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.audit import Audit, Change
from inspectd.steer.changeover import Changeover, Phase
from inspectd.steer.selection import Selection, keep_selection, with_model
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
"""Requests executed in one turn of the main thread's loop, which has cameras and a watchdog to tend."""
STEP_S = 0.01
"""How often a change that is going on is looked after."""
ENDS = "the daemon ends"
SWAPPED = "; another model was swapped in since: resume goes on with that one"
Result = dict[str, Any]


class _Ongoing(NamedTuple):
    """A change of recipe or model that is going on."""

    asked: Asked
    what: str
    selection: Selection
    """As it will be."""
    changeover: Changeover


class Steering:
    """Used by the main thread alone, but for `state`."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        link: ControlLink,
        pipeline: Pipeline,
        processes: Sequence[CameraProcess],
        journal: Journal,
        ledger: Ledger,
        state: Callable[[], tuple[str, str]],
    ) -> None:
        self.selection = selection  # the one in force
        self._kept: Selection | None = selection  # the one on the disk, if that is known
        self._settings, self._link, self._pipeline, self._processes = settings, link, pipeline, processes
        self._journal, self._ledger, self._line_state = journal, ledger, state
        self._sources = [process.source for process in processes]
        self._audit = Audit(settings.state_dir / "audit.jsonl")
        self._waiting: list[Asked] = []
        self._change: _Ongoing | None = None
        self._ending = False
        pipeline.hold(selection.hold)
        if selection.failed:  # found at this start, maybe: the next one must be held for it as well
            self._kept = None
            self._try_to_keep(selection)

    # ---- the main thread's loop ----

    def fileno(self) -> int:
        """What the main thread polls: readable while requests wait."""
        return self._link.requests.fileno()

    def turn(self) -> float:
        """Execute what waits, a bounded number; seconds after which it wants to be called again."""
        if self._change is not None and not self._ending and self._change.changeover.step():
            self._changed(self._change)
        self._waiting += self._link.requests.drain()
        now, self._waiting = self._waiting[:PER_TURN], self._waiting[PER_TURN:]
        for asked in now:
            self._take(asked)
        return 0.0 if self._waiting else STEP_S if self._change is not None else math.inf

    def end(self) -> None:
        """The line stops: from now on every request is refused, and what is being prepared is given up."""
        self._ending = True
        if self._change is not None:
            begun = self._change.changeover.stage is not Phase.PREPARE
            what = "it will be in use at the next start" if begun else "nothing was changed"
            if begun:  # a paused camera comes back to say what it owes, and has the recipe of before
                self._pipeline.hold("the daemon ends in the middle of a change")
            self._refuse(self._change.asked, f"{ENDS}: {what}")

    def abandon(self) -> None:
        """At the very end: nothing may go on in the background."""
        if self._change is not None:
            self._change.changeover.abandon()

    def state(self) -> tuple[str, str] | None:
        """OPC 40100-1 state while no part is judged, and why; None while they are. For any thread."""
        selection = self.selection
        if selection.failed:
            return "Initialized", selection.hold
        return ("Ready", selection.hold) if selection.paused else None

    def _take(self, asked: Asked) -> None:
        try:
            if self._ending:
                raise UserError(f"nothing was changed: {ENDS}")
            result = self._execute(asked, asked.request)
        except UnwritableError as error:
            self._refuse(asked, f"nothing was changed: {error}")
        except UserError as error:
            self._refuse(asked, str(error))
        else:
            if result is not None:
                self._answer(asked, result)

    def _execute(self, asked: Asked, request: Request) -> Result | None:
        """What to answer; None = that comes later."""
        match request:
            case Status():
                return self._status()
            case SelectRecipe():
                self._select(asked, request)
            case SwapModel():
                self._swap(asked, request)
            case Pause():
                return self._pause(asked, request)
            case Resume():
                return self._resume(asked)
            case Trigger():
                self._trigger(asked, request)
            case ResetCounters():
                return self._reset(asked)
        return None

    def _answer(self, asked: Asked, result: Result) -> None:
        self._link.answers.put(Answered(asked, Answer(asked.request.id, True, result)))

    def _refuse(self, asked: Asked, sentence: str) -> None:
        self._link.answers.put(Answered(asked, Answer(asked.request.id, False, error=sentence)))

    # ---- at once ----

    def _status(self) -> Result:
        state, detail = self._line_state()
        recipe, model, _ = self._pipeline.in_use
        return {
            "line": self._settings.config.line,
            "state": state,
            "detail": detail,
            "ready": state == "ContinuousExecution",
            "hold": self.selection.hold,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "waiting": self._waits_for_part(),
            "recipes": [recipe.id for recipe in self._settings.recipes],
            "preparing": self._change.what if self._change else "",
            "journal": self._journal.failure or "ok",
            "cameras": {source.name: self._camera(source) for source in self._sources},
            "control": msgspec.to_builtins(self._link.counts),
        }

    def _waits_for_part(self) -> Result | None:
        """What parts are judged by from a later one on."""
        part_id = self.selection.from_part_id
        if not part_id or not self._pipeline.waits:
            return None
        return {"recipe": self._pipeline.setup.recipe.id, "from_part_id": part_id}

    def _camera(self, source: Source) -> Result:
        books = self._ledger.read(source.index)
        more = {"in_flight": books.in_flight, "balanced": books.balanced}
        return {"state": source.state, "detail": source.detail, "books": msgspec.to_builtins(books)} | more

    def _pause(self, asked: Asked, request: Pause) -> Result:
        """Whatever the disk says: it is the safe way."""
        why = f"paused by {_who(asked)}" + (f": {request.why}" if request.why else "")
        problems = []
        if not self.selection.paused:
            old, self.selection = self.selection.hold, replace(self.selection, paused=why)
            self._pipeline.hold(self.selection.hold)
            log.info("pause", by=_who(asked), hold=self.selection.hold)
            problems.append(self._note(_line_of(asked, old, why, "done")))
        problems.append(self._try_to_keep(self.selection))
        return {"hold": self.selection.hold, "problem": "; ".join(filter(None, problems))}

    def _resume(self, asked: Asked) -> Result:
        old = self.selection.hold
        if self._change is not None and self.selection.failed:
            raise UserError(f"nothing is ready yet: {self._change.what} is being prepared")
        if old:
            self._commit(asked, old, "", replace(self.selection, paused="", failed=""))
            self._pipeline.hold("")
            log.info("resume", by=_who(asked))
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

    def _reset(self, asked: Asked) -> Result:
        self._audit.check()
        old = self._ledger.reset()  # first: the line that is written down has the books as they were then
        books = {source.name: msgspec.to_builtins(old[source.index]) for source in self._sources}
        log.info("counters reset", by=_who(asked))
        return {"books": books, "problem": self._note(_line_of(asked, books, "", "done"))}

    def _commit(self, asked: Asked, old: object, new: object, selection: Selection) -> None:
        """Write a change down and keep it; raises UnwritableError, and then it must not happen."""
        self._audit.write(_line_of(asked, old, new, "done"))
        try:
            self._keep(selection)
        except UnwritableError as error:
            self._note(_line_of(asked, old, new, f"failed: {error}"))
            raise

    def _keep(self, selection: Selection) -> None:
        """Put it in force once it is on the disk; raises UnwritableError."""
        if selection != self._kept:
            self._kept = None
            keep_selection(self._settings.state_dir, selection)
        self.selection = self._kept = selection

    def _try_to_keep(self, selection: Selection) -> str:
        """Of what is in force in any case; why it could not be kept, which is tried again with the next change."""
        try:
            self._keep(selection)
        except UnwritableError as error:
            log.error(str(error))
            return str(error)
        return ""

    def _note(self, change: Change) -> str:
        """Write down what happens in any case; why that could not be done."""
        try:
            self._audit.write(change)
        except UnwritableError as error:
            log.error(str(error))
            return str(error)
        return ""

    # ---- recipe and model ----

    def _select(self, asked: Asked, request: SelectRecipe) -> None:
        self._check_may_begin()
        recipe = next((recipe for recipe in self._settings.recipes if recipe.id == request.recipe), None)
        if recipe is None:
            names = ", ".join(recipe.id for recipe in self._settings.recipes)
            self._failed(asked, f"there is no recipe {request.recipe!r} in the config; there is {names}")
            return
        if request.from_part_id is not None and self.selection.failed:
            raise UserError(
                "the line is held because the parts that come now are in doubt: select without from_part_id"
            )
        first = self._settings.recipes[0].id
        selection = Selection(recipe.id, first, from_part_id=request.from_part_id or 0)
        self._begin(asked, f"recipe {recipe.id}", recipe, selection)

    def _swap(self, asked: Asked, request: SwapModel) -> None:
        self._check_may_begin()
        recipe = with_model(self._pipeline.setup.recipe, request.model, self._settings.base)
        first = self._settings.recipes[0].id
        part_id = self.selection.from_part_id if self._pipeline.waits else 0  # what waits for its part still does
        selection = replace(
            self.selection, recipe=recipe.id, first=first, model=request.model, from_part_id=part_id
        )
        self._begin(asked, f"model {request.model}", recipe, selection)

    def _check_may_begin(self) -> None:
        """Else UserError, and nothing has changed."""
        if self._change is not None:
            what, by = self._change.what, _who(self._change.asked)
            raise UserError(f"nothing was changed: {what} is being prepared for {by}; ask again later")
        self._audit.check()

    def _begin(self, asked: Asked, what: str, recipe: LoadedRecipe, selection: Selection) -> None:
        from_part_id = selection.from_part_id or None

        def commit(stopped: Sequence[str]) -> None:
            if stopped and from_part_id is not None:
                cameras = ", ".join(stopped)
                raise UserError(
                    f"cameras must be stopped for it ({cameras}), which can't wait for part {from_part_id}: "
                    "select it without a part when the line is empty"
                )
            failed = self.selection.failed
            if failed and isinstance(asked.request, SwapModel):  # only people know whether that was what it wants
                failed = failed.removesuffix(SWAPPED) + SWAPPED
            held = replace(selection, paused=self.selection.paused, failed=failed)
            self._commit(asked, self._used(), what, held)

        log.info("preparing", what=what, by=_who(asked))
        changeover = Changeover(self._pipeline, self._processes, recipe, from_part_id, commit)
        self._change = _Ongoing(asked, what, selection, changeover)

    def _changed(self, change: _Ongoing) -> None:
        """The change is done, or has failed."""
        self._change = None
        asked, _, _, changeover = change
        if not changeover.first:
            self._not_changed(change)
            return
        if isinstance(asked.request, SelectRecipe):
            self._release()
        elif self.selection.failed:
            self._pipeline.hold(self.selection.hold)  # which tells of the swap
        recipe, model, _ = self._pipeline.setup.names
        stopped = ", ".join(changeover.stopped)
        how = f"with cameras stopped: {stopped}" if stopped else "between two parts"
        log.info("switched", how=how, recipe=recipe.id, model=model.name, by=_who(asked))
        if changeover.error:
            self._refuse(asked, f"{change.what} is in use, and inspects nothing yet: {changeover.error}")
            return
        self._answer(asked, {
            "switched": "with cameras stopped" if stopped else "between two parts",
            "stopped": changeover.stopped,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "first_part_ids": changeover.first,
            "hold": self.selection.hold,
        })  # fmt: skip

    def _release(self) -> None:
        """What failed before is over: the line has the recipe that was wanted last."""
        self.selection = replace(self.selection, failed="")
        self._try_to_keep(self.selection)  # else the next start is held
        self._pipeline.hold(self.selection.hold)

    def _not_changed(self, change: _Ongoing) -> None:
        asked, sentence = change.asked, change.changeover.error
        if isinstance(asked.request, SelectRecipe):
            self._failed(asked, sentence)
            return
        log.error("the model was not swapped", why=sentence)
        self._note(_line_of(asked, self._used(), change.what, f"failed: {sentence}"))
        self._refuse(asked, f"the model was not swapped: {sentence}")

    def _failed(self, asked: Asked, sentence: str) -> None:
        """Another product was wanted and can't be had: no part is judged any more, least of all as the old one."""
        request = asked.request
        assert isinstance(request, SelectRecipe)
        failed = f"recipe {request.recipe} was not selected: {sentence}"
        log.error(failed, by=_who(asked))
        self.selection = replace(self.selection, failed=failed)
        self._pipeline.hold(self.selection.hold)  # the safe way first, whatever the disk says
        self._try_to_keep(self.selection)
        self._note(_line_of(asked, self._used(), f"recipe {request.recipe}", f"failed: {sentence}"))
        self._refuse(asked, f"{failed}; no part is judged until another recipe is selected, or `resume`")

    def _used(self) -> Result:
        recipe, model, _ = self._pipeline.in_use
        return {"recipe": f"{recipe.id} {recipe.revision}", "model": f"{model.name} {model.sha256[:12]}"}


def _who(asked: Asked) -> str:
    user, client = asked.client
    return f"{client} ({name_of(user)})" if user else client


def _line_of(asked: Asked, old: object, new: object, outcome: str) -> Change:
    user, client = asked.client
    return Change(
        name_of(user) or "local",
        client,
        asked.request.id,
        str(asked.request.__struct_config__.tag),
        old,
        new,
        outcome,
    )
