"""What a camera is to the camera process, and what the process tells the daemon."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct, structs

from inspectd.clock import now_ns
from inspectd.config import Camera as CameraConfig
from inspectd.config import Feature
from inspectd.errors import CameraError
from inspectd.results import ClockView, Losses, Reason
from inspectd.ring import Shape

U8 = npt.NDArray[np.uint8]
MAX_GAP = 100_000
"""A counter that jumps further, or back, has not counted parts: it was restarted."""
MAX_ORDER_AGE_S = 0.5
"""So long a software trigger may wait for its turn. Later another part lies under the camera."""
EXIT_ANEW = 75
"""Exit code of a camera process that wants to be started anew: tried in vain, or grown too large."""


class Exposure(NamedTuple):
    """One exposure that `Camera.wait` reports."""

    frame_id: int
    """The camera's own count of its triggers."""
    trigger_ns: int
    """Its moment on the host's monotonic clock."""
    part_id: int = 0
    """What tells the part apart, where that is not the count (an encoder's value); 0 = the count."""
    device_ns: int = 0
    """Its moment on the device's own clock; 0 = it has none."""


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


class Camera(Protocol):
    """Opened, used and closed by the acquisition thread alone. Any call but `close` may raise CameraError."""

    device: str
    """What was opened, for people."""

    def open(self) -> None:
        """Connect and set all features; the picture's shape is what the job says, or CameraError."""

    def start(self) -> "Started":
        """Begin to acquire."""

    def restart(self) -> "Started":
        """End the acquisition, set all features again, begin anew: after a StalledError."""

    def wait(self, timeout_s: float) -> Exposure | Gap | None:
        """The next exposure, oldest first; None after `timeout_s`. Each must be `read` before the next wait.

        Raises EndOfImagesError when the camera has no more pictures to give, ever; StalledError when frames
        should come, the camera answers, and they don't.
        """

    def read(self, image: U8 | None) -> str:
        """Copy the exposure's picture into `image`, uint8 [H, W, C], or drop it if there is no room (None).

        Returns why the picture is unusable, empty if it is whole.
        """

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
    sent: int = 0
    """Software triggers sent so far, whoever sent them."""
    serial: str = ""
    """Of the device that streamed before: no other one may take its place."""
    state_dir: str = ""
    """Where simulated devices live."""
    slot_bytes: int = 0
    """Room for a picture in a slot: that of the line's largest recipe; 0 = of this one."""

    @property
    def shape(self) -> Shape:
        """Of the pictures in the slots."""
        return Shape(self.rect[3], self.rect[2], self.channels)

    def after(self, started: Started) -> "Job":
        """The job of the next start: the same device, which goes on counting."""
        return structs.replace(
            self, born_ns=started.born_ns, first=started.first, serial=started.serial or self.serial
        )

    def like(self, before: "Job") -> "Job":
        """The job of a start under another recipe: the same device, which goes on counting."""
        return structs.replace(
            self, born_ns=before.born_ns, first=before.first, sent=before.sent, serial=before.serial
        )


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
    part_id: int = 0
    device_ns: int = 0


class Missed(Struct, frozen=True, tag=True):
    """An exposure that is not in the ring: overrun (no free slot), incomplete (no usable picture) or lost."""

    frame_id: int
    trigger_ns: int
    reason: Reason
    detail: str
    part_id: int = 0


class Triggered(Struct, frozen=True, tag=True):
    """A software trigger is about to be sent, the `sent`th: from now on it must have a result."""

    sent: int
    trigger_ns: int
    part_ref: str = ""
    order: int = 0
    """The `Trigger` that asked for it; 0 = it was due by the rate."""


class Declined(Struct, frozen=True, tag=True):
    """A `Trigger` that was not sent and will not be."""

    order: int
    why: str


class Idle(Struct, frozen=True, tag=True):
    """The camera answers and has nothing to tell."""


class Vitals(Struct, frozen=True, tag=True):
    """How the camera is, again and again."""

    losses: Losses
    clock: ClockView


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


class Trigger(Struct, frozen=True, tag=True):
    """Daemon to camera process: send one software trigger. Answered by Triggered or Declined."""

    order: int
    """Counted by the daemon, from 1."""
    part_ref: str
    asked_ns: int
    """When, on the monotonic clock: too late it is declined, for another part may lie there."""


FromCamera = Streaming | Filled | Missed | Triggered | Declined | Idle | Vitals | Trouble | Finished
ToCamera = Slot | Stop | Trigger


class Orders:
    """Software triggers that were asked for: put by one thread, taken by the acquisition thread."""

    def __init__(self, decline: Callable[[Declined], None] = lambda _: None) -> None:
        self._decline, self._why = decline, "the camera takes no software triggers"
        self._waiting: deque[Trigger] = deque()
        self._changed = threading.Condition()

    def open(self) -> None:
        """The camera takes them from now on."""
        with self._changed:
            self._why = ""

    def close(self, why: str) -> None:
        """What waits is declined, and so is all that comes until `open`: a later part is not the one meant."""
        with self._changed:
            self._why = why
            while self._waiting:
                self._decline(Declined(self._waiting.popleft().order, why))

    def put(self, order: Trigger) -> None:
        """Ask for one."""
        with self._changed:
            if self._why:
                self._decline(Declined(order.order, self._why))
            else:
                self._waiting.append(order)
                self._changed.notify()

    def wait(self, timeout_s: float) -> None:
        """Until there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting, timeout_s)

    def take(self) -> Trigger | None:
        """The oldest that has not waited too long; None if there is none."""
        with self._changed:
            while self._waiting:
                order = self._waiting.popleft()
                if now_ns() - order.asked_ns <= MAX_ORDER_AGE_S * 1e9:
                    return order
                self._decline(Declined(order.order, f"the camera could not take it within {MAX_ORDER_AGE_S} s"))
        return None


Tell = Callable[[Triggered], None]
