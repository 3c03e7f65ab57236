"""`inspectd bench wire`: what a result costs on its way out: encoded, kept in the journal, handed to the socket.

The daemon's own messages, journal and publisher, a subscriber that reads in another process, the journal's syncing
thread beside. The bars stand for results back to back, which is what the code costs. After a pause, as on a slow
line, caches are cold and the socket's thread must be woken: that is reported beside, and depends on the machine.
"""

import gc
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from inspectd.bench.countdown import Countdown
from inspectd.bench.counter import Counter, Tally
from inspectd.publish.control import make_link
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.publish.loop import Publisher
from inspectd.publish.messages import Identity, Messages, Names
from inspectd.runtime.books import Ledger, Losses
from inspectd.runtime.clock import ClockView, now_ns, utc_of
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Frame, Judgement, Reason, Region, Verdict
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.progress import Progress
from inspectd.settings.config import Settings
from inspectd.settings.publish import JournalConfig, Publish
from inspectd.wire.results import ModelRef, RecipeRef

PAUSE_S = 2e-4
"""Pause in seconds per result: the subscriber must keep up, or the socket takes fresh memory each time."""
BURST = 50
"""Number of results that go out back to back."""
WARM_UP = 500
BARS_US = {"encode": 10.0, "journal append": 10.0, "publish": 30.0}
"""Highest medians of the three steps, in µs."""
SETUPS = {1: Names(RecipeRef("bench", "0" * 12), ModelRef("bench", "0" * 64), "none")}
REGION = Region(
    class_="scratch", score=0.91, mean_score=0.73, bbox=(396, 76, 104, 80), centroid=(445.4, 119.6),
    area_px=4530.5, length_px=105.9, contour=[(400 + 6 * i, 80 + 5 * (i % 7)) for i in range(8)], zone="left",
)  # fmt: skip
"""A region as in the demo, half of whose regions have up to 4 points in their outline."""
FAILED = Judgement(Verdict.FAIL, Reason.DEFECT, (REGION,) * 8)
PASSED = Judgement(Verdict.PASS, Reason.NONE)


class Cost(msgspec.Struct, frozen=True):
    """Cost of one step in µs, over `results` results back to back."""

    step: str
    transport: str
    regions: int
    results: int
    p50_us: float
    p99_us: float
    bar_us: float
    kept: bool
    """Whether the median is at most the bar."""
    after_pause_p50_us: float
    """Median in µs of a tenth as many results, each after a pause."""


class StillCamera:
    """A camera, as far as a result names it."""

    name, state, detail, newest_ns, process_starts = "bench", "streaming", "", 0, 0
    losses, clock = Losses(), ClockView()


class Wire:
    """One publisher and its journal, used by the caller's thread as the publish thread uses them."""

    def __init__(self, publish: Publish, journal: Journal) -> None:
        self.state = "ContinuousExecution"
        self.journal = journal
        identity, ledger, cameras = Identity("bench", (True,)), Ledger(1), [StillCamera()]
        common = (journal, ledger, cameras, lambda: (self.state, "bench"))
        self._messages = Messages(identity, SETUPS, *common)
        self._publisher = Publisher(publish, identity, SETUPS, *common, make_link())

    def listen(self, counter: Counter) -> None:
        """Serve the sockets until the subscriber hears."""
        heard = threading.Event()

        def wait() -> None:
            counter.wait_until_it_hears()
            heard.set()

        threading.Thread(target=wait, daemon=True).start()
        self._publisher.run(Handoff(), heard.is_set, Progress(["publish"]))

    def results(self, judgement: Judgement, count: int, burst: int = BURST) -> list[tuple[int, int, int]]:
        """Send `count` results with a pause before each burst; gives the ns of each one's three steps."""
        taken = []
        for number in range(count):
            if number % burst == 0:
                time.sleep(burst * PAUSE_S)
            taken.append(self._result(judgement))
        return taken

    def _result(self, judgement: Judgement) -> tuple[int, int, int]:
        frame = _frame(self.journal.seq + 1)
        began = now_ns()
        entry = self._messages.entry(frame, judgement, self.journal.seq + 1)
        encoded = now_ns()
        self.journal.append(entry)
        kept = now_ns()
        self._publisher.send(entry)
        return encoded - began, kept - encoded, now_ns() - kept

    def close(self) -> None:
        """Say `Halted`, and let the last messages out."""
        self.state = "Halted"
        self._publisher.run(Handoff(), lambda: True, Progress(["publish"]))
        self._publisher.close()


def bench_wire(settings: Settings, count: int, json: bool) -> None:
    """Print the costs, over `count` results each; raises UserError if the subscriber missed one."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    costs: list[Cost] = []
    countdown = Countdown(4)
    with tempfile.TemporaryDirectory(dir=settings.state_dir) as folder:
        for transport in ("ipc", "tcp"):
            costs += _measure(transport, Path(folder) / transport, settings.config.journal, count, countdown)
    if json:
        print(msgspec.json.encode({"costs": costs, "kept": all(cost.kept for cost in costs)}).decode())
    else:
        print("\n".join(_table(costs)))


def _table(costs: list[Cost]) -> Iterator[str]:
    yield (
        f"{'':<16}{'socket':>8}{'regions':>9}{'results':>9}{'median':>11}{'p99':>12}   "
        f"{'bar':<18}after a pause, median"
    )
    for cost in costs:
        verdict = "kept" if cost.kept else "NOT KEPT"
        yield (
            f"{cost.step:<16}{cost.transport:>8}{cost.regions:>9}{cost.results:>9}{cost.p50_us:>8.1f} µs"
            f"{cost.p99_us:>9.1f} µs   {f'<= {cost.bar_us:.0f} µs {verdict}':<18}"
            f"{cost.after_pause_p50_us:.1f} µs"
        )


def _measure(transport: str, folder: Path, config: JournalConfig, count: int, countdown: Countdown) -> list[Cost]:
    folder.mkdir()
    publish = _publish(transport, folder)
    journal = Journal(folder / "journal", config, boot_id())
    wire = Wire(publish, journal)
    counter = Counter(publish.results)
    gc.collect()
    gc.freeze()  # as the daemon does
    try:
        wire.listen(counter)
        costs = []
        for judgement in (PASSED, FAILED):
            countdown.begin(f"{count} results over {transport}, each with {len(judgement.regions)} regions")
            wire.results(judgement, WARM_UP)
            taken = wire.results(judgement, count)
            after_pause = wire.results(judgement, count // 10, 1)
            costs += [
                _cost(step, transport, judgement, one, statistics.median(other) / 1e3)
                for step, one, other in zip(
                    BARS_US, zip(*taken, strict=True), zip(*after_pause, strict=True), strict=True
                )
            ]
    except BaseException:
        counter.kill()
        raise
    finally:
        wire.close()
        journal.close()
    sent = 2 * (WARM_UP + count + count // 10)
    if (got := counter.result()) != Tally(sent, 0) or journal.failure:
        raise UserError(f"of {sent} results the subscriber got {got.received}; journal: {journal.failure or 'ok'}")
    return costs


def _publish(transport: str, folder: Path) -> Publish:
    """Endpoints and limits of the publisher: nothing is dropped while the subscriber falls behind."""
    if transport == "ipc":
        return Publish(results=f"ipc://{folder}/results", high_water_mark=1_000_000)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Publish(results=f"tcp://127.0.0.1:{port}", query=f"ipc://{folder}/query", high_water_mark=1_000_000)


def _frame(number: int) -> Frame:
    now = now_ns()
    frame = Frame(0, number, number, now, utc_of(now), now + int(60e9))
    frame.slot, frame.generation = number % 8, number
    frame.ring_ns = frame.engine_ns = frame.judge_ns = now
    return frame


def _cost(step: str, transport: str, judgement: Judgement, taken_ns: Sequence[int], after_pause_us: float) -> Cost:
    median, bar = statistics.median(taken_ns) / 1e3, BARS_US[step]
    p99 = float(np.percentile(taken_ns, 99)) / 1e3
    regions = len(judgement.regions)
    return Cost(
        step,
        transport,
        regions,
        len(taken_ns),
        round(median, 2),
        round(p99, 2),
        bar,
        median <= bar,
        round(after_pause_us, 2),
    )
