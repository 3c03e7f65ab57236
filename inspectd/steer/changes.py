"""Changes of recipe and model that were asked for: one at a time, each a `Changeover`, answered at its end."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from inspectd.acquire.supervisor import CameraProcess
from inspectd.publish.control import Asked
from inspectd.runtime.errors import UserError
from inspectd.runtime.steps import Steps
from inspectd.settings.config import Settings
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.changeover import Changeover, Phase
from inspectd.steer.kept import Kept, who
from inspectd.steer.line import RunningLine
from inspectd.steer.selection import Selection, with_model
from inspectd.wire.requests import SelectRecipe, SwapModel

log = structlog.get_logger()
SWAPPED = "; another model was swapped in since: resume goes on with that one"
Reply = dict[str, Any]


class Answers(NamedTuple):
    """How a request is answered; each exactly once."""

    accept: Callable[[Asked, Reply], None]
    refuse: Callable[[Asked, str], None]


class _Ongoing(NamedTuple):
    """A change of recipe or model that is going on."""

    asked: Asked
    what: str
    selection: Selection
    """The selection as it will be, but for a hold."""
    changeover: Changeover
    cancelled: Reply | None = None
    """What waited for its part before; known when the change is committed."""


class Changes:
    """Executes changes of recipe and model, in steps, one piece of work at a time. For the main thread alone."""

    def __init__(
        self,
        settings: Settings,
        line: RunningLine,
        cameras: Sequence[CameraProcess],
        kept: Kept,
        answers: Answers,
    ) -> None:
        self._settings, self._line, self._cameras = settings, line, cameras
        self._kept, self._answers = kept, answers
        self._ongoing: _Ongoing | None = None
        self._ends = False
        self.recipes = settings.recipes
        """What may be selected."""

    @property
    def ongoing(self) -> str:
        """What is being prepared, for people; empty if nothing is."""
        return "" if self._ongoing is None else self._ongoing.what

    @property
    def waiting(self) -> Reply | None:
        """What parts are judged by from a later one on; None if nothing waits for its part."""
        part_id = self._kept.selection.from_part_id
        if not part_id or not self._line.is_pending:
            return None
        return {"recipe": self._line.setup.recipe.id, "from_part_id": part_id}

    def step(self) -> Steps[None]:
        """Go on with the change that is going on, if there is one."""
        change = self._ongoing
        if change is None:
            return
        if change.changeover.step():
            yield from self._finish(change)
        elif change.changeover.phase is Phase.COMMIT:
            yield from self._commit(change)

    def refuse(self, why: str) -> None:
        """The line stops: answer who asked for the change that is going on; nothing more is done for it."""
        self._ends = True
        if self._ongoing is None:
            return
        phase = self._ongoing.changeover.phase
        what = "it will be in use at the next start"
        if phase is Phase.PREPARE:
            what = "nothing was changed"
        elif phase is Phase.COMMIT:
            what = "it is not known whether it will be in use at the next start"
        else:  # a paused camera comes back to say what is pending, and has the recipe of before
            self._line.hold("the daemon ends in the middle of a change")
        self._answers.refuse(self._ongoing.asked, f"{why}: {what}")

    def abandon(self) -> None:
        """Wait at the very end until nothing goes on in the background any more."""
        if self._ongoing is not None:
            self._ongoing.changeover.abandon()

    def select(self, asked: Asked, request: SelectRecipe) -> Steps[None]:
        """Begin to change to another recipe of the config; raises UserError, and nothing has changed, if it can't
        begin now or there is none of this id.

        If the recipe is there and can't be had, the line is held: another product was wanted.
        """
        yield from self._check_may_begin()
        recipe = next((recipe for recipe in self.recipes if recipe.id == request.recipe), None)
        if recipe is None:
            names = ", ".join(recipe.id for recipe in self.recipes)
            raise UserError(
                f"nothing was changed: there is no recipe {request.recipe!r} in the config; there is {names}"
            )
        if request.from_part_id is not None and self._kept.selection.failed:
            raise UserError(
                "the line is held because the parts that come now are in doubt: select without from_part_id"
            )
        part_id = request.from_part_id or 0
        self._check_may_wait(recipe.id, part_id)
        what = f"recipe {recipe.id}" + (f" from part {part_id} on" if part_id else "")
        self._begin(asked, what, recipe, Selection(recipe.id, self.recipes[0].id, from_part_id=part_id))

    def _check_may_wait(self, recipe: str, part_id: int) -> None:
        """Raise UserError if another recipe waits for an earlier part: it would be forgotten without a word."""
        waiting = self.waiting
        if waiting is not None and part_id > waiting["from_part_id"]:
            raise UserError(
                f"nothing was changed: recipe {waiting['recipe']} waits for part {waiting['from_part_id']}, and "
                f"only one can wait: select {recipe} when that part has come, or first select "
                f"{self._line.in_use.recipe.id} without a part, which cancels it"
            )

    def swap(self, asked: Asked, request: SwapModel) -> Steps[None]:
        """Begin to change to another model for the recipe in use; raises UserError if it can't begin now."""
        yield from self._check_may_begin()
        recipe = with_model(self._line.setup.recipe, request.model, self._settings.base)
        now = self._kept.selection
        part_id = now.from_part_id if self._line.is_pending else 0  # what waits for its part still does
        first = self.recipes[0].id
        selection = replace(now, recipe=recipe.id, first=first, model=request.model, from_part_id=part_id)
        self._begin(asked, f"model {request.model}", recipe, selection)

    def _check_may_begin(self) -> Steps[None]:
        """Raise UserError if no change may begin now; then nothing has changed."""
        if self._ongoing is not None:
            what, by = self._ongoing.what, who(self._ongoing.asked)
            raise UserError(f"nothing was changed: {what} is being prepared for {by}; ask again later")
        yield from self._kept.check()

    def _cancelled_by(self, selection: Selection) -> Reply | None:
        """What waits for its part now, and will not be used any more with this selection."""
        waiting = self.waiting
        same = {"recipe": selection.recipe, "from_part_id": selection.from_part_id}
        return None if waiting == same else waiting

    def _begin(self, asked: Asked, what: str, recipe: LoadedRecipe, selection: Selection) -> None:
        if self._ends:
            raise UserError("nothing was changed: the daemon ends")
        log.info("preparing", what=what, by=who(asked))
        anew = isinstance(asked.request, SelectRecipe)
        changeover = Changeover(self._line, self._cameras, recipe, selection.from_part_id or None, anew)
        self._ongoing = _Ongoing(asked, what, selection, changeover)

    def _commit(self, change: _Ongoing) -> Steps[None]:
        """Write the change down, and let it happen then."""
        asked, what, selection, changeover, _ = change
        try:
            if changeover.stopped and selection.from_part_id:
                cameras = ", ".join(changeover.stopped)
                raise UserError(
                    f"cameras must be stopped for it ({cameras}), which can't wait for part "
                    f"{selection.from_part_id}: select it without a part when the line is empty"
                )
            now = self._kept.selection
            failed = now.failed
            if failed and isinstance(asked.request, SwapModel):  # only people know whether that was what it wants
                failed = failed.removesuffix(SWAPPED) + SWAPPED
            held = replace(selection, paused=now.paused, failed=failed)
            self._ongoing = change._replace(cancelled=self._cancelled_by(selection))
            new = what
            if waited := self._ongoing.cancelled:
                new += f"; cancelled: recipe {waited['recipe']} from part {waited['from_part_id']} on"
            yield from self._kept.commit(asked, in_use(self._line), new, held)
        except UserError as error:
            if not self._ends:
                changeover.give_up(str(error))
            return
        if not self._ends:  # else it was given up meanwhile
            changeover.commit()

    def _finish(self, change: _Ongoing) -> Steps[None]:
        """The change is done, or has failed."""
        self._ongoing = None
        asked, changeover = change.asked, change.changeover
        if not changeover.first:
            yield from self._not_changed(change)
            return
        if isinstance(asked.request, SelectRecipe):
            yield from self._release()
        elif self._kept.selection.failed:
            self._line.hold(self._kept.selection.hold)  # which says that there was a swap
        recipe, model, _ = self._line.setup.names
        stopped = ", ".join(changeover.stopped)
        how = f"with cameras stopped: {stopped}" if stopped else "between two parts"
        log.info("switched", how=how, recipe=recipe.id, model=model.name, by=who(asked))
        if changeover.error:
            sentence = f"{change.what} is in use, and inspects nothing yet: {changeover.error}"
            self._answers.refuse(asked, sentence)
            return
        self._answers.accept(asked, {
            "switched": "with cameras stopped" if stopped else "between two parts",
            "stopped": changeover.stopped,
            "recipe": {"id": recipe.id, "revision": recipe.revision},
            "model": msgspec.to_builtins(model),
            "first_part_ids": changeover.first,
            "cancelled": change.cancelled,
            "hold": self._kept.selection.hold,
        })  # fmt: skip

    def _release(self) -> Steps[None]:
        """What failed before is over: the line has the recipe that was wanted last."""
        self._kept.selection = replace(self._kept.selection, failed="")
        self._line.hold(self._kept.selection.hold)
        yield from self._kept.try_to_keep()  # else the next start is held

    def _not_changed(self, change: _Ongoing) -> Steps[None]:
        asked, sentence = change.asked, change.changeover.error
        if isinstance(asked.request, SelectRecipe):
            yield from self._fail(asked, sentence)
            return
        log.error("the model was not swapped", why=sentence)
        yield from self._kept.note(asked, in_use(self._line), change.what, f"failed: {sentence}")
        self._answers.refuse(asked, f"the model was not swapped: {sentence}")

    def _fail(self, asked: Asked, sentence: str) -> Steps[None]:
        """Another product was wanted and can't be had: no part is judged any more, least of all as the old one."""
        request = asked.request
        assert isinstance(request, SelectRecipe)
        failed = f"recipe {request.recipe} was not selected: {sentence}"
        log.error(failed, by=who(asked))
        self._kept.selection = replace(self._kept.selection, failed=failed)
        self._line.hold(self._kept.selection.hold)  # the safe way first, whatever the disk says
        yield from self._kept.try_to_keep()
        yield from self._kept.note(asked, in_use(self._line), f"recipe {request.recipe}", f"failed: {sentence}")
        self._answers.refuse(asked, f"{failed}; no part is judged until another recipe is selected, or `resume`")


def in_use(line: RunningLine) -> Reply:
    """Recipe and model that parts are judged by now, for the audit log."""
    recipe, model, _ = line.in_use
    return {"recipe": f"{recipe.id} {recipe.revision}", "model": f"{model.name} {model.sha256[:12]}"}
