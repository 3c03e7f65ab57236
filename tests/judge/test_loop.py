"""The judge thread's loop over real score maps."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from inspectd.judge.loop import Criteria, Judge
from inspectd.runtime.frame import Ended, Frame, Late, Reason, Verdict
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.settings.recipe import ImageLimits, Limits
from tests.makers import frame, plan_for


class Bench:
    """A judge with two cameras; frame n of it has the score map and the picture of slot n."""

    def __init__(self, levels: Sequence[int], limits: ImageLimits | None = None) -> None:
        self.plans = [plan_for(), plan_for((0, 0, 96, 64))]
        self.levels = levels
        self.pictures = [np.full((64, 64, 1), 50 + i, np.uint8) for i in range(len(levels))]
        self.returned: list[int] = []
        self.failures: list[int] = []
        self.scored: Handoff[Frame] = Handoff()
        self.results: Handoff[Ended | Late] = Handoff()
        own = Criteria(self.plans, limits or ImageLimits(), self.scores, lambda f: self.pictures[f.slot])
        self.setups = {1: own}
        self.judge = Judge(self.setups, lambda f: self.returned.append(f.slot), lambda: self.failures.append(1))

    def scores(self, of: Frame) -> tuple[Any, Any]:
        scores = np.zeros(self.plans[of.camera].floor.shape, np.uint8)
        scores[0, 3, 4] = self.levels[of.slot]
        return scores, scores.max(axis=(1, 2))

    def run(self, frames: Sequence[Frame]) -> list[Ended | Late]:
        for one in frames:
            self.scored.put(one)
        upstream = threading.Event()
        upstream.set()
        self.judge.run(self.scored, self.results, upstream, Progress(["judge"]))
        return list(self.results.drain())


def test_pass_fail_and_unknown_in_order() -> None:
    bench = Bench([0, 120, 255, 101])
    frames = [frame(part, part % 2, slot=part) for part in range(4)]
    ended = bench.run(frames)
    assert [one.frame for one in ended] == frames
    assert [one.judgement.verdict for one in ended] == [Verdict.PASS, Verdict.UNKNOWN, Verdict.FAIL, Verdict.PASS]
    assert [one.judgement.reason for one in ended] == [
        Reason.NONE, Reason.UNDECIDED, Reason.DEFECT, Reason.NONE,
    ]  # fmt: skip
    assert bench.returned == [0, 1, 2, 3]
    assert all(not one.open and one.judge_ns > 0 for one in frames)


def test_an_answer_after_the_deadline_is_unknown() -> None:
    ended, late = Bench([0]).run([frame(deadline_s=0, slot=0)])
    assert isinstance(ended, Ended) and isinstance(late, Late)
    assert (ended.judgement.verdict, ended.judgement.reason) == (Verdict.UNKNOWN, Reason.DEADLINE)
    assert late.judgement.verdict is Verdict.PASS


def test_a_frame_that_has_its_result_gets_no_second_one() -> None:
    bench = Bench([255])
    one = frame(slot=0)
    one.claim()
    (late,) = bench.run([one])
    assert isinstance(late, Late) and late.frame is one
    assert (late.judgement.verdict, len(late.judgement.regions)) == (Verdict.FAIL, 1)
    assert bench.returned == [0]


def test_a_frame_is_judged_by_the_setup_that_it_was_taken_under() -> None:
    bench = Bench([120, 120])
    strict = plan_for(limits={"spot": Limits(suspect=0.3, reject=0.4)})
    bench.setups[2] = bench.setups[1]._replace(plans=[strict, strict])
    old, new = frame(1, slot=0), frame(2, slot=1)
    new.setup = 2
    assert [one.judgement.verdict for one in bench.run([old, new])] == [Verdict.UNKNOWN, Verdict.FAIL]


def test_an_unfit_picture_is_unknown_whatever_the_scores_say() -> None:
    bench = Bench([0, 255], ImageLimits(min_mean=51))
    dark, bright = bench.run([frame(1, slot=0), frame(2, slot=1)])
    assert (dark.judgement.verdict, dark.judgement.reason) == (Verdict.UNKNOWN, Reason.IMAGE)
    assert dark.judgement.detail.startswith("too dark")
    assert bright.judgement.verdict is Verdict.FAIL


def test_each_cameras_picture_is_compared_with_its_own_last_one() -> None:
    bench = Bench([0, 0], ImageLimits(refuse_identical=True))
    frames = [
        frame(1, 0, slot=0),
        frame(2, 1, slot=0),
        frame(3, 0, slot=1),
        frame(4, 1, slot=0),
        frame(5, 0, slot=0),
    ]
    verdicts = [ended.judgement.verdict for ended in bench.run(frames)]
    assert verdicts == [Verdict.PASS, Verdict.PASS, Verdict.PASS, Verdict.UNKNOWN, Verdict.PASS]


def test_a_fault_leaves_no_frame_without_a_result_and_then_ends_the_stage() -> None:
    bench = Bench([0, 255])
    bench.pictures.clear()
    bench.levels = [0]  # slot 1 has no score map any more: an IndexError inside the judge
    frames = [frame(part, slot=slot) for part, slot in enumerate((0, 1, 0, 1, 0))]
    late = frame(9, slot=0)
    late.claim()
    with pytest.raises(IndexError):
        bench.run([*frames, late])
    ended = list(bench.results.drain())
    assert [one.frame for one in ended] == frames
    assert [one.judgement.verdict for one in ended] == [Verdict.PASS] + [Verdict.UNKNOWN] * 4
    assert {one.judgement.reason for one in ended[1:]} == {Reason.ENGINE}
    assert bench.failures == [1]
    assert bench.returned == [0, 1, 0, 1, 0, 0]


def test_the_loop_waits_for_upstream() -> None:
    bench = Bench([0] * 5)
    upstream, progress = threading.Event(), Progress(["judge"])
    thread = threading.Thread(target=bench.judge.run, args=(bench.scored, bench.results, upstream, progress))
    thread.start()
    for part in range(5):
        bench.scored.put(frame(part, slot=part))
    upstream.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(bench.results) == 5
