"""The progress of every stage: which of them hangs."""

from collections.abc import Sequence

from inspectd.runtime.clock import now_ns

STAGE_WAIT_S = 0.25
"""No stage sleeps longer than this in one turn of its loop."""
STUCK_S = 3.0
"""A stage that does not turn its loop for so long hangs: systemd's watchdog is no longer fed."""


class Progress:
    """When each stage last turned its loop."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._stamps = dict.fromkeys(stages, now_ns())

    def stamp(self, stage: str) -> None:
        """The stage turned its loop."""
        self._stamps[stage] = now_ns()

    def stuck(self) -> str:
        """The stages that hang, as a sentence; empty if all move."""
        ages_s = {stage: (now_ns() - stamp) / 1e9 for stage, stamp in self._stamps.items()}
        return ", ".join(f"{stage} for {age:.1f} s" for stage, age in ages_s.items() if age > STUCK_S)
