"""What can go wrong with a simulated camera on command, and in what it may differ from others."""

import ctypes
from enum import IntEnum, IntFlag

PLANNED = 4096
EFFECT_BITS = 16


class Effect(IntFlag):
    """What becomes of one exposure; several together where they make sense. `enum effect` of faults.h."""

    MISSED = 1 << 0
    """Its trigger is counted and exposes nothing, as one that comes during an exposure."""
    UNPLUGGED = 1 << 1
    """The cable goes in the moment after its trigger was taken, for `Faults.cable_ns`."""
    DROPPED = 1 << 2
    """Its frame is lost on the way; the frame's id is missing."""
    INCOMPLETE = 1 << 3
    """Only a part of its frame arrives, and the frame says so."""
    SHORT = 1 << 4
    """The frame has the upper half of its lines, and does not say that it is incomplete. Below them there is what
    the buffer held before: an older picture."""
    IDENTICAL = 1 << 5
    """The frame shows the picture before its own."""
    NO_CHUNKS = 1 << 6
    """The frame contains no chunk data."""
    NO_ID = 1 << 7
    """The frame's id is not available."""
    WRONG_ID = 1 << 8
    """The frame's id is `Faults.wrong_id`."""
    TWICE = 1 << 9
    """The frame is delivered twice: same id, same times, same picture."""
    SWAPPED = 1 << 10
    """The frame is delivered after the next one; if no other comes, when the acquisition stops."""
    STRAY_BEFORE = 1 << 11
    """A frame that nobody triggered comes before it, exposed up to 5 ms before its trigger.

    A stray frame has the next frame id, and the trigger counter as it stood. It shows the picture of a trigger far
    away: number n + (N // 2 | 1), where n is the trigger beside it and N the number of pictures.
    """
    STRAY_AFTER = 1 << 12
    """The same, exposed at the end of its exposure."""


class Call(IntEnum):
    """Calls to the producer that may take their time. `enum call` of faults.h."""

    OPEN = 0
    REGISTER = 1
    """Any access to a register."""
    START = 2
    """DSStartAcquisition."""
    ACQUISITION_STOP = 3
    """The camera's own command."""
    STOP = 4
    """DSStopAcquisition, or a close that stops."""
    CLOSE = 5


class Ids(IntEnum):
    """How a camera numbers its frames."""

    COUNT = 0
    ZERO = 1
    """All have the id 0."""
    ABSENT = 2
    """There is no id to ask for."""


class Listed(IntEnum):
    """How often the producer lists one and the same camera."""

    ONCE = 0
    TWICE = 1
    """Twice by one interface."""
    BY_TWO = 2
    """By two interfaces."""


class ShortTells(IntEnum):
    """What of a short frame tells that it is short."""

    BOTH = 0
    LINES = 1
    """DELIVERED_IMAGEHEIGHT alone."""
    SIZE = 2
    """SIZE_FILLED alone."""


class Faults(ctypes.Structure):
    """`struct faults` of faults.h, which says what each field does. All 0: a camera as most are."""

    _fields_ = (
        ("next", ctypes.c_uint64 * len(Effect)),
        ("stray", ctypes.c_uint64),
        ("silent", ctypes.c_uint64),
        ("chatter", ctypes.c_uint64),
        ("delays", ctypes.c_uint64 * len(Call)),
        ("delay_ns", ctypes.c_uint64 * len(Call)),
        ("starve_until_ns", ctypes.c_uint64),
        ("cable_ns", ctypes.c_uint64),
        ("wrong_id", ctypes.c_uint64),
        ("id_offset", ctypes.c_int64),
        ("id_bits", ctypes.c_uint64),
        ("id_skips_zero", ctypes.c_uint64),
        ("id_kind", ctypes.c_uint64),
        ("counter_bits", ctypes.c_uint64),
        ("counter_is_signed", ctypes.c_uint64),
        ("encoder_offset", ctypes.c_int64),
        ("misses_while_exposing", ctypes.c_uint64),
        ("oldest_first", ctypes.c_uint64),
        ("padding", ctypes.c_uint64),
        ("padding_is_told", ctypes.c_uint64),
        ("short_tells", ctypes.c_uint64),
        ("listed", ctypes.c_uint64),
        ("vendor", ctypes.c_char * 32),
        ("model", ctypes.c_char * 32),
        ("plan", ctypes.c_uint64 * PLANNED),
    )

    def slow(self, call: Call, seconds: float, times: int = 1) -> None:
        """Let each of the next `times` calls of this sort take so long."""
        self.delay_ns[call], self.delays[call] = int(seconds * 1e9), times

    def unplug_after_trigger(self, seconds: float) -> None:
        """Let the cable go in the moment after the camera took its next trigger, for so long."""
        self.cable_ns = int(seconds * 1e9)
        self.next[Effect.UNPLUGGED.bit_length() - 1] = 1

    def number_frames(self, first: int = 1, bits: int = 64, skips_zero: bool = False) -> None:
        """Number frames from `first` on after each start, in so many bits, with 0 or without it."""
        self.id_offset, self.id_bits, self.id_skips_zero, self.id_kind = first - 1, bits, skips_zero, Ids.COUNT

    def narrow_counter(self, bits: int, is_signed: bool = False) -> None:
        """Show the trigger counter in so many bits, in its register and in the chunk."""
        self.counter_bits, self.counter_is_signed = bits, is_signed

    def pad_lines(self, padding: int, is_told: bool = True) -> None:
        """Send so many bytes behind each line, and tell the host of them or don't.

        Not where lines don't end at whole bytes: Mono12p of an odd width.
        """
        self.padding, self.padding_is_told = padding, is_told
