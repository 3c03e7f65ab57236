"""`inspectd bench faults`: every fault of a camera, the daemon running; has each trigger its one result?"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path

import msgspec

from inspectd.bench.countdown import Countdown
from inspectd.bench.line import BenchLine
from inspectd.bench.pictures import alternate, is_of
from inspectd.bench.scenarios import Kind, Scenario, scenarios
from inspectd.bench.trial import JUDGED, SETTLE_S, Trial
from inspectd.runtime.errors import UserError
from inspectd.runtime.frame import Judgement, Reason
from inspectd.settings.config import Settings
from inspectd.wire.results import Result

DEADLINE_MS = 2000
"""Long, so that parts are judged also on a machine that has much to do: speed is not what is asked for."""
BEFORE_S, AFTER_S = 0.5, 0.8
"""Seconds for which triggers go on before the fault and after its end."""


class ScenarioOutcome(msgspec.Struct, frozen=True):
    """What came of a scenario."""

    name: str
    camera: str
    """How the camera was triggered and its parts counted."""
    triggered: int
    """Number of triggers by the camera's own counter, or of software triggers that were sent."""
    results: dict[str, int]
    """Numbers of results, by verdict if PASS or FAIL, else by reason."""
    results_total: int
    wrong_pictures: int
    """Number of results that were judged on a picture that is not their trigger's."""
    balanced: bool
    """Whether each trigger has one result, the books agree, and no picture was taken for another part's."""
    recovery_s: float | None
    """Seconds from the fault's end to the trigger of the next judged part; None where nothing was interrupted."""
    within_s: float
    """What `recovery_s` may be at most."""
    trouble: str = ""
    """Why the scenario could not be played to its end; empty: it was."""

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong: balanced, no wrong picture, and well again in time."""
        is_in_time = self.recovery_s is None or self.recovery_s <= self.within_s
        return self.balanced and not self.wrong_pictures and not self.trouble and is_in_time


def bench_faults(settings: Settings, judge: Callable[[Path], Judgement], json: bool) -> None:
    """Run all scenarios, one daemon for each kind of camera; another one after a scenario that left it wrong.

    judge: what `inspectd replay` says of an image file, by the recipe in `settings`. Raises UserError if the
    config's pictures are all clean or all defective, or a daemon does not start.
    """
    outcomes = []
    countdown = Countdown(len(scenarios()))
    with tempfile.TemporaryDirectory(prefix="inspectd-") as temporary:
        folder = Path(temporary)
        pictures = alternate(settings, judge, folder / "pictures")
        for kind, group in groupby(scenarios(), lambda scenario: scenario.kind):
            for outcome in _run_all(kind, list(group), settings, folder, pictures, countdown):
                outcomes.append(outcome)
                if not json:
                    print(_text(outcome), flush=True)
    if json:
        print(msgspec.json.encode({"scenarios": outcomes}).decode())


def _run_all(
    kind: Kind,
    left: list[Scenario],
    settings: Settings,
    folder: Path,
    pictures: list[Judgement],
    countdown: Countdown,
) -> Iterator[ScenarioOutcome]:
    while left:
        own = Path(tempfile.mkdtemp(dir=folder))
        with BenchLine(
            settings, own, kind.config, images=folder / "pictures", is_heard=kind.is_heard, deadline_ms=DEADLINE_MS
        ) as line:
            is_right = True
            while left and is_right:
                countdown.begin(f"{left[0].name}, {left[0].kind.name}")
                outcome = _run(left.pop(0), line, pictures)
                is_right = outcome.is_right
                yield outcome


def _run(scenario: Scenario, line: BenchLine, pictures: list[Judgement]) -> ScenarioOutcome:
    trial, ended_ns, trouble = Trial(line, scenario.kind.trigger, scenario.kind.part_id), time.monotonic_ns(), ""
    try:
        ended_ns = _play(scenario, trial)
    except UserError as error:
        trouble = str(error).split("; the daemon's log")[0]
    line.rig.heal()
    results = trial.results
    wrong = sum(
        r.verdict in JUDGED and not (n and is_of(r.verdict, r.regions, pictures[(n - 1) % len(pictures)]))
        for r, n in zip(results, trial.numbers(), strict=True)
    )
    first_ns = trial.first_judged_ns(ended_ns)
    was_interrupted = scenario.lasts_s > 0 or any(r.reason is Reason.CAMERA for r in results)
    return ScenarioOutcome(
        name=scenario.name,
        camera=scenario.kind.name,
        triggered=len(trial.fired),
        results=dict(Counter(_kind(r) for r in results)),
        results_total=len(results),
        wrong_pictures=wrong,
        balanced=trial.books_agree and not wrong and _is_complete(scenario, trial),
        recovery_s=round((first_ns - ended_ns) / 1e9, 3) if first_ns and was_interrupted else None,
        within_s=scenario.within_s,
        trouble=trouble,
    )


def _play(scenario: Scenario, trial: Trial) -> int:
    """Send triggers before, during and after the fault; returns when that ended, on the monotonic clock in ns."""
    trial.fire(BEFORE_S)
    if scenario.forgets:
        trial.settle()
    scenario.harm(trial)
    ended_ns = time.monotonic_ns() + int(scenario.lasts_s * 1e9)
    trial.fire(scenario.lasts_s)
    if scenario.forgets:
        trial.settle()
    scenario.heal(trial)
    until_s = time.monotonic() + scenario.within_s + SETTLE_S
    while time.monotonic() < until_s:  # go on until a part is judged whose trigger came after the fault
        trial.fire(0.1)
        if trial.first_judged_ns(ended_ns) is not None:
            break
    else:
        raise UserError(f"no part was judged any more after the fault: {scenario.name}")
    trial.fire(AFTER_S)
    trial.end()
    return ended_ns


def _is_complete(scenario: Scenario, trial: Trial) -> bool:
    """Whether each trigger has its one result.

    Where the parts are not counted by the camera, or it forgot, triggers may be missing that a result tells of.
    """
    results = trial.results
    count, wanted = trial.parts, len(trial.fired)
    is_told = any(r.counting_restarted for r in results)
    by_ids = scenario.kind.part_id != "counter" and scenario.kind.trigger != "software"
    may_miss = is_told and (scenario.forgets or by_ids)
    is_unique = all(r.part_id + r.parts <= after.part_id for r, after in pairwise(results))
    return is_unique and (wanted <= count <= wanted + scenario.extra or (may_miss and count < wanted))


def _kind(result: Result) -> str:
    return str(result.verdict if result.verdict in JUDGED else result.reason)


def _text(outcome: ScenarioOutcome) -> str:
    results = ", ".join(f"{kind} {count}" for kind, count in sorted(outcome.results.items()))
    said = [f"{outcome.triggered} triggers", results, "balanced" if outcome.balanced else "NOT BALANCED"]
    if outcome.wrong_pictures:
        said.append(f"{outcome.wrong_pictures} ON ANOTHER PART'S PICTURE")
    if outcome.recovery_s is not None:
        late = "" if outcome.recovery_s <= outcome.within_s else f", LATER THAN {outcome.within_s:g} s"
        said.append(f"judging again after {outcome.recovery_s:.2f} s{late}")
    if outcome.trouble:
        said.append(outcome.trouble.upper())
    return f"{outcome.name}: {'; '.join(said)}"
