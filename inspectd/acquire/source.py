"""The daemon's end of one camera: the socket to its process, its slots, and what its account makes of it."""

import socket
from collections.abc import Iterator, Set

import structlog
from msgspec import structs

from inspectd.acquire.account import Account, Alarm, Counted
from inspectd.acquire.channel import Channel
from inspectd.acquire.orders import Ordered, PendingOrders
from inspectd.acquire.protocol import (
    Declined,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    SendTrigger,
    Stop,
    Streaming,
    Triggered,
    Trouble,
    Unfilled,
    Vitals,
)
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns, utc_of
from inspectd.runtime.frame import Ended, Frame, unknown
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape

log = structlog.get_logger()
MAX_MESSAGES = 64
"""Messages of the camera process read in one turn of the engine's loop."""
PROCESS_ENDED = "the camera process ended"
OPENING_S = 30.0
"""Longest silence while a camera is opened; some wait until their last host is forgotten."""


class Source:
    """Read by the engine thread; slots come back from any thread; the process belongs to the main thread."""

    def __init__(
        self, index: int, job: Job, ring: Ring, ledger: Ledger, deadline_ns: int, part_id: int, setup: int = 1
    ) -> None:
        self.index, self.job, self.ring = index, job, ring
        self.name = job.config.name
        self.state = "dead"  # streaming | idle | dead
        self.detail = "starting"
        self.newest_ns = 0  # when the newest frame was in the ring
        self.finished = False
        self.losses, self.clock = Losses(), ClockView()
        self.process_starts = 0
        self._ledger, self._account = ledger, Account(part_id, setup, deadline_ns)
        self._losses_before = Losses()  # of camera processes that have ended
        self._channel = Channel(ring.count)
        self._orders = PendingOrders()
        self._stop_asked = self._streaming = self._counts_on = False
        self._is_back = True  # whether a paused camera may come back
        self._heard_ns = 0

    # ---- for the engine thread: frames, and the setup they are taken under ----

    @property
    def shape(self) -> Shape:
        """Shape of the pictures."""
        return self.ring.shape

    @property
    def setups(self) -> Set[int]:
        """The setup in use, and the one that is pending for parts to come. For any thread."""
        return self._account.setups

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Let parts from this id on, but none that has come, belong to a setup; returns the first id that does.

        A switch that is still pending is forgotten.
        """
        return self._account.switch(setup, deadline_ns, from_part_id)

    def fileno(self) -> int:
        """The socket to poll; -1 while there is no camera process."""
        return self._channel.fileno()

    def read(self) -> Iterator[Frame | Ended]:
        """What the camera process has said, as frames to judge and results of frames that never came."""
        for _ in range(MAX_MESSAGES):
            try:
                message = self._channel.receive()
            except BlockingIOError:
                return
            if message is None:
                yield from self._process_ended()
                return
            self._heard_ns = now_ns()
            yield from self._heard(message)

    def give_back(self, slot: int) -> None:
        """The picture is judged: its slot is lent to the camera process again. For any thread."""
        self._channel.give_back(slot)

    def _heard(self, message: FromCamera) -> Iterator[Frame | Ended]:
        match message:
            case Filled():
                yield from self._filled(message)
            case Unfilled(frame_id, trigger_ns, reason, detail, encoder):
                yield from self._ended(self._account.unfilled(frame_id, trigger_ns, encoder, reason, detail))
            case Triggered():
                self.job = structs.replace(self.job, sent=message.sent)
                self._account.sent(message.sent, message.part_ref)
                self._orders.end(message.order, message.sent)
            case Declined():
                self._orders.end(message.order, 0, message.why)
            case Streaming():
                yield from self._streams(message)
            case Idle():
                self.state = "idle"
            case Vitals():
                self.losses, self.clock = _sum(self._losses_before, message.losses), message.clock
            case Trouble():
                if self.detail != message.detail:
                    log.warning("camera trouble", camera=self.name, detail=message.detail)
                self.state, self.detail, self._streaming = "dead", message.detail, False
            case Finished():
                self._process_finished()

    def _filled(self, message: Filled) -> Iterator[Frame | Ended]:
        may_judge, items = self._account.filled(message.frame_id, message.trigger_ns, message.part_id)
        if not may_judge:
            self._channel.take(message.slot)
            self.give_back(message.slot)
        for item in items:
            if isinstance(item, Counted) and item.reason is None:
                yield self._received(item, message)
            else:
                yield from self._ended((item,))

    def _received(self, counted: Counted, message: Filled) -> Frame:
        self._channel.take(message.slot)
        frame = self._frame(counted, counted.trigger_ns)
        frame.device_ns = message.device_ns
        frame.slot, frame.generation, frame.ring_ns = message.slot, message.generation, message.ring_ns
        self.ring.set_part_id(message.slot, frame.part_id)
        self.state, self.newest_ns = "streaming", message.ring_ns
        self._ledger.trigger(self.index, None)
        return frame

    def _ended(self, items: Iterator[Counted | Alarm] | tuple[Counted | Alarm]) -> Iterator[Ended]:
        """The results of triggers without a picture; alarms go to the log."""
        for item in items:
            if isinstance(item, Alarm):
                log.error(item.what, camera=self.name, was=item.was, now=item.now)
                continue
            self._heard_ns = now_ns()  # the process has said more, which is not read before these are out
            assert item.reason is not None
            frame = self._frame(item, item.trigger_ns or self._heard_ns)
            frame.claim()
            self._ledger.trigger(self.index, item.reason)
            yield Ended(frame, unknown(item.reason, item.detail))

    def _frame(self, counted: Counted, trigger_ns: int) -> Frame:
        deadline_ns = trigger_ns + counted.deadline_ns
        frame = Frame(
            self.index,
            counted.part_id,
            counted.frame_id,
            trigger_ns,
            utc_of(trigger_ns),
            deadline_ns,
            counted.setup,
        )
        frame.counting_restarted, frame.part_ref = counted.counting_restarted, counted.part_ref
        return frame

    def _streams(self, message: Streaming) -> Iterator[Ended]:
        self.state, self.detail = "streaming", message.device
        log.info("camera streams", camera=self.name, device=message.device)
        self.job = self.job.after(message.started)
        self._streaming, self._counts_on = True, message.started.counted is not None
        yield from self._ended(self._account.streams(message.started.counted))
        if self._is_back:
            self._account.away = ""

    def _process_finished(self) -> None:
        """The camera process has said all there is to say."""
        if not self._is_back and not self._stop_asked:
            self._detach(self._account.away)
            return
        if self._counts_on and not self._streaming:
            log.warning("the camera was away at the stop: its triggers since have no result", camera=self.name)
        self.finished = True
        self._detach("finished")

    def _process_ended(self) -> Iterator[Ended]:
        """The process died. What it had handed over is still judged; what it was writing is UNKNOWN/camera."""
        writing = []
        self._losses_before = self.losses
        why = (
            self.detail if self.detail.startswith(PROCESS_ENDED) else PROCESS_ENDED
        )  # the main thread may know more
        for slot in self._detach(why):
            header = self.ring.header(slot)
            if header.generation % 2:
                writing.append(header.frame_id)
                self.ring.end_write(slot)
        self.finished = self.finished or (self._stop_asked and not self.count_pending)
        yield from self._ended(self._account.process_ended(writing, self.job.sent))

    def _detach(self, detail: str) -> list[int]:
        """No camera process from now on; returns the slots it had, which are free again."""
        self.state, self.detail, self._streaming = "dead", detail, False
        slots = self._channel.detach()
        self._orders.decline_all(f"it was not sent: {detail}")
        return slots

    # ---- for the main thread: the camera process comes, pauses and goes ----

    def attach(self, sock: socket.socket) -> None:
        """A new camera process: lend it every free slot."""
        self._heard_ns = now_ns()
        self.process_starts += 1
        self._channel.attach(sock, [Stop()] if self._stop_asked else [])

    def pause(self, why: str) -> None:
        """Stop the camera for a while; frames exposed before still come.

        Its process ends. Triggers from then until it streams again are UNKNOWN/not_ready for this reason, where
        the camera counts them.
        """
        self._account.away, self._is_back = why, False
        self._channel.send(Stop())

    @property
    def is_down(self) -> bool:
        """Whether the camera is paused and all is over: its process has ended, and no frame needs its slot."""
        return self._channel.is_idle

    def resume(self, job: Job, ring: Ring) -> None:
        """The next camera process gets this job and ring. Only while it `is_down`, else ValueError."""
        if not self.is_down:
            raise ValueError(f"camera {self.name} is not down")
        self.job, self.ring, self._is_back = job.like(self.job), ring, True

    def order(self, part_ref: str, done: Ordered) -> None:
        """Have one software trigger sent; `done` is called once, by any thread, and must not block."""
        why = f"the camera is not there: {self.detail}"
        if self.state == "dead":
            done(0, why)
            return
        number = self._orders.add(done)
        if not self._channel.send(SendTrigger(number, part_ref, now_ns())):
            self._orders.end(number, 0, why)

    @property
    def count_pending(self) -> bool:
        """Whether the camera counts on while its process is down, so that it must be asked once more."""
        return self._counts_on and not self._streaming and not self.finished

    @property
    def silent_s(self) -> float:
        """For how long a streaming camera's process, which speaks all the time, has said nothing, in seconds."""
        return (now_ns() - self._heard_ns) / 1e9 if self._streaming else 0.0

    @property
    def hangs(self) -> bool:
        """Whether the camera process should have spoken long ago."""
        limit_s = self.job.config.stall_s if self._streaming else OPENING_S
        return self._channel.fileno() >= 0 and (now_ns() - self._heard_ns) / 1e9 > limit_s

    def request_stop(self, give_up: bool = False) -> None:
        """Ask for the end of the acquisition; frames exposed before still come.

        A camera that is down with its `count_pending` is finished only when it has reported, or is given up.
        """
        asked, self._stop_asked = self._stop_asked, True
        self._counts_on = self._counts_on and not give_up
        if not asked and self._channel.send(Stop()):
            return
        if self._channel.fileno() < 0 and not self.count_pending:
            self.finished = True


def _sum(before: Losses, now: Losses) -> Losses:
    return Losses(*(getattr(before, name) + getattr(now, name) for name in Losses.__struct_fields__))
