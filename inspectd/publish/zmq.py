"""The publish thread: journal, then results stream; between results the heartbeat."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog
import zmq

from inspectd import __version__
from inspectd.clock import now_ns
from inspectd.config import Publish
from inspectd.errors import UnavailableError
from inspectd.handoff import Handoff
from inspectd.health import Ledger, Progress
from inspectd.publish.control import ControlService, Link, open_router
from inspectd.publish.ipc import open_to_group, own_path
from inspectd.publish.journal import Entry, Journal
from inspectd.publish.security import Security, read_keyring
from inspectd.publish.wire import (
    CameraView,
    Flag,
    Header,
    Heartbeat,
    ImageRef,
    ModelRef,
    RecipeRef,
    Result,
    Times,
    VerdictCode,
    beside,
    encode,
    heartbeat_topic,
    result_topic,
)
from inspectd.results import ClockView, Ended, Frame, Judgement, Late, Losses, Reason, unknown

log = structlog.get_logger()
LINGER_MS = 1000
MAX_OTHERS = 64
"""Messages other than results handled per turn of the loop."""
NOT_JUDGED = (Reason.DEADLINE, Reason.ENGINE, Reason.NOT_READY)
"""Why a frame that was received has no answer that could be late."""
MAX_INCOMING = 4096
"""Bytes of a subscription: nothing larger is expected from a subscriber."""


class CameraStatus(Protocol):
    """What the heartbeat tells of a camera."""

    name: str
    state: str
    detail: str
    newest_ns: int
    losses: Losses
    clock: ClockView
    process_starts: int


class Service(Protocol):
    """Whatever the publish thread does beside results."""

    @property
    def busy(self) -> bool:
        """It has work left without a new message: the loop must not sleep."""

    def sockets(self) -> Sequence[Any]:
        """What to poll."""

    def serve(self) -> bool:
        """Handle at most one message, never block; False: nothing to do."""

    def close(self) -> None:
        """The last word."""


class Identity(NamedTuple):
    """What is the same in every message of this run."""

    line: str
    engine: str
    simulated: tuple[bool, ...]
    """By camera."""


class Publisher:
    """Bound by its maker, then used by the publish thread alone."""

    def __init__(
        self,
        config: Publish,
        identity: Identity,
        setups: dict[int, tuple[RecipeRef, ModelRef]],
        journal: Journal,
        ledger: Ledger,
        cameras: Sequence[CameraStatus],
        state: Callable[[], tuple[str, str]],
        control: Link | None = None,
    ) -> None:
        self.published = 0
        self._services: list[Service] = []
        self._control_lock = -1
        self._config, self._identity = config, identity
        self.setups = setups  # added to by the main thread before there is a frame of it
        self.setup = next(iter(setups), 1)  # the one in use, for the heartbeat
        self._journal, self._ledger, self._cameras, self._state = journal, ledger, cameras, state
        self._topics = [result_topic(identity.line, camera.name) for camera in cameras]
        keyring = read_keyring(config)
        path = config.results.removeprefix("ipc://") if config.results.startswith("ipc://") else ""
        self._lock = own_path(Path(path), "publish.results") if path else -1
        self._context = zmq.Context()
        self.security = Security(self._context, config, keyring)
        self._services.append(self.security)
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, config.high_water_mark)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_INCOMING)
        self._socket.setsockopt(zmq.IPV6, "[" in config.results)
        self.security.protect(self._socket, config.results, "read")
        try:
            self._socket.bind(config.results)
            if path:
                open_to_group(Path(path))
        except zmq.ZMQError as error:
            self.close()
            raise UnavailableError(
                f"publish.results: {config.results} can't be bound: {zmq.strerror(error.errno or 0)}; "
                "is another program using it, or another daemon?"
            ) from None
        if control is not None:
            self._services.append(self._control(config, control))

    def _control(self, config: Publish, link: Link) -> ControlService:
        router = open_router(self._context)
        try:
            endpoint = config.control or beside(config.results, "control")
            path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else ""
            self._control_lock = own_path(Path(path), "publish.control") if path else -1
            router.setsockopt(zmq.IPV6, "[" in endpoint)
            self.security.protect(router, endpoint, "control")
            router.bind(endpoint)
            if path:
                open_to_group(Path(path))
        except (UnavailableError, ValueError, zmq.ZMQError) as error:
            self.security.close()
            router.close()
            self.close()
            sentence = (
                str(error) if isinstance(error, UnavailableError) else f"publish.control can't be bound: {error}"
            )
            raise UnavailableError(sentence) from None
        return ControlService(router, link, lambda name: self.security.allows(name, "control") or not name)

    def run(self, results: Handoff[Ended | Late], upstream: Callable[[], bool], progress: Progress) -> None:
        """Until `upstream` says that no more results come and none is left."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(results.fileno(), zmq.POLLIN)
        for socket in (socket for service in self._services for socket in service.sockets()):
            poller.register(socket, zmq.POLLIN)
        period_ns, next_beat_ns = self._config.heartbeat_ms * 1_000_000, now_ns()
        while not (upstream() and not len(results)):
            progress.stamp("publish")
            busy = any(service.busy for service in self._services)
            poller.poll(0 if busy else max(0, (next_beat_ns - now_ns()) // 1_000_000))
            for item in results.drain():
                if isinstance(item, Late):
                    self._ledger.late(item.frame.camera)
                else:
                    self._publish(*item)
            self._take_subscriptions()
            for service in self._services:
                for _ in range(MAX_OTHERS):
                    if len(results) or not service.serve():
                        break
            if now_ns() >= next_beat_ns:
                self._beat()
                next_beat_ns = now_ns() + period_ns
        self._beat()

    def close(self) -> None:
        """Let the last messages out, at most LINGER_MS long."""
        for service in self._services:
            service.close()
        self._socket.close()
        self._context.term()
        for lock in (self._lock, self._control_lock):
            if lock >= 0:
                os.close(lock)

    def _take_subscriptions(self) -> None:
        """XPUB accepts a new subscriber only inside calls on its socket; results come first."""
        with suppress(zmq.Again):
            for _ in range(MAX_OTHERS):
                self._socket.recv(zmq.DONTWAIT)

    def _publish(self, frame: Frame, judged: Judgement) -> None:
        judgement = self._in_time(frame, judged)
        entry = self._entry(frame, judgement)
        self._journal.append(entry)
        if self._in_time(frame, judgement) is not judgement:  # the disk stalled: the journal is corrected first
            judgement = self._in_time(frame, judgement)
            entry = self._entry(frame, judgement, entry.seq)
            self._journal.append(entry)
        self._socket.send_multipart((entry.topic, entry.header, entry.body))
        self._ledger.publish(frame.camera, judgement)
        self.published += 1
        self.setup = max(self.setup, frame.setup)
        if judgement is not judged:
            self._ledger.late(frame.camera)

    def _in_time(self, frame: Frame, judgement: Judgement) -> Judgement:
        """What may still be said of the frame now: after its deadline only UNKNOWN."""
        judged = frame.slot >= 0 and judgement.reason not in NOT_JUDGED
        if judged and now_ns() >= frame.deadline_ns:
            return unknown(Reason.DEADLINE, "answered too late")
        return judgement

    def _entry(self, frame: Frame, judgement: Judgement, seq: int = 0) -> Entry:
        seq = seq or self._journal.seq + 1
        flags = Flag.SIMULATED if self._identity.simulated[frame.camera] else Flag(0)
        if frame.counting_restarted:
            flags |= Flag.COUNTING_RESTARTED
        code = VerdictCode[judgement.verdict.name]
        header = Header(flags, code, self._journal.epoch, seq, frame.part_id, frame.trigger_utc_ns, time.time_ns())
        body = encode(self._result(frame, judgement, now_ns()))
        name, topic = self._cameras[frame.camera].name, self._topics[frame.camera]
        return Entry(seq, name, frame.part_id, topic, header.pack(), body)

    def _result(self, frame: Frame, judgement: Judgement, publish_ns: int) -> Result:
        identity = self._identity
        recipe, model = self.setups[frame.setup]
        return Result(
            line=identity.line,
            camera=self._cameras[frame.camera].name,
            part_id=frame.part_id,
            part_ref=frame.part_ref,
            frame_id=frame.frame_id,
            verdict=judgement.verdict,
            reason=judgement.reason,
            detail=judgement.detail,
            simulated=identity.simulated[frame.camera],
            counting_restarted=frame.counting_restarted,
            regions=judgement.regions,
            truncated=judgement.truncated,
            recipe=recipe,
            model=model,
            image=ImageRef(frame.slot, frame.generation) if frame.slot >= 0 else None,
            times=_times(frame, publish_ns),
        )

    def _beat(self) -> None:
        state, detail = self._state()
        identity, journal = self._identity, self._journal
        recipe, model = self.setups[self.setup]
        beat = Heartbeat(
            line=identity.line,
            state=state,
            detail=detail,
            last_seq=journal.seq,
            recipe=recipe,
            model=model,
            engine=identity.engine,
            cameras={camera.name: self._view(index, camera) for index, camera in enumerate(self._cameras)},
            journal=journal.failure or "ok",
            version=__version__,
        )
        header = Header(Flag(0), VerdictCode.NONE, journal.epoch, journal.seq, 0, 0, time.time_ns())
        self._socket.send_multipart((heartbeat_topic(identity.line), header.pack(), encode(beat)))

    def _view(self, index: int, camera: CameraStatus) -> CameraView:
        books = self._ledger.read(index)
        age_s = (now_ns() - camera.newest_ns) / 1e9 if camera.newest_ns else None
        return CameraView(
            camera.state, camera.detail, age_s, books, books.in_flight, books.balanced,
            camera.losses, camera.clock, camera.process_starts,
        )  # fmt: skip


def _times(frame: Frame, publish_ns: int) -> Times:
    def since_trigger(moment_ns: int) -> float | None:
        return (moment_ns - frame.trigger_ns) / 1e3 if moment_ns else None

    return Times(
        trigger_utc_ns=frame.trigger_utc_ns,
        ring_us=since_trigger(frame.ring_ns),
        engine_us=since_trigger(frame.engine_ns),
        judge_us=since_trigger(frame.judge_ns),
        publish_us=(publish_ns - frame.trigger_ns) / 1e3,
        deadline_us=(frame.deadline_ns - frame.trigger_ns) / 1e3,
        device_ns=frame.device_ns or None,
    )
