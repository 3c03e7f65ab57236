"""The camera's clock against the host's: when, on the host's monotonic clock, did the camera expose?"""

from inspectd.runtime.clock import now_ns

LATCH_S = 10.0
"""Age in seconds from which a latched reading is repeated: clocks drift apart by up to some 50 us a second."""
DRIFT = 50e-6
UNKNOWN_NS = 2**63
JUMP_NS = 20_000_000
"""Least time by which an exposure seems to follow its own arrival when the clock has jumped, in ns."""


class DeviceClock:
    """Offset of the device's clock: host = device + `offset_ns`, give or take `uncertainty_ns`; None = unknown.

    A latched reading bounds the offset on both sides. Without one, what arrives bounds it from above: a frame
    can't arrive before it was exposed, so the smallest difference seen lately is the best guess; lately, as the
    clocks drift apart.
    """

    def __init__(self) -> None:
        self.offset_ns: int | None = None
        self.uncertainty_ns: int | None = None
        """Uncertainty of the offset in ns; None where nothing could be latched."""
        self._latched_ns = self._tried_ns = 0
        # This window and the one before: its begin, and the least difference seen in it.
        self._least = [(0, UNKNOWN_NS), (0, UNKNOWN_NS)]
        self._newest_ns = now_ns()  # of the exposures so far: none can be earlier than the one before it

    @property
    def is_due(self) -> bool:
        """Whether the device's clock should be latched again."""
        return now_ns() - self._tried_ns > LATCH_S * 1e9

    def latched(self, before_ns: int, device_ns: int, after_ns: int) -> None:
        """Take a latched reading: the device's clock stood at `device_ns` between two moments of the host's."""
        self._tried_ns = after_ns
        half_ns = (after_ns - before_ns) // 2
        aged_ns = (self.uncertainty_ns or 0) + DRIFT * (after_ns - self._latched_ns)
        if self.uncertainty_ns is None or half_ns <= aged_ns:  # else it took so long that the old one says more
            self.offset_ns, self.uncertainty_ns = before_ns + half_ns - device_ns, half_ns
            self._latched_ns = after_ns

    def exposed_ns(self, device_ns: int, arrived_ns: int) -> int | None:
        """When a frame with this device time was exposed, on the host's clock; None if the clock has jumped."""
        if self.uncertainty_ns is None:
            self.offset_ns = self._least_lately(arrived_ns - device_ns, arrived_ns)
        assert self.offset_ns is not None
        exposed_ns = device_ns + self.offset_ns
        if not self._newest_ns - JUMP_NS <= exposed_ns <= arrived_ns + JUMP_NS:
            return None
        self._newest_ns = max(self._newest_ns, exposed_ns)
        return min(exposed_ns, arrived_ns)

    def _least_lately(self, difference_ns: int, arrived_ns: int) -> int:
        began_ns, least_ns = self._least[0]
        if arrived_ns - began_ns > LATCH_S * 1e9:
            self._least = [(arrived_ns, difference_ns), self._least[0]]
        elif difference_ns < least_ns:
            self._least[0] = began_ns, difference_ns
        return min(least_ns for _, least_ns in self._least)
