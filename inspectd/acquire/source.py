"""The daemon's end of one camera: the socket to its process, its slots, and what its account makes of it."""

import socket
from collections.abc import Iterable, Iterator, Set

import structlog
from msgspec import structs

from inspectd.acquire.account import Account, Alarm, Counted
from inspectd.acquire.channel import Channel
from inspectd.acquire.frames import ended, received
from inspectd.acquire.health import Health
from inspectd.acquire.hearing import Hearing
from inspectd.acquire.orders import Ordered, PendingOrders
from inspectd.acquire.protocol import (
    Connecting,
    Declined,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    Missing,
    Notice,
    Stop,
    Streaming,
    Triggered,
    Trouble,
    Unfilled,
    Vitals,
)
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.frame import Ended, Frame, Reason
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import Shape

log = structlog.get_logger()
MAX_MESSAGES = 64  # of the camera process, in one turn of the engine's loop
PROCESS_ENDED = "the camera process ended"


class Source:
    """Read by the engine thread; slots come back from any thread; the process belongs to the main thread."""

    def __init__(
        self, index: int, job: Job, ring: Ring, ledger: Ledger, deadline_ns: int, part_id: int, setup: int = 1
    ) -> None:
        self.index, self.job, self.ring = index, job, ring
        self.name = job.config.name
        self.health = Health(job.config)
        self.newest_ns = self._streamed_ns = 0  # when the newest frame was in the ring; the newest start
        self.finished = False
        self.losses, self.clock = Losses(), ClockView()
        self.process_starts = 0
        self._ledger, self._account = ledger, Account(part_id, setup, deadline_ns)
        self._losses_before = Losses()  # of camera processes that have ended
        self._channel = Channel(ring.count)
        self._orders = PendingOrders()
        self._stop_asked = self._streaming = self._counts_on = False
        self._is_back = True  # whether a paused camera may come back
        self._hearing = Hearing()
        self._late = 0  # frames of triggers that had their result
        self._stuck = ""  # why there is still a process that was given up

    # ---- for the engine thread: frames, and the setup they are taken under ----

    @property
    def state(self) -> str:
        """State of the camera: streaming, idle, or dead."""
        return self.health.state

    @property
    def detail(self) -> str:
        """The device that streams, or why none does, in words."""
        return self.health.detail

    @property
    def shape(self) -> Shape:
        """Shape of the pictures."""
        return self.ring.shape

    @property
    def setups(self) -> Set[int]:
        """The setup in use, and the one that is pending for parts to come. For any thread."""
        return self._account.setups

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Let parts from this id on, but none that has come, belong to a setup; returns the first that does."""
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
            self._hearing.heard()
            yield from self._heard(message)

    @property
    def due_ns(self) -> int | None:
        """When `overdue` has to be called, on the monotonic clock; None while there is no need."""
        return self._account.due_ns

    def overdue(self) -> Iterator[Ended]:
        """Results of software triggers whose frames did not come before their deadline."""
        reason = Reason.LOST if self._streaming else Reason.CAMERA
        yield from self._ended(self._account.overdue(now_ns(), reason, "no frame came before its deadline"))

    def give_back(self, slot: int) -> None:
        """The picture is judged: its slot is lent to the camera process again. For any thread."""
        self._channel.give_back(slot)

    def _heard(self, message: FromCamera) -> Iterator[Frame | Ended]:
        match message:
            case Filled():
                yield from self._filled(message)
            case Unfilled(frame_id, trigger_ns, reason, detail, encoder, restarted):
                self.health.frame("" if reason is Reason.OVERRUN else detail)
                items = self._account.unfilled(frame_id, trigger_ns, encoder, reason, detail, restarted)
                yield from self._ended(items)
            case Missing(frame_id, detail):
                yield from self._ended(self._account.missing(frame_id, detail))
            case Triggered():
                self.job = structs.replace(self.job, sent=message.sent)
                self._account.sent(message.sent, message.trigger_ns, message.part_ref)
                self._orders.end(message.order, message.sent)
            case Declined():
                self._orders.end(message.order, 0, message.why)
            case Connecting():
                self._hearing.is_opening = True
            case Streaming():
                yield from self._streams(message)
            case Idle():
                self.health.idle()
            case Vitals():
                self.losses, self.clock = self._losses_before.plus(message.losses), message.clock
                self.losses.late += self._late
            case Trouble(detail, is_silent):
                self.health.trouble(detail, is_silent)
                self._streaming = False
            case Notice(detail):
                self.health.notice(detail)
            case Finished():
                self._process_finished()

    def _filled(self, message: Filled) -> Iterator[Frame | Ended]:
        frame_id, encoder, restarted = message.frame_id, message.part_id, message.restarted
        may_judge, items = self._account.filled(frame_id, message.trigger_ns, encoder, restarted)
        if not may_judge:
            self._channel.take(message.slot)
            self.give_back(message.slot)
        found = list(items)
        for item in found:
            if isinstance(item, Counted) and item.reason is None:
                yield self._received(item, message)
            else:
                yield from self._ended((item,))
        self._late += not found

    def _received(self, counted: Counted, message: Filled) -> Frame:
        self._channel.take(message.slot)
        self.ring.set_part_id(message.slot, counted.part_id)
        self.newest_ns = message.ring_ns
        self.health.frame()
        self._ledger.trigger(self.index, None)
        return received(self.index, counted, message)

    def _ended(self, items: Iterable[Counted | Alarm]) -> Iterator[Ended]:
        """The results of triggers without a picture; alarms go to the log."""
        for item in items:
            if isinstance(item, Alarm):
                self.health.warn(item.what, was=item.was, now=item.now)
                continue
            heard_ns = self._hearing.heard()  # it has said more, which is not read before these are out
            self._ledger.trigger(self.index, item.reason, item.parts)
            yield ended(self.index, item, heard_ns)

    def _streams(self, message: Streaming) -> Iterator[Ended]:
        self.health.streams(message.device)
        self.job = self.job.after(message.started)
        self._hearing.is_opening = False
        self._streaming, self._counts_on = True, message.started.counted is not None
        was_off = message.started.booted_ns > max(self.newest_ns, self._streamed_ns) > 0
        self._streamed_ns = now_ns()
        yield from self._ended(self._account.streams(message.started.counted, was_off))
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
        self._losses_before, self._late = self.losses, 0
        known = self.detail.startswith(PROCESS_ENDED)  # the main thread may know more
        slots, are_free = self._detach(self._stuck or (self.detail if known else PROCESS_ENDED))
        writing = self.ring.being_written(slots)
        if are_free:
            self.ring.end_writes(writing)
        self.finished = self.finished or (self._stop_asked and not self.count_pending)
        frame_ids = [self.ring.header(slot).frame_id for slot in writing]
        yield from self._ended(self._account.process_ended(frame_ids, self.job.sent))

    def _detach(self, detail: str) -> tuple[list[int], bool]:
        """No camera process from now on; returns the slots it had, and whether they are free again."""
        self._streaming = False
        self.health.gone(detail)
        slots = self._channel.detach()
        self._orders.decline_all(f"it was not sent: {detail}")
        return slots

    # ---- for the main thread: the camera process comes, pauses and goes ----

    def attach(self, sock: socket.socket) -> None:
        """A new camera process: lend it every free slot."""
        self._hearing.begins()
        self.process_starts += 1
        self._channel.attach(sock, [Stop()] if self._stop_asked else [])

    def give_up_process(self, why: str) -> bool:
        """Go on without a process that was killed and does not die: what it had on its way ends, its slots stay
        its own until it is gone. Returns False if that was done before.
        """
        self._stuck = why
        self.health.gone(why)
        return self._channel.give_up()

    def process_is_gone(self) -> None:
        """The camera process is dead, and nothing writes into its slots: what it has said is read to the end."""
        self._stuck = ""
        self.ring.end_writes(self.ring.being_written(self._channel.is_gone()))

    def pause(self, why: str) -> None:
        """End its process for a while; frames exposed before still come. Triggers until it streams again are
        UNKNOWN/not_ready for this reason, where the camera counts them.
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
        if self._streaming:
            self._orders.send(self._channel.send, part_ref, done, why)
        else:
            done(0, why)

    @property
    def count_pending(self) -> bool:
        """Whether the camera counts on while its process is down, so that it must be asked once more."""
        return self._counts_on and not self._streaming and not self.finished

    @property
    def silent_s(self) -> float:
        """For how long a streaming camera's process, which speaks all the time, has said nothing, in seconds."""
        return self._hearing.silent_s if self._streaming else 0.0

    @property
    def hangs(self) -> bool:
        """Whether the camera process should have spoken long ago."""
        return self._channel.fileno() >= 0 and self._hearing.hangs(self.job.config.stall_s)

    def request_stop(self, give_up: bool = False) -> None:
        """Ask for the end of the acquisition; frames exposed before still come. A camera that is down with its
        `count_pending` is finished only when it has reported, or is given up.
        """
        asked, self._stop_asked = self._stop_asked, True
        self._counts_on = self._counts_on and not give_up
        if not asked and self._channel.send(Stop()):
            return
        if self._channel.fileno() < 0 and not self.count_pending:
            self.finished = True
