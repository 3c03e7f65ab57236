"""Messages made of what the stages hand over: results as journal entries, and heartbeats."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import UNSET

from inspectd import __version__
from inspectd.publish.journal.records import Entry
from inspectd.publish.journal.writer import Journal
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns
from inspectd.runtime.frame import Frame, Judgement, Verdict
from inspectd.wire.results import (
    MINOR,
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
    encode,
    result_topic,
)

CODES = {verdict: VerdictCode[verdict.name] for verdict in Verdict}
"""Verdict codes of the header by verdict, looked up once: enums would take longer than the whole header."""


class CameraStatus(Protocol):
    """What the heartbeat reports of a camera."""

    name: str
    newest_ns: int
    losses: Losses
    clock: ClockView
    process_starts: int

    @property
    def state(self) -> str:
        """State of the camera: streaming, idle, or dead."""

    @property
    def detail(self) -> str:
        """What it is, or why it is dead, in words."""


class Names(NamedTuple):
    """What messages say of a setup."""

    recipe: RecipeRef
    model: ModelRef
    engine: str


class Identity(NamedTuple):
    """What is the same in every message of this run of the daemon."""

    line: str
    simulated: tuple[bool, ...]
    """Whether each camera is simulated, by its number."""


class Messages:
    """Builds the messages of one line; used by the publish thread alone."""

    def __init__(
        self,
        identity: Identity,
        setups: dict[int, Names],
        journal: Journal,
        ledger: Ledger,
        cameras: Sequence[CameraStatus],
        state: Callable[[], tuple[str, str]],
    ) -> None:
        self._identity, self._setups = identity, setups
        self._journal, self._ledger = journal, ledger
        self._cameras, self._state = cameras, state
        self._topics = [result_topic(identity.line, camera.name) for camera in cameras]
        self._flags = [Flag.SIMULATED if simulated else Flag(0) for simulated in identity.simulated]

    def entry(self, frame: Frame, judgement: Judgement, seq: int) -> Entry:
        """Build a result under its number; number 0 is for an answer that came after the deadline."""
        flags = self._flags[frame.camera]
        if frame.counting_restarted:
            flags |= Flag.COUNTING_RESTARTED
        if frame.parts > 1:
            assert judgement.verdict is Verdict.UNKNOWN, "nobody saw these parts"
            flags |= Flag.RANGE
        if not seq:
            flags |= Flag.LATE
        code = CODES[judgement.verdict]
        header = Header(flags, code, self._journal.epoch, seq, frame.part_id, frame.trigger_utc_ns, time.time_ns())
        body = encode(self._result(frame, judgement, now_ns()))
        name, topic = self._cameras[frame.camera].name, self._topics[frame.camera]
        return Entry(seq, name, frame.last_part_id, topic, header.pack(), body)

    def _result(self, frame: Frame, judgement: Judgement, publish_ns: int) -> Result:
        identity = self._identity
        names = self._setups[frame.setup]
        return Result(
            line=identity.line,
            camera=self._cameras[frame.camera].name,
            part_id=frame.part_id,
            last_part_id=frame.last_part_id if frame.parts > 1 else UNSET,
            frame_id=frame.frame_id,
            verdict=judgement.verdict,
            reason=judgement.reason,
            detail=judgement.detail,
            simulated=identity.simulated[frame.camera],
            counting_restarted=frame.counting_restarted,
            regions=judgement.regions,
            truncated=judgement.truncated,
            recipe=names.recipe,
            model=names.model,
            part_ref=frame.part_ref,
            image=ImageRef(frame.slot, frame.generation) if frame.slot >= 0 else None,
            times=_times(frame, publish_ns),
        )

    def heartbeat(self, setup: int, counts: dict[str, int]) -> tuple[Header, Heartbeat]:
        """Build a heartbeat of the line as it is now. `setup`: the one in use; `counts`: the publisher's."""
        state, detail = self._state()
        names = self._setups[setup]
        identity, journal = self._identity, self._journal
        beat = Heartbeat(
            line=identity.line,
            state=state,
            detail=f"{detail}; degraded: {journal.failure}" if journal.failure else detail,
            last_seq=journal.seq,
            recipe=names.recipe,
            model=names.model,
            engine=names.engine,
            cameras={camera.name: self._view(index, camera) for index, camera in enumerate(self._cameras)},
            journal=journal.failure or "ok",
            counts=counts,
            version=__version__,
            minor=MINOR,
        )
        header = Header(Flag(0), VerdictCode.NONE, journal.epoch, journal.seq, 0, 0, time.time_ns())
        return header, beat

    def _view(self, index: int, camera: CameraStatus) -> CameraView:
        books = self._ledger.read(index)
        age_s = (now_ns() - camera.newest_ns) / 1e9 if camera.newest_ns else None
        return CameraView(
            camera.state, camera.detail, age_s, books, books.in_flight, books.balanced,
            camera.losses, camera.clock, camera.process_starts,
        )  # fmt: skip


def _times(frame: Frame, publish_ns: int) -> Times:
    trigger_ns = frame.trigger_ns
    return Times(
        trigger_utc_ns=frame.trigger_utc_ns,
        ring_us=(frame.ring_ns - trigger_ns) / 1e3 if frame.ring_ns else None,
        engine_us=(frame.engine_ns - trigger_ns) / 1e3 if frame.engine_ns else None,
        judge_us=(frame.judge_ns - trigger_ns) / 1e3 if frame.judge_ns else None,
        publish_us=(publish_ns - trigger_ns) / 1e3,
        deadline_us=(frame.deadline_ns - trigger_ns) / 1e3,
        device_ns=frame.device_ns or None,
    )
