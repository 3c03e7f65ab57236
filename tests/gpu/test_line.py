"""A daemon with the GPU engine at line rate; ten minutes of it are `make proof`."""

from typing import Any

import pytest

from inspectd.results import Verdict
from inspectd.subscribe import Gap, Subscriber
from tests.gpu import REHEARSED
from tests.lines import Line, collect, results_of, stop, to_the_end

RATE_HZ = 100.0


@pytest.mark.gpu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [2 if REHEARSED else 20, pytest.param(600, marks=pytest.mark.proof)])
def test_every_part_is_judged_rightly_and_in_time(line: Line, tensorrt: Any, shown: Any, seconds: int) -> None:
    line.write(f"acquisition_frame_rate_hz = {RATE_HZ}")
    engine = f'\n[engine]\nkind = "tensorrt"\nplans = "{line.folder / "plans"}"\n'
    line.config.write_text(line.config.read_text() + engine)
    count = int(seconds * RATE_HZ)
    with Subscriber(line.endpoint) as subscriber:
        daemon = line.start()
        enough = lambda events: len(events) >= count and len(results_of(events)) >= count  # noqa: E731
        events = collect(subscriber, lambda events: enough(events) or daemon.poll() is not None, 880)
        assert stop(daemon) == 0, line.log
        events += to_the_end(subscriber)
    results = [received.result for received in results_of(events)]
    assert not [event for event in events if isinstance(event, Gap)]
    assert [r.part_id for r in results] == list(range(1, len(results) + 1))
    wrong = [r for r in results if r.verdict is not (Verdict.PASS if r.part_id % 2 else Verdict.FAIL)]
    assert wrong == []
    took_ms = sorted(r.times.publish_us / 1e3 for r in results)
    shown(f"{len(results)} parts, median {took_ms[len(took_ms) // 2]:.2f} ms, worst {took_ms[-1]:.2f} ms")
