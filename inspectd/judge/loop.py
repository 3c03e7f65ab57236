"""The judge thread: scores -> regions -> verdict, and the slot goes back."""

import select
import threading
from collections.abc import Callable, Sequence

import cv2

from inspectd.clock import now_ns
from inspectd.config import ImageLimits
from inspectd.extract.plan import U8, Plan
from inspectd.extract.regions import extract_regions
from inspectd.handoff import Handoff
from inspectd.health import STAGE_WAIT_S, Ledger, Progress
from inspectd.judge.image import sample_of, unfitness
from inspectd.judge.verdict import judge
from inspectd.results import Ended, Frame, Judgement, Reason, Verdict, unknown


class Judge:
    """Plans by camera; `scores` and `picture` show a frame's data in place until `give_back`."""

    def __init__(
        self,
        plans: Sequence[Plan],
        image_limits: ImageLimits,
        scores: Callable[[Frame], tuple[U8, U8]],
        picture: Callable[[Frame], U8],
        give_back: Callable[[Frame], None],
        ledger: Ledger,
        failed: Callable[[], None],
    ) -> None:
        self._plans, self._limits = plans, image_limits
        self._scores, self._picture, self._give_back = scores, picture, give_back
        self._ledger = ledger
        self._failed = failed  # called once, at the first fault
        self._error: Exception | None = None
        self._checks_images = image_limits != ImageLimits()
        self._last_sample: list[U8 | None] = [None] * len(plans)

    def run(
        self, scored: Handoff[Frame], results: Handoff[Ended], upstream: threading.Event, progress: Progress
    ) -> None:
        """Until `upstream` is set and no frame is left."""
        cv2.setNumThreads(1)  # maps are small: OpenCV's own threads would only take cores from the engine
        poll = select.poll()
        poll.register(scored, select.POLLIN)
        while not (upstream.is_set() and not len(scored)):
            progress.stamp("judge")
            poll.poll(STAGE_WAIT_S * 1e3)
            for frame in scored.drain():
                self._end(frame, results)
        if self._error is not None:
            raise self._error

    def _end(self, frame: Frame, results: Handoff[Ended]) -> None:
        judgement = self._judgement_or_fault(frame)
        self._give_back(frame)
        frame.judge_ns = now_ns()
        if not frame.claim():
            self._ledger.late(frame.camera)
        elif frame.judge_ns >= frame.deadline_ns:
            results.put(Ended(frame, unknown(Reason.DEADLINE, "judged too late")))
        else:
            results.put(Ended(frame, judgement))

    def _judgement_or_fault(self, frame: Frame) -> Judgement:
        """After a fault of ours every frame is UNKNOWN/engine, and the daemon ends."""
        if self._error is None:
            try:
                return self._judgement(frame)
            except Exception as error:
                self._error = error
                self._failed()
        return unknown(Reason.ENGINE, "the judge stage failed")

    def _judgement(self, frame: Frame) -> Judgement:
        plan = self._plans[frame.camera]
        scores, peak = self._scores(frame)
        judgement = judge(extract_regions(scores, peak, plan), plan)
        if self._checks_images:
            sample = sample_of(self._picture(frame))
            unfit = unfitness(sample, self._last_sample[frame.camera], self._limits)
            self._last_sample[frame.camera] = sample
            if unfit:
                return Judgement(Verdict.UNKNOWN, Reason.IMAGE, judgement.regions, judgement.truncated, unfit)
        return judgement
