"""`inspectd bench crowd`: do many subscribers, half of them stopped, and a flood of questions hold up a result?

One daemon on a simulated camera, in turn alone with one subscriber, and with the crowd and the flood. What is
measured is in the results themselves: frame in the ring -> result handed to the socket. Crowd and flood are niced:
not the cores are to be fought for, but the publish loop. What the flood makes the daemon itself do is part of it.
"""

import statistics
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from inspectd.bench.clients import STOPPED, SUBSCRIBERS, Subscribers, start_flood
from inspectd.bench.countdown import Countdown
from inspectd.bench.line import BenchLine
from inspectd.bench.wire import FAILED, Wire
from inspectd.publish.journal.writer import Journal, boot_id
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Reason
from inspectd.settings.config import Settings
from inspectd.settings.publish import Publish
from inspectd.subscribe import Received

RATE_HZ = 10.0
KEPT_BEFORE = 5000
"""Number of results in the journal before the daemon starts, for the flood to ask for."""
HIGH_WATER_MARK = 20
"""High-water mark of the results; stopped subscribers lose some within seconds, and must ask for them."""
SETTLE_S = 1.0
RATIO_BAR, DIFFERENCE_BAR_MS = 1.2, 0.1
"""Most ratio and most difference of the two states' delays; one of the two bars is to be kept."""
CAMERA = f'trigger = "free_run"\nacquisition_frame_rate_hz = {RATE_HZ}\npart_id = "counter"\nspare_slots = 8'


class Delay(msgspec.Struct, frozen=True):
    """Milliseconds from the frame in the ring to its result handed to the socket."""

    results: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    deadline: int
    """Number of results that are UNKNOWN/`deadline`."""
    unknown: int
    """Number of results that are UNKNOWN for any other reason for which no picture was judged."""


class Round(msgspec.Struct, frozen=True):
    """One round of the measurement: first the daemon with one subscriber, then with the crowd."""

    alone: Delay
    crowd: Delay
    answered: int
    """Number of the flood's questions that were answered."""
    refused: int
    dropped: int


class Crowd(msgspec.Struct, frozen=True):
    """Medians over the rounds, and the judgement of them."""

    rounds: list[Round]
    alone_ms: float
    crowd_ms: float
    ratio: float
    difference_ms: float
    deadline: int
    """Number of deadlines missed in all rounds, in both states."""
    wrong: int
    """Number of results that a subscriber, stopped or not, got twice, in disorder, or not at all."""
    kept: bool
    """Whether ratio or difference is within the bar, no deadline missed and no result wrong."""


def bench_crowd(settings: Settings, seconds: float, rounds: int, json: bool) -> None:
    """Measure each round and print it, then what they come to."""
    with tempfile.TemporaryDirectory(prefix="inspectd-") as temporary:
        folder = Path(temporary)
        line = BenchLine(settings, folder, CAMERA, HIGH_WATER_MARK)
        _fill(settings, line.state_dir / "journal", folder)
        done, wrong, countdown = [], 0, Countdown(rounds)
        with line:
            for _ in range(rounds):
                countdown.begin("the line alone, then with the crowd")
                one, more = _round(line, seconds)
                done.append(one)
                wrong += more
                if not json:
                    print(_round_text(one), flush=True)
    result = _result(done, wrong)
    print(msgspec.json.encode(result).decode() if json else _text(result))


def _fill(settings: Settings, journal: Path, folder: Path) -> None:
    kept = Journal(journal, settings.config.journal, boot_id())
    wire = Wire(Publish(results=f"ipc://{folder}/filling"), kept)
    wire.results(FAILED, KEPT_BEFORE)
    wire.close()
    kept.close()


def _round(line: BenchLine, seconds: float) -> tuple[Round, int]:
    alone = _delay(_observe(line, seconds))
    crowd, before = Subscribers(line.endpoint, line.folder), line.counts
    flood = start_flood(f"ipc://{line.folder}/query")
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        crowd.stop_half()
        results = _observe(line, seconds)
        flood.kill()
        flood.wait()
        after = line.counts
        wrong = crowd.finish(results[-1].seq, line)
    finally:
        flood.kill()
        flood.communicate()
        crowd.kill()
    answered, refused, dropped = (
        after[f"query_{what}"] - before[f"query_{what}"] for what in ("answered", "refused", "dropped")
    )
    return Round(alone, _delay(results), answered, refused, dropped), wrong


def _observe(line: BenchLine, seconds: float) -> list[Received]:
    """Give the results of so many seconds, after the line has settled."""
    for length_s in (SETTLE_S, seconds):
        line.results.clear()
        line.take_for(length_s)
    if not line.results:
        raise UserError("the daemon sent no results; its log:\n" + (line.folder / "log").read_text()[-2000:])
    return list(line.results)


def _delay(results: list[Received]) -> Delay:
    times = [one.result.times for one in results]
    took_ms = [(at.publish_us - at.ring_us) / 1e3 for at in times if at.ring_us is not None]
    reasons = [one.result.reason for one in results]
    judged = (Reason.NONE, Reason.DEFECT, Reason.UNDECIDED, Reason.IMAGE, Reason.DEADLINE)
    return Delay(
        len(results), round(statistics.median(took_ms), 3), round(float(np.percentile(took_ms, 99)), 3),
        round(max(took_ms), 3), reasons.count(Reason.DEADLINE), sum(reason not in judged for reason in reasons),
    )  # fmt: skip


def _result(rounds: list[Round], wrong: int) -> Crowd:
    ratio = statistics.median(one.crowd.p50_ms / one.alone.p50_ms for one in rounds)
    difference_ms = statistics.median(one.crowd.p50_ms - one.alone.p50_ms for one in rounds)
    missed = sum(one.alone.deadline + one.crowd.deadline for one in rounds)
    in_time = ratio <= RATIO_BAR or difference_ms <= DIFFERENCE_BAR_MS
    return Crowd(
        rounds,
        round(statistics.median(one.alone.p50_ms for one in rounds), 3),
        round(statistics.median(one.crowd.p50_ms for one in rounds), 3),
        round(ratio, 3), round(difference_ms, 3), missed, wrong, in_time and not missed and not wrong,
    )  # fmt: skip


def _round_text(one: Round) -> str:
    return (
        f"alone {_delay_text(one.alone)}; crowd {_delay_text(one.crowd)}; "
        f"questions answered {one.answered}, refused {one.refused}, dropped {one.dropped}"
    )


def _delay_text(delay: Delay) -> str:
    return (
        f"p50 {delay.p50_ms:.2f} ms, p99 {delay.p99_ms:.2f}, max {delay.max_ms:.2f} ({delay.results} results, "
        f"{delay.deadline} past the deadline, {delay.unknown} otherwise unknown)"
    )


def _text(result: Crowd) -> str:
    verdict = "kept" if result.kept else "NOT KEPT"
    return (
        f"frame in the ring -> handed to the socket, medians: alone with one subscriber {result.alone_ms:.2f} ms, "
        f"with\n{SUBSCRIBERS} of which {STOPPED} are stopped, and a flood on query, {result.crowd_ms:.2f} ms: "
        f"ratio {result.ratio:.3f}, difference {result.difference_ms:.3f} ms\n"
        f"(bar: {RATIO_BAR} or {DIFFERENCE_BAR_MS} ms); deadlines missed {result.deadline}, results that went "
        f"wrong at a subscriber {result.wrong};\ncrowd and flood are niced: {verdict}"
    )
