"""An open GenTL device, through harvesters: its features and its buffers, behind the few calls we need.

harvesters 1.4.3 and genicam 1.6.0, private attributes included (`tests/acquire/genicam/test_gentl.py` fails when
they change). No `run_as_thread`, no timeout of 0 (it means no limit), no view of a buffer after it went back.
Whatever the SDK raises becomes a CameraError with one sentence.

Waiting: harvesters waits inside GenTL with Python's lock held, so that no other thread of the process runs. Where
the producer lets us, its own `EventGetData` is called by ctypes, which lets go of the lock.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from genicam import gentl

from inspectd.acquire.genicam import buffers
from inspectd.acquire.genicam.buffers import Delivered, number
from inspectd.acquire.genicam.devices import Device, ImageAcquirer, chosen, device_of, load
from inspectd.acquire.genicam.features import SDK_ERRORS, Features, said_as
from inspectd.runtime.errors import CameraError

__all__ = ["Delivered", "Session"]
POLL_S = 0.0004
GC_ERR_TIMEOUT, GC_ERR_ABORT = -1011, -1012


class _NewBuffer(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("buffer", ctypes.c_void_p), ("user", ctypes.c_void_p))


class Session:
    """One open camera. Used by one thread alone, and never the main one: harvesters would take its signals."""

    def __init__(self, paths: list[Path], wanted: dict[str, str]) -> None:
        """Open the one device whose `wanted` fields (of Device) match; raises CameraError if it is not one."""
        self._acquirer: ImageAcquirer | None = None
        with said_as("the GenTL producer can't be used"):
            self._harvester = load(paths)
        try:
            index, self.device = self._find(wanted)
            with said_as(f"the camera {self.device.serial} can't be opened ({self.device.access})"):
                self._acquirer = self._harvester.create(index)
                self._stream = self._acquirer.data_streams[0]
                self._monitor = next(iter(self._acquirer._new_buffer_event_monitor_dict.values()))
        except CameraError:
            self.close()
            raise
        self.features = Features(self._acquirer.remote_device.node_map)
        self._event_get_data = _event_get_data(paths, self._monitor)
        self._buffers: dict[int, Any] = {}

    def _find(self, wanted: dict[str, str]) -> tuple[int, Device]:
        listed = [device_of(info) for info in self._harvester.device_info_list]
        matches = [i for i, device in enumerate(listed) if wanted.items() <= device._asdict().items()]
        if (index := chosen([listed[i] for i in matches])) is not None:
            return matches[index], listed[matches[index]]
        asked = " ".join(f"{name} {value!r}" for name, value in wanted.items())
        serials = ", ".join(repr(device.serial) for device in listed)
        if matches:
            raise CameraError(f"{len(matches)} cameras have {asked}; name one by its serial ({serials})")
        there = f"the producer lists the serials {serials}" if listed else "the producer lists no camera at all"
        raise CameraError(f"no camera with {asked}; {there}")

    # ---- acquisition ----

    def start(self, num_buffers: int) -> None:
        """Begin to acquire, oldest frame first; frame ids restart."""
        assert self._acquirer is not None
        with suppress(*SDK_ERRORS):  # not every producer has this feature; oldest first is then its only way
            self._stream.node_map.StreamBufferHandlingMode.value = "OldestFirst"
        with said_as("the acquisition does not start"):
            self._acquirer.num_buffers = num_buffers
            self._acquirer.start()
        self._buffers = {int(raw._handle): raw for raw in self._acquirer._announced_buffers}

    def wait(self, timeout_s: float) -> Delivered | None:
        """Wait for the oldest filled buffer, whole or not; None after the time-out."""
        raw = self._wait_outside_the_lock(timeout_s) if self._event_get_data else self._poll(timeout_s)
        return None if raw is None else buffers.delivered(raw)

    def fetch(self) -> Delivered | None:
        """The oldest filled buffer, whole or not, if there is one already."""
        return None if self.waiting == 0 else self.wait(0.001)

    def _wait_outside_the_lock(self, timeout_s: float) -> Any:
        event, size = _NewBuffer(), ctypes.c_size_t(ctypes.sizeof(_NewBuffer))
        timeout_ms = max(1, int(timeout_s * 1e3))
        assert self._event_get_data is not None
        error = self._event_get_data(
            int(self._monitor.handle), ctypes.byref(event), ctypes.byref(size), timeout_ms
        )
        if error in (GC_ERR_TIMEOUT, GC_ERR_ABORT):
            return None
        if error or event.buffer not in self._buffers:
            raise CameraError(f"the camera was lost: EventGetData returned {error}")
        return self._buffers[event.buffer]

    def _poll(self, timeout_s: float) -> Any:
        """Look whether a buffer waits, and fetch only then: fetching an empty queue would hold the lock."""
        until_s = time.monotonic() + timeout_s
        with said_as("the camera was lost"):
            while not self._stream.num_awaiting_delivery:
                if time.monotonic() >= until_s:
                    return None
                time.sleep(POLL_S)
            try:
                self._monitor.update_event_data(1)
            except gentl.TimeoutException:
                return None
            return self._monitor.buffer

    @property
    def tick_hz(self) -> int:
        """Ticks per second of the device's clock, as the producer or the camera tells it; 0 if neither does."""
        assert self._acquirer is not None
        told = number(self._acquirer.device, "timestamp_frequency")
        return told or int(self.features.get("GevTimestampTickFrequency") or 0)

    def chunk(self, delivered: Delivered, name: str) -> Any:
        """Value of a chunk feature in this buffer; None if it has none. Another buffer's is never read."""
        acquirer = self._acquirer
        assert acquirer is not None
        with suppress(*SDK_ERRORS, CameraError):
            self._detach_chunks()
            if buffers.contains_chunks(delivered.raw):
                acquirer._update_chunk_data(buffer=delivered.raw, is_manual=True)
                return self.features.get(name, fresh=True)
        return None

    def _detach_chunks(self) -> None:
        """Let chunk features have no value: their adapter would go on reading a buffer that is filled anew."""
        assert self._acquirer is not None
        self._acquirer._chunk_adapter.detach_buffer()
        self._acquirer._has_attached_chunk = False

    @property
    def waiting(self) -> int | None:
        """Frames that wait in the producer to be fetched; None if it does not tell."""
        return number(self._stream, "num_awaiting_delivery")

    def requeue(self, delivered: Delivered) -> None:
        """Give the buffer back to the producer; nothing of it may be looked at any more."""
        with suppress(*SDK_ERRORS):
            self._detach_chunks()
        with suppress(*SDK_ERRORS):
            delivered.raw.parent.queue_buffer(delivered.raw)

    def stream_losses(self) -> tuple[int, int]:
        """Frames that found no free buffer, and frames lost on their way, by the producer's own count."""
        lost = None
        with suppress(*SDK_ERRORS):
            lost = self._stream.node_map.StreamLostFrameCount.value
        return number(self._stream, "num_underrun") or 0, int(lost or 0)

    def halt(self) -> None:
        """End the acquisition and take all buffers back, so that `start` may follow; whatever the device says."""
        if self._acquirer is not None:
            for call in _stopping(self._acquirer):
                with suppress(Exception):
                    call()

    def close(self) -> None:
        """Let go of the device even when it is gone: `stop` may then throw half-way and leave it open."""
        if self._acquirer is not None:
            for call in (*_stopping(self._acquirer), self._acquirer.destroy):
                with suppress(
                    Exception
                ):  # whatever a vendor's library says of a device that is gone: go on closing
                    call()
            _forget(self._harvester, self._acquirer)
        with suppress(*SDK_ERRORS):
            self._harvester.reset()


def _event_get_data(paths: list[Path], monitor: Any) -> Callable[..., int] | None:
    """The producer's own `EventGetData`; None unless it is certain whose it is."""
    if len(paths) != 1:
        return None
    try:
        function = ctypes.CDLL(str(paths[0])).EventGetData
        int(monitor.handle)
    except (OSError, AttributeError, TypeError, ValueError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.c_uint64]
    function.restype = ctypes.c_int32
    return function


def _stopping(acquirer: ImageAcquirer) -> list[Callable[[], object]]:
    calls: list[Callable[[], object]] = [acquirer.stop]
    for stream in list(acquirer._data_streams):
        calls.append(partial(stream.stop_acquisition, gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL))
        calls.append(partial(stream.flush_buffer_queue, gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD))
    return calls


def _forget(harvester: Any, acquirer: ImageAcquirer) -> None:
    """Make harvesters forget an acquirer, which it would otherwise keep."""
    with suppress(AttributeError, ValueError):
        harvester._ias.remove(acquirer)
    with suppress(AttributeError):
        acquirer._finalizer.detach()
