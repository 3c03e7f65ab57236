"""The engine thread's loop on the real CPU engine; only the camera is played."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import numpy as np
import pytest

from inspectd.engine.backend import Backend
from inspectd.engine.bundle import Bundle, load_bundle
from inspectd.engine.loop import Engine, FrameSource, Switch
from inspectd.engine.openvino import OpenVinoBackend
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import DeviceError
from inspectd.runtime.frame import Ended, Frame, Late, Reason, Verdict, unknown
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.runtime.ring import Ring, create
from inspectd.runtime.slots import Shape
from inspectd.settings.engine import OpenVinoEngine
from tests.bundles import darkness, write_bundle
from tests.makers import frame

SLOTS = 12
SHAPE = Shape(64, 64, 1)


class TestSource:
    """A camera that hands over what the test tells it to."""

    __test__ = False

    def __init__(self) -> None:
        self.name, self.shape = "played", SHAPE
        self.finished = False
        self.connected = True
        self.setup, self.deadline_ns = 1, 0
        self.pending: int | None = None
        self.returned: list[int] = []
        self.due_ns: int | None = None
        self.given_up: list[Ended] = []
        self._items: deque[Frame | Ended] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)

    def hand_over(self, *items: Frame | Ended) -> None:
        self._items.extend(items)
        os.eventfd_write(self._wake, 1)

    def overdue(self) -> Iterator[Ended]:
        self.due_ns = None
        while self.given_up:
            yield self.given_up.pop(0)

    def fileno(self) -> int:
        return self._wake if self.connected else -1

    def read(self) -> Iterator[Frame | Ended]:
        os.eventfd_read(self._wake)
        while self._items:
            yield self._items.popleft()

    def give_back(self, slot: int) -> None:
        self.returned.append(slot)

    @property
    def setups(self) -> set[int]:
        return {self.setup} if self.pending is None else {self.setup, self.pending}

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        if from_part_id:
            self.pending = setup
        else:
            self.setup, self.pending = setup, None
        self.deadline_ns = deadline_ns
        return from_part_id or 1

    def close(self) -> None:
        os.close(self._wake)


class Recording(OpenVinoBackend):
    """The real engine; notes what was submitted, and fails on demand."""

    def reset(self) -> None:
        self.submitted: list[int] = []
        self.fails_on: set[int] = set()
        self.breaks_on: set[int] = set()

    def submit(self, frame: Frame) -> None:
        self.submitted.append(frame.part_id)
        if frame.part_id in self.breaks_on:
            raise RuntimeError("the device is gone")
        super().submit(frame)

    def finish(self, frame: Frame) -> None:
        super().finish(frame)
        if frame.part_id in self.fails_on:
            frame.failure = "out of memory"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(write_bundle(tmp_path_factory.mktemp("b") / "toy", channels=1))


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[tuple[Recording, Ring]]:
    ring = create(SLOTS, SHAPE, "test")
    for slot in range(SLOTS):
        ring.images[slot][...] = np.random.default_rng(slot).integers(0, 256, SHAPE, np.uint8)
    backend = Recording(OpenVinoEngine(threads=1), bundle, [ring, ring])
    yield backend, ring
    backend.close()
    os.close(ring.fd)


class Bench:
    """An engine loop over two cameras."""

    def __init__(self, backend: Recording, ring: Ring) -> None:
        self.ring, self.sources = ring, [TestSource(), TestSource()]
        self.scored: Handoff[Frame] = Handoff()
        self.results: Handoff[Ended | Late] = Handoff()
        self.retired: list[tuple[int, Backend]] = []
        self.changed: Handoff[FrameSource] = Handoff()
        self.use(backend)

    def use(self, backend: Recording) -> None:
        backend.reset()
        self.backend = backend
        self.failures: list[int] = []
        self.error: Exception | None = None
        self.loop = self.make(backend)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def make(self, backend: Backend) -> Engine:
        return Engine(
            self.sources, {1: backend}, self.scored, self.results, self.changed,
            lambda: self.failures.append(1), lambda setup, old: self.retired.append((setup, old)),
        )  # fmt: skip

    def _run(self) -> None:
        try:
            self.loop.run(Progress(["engine"]))
        except Exception as error:
            self.error = error

    def ended(self) -> list[Ended]:
        """The results so far."""
        items = list(self.results.drain())
        assert not any(isinstance(item, Late) for item in items)  # those are the judge's
        return [item for item in items if isinstance(item, Ended)]

    def finish(self) -> None:
        for source in self.sources:
            source.finished = True
        self.changed.put(self.sources[0])


@pytest.fixture
def bench(engine: tuple[Recording, Ring]) -> Iterator[Bench]:
    made = Bench(*engine)
    yield made
    if made.thread.is_alive():
        made.finish()
        made.thread.join(60)
    assert not made.thread.is_alive(), "it would go on polling descriptors that the next test gets"
    for source in made.sources:
        source.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def reasons(ended: list[Ended]) -> list[tuple[int, Reason]]:
    return sorted((one.frame.part_id, one.judgement.reason) for one in ended)


def test_all_frames_come_out_scored(bench: Bench, engine: tuple[Recording, Ring]) -> None:
    backend, ring = engine
    bench.thread.start()
    frames = [frame(n, n % 2, slot=n % SLOTS) for n in range(30)]
    taken: list[Frame] = []
    for start in range(0, 30, 6):
        for one in frames[start : start + 6]:
            bench.sources[one.camera].hand_over(one)
        until(lambda: len(bench.scored) == 6)
        for one in bench.scored.drain():
            scores, peak = backend.scores(one)
            assert np.array_equal(scores, darkness(ring.images[one.slot]))
            assert peak[0] == scores.max()
            assert one.open
            assert one.engine_ns > one.trigger_ns
            taken.append(one)
    bench.finish()
    bench.thread.join(10)
    assert not bench.thread.is_alive()
    assert sorted(one.part_id for one in taken) == list(range(30))
    assert len(bench.results) == 0
    assert [source.returned for source in bench.sources] == [[], []]  # the judge still reads these


def test_the_earliest_deadline_goes_first(bench: Bench) -> None:
    seconds = [50, 20, 40, 10, 60, 30, 15, 5]
    bench.sources[0].hand_over(*(frame(s, deadline_s=s, slot=i) for i, s in enumerate(seconds)))
    bench.thread.start()
    until(lambda: len(bench.scored) == len(seconds))
    assert bench.backend.submitted == sorted(seconds)


def test_what_never_came_goes_straight_to_the_results(bench: Bench) -> None:
    lost = Ended(frame(7), unknown(Reason.LOST))
    bench.sources[1].hand_over(lost, frame(8, 1, slot=0))
    bench.thread.start()
    until(lambda: len(bench.scored) == 1)
    assert bench.ended() == [lost]


def test_what_one_camera_missed_in_an_hour_delays_no_frame_of_another(bench: Bench) -> None:
    """All of it is there at once when the camera is back, and none is forgotten if it has nothing more to say."""
    lost = [Ended(frame(n), unknown(Reason.CAMERA)) for n in range(100_000)]
    bench.sources[0].hand_over(*lost)
    bench.sources[1].hand_over(frame(8, 1, slot=0))
    bench.sources[0].finished = True
    bench.thread.start()
    until(lambda: len(bench.scored) == 1)
    assert len(bench.results) < len(lost) / 2
    bench.finish()
    for _ in bench.scored.drain():
        pass
    bench.thread.join(20)
    assert bench.ended() == lost


def test_expired_frames_end_once_and_their_slots_come_back(bench: Bench) -> None:
    frames = [frame(n, deadline_s=0, slot=n) for n in range(8)]
    bench.sources[0].hand_over(*frames)
    bench.thread.start()
    until(lambda: len(bench.sources[0].returned) + len(bench.scored) == 8)
    bench.finish()
    bench.thread.join(10)
    ended = bench.ended()
    assert reasons(ended) == [(n, Reason.DEADLINE) for n in range(8)]
    assert all(one.judgement.verdict is Verdict.UNKNOWN for one in ended)
    late = [one.slot for one in bench.scored.drain()]  # what came out of the engine after all is still judged
    assert len(late) == len(bench.backend.submitted)
    assert sorted(bench.sources[0].returned + late) == list(range(8))


def test_a_mixture_of_frames_gets_exactly_one_end_each(bench: Bench) -> None:
    bench.thread.start()
    deadlines = np.random.default_rng(0).choice([0.0, 0.001, 0.003, 60.0], 60)
    frames = [frame(n, n % 2, deadline_s=float(s), slot=n % SLOTS) for n, s in enumerate(deadlines)]
    for one in frames:
        bench.sources[one.camera].hand_over(one)
    until(lambda: sum(len(s.returned) for s in bench.sources) + len(bench.scored) == 60)
    scored = [one.part_id for one in bench.scored.drain() if one.open]
    ended = [one.frame.part_id for one in bench.ended()]
    assert sorted(scored + ended) == list(range(60))
    assert all(n in scored for n in range(60) if deadlines[n] == 60)


def test_a_failed_inference_is_unknown_and_the_loop_goes_on(bench: Bench) -> None:
    bench.backend.fails_on = {1, 2}
    late = frame(2, slot=2, deadline_s=0)
    bench.sources[0].hand_over(frame(0, slot=0), frame(1, slot=1), late, frame(3, slot=3))
    bench.thread.start()
    until(lambda: len(bench.scored) == 2 and len(bench.sources[0].returned) == 2)
    ended = bench.ended()
    assert (1, Reason.ENGINE) in reasons(ended)
    assert len(ended) == 2
    assert sorted(bench.sources[0].returned) == [1, 2]
    assert next(e for e in ended if e.frame.part_id == 1).judgement.detail == "out of memory"


def break_down(bench: Bench, bundle: Bundle) -> None:
    """An engine of its own whose second frame breaks it."""
    own = Recording(OpenVinoEngine(threads=1), bundle, [bench.ring, bench.ring])
    bench.use(own)
    own.breaks_on = {2}
    bench.thread.start()
    bench.sources[0].hand_over(*(frame(n, deadline_s=60 + n, slot=n) for n in range(6)))
    until(lambda: bench.failures)
    own.close()


def test_a_broken_engine_ends_every_frame(bench: Bench, bundle: Bundle) -> None:
    break_down(bench, bundle)
    bench.sources[0].hand_over(frame(6, slot=6), frame(7, slot=7))
    until(lambda: len(bench.scored) + len(bench.results) == 8)
    scored = [one.part_id for one in bench.scored.drain()]
    ended = reasons(bench.ended())
    assert sorted(scored + [part for part, _ in ended]) == list(range(8))
    assert {reason for _, reason in ended} == {Reason.ENGINE}
    assert bench.failures == [1]
    bench.loop._working.clear()  # see the next test


def test_a_broken_engine_ends_its_stage(bench: Bench, bundle: Bundle) -> None:
    break_down(bench, bundle)
    bench.finish()
    bench.thread.join(2)
    alive = bench.thread.is_alive()
    bench.loop._working.clear()  # let the thread end
    bench.finish()
    bench.thread.join(5)
    assert isinstance(bench.error, RuntimeError)
    assert not alive


def test_a_device_that_breaks_while_idle_ends_the_stage(bench: Bench, bundle: Bundle) -> None:
    """Before a part comes: else the line would look alive until one does."""
    own = Recording(OpenVinoEngine(threads=1), bundle, [bench.ring, bench.ring])
    bench.use(own)
    bench.thread.start()
    own.fault = DeviceError("the GPU is gone")
    until(lambda: bench.failures)
    bench.sources[0].hand_over(frame(1, slot=1))
    until(lambda: len(bench.results) == 1)
    assert reasons(bench.ended()) == [(1, Reason.ENGINE)]
    bench.finish()
    bench.thread.join(5)
    own.close()
    assert bench.error is own.fault and bench.failures == [1]


def test_a_source_that_connects_later_is_heard(bench: Bench) -> None:
    source = bench.sources[1]
    source.connected = False
    bench.thread.start()
    source.hand_over(frame(1, 1, slot=0))
    time.sleep(0.05)
    assert len(bench.scored) == 0
    source.connected = True
    bench.changed.put(source)
    until(lambda: len(bench.scored) == 1)
    source.connected = False
    bench.changed.put(source)
    bench.sources[0].hand_over(frame(2, 0, slot=1))
    until(lambda: len(bench.scored) == 2)


class Stuck:
    """A device that never answers: the one thing the real engine can't be made to do."""

    description, depth = "stuck", 1
    fault: Exception | None = None

    def __init__(self) -> None:
        self.completed: Handoff[Frame] = Handoff()
        self.held: list[Frame] = []

    def submit(self, frame: Frame) -> None:
        self.held.append(frame)

    def finish(self, frame: Frame) -> None:
        pass

    def let_go(self) -> None:
        for _ in range(len(self.held)):  # not of what the engine thread submits at once in its place
            self.completed.put(self.held.pop(0))


@pytest.mark.alone
def test_every_deadline_is_kept_while_the_engine_is_stuck(bench: Bench) -> None:
    backend = Stuck()
    thread = threading.Thread(
        target=bench.make(backend).run,  # type: ignore[arg-type]
        args=(Progress(["engine"]),),
        daemon=True,
    )
    thread.start()
    bench.sources[0].hand_over(*(frame(n, deadline_s=s, slot=n) for n, s in enumerate((0.02, 0.04, 0.08))))
    time.sleep(0.18)
    in_time = reasons(bench.ended())
    bench.finish()
    until(lambda: backend.let_go() or not thread.is_alive())  # type: ignore[func-returns-value]
    assert in_time == [(n, Reason.DEADLINE) for n in range(3)]


def test_a_device_that_is_lost_while_it_works_ends_the_stage_without_an_answer(bench: Bench) -> None:
    backend = Stuck()
    bench.loop = bench.make(backend)  # type: ignore[arg-type]
    bench.thread.start()
    bench.sources[0].hand_over(*(frame(n, slot=n) for n in range(3)))
    until(lambda: backend.held)
    backend.fault = DeviceError("it does not answer")
    until(lambda: bench.failures)
    bench.finish()
    bench.thread.join(5)
    assert not bench.thread.is_alive() and bench.error is backend.fault
    assert reasons(bench.ended()) == [(n, Reason.ENGINE) for n in range(3)]


class Paced:
    """A device that takes a set time for each frame, one after the other: the real one can't be told how long."""

    description, depth = "paced", 2
    fault: Exception | None = None

    def __init__(self, took_s: float) -> None:
        self.took_s = took_s
        self.completed: Handoff[Frame] = Handoff()
        self.submitted: list[int] = []
        self._queue: SimpleQueue[Frame] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, frame: Frame) -> None:
        self.submitted.append(frame.part_id)
        self._queue.put(frame)

    def finish(self, frame: Frame) -> None:
        pass

    def _work(self) -> None:
        while True:
            frame = self._queue.get()
            time.sleep(self.took_s)
            self.completed.put(frame)


def paced(bench: Bench, took_s: float) -> Paced:
    backend = Paced(took_s)
    bench.loop = bench.make(backend)  # type: ignore[arg-type]
    bench.thread.start()
    return backend


def try_out(bench: Bench, *frames: Frame) -> tuple[list[int], list[tuple[int, str]]]:
    """Hand frames over at once; part ids that were scored in time, and those given up with what was said."""
    in_time: list[int] = []
    ended: list[Ended] = []

    def all_ended() -> bool:
        for one in bench.scored.drain():
            one.judge_ns = now_ns()
            if one.claim():
                in_time.append(one.part_id)
        ended.extend(bench.ended())
        return len(in_time) + len(ended) == len(frames)

    bench.sources[0].hand_over(*frames)
    until(all_ended)
    until(lambda: not bench.loop._working)  # the next ones find the engine idle
    return sorted(in_time), [(one.frame.part_id, one.judgement.detail) for one in ended]


@pytest.mark.alone
def test_a_frame_that_waits_for_the_judge_is_ended_at_its_deadline(bench: Bench) -> None:
    bench.thread.start()
    one = frame(1, slot=0, deadline_s=0.2)
    bench.sources[0].hand_over(one)
    until(lambda: len(bench.scored) == 1)
    assert one.open
    until(lambda: len(bench.results) == 1)
    assert 0 <= now_ns() - one.deadline_ns < 50e6
    (ended,) = bench.ended()
    assert (ended.judgement.reason, ended.judgement.detail) == (Reason.DEADLINE, "it was not judged in time")
    assert bench.sources[0].returned == []  # the judge still reads it


def test_what_the_judge_has_ended_is_not_ended_again(bench: Bench) -> None:
    bench.thread.start()
    one = frame(1, slot=0, deadline_s=0.1)
    bench.sources[0].hand_over(one)
    until(lambda: len(bench.scored) == 1)
    one.claim()
    one.judge_ns = now_ns()
    time.sleep(0.15)
    assert len(bench.results) == 0


@pytest.mark.alone
def test_a_deadline_that_cant_be_met_is_given_up_before_the_inference(bench: Bench) -> None:
    backend = paced(bench, 0.05)
    assert try_out(bench, frame(1, slot=0)) == ([1], [])
    in_time, given_up = try_out(
        bench, frame(2, slot=2, deadline_s=0.03), frame(3, slot=3), frame(4, slot=4, deadline_s=2)
    )
    assert in_time == [3, 4] and 2 not in backend.submitted
    ((part, detail),) = given_up
    said, least_ms = detail.removesuffix(" ms").rsplit(" ", 1)
    assert part == 2 and said == "its deadline can't be met: it takes at least"
    assert float(least_ms) >= 50


@pytest.mark.alone
def test_a_queue_in_front_of_the_engine_does_not_count_as_engine_time(bench: Bench) -> None:
    """A saturated engine answers each frame after two inferences; one that has it to itself needs only one."""
    paced(bench, 0.02)
    try_out(bench, frame(0, slot=0))
    for start in range(1, 60, 6):
        assert len(try_out(bench, *(frame(start + n, slot=n) for n in range(6)))[0]) == 6
    _, given_up = try_out(bench, frame(98, slot=0, deadline_s=0.035), frame(99, slot=1))
    assert not any("can't be met" in said for _, said in given_up)


@pytest.mark.alone
def test_a_line_recovers_from_an_engine_that_was_slow_for_a_while(bench: Bench) -> None:
    backend = paced(bench, 0.08)
    for part in range(3):
        in_time, given_up = try_out(bench, frame(part, slot=0, deadline_s=0.04))
        assert not in_time and given_up == [(part, "the engine did not answer in time")]  # but it was tried
    in_time, given_up = try_out(
        bench, frame(3, slot=0, deadline_s=0.04), frame(4, slot=1, deadline_s=0.041), frame(5, slot=2)
    )
    assert in_time == [5] and len(given_up) == 2 and backend.submitted[-1] == 5
    backend.took_s = 0.005
    seen = [
        try_out(bench, frame(n, slot=0, deadline_s=0.04), frame(n + 1, slot=1, deadline_s=0.04))[0]
        for n in range(10, 30, 2)
    ]
    assert seen[1:] == [[n, n + 1] for n in range(12, 30, 2)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.alone
def test_no_load_leaves_the_line_without_answers(bench: Bench, seed: int) -> None:
    """Whatever the pace has been, and however full the line: what is given up makes room for what can be met."""
    rng = np.random.default_rng(seed)
    backend = paced(bench, 0.0)
    part, answers = 0, 0
    for _ in range(25):
        backend.took_s = float(rng.choice([0.001, 0.004, 0.03]))
        frames = [
            frame(part + n, slot=n, deadline_s=float(rng.choice([0.003, 0.012, 0.06])))
            for n in range(int(rng.integers(1, 8)))
        ]
        in_time, given_up = try_out(bench, *frames)
        assert sorted([*in_time, *(one for one, _ in given_up)]) == [one.part_id for one in frames]
        part += len(frames)
    backend.took_s = 0.002
    for _ in range(10):
        pair = frame(part, slot=0, deadline_s=0.05), frame(part, slot=1, deadline_s=0.05)
        answers += len(try_out(bench, *pair)[0])
    assert answers >= 16


def order(backend: object, from_part_id: int = 0) -> tuple[Switch, list[dict[str, int]]]:
    told: list[dict[str, int]] = []
    return Switch(2, backend, 5, from_part_id, told.append), told  # type: ignore[arg-type]


def of_setup(setup: int, part_id: int, slot: int) -> Frame:
    made = frame(part_id, slot=slot)
    made.setup = setup
    return made


def test_frames_of_two_setups_share_the_engine_and_the_old_one_is_retired_after_its_last(bench: Bench) -> None:
    old, new = Stuck(), Stuck()
    bench.loop = bench.make(old)  # type: ignore[arg-type]
    bench.thread.start()
    bench.sources[0].hand_over(frame(1, slot=0), frame(2, slot=1))
    until(lambda: old.held)
    switch, told = order(new)
    bench.loop.switch(switch)
    until(lambda: told)
    assert told == [{"played": 1}]
    assert [(source.setup, source.deadline_ns) for source in bench.sources] == [(2, 5), (2, 5)]
    bench.sources[0].hand_over(of_setup(2, 3, 2))
    time.sleep(0.05)
    assert len(old.held) == 1 and not new.held  # of both together only one at once
    old.let_go()
    until(lambda: old.held)
    old.let_go()
    until(lambda: new.held)
    assert [one.part_id for one in new.held] == [3]
    first, second = bench.scored.drain()
    first.judge_ns = now_ns()
    time.sleep(0.3)
    assert bench.retired == []  # the judge still reads the scores of the second
    second.judge_ns = now_ns()
    new.let_go()
    until(lambda: bench.retired)
    assert bench.retired == [(1, old)]
    until(lambda: len(bench.scored) == 1)


def test_a_setup_for_a_later_part_keeps_the_old_one_until_then(bench: Bench) -> None:
    old, new, newer = Stuck(), Stuck(), Stuck()
    bench.loop = bench.make(old)  # type: ignore[arg-type]
    bench.thread.start()
    switch, told = order(new, 50)
    bench.loop.switch(switch)
    until(lambda: told)
    assert told == [{"played": 50}]
    time.sleep(0.3)
    assert bench.retired == []
    bench.loop.switch(switch._replace(setup=3, backend=newer, from_part_id=0))  # type: ignore[arg-type]
    until(lambda: len(bench.retired) == 2)
    assert sorted(setup for setup, _ in bench.retired) == [1, 2]  # neither has a part to come any more
    bench.sources[0].hand_over(of_setup(3, 51, 0))
    until(lambda: newer.held)
    newer.let_go()
    until(lambda: len(bench.scored) == 1)


def test_a_device_that_breaks_while_two_are_open_ends_the_stage(bench: Bench) -> None:
    old, new = Stuck(), Stuck()
    bench.loop = bench.make(old)  # type: ignore[arg-type]
    bench.thread.start()
    bench.sources[0].hand_over(frame(1, slot=0))
    until(lambda: old.held)
    switch, told = order(new)
    bench.loop.switch(switch)
    until(lambda: told)
    old.fault = DeviceError("it does not answer")
    until(lambda: bench.failures)
    bench.finish()
    bench.thread.join(5)
    assert not bench.thread.is_alive() and bench.error is old.fault


def test_frames_that_come_while_held_are_not_ready_and_their_slots_come_back(bench: Bench) -> None:
    bench.thread.start()
    bench.loop.hold("paused by the operator")
    bench.sources[0].hand_over(frame(1, slot=3), frame(2, slot=4), Ended(frame(3), unknown(Reason.LOST)))
    until(lambda: len(bench.results) == 3)
    ended = bench.ended()
    assert reasons(ended) == [(1, Reason.NOT_READY), (2, Reason.NOT_READY), (3, Reason.LOST)]
    assert {one.judgement.detail for one in ended[:2]} == {"paused by the operator"}
    assert bench.sources[0].returned == [3, 4] and bench.backend.submitted == []
    bench.loop.hold("")
    bench.sources[0].hand_over(frame(4, slot=3))
    until(lambda: len(bench.scored) == 1)
