"""The camera's clock against the host's: when, on the host's monotonic clock, did the camera expose?"""

LATCH_S = 10.0
"""Age in seconds from which a latched reading is repeated: clocks drift apart by up to some 50 us a second."""
DRIFT = 50e-6
UNKNOWN_NS = 2**63
JUMP_NS = 20_000_000
"""Difference in ns of what the clock shows from what it should, beyond which it has jumped."""


class DeviceClock:
    """Offset of the device's clock: host = device + `offset_ns`, give or take `uncertainty_ns`; None = unknown.

    A latched reading bounds the offset on both sides. Without one, what arrives bounds it from above: a frame
    can't arrive before it was exposed, so the smallest difference seen lately is the best guess; lately, as the
    clocks drift apart.
    """

    def __init__(self) -> None:
        self.offset_ns: int | None = None
        self.uncertainty_ns: int | None = None
        """Uncertainty of the offset in ns when it was latched; None where nothing could be latched."""
        self.latched_ns = 0
        # This window and the one before: its begin, and the least difference seen in it.
        self._least = [(0, UNKNOWN_NS), (0, UNKNOWN_NS)]

    def latched(self, before_ns: int, device_ns: int, after_ns: int) -> bool:
        """Take a latched reading: the device's clock stood at `device_ns` between two moments of the host's.

        Returns whether it has jumped since the last one: the offset then begins anew.
        """
        half_ns = (after_ns - before_ns) // 2
        offset_ns = before_ns + half_ns - device_ns
        aged_ns = self.aged_ns(after_ns)
        apart_ns = 0  # by more than both readings leave open
        if self.offset_ns is not None and aged_ns is not None:
            apart_ns = max(0, abs(offset_ns - self.offset_ns) - half_ns - aged_ns)
        has_jumped = apart_ns > JUMP_NS
        if apart_ns or aged_ns is None or half_ns <= aged_ns:  # else it took so long that the old one says more
            self.offset_ns, self.uncertainty_ns, self.latched_ns = offset_ns, half_ns, after_ns
        return has_jumped

    def aged_ns(self, at_ns: int) -> int | None:
        """Uncertainty of the latched offset at a moment, in ns: it grows by what clocks drift apart."""
        if self.uncertainty_ns is None:
            return None
        return self.uncertainty_ns + int(DRIFT * max(0, at_ns - self.latched_ns))

    def age_ns(self, device_ns: int, arrived_ns: int) -> int:
        """How long before its arrival a frame with this device time was exposed, as far as is known; ns."""
        offset_ns = self.offset_ns
        if self.uncertainty_ns is None:
            least_ns = min(least_ns for _, least_ns in self._least)
            offset_ns = least_ns if least_ns != UNKNOWN_NS else None
        return 0 if offset_ns is None else arrived_ns - device_ns - offset_ns

    def exposed_ns(self, device_ns: int, arrived_ns: int) -> int:
        """When a frame with this device time was exposed, on the host's clock; at most when it arrived."""
        if self.uncertainty_ns is None:
            self.offset_ns = self._least_lately(arrived_ns - device_ns, arrived_ns)
        assert self.offset_ns is not None
        return min(device_ns + self.offset_ns, arrived_ns)

    def _least_lately(self, difference_ns: int, arrived_ns: int) -> int:
        began_ns, least_ns = self._least[0]
        if arrived_ns - began_ns > LATCH_S * 1e9:
            self._least = [(arrived_ns, difference_ns), self._least[0]]
        elif difference_ns < least_ns:
            self._least[0] = began_ns, difference_ns
        return min(least_ns for _, least_ns in self._least)
