"""What a tick of a camera's clock lasts: by what is told, as long as the host's clock does not say otherwise."""

from typing import NamedTuple

COMMON_HZ = (1_000_000_000, 125_000_000, 1_000_000)
"""Rates of cameras' clocks: ns as the standard has it, GigE Vision's usual ticks, us."""
MISSES = 4
"""Comparisons in a row that no rate explains, until the clock is given up."""
ANCHOR_NS = 10_000_000_000
"""Age of a reading from which a newer one takes its place, in ns: clocks drift apart."""


class Reading(NamedTuple):
    """The clock stood at `ticks` at `host_ns`, give or take `give_ns`."""

    ticks: int
    host_ns: int
    give_ns: int


class TickRate:
    """The rate of one clock. Readings are compared with an older one, and after a jump with the last one."""

    def __init__(self, told_hz: int, tolerance: float, least_ns: int) -> None:
        """told_hz: ticks a second as somebody tells them, 0 = nobody does.

        tolerance: relative difference of the rate that is none; least_ns: time between readings that tells.
        """
        self.hz = told_hz
        """Ticks a second; 0 = not known."""
        self.candidates = tuple(dict.fromkeys(hz for hz in (told_hz, *COMMON_HZ) if hz))
        self.is_proven = self.is_hopeless = False
        self._tolerance, self._least_ns = tolerance, least_ns
        self._anchor: Reading | None = None
        self._odd: Reading | None = None  # the last one, if it does not go with the anchor
        self._misses = 0

    def read(self, ticks: int, host_ns: int, give_ns: int) -> None:
        """Take a reading of the clock into account."""
        now = Reading(ticks, host_ns, give_ns)
        if self._anchor is None:
            self._anchor = now
        if not self._says_anything(self._anchor, now):
            return
        if hz := self._fitting(self._anchor, now):
            self._proven(hz, now if now.host_ns - self._anchor.host_ns > ANCHOR_NS else self._anchor)
        elif self._odd is None:
            self._odd, self._misses = now, 1
        elif self._says_anything(self._odd, now):
            if hz := self._fitting(self._odd, now):
                self._proven(hz, self._odd)
            else:
                self._odd, self._misses = now, self._misses + 1
                self.is_hopeless = self._misses >= MISSES

    def _proven(self, hz: int, anchor: Reading) -> None:
        self.hz, self.is_proven = hz, True
        self._anchor, self._odd, self._misses = anchor, None, 0

    def _says_anything(self, before: Reading, now: Reading) -> bool:
        gives_ns = before.give_ns + now.give_ns
        return now.host_ns - before.host_ns >= max(self._least_ns, 4 * gives_ns)

    def _fitting(self, before: Reading, now: Reading) -> int:
        """The rate at which the clock went from one reading to the other; 0 if it is none of the candidates."""
        host_ns = now.host_ns - before.host_ns
        slack_ns = before.give_ns + now.give_ns + self._tolerance * host_ns
        for hz in (self.hz, *self.candidates):
            if hz and abs((now.ticks - before.ticks) * 1_000_000_000 // hz - host_ns) <= slack_ns:
                return hz
        return 0
