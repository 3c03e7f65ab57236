"""A change of recipe or model while the line runs.

prepare    in a helper thread: load the bundle, golden test, warm up. Fails here, or not at all
commit     whoever asked for it writes it down
pause      only if camera features, region or picture format change: the cameras are stopped
switch     parts to come belong to the new setup
resume     the cameras start again; what they counted meanwhile is UNKNOWN/not_ready
"""

import threading
import time
from collections.abc import Sequence
from enum import Enum, auto

import structlog

from inspectd.acquire.protocol import OPENING_S
from inspectd.acquire.supervisor import CameraProcess
from inspectd.runtime.errors import UserError
from inspectd.settings.recipe import LoadedRecipe
from inspectd.steer.line import RunningLine
from inspectd.steer.setup import Setup, changed_cameras

log = structlog.get_logger()
START_S = OPENING_S + 10.0
"""Longest time for cameras to stream again, in seconds; then the change has failed, and they go on trying."""
ABANDON_S = 2.0
"""Longest wait for what is being prepared when the process ends, in seconds."""


class Phase(Enum):
    """How far a change is."""

    PREPARE = auto()
    COMMIT = auto()
    PAUSE = auto()
    SWITCH = auto()
    RESUME = auto()
    DONE = auto()


class Changeover:
    """A change that begins with its construction; the main thread calls `step` until it is done. Nothing blocks.

    When all is prepared its phase is COMMIT, and it waits for `commit` or `give_up`. If it fails before the
    switch, nothing has changed. One at a time; `abandon` it before the process ends.
    """

    def __init__(
        self,
        line: RunningLine,
        cameras: Sequence[CameraProcess],
        recipe: LoadedRecipe,
        from_part_id: int | None = None,
        anew: bool = False,
    ) -> None:
        """from_part_id: the first part of it; None = the next. Cameras that must be stopped are so at once.

        anew: the recipe's file is read again first.
        """
        self.phase = Phase.PREPARE
        self.error = ""
        """Why the change failed, for people; empty if it did not."""
        self.stopped: list[str] = []
        """Names of the cameras that the change stops; known when it is prepared."""
        self.first: dict[str, int] = {}
        """First part id under the new setup, by camera; empty until the switch."""
        self._line, self._cameras, self._recipe = line, cameras, recipe
        self._from_part_id, self._anew = from_part_id, anew
        self._setup: Setup | None = None
        self._paused: list[CameraProcess] = []
        self._until_s = 0.0
        self._thread = threading.Thread(target=self._prepare, name="prepare", daemon=True)
        self._thread.start()

    def step(self) -> bool:
        """Go on as far as it goes; True when it is done. Main thread only: it starts camera processes."""
        match self.phase:
            case Phase.PREPARE if not self._thread.is_alive():
                self._prepared()
            case Phase.PAUSE if all(process.is_down for process in self._paused):
                self._switch()
            case Phase.SWITCH if self.first:
                self._switched()
            case Phase.RESUME:
                self._await_cameras()
        return self.phase is Phase.DONE

    def abandon(self) -> None:
        """Give up, as the process ends: give the helper thread a moment to get out of whatever library it is in.

        One that hangs is left alone, and the process must end without waiting for it.
        """
        self._thread.join(ABANDON_S)
        if self.phase in (Phase.PREPARE, Phase.COMMIT, Phase.PAUSE) and self._setup is not None:
            self._line.discard(self._setup)
        self.phase = Phase.DONE

    def _prepare(self) -> None:
        try:
            self._setup = self._line.prepare(self._recipe, self._anew)
        except UserError as error:
            self.error = str(error)
        except Exception as error:  # of a library: the line goes on as it is
            log.error("a recipe can't be prepared", recipe=self._recipe.id, exc_info=error)
            self.error = f"{self._recipe.path}: can't be prepared: {type(error).__name__}: {error}"

    def _prepared(self) -> None:
        if self._setup is None:
            self.phase = Phase.DONE
            return
        changed = changed_cameras(self._setup, self._line.setup)
        self._paused = [p for p in self._cameras if p.source.index in changed and not p.source.finished]
        self.stopped = [process.source.name for process in self._paused]
        self.phase = Phase.COMMIT

    def give_up(self, why: str) -> None:
        """Let the change fail instead of `commit`."""
        assert self._setup is not None
        self.error = why
        self._line.discard(self._setup)
        self._setup, self.phase = None, Phase.DONE

    def commit(self) -> None:
        """Go on: the change happens from here on."""
        if not self._paused:
            self._switch()
            return
        self.phase = Phase.PAUSE
        self._from_part_id = None
        for process in self._paused:
            process.pause(f"the line changes to recipe {self._recipe.id}")

    def _switch(self) -> None:
        assert self._setup is not None
        self.phase = Phase.SWITCH
        self._line.switch(self._setup, self._from_part_id, self._begun)

    def _begun(self, first: dict[str, int]) -> None:
        self.first = first  # by the engine thread

    def _switched(self) -> None:
        assert self._setup is not None
        for process in self._paused:
            index = process.source.index
            process.resume(self._setup.jobs[index], self._setup.rings[index])
        self.phase, self._until_s = Phase.RESUME, time.monotonic() + START_S

    def _await_cameras(self) -> None:
        away = [process.source for process in self._paused if process.source.state == "dead"]
        if not away:
            self.phase = Phase.DONE
        elif time.monotonic() > self._until_s:
            self.phase = Phase.DONE
            self.error = "; ".join(f"camera {source.name}: {source.detail}" for source in away)
