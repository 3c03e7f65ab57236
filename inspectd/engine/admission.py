"""Which waiting frame the engine gets next, and which are given up because not all can be judged in time.

Pure: nothing here knows a clock, a thread or a device. Frames go to the engine earliest deadline first. Where that
order can't be kept to the end, frames are given up before the engine has worked on them: one that ends late has
cost as much as one in time. Of those that could make room, it is the camera's that gets most of the engine, and
its oldest frame: so equal cameras have equal shares, and what remains is in time with time to spare.
"""

from bisect import insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import islice

from inspectd.runtime.frame import Frame
from inspectd.runtime.slots import Shape

MEASURED = 24
"""Number of the latest frames whose durations are kept, per setup, shape and number of others at work."""
SLOWER = 2
"""Number of the kept durations that are longer than the one reckoned with: rare stalls are no measure."""
FIRST_TRIAL, LAST_TRIAL = 4, 64
"""Numbers of frames that are given up on what was measured before one is tried in spite of it, at first and at
last: the number doubles with each trial, until one shows that the engine has become faster."""
MEMORY = 1 - 1 / 64
"""What a frame counts for in its camera's share after each one that was started later."""


class _Pace:
    """How long the latest frames took from their start, with so many others at work, to their judgement, in ns."""

    def __init__(self, working: int) -> None:
        self._working = working
        self._took_ns: deque[int] = deque(maxlen=MEASURED)
        self._recent = 0  # of these since the engine was idle
        self._doubts, self._patience = 0, FIRST_TRIAL
        self.least_ns = 0
        self.most_ns = 0
        """What nearly all took since the engine was idle, as soon as that is known; till then the least."""
        self.each_ns = 0
        """Time between two frames while the engine always has work, by Little's law."""

    def note(self, took_ns: int) -> None:
        if took_ns < self.least_ns:
            self._patience = FIRST_TRIAL
        self._doubts = 0
        self._took_ns.append(took_ns)
        self._recent = min(self._recent + 1, MEASURED)
        self._reckon()

    def rested(self) -> None:
        if self._recent:
            self._recent = 0
            self._reckon()

    def _reckon(self) -> None:
        self.least_ns = usual_ns = self.most_ns = min(self._took_ns)
        if self._recent > 2 * SLOWER:
            in_order = sorted(islice(reversed(self._took_ns), self._recent))
            usual_ns, self.most_ns = in_order[len(in_order) // 2], in_order[-1 - SLOWER]
        self.each_ns = usual_ns // (self._working + 1)

    def is_trial_due(self) -> bool:
        """A frame is to be given up that might be in time if the engine has become faster: shall it be tried?"""
        self._doubts += 1
        if self._doubts < self._patience:
            return False
        self._doubts, self._patience = 0, min(2 * self._patience, LAST_TRIAL)
        return True


UNKNOWN_PACE = _Pace(0)


class WaitingFrames:
    """The frames that wait for the engine, earliest deadline first; of the engine thread alone.

    shape_of: gives the shape of a camera's pictures, by the camera's index: equal ones take equally long.
    `working` is the number of frames that the engine has at the moment.
    """

    def __init__(self, shape_of: Callable[[int], Shape]) -> None:
        self._shape_of = shape_of
        self._frames: list[Frame] = []
        self._paces: dict[tuple[int, Shape, int], _Pace] = {}
        self._slowest_ns = self._slowest_each_ns = 0
        self._shares: defaultdict[int, float] = defaultdict(float)

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    @property
    def first(self) -> Frame:
        """The one with the earliest deadline; IndexError if none waits."""
        return self._frames[0]

    def put(self, frame: Frame) -> None:
        """Let a frame wait."""
        insort(self._frames, frame)

    def pop(self) -> Frame:
        """Take the first one out."""
        return self._frames.pop(0)

    def expired(self, now_ns: int) -> Iterator[Frame]:
        """Take out the frames whose deadline has passed."""
        while self._frames and self._frames[0].deadline_ns <= now_ns:
            yield self._frames.pop(0)

    def started(self, frame: Frame) -> None:
        """The engine works on a frame: it counts in its camera's share."""
        for camera in self._shares:
            self._shares[camera] *= MEMORY
        self._shares[frame.camera] += 1

    def took(self, frame: Frame, working: int, took_ns: int) -> None:
        """A frame was judged so long after its start, beside so many others."""
        key = frame.setup, self._shape_of(frame.camera), working
        if key not in self._paces:
            self._paces[key] = _Pace(working)
        self._paces[key].note(took_ns)
        self._slowest_ns = max(pace.most_ns for pace in self._paces.values())
        self._slowest_each_ns = max(pace.each_ns for pace in self._paces.values())

    def rested(self) -> None:
        """The engine has nothing to do: how long most frames took before is no measure for those to come."""
        for pace in self._paces.values():
            pace.rested()

    def forget(self, setup: int) -> None:
        """No frame of a setup will come any more."""
        for key in [key for key in self._paces if key[0] == setup]:
            del self._paces[key]

    def given_up(self, now_ns: int, working: int) -> Iterator[tuple[Frame, str]]:
        """Take out frames, and say why, until the rest can be judged in time, as far as is known.

        With nothing else to do a frame is tried in any case: if the engine was only slow for a while, this is how
        that is noticed.
        """
        while len(self._frames) > (0 if working else 1):
            late = self._first_late(now_ns, working)
            if late is None:
                return
            index = self._victim(late)
            pace = self._pace(self._frames[index], working)
            if late == 0 and pace.is_trial_due():
                return
            frame = self._frames.pop(index)
            if now_ns + pace.least_ns > frame.deadline_ns:
                yield frame, f"its deadline can't be met: it takes at least {pace.least_ns / 1e6:.1f} ms"
            else:
                yield frame, "more parts came than the engine can judge in time"

    def _first_late(self, now_ns: int, working: int) -> int | None:
        """Index of the first frame that would be late if the engine took one after the other from now on."""
        longest_ns = self._slowest_ns + len(self._frames) * self._slowest_each_ns
        if now_ns + longest_ns < self._frames[0].deadline_ns:
            return None
        for index, frame in enumerate(self._frames):
            pace = self._pace(frame, working)
            if now_ns + pace.most_ns > frame.deadline_ns:
                return index
            now_ns += pace.each_ns
        return None

    def _pace(self, frame: Frame, working: int) -> _Pace:
        """The pace of frames like this one, beside so many others; without any, of those with fewer beside."""
        shape = self._shape_of(frame.camera)
        while (pace := self._paces.get((frame.setup, shape, working))) is None and working:
            working -= 1
        return pace or UNKNOWN_PACE

    def _victim(self, late: int) -> int:
        """Index of the frame to be given up so that the one at `late` comes sooner; it may be that one."""
        rivals = Counter(frame.camera for frame in self._frames[: late + 1])
        camera = max(rivals, key=lambda camera: self._shares[camera] + rivals[camera])
        return next(index for index, frame in enumerate(self._frames) if frame.camera == camera)
