"""The publish thread: a result into the journal, then onto the wire; between results, all that others ask for.

One loop drives every public socket, for a ZeroMQ socket takes in a new peer only inside calls on it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import structlog
import zmq

from inspectd.publish.control import ControlLink, ControlService
from inspectd.publish.endpoints import Endpoints
from inspectd.publish.images import ImageServer
from inspectd.publish.journal.history import History
from inspectd.publish.journal.records import Entry
from inspectd.publish.journal.writer import Journal
from inspectd.publish.messages import CameraStatus, Identity, Messages, Names
from inspectd.publish.query import Query
from inspectd.publish.service import Service, Subscriptions
from inspectd.publish.unseen import Unseen, is_unseen
from inspectd.runtime.books import Ledger
from inspectd.runtime.clock import now_ns
from inspectd.runtime.frame import Ended, Frame, Judgement, Late, Reason, unknown
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.runtime.ring import Ring
from inspectd.settings.publish import Publish
from inspectd.wire.results import Heartbeat, encode, heartbeat_topic

log = structlog.get_logger()
MAX_OTHERS = 64
"""Most steps of services in a turn of the loop, if no result comes in between."""
MAX_UNSEEN = 32
"""Most results of parts that nobody saw in a turn of the loop: those of pictures come first."""
NOT_JUDGED = (Reason.DEADLINE, Reason.ENGINE, Reason.NOT_READY)
"""Reasons for which a received frame has no answer that could be late."""
BUSY_MS = 1
SHARE, SHARE_IN_FLIGHT = 0.5, 0.1
"""Most of this thread's time that services get, however much is asked for, and while a frame is on its way: the
other stages need the cores, and Python runs one thread at a time."""
BURST_NS = 2_000_000
"""Time in nanoseconds for which services may catch up on their share in one go."""


class Publisher:
    """The publish thread's journal, sockets and services. Bound by its maker, then used by that thread alone."""

    def __init__(
        self,
        config: Publish,
        identity: Identity,
        setups: dict[int, Names],
        journal: Journal,
        ledger: Ledger,
        cameras: Sequence[CameraStatus],
        state: Callable[[], tuple[str, str]],
        control: ControlLink,
        rings: Mapping[str, Ring] | None = None,
    ) -> None:
        """rings: by camera, those whose pictures the image socket gives to readers; None = no such socket."""
        self.published = 0
        self._journal, self._ledger, self._state = journal, ledger, state
        self.setups = setups
        """Recipe and model by the setup's number; the main thread adds one before there is a frame of it."""
        self.setup = next(iter(setups), 1)
        """Setup in use, for the heartbeat; set by the engine thread as well, when all cameras switch at once."""
        self._unseen = Unseen(len(cameras), ledger)
        self._messages = Messages(identity, setups, journal, ledger, cameras, state)
        self._beat_topic = heartbeat_topic(identity.line)
        self._period_ns = config.heartbeat_ms * 1_000_000
        self._sent_state, self._next_beat_ns = ("", ""), 0
        self._failure = ""  # the journal's, as last logged
        self._paid_ns = 0
        """Time until which services have used up their share."""
        self.trouble = ""
        """Why nobody can connect to a socket any more, for the line's state; empty: everybody can."""
        with ExitStack() as undo:
            self._endpoints = undo.enter_context(closing(Endpoints(config)))
            self._results, self.security = self._endpoints.results, self._endpoints.security
            self._services = self._open_services(History(journal), control)
            for service in self._services:
                undo.callback(service.close)
            self._images: ImageServer | None = None
            if rings is not None:
                self._images = undo.enter_context(closing(ImageServer(Path(config.images), identity.line, rings)))
                self._services.append(self._images)
            self._undo = undo.pop_all()

    def _open_services(self, history: History, control: ControlLink) -> list[Service]:
        ends, allows = self._endpoints, self.security.allows
        return [
            self.security,
            Subscriptions(self._results),
            Query(ends.query, history, self._snapshot, lambda user: allows(user, "read")),
            ControlService(ends.control, control, lambda user: allows(user, "control")),
        ]

    def close(self) -> None:
        """Let the last messages out, at most LINGER_MS long."""
        self._undo.close()

    def run(self, results: Handoff[Ended | Late], upstream: Callable[[], bool], progress: Progress) -> None:
        """Work until `upstream` says that no more results come and none is left."""
        poller, resting = zmq.Poller(), zmq.Poller()
        poller.register(results.fileno(), zmq.POLLIN)
        resting.register(results.fileno(), zmq.POLLIN)
        of_socket = {socket: service for service in self._services for socket in service.sockets()}
        for socket in of_socket:
            poller.register(socket, zmq.POLLIN)
        while not (upstream() and not len(results)):
            progress.stamp("publish")
            rest_ms = self._rest_ms()
            wait_ms = min(rest_ms, self._beat_ms()) if rest_ms else self._wait_ms()
            ready = (resting if rest_ms else poller).poll(0 if self._unseen.is_due(now_ns()) else wait_ms)
            self._take(results, progress)
            if not rest_ms:
                called = {of_socket[socket] for socket, _ in ready if socket in of_socket}
                self._serve([s for s in self._services if s in called or s.busy], results)
            if now_ns() >= self._next_beat_ns or self._state() != self._sent_state:
                self._beat()
        for item in self._unseen.rest():
            self._publish(*item)
        self._beat()

    def _take(self, results: Handoff[Ended | Late], progress: Progress) -> None:
        """Publish what the stages have handed over: all that was seen, and some of what was not."""
        for item in results.drain():
            if isinstance(item, Late):
                self._late(*item)
            elif is_unseen(item.frame):
                self._unseen.put(*item)
            else:
                self._publish(*item)
                self._unseen.seen(item.frame.camera)
            if now_ns() >= self._next_beat_ns:  # there may be thousands
                progress.stamp("publish")
                self._beat()
        for item in islice(self._unseen.due(now_ns()), MAX_UNSEEN):
            self._publish(*item)

    def _rest_ms(self) -> int:
        """Milliseconds until services have their turn again, rounded up."""
        return max(0, -((now_ns() - self._paid_ns) // 1_000_000))

    def _beat_ms(self) -> int:
        return max(0, (self._next_beat_ns - now_ns()) // 1_000_000)

    def _wait_ms(self) -> int:
        left_ms = self._beat_ms()
        return min(left_ms, BUSY_MS) if any(service.busy for service in self._services) else left_ms

    def _serve(self, services: list[Service], results: Handoff[Ended | Late]) -> None:
        """Serve in turn, so that a flood at one socket does not silence another; results come first."""
        if not services:
            return
        began_ns, steps = now_ns(), 0
        paid_ns = max(self._paid_ns, began_ns - BURST_NS)
        share = SHARE_IN_FLIGHT if self._ledger.in_flight else SHARE
        while services and steps < MAX_OTHERS and not len(results):
            for service in tuple(services):
                if service.serve():
                    steps += 1
                else:
                    services.remove(service)
                now = now_ns()
                self._paid_ns = paid_ns + int((now - began_ns) / share)
                if len(results) or self._paid_ns >= now:
                    return

    def _publish(self, frame: Frame, found: Judgement) -> None:
        judgement = self._in_time(frame, found)
        entry = self._messages.entry(frame, judgement, self._journal.seq + 1)
        self._journal.append(entry)
        if self._in_time(frame, judgement) is not judgement:  # the disk stalled: the journal is corrected first
            judgement = self._in_time(frame, judgement)
            entry = self._messages.entry(frame, judgement, entry.seq)
            self._journal.append(entry)
        self.send(entry)
        if not is_unseen(frame):
            self._ledger.publish(frame.camera, judgement)
        self.published += 1
        if frame.setup > self.setup:
            self.setup = frame.setup
        if judgement is not found:
            self._late(frame, found)

    def send(self, entry: Entry) -> None:
        """Hand a result to the socket of the subscribers."""
        self._results.send_multipart((entry.topic, entry.header, entry.body))

    def _late(self, frame: Frame, judgement: Judgement) -> None:
        """Keep an answer that came after the frame had its result at its deadline."""
        self._journal.append_late(self._messages.entry(frame, judgement, 0))
        self._ledger.late(frame.camera)

    def _in_time(self, frame: Frame, judgement: Judgement) -> Judgement:
        """The judgement that may still be given of the frame now: after its deadline only UNKNOWN."""
        judged = frame.slot >= 0 and judgement.reason not in NOT_JUDGED
        if judged and now_ns() >= frame.deadline_ns:
            return unknown(Reason.DEADLINE, "answered too late")
        return judgement

    def _snapshot(self) -> tuple[int, int, Heartbeat]:
        return self._journal.epoch, self._journal.seq, self._messages.heartbeat(self.setup, self._counts())[1]

    def _counts(self) -> dict[str, int]:
        return {name: count for service in self._services for name, count in service.counts.items()}

    def _look(self) -> None:
        """Look whether the sockets' files are still there: whoever deletes one keeps all others out."""
        troubles = [self._endpoints.look(), self._images.look() if self._images is not None else ""]
        self.trouble = "; ".join(trouble for trouble in troubles if trouble)

    def _beat(self) -> None:
        self._look()
        if self._journal.failure != self._failure:
            self._failure = self._journal.failure
            log.error("the journal fails, the line goes on without", problem=self._failure)
        self._sent_state, self._next_beat_ns = self._state(), now_ns() + self._period_ns
        header, heartbeat = self._messages.heartbeat(self.setup, self._counts())
        self._results.send_multipart((self._beat_topic, header.pack(), encode(heartbeat)))
