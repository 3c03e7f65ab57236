"""What a subscriber learns: a result, a gap, a new epoch, a beat of the daemon, or its silence."""

from typing import NamedTuple

from inspectd.runtime.errors import UserError
from inspectd.wire.results import Header, Heartbeat, Result

Cursor = tuple[int, int]
"""Epoch and number of a result, behind which reading goes on."""


class Received(NamedTuple):
    """One result of the line."""

    header: Header
    result: Result

    @property
    def seq(self) -> int:
        """Number of the result in the line's one sequence."""
        return self.header.seq

    @property
    def cursor(self) -> Cursor:
        """Where this result stands. Keep it to lose nothing in a crash: `Results(start=cursor)` goes on behind."""
        return self.header.epoch, self.header.seq


class Missed(NamedTuple):
    """Results `first` to `last` were sent and are lost: the daemon does not keep them any more."""

    first: int
    last: int


class NewEpoch(NamedTuple):
    """The daemon began a new journal, or goes on with an old one that was put back: numbers before and after are
    not comparable, and some may be missing.
    """

    epoch: int


class Beat(NamedTuple):
    """The daemon lives; this is what it says of itself."""

    header: Header
    heartbeat: Heartbeat


class Silence(NamedTuple):
    """Nothing was heard of the daemon for so long; reported once a second until it speaks again."""

    seconds: float


Event = Received | Missed | NewEpoch | Beat | Silence


def check_start(start: object) -> None:
    """Raise UserError for a start that is none: results nobody meant to leave out would be missing."""
    is_cursor = isinstance(start, tuple) and len(start) == 2 and all(isinstance(n, int) and n >= 0 for n in start)
    if start not in ("now", "oldest") and not is_cursor:
        raise UserError(
            f'start={start!r} is none: give "now", "oldest", or the cursor of the last result, two numbers in a '
            "tuple (event.cursor)"
        )
