"""What a camera is to the camera process."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from inspectd.runtime.clock import ClockView
from inspectd.runtime.errors import CameraError
from inspectd.runtime.frame import Reason

U8 = npt.NDArray[np.uint8]
MAX_GAP = 100_000
"""A counter that jumps further, or back, has not counted parts: it was restarted."""


class Exposure(NamedTuple):
    """One exposure that `Camera.wait` reports."""

    frame_id: int
    """The camera's own count of its triggers."""
    trigger_ns: int
    """Moment of the exposure, ns on the host's monotonic clock."""
    part_id: int = 0
    """What identifies the part where the count does not (an encoder's value); 0 = the count does."""
    device_ns: int = 0
    """Moment of the exposure, ns on the device's own clock; 0 = it has none."""
    reason: Reason | None = None
    """Why its picture must not be judged, whatever it shows; None: it may be."""
    detail: str = ""
    """The reason in words."""
    restarted: bool = False
    """The count does not go on from the exposure before: triggers between may be uncounted."""


class Gap(NamedTuple):
    """The camera has counted its triggers up to this one, and their frames will not come."""

    frame_id: int
    detail: str


class Started(NamedTuple):
    """What a device says when its acquisition begins."""

    counted: int | None
    """Triggers counted so far; None if its count restarts with each start, the first frame being number 1."""
    born_ns: int = 0
    """Simulated devices: when they began to count, on the monotonic clock."""
    first: int = 0
    """Simulated devices: the count at their very first start."""
    serial: str = ""
    booted_ns: int = 0
    """When the device's clock began, on the host's monotonic clock; 0 = not known. If after the newest frame, the
    device was off meanwhile, and whatever it counts began anew."""


class Camera(Protocol):
    """Opened, used and closed by the acquisition thread alone. Any call but `close` may raise CameraError."""

    device: str
    """What was opened, for people."""

    def open(self) -> None:
        """Connect and set all features; the picture's shape is what the job says, or CameraError."""

    def start(self) -> "Started":
        """Begin to acquire."""

    def restart(self) -> "Started":
        """End the acquisition, set all features again, and begin again: after a StalledError."""

    def wait(self, timeout_s: float) -> Exposure | Gap | None:
        """The next exposure, oldest first; None after `timeout_s`. Each must be `read` before the next wait.

        Raises EndOfImagesError when the camera has no more pictures to give, ever; StalledError when frames
        should come, the camera answers, and they don't.
        """

    def read(self, image: U8 | None) -> str:
        """Copy the exposure's picture into `image`, uint8 [H, W, C], or drop it if there is no room (None).

        Returns why the picture is unusable, empty if it is whole.
        """

    def caveats(self) -> Iterator[str]:
        """What can go unnoticed with the open device as it is set up, a sentence each, for the log and `check`."""

    def clock_view(self) -> ClockView:
        """How the device's clock stands to the host's; brings the `Losses` up to date as well."""

    def features(self) -> Iterator[dict[str, Any]]:
        """What can be read of it and set: name, value, access, and range, choice and unit where it has them."""

    def stop(self) -> None:
        """End the acquisition; `wait` still returns what was exposed before, then None."""

    def close(self) -> None:
        """Disconnect; never raises."""


class StalledError(CameraError):
    """The camera answers, and the frames that are due do not come."""


class EndOfImagesError(Exception):
    """The camera has shown all its pictures."""
