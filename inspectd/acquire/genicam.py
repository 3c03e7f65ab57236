"""Any GenICam camera, through its vendor's GenTL producer and harvesters (the only file that knows it).

harvesters 1.4.3 and genicam 1.6.0, used so that no frame is lost unseen: no `run_as_thread`, no timeout of 0
(it means for ever), the copy made before the buffer goes back. An incomplete buffer is never handed out: it
shows as a gap in the frame ids, so as a lost frame.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from genicam import genapi, gentl

# At its import harvesters asks git for its own version, of whatever repository lies around its files.
sys.modules["harvesters._version"] = SimpleNamespace(get_versions=lambda: {"version": ""})  # type: ignore[assignment]
from harvesters.core import (
    ACQ_QUEUE_TYPE_LIST,
    ACQ_STOP_FLAGS_LIST,
    Harvester,
    ImageAcquirer,
    TimeoutException,
)

from inspectd.acquire.camera import U8, Exposure, Job, Started
from inspectd.clock import now_ns
from inspectd.config import Feature, GenicamCamera
from inspectd.errors import CameraError

SDK_ERRORS = (genapi.GenericException, gentl.GenericException, AttributeError)
"""Two unrelated trees; an unknown node is an AttributeError without text."""
DATA_EVENT_PERIOD_MS = 50
AT_ONCE_S, ASLEEP_S = 0.001, 0.1
"""A frame that was waited for has just come. One that was there at once may have waited since the last look,
and so may one that came while this process slept: it is taken for that old, never for fresher than it is."""
CHANNELS_OF = {"Mono8": 1, "RGB8": 3, "RGB8Packed": 3}
FORMAT_OF = {1: "Mono8", 3: "RGB8"}


class Device(NamedTuple):
    """A camera that a producer lists."""

    producer: str
    vendor: str
    model: str
    serial: str
    user_id: str
    access: str


def producers(cti: str, base: Path) -> list[Path]:
    """The producer files to use: the given one, else all in GENICAM_GENTL64_PATH. Raises CameraError."""
    if cti:
        path = base / cti
        if not path.is_file():
            raise CameraError(f"the GenTL producer {path} does not exist; check `cti`")
        return [path]
    folders = [Path(p) for p in os.environ.get("GENICAM_GENTL64_PATH", "").split(os.pathsep) if p]
    found = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.cti"))
    if not found:
        raise CameraError("no GenTL producer: set `cti` to the vendor's .cti file, or GENICAM_GENTL64_PATH")
    return found


def list_devices(paths: list[Path]) -> list[Device]:
    """All cameras of these producers."""
    harvester = Harvester()
    try:
        for path in paths:
            harvester.add_file(str(path))
        harvester.update()
        return [_device(info) for info in harvester.device_info_list]
    except SDK_ERRORS as error:
        raise CameraError(f"the GenTL producer {paths[0]} can't be used: {_said(error)}") from None
    finally:
        harvester.reset()


def _device(info: Any) -> Device:
    def text(name: str) -> str:
        try:
            return str(getattr(info, name))
        except SDK_ERRORS:
            return ""

    access = {1: "read/write", 2: "read only", 3: "in use", 5: "open", 6: "open, read only"}
    status = text("access_status")
    return Device(
        text("id_"), text("vendor"), text("model"), text("serial_number"), text("user_defined_name"),
        access.get(int(status), "unknown") if status.isdecimal() else "unknown",
    )  # fmt: skip


class Genicam:
    """One camera. Its frame ids restart at each start, so triggers while it was down are not known."""

    def __init__(self, config: GenicamCamera, job: Job, base: Path) -> None:
        self.device = ""
        self._config, self._job, self._base = config, job, base
        self._harvester = Harvester()
        self._acquirer: ImageAcquirer | None = None
        self._buffer: Any = None
        self._left = -1  # buffers that may still be fetched; negative = any number
        self._first: int | None = None
        self._looked_ns = now_ns()

    def open(self) -> None:
        """Find exactly the one device, set its features, read them back."""
        wanted = {"serial_number": self._config.serial} if self._config.serial else {
            "user_defined_name": self._config.user_id
        }  # fmt: skip
        try:
            for path in producers(self._config.cti, self._base):
                self._harvester.add_file(str(path))
            self._harvester.update()
            matches = [info for info in self._harvester.device_info_list if _matches(info, wanted)]
            if len(matches) != 1:
                raise CameraError(self._not_one(len(matches), wanted))
            self._acquirer = self._harvester.create(self._harvester.device_info_list.index(matches[0]))
            device = _device(matches[0])
            self.device = f"{device.vendor} {device.model} {device.serial}".strip()
            self._configure(self._acquirer)
        except SDK_ERRORS as error:
            raise CameraError(f"the camera can't be opened: {_said(error)}") from None

    def start(self) -> Started:
        """Begin to acquire; frame ids begin anew."""
        assert self._acquirer is not None
        try:
            self._acquirer.timeout_period_on_update_event_data_call = DATA_EVENT_PERIOD_MS
            self._acquirer.start()
        except SDK_ERRORS as error:
            raise CameraError(f"the acquisition does not start: {_said(error)}") from None
        return Started(None)

    def wait(self, timeout_s: float) -> Exposure | None:
        """The oldest buffer. Its number is the device's frame id, counted from 1 at the first frame."""
        assert self._acquirer is not None
        began_ns, last_look_ns = now_ns(), self._looked_ns
        try:
            self._left -= 1
            self._buffer = self._acquirer.try_fetch(timeout=timeout_s) if self._left else None
            self._looked_ns = now_ns()
            if self._buffer is None:
                return None
            frame_id = int(self._buffer.frame_id)
        except TimeoutException:
            return None
        except SDK_ERRORS as error:
            raise CameraError(f"the camera was lost: {_said(error)}") from None
        self._first = frame_id if self._first is None else self._first
        waited_s = (self._looked_ns - began_ns) / 1e9
        fresh = AT_ONCE_S < waited_s < timeout_s + ASLEEP_S
        return Exposure(frame_id - self._first + 1, self._looked_ns if fresh else last_look_ns)

    def read(self, image: U8 | None) -> str:
        """Copy the job's rectangle out of the buffer, then give the buffer back to the producer."""
        try:
            return "" if image is None else self._copy(image)
        except SDK_ERRORS as error:
            raise CameraError(f"the camera was lost: {_said(error)}") from None
        finally:
            with suppress(*SDK_ERRORS):
                self._buffer.queue()
            self._buffer = None

    def _copy(self, image: U8) -> str:
        component = self._buffer.payload.components[0]
        channels = CHANNELS_OF.get(component.data_format, 0)
        size = component.width, component.height, channels
        if size != (self._config.width, self._config.height, self._job.channels):
            return f"the camera sent {component.width}x{component.height} {component.data_format}"
        x, y, width, height = self._job.rect
        picture = np.asarray(component.data)[: size[0] * size[1] * channels].reshape(size[1], size[0], channels)
        image[...] = picture[y : y + height, x : x + width]
        return ""

    def stop(self) -> None:
        """No exposures from now on; what is on its way or in the producer's buffers is still fetched."""
        assert self._acquirer is not None
        self._left = self._config.num_buffers  # a camera that does not obey must not keep us
        with suppress(*SDK_ERRORS):
            self._acquirer.remote_device.node_map.AcquisitionStop.execute()

    def close(self) -> None:
        """Let go of the device even when it is gone: `stop` may then throw half-way and leave it open."""
        if self._acquirer is not None:
            _destroy(self._acquirer)
        with suppress(*SDK_ERRORS):
            self._harvester.reset()

    def _configure(self, acquirer: ImageAcquirer) -> None:
        pixel_format = self._config.pixel_format or FORMAT_OF[self._job.channels]
        if CHANNELS_OF.get(pixel_format) != self._job.channels:
            raise CameraError(
                f"the model wants {FORMAT_OF[self._job.channels]}, the camera is set to {pixel_format}"
            )
        nodes = acquirer.remote_device.node_map
        acquirer.num_buffers = self._config.num_buffers
        features: dict[str, Feature] = {
            "PixelFormat": pixel_format, "Width": self._config.width, "Height": self._config.height,
        }  # fmt: skip
        for name, value in (features | self._job.features).items():
            _set(nodes, name, value)
        with suppress(*SDK_ERRORS):  # not every producer has it; oldest first is then its only way
            acquirer.data_streams[0].node_map.StreamBufferHandlingMode.value = "OldestFirst"

    def _not_one(self, found: int, wanted: dict[str, str]) -> str:
        asked = " ".join(f"{name.split('_')[0]} {value!r}" for name, value in wanted.items())
        listed = ", ".join(repr(_device(i).serial) for i in self._harvester.device_info_list) or "none at all"
        if found:
            return f"{found} cameras have {asked}; name one by its serial ({listed})"
        return f"no camera with {asked}; the producer lists the serials {listed}"


def _matches(info: Any, wanted: dict[str, str]) -> bool:
    try:
        return all(getattr(info, name) == value for name, value in wanted.items())
    except SDK_ERRORS:
        return False


def _set(nodes: Any, name: str, value: Feature) -> None:
    """Write a feature and read it back; refused with the feature's name and range."""
    node = getattr(nodes, name, None)
    if node is None:
        raise CameraError(f"feature {name}: the camera has no such feature")
    try:
        node.value = value
        found = node.value
    except SDK_ERRORS as error:
        raise CameraError(f"feature {name}: {value!r} was refused{_range(node)}: {_said(error)}") from None
    if found != value and not (isinstance(value, float) and abs(found - value) <= 1e-3 * max(1.0, abs(value))):
        raise CameraError(f"feature {name}: {value!r} was asked, the camera took {found!r}{_range(node)}")


def _range(node: Any) -> str:
    with suppress(*SDK_ERRORS):
        return f" (allowed {node.min} to {node.max})"
    with suppress(*SDK_ERRORS):
        return f" (allowed {', '.join(node.symbolics)})"
    return ""


def _said(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _destroy(acquirer: ImageAcquirer) -> None:
    calls: list[Callable[[], object]] = [acquirer.stop]
    for stream in list(acquirer._data_streams):
        calls.append(partial(stream.stop_acquisition, ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL))
        calls.append(partial(stream.flush_buffer_queue, ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD))
    for call in (*calls, acquirer.destroy):
        with suppress(Exception):  # whatever a vendor's library says of a device that is gone: go on closing
            call()
