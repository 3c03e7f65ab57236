"""Slots of the frame ring: the header that each begins with, and the book of who owns which."""

import struct
from collections import deque
from enum import Enum
from typing import NamedTuple

SLOT_HEADER = struct.Struct("<8sQQQQIIIxxxx")
SLOT_MAGIC = b"INSLOT1\0"
GENERATION = struct.Struct("<Q")
GENERATION_OFFSET = 8


class Shape(NamedTuple):
    """A picture's shape: Mono8 has 1 channel, RGB8 has 3."""

    height: int
    width: int
    channels: int

    @property
    def nbytes(self) -> int:
        """Bytes of one picture."""
        return self.height * self.width * self.channels


class SlotHeader(NamedTuple):
    """What a slot says of its picture; times in ns on the monotonic clock."""

    generation: int
    part_id: int
    frame_id: int
    trigger_ns: int
    shape: Shape


class Owner(Enum):
    """The owner of a slot, who alone may touch it."""

    FREE = "free"
    CAMERA = "camera"
    DAEMON = "daemon"


class SlotPool:
    """The daemon's book of who owns each slot. Not thread-safe: its owner locks."""

    def __init__(self, count: int) -> None:
        self._owner = [Owner.FREE] * count
        self._free = deque(range(count))

    def lend(self) -> int | None:
        """Lend the camera the slot that has been free longest; None if there is none."""
        if not self._free:
            return None
        slot = self._free.popleft()
        self._owner[slot] = Owner.CAMERA
        return slot

    def receive(self, slot: int) -> None:
        """Take over a slot that the camera has filled; a slot it does not own is an error."""
        if not 0 <= slot < len(self._owner) or self._owner[slot] is not Owner.CAMERA:
            raise ValueError(f"slot {slot} was handed over by a camera that does not own it")
        self._owner[slot] = Owner.DAEMON

    def give_back(self, slot: int) -> None:
        """Free a slot that the daemon is done with; giving it back twice is an error."""
        if self._owner[slot] is not Owner.DAEMON:
            raise ValueError(f"slot {slot} given back, but its owner is {self._owner[slot].value}")
        self._owner[slot] = Owner.FREE
        self._free.append(slot)

    @property
    def in_use(self) -> int:
        """Number of slots that hold frames that the daemon is not done with."""
        return self._owner.count(Owner.DAEMON)

    @property
    def lent(self) -> list[int]:
        """The slots that the camera has, in slot order."""
        return [slot for slot, owner in enumerate(self._owner) if owner is Owner.CAMERA]

    def reclaim(self) -> list[int]:
        """Free all slots of a camera process that is gone; gives them in slot order."""
        lost = self.lent
        for slot in lost:
            self._owner[slot] = Owner.FREE
            self._free.append(slot)
        return lost
