"""The pictures of results, as long as they last. Needs numpy beside what the rest of the kit needs.

from inspectd.subscribe import Received, Results
from inspectd.subscribe.images import Images

endpoint = "ipc:///run/inspectd/line1/results"
with Images(endpoint) as images:
    for event in Results(endpoint):
        if isinstance(event, Received):
            picture = images.image_of(event)  # uint8 [H, W, C], a copy; None: gone

A picture is gone when its slot is filled again, `spare_slots` pictures later or more: ask at once. That the
generation is the same before and after copying proves a whole picture where a core sees the stores of another in
their order, and loads in order. x86-64 promises both. ARM64 promises them with barriers only, which Python can't
place: there the interpreter's work between the steps is what is relied on.
"""

import array
import mmap
import os
import socket
import time
from math import prod

import msgspec
import numpy as np
import numpy.typing as npt

from inspectd.runtime.errors import UserError
from inspectd.runtime.slots import GENERATION, GENERATION_OFFSET, SLOT_HEADER, SLOT_MAGIC
from inspectd.subscribe.events import Received
from inspectd.wire.images import IMAGES_SCHEMA, MAX_CAMERAS, MAX_GREETING, Greeting, RingView
from inspectd.wire.results import ImageRef, Result, WireError

U8 = npt.NDArray[np.uint8]
GREETING_S = 1.0
"""Seconds within which a daemon greets; otherwise it hangs."""
RETRY_S = 0.2


class Images:
    """The pictures of a line's results. Used by one thread.

    `where` is the results' endpoint, ipc://…/results, beside which the image socket lies, or that socket's own
    path (`publish.images`). Raises UserError if it can't be either. A daemon that is not there, or not there any
    more, is tried again with every picture; `trouble` says why there is none.
    """

    def __init__(self, where: str) -> None:
        self.missed = 0
        """Number of results that had a picture which was gone."""
        self.trouble = ""
        self._path = _path_of(where)
        self._sock: socket.socket | None = None
        self._rings: dict[str, _MappedRing] = {}
        self._retry_s = 0.0
        self._follow()

    def __enter__(self) -> "Images":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the rings."""
        for ring in self._rings.values():
            ring.close()
        self._rings = {}
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def image_of(self, result: Received | Result) -> U8 | None:
        """A copy of the picture, uint8 [H, W, C]; None if it is gone, or there was none."""
        of = result.result if isinstance(result, Received) else result
        if of.image is None:
            return None
        self._follow()
        ring = self._rings.get(of.camera)
        picture = None if ring is None else ring.copy(of.image)
        self.missed += picture is None
        return picture

    def _follow(self) -> None:
        """Connect to the daemon that runs now, as far as there is one."""
        if self._sock is not None and _ended(self._sock):
            self.close()  # at once: to hold a dead daemon's rings is to hold their memory
        if self._sock is None and time.monotonic() >= self._retry_s:
            try:
                self._sock, self._rings = _connect(self._path)
                self.trouble = ""
            except (OSError, WireError) as error:
                self.trouble = f"{self._path}: {getattr(error, 'strerror', None) or error}"
                self._retry_s = time.monotonic() + RETRY_S


class _MappedRing:
    """One camera's pictures, mapped for reading."""

    def __init__(self, fd: int, view: RingView) -> None:
        self._view, self._room = view, view.slot_bytes - view.picture_offset
        size = view.slots * view.slot_bytes
        if not SLOT_HEADER.size <= view.picture_offset < view.slot_bytes or not 0 < size <= os.fstat(fd).st_size:
            raise WireError(f"a ring that can't be: {view}")
        self._map = mmap.mmap(fd, size, prot=mmap.PROT_READ)

    def close(self) -> None:
        self._map.close()

    def copy(self, image: ImageRef) -> U8 | None:
        """Copy the picture, if it is the one that is meant and was so to the end of copying; else None."""
        if not 0 <= image.slot < self._view.slots or image.generation % 2:
            return None
        start = image.slot * self._view.slot_bytes
        magic, generation, _, _, _, *shape = SLOT_HEADER.unpack_from(self._map, start)
        size = prod(shape)  # while it is rewritten a header may say anything
        if magic != SLOT_MAGIC or generation != image.generation or not 0 < size <= self._room:
            return None
        first = start + self._view.picture_offset
        picture = np.frombuffer(self._map, np.uint8, size, first).reshape(shape).copy()
        (generation,) = GENERATION.unpack_from(self._map, start + GENERATION_OFFSET)
        return picture if generation == image.generation else None


def _path_of(where: str) -> str:
    if where.startswith("ipc://"):
        folder, _, _ = where.removeprefix("ipc://").rpartition("/")
        return f"{folder}/images" if folder else "images"
    if "://" in where or not where:
        hint = (
            "give the path of its image socket, publish.images; its default is images in the folder of its state"
        )
        raise UserError(f"pictures of a daemon at {where!r} are to be had on its machine alone: {hint}")
    return where


def _connect(path: str) -> tuple[socket.socket, dict[str, _MappedRing]]:
    """Connect; gives the connection and the rings that the greeting brings; raises OSError or WireError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds: list[int] = []
    try:
        sock.settimeout(GREETING_S)
        sock.connect(path)
        packet, fds = _receive(sock)
        rings = _rings_of(packet, fds)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    finally:
        for fd in fds:  # the mappings stay without them
            os.close(fd)
    return sock, rings


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    room = socket.CMSG_SPACE(MAX_CAMERAS * array.array("i").itemsize)
    packet, ancillary, _, _ = sock.recvmsg(MAX_GREETING, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, fds.tolist()


def _rings_of(packet: bytes, fds: list[int]) -> dict[str, _MappedRing]:
    try:
        greeting = msgspec.json.decode(packet, type=Greeting)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a greeting: {error}") from None
    if greeting.error:
        raise WireError(greeting.error)
    if greeting.schema != IMAGES_SCHEMA:
        raise WireError(f"a greeting of schema {greeting.schema}: this client reads {IMAGES_SCHEMA}")
    if any(not 0 <= view.descriptor < len(fds) for view in greeting.cameras.values()):
        raise WireError(f"{len(greeting.cameras)} cameras and {len(fds)} descriptors")
    return {name: _MappedRing(fds[view.descriptor], view) for name, view in greeting.cameras.items()}


def _ended(sock: socket.socket) -> bool:
    """Whether the daemon is gone: nothing else can come after its greeting."""
    try:
        return not sock.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
