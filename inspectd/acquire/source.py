"""The daemon's end of one camera: its process, its ring, and the account of its triggers."""

import array
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

import msgspec
import structlog
from msgspec import structs

from inspectd.acquire.camera import MAX_GAP
from inspectd.acquire.protocol import (
    Declined,
    Filled,
    Finished,
    FromCamera,
    Idle,
    Job,
    SendTrigger,
    Slot,
    Stop,
    Streaming,
    ToCamera,
    Triggered,
    Trouble,
    Unfilled,
    Vitals,
)
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns, utc_of
from inspectd.runtime.frame import Ended, Frame, Reason, unknown
from inspectd.runtime.ring import Ring
from inspectd.runtime.slots import SlotPool

log = structlog.get_logger()
MAX_PACKET = 65536
MAX_MESSAGES = 64
"""Read in one turn of the engine's loop."""
ENDED = "the camera process ended"
Ordered = Callable[[int, str], None]
"""What became of an order: the frame id of its trigger, or 0 and why it was not sent."""
OPENING_S = 30.0
"""Opening a camera may take so long: some are searched for, and wait for their last host to be forgotten."""


class _From(NamedTuple):
    """From a part on, what its frames belong to."""

    part_id: int
    number: int
    """Of the setup."""
    deadline_ns: int


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
        self._ledger = ledger
        self._setup = _From(0, setup, deadline_ns)
        self._next_setup: _From | None = None  # from a part on that is still to come
        self._pool, self._lock = SlotPool(ring.count), threading.Lock()
        self._sock: socket.socket | None = None
        self._counted: int | None = None  # the trigger accounted for last, by the camera's count
        self._part_id = part_id  # the last one given
        self._part_offset = 0  # of an encoder that was restarted, to what its part ids would have been
        self.losses, self.clock = Losses(), ClockView()
        self._losses_before = Losses()  # of camera processes that have ended
        self.process_starts = 0
        self._restarted = part_id > 0  # triggers before the next frame may be uncounted: the daemon was down
        self._stop_asked = self._streaming = self._counts_on = False
        self._away, self._is_back = "", True  # why the camera is stopped for a while; whether it may come back
        self._alarm = False  # the count jumped; the next frame says so
        self._heard_ns = 0
        self._orders: dict[int, Ordered] = {}  # software triggers asked for and neither sent nor declined
        self._order = 0
        self._refs: dict[int, str] = {}  # what the parts of triggers sent are called, until their frames are made
        self._decoder = msgspec.msgpack.Decoder(FromCamera)

    @property
    def setups(self) -> Set[int]:
        """The setup in use, and the one that parts to come wait for. For any thread."""
        waiting = self._next_setup  # read first: the engine thread sets the one in use before it forgets this
        return {self._setup.number} if waiting is None else {self._setup.number, waiting.number}

    def switch(self, setup: int, deadline_ns: int, from_part_id: int) -> int:
        """Parts from this id on, but none that has come, belong to a setup; gives the first id that does.

        A switch that still waited for its part is forgotten. For the engine thread.
        """
        switch = _From(max(from_part_id, self._part_id + 1), setup, deadline_ns)
        if switch.part_id == self._part_id + 1:  # the next part, whenever that comes
            self._setup, self._next_setup = switch, None
        else:
            self._next_setup = switch
        return switch.part_id

    def pause(self, why: str) -> None:
        """Stop the camera for a while; frames exposed before still come. For the main thread.

        Its process ends. Triggers from then until it streams again are UNKNOWN/not_ready for this reason, where
        the camera counts them.
        """
        with self._lock:
            self._away, self._is_back = why, False
            if self._sock is not None:
                self._send(Stop())

    @property
    def is_down(self) -> bool:
        """Paused: the process has said all there was to say, and no frame needs its slot any more."""
        with self._lock:
            return self._sock is None and self._pool.in_use == 0

    def resume(self, job: Job, ring: Ring) -> None:
        """The next camera process gets this job and ring. Only while it `is_down`; for the main thread."""
        if not self.is_down:
            raise ValueError(f"camera {self.name} is not down")
        self.job, self.ring, self._is_back = job.like(self.job), ring, True

    def fileno(self) -> int:
        """The socket to poll; -1 while there is no camera process."""
        return -1 if self._sock is None else self._sock.fileno()

    def attach(self, sock: socket.socket) -> None:
        """A new camera process: lend it every free slot."""
        sock.setblocking(False)
        self._heard_ns = now_ns()
        with self._lock:
            self._sock = sock
            self.process_starts += 1
            if self._stop_asked:
                self._send(Stop())
            while (slot := self._pool.lend()) is not None:
                self._send(Slot(slot))

    def give_back(self, slot: int) -> None:
        """The picture is judged: the slot goes to the end of the queue of free ones."""
        with self._lock:
            self._pool.give_back(slot)
            if self._sock is not None and (oldest := self._pool.lend()) is not None:
                self._send(Slot(oldest))

    def order(self, part_ref: str, done: Ordered) -> None:
        """Have one software trigger sent; `done` is called once, by any thread, and must not block."""
        with self._lock:
            if self._sock is None or self.state == "dead":
                why = f"the camera is not there: {self.detail}"
            else:
                why = ""
                self._order += 1
                self._orders[self._order] = done
                self._send(SendTrigger(self._order, part_ref, now_ns()))
        if why:
            done(0, why)

    def _ordered(self, number: int, frame_id: int, why: str = "") -> None:
        with self._lock:
            done = self._orders.pop(number, None)
        if done is not None:
            done(frame_id, why)

    @property
    def owes(self) -> bool:
        """The camera counts on while its process is down: it must be asked once more what was triggered."""
        return self._counts_on and not self._streaming and not self.finished

    @property
    def silent_s(self) -> float:
        """For how long a streaming camera's process, which speaks all the time, has said nothing."""
        return (now_ns() - self._heard_ns) / 1e9 if self._streaming else 0.0

    @property
    def hangs(self) -> bool:
        """Whether the camera process should have spoken long ago."""
        limit_s = self.job.config.stall_s if self._streaming else OPENING_S
        return self._sock is not None and (now_ns() - self._heard_ns) / 1e9 > limit_s

    def request_stop(self, give_up: bool = False) -> None:
        """Ask for the end of the acquisition; frames exposed before still come.

        A camera that is down and `owes` is finished only when it has told, or when it is given up.
        """
        with self._lock:
            asked, self._stop_asked = self._stop_asked, True
            self._counts_on = self._counts_on and not give_up
            if self._sock is not None and not asked:
                self._send(Stop())
            elif self._sock is None and not self.owes:
                self.finished = True

    def _send(self, message: ToCamera) -> None:
        assert self._sock is not None
        try:
            self._sock.send(msgspec.msgpack.encode(message))
        except OSError:
            pass  # the process died: its slots are reclaimed when the engine thread reads the end of file

    def read(self) -> Iterator[Frame | Ended]:
        """What the camera process has said, as frames to judge and results of frames that never came."""
        for _ in range(MAX_MESSAGES):
            if self._sock is None:
                return
            try:
                packet = self._sock.recv(MAX_PACKET)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it died with slots unread; what it had said is still to be read
            if not packet:
                yield from self._process_ended()
                return
            self._heard_ns = now_ns()
            yield from self._heard(self._decoder.decode(packet))

    def _heard(self, message: FromCamera) -> Iterator[Frame | Ended]:
        match message:
            case Filled() if self._jumped(message):
                with self._lock:
                    self._pool.receive(message.slot)
                self.give_back(message.slot)
                yield from self._missing_before(message.frame_id, Reason.LOST)
                yield self._never(Reason.CAMERA, "the camera's count of its triggers jumped", message.trigger_ns)
            case Filled():
                yield from self._missing_before(message.frame_id, Reason.LOST)
                yield self._received(message)
            case Unfilled() if self._jumped(message):
                yield from self._missing_before(message.frame_id, Reason.LOST)
                yield self._never(message.reason, message.detail, message.trigger_ns)
            case Unfilled():
                yield from self._missing_before(message.frame_id, Reason.LOST)
                yield self._never(message.reason, message.detail, message.trigger_ns, message.part_id)
            case Triggered():
                self.job = structs.replace(self.job, sent=message.sent)
                if message.part_ref:
                    self._refs[message.sent] = message.part_ref
                self._ordered(message.order, message.sent)
            case Declined():
                self._ordered(message.order, 0, message.why)
            case Streaming():
                self.state, self.detail = "streaming", message.device
                log.info("camera streams", camera=self.name, device=message.device)
                self.job = self.job.after(message.started)
                self._streaming, self._counts_on = True, message.started.counted is not None
                yield from self._rebase(message.started.counted)
                self._away = self._away if not self._is_back else ""
            case Idle():
                self.state = "idle"
            case Vitals():
                self.losses, self.clock = _sum(self._losses_before, message.losses), message.clock
            case Trouble():
                if self.detail != message.detail:
                    log.warning("camera trouble", camera=self.name, detail=message.detail)
                self.state, self.detail, self._streaming = "dead", message.detail, False
            case Finished() if not self._is_back and not self._stop_asked:
                self._detach(self._away)
            case Finished():
                if self._counts_on and not self._streaming:
                    log.warning(
                        "the camera was away at the stop: its triggers since have no result", camera=self.name
                    )
                self.finished = True
                self._detach("finished")

    def _rebase(self, counted: int | None) -> Iterator[Ended]:
        """The camera (re)started. If it went on counting meanwhile, the triggers it missed are known."""
        if counted is None or (self._counted is not None and not 0 <= counted - self._counted <= MAX_GAP):
            if counted is not None:
                log.error("the trigger count jumped", camera=self.name, was=self._counted, now=counted)
                self._alarm = True
                self._refs.clear()  # of triggers by the count before
            self._restarted = self._counted is not None
            self._counted = counted or 0
        elif self._counted is None:
            self._counted, self._part_id = counted, max(counted, self._part_id)
        else:
            yield from self._missing_before(counted + 1, Reason.CAMERA)

    def _jumped(self, message: Filled | Unfilled) -> bool:
        """Whether the camera's count can't be that of triggers: it stepped back, or far ahead. An alarm."""
        assert self._counted is not None
        skipped = message.frame_id - self._counted - 1  # their part ids come before this one's
        if not 0 <= skipped <= MAX_GAP:
            log.error("the trigger count jumped", camera=self.name, was=self._counted, now=message.frame_id)
            self._alarm, self._restarted, self._counted = False, True, message.frame_id - 1
            self._refs.clear()  # of triggers by the count before
            return True
        if self._alarm:  # it jumped while the camera was down, and counted on from there: this is its first frame
            self._alarm, self._restarted = False, True
            return True
        encoder = message.part_id + self._part_offset
        if message.part_id and encoder <= self._part_id + skipped:
            log.error("the encoder stepped back", camera=self.name, was=self._part_id, now=encoder)
            self._restarted = True
            self._part_offset = self._part_id + skipped + 1 - message.part_id
            return True
        return False

    def _missing_before(self, frame_id: int, reason: Reason) -> Iterator[Ended]:
        """A result for every trigger between the last one accounted for and this one."""
        assert self._counted is not None
        for _ in range(frame_id - self._counted - 1):
            now = self._heard_ns = now_ns()  # the process has said more, which is not read before these are told
            yield self._never(reason, "", now)

    def _next(self, trigger_ns: int, encoder: int = 0) -> Frame:
        """The frame of the next trigger; part ids only ever grow, whatever the camera counts."""
        assert self._counted is not None
        self._counted += 1
        self._part_id = encoder + self._part_offset if encoder else self._part_id + 1
        if self._next_setup is not None and self._part_id >= self._next_setup.part_id:
            self._setup, self._next_setup = self._next_setup, None
        frame = Frame(
            self.index,
            self._part_id,
            self._counted,
            trigger_ns,
            utc_of(trigger_ns),
            trigger_ns + self._setup.deadline_ns,
            self._setup.number,
        )
        frame.counting_restarted, self._restarted = self._restarted, False
        frame.part_ref = self._refs.pop(self._counted, "")
        return frame

    def _received(self, message: Filled) -> Frame:
        with self._lock:
            self._pool.receive(message.slot)
        frame = self._next(message.trigger_ns, message.part_id)
        frame.device_ns = message.device_ns
        frame.slot, frame.generation, frame.ring_ns = message.slot, message.generation, message.ring_ns
        self.ring.set_part_id(message.slot, frame.part_id)
        self.state, self.newest_ns = "streaming", message.ring_ns
        self._ledger.trigger(self.index, None)
        return frame

    def _never(self, reason: Reason, detail: str, trigger_ns: int, encoder: int = 0) -> Ended:
        """No picture of this trigger; while the camera is paused that is the reason, whatever shows it."""
        if self._away and reason in (Reason.LOST, Reason.CAMERA):
            reason, detail = Reason.NOT_READY, self._away
        frame = self._next(trigger_ns, encoder)
        frame.claim()
        self._ledger.trigger(self.index, reason)
        return Ended(frame, unknown(reason, detail))

    def _process_ended(self) -> Iterator[Ended]:
        """The process died. What it had handed over is still judged; what it was writing is UNKNOWN/camera."""
        writing = []
        self._losses_before = self.losses
        told = self.detail if self.detail.startswith(ENDED) else ENDED  # the main thread may know more of it
        for slot in self._detach(told):
            header = self.ring.header(slot)
            if header.generation % 2:
                writing.append(header.frame_id)
                self.ring.end_write(slot)
        self.finished = self.finished or (self._stop_asked and not self.owes)
        for frame_id in sorted(writing):
            if self._counted is not None and 0 < frame_id - self._counted <= MAX_GAP:
                yield from self._missing_before(frame_id, Reason.LOST)
                yield self._never(Reason.CAMERA, "the camera process ended while copying", now_ns())
        if self._counted is not None:  # a software trigger whose frame had not come yet
            yield from self._missing_before(self.job.sent + 1, Reason.CAMERA)

    def _detach(self, detail: str) -> list[int]:
        """No camera process from now on; returns the slots it had, which are free again."""
        self.state, self.detail, self._streaming = "dead", detail, False
        with self._lock:  # at once: a slot given back meanwhile must not be lent to the dead
            if self._sock is not None:
                self._sock.close()
            self._sock = None
            orders = list(self._orders)
            slots = self._pool.reclaim()
        for number in orders:
            self._ordered(number, 0, f"it was not sent: {detail}")
        return slots


def _sum(before: Losses, now: Losses) -> Losses:
    return Losses(*(getattr(before, name) + getattr(now, name) for name in Losses.__struct_fields__))


def spawn(source: Source) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the camera process of a source; returns it and the daemon's end of the socket.

    Called by the main thread: the process dies with the thread that started it (PR_SET_PDEATHSIG). In a
    session of its own, it does not see the terminal's Ctrl-C.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", "-m", "inspectd.acquire.process"]  # -P: not from the current folder
    process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=2, start_new_session=True)
    theirs.close()
    fds = array.array("i", [source.ring.fd])
    ours.sendmsg([msgspec.json.encode(source.job)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    return process, ours
