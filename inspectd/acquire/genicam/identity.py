"""Which trigger does a frame show? Decided from all that the frame says of itself.

Pure: no camera, no clock. A frame's number (the trigger counter's value in its chunk data, or its frame id) says
which trigger it shows; what else it says (its frame id, its device time) are witnesses. Where they contradict,
nobody can name the part that it shows, and it ends UNKNOWN. A number that is not newer than those reported never
makes a new part. Numbers that went back or jumped are believed again when two frames in a row agree in all that
they say.
"""

from typing import NamedTuple

from inspectd.acquire.camera import MAX_GAP
from inspectd.acquire.genicam.witnesses import Evidence, Witnesses, count_of, step_between
from inspectd.runtime.frame import Reason

MAX_SURPLUS = 4
"""Frames in a row that show no new trigger after which the numbers are not those of triggers."""
MAX_TIMELESS = 4
"""Frames in a row without a time after which the camera has no clock, and is believed without one."""


class Shown(NamedTuple):
    """The frame is that of a trigger."""

    trigger: int
    """Number of the trigger, by the camera's count."""
    reason: Reason | None = None
    """Why its picture must not be judged; None: it may be."""
    detail: str = ""
    restarted: bool = False
    """The count does not go on from the one before: triggers between may be uncounted."""


class Surplus(NamedTuple):
    """The frame shows no trigger, or one that was reported already."""

    why: str


class _Seen(NamedTuple):
    number: int
    trigger: int


class ByNumber:
    """Frames that carry the number of their trigger: counter, or else frame id."""

    def __init__(self, has_counter: bool, counted: int) -> None:
        """counted: triggers counted so far, at the start; by the counter, if the frames carry its value."""
        self._has_counter = has_counter
        self._name = "counter" if has_counter else "frame id"
        self.last = count_of(counted)
        """The newest count that was reported, with a frame or without."""
        self._newest = _Seen(counted, count_of(counted)) if has_counter else None
        self._suspect: _Seen | None = None  # after it the numbers may have begun again
        self._uses_zero: bool | None = has_counter or None  # of frame ids it shows at the start whether 0 is one
        self._witnesses = Witnesses()
        self._surplus = 0

    def show(self, evidence: Evidence) -> Shown | Surplus:
        """Find out which trigger a frame shows. Frames in the order in which they were delivered."""
        number = evidence.counter if self._has_counter else evidence.frame_id
        if evidence.unfit:
            return self._next(Reason.INCOMPLETE, evidence.unfit)
        if number is None:
            what = "chunk CounterValue" if self._has_counter else "frame id"
            return self._next(
                Reason.INCOMPLETE, f"the frame carries no {what}: it can't be told which part it shows"
            )
        found = self._numbered(number, evidence)
        self._surplus = self._surplus + 1 if isinstance(found, Surplus) else 0
        return found

    @property
    def trouble(self) -> str:
        """Why the numbers can't be those of triggers; empty if they can. Then a new start is due."""
        if self._surplus < MAX_SURPLUS:
            return ""
        return f"{self._surplus} frames in a row show no new part: {self._name} or encoder do not count parts"

    def missing(self, count: int) -> None:
        """The triggers up to this count were reported, and their frames are not waited for any more."""
        self.last = max(self.last, count)

    def reached(self, number: int) -> int:
        """The count that a value read of the counter stands for; the newest one if it can't be the counter's."""
        assert self._newest is not None
        step, _ = step_between(self._newest.number, number, uses_zero=True)
        return max(self.last, self._newest.trigger + step) if 0 <= step <= MAX_GAP else self.last

    def _next(self, reason: Reason, detail: str) -> Shown:
        self.last += 1
        return Shown(self.last, reason, detail)

    def _numbered(self, number: int, evidence: Evidence) -> Shown | Surplus:
        if self._newest is None:
            return self._first(number, evidence)
        step, is_certain = step_between(self._newest.number, number, self._uses_zero)
        has_wrapped = not self._has_counter and number < self._newest.number and step > 0
        is_certain = is_certain and not (has_wrapped and self.last > self._newest.trigger)
        is_later, id_step = self._witnesses.time_is_later(evidence), self._witnesses.id_step(evidence)
        is_far = step > MAX_GAP or (not self._has_counter and self._witnesses.is_too_fast(evidence, step))
        if step == 1 and self._witnesses.stands_still(evidence):
            self._newest = _Seen(number, self._newest.trigger)
            self._witnesses.note(evidence)
            return Surplus("nobody triggered it: the encoder stood still")
        if step > 0 and not is_far:
            has_more = self._has_counter and self._witnesses.has_more_frames(evidence, step)
            doubt = self._doubt(is_certain, is_later, id_step if self._has_counter else None, has_more)
            trigger = self._newest.trigger + step
            seen = _Seen(number, trigger if is_certain else max(trigger, self.last + 1))
            return self._forward(seen, doubt, evidence)
        if is_later is None and id_step is not None and self._has_counter:
            is_later = id_step > 0
        if is_far:
            is_new = is_later is not False
        else:  # the counter of a frame that nobody triggered stands still
            is_new = bool(is_later) and not (step == 0 and self._has_counter)
        if is_new:
            return self._out_of_order(number, evidence)
        if is_later is not False:
            self._witnesses.note(evidence)
        return Surplus(f"its {self._name} came before")

    def _first(self, number: int, evidence: Evidence) -> Shown:
        """The first frame of an acquisition whose ids count. They begin at 0 or 1, or else some may be lost."""
        self._uses_zero = {0: True, 1: False}.get(number)
        self.last += 1
        self._newest = _Seen(number, self.last)
        self._witnesses.note(evidence)
        return Shown(self.last, restarted=number > 1)

    def _doubt(self, is_certain: bool, is_later: bool | None, id_step: int | None, has_more_frames: bool) -> str:
        if not is_certain:
            return "the frame ids began again, and whether 0 is one of them is not known"
        if is_later is False:
            return f"by its {self._name} it is a new frame, by the device's clock it is not"
        if id_step is not None and id_step <= 0:
            return "by its counter it is a new frame, by its frame id it is not"
        if has_more_frames:
            return "more frames were counted than triggers"
        return ""

    def _forward(self, seen: _Seen, doubt: str, evidence: Evidence) -> Shown | Surplus:
        assert self._newest is not None
        self._witnesses.note(evidence, seen.trigger - self._newest.trigger)
        self._newest, self._suspect = seen, None
        if seen.number == 0:
            self._uses_zero = True
        if seen.trigger <= self.last:
            return Surplus("its trigger was reported already")
        self.last = seen.trigger
        if doubt:
            return Shown(seen.trigger, Reason.CAMERA, doubt, restarted=not self._has_counter)
        return Shown(seen.trigger)

    def _out_of_order(self, number: int, evidence: Evidence) -> Shown:
        """A new frame whose number went back, or jumped: UNKNOWN, until the next one agrees with it."""
        assert self._newest is not None
        witnesses = self._witnesses
        before, self._suspect = self._suspect, _Seen(number, self.last + 1)
        step, is_certain = (0, False) if before is None else step_between(before.number, number, self._uses_zero)
        agrees = witnesses.time_is_later(evidence) is not False
        agrees = agrees and not (self._has_counter and witnesses.has_more_frames(evidence, step))
        witnesses.note(evidence)
        if before is not None and agrees and 0 < step <= MAX_GAP and is_certain:
            self.last = count_of(number) if self._has_counter else max(self.last + 1, before.trigger + step)
            self._newest, self._suspect = _Seen(number, self.last), None
            return Shown(self.last, restarted=True)
        return self._next(Reason.CAMERA, f"the camera's {self._name} went from {self._newest.number} to {number}")


class ByTrigger:
    """Frames of software triggers, which are sent one at a time: the next when the last one's frame was shown."""

    def __init__(self, counted: int) -> None:
        self.last = counted
        """The newest trigger whose frame came, or was given up."""
        self._pending: tuple[int, int] | None = None
        self._timeless = MAX_TIMELESS  # frames without a time since one that had it
        self._witnesses = Witnesses()

    def sent(self, count: int, sent_ns: int) -> None:
        """A trigger is about to be sent. sent_ns: now, on the host's monotonic clock."""
        self._pending = count, sent_ns

    def missing(self, count: int) -> None:
        """The frame of the pending trigger is given up."""
        self.last, self._pending = max(self.last, count), None

    def show(self, evidence: Evidence) -> Shown | Surplus:
        """Find out whether a frame is that of the pending trigger. Frames in the order of their delivery."""
        is_later, id_step = self._witnesses.time_is_later(evidence), self._witnesses.id_step(evidence)
        if self._pending is None:
            self._witnesses.note(evidence)
            return Surplus("nobody triggered it")
        count, sent_ns = self._pending
        if evidence.unfit:
            self._witnesses.passed(1)
            return self._shown(count, Reason.INCOMPLETE, evidence.unfit)
        if is_later is False or (is_later is None and id_step is not None and id_step <= 0):
            return Surplus("it came before")
        has_more_frames = self._witnesses.has_more_frames(evidence, 1)
        if evidence.exposed_ns is not None and evidence.exposed_ns < sent_ns:
            self._witnesses.note(evidence)
            return Surplus("it was exposed before its trigger was sent")
        self._witnesses.note(evidence, 1)
        self._timeless = 0 if evidence.exposed_ns is not None else min(self._timeless + 1, MAX_TIMELESS)
        if has_more_frames:
            return self._shown(count, Reason.CAMERA, "more frames were counted than triggers")
        if 0 < self._timeless < MAX_TIMELESS:
            return self._shown(count, Reason.CAMERA, "its time can't be told, and so not whether it was triggered")
        return self._shown(count)

    def _shown(self, count: int, reason: Reason | None = None, detail: str = "") -> Shown:
        self.last, self._pending = count, None
        return Shown(count, reason, detail)
