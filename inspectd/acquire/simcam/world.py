"""Simulated cameras from outside: makes them, triggers their hardware line, does harm to them.

A camera is a file NAME.camera (`struct camera` of device.h) and beside it NAME.raw, its pictures, which are
decoded here: C has no codecs. Whoever maps the file is at the camera, so to speak: it needs no process of ours.
"""

import ctypes
import hashlib
import importlib.util
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import structlog

from inspectd.acquire.simcam.faults import EFFECT_BITS, PLANNED, Call, Effect, Faults
from inspectd.acquire.simcam.nodes import REGISTERS, Nodes
from inspectd.runtime.channels import with_channels
from inspectd.runtime.clock import now_ns
from inspectd.runtime.image_files import U8, read_image, shown_name

log = structlog.get_logger()
MAGIC = b"SIMCAM1"
FLAG_PAGE = 4096
PULSES = 4096
TRIGGER_MODE, TRIGGER_SOURCE = 5, 6
"""Indices of registers in `enum reg` of device.h."""
FOLDER_VARIABLE = "INSPECTD_SIMCAM"
"""Environment variable with the folder whose cameras the producer shows."""
TIMESTAMPS = {"ns": 0, "ticks": 1, "absent": 2, "zero": 3, "bare": 4, "mixed": 5}
"""Times of frames: in ns; in ticks; none; always 0; in ticks, and nobody says of which frequency; in ticks, while
the clock that is latched counts ns."""


class Memory(ctypes.Structure):
    """`struct camera` of device.h; the tests compare sizes and offsets with the C compiler's."""

    _fields_ = (
        ("magic", ctypes.c_char * 8),
        ("size", ctypes.c_uint32),
        ("image_count", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("channels", ctypes.c_uint32),
        ("timestamp_mode", ctypes.c_uint32),
        ("serial", ctypes.c_char * 32),
        ("user_id", ctypes.c_char * 32),
        ("fingerprint", ctypes.c_char * 64),
        ("wake", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("line0", ctypes.c_uint64),
        ("counter", ctypes.c_uint64),
        ("clock_offset_ns", ctypes.c_int64),
        ("plug", ctypes.c_uint64),
        ("back_ns", ctypes.c_uint64),
        ("exposures", ctypes.c_uint64),
        ("nodes", Nodes),
        ("reg", ctypes.c_uint64 * REGISTERS),
        ("pulse_ns", ctypes.c_uint64 * PULSES),
        ("faults", Faults),
    )


def producer() -> Path | None:
    """The compiled GenTL producer; None if it was not built (no C compiler at the installation)."""
    spec = importlib.util.find_spec("inspectd.acquire.simcam._producer")
    return Path(spec.origin) if spec is not None and spec.origin else None


def library() -> ctypes.CDLL:
    """The producer's functions for this side; raises OSError if it was not built."""
    path = producer()
    if path is None:
        raise OSError("the simulated camera (simcam) was not built: install inspectd with a C compiler")
    loaded = ctypes.CDLL(str(path))
    loaded.simcam_pulse.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    loaded.simcam_pulse.restype = ctypes.c_uint64
    loaded.simcam_wake.argtypes = [ctypes.c_void_p]
    loaded.simcam_power_on.argtypes = [ctypes.c_void_p]
    loaded.simcam_size.restype = ctypes.c_size_t
    return loaded


class Rig:
    """One simulated camera, held by whoever plays the machine around it: its line, its cable, its defects.

    Raises FileNotFoundError if there is no such camera yet, ValueError if the file is another version's.
    """

    def __init__(self, path: Path) -> None:
        self._library = library()
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size != ctypes.sizeof(Memory):
                raise ValueError(f"{path} is no simulated camera of this version")
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Memory))
        self.memory = Memory.from_buffer(self._map)
        self._address = ctypes.addressof(self.memory)

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the mapping; the camera goes on."""
        if hasattr(self, "memory"):
            del self.memory
            with suppress(BufferError):  # somebody still looks at a part of it, and it goes with them
                self._map.close()

    def pulse(self, count: int = 1) -> int:
        """Send `count` pulses on Line0, one right after the other; returns the camera's trigger counter."""
        return int(self._library.simcam_pulse(self._address, count))

    @property
    def listens(self) -> bool:
        """Whether pulses on its line are triggers: TriggerMode On, TriggerSource Line0."""
        return bool(self.memory.reg[TRIGGER_MODE] == 1 and self.memory.reg[TRIGGER_SOURCE] == 1)

    def unplug(self, seconds: float, power: bool = False) -> None:
        """Pull the cable for so long. With `power` the camera also loses its counter, its clock, its settings."""
        self.memory.back_ns = now_ns() + int(seconds * 1e9)
        self.memory.plug += 1
        if power:
            self.memory.counter = self.memory.line0 = self.memory.exposures = 0
            self.memory.clock_offset_ns = -now_ns()
            self._library.simcam_power_on(self._address)
        self._library.simcam_wake(self._address)

    def rename(self, serial: str) -> None:
        """Let a camera with another serial number, of 1 to 31 characters, answer from now on.

        Bytes that are no UTF-8 are named as in the names of files.
        """
        name = os.fsencode(serial)
        if not 0 < len(name) < 32:
            raise ValueError(f"{serial!r} is not a serial of 1 to 31 characters")
        self.memory.serial = name

    @property
    def faults(self) -> Faults:
        """What goes wrong with it, and in what it differs from others."""
        faults: Faults = self.memory.faults
        return faults

    @property
    def nodes(self) -> Nodes:
        """In what its features differ from a plain camera's."""
        nodes: Nodes = self.memory.nodes
        return nodes

    def heal(self) -> None:
        """End all of that: a good camera."""
        for part in (Memory.faults, Memory.nodes):
            ctypes.memset(self._address + part.offset, 0, part.size)

    def plan(self, trigger: int, effects: Effect) -> None:
        """Let the exposure of exactly this trigger (the counter's value with it) have these effects.

        It is one of the next PLANNED.
        """
        self.faults.plan[trigger % PLANNED] = trigger << EFFECT_BITS | effects

    def next(self, effects: Effect, frames: int = 1) -> None:
        """Let each of the next `frames` exposures have these effects."""
        for effect in effects:
            self.faults.next[effect.bit_length() - 1] = frames

    def drop(self, frames: int) -> None:
        """Lose the next frames on their way; their ids are missing."""
        self.next(Effect.DROPPED, frames)

    def incomplete(self, frames: int, frame_id: int | None = None) -> None:
        """Let only a part of each of the next frames arrive, and with this id if one is given."""
        if frame_id is not None:
            self.faults.wrong_id = frame_id
        self.next(Effect.INCOMPLETE | (Effect(0) if frame_id is None else Effect.WRONG_ID), frames)

    def stray(self, frames: int = 1) -> None:
        """Let the camera send frames now that nobody triggered; they show the picture of a trigger far away."""
        self.faults.stray = frames
        self._library.simcam_wake(self._address)

    def chatter(self, size: int) -> None:
        """Let the producer's library say so many bytes on the camera process's stderr, now."""
        self.faults.chatter = size
        self._library.simcam_wake(self._address)

    def starve(self, seconds: float) -> None:
        """Let the producer find no free buffer for so long."""
        self.faults.starve_until_ns = now_ns() + int(seconds * 1e9)

    def fall_silent(self, starts: int = 1) -> None:
        """Let the camera stay connected and answer, but expose nothing until this many new starts."""
        self.faults.silent = starts

    def slow_register(self, seconds: float) -> None:
        """Let the next access to a register take so long."""
        self.faults.slow(Call.REGISTER, seconds)

    def jump_clock(self, seconds: float) -> None:
        """Let the device's clock jump, ahead or back."""
        self.memory.clock_offset_ns += int(seconds * 1e9)

    def jump_counter(self, by: int) -> None:
        """Let the trigger counter jump, ahead or back, without any trigger."""
        self.memory.counter = max(0, self.memory.counter + by)
        self._library.simcam_wake(self._address)

    def timestamps(self, kind: str) -> None:
        """Let the times of frames be told in another way, one of TIMESTAMPS."""
        if kind not in TIMESTAMPS:
            raise ValueError(f"{kind!r} is none of {', '.join(TIMESTAMPS)}")
        self.memory.timestamp_mode = TIMESTAMPS[kind]


def camera_path(folder: Path, name: str) -> Path:
    """Path of a simulated camera's file."""
    return folder / f"{name}.camera"


def make_camera(
    folder: Path,
    name: str,
    files: Sequence[Path],
    shape: tuple[int, int, int],
    serial: str,
    timestamps: str = "ns",
) -> Path:
    """Make the camera `name` in `folder`, showing these image files; one that shows them is left as it is.

    shape: height, width and channels of every picture. A file that can't be read, or is of another shape, is
    a frame that arrives incomplete; each is logged. Raises OSError, and leaves nothing half made.
    """
    path = camera_path(folder, name)
    fingerprint = _fingerprint(files, shape, serial, timestamps)
    if path.exists() and _made_from(path, fingerprint):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    raw, made = folder / f"{name}.raw.new", folder / f"{name}.camera.new"
    memory = Memory(
        magic=MAGIC, size=ctypes.sizeof(Memory), image_count=len(files), width=shape[1], height=shape[0],
        channels=shape[2], timestamp_mode=TIMESTAMPS[timestamps], serial=serial.encode(), user_id=name.encode(),
        fingerprint=fingerprint,
    )  # fmt: skip
    library().simcam_power_on(ctypes.addressof(memory))
    try:
        _write_raw(raw, files, shape)
        made.write_bytes(bytes(memory))
        raw.replace(folder / f"{name}.raw")
        made.replace(path)
    except OSError:  # a full disk, which half a file would keep full
        raw.unlink(missing_ok=True)
        made.unlink(missing_ok=True)
        raise
    return path


def _fingerprint(files: Sequence[Path], shape: tuple[int, int, int], serial: str, timestamps: str) -> bytes:
    """Fingerprint of what a camera is made from, and of the boot: its clock does not survive one."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((boot, stats, shape, serial, timestamps)).encode()).hexdigest()[:63].encode()


def _made_from(path: Path, fingerprint: bytes) -> bool:
    data = path.read_bytes()
    return len(data) == ctypes.sizeof(Memory) and Memory.from_buffer_copy(data).fingerprint == fingerprint


def _write_raw(path: Path, files: Sequence[Path], shape: tuple[int, int, int]) -> None:
    """Write a flag for each picture, in whole pages, then the pictures."""
    flags = np.zeros(-(-len(files) // FLAG_PAGE) * FLAG_PAGE, np.uint8)
    with path.open("wb") as raw:
        raw.seek(flags.nbytes)
        for index, file in enumerate(files):
            try:
                picture = _picture(file, shape)
            except ValueError as error:
                log.warning("an image of the simulated camera can't be shown", reason=str(error))
                picture, flags[index] = np.zeros(shape, np.uint8), 1
            raw.write(picture.tobytes())
        raw.seek(0)
        raw.write(flags.tobytes())


def _picture(file: Path, shape: tuple[int, int, int]) -> U8:
    picture = with_channels(read_image(file), shape[2])
    if picture.shape != shape:
        size = f"{picture.shape[1]}x{picture.shape[0]}, the camera is configured for {shape[1]}x{shape[0]}"
        raise ValueError(f"{shown_name(file)}: is {size}")
    return picture
