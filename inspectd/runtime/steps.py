"""Work that may have to wait for a disk, as a generator of steps, so that the line's main thread never waits.

def change() -> Steps[str]:
    yield from on_disk(lambda: write(path))  # done by the helper thread; what it raises is raised here
    return "done"                            # by the thread that turns the `Stepper`, as all else in here
"""

import select
import threading
import time
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, TypeVar

from inspectd.runtime.handoff import Handoff

T = TypeVar("T")
Steps = Generator[Callable[[], object], Any, T]
"""What is to be done by the helper thread, piece by piece, in a piece of work that gives a T."""
TURN_S = 0.25


def on_disk(work: Callable[[], T]) -> Steps[T]:
    """One step: returns what `work` returns, raises what it raises."""
    result: T = yield work
    return result


def at_once(steps: Steps[T]) -> T:
    """Do all steps in this thread, which waits."""
    try:
        work = next(steps)
        while True:
            try:
                result = work()
            except Exception as error:
                work = steps.throw(error)
            else:
                work = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


class Stepper:
    """Does one piece of work in steps at a time. For one thread, which polls `fileno()` and calls `turn`."""

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._done: Handoff[tuple[object, Exception | None]] = Handoff()
        self._steps: Steps[None] | None = None
        self._helper = threading.Thread(target=self._help, name=name, daemon=True)
        self._helper.start()

    def fileno(self) -> int:
        """What to poll: readable when a step is done."""
        return self._done.fileno()

    @property
    def busy(self) -> bool:
        """Whether a piece of work is going on."""
        return self._steps is not None

    def begin(self, steps: Steps[None]) -> None:
        """Begin a piece of work, as far as it goes without a step of the helper. Only when not `busy`."""
        self._steps = steps
        self._go_on(lambda: next(steps))

    def turn(self) -> None:
        """Go on where a step is done; never blocks."""
        for value, error in self._done.drain():
            steps = self._steps
            assert steps is not None
            if error is None:
                self._go_on(lambda: steps.send(value))  # noqa: B023  (called at once)
            else:
                self._go_on(lambda: steps.throw(error))  # noqa: B023

    def close(self, timeout_s: float) -> None:
        """End the work that is going on, and the helper thread; one that hangs at a disk is left alone."""
        poll, until_s = select.poll(), time.monotonic() + timeout_s
        poll.register(self._done, select.POLLIN)
        while self.busy and time.monotonic() < until_s:
            poll.poll(TURN_S * 1e3)
            self.turn()
        self._asked.put(None)
        if not self.busy:
            self._helper.join()
            self._done.close()

    def _go_on(self, next_step: Callable[[], Callable[[], object]]) -> None:
        try:
            work = next_step()
        except StopIteration:
            self._steps = None
        else:
            self._asked.put(work)

    def _help(self) -> None:
        while (work := self._asked.get()) is not None:
            try:
                self._done.put((work(), None))
            except Exception as error:
                self._done.put((None, error))
