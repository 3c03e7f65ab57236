"""The judge thread: scores -> regions -> verdict, and the slot goes back."""

import select
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2

from inspectd.extract.plan import U8, Plan
from inspectd.judge.image import sample_of
from inspectd.judge.inspect import NOT_CHECKED, inspect
from inspectd.runtime.clock import now_ns
from inspectd.runtime.frame import Ended, Frame, Judgement, Late, Reason, unknown
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import STAGE_WAIT_S, Progress
from inspectd.settings.recipe import ImageLimits


class Criteria(NamedTuple):
    """What the frames of one setup are judged by; `scores` and `picture` show a frame's data in place."""

    plans: Sequence[Plan]
    """The recipe resolved for each camera, by the camera's index."""
    image_limits: ImageLimits
    scores: Callable[[Frame], tuple[U8, U8]]
    picture: Callable[[Frame], U8]


class Judge:
    """Judges frames by the criteria of their setup, added before there is a frame of it, removed later."""

    def __init__(
        self,
        setups: dict[int, Criteria],
        give_back: Callable[[Frame], None],
        failed: Callable[[], None],
    ) -> None:
        self._setups, self._give_back = setups, give_back
        self._failed = failed  # called once, at the first fault
        self._error: Exception | None = None
        self._last_sample: dict[int, U8] = {}  # by camera

    def run(
        self, scored: Handoff[Frame], results: Handoff[Ended | Late], upstream: threading.Event, progress: Progress
    ) -> None:
        """Judge what comes until `upstream` is set and no frame is left."""
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

    def _end(self, frame: Frame, results: Handoff[Ended | Late]) -> None:
        judgement = self._judgement_or_fault(frame)
        self._give_back(frame)
        frame.judge_ns = now_ns()
        is_owned = frame.claim()
        is_late = not is_owned or frame.judge_ns >= frame.deadline_ns
        if is_owned:
            results.put(Ended(frame, unknown(Reason.DEADLINE, "judged too late") if is_late else judgement))
        if is_late and judgement.reason is not Reason.ENGINE:
            results.put(Late(frame, judgement))

    def _judgement_or_fault(self, frame: Frame) -> Judgement:
        """The judgement of a frame; after a fault of ours every frame is UNKNOWN/engine, and the daemon ends."""
        if self._error is None:
            try:
                return self._judgement(frame, self._setups[frame.setup])
            except Exception as error:
                self._error = error
                self._failed()
        return unknown(Reason.ENGINE, "the judge stage failed")

    def _judgement(self, frame: Frame, criteria: Criteria) -> Judgement:
        plan, limits = criteria.plans[frame.camera], criteria.image_limits
        scores, peak = criteria.scores(frame)
        if limits == NOT_CHECKED:  # the picture itself is not looked at
            return inspect(scores, peak, plan)
        previous = self._last_sample.get(frame.camera)
        self._last_sample[frame.camera] = sample = sample_of(criteria.picture(frame))
        return inspect(scores, peak, plan, limits, sample, previous)
