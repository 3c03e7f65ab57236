"""`inspectd bench faults`: every fault of a camera, the daemon running; has each trigger its one result?"""

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from inspectd.bench.line import BenchLine, pictures_of
from inspectd.runtime.frame import Judgement, Reason, Verdict
from inspectd.runtime.image_files import image_files
from inspectd.settings.config import Settings
from inspectd.subscribe import Received

RATE_HZ = 40.0
BEFORE_S, AFTER_S = 0.5, 0.8
"""Seconds for which triggers go on before the fault and after its end."""
SETTLE_S = 20.0
CAMERA = 'trigger = "line"\npart_id = "counter"\nstall_s = 2.0\nspare_slots = 8'
JUDGED = {Verdict.PASS, Verdict.FAIL}


class Scenario(NamedTuple):
    """A fault of the camera, and how long it lasts until the camera is well again."""

    name: str
    harm: Callable[[BenchLine], None]
    lasts_s: float = 0.0
    heal: Callable[[BenchLine], None] = lambda _: None
    forgets: bool = False
    """Whether the camera loses its count: nobody could then know of a trigger whose frame is on its way."""


class ScenarioOutcome(msgspec.Struct, frozen=True):
    """What came of a scenario."""

    name: str
    triggered: int
    """Number of triggers by the camera's own counter."""
    results: dict[str, int]
    """Numbers of results, by verdict if PASS or FAIL, else by reason."""
    balanced: bool
    """Whether each trigger has one result, the books agree, and no picture was taken for another part's."""
    recovery_s: float | None
    """Seconds from the fault's end to the trigger of the next judged part; None where nothing was interrupted."""


def scenarios() -> list[Scenario]:
    """Every fault of a simulated camera, and the ways in which its process can fail."""
    return [
        Scenario("none", lambda _: None),
        Scenario("drop 3 frames", lambda line: line.rig.drop(3)),
        Scenario("incomplete frame", lambda line: line.rig.incomplete(2)),
        Scenario("identical frame", lambda line: line.rig.identical(1)),
        Scenario("starved of buffers for 0.5 s", lambda line: line.rig.starve(0.5), 0.5),
        Scenario("unplugged for 1 s", lambda line: line.rig.unplug(1.0), 1.0),
        Scenario(
            "unplugged for 1 s, power lost", lambda line: line.rig.unplug(1.0, power=True), 1.0, forgets=True
        ),
        Scenario("back with another serial for 2 s", _exchange, 2.0, lambda line: line.rig.rename("SIM-sim")),
        Scenario("register access of 6 s", _slow_register, 6.0),
        Scenario("silent while connected", lambda line: line.rig.fall_silent()),
        Scenario("clock jumps an hour ahead", lambda line: line.rig.jump_clock(3600.0)),
        Scenario("clock jumps an hour back", lambda line: line.rig.jump_clock(-3600.0)),
        Scenario("counter jumps ahead", lambda line: _jump(line, 1_000_000), forgets=True),
        Scenario("counter steps back", lambda line: _jump(line, -500_000), forgets=True),
        Scenario("camera process killed", lambda line: line.kill_camera()),
        Scenario("camera process stopped", lambda line: line.kill_camera(signal.SIGSTOP)),
    ]


def _exchange(line: BenchLine) -> None:
    line.rig.rename("OTHER")
    line.rig.unplug(0.2)


def _jump(line: BenchLine, by: int) -> None:
    line.rig.jump_counter(by)
    time.sleep(0.1)  # the camera must notice before its next trigger, or that would be part of the jump


def _slow_register(line: BenchLine) -> None:
    """Pause triggers so that the idle camera is asked for a register, which then takes 6 s."""
    line.rig.slow_register(6.0)
    time.sleep(1.5)


def bench_faults(settings: Settings, judge: Callable[[Path], Judgement], json: bool) -> None:
    """Run all scenarios against one daemon; raises UserError where it does not get going again.

    judge: what `inspectd replay` says of an image file, by the recipe in `settings`.
    """
    folder, _, _ = pictures_of(settings)
    expected = [judge(path).verdict for path in image_files(folder)]
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="inspectd-") as temporary,
        BenchLine(settings, Path(temporary), CAMERA) as line,
    ):
        for scenario in scenarios():
            outcomes.append(_run(scenario, line, expected))
            if not json:
                print(_text(outcomes[-1]), flush=True)
    if json:
        print(msgspec.json.encode({"scenarios": outcomes}).decode())


def _run(scenario: Scenario, line: BenchLine, expected: list[Verdict]) -> ScenarioOutcome:
    line.results.clear()
    books = line.view.books.triggered if line.view else 0
    triggered = _fire(line, BEFORE_S)
    if scenario.forgets:
        line.until(
            lambda: len(line.results) >= triggered, SETTLE_S, f"{scenario.name}: results before it are missing"
        )
    scenario.harm(line)
    ended_ns = time.monotonic_ns() + int(scenario.lasts_s * 1e9)
    triggered += _fire(line, scenario.lasts_s)
    scenario.heal(line)
    until_s = time.monotonic() + SETTLE_S
    while time.monotonic() < until_s:  # go on until a part is judged whose trigger came after the fault
        triggered += _fire(line, 0.1)
        if _first_judged(line.results, ended_ns) is not None:
            break
    triggered += _fire(line, AFTER_S)
    line.until(lambda: _all_out(line, books + triggered), SETTLE_S, f"{scenario.name}: results are missing")
    first_ns = _first_judged(line.results, ended_ns)
    return ScenarioOutcome(
        scenario.name,
        triggered,
        dict(Counter(_kind(r) for r in line.results)),
        _is_balanced(line, triggered, expected),
        round((first_ns - ended_ns) / 1e9, 3) if first_ns and _was_interrupted(scenario, line) else None,
    )


def _fire(line: BenchLine, seconds: float) -> int:
    """Fire triggers at RATE_HZ for so long; gives how many of them the camera heard."""
    heard, next_s = 0, time.monotonic()
    until_s = next_s + seconds
    while next_s < until_s:
        before = line.rig.memory.counter
        heard += line.rig.pulse() - before
        next_s += 1 / RATE_HZ
        while (left_s := next_s - time.monotonic()) > 0:
            line.take(left_s)
    return heard


def _all_out(line: BenchLine, triggered: int) -> bool:
    view = line.view
    return view is not None and view.books.triggered >= triggered and view.in_flight == 0 and view.state != "dead"


def _moment_ns(received: Received) -> int:
    """Moment of the result's trigger, on the monotonic clock in ns."""
    return received.result.times.trigger_utc_ns - time.time_ns() + time.monotonic_ns()


def _first_judged(results: list[Received], after_ns: int) -> int | None:
    moments = (_moment_ns(r) for r in results if r.result.verdict in JUDGED)
    return min((moment for moment in moments if moment > after_ns), default=None)


def _was_interrupted(scenario: Scenario, line: BenchLine) -> bool:
    return scenario.lasts_s > 0 or any(r.result.reason is Reason.CAMERA for r in line.results)


def _kind(received: Received) -> str:
    result = received.result
    return str(result.verdict if result.verdict in JUDGED else result.reason)


def _is_balanced(line: BenchLine, triggered: int, expected: list[Verdict]) -> bool:
    parts = Counter(r.result.part_id for r in line.results)
    wrong = [r for r in line.results if r.result.verdict in JUDGED and not _shows_its_own(r, expected)]
    agrees = line.view is not None and line.view.balanced
    return agrees and len(line.results) == triggered == len(parts) and not wrong


def _shows_its_own(received: Received, expected: list[Verdict]) -> bool:
    """Whether a result is its own picture's: trigger n shows picture n - 1, and so has that one's verdict."""
    return received.result.verdict == expected[(received.result.frame_id - 1) % len(expected)]


def _text(outcome: ScenarioOutcome) -> str:
    results = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.results.items()))
    recovery = "" if outcome.recovery_s is None else f", judging again after {outcome.recovery_s:.2f} s"
    verdict = "balanced" if outcome.balanced else "NOT BALANCED"
    return f"{outcome.name}: {outcome.triggered} triggers: {results}; {verdict}{recovery}"
