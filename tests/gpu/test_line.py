"""A daemon with the GPU engine at line rate; ten minutes of it are `make proof`."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspectd.runtime.frame import Reason, Verdict
from inspectd.subscribe import Missed, Received, Results
from tests.gpu import REHEARSED
from tests.lines import Line, collect, results_of, stop, to_the_end

ROOT = Path(__file__).parents[2]
SECONDS = [2 if REHEARSED else 20, pytest.param(600, marks=pytest.mark.proof)]
WIDTH, HEIGHT, RATE_HZ = (512, 384, 5.0) if REHEARSED else (2448, 2048, 40.0)
SPREAD = 1.5
pytestmark = [pytest.mark.gpu, pytest.mark.alone, pytest.mark.timeout(900)]


def run(line: Line, count: int) -> list[Received]:
    """So many results or more, all of the daemon's, without a gap and in order."""
    with Results(line.endpoint, high_water_mark=100_000) as subscriber:
        daemon = line.start()
        enough = lambda events: len(events) >= count and len(results_of(events)) >= count  # noqa: E731
        events = collect(subscriber, lambda events: enough(events) or daemon.poll() is not None, 880)
        assert stop(daemon) == 0, line.log
        events += to_the_end(subscriber)
    assert not [event for event in events if isinstance(event, Missed)]
    results = results_of(events)
    assert [r.result.part_id for r in results] == list(range(1, len(results) + 1))
    return results


@pytest.mark.parametrize("seconds", SECONDS)
def test_every_part_is_judged_rightly(line: Line, tensorrt: Any, shown: Any, seconds: int) -> None:
    """Small pictures, 100 a second: every other one has a spot."""
    line.write("acquisition_frame_rate_hz = 100.0")
    engine = f'\n[engine]\nkind = "tensorrt"\nplans = "{line.folder / "plans"}"\n'
    line.config.write_text(line.config.read_text() + engine)
    results = [received.result for received in run(line, 100 * seconds)]
    wrong = [r for r in results if r.verdict is not (Verdict.PASS if r.part_id % 2 else Verdict.FAIL)]
    assert wrong == []
    took_ms = sorted(r.times.publish_us / 1e3 for r in results)
    shown(f"{len(results)} parts, median {took_ms[len(took_ms) // 2]:.2f} ms, worst {took_ms[-1]:.2f} ms")


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_shipped_model_keeps_up_with_five_megapixels(
    line: Line, tensorrt: Any, shown: Any, seconds: int
) -> None:
    """The demo parts side by side. (Rehearsed on the CPU: the stand-in does not compute this network.)"""
    parts = sorted((ROOT / "models/ballscrew/parts").glob("*.jpg"))[:24]
    pictures = [cv2.imread(str(part)) for part in parts]
    for number in range(4):
        rows = [np.hstack((pictures[number:] + pictures)[5 * row : 5 * row + 5]) for row in range(6)]
        cv2.imwrite(str(line.folder / f"parts/part_{number + 1:03d}.png"), np.vstack(rows)[:HEIGHT, :WIDTH])
    kind = "openvino" if REHEARSED else f'tensorrt"\nplans = "{line.folder / "plans"}'
    line.config.write_text(
        f'line = "test"\nrecipes = ["{ROOT}/models/ballscrew/recipe.toml"]\n\n[publish]\n'
        f'results = "{line.endpoint}"\n\n[engine]\nkind = "{kind}"\n\n[[camera]]\nname = "cam0"\nkind = "sim"\n'
        f'folder = "parts"\nwidth = {WIDTH}\nheight = {HEIGHT}\nacquisition_frame_rate_hz = {RATE_HZ}\n'
        'part_id = "counter"\n'
    )
    results = [received.result for received in run(line, int(RATE_HZ * seconds))]
    assert {r.reason for r in results} <= {Reason.DEFECT, Reason.UNDECIDED, Reason.NONE}  # all of them judged
    took_ms = [
        (r.times.engine_us - r.times.ring_us) / 1e3
        for r in results
        if r.times.engine_us is not None and r.times.ring_us is not None
    ]
    median, p99 = float(np.median(took_ms)), float(np.quantile(took_ms, 0.99))
    shown(f"{len(results)} parts; in the engine: median {median:.2f} ms, p99 {p99:.2f}, worst {max(took_ms):.2f}")
    assert REHEARSED or p99 <= SPREAD * median
