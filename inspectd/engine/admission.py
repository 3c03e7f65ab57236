"""Which waiting frame the engine gets next, and which are given up because not all can be judged in time.

Pure: nothing here knows a clock, a thread or a device. Frames go to the engine earliest deadline first. Where that
order can't be kept to the end, frames are given up before the engine has worked on them: one that ends late has
cost as much as one in time. Of those that could make room, it is the camera's that gets most of the engine, and
its oldest frame: so equal cameras have equal shares, and what remains is in time with time to spare.
"""

from bisect import insort
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from itertools import islice

from inspectd.runtime.frame import Frame

MEASURED = 24
"""Number of the latest frames whose durations are kept, per setup, camera and number of others at work."""
SLOWER = 2
"""Number of the kept durations that are longer than the one reckoned with: rare stalls are no measure."""
MEMORY = 1 - 1 / 64
"""What a frame counts for in its camera's share after each one that was started later."""


class _Pace:
    """How long the latest frames took from their start, with so many others at work, to their judgement, in ns."""

    def __init__(self, working: int) -> None:
        self._working = working
        self._took_ns: deque[int] = deque(maxlen=MEASURED)
        self._recent = 0
        self.least_ns = 0
        self.most_ns = 0
        """What nearly all took since the engine had nothing to do; 0 = not known."""
        self.each_ns = 0
        """Time between two frames while the engine always has work, by Little's law."""

    def note(self, took_ns: int) -> None:
        self._took_ns.append(took_ns)
        self._recent = min(self._recent + 1, MEASURED)
        self._reckon()

    def rested(self) -> None:
        if self._recent:
            self._recent = 0
            self._reckon()

    def doubted(self) -> None:
        """A frame was given up that may have been in time: what was measured before counts less and less."""
        self._recent = max(0, self._recent - 1)
        self._reckon()

    def _reckon(self) -> None:
        self.least_ns = usual_ns = min(self._took_ns, default=0)
        self.most_ns = 0
        if self._recent > 2 * SLOWER:
            in_order = sorted(islice(reversed(self._took_ns), self._recent))
            self.most_ns, usual_ns = in_order[-1 - SLOWER], in_order[len(in_order) // 2]
        self.each_ns = usual_ns // (self._working + 1)


UNKNOWN_PACE = _Pace(0)


class Waiting:
    """The frames that wait for the engine, earliest deadline first; of the engine thread alone.

    `working` is the number of frames that the engine has at the moment.
    """

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._paces: dict[tuple[int, int, int], _Pace] = {}
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
        key = frame.setup, frame.camera, working
        if key not in self._paces:
            self._paces[key] = _Pace(working)
        self._paces[key].note(took_ns)

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
        while working or len(self._frames) > 1:
            late = self._first_late(now_ns, working)
            if late is None:
                return
            index = self._victim(late)
            frame = self._frames.pop(index)
            least_ns = self._least_ns(frame, working)
            if now_ns + least_ns > frame.deadline_ns:
                yield frame, f"its deadline can't be met: the engine takes at least {least_ns / 1e6:.1f} ms"
                continue
            if index == late:
                self._pace(frame, working).doubted()
            yield frame, "more parts came than the engine can judge in time"

    def _first_late(self, now_ns: int, working: int) -> int | None:
        """Index of the first frame that would be late if the engine took one after the other from now on.

        The last one may take as little time as any did: nobody waits in vain behind it.
        """
        last = len(self._frames) - 1
        for index, frame in enumerate(self._frames):
            pace = self._pace(frame, working)
            least_ns = self._least_ns(frame, working)
            if now_ns + (least_ns if index == last else max(pace.most_ns, least_ns)) > frame.deadline_ns:
                return index
            now_ns += pace.each_ns
        return None

    def _pace(self, frame: Frame, working: int) -> _Pace:
        """The pace of frames like this one, beside so many others; without any, of those with fewer beside."""
        while (pace := self._paces.get((frame.setup, frame.camera, working))) is None and working:
            working -= 1
        return pace or UNKNOWN_PACE

    def _least_ns(self, frame: Frame, working: int) -> int:
        """The shortest time that a frame like this one took of late, beside as many others or fewer."""
        paces = (self._paces.get((frame.setup, frame.camera, beside)) for beside in range(working + 1))
        return min((pace.least_ns for pace in paces if pace is not None), default=0)

    def _victim(self, late: int) -> int:
        """Index of the frame to be given up so that the one at `late` comes sooner; it may be that one."""
        rivals = Counter(frame.camera for frame in self._frames[: late + 1])
        camera = max(rivals, key=lambda camera: self._shares[camera] + rivals[camera])
        return next(index for index, frame in enumerate(self._frames) if frame.camera == camera)
