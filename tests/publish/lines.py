"""A line's publisher on a real ipc socket, with its journal and books."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from inspectd.publish.control import make_link
from inspectd.publish.journal.writer import Journal
from inspectd.publish.loop import Publisher
from inspectd.publish.messages import Identity, Names
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView
from inspectd.runtime.frame import Ended, Frame, Judgement, Late, Reason, Verdict
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.settings.publish import JournalConfig, Publish
from inspectd.subscribe.client import Results
from inspectd.subscribe.events import Beat, Event, Received
from inspectd.wire.results import ModelRef, RecipeRef, VerdictCode, unpack_header

PASS = Judgement(Verdict.PASS, Reason.NONE)
FAIL = Judgement(Verdict.FAIL, Reason.DEFECT)
SMALL = JournalConfig(segment_mib=1, segments=2)
IDENTITY = Identity("a", (False, True))


SETUPS = {1: Names(RecipeRef("screw", "012345678901"), ModelRef("toy", "f" * 64), "the engine")}


class Camera:
    """What the heartbeat tells of a camera."""

    def __init__(self, name: str) -> None:
        self.name, self.state, self.detail, self.newest_ns = name, "idle", f"the {name} camera", 0
        self.losses, self.clock, self.process_starts = Losses(), ClockView(), 1


class LossyWire:
    """A double of the results socket that loses what it is told to, as ZeroMQ does of a slow subscriber's."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket, self.dropped = socket, set[int]()

    def send_multipart(self, frames: tuple[bytes, bytes, bytes]) -> None:
        header = unpack_header(frames[1])
        if header.verdict is VerdictCode.NONE or header.seq not in self.dropped:
            self._socket.send_multipart(frames)


class Line:
    """Publishes in a thread; put results by `put`."""

    def __init__(
        self,
        folder: Path,
        journal: type[Journal] = Journal,
        endpoint: str = "",
        boot: str = "boot",
        **publish: str,
    ) -> None:
        self.folder = folder / "journal"
        self.journal = journal(self.folder, SMALL, boot)
        self.endpoint = endpoint or f"ipc://{folder}/z"
        self.ledger = Ledger(2)
        self.cameras = [Camera("top"), Camera("side")]
        self.results: Handoff[Ended | Late] = Handoff()
        self.state = ("ContinuousExecution", "inspecting")
        config = Publish(results=self.endpoint, heartbeat_ms=100, **publish)
        self.setups = dict(SETUPS)
        self.publisher = Publisher(
            config, IDENTITY, self.setups, self.journal, self.ledger, self.cameras, lambda: self.state, make_link()
        )
        self._wire = LossyWire(self.publisher._results)
        self.publisher._results = self._wire  # type: ignore[assignment]
        self._end, self._put = threading.Event(), 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.publisher.run(self.results, self._end.is_set, Progress(["publish"]))
        self.publisher.close()

    def put(self, one: Frame, judgement: Judgement = PASS) -> Frame:
        """What the judge does with a frame it has claimed."""
        one.claim()
        self._put += 1
        reason = None if judgement.verdict is not Verdict.UNKNOWN else judgement.reason
        self.ledger.trigger(one.camera, reason, one.parts)
        self.results.put(Ended(one, judgement))
        return one

    def lose(self, count: int) -> None:
        """Results that go past every subscriber, and that nobody keeps."""
        self.journal.seq += count

    def finish_puts(self) -> None:
        """All that was put so far is published."""
        while len(self.results) or self.publisher.published < self._put:
            time.sleep(0.001)

    def drop(self, *numbers: int) -> None:
        """These results get lost on the wire; they are in the journal."""
        self._wire.dropped.update(numbers)

    def finish(self) -> None:
        """All that was put is published, and the sockets are closed."""
        self._end.set()
        self._thread.join(10)

    def stop(self) -> None:
        self.finish()
        if self.journal._fd >= 0:
            self.journal.close()
            self.journal._fd = -1


def heard(subscriber: Results, wanted: Callable[[Event], object], seconds: float = 5) -> list[Event]:
    """Events up to the first wanted one."""
    events: list[Event] = []
    while not events or not wanted(events[-1]):
        event = subscriber.receive(seconds)
        assert event is not None
        events.append(event)
        assert len(events) < 1000
    return events


def connected(subscriber: Results) -> Beat:
    """Wait until the daemon is heard."""
    beat = heard(subscriber, lambda event: isinstance(event, Beat))[-1]
    assert isinstance(beat, Beat)
    return beat


def results(subscriber: Results, count: int) -> list[Received]:
    """The next results, in order, past heartbeats."""
    found: list[Received] = []
    while len(found) < count:
        event = heard(subscriber, lambda event: not isinstance(event, Beat))[-1]
        assert isinstance(event, Received), event
        found.append(event)
    return found
