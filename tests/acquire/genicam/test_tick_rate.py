"""How fast a clock goes, by what is told and what the host's clock shows."""

import pytest

from inspectd.acquire.genicam.tick_rate import TickRate

S = 1_000_000_000


def rate(told_hz: int) -> TickRate:
    return TickRate(told_hz, tolerance=1e-2, least_ns=S // 2)


def read(one: TickRate, hertz: float, *at_s: float, start: int = 7_000_000) -> None:
    for s in at_s:
        one.read(start + round(s * hertz), round(s * S), 25_000_000)


@pytest.mark.parametrize("told_hz", [0, S, 125_000_000, 33_000_000])
@pytest.mark.parametrize("true_hz", [S, 125_000_000, 1_000_000])
def test_the_hosts_clock_shows_what_is_true(told_hz: int, true_hz: int) -> None:
    one = rate(told_hz)
    assert one.hz == told_hz and not one.is_proven
    read(one, true_hz, 0.0, 0.1, 1.0)
    assert one.is_proven and one.hz == true_hz


def test_what_is_told_is_taken_though_it_is_uncommon() -> None:
    one = rate(33_000_000)
    read(one, 33_000_000, 0.0, 1.0)
    assert one.is_proven and one.hz == 33_000_000


def test_readings_close_together_show_nothing() -> None:
    one = rate(S)
    read(one, 125_000_000, *(i / 1000 for i in range(200)))
    assert one.hz == S and not one.is_proven and not one.is_hopeless


@pytest.mark.parametrize("hertz", [0.0, 4e8, -1e9])
def test_a_clock_that_stands_or_goes_at_no_known_rate_is_hopeless(hertz: float) -> None:
    one = rate(S)
    read(one, hertz, *map(float, range(6)))
    assert one.is_hopeless


@pytest.mark.parametrize("jump", [-3 * S, 3600 * S])
def test_a_jump_is_survived(jump: int) -> None:
    one = rate(S)
    read(one, S, 0.0, 1.0, 2.0)
    read(one, S, *(3.0 + i / 10 for i in range(50)), start=8_000_000_000 + jump)
    assert one.is_proven and one.hz == S and not one.is_hopeless


def test_a_frame_that_came_late_now_and_then_proves_nothing() -> None:
    one = rate(S)
    for i in range(100):
        late_s = 0.7 if i % 3 == 1 else 0.0
        one.read(round(i * 0.3 * S), round((i * 0.3 + late_s) * S), 25_000_000)
    assert one.hz == S and not one.is_hopeless
