"""The two clocks: monotonic for deadlines and durations, UTC for people."""

import time

now_ns = time.monotonic_ns


def utc_of(monotonic_ns: int) -> int:
    """UTC in ns of a moment on the monotonic clock, by the offset of the two clocks now."""
    return monotonic_ns + time.time_ns() - time.monotonic_ns()
