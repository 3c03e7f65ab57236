"""The camera's clock against the host's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquire.genicam.device_clock import JUMP_NS, DeviceClock
from inspectd.runtime.clock import now_ns

MS = 1_000_000


def test_a_latched_clock_tells_when_a_frame_was_exposed() -> None:
    clock, now = DeviceClock(), now_ns()
    clock.latched(now, 5_000, now + 2 * MS)
    assert (clock.offset_ns, clock.uncertainty_ns) == (now + MS - 5_000, MS)
    assert clock.exposed_ns(5_000 + 10 * MS, now + 30 * MS) == now + 11 * MS


def test_a_reading_that_took_long_does_not_replace_a_good_one() -> None:
    clock, now = DeviceClock(), now_ns()
    clock.latched(now, 0, now + 1000)
    clock.latched(now + 10 * MS, 10 * MS, now + 40 * MS)
    assert clock.uncertainty_ns == 500
    clock.latched(now + 50 * MS, 50 * MS, now + 50 * MS + 900)
    assert clock.uncertainty_ns == 450


@given(st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(0, 5 * MS)), min_size=1, max_size=20))
def test_without_a_latch_no_frame_seems_to_come_before_it_was_exposed(steps: list[tuple[int, int]]) -> None:
    """steps: time from one exposure to the next, and from each exposure to its arrival."""
    clock, start = DeviceClock(), now_ns()
    device_ns, host_ns = 1_000_000, start
    for step, late in steps:
        device_ns, host_ns = device_ns + step, host_ns + step
        exposed_ns = clock.exposed_ns(device_ns, host_ns + late)
        assert exposed_ns is not None and exposed_ns <= host_ns + late
        assert exposed_ns >= host_ns - JUMP_NS


@pytest.mark.parametrize("drift", [100e-6, -100e-6])
def test_clocks_that_drift_apart_for_a_day(drift: float) -> None:
    """Frames every 100 ms, 0 to 3 ms on their way, the device's clock never latched."""
    clock, start = DeviceClock(), now_ns()
    for n in range(0, 24 * 36_000, 5):
        host_ns = start + n * 100 * MS
        late_ns = n // 5 % 4 * MS
        exposed_ns = clock.exposed_ns(1000 + round((host_ns - start) * (1 + drift)), host_ns + late_ns)
        assert exposed_ns is not None and -3 * MS < exposed_ns - host_ns <= 3 * MS, n


def test_the_longer_ago_it_was_latched_the_less_exact_it_is() -> None:
    clock, now = DeviceClock(), now_ns()
    assert clock.aged_ns(now) is None
    clock.latched(now, 0, now + 2000)
    assert clock.aged_ns(now + 2000) == 1000
    assert clock.aged_ns(now + 2000 + 10_000 * MS) == 1000 + 500_000


def test_a_jump_either_way_is_told_and_the_offset_begins_anew() -> None:
    for jump in (3_600_000 * MS, -3_600_000 * MS):
        clock, now = DeviceClock(), now_ns()
        assert not clock.latched(now, 0, now)
        assert clock.exposed_ns(MS, now + 2 * MS) == now + MS
        assert not clock.latched(now + 100 * MS, 100 * MS, now + 100 * MS)
        assert clock.latched(now + 200 * MS, 200 * MS + jump, now + 210 * MS)
        assert clock.age_ns(200 * MS + jump, now + 210 * MS) == 5 * MS
        assert clock.exposed_ns(205 * MS + jump, now + 300 * MS) == now + 210 * MS


def test_without_a_latch_a_frame_is_as_old_as_it_is_later_than_the_quickest() -> None:
    clock, now = DeviceClock(), now_ns()
    assert clock.age_ns(1000, now) == 0
    clock.exposed_ns(1000, now)
    assert clock.age_ns(1000 + 50 * MS, now + 50 * MS) == 0
    assert clock.age_ns(1000 + 50 * MS, now + 3050 * MS) == 3000 * MS
