"""A GenTL host gone mad: any call, in any order, with any arguments. `python -m tests.acquire.simcam.gentl_calls
EXAMPLES` is a program of its own, so that a crash is its end alone; the calls of an example stand in `calls.txt`.

A model knows which handles are open. It tells for each call whether it must be refused, and with which code.
"""

import ctypes
import faulthandler
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.acquire.simcam import world
from inspectd.acquire.simcam.nodes import REGISTERS
from tests.acquire.simcam.gentl_table import CODES, FUNCTIONS, MAKES, PORTS

FRAME_RATE = 4
"""Index of the register; see `enum reg` of device.h."""
GUARD = 0xA5
ROOM = 8192
ADDRESSES = [0, 8, 0x2000, 0x2008, 0x2010, 0x2018, 0x2020, 0x100000, 0x106000, 0x1100000, 0x10000000, 2**64 - 1]
ADDRESSES += [0x1000 + 8 * index for index in range(REGISTERS)] + [0x10000 + 8 * index for index in range(12)]
NUMBERS = {
    "cmd": st.integers(-1, 32), "index": st.integers(0, 3), "access": st.integers(0, 5),
    "flags": st.integers(0, 2), "event_id": st.integers(0, 3), "queue": st.integers(-1, 6),
    "timeout": st.sampled_from([0, 5, 20]),
    "frames": st.sampled_from([0, 1, 3, 2**64 - 1]), "size": st.sampled_from([0, 8, 6144, 6184, ROOM]),
    "address": st.sampled_from(ADDRESSES),
}  # fmt: skip
SANE = {"access": 4, "event_id": 1, "size": 6184, "flags": 0, "frames": 2**64 - 1}
ACQUISITION_START = 0x1068
IDS = {"interface_id": b"simcam", "device_id": b"cam", "stream_id": b"stream0"}


@dataclass(eq=False)
class Known:
    """A handle that the producer has given out."""

    number: int
    kind: str
    parent: "Known | None"
    name: bytes = b""
    is_closed: bool = False

    @property
    def is_open(self) -> bool:
        return not self.is_closed and (self.parent is None or self.parent.is_open)


class Host:
    """The producer, and what is known to be open in it."""

    def __init__(self, library: ctypes.CDLL, log: Path) -> None:
        self.library, self.log = library, log.open("w")
        self.is_initialized = False
        self.known: list[Known] = []
        self.memory: list[Any] = []

    def open_ones(self, kinds: tuple[str, ...]) -> list[Known]:
        return [known for known in self.known if known.kind in kinds and known.is_open]

    def call(self, name: str, arguments: "Arguments") -> int:
        self.log.write(f"{name}({', '.join(arguments.shown)})\n")
        self.log.flush()
        code = int(getattr(self.library, name)(*arguments.given))
        self.log.write(f"    {code}\n")
        assert code in CODES, f"{name} gave {code}"
        arguments.check()
        self.judge(name, arguments, code)
        return code

    def judge(self, name: str, arguments: "Arguments", code: int) -> None:
        is_free = name in ("GCInitLib", "GCCloseLib", "GCGetInfo", "GCGetLastError")
        if not self.is_initialized and not is_free:
            assert code == -1002, f"{name} before GCInitLib gave {code}"
        elif arguments.handles and not arguments.handles[0]:
            assert code == -1006, f"{name} of no such handle gave {code}"
        elif arguments.lacks_pointer:
            assert code == -1009, f"{name} without a place for its answer gave {code}"
        elif not all(arguments.handles):
            assert code in (-1006, -1009), f"{name} with no such buffer gave {code}"
        elif arguments.lacks_size:
            assert code != 0, f"{name} without a size gave {code}"
        else:
            self.learn(name, arguments, code)

    def learn(self, name: str, arguments: "Arguments", code: int) -> None:
        """What is open after a call with arguments that can be used."""
        if name == "GCInitLib":
            assert code == (-1004 if self.is_initialized else 0)
            self.is_initialized = True
        elif name == "GCCloseLib":
            assert code == (0 if self.is_initialized else -1002)
            self.is_initialized = False
            for known in self.known:
                known.is_closed = True
        elif name in ("TLClose", "IFClose", "DevClose", "DSClose"):
            assert code == 0
            arguments.handles[0].is_closed = True
        elif name == "DSRevokeBuffer" and code == 0:
            arguments.handles[1].is_closed = True
        elif name == "GCUnregisterEvent" and code == 0:
            self.event_of(arguments.handles[0]).is_closed = True
        elif name in MAKES:
            self.made(name, arguments, code)

    def event_of(self, stream: Known) -> Known:
        (event,) = [known for known in self.open_ones(("event",)) if known.parent is stream]
        return event

    def made(self, name: str, arguments: "Arguments", code: int) -> None:
        kind, parent = MAKES[name], arguments.handles[0] if arguments.handles else None
        others = [known for known in self.open_ones((kind,)) if known.parent is parent]
        if kind in ("system", "interface", "device", "stream", "event") and others:
            assert code != 0, f"{name} opened a second one"
            assert code == -1004 or code in (-1003, -1007)
        if code != 0:
            return
        number = arguments.made.value
        assert number, f"{name} gave no handle"
        if kind == "remote" and others:
            assert number == others[0].number
            return
        assert number not in [known.number for known in self.known], f"{name} gave an old handle again"
        self.known.append(Known(number, kind, parent))


class Arguments:
    """Arguments of one call, some of them unusable."""

    def __init__(self, host: Host, draw: Callable[..., Any], wanted: str, is_sane: bool) -> None:
        self.host, self.draw, self.is_sane = host, draw, is_sane
        self.given: list[Any] = []
        self.shown: list[str] = []
        self.handles: list[Any] = []
        self.made = ctypes.c_uint64()
        self.lacks_pointer = self.lacks_size = False
        self.checks: list[tuple[Any, bytes, int]] = []
        for word in wanted.split():
            self.add(word)

    def odd(self) -> bool:
        return not self.is_sane and self.draw(st.integers(0, 7)) == 0

    def put(self, value: Any, shown: object) -> None:
        self.given.append(value)
        self.shown.append(str(shown))

    def add(self, word: str) -> None:
        if word in NUMBERS:
            number = SANE[word] if self.is_sane and word in SANE else self.draw(NUMBERS[word])
            is_small = word in ("cmd", "access", "flags", "event_id", "queue", "index")
            self.put(ctypes.c_int32(number) if is_small else ctypes.c_uint64(number), number)
        elif word in IDS:
            self.text(IDS[word])
        elif word in ("open", "out", "out?", "pointer"):
            self.pointer(word)
        elif word in ("data", "value", "news", "chunks", "told"):
            self.data(word)
        else:
            self.handle(word)

    def text(self, usual: bytes) -> None:
        text = self.draw(st.sampled_from([None, b"", b"other", b"x" * 5000, b"../cam"])) if self.odd() else usual
        self.lacks_pointer |= text is None
        self.put(text, text and text[:10])

    def pointer(self, word: str) -> None:
        is_there = word != "pointer" and not self.odd()
        self.lacks_pointer |= word in ("open", "out") and not is_there
        target = self.made if word == "open" else ctypes.c_uint64()
        self.put(ctypes.byref(target) if is_there else None, "there" if is_there else None)

    def data(self, word: str) -> None:
        """A place with its size, in bytes or chunks; beyond the size nothing may be written."""
        unit = 24 if word == "chunks" else 1
        usual = {"value": 8, "news": 16}.get(word, 300)
        count = self.draw(st.sampled_from([0, 1, 4, 5, 7, 8, 16, 64, 300])) if self.odd() else usual
        place = ctypes.create_string_buffer(bytes([GUARD]) * ROOM, ROOM)
        if word == "value":
            place[:8] = struct.pack("<Q", self.draw(st.sampled_from([0, 1, 64, 2**64 - 1])))
        has_place, has_size = not self.odd(), not self.odd()
        self.put(place if has_place else None, count if has_place else None)
        self.lacks_pointer |= word in ("value", "news", "told") and not has_place
        self.lacks_pointer |= word == "chunks" and not has_size
        if word == "told":  # what an event said, and its size
            self.put(ctypes.c_size_t(count), count)
            return
        self.put(ctypes.byref(ctypes.c_size_t(count)) if has_size else None, has_size)
        self.lacks_size |= not has_size
        self.checks.append((place, place.raw, min(ROOM, count * unit) if has_size else 0))

    def handle(self, word: str) -> None:
        if word == "memory":
            self.host.memory.append(ctypes.create_string_buffer(ROOM))
            is_there = not self.odd()
            self.lacks_pointer |= not is_there
            self.put(self.host.memory[-1] if is_there else None, is_there)
            return
        kinds = PORTS if word == "port" else (word,)
        right = self.host.open_ones(kinds)
        if right and self.is_sane:
            chosen = right[-1]
        elif right and not self.odd():
            chosen = right[self.draw(st.integers(0, len(right) - 1))]
        else:
            chosen = self.draw(st.sampled_from([None, *self.host.known[-12:]]))
        usable = chosen is not None and chosen.is_open and chosen.kind in kinds
        self.handles.append(chosen if usable else None)
        number = chosen.number if chosen else self.draw(st.sampled_from([0, 1, 0xDEADBEEF, 2**64 - 1]))
        self.put(ctypes.c_void_p(number), f"{chosen.kind if chosen else 'none'} {number:#x}")

    def check(self) -> None:
        for place, before, size in self.checks:
            assert place.raw[size:] == before[size:], "something was written beyond the place for it"


WAY_IN = ["GCInitLib", "TLOpen", "TLOpenInterface", "IFUpdateDeviceList", "IFOpenDevice", "DevGetPort"]
WAY_IN += ["DevOpenDataStream", "GCRegisterEvent", *["DSAllocAndAnnounceBuffer", "DSQueueBuffer"] * 3]
WAY_IN += ["DSStartAcquisition"]
OFTEN = ["EventGetData", "DSQueueBuffer", "DSGetBufferInfo", "DSGetBufferChunkData", "DSRevokeBuffer"] * 5


def any_calls(host: Host, draw: Callable[..., Any]) -> None:
    way_in = WAY_IN[: max(0, draw(st.integers(-len(WAY_IN), len(WAY_IN))))] or WAY_IN
    for name in way_in:
        host.call(name, Arguments(host, draw, FUNCTIONS[name], is_sane=True))
    if way_in == WAY_IN:
        (remote,), size = host.open_ones(("remote",)), ctypes.c_size_t(8)
        one = ctypes.byref(ctypes.c_uint64(1))
        at = ctypes.c_void_p(remote.number), ctypes.c_uint64(ACQUISITION_START)
        assert host.library.GCWritePort(*at, one, ctypes.byref(size)) == 0
    for name in draw(st.lists(st.sampled_from(sorted(FUNCTIONS) + OFTEN), max_size=40)):
        host.call(name, Arguments(host, draw, FUNCTIONS[name], is_sane=False))


def open_things() -> tuple[int, int]:
    """Threads and files of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def main(examples: int, folder: Path) -> None:
    faulthandler.enable()
    library = ctypes.CDLL(str(world.producer()))
    rig = world.Rig(world.camera_path(folder, "cam"))
    rig.memory.reg[FRAME_RATE] = struct.unpack("<Q", struct.pack("<d", 1000.0))[0]
    before = open_things()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        host = Host(library, folder / "calls.txt")
        try:
            any_calls(host, data.draw)
        finally:
            library.GCCloseLib()
            host.log.close()
        assert open_things() == before, "threads or files are left open"

    holds()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(os.environ[world.FOLDER_VARIABLE]))
