"""One scenario on its way: the triggers that were sent, and which of them each result is of."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from inspectd.bench.line import CAMERA, BenchLine
from inspectd.runtime.frame import Verdict
from inspectd.subscribe import RefusedError
from inspectd.wire.results import Result

RATE_HZ = 20.0
"""Pulses on a line per second; software triggers are as fast as their results."""
ANSWER_S = 2.0
"""Longest wait for the result of a software trigger before the next one is sent."""
QUIET_S = 3.0
"""Silence after which no more results are waited for."""
SETTLE_S = 45.0
REOPEN_S = 0.3
JUDGED = {Verdict.PASS, Verdict.FAIL}


class Fired(NamedTuple):
    """A trigger of a trial."""

    number: int
    """The camera's own count with this trigger; 0 = it did not take it. Trigger n shows picture n - 1."""
    at_ns: int
    """On the monotonic clock; 0 = not known."""
    part_ref: str = ""


class Trial:
    """Triggers on one line, and the results that came since it was made."""

    def __init__(self, line: BenchLine, trigger: str, part_id: str) -> None:
        """trigger, part_id: the camera's, as in the config."""
        self.line, self.rig = line, line.rig
        self.fired: list[Fired] = []
        self._trigger, self._part_id = trigger, part_id
        self._first = self.rig.memory.counter
        self._books = line.view.books.triggered if line.view else 0
        line.results.clear()

    # ---- triggers ----

    def fire(self, seconds: float) -> None:
        """Send triggers for so long; a camera in free run sends itself."""
        until_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < until_s:
            match self._trigger:
                case "line":
                    self.burst(1)
                    self.line.take_for(now_s + 1 / RATE_HZ - time.monotonic())
                case "software":
                    self._order()
                case _:
                    self.line.take_for(until_s - now_s)

    def burst(self, count: int) -> None:
        """Send so many pulses one right after the other."""
        for _ in range(count):
            before, at_ns = self.rig.memory.counter, time.monotonic_ns()
            if self.rig.pulse() == before + 1:  # it listens
                self.fired.append(Fired(before + 1, at_ns))

    def _order(self) -> None:
        """Have one software trigger sent, and wait for its result."""
        part_ref, before, at_ns = str(len(self.fired)), self.rig.memory.counter, time.monotonic_ns()
        try:
            self.line.control.request("trigger", camera=CAMERA, part_ref=part_ref)
        except RefusedError:
            self.line.take_for(1 / RATE_HZ)
            return
        until_s = time.monotonic() + ANSWER_S
        while time.monotonic() < until_s and not any(r.part_ref == part_ref for r in self.results):
            self.line.take(0.05)
        took = self.rig.memory.counter > before
        self.fired.append(Fired(before + 1 if took else 0, at_ns, part_ref))

    def reopen(self) -> None:
        """Pull the cable for a moment: the camera is opened and started anew."""
        self.rig.unplug(REOPEN_S)

    def reopen_and_wait(self) -> None:
        """The same, and wait until it streams again; raises UserError if it does not."""
        before = self._openings
        self.reopen()
        self.line.until(
            lambda: self._openings > before and self.line.view is not None and self.line.view.state != "dead",
            SETTLE_S,
            "the camera does not come back",
        )

    @property
    def _openings(self) -> int:
        view = self.line.view
        return view.losses.reconnects + view.process_starts if view is not None else 0

    def end(self) -> None:
        """Wait for the last results. Of a camera in free run the trial ends with its newest exposure."""
        if self._trigger == "free_run":
            self.fired = [Fired(n, 0) for n in range(self._first + 1, self.rig.memory.counter + 1)]
        self.settle()

    def settle(self) -> None:
        """Wait until every trigger has its result, or no more come; raises UserError if the camera is gone."""
        heard_s, count = time.monotonic(), -1

        def is_over() -> bool:
            nonlocal heard_s, count
            if len(self.results) != count:
                heard_s, count = time.monotonic(), len(self.results)
            view = self.line.view
            if view is None or view.state == "dead" or (view.in_flight and self._trigger != "free_run"):
                return False
            has_all = self.parts >= len(self.fired) and self.books_agree  # a heartbeat tells of the books later
            return has_all or time.monotonic() - heard_s > QUIET_S

        self.line.until(is_over, SETTLE_S, "the camera does not come back")

    # ---- results ----

    @property
    def results(self) -> list[Result]:
        """The results of this trial's triggers, in the order of their parts."""
        found = sorted((received.result for received in self.line.results), key=lambda r: r.part_id)
        if self._trigger != "free_run":
            return found
        last = self.fired[-1].number if self.fired else self.rig.memory.counter
        return [r for r in found if self._first < r.frame_id <= last]

    @property
    def books_agree(self) -> bool:
        """Whether the daemon's books balance, and have as many triggers as there are results."""
        view = self.line.view
        if view is None or not view.balanced:
            return False
        return self._trigger == "free_run" or view.books.triggered - self._books == self.parts

    @property
    def parts(self) -> int:
        """Number of parts that have a result; some have one together."""
        return sum(result.parts for result in self.results)

    def numbers(self) -> list[int]:
        """The number of the trigger that each result is of, in the order of `results`."""
        return numbers_of(self.results, self.fired, self._trigger, self._part_id)

    def first_judged_ns(self, after_ns: int) -> int | None:
        """Moment of the first trigger after this one whose part was judged; None if there is none yet."""
        moments = (moment_ns(r) for r in self.results if r.verdict in JUDGED)
        return min((moment for moment in moments if moment > after_ns), default=None)


def numbers_of(results: list[Result], fired: list[Fired], trigger: str, part_id: str) -> list[int]:
    """Return the number of the trigger that each result is of; 0 = none that was sent, or not known.

    Software triggers are known by their part's name, others by the camera's count of them where it has one. Else
    by their order; where a result says that the counting restarted, the next part that was judged by its time.
    """
    if trigger == "software":
        named = {one.part_ref: one.number for one in fired}
        return [named.get(result.part_ref, 0) for result in results]
    if part_id == "counter":
        sent = {one.number: one.number for one in fired}
        short = {number % 2**16: number for number in sent}  # of a counter that has few bits
        return [sent.get(r.frame_id, short.get(r.frame_id % 2**16, 0)) for r in results]
    return list(_in_order(results, fired))


def _in_order(results: list[Result], fired: list[Fired]) -> Iterator[int]:
    index: int | None = 0
    for result in results:
        if result.counting_restarted:
            index = None
        if index is None and fired and result.verdict in JUDGED:
            moment = moment_ns(result)
            index = min(range(len(fired)), key=lambda i: abs(fired[i].at_ns - moment))
        yield fired[index].number if index is not None and index < len(fired) else 0
        index = None if index is None else index + result.parts


def moment_ns(result: Result) -> int:
    """Moment of a result's trigger, on the monotonic clock in ns."""
    return result.times.trigger_utc_ns - time.time_ns() + time.monotonic_ns()
