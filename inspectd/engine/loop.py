"""The engine thread: takes frames from all cameras, keeps the backends busy, ends what is late.

There is one backend per setup (recipe and model): two while the line switches from one to the next.
"""

import select
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice
from typing import NamedTuple, Protocol

from inspectd.engine.admission import WaitingFrames
from inspectd.engine.backend import Backend
from inspectd.runtime.clock import now_ns
from inspectd.runtime.errors import DeviceError
from inspectd.runtime.frame import Ended, Frame, Late, Reason, unknown
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import STAGE_WAIT_S, Progress
from inspectd.runtime.slots import Shape

MAX_READ = 256
"""Most frames and results that are taken from a source in one turn."""


class FrameSource(Protocol):
    """A camera, as the engine thread sees it."""

    name: str
    finished: bool

    @property
    def shape(self) -> Shape:
        """Shape of its pictures."""

    @property
    def setups(self) -> Set[int]:
        """The setups that parts to come may belong to: the one in use, and one that is to be used later."""

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Let parts from this id on, but none that has come, belong to a setup; gives its first part id.

        deadline_ns: their time from trigger to result.
        """

    def fileno(self) -> int:
        """File descriptor to poll; -1 while there is nothing to poll."""

    def read(self) -> Iterator[Frame | Ended]:
        """Frames to judge and results of frames that never came; never blocks."""

    def give_back(self, slot: int) -> None:
        """Give back a slot that is not needed any more."""

    @property
    def due_ns(self) -> int | None:
        """When `overdue` has to be called, on the monotonic clock; None while there is no need."""

    def overdue(self) -> Iterator[Ended]:
        """Results of triggers that were sent and whose frames did not come before their deadline."""


class Switch(NamedTuple):
    """An order to the engine thread: parts to come belong to another setup."""

    setup: int
    backend: Backend
    deadline_ns: int
    """Time of the setup's parts from trigger to result, in nanoseconds."""
    from_part_id: int
    """First part of the new setup, if that has not come yet; else the next part is the first."""
    done: Callable[[dict[str, int]], None]
    """Called by the engine thread with the first part id under the new setup, by camera."""


class _Submitted(NamedTuple):
    """When the engine began with a frame, and how many others it had then."""

    at_ns: int
    working: int


class Engine:
    """State of the engine thread: every received frame that is not judged yet."""

    def __init__(
        self,
        sources: Sequence[FrameSource],
        backends: dict[int, Backend],
        scored: Handoff[Frame],
        results: Handoff[Ended | Late],
        changed: Handoff[FrameSource],
        failed: Callable[[], None],
        retired: Callable[[int, Backend], None],
    ) -> None:
        self._sources, self._backends = sources, backends
        self._scored, self._results = scored, results
        self._changed = changed  # filled by the main thread when a source has a new socket or none
        self._failed = failed  # called once, at the first fault
        self._retired = retired  # called with a setup that no frame needs any more, and its backend
        self._error: Exception | None = None
        self._waiting = WaitingFrames(lambda camera: sources[camera].shape)
        self._working: dict[Frame, _Submitted] = {}
        self._handed_on: dict[Frame, _Submitted] = {}  # the judge is not done with these
        self._orders: Handoff[Switch] = Handoff()
        self._held = ""
        self._poll = select.poll()
        self._polled: dict[int, FrameSource] = {}
        self._unread: dict[FrameSource, Iterator[Frame | Ended]] = {}  # sources that have more to say

    def switch(self, order: Switch) -> None:
        """Let the engine thread switch the line to another setup, within STAGE_WAIT_S. Called by any thread."""
        self._orders.put(order)

    def hold(self, why: str) -> None:
        """Make frames received from now on UNKNOWN/not_ready, for this reason; "" ends that. For any thread."""
        self._held = why

    def run(self, progress: Progress) -> None:
        """Work until every source has finished and every frame is handed on."""
        for backend in self._backends.values():
            self._poll.register(backend.completed, select.POLLIN)
        self._poll.register(self._orders, select.POLLIN)
        self._poll.register(self._changed, select.POLLIN)
        while not self._done():
            progress.stamp("engine")
            try:
                self._turn()
            except Exception as error:
                if self._error is not None:
                    raise
                self._break(error)
        if self._error is not None:
            raise self._error

    def _turn(self) -> None:
        self._register()
        ready = self._poll.poll(self._timeout_ms())
        for backend in self._backends.values():
            if backend.fault is not None and self._error is None:
                raise backend.fault
            for frame in backend.completed.drain():
                self._completed(frame)
        self._learn()
        self._submit()  # before reading on: the engine must not wait while sockets are read
        for _ in self._changed.drain():
            pass
        for order in self._orders.drain():
            self._switch(order)
        for fd, _ in ready:
            if (source := self._polled.get(fd)) is not None and source not in self._unread:
                self._unread[source] = source.read()
        self._read()
        self._submit()
        self._expire(now_ns())
        if not self._waiting and not self._working:
            self._waiting.rested()
        if len(self._backends) > 1:
            self._retire()

    def _break(self, error: Exception) -> None:
        """Note a fault, ours or the library's: from now on every frame is UNKNOWN/engine, and the daemon ends."""
        self._error = error
        self._failed()
        for frame in (*self._waiting, *self._working):
            self._end(frame, Reason.ENGINE, self._sentence())

    def _done(self) -> bool:
        # Nothing comes back from a lost device.
        working = any(self._backends[frame.setup].fault is None for frame in self._working)
        idle = not working and not self._waiting and not self._unread
        return idle and all(source.finished for source in self._sources)

    def _register(self) -> None:
        """Poll the sockets that the sources have now."""
        current = {source.fileno(): source for source in self._sources if source.fileno() >= 0}
        if current == self._polled:
            return
        for fd in self._polled.keys() - current.keys():
            self._poll.unregister(fd)
        for fd in current:
            self._poll.register(fd, select.POLLIN)
        self._polled = current

    def _timeout_ms(self) -> float:
        """Milliseconds until the first deadline, at most STAGE_WAIT_S; 0 if there is more to read."""
        if self._unread:
            return 0.0
        frames = (*self._waiting, *self._working, *self._handed_on)
        deadlines = [frame.deadline_ns for frame in frames if frame.open]
        deadlines += [source.due_ns for source in self._sources if source.due_ns is not None]
        left_ms = (min(deadlines) - now_ns()) / 1e6 + 1 if deadlines else STAGE_WAIT_S * 1e3
        return max(0.0, min(left_ms, STAGE_WAIT_S * 1e3))

    def _switch(self, order: Switch) -> None:
        self._backends[order.setup] = order.backend
        self._poll.register(order.backend.completed, select.POLLIN)
        ids = {s.name: s.switch(order.setup, order.deadline_ns, order.from_part_id) for s in self._sources}
        order.done(ids)

    def _retire(self) -> None:
        """Hand out the backends that no part to come and no frame in flight needs."""
        used = {setup for source in self._sources for setup in source.setups}
        used |= {frame.setup for frame in (*self._waiting, *self._working, *self._handed_on)}
        for setup in self._backends.keys() - used:
            backend = self._backends.pop(setup)
            if backend not in self._backends.values():  # setups of one model share it
                self._poll.unregister(backend.completed)
            self._waiting.forget(setup)
            self._retired(setup, backend)

    def _read(self) -> None:
        """Read a part of what the sources say: one that was away for an hour has many triggers to report."""
        for source, items in tuple(self._unread.items()):
            taken = 0
            for item in islice(items, MAX_READ):
                self._take(source, item)
                taken += 1
            if taken < MAX_READ:
                del self._unread[source]

    def _take(self, source: FrameSource, item: Frame | Ended) -> None:
        if not isinstance(item, Frame):
            self._results.put(item)
        elif self._held:
            self._end(item, Reason.NOT_READY, self._held)
            source.give_back(item.slot)
        else:
            self._waiting.put(item)

    def _submit(self) -> None:
        while self._waiting and self._error is not None:
            self._give_up(self._waiting.pop(), Reason.ENGINE, self._sentence())
        while self._waiting and self._has_room_for(self._waiting.first):
            now = now_ns()
            self._give_up_expired(now)
            for frame, why in self._waiting.given_up(now, len(self._working)):
                self._give_up(frame, Reason.DEADLINE, why)
            if self._waiting and self._has_room_for(self._waiting.first):
                self._start(self._waiting.pop())

    def _has_room_for(self, frame: Frame) -> bool:
        """Whether a frame may start: the backends share one device and together work on no more than one may."""
        return len(self._working) < self._backends[frame.setup].depth

    def _start(self, frame: Frame) -> None:
        try:
            self._backends[frame.setup].submit(frame)
        except Exception:
            self._waiting.put(frame)  # it never began: it ends with those that wait
            raise
        self._working[frame] = _Submitted(now_ns(), len(self._working))
        self._waiting.started(frame)

    def _completed(self, frame: Frame) -> None:
        frame.engine_ns = now_ns()
        self._backends[frame.setup].finish(frame)
        started = self._working.pop(frame)
        if frame.failure:
            self._end(frame, Reason.ENGINE, frame.failure)
        if frame.failure or (self._error is not None and not frame.open):
            self._sources[frame.camera].give_back(frame.slot)
            return
        self._handed_on[frame] = started
        self._scored.put(frame)  # late frames as well: their answer goes into the journal

    def _learn(self) -> None:
        """Note how long it took where the judge is done."""
        for frame in [frame for frame in self._handed_on if frame.judge_ns]:
            started = self._handed_on.pop(frame)
            self._waiting.took(frame, started.working, frame.judge_ns - started.at_ns)

    def _expire(self, now: int) -> None:
        """End frames as UNKNOWN at their deadline; whatever comes later is only written down."""
        self._give_up_expired(now)
        for source in self._sources:
            if source.due_ns is not None and source.due_ns <= now and source not in self._unread:
                for ended in source.overdue():
                    self._results.put(ended)
        for frame in self._working:
            if frame.deadline_ns <= now:
                self._end(frame, Reason.DEADLINE, "the engine did not answer in time")
        for frame in self._handed_on:
            if frame.deadline_ns <= now and not frame.judge_ns:
                self._end(frame, Reason.DEADLINE, "it was not judged in time")

    def _give_up_expired(self, now: int) -> None:
        for frame in self._waiting.expired(now):
            self._give_up(frame, Reason.DEADLINE, "no engine was free in time")

    def _give_up(self, frame: Frame, reason: Reason, detail: str) -> None:
        """End a frame that the engine never had."""
        self._end(frame, reason, detail)
        self._sources[frame.camera].give_back(frame.slot)

    def _sentence(self) -> str:
        """Detail of the fault, for the results."""
        return str(self._error) if isinstance(self._error, DeviceError) else "the engine stage failed"

    def _end(self, frame: Frame, reason: Reason, detail: str) -> None:
        if frame.claim():
            self._results.put(Ended(frame, unknown(reason, detail)))
