"""The frame ring: the only frame memory there is, in a sealed memfd that the camera process shares.

    slot 0: one page of header, then the picture uint8 [H, W, C], padded to whole pages; slot 1: ...

A slot has one owner at a time: `free` (the daemon keeps it), `camera` (handed out to be filled) or
`daemon` (holds a frame that is being judged). Free slots go out oldest first, so a picture stays readable
as long as possible after its verdict. The header's generation is odd while the slot is being written, and
2 more after each filling: a reader who finds the same even generation before and after copying has a whole
picture. It begins at random, so that no result of an earlier daemon names a picture of this one by accident.
"""

import fcntl
import mmap
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inspectd.runtime.errors import UnavailableError
from inspectd.runtime.slots import SLOT_HEADER, SLOT_MAGIC, Shape, SlotHeader

PAGE = mmap.PAGESIZE
U8 = npt.NDArray[np.uint8]


class Ring:
    """`count` slots for pictures of one shape, in a memfd.

    slot_bytes: room for a picture, where larger ones are to find room later; 0 = just for this shape.
    mapped: the memory, if this process has mapped it before.
    """

    def __init__(
        self, fd: int, count: int, shape: Shape, slot_bytes: int = 0, mapped: mmap.mmap | None = None
    ) -> None:
        self.fd, self.count, self.shape = fd, count, shape
        self.slot_bytes = slot_bytes or shape.nbytes
        if shape.nbytes > self.slot_bytes:
            raise ValueError(f"a slot of {self.slot_bytes} bytes has no room for {shape}")
        self._stride = _stride(self.slot_bytes)
        size = os.fstat(fd).st_size
        if size != self._stride * count:
            raise ValueError(f"a ring of {count} slots of {shape} has {self._stride * count} bytes, not {size}")
        self._map = mapped or mmap.mmap(fd, size)
        self.pages: U8 = np.frombuffer(self._map, np.uint8)
        """All memory of the ring, uint8 [bytes], for a device that wants to page-lock it."""
        self.images: list[U8] = [self._image(slot) for slot in range(count)]
        """The pictures, uint8 [H, W, C] each, in place; page-aligned views that live as long as the ring."""

    def reshaped(self, shape: Shape) -> "Ring":
        """Give the same memory and slots, for pictures of another shape; raises ValueError if they find no room.

        Nobody may write or read pictures of the shape before any more. Headers stay as they are.
        """
        return Ring(self.fd, self.count, shape, self.slot_bytes, self._map)

    def _image(self, slot: int) -> U8:
        start = slot * self._stride + PAGE
        return np.frombuffer(self._map, np.uint8, self.shape.nbytes, start).reshape(self.shape)

    def begin_write(self, slot: int, frame_id: int, trigger_ns: int) -> None:
        """Mark the slot as being written: its generation becomes odd."""
        generation = self.header(slot).generation | 1
        self._write(slot, SlotHeader(generation, 0, frame_id, trigger_ns, self.shape))

    def end_write(self, slot: int) -> int:
        """Mark the writing as done; returns the slot's new, even generation."""
        header = self.header(slot)
        self._write(slot, header._replace(generation=header.generation + 1))
        return header.generation + 1

    def being_written(self, slots: Sequence[int]) -> list[int]:
        """Those of the slots whose writing began and is not done."""
        return [slot for slot in slots if self.header(slot).generation % 2]

    def end_writes(self, slots: Sequence[int]) -> None:
        """Let readers know that the writing into these slots is over, as nobody is left who does it."""
        for slot in slots:
            self.end_write(slot)

    def set_part_id(self, slot: int, part_id: int) -> None:
        """Write the part id, which only the daemon knows, into the header."""
        self._write(slot, self.header(slot)._replace(part_id=part_id))

    def header(self, slot: int) -> SlotHeader:
        """Read a slot's header."""
        _, generation, part_id, frame_id, trigger_ns, *shape = SLOT_HEADER.unpack_from(
            self._map, slot * self._stride
        )
        return SlotHeader(generation, part_id, frame_id, trigger_ns, Shape(*shape))

    def _write(self, slot: int, header: SlotHeader) -> None:
        SLOT_HEADER.pack_into(self._map, slot * self._stride, SLOT_MAGIC, *header[:4], *header.shape)


def create(count: int, shape: Shape, name: str, slot_bytes: int = 0) -> Ring:
    """Make a ring in a memfd whose size nobody can change any more (a shrunk one would be a SIGBUS here).

    Raises UnavailableError if there is no memory for it: now, not by a killed process later.
    """
    size = check_memory(count, shape, name, slot_bytes)
    fd = os.memfd_create(f"inspectd-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.posix_fallocate(fd, 0, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    ring = Ring(fd, count, shape, slot_bytes)
    first = _first_generation()
    for slot in range(count):
        ring._write(slot, SlotHeader(first, 0, 0, 0, shape))
    return ring


def _first_generation() -> int:
    """A first generation: even, at random between 2^51 and 2^52. Every JSON reader holds it exactly, and one that
    is half written (`pack_into` clears the header, then writes the lowest byte first) is smaller than all of them.
    """
    return (1 << 51) + 2 * secrets.randbits(50)


def _stride(slot_bytes: int) -> int:
    """Bytes from slot to slot: header and picture in whole pages."""
    return PAGE + -(-slot_bytes // PAGE) * PAGE


def check_memory(count: int, shape: Shape, name: str, slot_bytes: int = 0) -> int:
    """Give the bytes that a ring needs; raises UnavailableError if the machine does not have them."""
    size = count * _stride(slot_bytes or shape.nbytes)
    if size > _available_bytes():
        raise UnavailableError(
            f"camera {name}: {count} slots of {shape.width}x{shape.height} need {size >> 20} MiB of memory, "
            f"{_available_bytes() >> 20} MiB are available; are width and height right?"
        )
    return size


def _available_bytes() -> int:
    with Path("/proc/meminfo").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
