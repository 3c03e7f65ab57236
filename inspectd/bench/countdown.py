"""How a bench says that it goes on: a line on the standard error before each of its steps."""

import sys
import time


class Countdown:
    """The steps of a measurement, as many as are known before. Nothing of them goes to the standard output."""

    def __init__(self, steps: int) -> None:
        self._steps, self._begun, self._start_s = steps, 0, time.monotonic()

    def begin(self, what: str) -> None:
        """Say which step begins, and how long all may still take, judged by the steps before."""
        took_s, done = time.monotonic() - self._start_s, self._begun
        self._begun += 1
        left = f", some {took_s / done * (self._steps - done):.0f} s to go" if done else ""
        print(f"{self._begun} of {self._steps}: {what}{left}", file=sys.stderr, flush=True)
