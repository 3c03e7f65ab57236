"""Keeps how much of a training run is done, and when it is time to check it on dev."""

from __future__ import annotations

import math
import time

from inspectd_train.train.run import Run
from inspectd_train.train.state import RunProgress

CHECKS = 8
CHECK_REST = 9.0
"""How many times the length of a check is spent on steps before the next."""
FEWEST_STEPS = 50


class Clock:
    """The share of the run that is done: of its steps, or of its wall clock, in which a pause does not count."""

    def __init__(self, run: Run, progress: RunProgress) -> None:
        self._run, self._progress = run, progress
        self._steps = (run.settings.epochs or 0) * _steps_an_epoch(run)
        self._start_s = time.monotonic() - progress.elapsed_s
        self._share = self._rest_until_s = 0.0
        self.tick()
        self._next_check = (math.floor(self._share * CHECKS + 1e-9) + 1) / CHECKS

    def tick(self) -> None:
        """Reads the time, after each step."""
        fabric, elapsed_s = self._run.fabric, time.monotonic() - self._start_s
        # all processes must check and stop at the same step: the first one's clock counts
        self._progress.elapsed_s = fabric.broadcast(elapsed_s) if fabric.world_size > 1 else elapsed_s
        if self._steps:
            self._share = self._progress.step / self._steps
        else:
            assert self._run.settings.minutes is not None
            self._share = self._progress.elapsed_s / (60 * self._run.settings.minutes)

    def share(self) -> float:
        """The share of the run that is done: 0 to 1, a little more at the end."""
        return self._share

    def check_due(self) -> bool:
        """Whether a check is due: at equal shares of the run, later if checks took over a tenth of its time."""
        if self._share >= 1:
            return True
        rested = self._steps or self._progress.elapsed_s > self._rest_until_s
        return self._share >= self._next_check and bool(rested)

    def checked(self) -> None:
        """Notes that a check has been made, and sets when the next is due."""
        began_s = self._progress.elapsed_s
        self.tick()
        self._rest_until_s = self._progress.elapsed_s + CHECK_REST * (self._progress.elapsed_s - began_s)
        self._next_check = (math.floor(self._share * CHECKS + 1e-9) + 1) / CHECKS


def passes(run: Run, progress: RunProgress) -> float:
    """How often the crops of the steps so far cover the training pictures."""
    return progress.step * _pixels_a_step(run) / sum(sample.mask.size for sample in run.learn)


def _pixels_a_step(run: Run) -> int:
    return run.batch * run.crop_px**2 * run.fabric.world_size


def _steps_an_epoch(run: Run) -> int:
    """The steps in which the crops cover the training pictures once, 50 at least."""
    pixels = sum(sample.mask.size for sample in run.learn)
    return max(FEWEST_STEPS, math.ceil(pixels / _pixels_a_step(run)))
