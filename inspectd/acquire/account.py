"""The account of a camera's triggers: each becomes exactly one part, whether its picture came or not.

Pure: what the camera process reports goes in, and parts and alarms come out. It reads no clock, no socket and no
ring, so a test can drive it with any sequence of events. Its answers are generators, to be read to their end
before the next event: a camera that was away for an hour has many triggers to account for.
"""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from inspectd.acquire.camera import MAX_GAP
from inspectd.runtime.frame import Reason


class Counted(NamedTuple):
    """One trigger, accounted for: the part, and what became of its picture."""

    part_id: int
    frame_id: int
    """The camera's own count of its triggers."""
    trigger_ns: int
    """Moment of the trigger on the host's monotonic clock; 0 = not known, it shows only now that it was missed."""
    reason: Reason | None
    """Why there is no picture to judge; None: there is one."""
    detail: str
    setup: int
    """Number of the setup that the part is inspected under."""
    deadline_ns: int
    """From the trigger to the result."""
    counting_restarted: bool
    """Triggers before this one may be uncounted."""
    part_ref: str
    """What the world outside calls the part; empty if it did not say."""


class Alarm(NamedTuple):
    """A count that can't be that of triggers, for the log."""

    what: str
    was: int
    now: int


class _From(NamedTuple):
    """From a part on, what parts belong to."""

    part_id: int
    number: int
    """Number of the setup."""
    deadline_ns: int


class Account:
    """The triggers of one camera over all its processes. For one thread, but for `setups` and `away`."""

    def __init__(self, part_id: int, setup: int, deadline_ns: int) -> None:
        """part_id: the last one that had a result before this daemon began; 0 = none."""
        self.part_id = part_id
        """The last one given; part ids only ever grow."""
        self.away = ""
        """Why the camera is stopped for a while: triggers that show meanwhile are not ready, not lost."""
        self._counted: int | None = None  # the trigger accounted for last, by the camera's count
        self._encoder_offset = 0  # of an encoder that was restarted, to what its part ids would have been
        self._restarted = part_id > 0  # triggers before the next frame may be uncounted: the daemon was down
        self._jumped_away = False  # the count jumped while the camera was away; its first frame says so
        self._refs: dict[int, str] = {}  # what the parts of triggers sent are called, until their frames come
        self._setup = _From(0, setup, deadline_ns)
        self._next_setup: _From | None = None  # from a part on that is still to come

    @property
    def setups(self) -> Set[int]:
        """The setup in use, and the one that is pending for parts to come. For any thread."""
        waiting = self._next_setup  # read first: the account sets the one in use before it forgets this
        return {self._setup.number} if waiting is None else {self._setup.number, waiting.number}

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Let parts from this id on, but none that has come, belong to a setup; returns the first id that does.

        A switch that is still pending is forgotten.
        """
        switch = _From(max(from_part_id, self.part_id + 1), setup, deadline_ns)
        if switch.part_id == self.part_id + 1:  # the next part, whenever that comes
            self._setup, self._next_setup = switch, None
        else:
            self._next_setup = switch
        return switch.part_id

    def sent(self, count: int, part_ref: str) -> None:
        """The `count`th software trigger is about to be sent, for a part that is called so."""
        if part_ref:
            self._refs[count] = part_ref

    def streams(self, counted: int | None) -> Iterator[Counted | Alarm]:
        """The camera (re)started; what it missed is known if it went on counting meanwhile.

        counted: triggers that it has counted so far; None if its count restarts with each start.
        """
        if counted is None or (self._counted is not None and not 0 <= counted - self._counted <= MAX_GAP):
            if counted is not None:
                yield self._alarm("the trigger count jumped", counted)
                self._jumped_away = True
            self._restarted = self._counted is not None
            self._counted = counted or 0
        elif self._counted is None:
            self._counted, self.part_id = counted, max(counted, self.part_id)
        else:
            yield from self._missing_before(counted + 1, Reason.CAMERA)

    def filled(self, frame_id: int, trigger_ns: int, encoder: int) -> tuple[bool, Iterator[Counted | Alarm]]:
        """A picture came: whether it may be judged, then what was lost before it and its own part.

        It may not where the camera's count jumped: nobody knows which part it shows. encoder: what identifies the
        part where the count does not; 0 = the count does.
        """
        has_jumped, alarm = self._check(frame_id, encoder)
        if has_jumped:
            why = "the camera's count of its triggers jumped"
            return False, self._exposed(alarm, frame_id, trigger_ns, 0, Reason.CAMERA, why)
        return True, self._exposed(alarm, frame_id, trigger_ns, encoder, None, "")

    def unfilled(
        self, frame_id: int, trigger_ns: int, encoder: int, reason: Reason, detail: str
    ) -> Iterator[Counted | Alarm]:
        """An exposure has no picture, for this reason: what was lost before it, then its own part."""
        has_jumped, alarm = self._check(frame_id, encoder)
        yield from self._exposed(alarm, frame_id, trigger_ns, 0 if has_jumped else encoder, reason, detail)

    def process_ended(self, writing: Sequence[int], sent: int) -> Iterator[Counted | Alarm]:
        """The camera process died: pictures that it was writing are lost, and software triggers without a frame.

        writing: their frame ids; sent: software triggers sent so far.
        """
        if self._counted is None:
            return
        for frame_id in sorted(writing):
            if 0 < frame_id - self._counted <= MAX_GAP:
                yield from self._missing_before(frame_id, Reason.LOST)
                yield self._count(Reason.CAMERA, "the camera process ended while copying")
        yield from self._missing_before(sent + 1, Reason.CAMERA)

    def _exposed(
        self, alarm: Alarm | None, frame_id: int, trigger_ns: int, encoder: int, reason: Reason | None, detail: str
    ) -> Iterator[Counted | Alarm]:
        if alarm is not None:
            yield alarm
        yield from self._missing_before(frame_id, Reason.LOST)
        yield self._count(reason, detail, trigger_ns, encoder)

    def _check(self, frame_id: int, encoder: int) -> tuple[bool, Alarm | None]:
        """Whether the camera's count can't be that of triggers (it stepped back, or far ahead), and the alarm."""
        assert self._counted is not None
        skipped = frame_id - self._counted - 1  # their part ids come before this one's
        if not 0 <= skipped <= MAX_GAP:
            alarm = self._alarm("the trigger count jumped", frame_id)
            self._jumped_away, self._restarted, self._counted = False, True, frame_id - 1
            return True, alarm
        if self._jumped_away:  # and counted on from there: this is its first frame
            self._jumped_away, self._restarted = False, True
            return True, None
        value = encoder + self._encoder_offset
        if encoder and value <= self.part_id + skipped:
            self._restarted = True
            self._encoder_offset = self.part_id + skipped + 1 - encoder
            return True, Alarm("the encoder stepped back", self.part_id, value)
        return False, None

    def _alarm(self, what: str, now: int) -> Alarm:
        assert self._counted is not None
        self._refs.clear()  # of triggers by the count before
        return Alarm(what, self._counted, now)

    def _missing_before(self, frame_id: int, reason: Reason) -> Iterator[Counted]:
        """A part for every trigger between the last one accounted for and this one."""
        assert self._counted is not None
        for _ in range(frame_id - self._counted - 1):
            yield self._count(reason, "")

    def _count(self, reason: Reason | None, detail: str, trigger_ns: int = 0, encoder: int = 0) -> Counted:
        """The next trigger. While the camera is stopped for a while, that is why a picture is missing."""
        assert self._counted is not None
        if self.away and reason in (Reason.LOST, Reason.CAMERA):
            reason, detail = Reason.NOT_READY, self.away
        self._counted += 1
        self.part_id = encoder + self._encoder_offset if encoder else self.part_id + 1
        if self._next_setup is not None and self.part_id >= self._next_setup.part_id:
            self._setup, self._next_setup = self._next_setup, None
        is_restarted, self._restarted = self._restarted, False
        _, setup, deadline_ns = self._setup
        part_ref = self._refs.pop(self._counted, "")
        return Counted(
            self.part_id, self._counted, trigger_ns, reason, detail, setup, deadline_ns, is_restarted, part_ref
        )
