"""Part ids out of an encoder's values: they only grow, and one false value shifts none that follows."""

LEAP = 10_000
"""A step so many times as long as the longest before is none of the belt's, until a second value agrees."""

FIRST_LEAP = 2**31
"""Longest step that is believed at once before a step is known."""


class Encoder:
    """The values of one encoder, in the order of the parts. Pure."""

    def __init__(self) -> None:
        self._offset = 0  # of an encoder that began again, to what its part ids would have been
        self._longest = 0  # step from one part to the next
        self._newest: int | None = None
        self._suspect: tuple[int, int] | None = None  # a value that was doubted, and the part id of that part
        self.restarted = False
        """Whether the newest part id is the first after the encoder began again, or leapt."""

    def part_id(self, value: int, before: int) -> int | str:
        """The part id that a value stands for, or why it can't be told to be right.

        before: the highest part id that is taken. A value that steps back, or leaps, is doubted; it is believed
        when the next one follows on it.
        """
        self.restarted = False
        newest = before - self._offset if self._newest is None else self._newest
        if value + self._offset > before and self._follows(newest, value):
            return self._believed(value)
        if self._suspect is not None and self._follows(self._suspect[0], value):
            self.restarted = True
            self._newest, part_id = self._suspect
            self._offset = max(self._offset, part_id - self._newest, before + 1 - value)
            return self._believed(value)
        self._suspect = value, before + 1
        stepped_back = value + self._offset <= before
        return "the encoder stepped back" if stepped_back else "the encoder leapt"

    def _follows(self, before: int, value: int) -> bool:
        """Whether a value can be that of the part after the one with the value `before`."""
        return 0 < value - before <= (LEAP * self._longest if self._longest else FIRST_LEAP)

    def _believed(self, value: int) -> int:
        if self._newest is not None:
            self._longest = max(self._longest, value - self._newest)
        self._newest, self._suspect = value, None
        return value + self._offset
