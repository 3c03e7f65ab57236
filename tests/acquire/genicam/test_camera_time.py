"""The times of cameras that tell them in other ways than they should."""

import threading
import time
from collections.abc import Callable

import pytest

from inspectd.acquire.camera import Exposure
from inspectd.acquire.genicam.genicam import Genicam
from inspectd.runtime.clock import now_ns
from tests.acquire.sims import Sim, needs_simcam, running

pytestmark = needs_simcam
Make = Callable[..., Sim]
LATE_NS = 500_000_000
"""On a busy machine; the clocks' faults are of seconds."""


def exposures(sim: Sim, camera: Genicam, count: int, period_s: float = 0.05) -> list[tuple[int, Exposure]]:
    """Pulses on the line while the camera waits: when each was sent, and the frame that came."""
    sent: list[int] = []

    def fire() -> None:
        for _ in range(count):
            time.sleep(period_s)
            sent.append(now_ns())
            sim.rig.pulse()

    firing = threading.Thread(target=fire)
    firing.start()
    found: list[Exposure] = []
    until_ns = now_ns() + int(20e9)
    while len(found) < count and now_ns() < until_ns:
        if isinstance(frame := camera.wait(0.25), Exposure):
            camera.read(None)
            found.append(frame)
    firing.join()
    assert len(found) == count
    return list(zip(sent, found, strict=True))


def in_time(found: list[tuple[int, Exposure]]) -> bool:
    return all(abs(frame.trigger_ns - sent_ns) < LATE_NS for sent_ns, frame in found)


def said(capsys: pytest.CaptureFixture[str]) -> int:
    return capsys.readouterr().out.count("the camera's clock can't be trusted")


@pytest.mark.parametrize("timestamps", ["ns", "ticks", "bare", "mixed"])
def test_ticks_of_any_unit_are_those_of_the_clock_that_is_latched(make: Make, timestamps: str) -> None:
    """`mixed`: the frames count 125 MHz, the latch ns; `bare`: nobody tells how long a tick is."""
    sim = make(timestamps=timestamps)
    with running(sim) as camera:
        assert in_time(exposures(sim, camera, 3))  # it takes two readings of the clock to know
        found = exposures(sim, camera, 10)
        assert in_time(found) and all(frame.device_ns for _, frame in found)
        assert sim.losses.clock_jumps == 0 and camera._time.uncertainty_ns is not None
        between_ns = found[-1][1].device_ns - found[0][1].device_ns
        assert abs(between_ns - (found[-1][0] - found[0][0])) < LATE_NS


@pytest.mark.parametrize("timestamps", ["absent", "zero"])
@pytest.mark.parametrize("latch", ["there", "missing", "withheld"])
def test_frames_without_a_time_are_no_device_time_and_that_is_said_once(
    make: Make, timestamps: str, latch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sim = make(timestamps=timestamps)
    if latch != "there":
        (sim.rig.nodes.miss if latch == "missing" else sim.rig.nodes.withhold)("TimestampLatch")
    with running(sim) as camera:
        found = exposures(sim, camera, 10)
        assert in_time(found) and not any(frame.device_ns for _, frame in found)
        view = camera.clock_view()
        assert (view.offset_ns, view.uncertainty_ns, view.trouble) == (None, None, "its frames carry no time")
        assert camera._time.uncertainty_ns is None and sim.losses.clock_jumps == 0
        camera.restart()
        assert in_time(exposures(sim, camera, 5))
    assert said(capsys) == 1


@pytest.mark.parametrize("latch", ["missing", "withheld", "no value"])
@pytest.mark.parametrize("timestamps", ["ns", "ticks", "mixed"])
def test_a_latch_that_can_not_be_used_stops_no_camera(make: Make, timestamps: str, latch: str) -> None:
    sim = make(timestamps=timestamps)
    name = "TimestampLatchValue" if latch == "no value" else "TimestampLatch"
    (sim.rig.nodes.withhold if latch == "withheld" else sim.rig.nodes.miss)(name)
    with running(sim) as camera:
        found = exposures(sim, camera, 10)
        assert in_time(found) and all(frame.device_ns for _, frame in found)
        assert camera._time.uncertainty_ns is None


def test_a_latch_that_goes_while_the_camera_runs_stops_it_neither(make: Make) -> None:
    sim = make()
    with running(sim) as camera:
        assert in_time(exposures(sim, camera, 2))
        sim.rig.nodes.withhold("TimestampLatch TimestampLatchValue")
        camera._time._due_ns = 0
        found = exposures(sim, camera, 5)
        assert in_time(found) and all(frame.device_ns for _, frame in found)


def test_ticks_of_a_length_that_nobody_tells_are_used_once_they_were_measured(make: Make) -> None:
    sim = make(timestamps="bare")
    sim.rig.nodes.miss("TimestampLatch")
    with running(sim) as camera:
        found = exposures(sim, camera, 3)
        assert in_time(found) and not any(frame.device_ns for _, frame in found)
        deadline_ns = now_ns() + int(20e9)
        while now_ns() < deadline_ns and not exposures(sim, camera, 1)[0][1].device_ns:
            pass
        found = exposures(sim, camera, 10)
        assert in_time(found) and all(frame.device_ns for _, frame in found)
        between_ns = found[-1][1].device_ns - found[0][1].device_ns
        assert abs(between_ns - (found[-1][0] - found[0][0])) < LATE_NS


@pytest.mark.parametrize("latch", [True, False])
@pytest.mark.parametrize("seconds", [-3.0, 3.0])
def test_a_clock_that_jumps_while_idle_makes_no_part_late(make: Make, seconds: float, latch: bool) -> None:
    sim = make()
    if not latch:
        sim.rig.nodes.miss("TimestampLatch")
    with running(sim) as camera:
        assert in_time(exposures(sim, camera, 20))
        for _ in range(4):
            camera.wait(0.25)
        sim.rig.jump_clock(seconds)
        found = exposures(sim, camera, 5)
        assert in_time(found) and all(frame.device_ns for _, frame in found)
        assert sim.losses.clock_jumps <= 1 and (sim.losses.clock_jumps == 1 or not latch)


def test_a_clock_that_jumps_again_and_again_is_no_clock(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    sim = make()
    with running(sim) as camera:
        for _ in range(4):
            assert in_time(exposures(sim, camera, 2, period_s=0.3))
            sim.rig.jump_clock(-5.0)
        view = camera.clock_view()
        assert view.trouble == "it jumps again and again" and camera._time.uncertainty_ns is None
        assert not any(frame.device_ns for _, frame in exposures(sim, camera, 2))
    assert said(capsys) == 1


def test_a_frame_that_waited_is_as_old_as_it_is(make: Make) -> None:
    """What a process that slept finds is not taken for a clock that jumped."""
    for latch in (True, False):
        sim = make()
        sim.rig.nodes.miss("" if latch else "TimestampLatch")
        with running(sim) as camera:
            assert in_time(exposures(sim, camera, 20))
            before = sim.losses.clock_jumps
            sent_ns = now_ns()
            sim.rig.pulse(3)
            time.sleep(1.0)
            for _ in range(3):
                frame = camera.wait(1.0)
                assert isinstance(frame, Exposure) and abs(frame.trigger_ns - sent_ns) < LATE_NS
                camera.read(None)
            assert sim.losses.clock_jumps == before
