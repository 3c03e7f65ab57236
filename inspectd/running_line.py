"""What steering does to the pipeline: hold it, prepare another recipe or model, switch."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from inspectd.config import LoadedRecipe, Settings
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.errors import ConfigError, UserError
from inspectd.handoff import Handoff
from inspectd.pipeline import Pipeline
from inspectd.publish.journal import Journal
from inspectd.publish.wire import ModelRef
from inspectd.selection import Selection, load_selection
from inspectd.setups import Setup, make_jobs, open_setup

log = structlog.get_logger()
ENDS = "the daemon ends"


class Beginning(NamedTuple):
    """What the daemon starts with."""

    settings: Settings
    selection: Selection
    bundle: Bundle


def begin_with(settings: Settings, part_ids: Mapping[str, int]) -> Beginning:
    """What was selected last; where its model can't be had, the recipe's own, held with the reason."""
    chosen, selection = load_selection(settings, part_ids)
    try:
        return Beginning(chosen, selection, load_bundle(chosen.recipe.model_dir))
    except ConfigError as error:
        if not selection.model:
            raise
        own = next(recipe for recipe in settings.recipes if recipe.id == chosen.recipe.id)
        why = f"model {selection.model} was in use and can't be loaded ({error}): swap it, or resume without it"
        log.warning(why)
        held = Selection(selection.recipe, "", selection.from_part_id, selection.paused, why)
        return Beginning(settings._replace(recipe=own), held, load_bundle(own.model_dir))


class Ready(NamedTuple):
    """A setup that can be switched to."""

    setup: Setup
    with_cameras_stopped: bool


class RunningLine:
    """For the main thread, but for `prepare`."""

    pipeline: Pipeline

    def __init__(self, settings: Settings, journal: Journal, state: Callable[[], tuple[str, str]]) -> None:
        self.state = state
        self._settings, self._journal = settings, journal
        self._abort: Handoff[str] = Handoff()

    def journal(self) -> str:
        """`ok`, or why results are not being kept."""
        return self._journal.failure or "ok"

    def in_use(self) -> tuple[LoadedRecipe, ModelRef]:
        """Of the newest setup that was switched to."""
        return self.pipeline.setup.recipe, self.pipeline.setup.model

    def hold(self, why: str) -> None:
        """No part is judged from now on; "" ends that."""
        self.pipeline.hold(why)

    def prepare(self, recipe: LoadedRecipe) -> Ready:
        """Load, warm, test: slow, in any thread. Raises UserError."""
        bundle = load_bundle(recipe.model_dir)
        setup = self.pipeline.setup
        jobs = make_jobs(self._settings._replace(recipe=recipe), bundle)
        now = make_jobs(self._settings._replace(recipe=setup.recipe), bundle)
        channels = setup.rings[0].images[0].shape[2]
        if jobs != now or bundle.manifest.channels != channels:
            raise UserError("it needs other camera settings")
        return Ready(open_setup(setup.number + 1, self._settings, recipe, bundle, setup.rings, self._abort), False)

    def give_up(self) -> None:
        """End `prepare` as soon as possible."""
        self._abort.put(ENDS)

    def switch(self, prepared: Ready, from_part_id: int | None, done: Callable[[dict[str, int]], None]) -> None:
        """Parts to come are inspected under it."""
        self.pipeline.switch(prepared.setup, from_part_id, done)

    def discard(self, prepared: Ready) -> None:
        """It is not wanted any more."""
        prepared.setup.backend.close()
