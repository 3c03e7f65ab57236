"""The progress of every stage, which shows whether one hangs."""

from collections.abc import Sequence

from inspectd.runtime.clock import now_ns

STAGE_WAIT_S = 0.25
"""Longest sleep of a stage in one turn of its loop, in seconds."""
STUCK_S = 3.0
"""Seconds after which a stage that does not turn its loop hangs: systemd's watchdog is no longer fed."""


class Progress:
    """The times when each stage last turned its loop."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._stamps = dict.fromkeys(stages, now_ns())

    def stamp(self, stage: str) -> None:
        """Note that a stage turned its loop."""
        self._stamps[stage] = now_ns()

    def stuck(self) -> str:
        """The stages that hang, as a sentence; empty if all move."""
        ages_s = {stage: (now_ns() - stamp) / 1e9 for stage, stamp in self._stamps.items()}
        return ", ".join(f"{stage} for {age:.1f} s" for stage, age in ages_s.items() if age > STUCK_S)
