"""`inspectd bench overload`: does the line still judge as many parts in time when far more are offered?

Four simulated cameras on one daemon, their hardware lines pulsed at a rate. First the load is raised until the
line is saturated, then it is offered less and far more than that, with the cameras in turn and all in the same
moment. What counts is what the results say: a part is in time if it was judged (PASS, FAIL, undecided, image).
"""

import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from inspectd.acquire.simcam.world import Rig
from inspectd.bench.countdown import Countdown
from inspectd.bench.line import START_S, BenchLine
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Reason
from inspectd.settings.config import Settings

CAMERAS = ("cam1", "cam2", "cam3", "cam4")
CAMERA = 'trigger = "line"\npart_id = "counter"'
FACTORS = (0.8, 1.33, 2.0, 3.33)
"""Loads offered, in parts of the rate at which the line is saturated."""
IN_TIME = {Reason.NONE, Reason.DEFECT, Reason.UNDECIDED, Reason.IMAGE}
FIRST_HZ, STEP, SATURATED = 10.0, 1.4, 0.9
"""The load is raised from this rate on by this factor, until less than this part of it is judged in time."""
RAMP_S, SETTLE_S, REST_S = 2.0, 1.0, 20.0
RATIO_BAR, SHARE_BAR = 0.95, 0.8


class Offered(msgspec.Struct, frozen=True):
    """What came of offering a load once; rates are parts per second."""

    in_step: bool
    """Whether all cameras are triggered in the same moment, else in turn."""
    offered_hz: float
    in_time_hz: float
    reasons: dict[str, float]
    """Results per second, by reason."""
    per_camera: dict[str, int]
    """Parts judged in time, by camera."""
    share: float
    """The worst camera's parts in time, in parts of the cameras' mean."""
    daemon_cores: float
    """Processor time of the daemon per second, all its threads."""
    cameras_cores: float
    """The same of the camera processes, with what the simulated cameras themselves need."""
    exact: bool
    """Whether each trigger has exactly one result, and the books say the same."""


class Load(msgspec.Struct, frozen=True):
    """Medians over the rounds of one load."""

    offered_hz: float
    in_step: bool
    in_time_hz: float
    ratio: float
    """Parts in time, in parts of what was possible: the rate offered, at most the saturated one."""
    share: float
    exact: bool
    rounds: list[Offered]


class Overload(msgspec.Struct, frozen=True):
    """All loads, and the judgement of them."""

    saturated_hz: float
    """Most parts per second that were judged in time, at any load."""
    loads: list[Load]
    kept: bool
    """Whether every load keeps the bars of ratio and share, and each trigger has one result."""


def bench_overload(settings: Settings, seconds: float, rounds: int, rates: Sequence[float], json: bool) -> None:
    """Measure and print. rates: parts per second to offer; none = FACTORS of the saturated rate."""
    with tempfile.TemporaryDirectory(prefix="inspectd-") as folder:
        result = measure(settings, Path(folder), seconds, rounds, rates, quiet=json)
    print(msgspec.json.encode(result).decode() if json else _text(result))


def measure(
    settings: Settings, folder: Path, seconds: float, rounds: int, rates: Sequence[float], quiet: bool
) -> Overload:
    """Saturate the line, then offer it each load in turn, so many rounds."""
    with BenchLine(settings, folder, CAMERA, names=CAMERAS) as line:
        line.until(lambda: all(rig.listens for rig in line.rigs), START_S, "a camera does not stream")
        best_hz = _saturate(line, quiet)
        rates = rates or [round(factor * best_hz, 1) for factor in FACTORS]
        kinds = [(rate_hz, in_step) for rate_hz in rates for in_step in (False, True)]
        done: dict[tuple[float, bool], list[Offered]] = {kind: [] for kind in kinds}
        countdown = Countdown(rounds * len(kinds))
        for _ in range(rounds):
            for kind in kinds:
                countdown.begin(_load_text(*kind))
                done[kind].append(_offer(line, *kind, seconds))
                if not quiet:
                    print(_offered_text(done[kind][-1]), flush=True)
    medians = [statistics.median(one.in_time_hz for one in offered) for offered in done.values()]
    best_hz = max(best_hz, *medians)
    loads = [_load(rate_hz, in_step, done[rate_hz, in_step], best_hz) for rate_hz, in_step in kinds]
    kept = all(load.exact and load.ratio >= RATIO_BAR and load.share >= SHARE_BAR for load in loads)
    return Overload(best_hz, loads, kept)


def _saturate(line: BenchLine, quiet: bool) -> float:
    """Raise the load until the line can't follow; gives the most parts per second that were in time.

    Raises UserError if it follows as far as this process can raise it.
    """
    rate_hz, best_hz = FIRST_HZ, 0.0
    while True:
        print(f"looking for saturation: {rate_hz:.0f} parts/s", file=sys.stderr, flush=True)
        offered = _offer(line, rate_hz, False, RAMP_S)
        if not quiet:
            print(_offered_text(offered), flush=True)
        best_hz = max(best_hz, offered.in_time_hz)
        if offered.in_time_hz < SATURATED * offered.offered_hz:
            return best_hz
        if offered.offered_hz < SATURATED * rate_hz:
            raise UserError(
                f"the engine judges all of {offered.offered_hz:.0f} parts/s: this bench can't offer more"
            )
        rate_hz *= STEP


def _load(rate_hz: float, in_step: bool, rounds: list[Offered], best_hz: float) -> Load:
    in_time_hz = statistics.median(one.in_time_hz for one in rounds)
    ratio = statistics.median(one.in_time_hz / min(one.offered_hz, best_hz) for one in rounds)
    share = statistics.median(one.share for one in rounds)
    exact = all(one.exact for one in rounds)
    return Load(rate_hz, in_step, in_time_hz, round(ratio, 3), round(share, 3), exact, rounds)


class _Window(NamedTuple):
    """A moment at which counting begins or ends."""

    utc_ns: int
    triggers: int
    daemon_s: float
    """Processor seconds that the daemon has used so far."""
    cameras_s: float


def _window(line: BenchLine) -> _Window:
    cameras_s = math.fsum(_used_s(pid) for pid in line.camera_pids)
    return _Window(time.time_ns(), sum(_counters(line)), _used_s(line.daemon.pid), cameras_s)


def _offer(line: BenchLine, rate_hz: float, in_step: bool, seconds: float) -> Offered:
    """Offer the line a load for SETTLE_S, then for so many seconds that count."""
    before, books = _counters(line), _triggered(line)
    line.results.clear()
    stop = threading.Event()
    pulses = threading.Thread(target=_pulse, args=(line.rigs, rate_hz, in_step, stop))
    pulses.start()
    try:
        line.take_for(SETTLE_S)
        begin = _window(line)
        line.take_for(seconds)
        end = _window(line)
    finally:
        stop.set()
        pulses.join()
    sent = [now - count for now, count in zip(_counters(line), before, strict=True)]
    line.until(
        lambda: _triggered(line) >= books + sum(sent) and not any(view.in_flight for view in line.views.values()),
        REST_S,
        "results are missing",
    )
    return _offered(line, in_step, begin, end, _is_exact(line, sent))


def _offered(line: BenchLine, in_step: bool, begin: _Window, end: _Window, exact: bool) -> Offered:
    """What came of a load between two moments."""
    took_s = (end.utc_ns - begin.utc_ns) / 1e9
    seen = [r.result for r in line.results if begin.utc_ns <= r.header.publish_utc_ns < end.utc_ns]
    in_time = Counter(one.camera for one in seen if one.reason in IN_TIME)
    per_camera = {name: in_time[name] for name in CAMERAS}
    reasons = Counter(str(one.reason) for one in seen)
    mean = in_time.total() / len(CAMERAS)
    return Offered(
        in_step=in_step,
        offered_hz=round((end.triggers - begin.triggers) / took_s, 1),
        in_time_hz=round(in_time.total() / took_s, 2),
        reasons={reason: round(count / took_s, 1) for reason, count in sorted(reasons.items())},
        per_camera=per_camera,
        share=round(min(per_camera.values()) / mean, 3) if mean else 0.0,
        daemon_cores=round((end.daemon_s - begin.daemon_s) / took_s, 2),
        cameras_cores=round((end.cameras_s - begin.cameras_s) / took_s, 2),
        exact=exact,
    )


def _is_exact(line: BenchLine, sent: Sequence[int]) -> bool:
    """Whether each of the triggers sent, by camera, has exactly one result."""
    parts = {(r.result.camera, r.result.part_id) for r in line.results}
    by_camera = Counter(camera for camera, _ in parts)
    is_counted = list(sent) == [by_camera[name] for name in CAMERAS]
    return is_counted and len(parts) == len(line.results) and all(v.balanced for v in line.views.values())


def _counters(line: BenchLine) -> list[int]:
    return [rig.memory.counter for rig in line.rigs]


def _triggered(line: BenchLine) -> int:
    return sum(view.books.triggered for view in line.views.values())


def _pulse(rigs: Sequence[Rig], rate_hz: float, in_step: bool, stop: threading.Event) -> None:
    """Pulse the cameras' lines, all at this rate together, until told to stop. A moment that was missed is made up
    for: the rate holds.
    """
    turn, began_s = 0, time.monotonic()
    while not stop.is_set():
        if in_step and turn % len(rigs) == 0:
            for rig in rigs:
                rig.pulse()
        elif not in_step:
            rigs[turn % len(rigs)].pulse()
        turn += 1
        stop.wait(max(0.0, began_s + turn / rate_hz - time.monotonic()))


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _offered_text(one: Offered) -> str:
    reasons = ", ".join(f"{reason} {rate_hz}" for reason, rate_hz in one.reasons.items())
    shares = " ".join(str(count) for count in one.per_camera.values())
    return (
        f"{_load_text(one.offered_hz, one.in_step)}: in time {one.in_time_hz:.1f}/s (cameras {shares}), "
        f"results/s: {reasons}; cores: daemon {one.daemon_cores}, cameras {one.cameras_cores}"
        f"{_exact_text(one.exact)}"
    )


def _load_text(offered_hz: float, in_step: bool) -> str:
    return f"offered {offered_hz:.1f}/s {'in step' if in_step else 'in turn'}"


def _exact_text(exact: bool) -> str:
    return "" if exact else "; NOT ONE RESULT FOR EACH TRIGGER"


def _text(result: Overload) -> str:
    lines = [f"saturated at {result.saturated_hz:.1f} parts/s in time"]
    lines += [
        f"{_load_text(load.offered_hz, load.in_step)}: in time {load.in_time_hz:.1f}/s, ratio {load.ratio:.3f}, "
        f"worst camera {load.share:.2f} of the mean{_exact_text(load.exact)}"
        for load in result.loads
    ]
    bars = f"bars: ratio {RATIO_BAR}, worst camera {SHARE_BAR}, one result for each trigger"
    return "\n".join([*lines, f"{bars}: {'kept' if result.kept else 'NOT KEPT'}"])
