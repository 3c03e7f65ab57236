"""The engine thread: takes frames from all cameras, keeps the backend busy, ends what is late."""

import select
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Protocol

from inspectd.clock import now_ns
from inspectd.engine.backend import Backend
from inspectd.errors import DeviceError
from inspectd.handoff import Handoff
from inspectd.health import STAGE_WAIT_S, Ledger, Progress
from inspectd.results import Ended, Frame, Reason, unknown


class FrameSource(Protocol):
    """A camera, as the engine thread sees it."""

    finished: bool

    def fileno(self) -> int:
        """What to poll; -1 while there is nothing to poll."""

    def read(self) -> Iterator[Frame | Ended]:
        """Frames to judge and results of frames that never came; never blocks."""

    def give_back(self, slot: int) -> None:
        """A slot is not needed any more."""


class Engine:
    """State of the engine thread: every received frame that no scores were handed on for."""

    def __init__(
        self,
        sources: Sequence[FrameSource],
        backend: Backend,
        scored: Handoff[Frame],
        results: Handoff[Ended],
        ledger: Ledger,
        changed: Handoff[FrameSource],
        failed: Callable[[], None],
    ) -> None:
        self._sources, self._backend = sources, backend
        self._scored, self._results, self._ledger = scored, results, ledger
        self._changed = changed  # filled by the main thread when a source has a new socket or none
        self._failed = failed  # called once, at the first fault
        self._error: Exception | None = None
        self._waiting: list[Frame] = []  # heap, earliest deadline first
        self._working: set[Frame] = set()
        self._poll = select.poll()
        self._polled: dict[int, FrameSource] = {}

    def run(self, progress: Progress) -> None:
        """Until every source has finished and every frame is handed on."""
        self._poll.register(self._backend.completed, select.POLLIN)
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
        if self._backend.fault is not None and self._error is None:
            raise self._backend.fault
        for frame in self._backend.completed.drain():
            self._completed(frame)
        self._submit()  # before reading on: the engine must not wait while sockets are read
        for _ in self._changed.drain():
            pass
        for fd, _ in ready:
            if fd in self._polled:
                self._read(self._polled[fd])
        self._submit()
        self._expire(now_ns())

    def _break(self, error: Exception) -> None:
        """A fault of ours or of the library: from now on every frame is UNKNOWN/engine, and the daemon ends."""
        self._error = error
        self._failed()
        for frame in (*self._waiting, *self._working):
            self._end(frame, Reason.ENGINE, self._sentence())

    def _done(self) -> bool:
        working = self._working and self._backend.fault is None  # of a lost device nothing comes back
        return not working and not self._waiting and all(source.finished for source in self._sources)

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
        """Until the first deadline, at most STAGE_WAIT_S."""
        deadlines = [frame.deadline_ns for frame in (*self._waiting, *self._working) if frame.open]
        left_ms = (min(deadlines) - now_ns()) / 1e6 + 1 if deadlines else STAGE_WAIT_S * 1e3
        return max(0.0, min(left_ms, STAGE_WAIT_S * 1e3))

    def _read(self, source: FrameSource) -> None:
        for item in source.read():
            if isinstance(item, Frame):
                heappush(self._waiting, item)
            else:
                self._results.put(item)

    def _submit(self) -> None:
        while self._waiting and (len(self._working) < self._backend.depth or self._error is not None):
            frame = heappop(self._waiting)
            if self._error is not None:
                self._end(frame, Reason.ENGINE, self._sentence())
            elif frame.deadline_ns <= now_ns():
                self._end(frame, Reason.DEADLINE, "no engine was free in time")
            if frame.open:
                self._start(frame)
            else:
                self._sources[frame.camera].give_back(frame.slot)

    def _start(self, frame: Frame) -> None:
        try:
            self._backend.submit(frame)
        except Exception:
            heappush(self._waiting, frame)  # it never began: ended with those that wait
            raise
        self._working.add(frame)

    def _completed(self, frame: Frame) -> None:
        frame.engine_ns = now_ns()
        self._backend.finish(frame)
        self._working.discard(frame)
        if frame.failure:
            self._end(frame, Reason.ENGINE, frame.failure)
        if frame.open:
            self._scored.put(frame)
            return
        if not frame.failure:
            self._ledger.late(frame.camera)
        self._sources[frame.camera].give_back(frame.slot)

    def _expire(self, now: int) -> None:
        """At its deadline a frame without an answer is UNKNOWN; whatever comes later is only counted."""
        if self._waiting and self._waiting[0].deadline_ns <= now:
            for frame in self._waiting:
                if frame.deadline_ns <= now:
                    self._end(frame, Reason.DEADLINE, "no engine was free in time")
        for frame in self._working:
            if frame.deadline_ns <= now:
                self._end(frame, Reason.DEADLINE, "the engine did not answer in time")

    def _sentence(self) -> str:
        """Of the fault, for the results."""
        return str(self._error) if isinstance(self._error, DeviceError) else "the engine stage failed"

    def _end(self, frame: Frame, reason: Reason, detail: str) -> None:
        if frame.claim():
            self._results.put(Ended(frame, unknown(reason, detail)))
