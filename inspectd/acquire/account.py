"""The account of a camera's triggers: each becomes exactly one part, whether its picture came or not.

Pure: what the camera process reports goes in, and parts and alarms come out. It reads no clock, no socket and no
ring, so a test can drive it with any sequence of events. Its answers are generators, to be read to their end
before the next event.
"""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from inspectd.acquire.camera import MAX_GAP
from inspectd.acquire.encoder import Encoder
from inspectd.runtime.frame import Reason

MAX_SINGLES = 16
"""Triggers missing in a row that have a result each; more have one together, whatever their number."""


class Counted(NamedTuple):
    """One trigger, accounted for: the part, and what became of its picture. Or several in a row without one."""

    part_id: int
    """That of the first."""
    frame_id: int
    """The camera's own count of its triggers, of the first."""
    parts: int
    """Number of triggers, with consecutive part ids: 1, or all those of a long gap."""
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


class _Sent(NamedTuple):
    """A software trigger whose frame is not here yet."""

    trigger_ns: int
    part_ref: str
    deadline_ns: int = 0
    """From the trigger to the result, by the setup when it was sent."""


class Account:
    """The triggers of one camera over all its processes. For one thread, but for `setups` and `away`."""

    def __init__(self, part_id: int, setup: int, deadline_ns: int) -> None:
        """part_id: the last one that had a result before this daemon began; 0 = none."""
        self.part_id = part_id
        """The last one given; part ids only ever grow."""
        self.away = ""
        """Why the camera is stopped for a while: triggers that show meanwhile are not ready, not lost."""
        self._counted: int | None = None  # the trigger accounted for last, by the camera's count
        self._encoder = Encoder()
        self._restarted = part_id > 0  # triggers before the next frame may be uncounted: the daemon was down
        self._jumped_away = False  # the count jumped while the camera was away; its first frame says so
        self._sent: dict[int, _Sent] = {}  # by count, oldest first
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

    # ---- what the camera process reports ----

    def sent(self, count: int, trigger_ns: int, part_ref: str) -> None:
        """The `count`th software trigger is about to be sent, for a part that is called so."""
        self._sent[count] = _Sent(trigger_ns, part_ref, self._setup.deadline_ns)

    def streams(self, counted: int | None, was_off: bool = False) -> Iterator[Counted | Alarm]:
        """The camera (re)started; what it missed is known if it went on counting meanwhile.

        counted: triggers that it has counted so far; None if its count restarts with each start. was_off: it was
        without power since its newest frame, so that its count is another one however it stands.
        """
        is_another = self._counted is not None and (
            was_off or (counted is not None and not 0 <= counted - self._counted <= MAX_GAP)
        )
        if counted is None or is_another:
            if counted is not None:
                yield self._alarm("the trigger count jumped", counted)
                self._jumped_away = True
            self._restarted = self._restarted or self._counted is not None
            self._counted = counted or 0
            self._sent.clear()  # of triggers by the count before
        elif self._counted is None:
            self._counted, self.part_id = counted, max(counted, self.part_id)
        else:
            yield from self._missing_to(counted, Reason.CAMERA)

    def filled(
        self, frame_id: int, trigger_ns: int, encoder: int, restarted: bool = False
    ) -> tuple[bool, Iterator[Counted | Alarm]]:
        """A picture came: whether it may be judged, then what was lost before it and its own part, if it is one.

        It may not where nobody knows which part it shows: the camera's count jumped, or its trigger has had its
        result. encoder: what identifies the part where the count does not; 0 = the count does. restarted: the
        count does not go on from the one before, and the camera process knows why.
        """
        if self._is_late(frame_id, restarted):
            return False, iter(())
        alarms, why = self._begin(frame_id, restarted)
        part_id, doubt = (0, "") if why else self._part_of(encoder, frame_id, alarms)
        if why or doubt:
            return False, self._exposed(alarms, frame_id, trigger_ns, 0, Reason.CAMERA, why or doubt)
        return True, self._exposed(alarms, frame_id, trigger_ns, part_id, None, "")

    def unfilled(
        self, frame_id: int, trigger_ns: int, encoder: int, reason: Reason, detail: str, restarted: bool = False
    ) -> Iterator[Counted | Alarm]:
        """An exposure has no picture, for this reason: what was lost before it, then its own part if it is one."""
        if self._is_late(frame_id, restarted):
            return iter(())
        alarms, why = self._begin(frame_id, restarted)
        part_id = 0 if why else self._part_of(encoder, frame_id, alarms)[0]
        return self._exposed(alarms, frame_id, trigger_ns, part_id, reason, detail)

    def missing(self, frame_id: int, detail: str) -> Iterator[Counted | Alarm]:
        """The camera has counted its triggers up to this one, and their frames will not come."""
        assert self._counted is not None
        if frame_id - self._counted <= MAX_GAP:
            yield from self._missing_to(frame_id, Reason.LOST, detail)

    def process_ended(self, writing: Sequence[int], sent: int) -> Iterator[Counted | Alarm]:
        """The camera process died: pictures that it was writing are lost, and software triggers without a frame.

        writing: their frame ids; sent: software triggers sent so far.
        """
        if self._counted is None:
            return
        for frame_id in sorted(writing):
            if 0 < frame_id - self._counted <= MAX_GAP:
                yield from self._missing_to(frame_id - 1, Reason.LOST)
                yield self._count(Reason.CAMERA, "the camera process ended while copying")
        yield from self._missing_to(sent, Reason.CAMERA)

    # ---- software triggers whose frames do not come in time ----

    @property
    def due_ns(self) -> int | None:
        """When the oldest software trigger without a frame must have its result, on the host's monotonic clock."""
        return next((sent.trigger_ns + sent.deadline_ns for sent in self._sent.values()), None)

    def overdue(self, now_ns: int, reason: Reason, detail: str) -> Iterator[Counted]:
        """Software triggers whose deadline has passed; a frame of theirs that comes later is late."""
        while self._counted is not None and self.due_ns is not None and self.due_ns <= now_ns:
            count = next(iter(self._sent))
            yield from self._missing_to(count, reason, detail)
            self._sent.pop(count, None)

    # ---- how a trigger is counted ----

    def _is_late(self, frame_id: int, restarted: bool) -> bool:
        """Whether a frame's trigger has had its result."""
        assert self._counted is not None
        return not restarted and not self._jumped_away and frame_id <= self._counted

    def _skipped(self, frame_id: int) -> int:
        assert self._counted is not None
        return frame_id - self._counted - 1

    def _begin(self, frame_id: int, restarted: bool) -> tuple[list[Alarm], str]:
        """Get ready to count a frame: an alarm if the count begins anew, and why its part can't be told.

        What the camera process has found out about a new count is believed; a count that jumped meanwhile isn't.
        """
        assert self._counted is not None
        why = "the camera's count of its triggers jumped"
        is_near = 0 <= self._skipped(frame_id) <= MAX_GAP
        if self._jumped_away and is_near:  # and it counted on from there
            self._jumped_away, self._restarted = False, True
            return [], why
        if is_near and not restarted:
            return [], ""
        alarms = [] if frame_id == self._counted + 1 else [self._alarm("the trigger count jumped", frame_id)]
        self._jumped_away, self._restarted, self._counted = False, True, frame_id - 1
        return alarms, "" if restarted else why

    def _part_of(self, encoder: int, frame_id: int, alarms: list[Alarm]) -> tuple[int, str]:
        """Part id by the encoder's value, 0 where there is none to be trusted; then why, and one more alarm."""
        if not encoder:
            return 0, ""
        found = self._encoder.part_id(encoder, self.part_id + self._skipped(frame_id))
        if isinstance(found, str):
            alarms.append(Alarm(found, self.part_id, encoder))
            return 0, found
        self._restarted = self._restarted or self._encoder.restarted
        return found, ""

    def _exposed(
        self,
        alarms: list[Alarm],
        frame_id: int,
        trigger_ns: int,
        part_id: int,
        reason: Reason | None,
        detail: str,
    ) -> Iterator[Counted | Alarm]:
        yield from alarms
        yield from self._missing_to(frame_id - 1, Reason.LOST)
        yield self._count(reason, detail, trigger_ns, part_id)

    def _alarm(self, what: str, now: int) -> Alarm:
        assert self._counted is not None
        self._sent.clear()  # of triggers by the count before
        return Alarm(what, self._counted, now)

    def _missing_to(self, frame_id: int, reason: Reason, detail: str = "") -> Iterator[Counted]:
        """A part for every trigger after the last one accounted for, up to this one."""
        assert self._counted is not None
        while (left := frame_id - self._counted) > 0:
            together = self._together(left)
            yield self._count(reason, detail, parts=together if together > MAX_SINGLES else 1)

    def _together(self, parts: int) -> int:
        """As many of these next parts as may have one result: of one setup, and none with a name of its own."""
        assert self._counted is not None
        if self._next_setup is not None and self._next_setup.part_id > self.part_id + 1:
            parts = min(parts, self._next_setup.part_id - self.part_id - 1)
        named = next((count for count in self._sent if count > self._counted), None)
        return parts if named is None else min(parts, named - self._counted - 1)

    def _count(
        self, reason: Reason | None, detail: str, trigger_ns: int = 0, part_id: int = 0, parts: int = 1
    ) -> Counted:
        """The next trigger. While the camera is stopped for a while, that is why a picture is missing.

        part_id: as the encoder has it; 0 = the next one.
        """
        assert self._counted is not None
        if self.away and reason in (Reason.LOST, Reason.CAMERA):
            reason, detail = Reason.NOT_READY, self.away
        first, frame_id = part_id or self.part_id + 1, self._counted + 1
        self._counted += parts
        self.part_id = first + parts - 1
        if self._next_setup is not None and first >= self._next_setup.part_id:
            self._setup, self._next_setup = self._next_setup, None
        is_restarted, self._restarted = self._restarted, False
        _, setup, deadline_ns = self._setup
        sent = self._sent.pop(frame_id, _Sent(0, ""))
        moment_ns = trigger_ns or sent.trigger_ns
        return Counted(
            first, frame_id, parts, moment_ns, reason, detail, setup, deadline_ns, is_restarted, sent.part_ref
        )
