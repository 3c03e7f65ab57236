"""Steering: what a good request does. The main thread executes; what is slow is prepared in a thread of its own.

A change is written down (`audit.jsonl`), then kept for the next start (`selection.json`), then takes effect.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from inspectd.acquire.source import Source
from inspectd.config import GentlCamera, LoadedRecipe, Settings
from inspectd.errors import UserError
from inspectd.gently import start_gently
from inspectd.handoff import Handoff
from inspectd.health import Ledger
from inspectd.publish.control import Answered, Asked, Counts, Link
from inspectd.publish.requests import (
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
from inspectd.running_line import ENDS, Ready, RunningLine
from inspectd.selection import Audit, Change, Selection, keep_selection, with_model

log = structlog.get_logger()
PER_TURN = 16
"""Requests executed in one turn of the main thread's loop, which has cameras and a watchdog to tend."""
Result = dict[str, Any]


class _Slow(NamedTuple):
    """What the helper thread is at."""

    asked: Asked
    what: str
    selection: Selection
    """As it will be."""
    recipe: LoadedRecipe
    from_part_id: int | None


class Steering:
    """Used by the main thread alone, but for `link` and the state of the hold, which others read."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        line: RunningLine,
        sources: Sequence[Source],
        ledger: Ledger,
    ) -> None:
        self.link = Link(Handoff(), Handoff(), Counts())
        self.selection = self._kept = selection  # the one in force, the one on the disk
        self._settings, self._line, self._sources, self._ledger = settings, line, sources, ledger
        self._audit = Audit(settings.state_dir / "audit.jsonl")
        self._waiting: list[Asked] = []
        self._later: Handoff[Callable[[], None]] = Handoff()  # what other threads have for the main thread
        self._slow: _Slow | None = None
        self._thread: threading.Thread | None = None
        self._ending = False

    # ---- the main thread's loop ----

    def wakers(self) -> Iterator[Handoff[Any]]:
        """What the main thread polls."""
        yield self.link.requests
        yield self._later

    def turn(self) -> bool:
        """Execute what waits, a bounded number; whether more waits."""
        for call in self._later.drain():
            call()
        self._waiting += self.link.requests.drain()
        now, self._waiting = self._waiting[:PER_TURN], self._waiting[PER_TURN:]
        for asked in now:
            self._take(asked)
        return bool(self._waiting)

    def end(self) -> None:
        """From now on every request is refused; what is being prepared is given up."""
        self._ending = True
        self._line.give_up()

    def join(self, timeout_s: float) -> None:
        """Wait for what is being prepared to end."""
        if self._thread is not None:
            self._thread.join(timeout_s)

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
        self.link.answers.put(Answered(asked, Answer(asked.request.id, True, result)))

    def _refuse(self, asked: Asked, sentence: str) -> None:
        self.link.answers.put(Answered(asked, Answer(asked.request.id, False, error=sentence)))

    # ---- at once ----

    def _status(self) -> Result:
        state, detail = self._line.state()
        recipe, model = self._line.in_use()
        return {
            "line": self._settings.config.line,
            "state": state,
            "detail": detail,
            "ready": state == "ContinuousExecution",
            "hold": self.selection.hold,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "recipes": [recipe.id for recipe in self._settings.recipes],
            "preparing": self._slow.what if self._slow else "",
            "journal": self._line.journal(),
            "cameras": {source.name: self._camera(source) for source in self._sources},
            "control": msgspec.to_builtins(self.link.counts),
        }

    def _camera(self, source: Source) -> Result:
        books = self._ledger.read(source.index)
        more = {"in_flight": books.in_flight, "balanced": books.balanced}
        return {"state": source.state, "detail": source.detail, "books": msgspec.to_builtins(books)} | more

    def _pause(self, asked: Asked, request: Pause) -> Result:
        why = f"paused by {_who(asked)}" + (f": {request.why}" if request.why else "")
        if not self.selection.paused:
            self._change(asked, replace(self.selection, paused=why), self.selection.hold, why)
        return {"hold": self.selection.hold}

    def _resume(self, asked: Asked) -> Result:
        old = self.selection.hold
        if self._slow is not None and self.selection.failed:
            raise UserError(f"nothing is ready yet: {self._slow.what} is being prepared")
        if old:
            self._change(asked, replace(self.selection, paused="", failed=""), old, "")
        return {"state": self._line.state()[0]}

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
        books = {source.name: msgspec.to_builtins(self._ledger.read(source.index)) for source in self._sources}
        self._audit.write(_change(asked, books, "", "done"))
        self._ledger.reset()
        log.info("counters reset", by=_who(asked))
        return {"books": books}

    def _change(self, asked: Asked, selection: Selection, old: object, new: object) -> None:
        """A change of the hold."""
        self._audit.write(_change(asked, old, new, "done"))
        self._keep(selection)
        self._line.hold(selection.hold)
        log.info(asked.request.__struct_config__.tag, by=_who(asked), hold=selection.hold)

    def _keep(self, selection: Selection) -> None:
        if selection != self._kept:
            keep_selection(self._settings.state_dir, selection)
        self.selection = self._kept = selection

    # ---- recipe and model ----

    def _select(self, asked: Asked, request: SelectRecipe) -> None:
        self._begin_slow()
        recipe = next((recipe for recipe in self._settings.recipes if recipe.id == request.recipe), None)
        if recipe is None:
            names = ", ".join(recipe.id for recipe in self._settings.recipes)
            self._failed(asked, f"there is no recipe {request.recipe!r} in the config; there is {names}")
            return
        if request.from_part_id is not None and self.selection.failed:
            raise UserError(
                "the line is held because the parts that come now are in doubt: select without from_part_id"
            )
        selection = Selection(recipe.id, "", request.from_part_id or 0, self.selection.paused)
        self._prepare(_Slow(asked, f"recipe {recipe.id}", selection, recipe, request.from_part_id))

    def _swap(self, asked: Asked, request: SwapModel) -> None:
        self._begin_slow()
        recipe = with_model(self._line.in_use()[0], request.model, self._settings.base)
        selection = replace(self.selection, model=request.model)
        self._prepare(_Slow(asked, f"model {request.model}", selection, recipe, selection.from_part_id or None))

    def _begin_slow(self) -> None:
        """Whether one may begin; else UserError, and nothing has changed."""
        if self._slow is not None:
            by = _who(self._slow.asked)
            raise UserError(f"nothing was changed: {self._slow.what} is being prepared for {by}; ask again later")
        self._audit.check()

    def _prepare(self, slow: _Slow) -> None:
        """In a thread of its own, and then on in this one."""

        def work() -> None:
            try:
                prepared = self._line.prepare(slow.recipe)
            except UserError as error:
                sentence = str(error)
                self._later.put(lambda: self._not_prepared(slow, sentence))
            except (
                BaseException
            ) as error:  # a fault of ours or of a library is a failed preparation, and is logged
                log.error("preparing failed", exc_info=error)
                sentence = f"{type(error).__name__}: {error}"
                self._later.put(lambda: self._not_prepared(slow, sentence))
            else:
                self._later.put(lambda: self._prepared(slow, prepared))

        log.info("preparing", what=slow.what, by=_who(slow.asked))
        self._slow = slow
        self._thread = start_gently(work)

    def _not_prepared(self, slow: _Slow, sentence: str) -> None:
        self._slow = None
        if isinstance(slow.asked.request, SelectRecipe):
            self._failed(slow.asked, sentence)
            return
        log.error("the model was not swapped", why=sentence)
        try:
            self._audit.write(_change(slow.asked, self._used(), slow.what, f"failed: {sentence}"))
        except UserError as error:
            log.error(str(error))
        self._refuse(slow.asked, f"the model was not swapped: {sentence}")

    def _failed(self, asked: Asked, sentence: str) -> None:
        """Another product was wanted and can't be had: no part is judged any more, least of all as the old one."""
        request = asked.request
        assert isinstance(request, SelectRecipe)
        failed = f"recipe {request.recipe} was not selected: {sentence}"
        log.error(failed, by=_who(asked))
        self.selection = replace(self.selection, failed=failed)
        self._line.hold(self.selection.hold)  # the safe way first, whatever the disk says
        try:
            self._audit.write(_change(asked, self._used(), f"recipe {request.recipe}", f"failed: {sentence}"))
            self._keep(self.selection)
        except UserError as error:
            log.error(str(error))
        self._refuse(asked, f"{failed}; no part is judged until another recipe is selected, or `resume`")

    def _prepared(self, slow: _Slow, prepared: Ready) -> None:
        held = self.selection  # as it is by now; what failed before ends with the switch
        try:
            if self._ending:
                raise UserError(f"nothing was changed: {ENDS}")
            self._audit.write(_change(slow.asked, self._used(), slow.what, "done"))
            self._keep(replace(slow.selection, paused=held.paused, failed=held.failed))
        except UserError as error:
            self._line.discard(prepared)
            self._not_prepared(slow, str(error))
            return
        how = "with cameras stopped" if prepared.with_cameras_stopped else "between two parts"

        def switched(first: dict[str, int]) -> None:
            self._later.put(lambda: self._switched(slow, how, first))

        self._line.switch(prepared, slow.from_part_id, switched)

    def _switched(self, slow: _Slow, how: str, first: dict[str, int]) -> None:
        self._slow = None
        if isinstance(slow.asked.request, SelectRecipe):
            self.selection = replace(self.selection, failed="")
            try:
                self._keep(self.selection)
            except UserError as error:  # the next start is held then, as this one was
                log.error(str(error))
        self._line.hold(self.selection.hold)
        recipe, model = self._line.in_use()
        log.info("switched", how=how, recipe=recipe.id, model=model.name, by=_who(slow.asked))
        self._answer(slow.asked, {
            "switched": how,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "first_part_ids": first,
            "hold": self.selection.hold,
        })  # fmt: skip

    def _used(self) -> Result:
        recipe, model = self._line.in_use()
        return {"recipe": f"{recipe.id} {recipe.revision}", "model": f"{model.name} {model.sha256[:12]}"}


def _who(asked: Asked) -> str:
    key, client = asked.client
    return f"{client} ({key})" if key else client


def _change(asked: Asked, old: object, new: object, outcome: str) -> Change:
    key, client = asked.client
    return Change(
        key or "local", client, asked.request.id, str(asked.request.__struct_config__.tag), old, new, outcome
    )
