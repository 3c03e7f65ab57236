"""Results of triggers that no picture came of: few go out at once, many are joined and wait.

A camera whose counter races on while it is away has such results without end, and each takes a place in the
journal, out of which it pushes the result of a part that was seen. So a camera has no more of them than AT_ONCE,
one for each result of an exposure, and a few an hour. Who waits for one loses nothing: silence is a reject.
"""

from collections import deque
from collections.abc import Iterator

from inspectd.runtime.books import Ledger
from inspectd.runtime.frame import Ended, Frame, Judgement, Reason

AT_ONCE = 16
"""Most results that a camera may have in reserve; each is one that goes out at once."""
FIRST_PAUSE_NS, LONGEST_PAUSE_NS = 1_000_000_000, 600_000_000_000
"""Nanoseconds that results wait when the reserve is used up; twice as long each time, up to the longest."""
NO_PICTURE = frozenset((Reason.LOST, Reason.CAMERA))
"""Reasons that a joined result may give for each other."""


def is_unseen(frame: Frame) -> bool:
    """Whether nobody waits for the frame's result: neither an exposure nor a software trigger is known of it."""
    return not frame.exposed and not frame.part_ref


class Unseen:
    """What waits to be published, of all cameras; for the publish thread."""

    def __init__(self, cameras: int, ledger: Ledger) -> None:
        self._cameras = [_Reserve() for _ in range(cameras)]
        self._ledger = ledger

    def put(self, frame: Frame, judgement: Judgement) -> None:
        """Let the result of triggers without a picture wait; beyond the reserve it joins the one before.

        It is counted now: what waits is not on its way through the stages.
        """
        self._ledger.publish(frame.camera, judgement, frame.parts)
        camera = self._cameras[frame.camera]
        last = camera.waiting[-1] if len(camera.waiting) > camera.allowed else None
        if last is None or not _fit(last, frame, judgement):
            camera.waiting.append(Ended(frame, judgement))
            return
        if judgement.reason is not last.judgement.reason:
            self._ledger.rebook(frame.camera, judgement.reason, last.judgement.reason, frame.parts)
        last.frame.parts += frame.parts
        last.frame.counting_restarted |= frame.counting_restarted

    def seen(self, camera: int) -> None:
        """An exposure of the camera has its result, which pays for one of parts that nobody saw."""
        one = self._cameras[camera]
        one.allowed = min(one.allowed + 1, AT_ONCE)
        one.pause_ns = FIRST_PAUSE_NS

    def due(self, now_ns: int) -> Iterator[Ended]:
        """Take what is to be published now, camera by camera, so that none waits for another's many."""
        while self.is_due(now_ns):
            for camera in self._cameras:
                if camera.is_due(now_ns):
                    yield camera.take(now_ns)

    def is_due(self, now_ns: int) -> bool:
        """Whether anything is to be published now."""
        return any(camera.is_due(now_ns) for camera in self._cameras)

    def rest(self) -> Iterator[Ended]:
        """Take all that still waits, at the end."""
        for camera in self._cameras:
            while camera.waiting:
                yield camera.waiting.popleft()


class _Reserve:
    """What waits of one camera, oldest first, and how much of it may go out now."""

    def __init__(self) -> None:
        self.waiting: deque[Ended] = deque()
        self.allowed = AT_ONCE
        self.pause_ns, self.next_ns = FIRST_PAUSE_NS, 0

    def is_due(self, now_ns: int) -> bool:
        """Whether the oldest may go."""
        return bool(self.waiting) and (self.allowed > 0 or now_ns >= self.next_ns)

    def take(self, now_ns: int) -> Ended:
        """Take the oldest; when a pause is over all that wait may go."""
        self.allowed = (self.allowed or len(self.waiting)) - 1
        if not self.allowed:
            self.next_ns = now_ns + self.pause_ns
            self.pause_ns = min(2 * self.pause_ns, LONGEST_PAUSE_NS)
        return self.waiting.popleft()


def _fit(last: Ended, frame: Frame, judgement: Judgement) -> bool:
    """Whether the parts follow on those of a result that waits, and may have the same one."""
    before, said = last
    reasons = {said.reason, judgement.reason}
    follows = frame.part_id == before.last_part_id + 1 and frame.setup == before.setup
    return follows and (len(reasons) == 1 or reasons <= NO_PICTURE)
