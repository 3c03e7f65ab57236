"""What a camera is to the camera process, and what the process tells the daemon."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from inspectd.config import Camera as CameraConfig
from inspectd.config import Feature
from inspectd.results import Reason

U8 = npt.NDArray[np.uint8]


class Exposure(NamedTuple):
    """One exposure that `Camera.wait` reports."""

    frame_id: int
    """The camera's own count of its triggers."""
    trigger_ns: int
    """Its moment on the host's monotonic clock."""


class Started(NamedTuple):
    """What a device says when its acquisition begins."""

    counted: int | None
    """Triggers counted so far; None if its count restarts with each start, the first frame being number 1."""
    born_ns: int = 0
    """Simulated devices: when they began to count, on the monotonic clock."""
    first: int = 0
    """Simulated devices: the count at their very first start."""


class Camera(Protocol):
    """Opened, used and closed by the acquisition thread alone. Any call but `close` may raise CameraError."""

    device: str
    """What was opened, for people."""

    def open(self) -> None:
        """Connect and set all features; the picture's shape is what the job says, or CameraError."""

    def start(self) -> "Started":
        """Begin to acquire."""

    def wait(self, timeout_s: float) -> Exposure | None:
        """The next exposure, oldest first; None after `timeout_s`. Each must be `read` before the next wait.

        Raises EndOfImagesError when the camera has no more pictures to give, ever.
        """

    def read(self, image: U8 | None) -> str:
        """Copy the exposure's picture into `image`, uint8 [H, W, C], or drop it if there is no room (None).

        Returns why the picture is unusable, empty if it is whole.
        """

    def stop(self) -> None:
        """End the acquisition; `wait` still returns what was exposed before, then None."""

    def close(self) -> None:
        """Disconnect; never raises."""


class EndOfImagesError(Exception):
    """The camera has shown all its pictures."""


class Job(Struct, frozen=True):
    """What a camera process is told at its start, as JSON on its standard input."""

    config: CameraConfig
    base: str
    """Folder that paths in `config` are relative to."""
    features: dict[str, Feature]
    rect: tuple[int, int, int, int]
    """x, y, width, height of the sensor image that goes into the slot."""
    channels: int
    slots: int
    born_ns: int = 0
    """A simulated device that streamed before began to count then, on the monotonic clock; 0 = begin now."""
    first: int = 0
    """Its count at that first start."""

    def after(self, started: Started) -> "Job":
        """The job of the next start: a simulated device goes on counting."""
        return structs.replace(self, born_ns=started.born_ns, first=started.first)


class Streaming(Struct, frozen=True, tag=True):
    """The camera acquires."""

    device: str
    started: Started


class Filled(Struct, frozen=True, tag=True):
    """A slot holds the picture of an exposure; it is the daemon's now."""

    slot: int
    generation: int
    frame_id: int
    trigger_ns: int
    ring_ns: int


class Missed(Struct, frozen=True, tag=True):
    """An exposure that is not in the ring: overrun (no free slot) or incomplete (no usable picture)."""

    frame_id: int
    trigger_ns: int
    reason: Reason
    detail: str


class Idle(Struct, frozen=True, tag=True):
    """The camera answers and has nothing to tell."""


class Trouble(Struct, frozen=True, tag=True):
    """The camera can't be opened or was lost; the process goes on trying."""

    detail: str


class Finished(Struct, frozen=True, tag=True):
    """The acquisition ended, on demand or because there are no more pictures. The last message."""


class Slot(Struct, frozen=True, tag=True):
    """Daemon to camera process: this slot may be filled."""

    slot: int


class Stop(Struct, frozen=True, tag=True):
    """Daemon to camera process: end the acquisition, report, exit."""


FromCamera = Streaming | Filled | Missed | Idle | Trouble | Finished
ToCamera = Slot | Stop
