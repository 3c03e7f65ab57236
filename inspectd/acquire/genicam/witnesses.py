"""What a frame says of itself, and what that proves: numbers that wrap around, and witnesses beside them."""

from typing import NamedTuple

WRAPS = 2**16, 2**32
"""Narrow numbers begin again after so many: block ids of GigE Vision 1.x, 32-bit ids and counters, also signed."""
WRAP_WINDOW = 1024
"""A number that has wrapped around was so near to the end of its range, and is so near to its beginning."""
PROVEN = 2
"""Frames in a row whose ids went up, after which frame ids are a witness: some cameras send 0 for ever."""
MANY, HASTE = 16, 4
"""More steps than MANY at once are not those of frames if they came HASTE times as fast as frames ever did: a
camera exposes no faster than it can."""


class Evidence(NamedTuple):
    """What a delivered buffer says of its frame; None where it does not say."""

    frame_id: int | None
    unfit: str = ""
    """Why the frame is not whole; then nothing that it says proves anything. Empty: it is whole."""
    counter: int | None = None
    """The trigger counter's value at the exposure, of any width and sign, as it was read."""
    encoder: int | None = None
    """The encoder's value at the exposure."""
    device_ns: int | None = None
    """Moment of the exposure on the device's clock in nanoseconds, where that can be trusted."""
    exposed_ns: int | None = None
    """The latest that this moment can have been on the host's monotonic clock."""


class Witnesses:
    """What the newest frame said beside its number, to compare the next one with."""

    def __init__(self) -> None:
        self._id: int | None = None
        self._fitting: int | None = None  # the newest frame id that fits those before, or the one after it
        self._since = 0  # triggers since that
        self._device_ns: int | None = None
        self._encoder: int | None = None
        self._shortest_ns: int | None = None  # from one frame to the next
        self._proven = 0

    def time_is_later(self, evidence: Evidence) -> bool | None:
        """Whether the frame was exposed after the newest one by the device's clock; None if that is not known."""
        if evidence.device_ns is None or self._device_ns is None:
            return None
        return evidence.device_ns > self._device_ns

    def id_step(self, evidence: Evidence) -> int | None:
        """Frame ids from the newest frame to this one; None if frame ids are no witness."""
        if evidence.frame_id is None or self._id is None or self._proven < PROVEN:
            return None
        return _frames_from(self._id, evidence.frame_id)

    def has_more_frames(self, evidence: Evidence, step: int) -> bool:
        """Whether more frames than triggers were counted since the newest frame, `step` triggers ago: then it may
        be one that nobody triggered, while the trigger's own was lost. Of the first frame after a start its own
        id tells, unless that is so high that the camera seems to count from elsewhere.
        """
        if evidence.frame_id is None:
            return False
        triggers = self._since + step
        if self._fitting is None:
            return triggers < evidence.frame_id <= triggers + MANY
        since_newest = _frames_from(self._id, evidence.frame_id)
        return since_newest > step or _frames_from(self._fitting, evidence.frame_id) > triggers

    def stands_still(self, evidence: Evidence) -> bool:
        """Whether the belt has not moved since the newest frame, by its encoder."""
        return evidence.encoder is not None and evidence.encoder == self._encoder

    def is_too_fast(self, evidence: Evidence, step: int) -> bool:
        """Whether no camera exposes so many frames in the time since the newest one."""
        if step <= MANY or self._shortest_ns is None or not self.time_is_later(evidence):
            return False
        assert evidence.device_ns is not None and self._device_ns is not None
        return (evidence.device_ns - self._device_ns) * HASTE < self._shortest_ns * step

    def note(self, evidence: Evidence, step: int = 0) -> None:
        """The frame is the newest one from now on, `step` after the one before. A witness that contradicted has to
        prove itself once more.
        """
        if step == 1 and self.time_is_later(evidence):
            assert evidence.device_ns is not None and self._device_ns is not None
            took_ns = evidence.device_ns - self._device_ns
            self._shortest_ns = min(took_ns, self._shortest_ns or took_ns)
        self._note_id(evidence.frame_id, step)
        goes_up = evidence.frame_id is not None and _frames_from(self._id, evidence.frame_id) > 0
        self._proven = self._proven + 1 if goes_up else 0
        self._id, self._device_ns, self._encoder = evidence.frame_id, evidence.device_ns, evidence.encoder

    def passed(self, step: int) -> None:
        """Triggers have passed whose frames prove nothing, `step` of them."""
        self._since += step
        self._id = None

    def _note_id(self, frame_id: int | None, step: int) -> None:
        """Keep the newest id to count frames from; a single wrong one is none."""
        self._since += step
        if frame_id is None:
            return
        fits = 0 < _frames_from(self._fitting, frame_id) <= self._since + MANY
        follows = 0 < _frames_from(self._id, frame_id) <= step + MANY
        if self._fitting is None or fits or follows:
            self._fitting, self._since = frame_id, 0


def _frames_from(before: int | None, frame_id: int) -> int:
    """Frames from one frame id to another, 0 or less if it is not later; 0 where there is none before."""
    return 0 if before is None else step_between(before, frame_id, uses_zero=False)[0]


def count_of(number: int) -> int:
    """The count that a counter's value stands for: a signed 32-bit one goes below 0 where others go on."""
    return number if number >= 0 else number % WRAPS[-1]


def step_between(before: int, now: int, uses_zero: bool | None) -> tuple[int, bool]:
    """Steps from one number to a later one, and whether that is certain; 0 or less: it is not later.

    A number near the end of a narrow range that is followed by one near the beginning has wrapped around.
    uses_zero: whether 0 is a number then, or 1 follows on the highest; None: not known. Where it seems not to be,
    a loss just then leaves it open whether 0 was lost.
    """
    for wrap in WRAPS:
        for top in (wrap, wrap // 2):  # unsigned; signed, whose lowest number follows on the highest
            if _is_over(before, now, top, wrap):
                is_through = uses_zero or now <= 0
                step = now - before + wrap - (0 if is_through else 1)
                return step, is_through or (uses_zero is False and step == 1)
            if _is_over(now, before, top, wrap):  # one from before the wrap that comes late
                return now - before - wrap, True
    return now - before, True


def _is_over(before: int, now: int, top: int, wrap: int) -> bool:
    """Whether one number is just before the end of a range of `wrap` numbers, and the other just after it."""
    return top - WRAP_WINDOW <= before < top and top - wrap <= now <= top - wrap + WRAP_WINDOW
