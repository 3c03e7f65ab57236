"""The setups of a running line: which one is in use, which one is pending, and how the stages change to it."""

import itertools
from collections.abc import Callable, Sequence

from inspectd.engine.loop import FrameSource, Switch
from inspectd.pipeline import Pipeline
from inspectd.publish.messages import Names
from inspectd.runtime.background import in_background
from inspectd.settings.config import Settings
from inspectd.settings.fit import read_recipe
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.backends import Backends
from inspectd.steer.setup import Setup, next_setup

KEPT_SETUPS = 4096
"""Number of setups whose names the publisher knows: results of a retired one may wait for minutes, and nobody
changes recipes so often meanwhile."""


class RunningLine:
    """What the main thread changes of a running pipeline; only `prepare` and `discard` wait for anything."""

    def __init__(
        self,
        settings: Settings,
        setup: Setup,
        pipeline: Pipeline,
        sources: Sequence[FrameSource],
        backends: Backends,
    ) -> None:
        self._settings, self._pipeline, self._sources = settings, pipeline, sources
        self._numbers = itertools.count(setup.number + 1)
        self._held = ""
        self.urgent = ""
        """Why the line is held meanwhile."""
        self.backends = backends
        self.setup = setup
        """The newest setup that was switched to."""

    @property
    def in_use(self) -> Names:
        """What parts are judged by now, as results say it; `setup` may still be pending."""
        publisher = self._pipeline.publisher
        return publisher.setups[publisher.setup]

    @property
    def is_pending(self) -> bool:
        """Whether the newest setup still waits for its part, at any camera."""
        return not self._is_everywhere(self.setup.number)

    def _is_everywhere(self, number: int) -> bool:
        return all(source.setups == {number} or source.finished for source in self._sources)

    def prepare(self, recipe: LoadedRecipe, anew: bool = False) -> Setup:
        """A setup of this recipe, whose model is loaded, self-tested and warm, to be switched to or discarded.

        anew: read the recipe's file again first, as it may have been edited.
        Takes seconds, in the background of the line: for a helper thread, one at a time, to be joined before the
        process ends. Raises UserError, and then nothing has changed. The pictures' shape may differ from that of
        now: then the cameras must be stopped before the switch (`changed_cameras` names them).
        """
        with in_background():
            if anew:
                recipe = read_recipe(recipe.path, self._settings.cameras)
            return next_setup(next(self._numbers), self._settings, recipe, self.setup, self.backends)

    def discard(self, setup: Setup) -> None:
        """Let go of what was prepared and is not switched to."""
        self.backends.release(setup.number)

    def switch(self, setup: Setup, from_part_id: int | None, done: Callable[[dict[str, int]], None]) -> None:
        """Inspect parts to come under another setup: from the next one on, or from `from_part_id` on.

        Frames in flight keep theirs. `done` is called by the engine thread, within STAGE_WAIT_S, with the first
        part id under the new setup by camera. When no frame needs the old backend any more it is closed, by a
        thread of its own. A switch that was still pending is forgotten.
        """
        publisher = self._pipeline.publisher
        self._pipeline.criteria[setup.number] = setup.for_stages.criteria
        self._name(setup)
        self.setup = setup

        def switched(first: dict[str, int]) -> None:
            if self._is_everywhere(setup.number):  # else it is in use with its first result
                publisher.setup = setup.number
            done(first)

        order = Switch(setup.number, setup.backend, setup.deadline_ns, from_part_id or 0, switched)
        self._pipeline.engine.switch(order)

    def _name(self, setup: Setup) -> None:
        """Let the publisher know a setup's names before there is a result of it."""
        publisher = self._pipeline.publisher
        publisher.setups[setup.number] = setup.names
        for number in sorted(publisher.setups)[:-KEPT_SETUPS]:
            if number not in self._pipeline.criteria and number != publisher.setup:
                del publisher.setups[number]

    def hold(self, why: str) -> None:
        """End frames received from now on as UNKNOWN/not_ready with this sentence; "" ends that. Cameras go on."""
        self._held = why
        self._pipeline.engine.hold(self.urgent or why)

    def hold_meanwhile(self, why: str) -> None:
        """Hold the line whatever `hold` says, for somebody whose turn has not come; "" ends that."""
        self.urgent = why
        self._pipeline.engine.hold(why or self._held)
