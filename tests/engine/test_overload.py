"""The engine's loop when more parts come than it can judge: the real loop, its clock and its device played."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.engine.loop import Engine, FrameSource
from inspectd.runtime.frame import Ended, Frame, Late, Reason
from inspectd.runtime.handoff import Handoff
from tests.engine.test_loop import TestSource
from tests.makers import examples

CAMERAS, SLOTS, S, MS = 4, 6, 1_000_000_000, 1_000_000
JUDGING = MS
Took = Callable[[int], int]
"""Nanoseconds that the device works on a frame which it begins at this moment."""


class PlayedDevice:
    """A device that works on one frame after the other, in the played time."""

    description = "played"
    fault: Exception | None = None

    def __init__(self, line: "PlayedLine", took: Took, depth: int) -> None:
        self.depth, self.free_at, self.busy = depth, 0, 0
        self.completed: Handoff[Frame] = Handoff()
        self._line, self._took = line, took

    def submit(self, frame: Frame) -> None:
        began = max(self._line.now, self.free_at)
        took = self._took(began)
        self.free_at, self.busy = began + took, self.busy + took
        self._line.later(self.free_at, self._line.completed, frame)

    def finish(self, frame: Frame) -> None:
        pass


class PlayedLine:
    """Cameras, the real loop, and a judge who needs JUDGING for each frame."""

    def __init__(self, took: Took, deadline: int, depth: int = 2) -> None:
        self.now = 0
        self._deadline = deadline
        self._events: list[tuple[int, int, Callable[..., None], int | Frame]] = []
        self._sources = [TestSource() for _ in range(CAMERAS)]
        self._held = [0] * CAMERAS
        self._scored: Handoff[Frame] = Handoff()
        self._results: Handoff[Ended | Late] = Handoff()
        self._changed: Handoff[FrameSource] = Handoff()
        self.device = PlayedDevice(self, took, depth)
        self.loop = Engine(
            self._sources, {1: self.device}, self._scored, self._results, self._changed,  # type: ignore[dict-item]
            self._failed, lambda *_: None,
        )  # fmt: skip
        self.in_time: list[Frame] = []
        self.ends: Counter[int] = Counter()
        """Number of results, by part."""
        self.given_up = self.offered = 0
        self._begin()

    def _begin(self) -> None:
        for handoff in (self.device.completed, self.loop._orders, self._changed):
            self.loop._poll.register(handoff)

    def _failed(self) -> None:
        raise AssertionError("the loop failed")

    def close(self) -> None:
        for end in (*self._sources, self._scored, self._results, self._changed, self.device.completed):
            end.close()
        self.loop._orders.close()

    def later(self, at: int, call: Callable[..., None], about: int | Frame) -> None:
        heappush(self._events, (at, len(self.ends) + len(self._events) + self.offered, call, about))

    def offer(self, camera: int, at: int) -> None:
        self.later(at, self._exposed, camera)

    def run(self) -> None:
        """Play until nothing happens any more; each part must then have one result."""
        while self._events:
            self.now, _, call, about = heappop(self._events)
            call(about)
        assert self.offered == len(self.ends) and set(self.ends.values()) <= {1}
        assert self._held == [0] * CAMERAS

    def _exposed(self, camera: int) -> None:
        self.offered += 1
        frame = Frame(camera, self.offered, self.offered, self.now, 0, self.now + self._deadline)
        if self._held[camera] == SLOTS:
            self.ends[frame.part_id] += 1  # an overrun
            return
        self._held[camera] += 1
        frame.slot = 0
        self.later(frame.deadline_ns, self._deadline_came, frame)
        self._sources[camera].hand_over(frame)
        self._turn()

    def completed(self, frame: Frame) -> None:
        self.device.completed.put(frame)
        self._turn()

    def _deadline_came(self, _: Frame) -> None:
        self._changed.put(self._sources[0])
        self._turn()

    def _judged(self, frame: Frame) -> None:
        frame.judge_ns = self.now
        self._held[frame.camera] -= 1
        if frame.claim():
            self.ends[frame.part_id] += 1
            assert self.now < frame.deadline_ns
            self.in_time.append(frame)

    def _turn(self) -> None:
        self.loop._turn()
        for frame in self._scored.drain():
            self.later(self.now + JUDGING, self._judged, frame)
        for ended in self._results.drain():
            assert isinstance(ended, Ended) and ended.judgement.reason is Reason.DEADLINE
            self.ends[ended.frame.part_id] += 1
            self.given_up += 1
        for camera, source in enumerate(self._sources):
            self._held[camera] -= len(source.returned)
            source.returned.clear()

    def shares(self, since: int = 0) -> list[int]:
        """Parts judged in time, by camera, of those exposed since a moment."""
        count = Counter(frame.camera for frame in self.in_time if frame.trigger_ns >= since)
        return [count[camera] for camera in range(CAMERAS)]


@contextmanager
def played(took: Took, deadline: int, depth: int = 2) -> Iterator[PlayedLine]:
    line = PlayedLine(took, deadline, depth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inspectd.engine.loop.now_ns", lambda: line.now)
        yield line
    line.close()


def jittered(seed: int, least: int, mean_more: float) -> Took:
    """Durations of a device that is never faster than `least`, and by a part of it slower, at random."""
    rng = random.Random(seed)
    return lambda _: int(least * (1 + mean_more * rng.expovariate(1)))


def offer_all(line: PlayedLine, per_s: float, until: int, in_step: bool) -> None:
    """Offer so many parts per second, the cameras in turn or all in the same moment."""
    for number in range(int(per_s * until / S)):
        turn = number // CAMERAS * CAMERAS if in_step else number
        line.offer(number % CAMERAS, int(turn / per_s * S) + number % CAMERAS)


@given(
    seed=st.integers(0, 999),
    load=st.floats(0.5, 5.0),
    more=st.floats(0.0, 0.3),
    depth=st.integers(1, 3),
    deadline=st.integers(8, 40),
    in_step=st.booleans(),
)
@examples(20)
def test_what_is_judged_in_time_does_not_fall_beyond_saturation(
    seed: int, load: float, more: float, depth: int, deadline: int, in_step: bool
) -> None:
    """At any load as much as the device can do, shared evenly: deadlines of 8 inferences or more."""
    least, length = 10 * MS, 8 * S
    possible_hz = S / (least * (1 + more))
    with played(jittered(seed, least, more), deadline * least, depth) as line:
        offer_all(line, load * possible_hz, length, in_step)
        line.run()
    wanted = min(1.0, load) * possible_hz * length / S
    assert len(line.in_time) >= 0.93 * wanted
    assert min(line.shares()) >= 0.8 * len(line.in_time) / CAMERAS


@pytest.mark.parametrize("in_step", [False, True])
def test_the_output_at_each_load_is_that_of_the_saturated_line(in_step: bool) -> None:
    """The loads at which the output fell: 48, 80, 120, 200 parts/s of four cameras, 60 of them possible."""
    found = []
    for per_s in (48, 60, 80, 120, 200):
        with played(jittered(1, 15 * MS, 1 / 9), 250 * MS) as line:
            offer_all(line, per_s, 10 * S, in_step)
            line.run()
        found.append(len(line.in_time) / 10)
        assert min(line.shares()) >= 0.9 * len(line.in_time) / CAMERAS
    assert found[0] >= 47.9
    assert min(found[2:]) >= 0.97 * max(found)


def test_frames_that_end_late_are_no_output() -> None:
    """Beyond saturation the device works for what is in time, and for next to nothing else."""
    with played(jittered(2, 15 * MS, 1 / 9), 250 * MS) as line:
        offer_all(line, 120, 10 * S, False)
        line.run()
    worked = line.offered - line.given_up - len(line.in_time)
    assert line.device.busy >= 0.98 * 10 * S
    assert worked <= 0.02 * len(line.in_time)


@pytest.mark.parametrize("in_step", [False, True])
def test_a_camera_that_offers_little_gets_all_of_it(in_step: bool) -> None:
    with played(jittered(3, 15 * MS, 0.1), 250 * MS) as line:
        for number in range(2000):
            line.offer(0, number * 5 * MS)
        for number in range(100):
            for camera in (1, 2, 3):
                line.offer(camera, number * 100 * MS + (0 if in_step else camera * 7 * MS))
        line.run()
    first, *others = line.shares()
    assert min(others) >= 97
    assert first >= 0.95 * (10 * S / (16.5 * MS) - 300)


def test_the_longest_deadlines_do_not_push_the_others_out() -> None:
    """Two cameras with a sixth of the others' time; deadlines come with the setup, so they are changed by hand."""
    with played(jittered(4, 15 * MS, 0.1), 300 * MS) as line:
        offer_all(line, 120, 10 * S, False)
        exposed = line._exposed

        def hurried(camera: int) -> None:
            line._deadline = 300 * MS if camera < 2 else 100 * MS
            exposed(camera)

        line._events = [(at, number, hurried, about) for at, number, _, about in line._events]
        line.run()
    assert len(line.in_time) >= 0.93 * 10 * S / (16.5 * MS)
    assert min(line.shares()) >= 0.8 * len(line.in_time) / CAMERAS


@pytest.mark.parametrize("in_step", [False, True])
@pytest.mark.parametrize("spell", [3, 20])
def test_a_slow_spell_of_the_device_is_over_when_it_is_over(in_step: bool, spell: int) -> None:
    """So slow that nothing is in time: a second after the last slow inference all is as before, at any load."""
    for per_s in (30, 120):
        slow = iter([20 * MS] * 60 + [400 * MS] * spell)
        ended = []

        def took(began: int, slow: Iterator[int] = slow, ended: list[int] = ended) -> int:
            if (length := next(slow, 0)) == 400 * MS:
                ended[:] = [began + length]
            return length or 20 * MS

        with played(took, 250 * MS) as line:
            offer_all(line, per_s, (5 + spell) * S, in_step)
            line.run()
        since = ended[0] + S
        wanted = min(per_s, 50) * ((5 + spell) * S - since) / S
        assert sum(line.shares(since)) >= 0.93 * wanted
        assert min(line.shares(since)) >= 0.8 * wanted / CAMERAS


def test_rare_stalls_cost_what_they_last() -> None:
    """One inference of a hundred takes 0.2 s more: the others are in time, whichever camera's it was."""
    rng = random.Random(5)
    with played(lambda _: 20 * MS + (200 * MS if rng.random() < 0.01 else 0), 250 * MS) as line:
        offer_all(line, 120, 20 * S, False)
        line.run()
    assert len(line.in_time) >= 0.93 * 20 * S / (22 * MS)
    assert min(line.shares()) >= 0.8 * len(line.in_time) / CAMERAS


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("per_s", [60, 120, 200])
def test_a_deadline_of_three_inferences_still_gets_most_of_the_device(depth: int, per_s: int) -> None:
    with played(jittered(6, 20 * MS, 0.1), 64 * MS, depth) as line:
        offer_all(line, per_s, 10 * S, False)
        line.run()
    assert len(line.in_time) >= 0.8 * 10 * S / (22 * MS)


def test_a_burst_that_just_fits_is_not_given_up() -> None:
    """Eleven parts at once, the device idle before: none is left out for fear that it may take longer."""
    with played(lambda _: 20 * MS, 250 * MS) as line:
        for burst in range(20):
            for number in range(11):
                line.offer(number % CAMERAS, burst * S + number)
        line.run()
    assert len(line.in_time) >= 219
