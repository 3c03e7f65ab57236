"""The two clocks: monotonic for deadlines and durations, UTC for people."""

import time

import msgspec

now_ns = time.monotonic_ns


def utc_of(monotonic_ns: int) -> int:
    """UTC in ns of a moment on the monotonic clock, by the offset of the two clocks now."""
    return monotonic_ns + time.time_ns() - time.monotonic_ns()


class ClockView(msgspec.Struct, frozen=True):
    """The device's clock: host monotonic time = device time + `offset_ns`; None = not known."""

    offset_ns: int | None = None
    uncertainty_ns: int | None = None
    ptp: str = ""
    """SFNC PtpStatus, where the camera has it."""
    trouble: str = ""
    """Why the device's times can't be trusted; empty = they can, as far as is known."""
