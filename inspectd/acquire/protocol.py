"""What a camera process and the daemon say to each other."""

from msgspec import Struct, structs

from inspectd.acquire.camera import Started
from inspectd.runtime.books import Losses
from inspectd.runtime.clock import ClockView
from inspectd.runtime.frame import Reason
from inspectd.runtime.slots import Shape
from inspectd.settings.camera import CameraConfig
from inspectd.settings.recipe import Feature

EXIT_TO_RESTART = 75
"""Exit code of a camera process that wants to be started again: it tried in vain, or grew too large."""

OPENING_S = 60.0
"""Longest time in seconds that a camera may take to be opened; some wait until their last host is forgotten."""


class Job(Struct, frozen=True):
    """What a camera process gets to know at its start, as JSON on its standard input."""

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
    """Count of the simulated device at that first start."""
    sent: int = 0
    """Number of software triggers sent so far, whoever sent them."""
    serial: str = ""
    """Serial number of the device that streamed before: no other one may take its place; empty = any."""
    state_dir: str = ""
    """Folder of the line's state, where simulated devices live."""
    slot_bytes: int = 0
    """Room for a picture in a slot: that of the line's largest recipe; 0 = of this one."""

    @property
    def shape(self) -> Shape:
        """Shape of the pictures in the slots."""
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


class Connecting(Struct, frozen=True, tag=True):
    """The camera was let go of, and is opened next: that may take OPENING_S."""


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
    restarted: bool = False
    """The count does not go on from the exposure before."""


class Unfilled(Struct, frozen=True, tag=True):
    """An exposure that is not in the ring: overrun (no free slot), incomplete (no usable picture) or camera (which
    part it shows can't be told).
    """

    frame_id: int
    trigger_ns: int
    reason: Reason
    detail: str
    part_id: int = 0
    restarted: bool = False


class Missing(Struct, frozen=True, tag=True):
    """The camera has counted its triggers up to this one, and frames that did not come yet will not come."""

    frame_id: int
    detail: str


class Triggered(Struct, frozen=True, tag=True):
    """A software trigger is about to be sent, the `sent`th: from now on it must have a result."""

    sent: int
    trigger_ns: int
    part_ref: str = ""
    order: int = 0
    """The `SendTrigger` that asked for it; 0 = it was due by the rate."""


class Declined(Struct, frozen=True, tag=True):
    """A `SendTrigger` that was not sent and will not be."""

    order: int
    why: str


class Idle(Struct, frozen=True, tag=True):
    """The camera answers and has nothing to tell."""


class Vitals(Struct, frozen=True, tag=True):
    """How the camera is: what was lost, and how its clock stands. Sent again and again."""

    losses: Losses
    clock: ClockView


class Trouble(Struct, frozen=True, tag=True):
    """The camera can't be opened or was lost; the process goes on trying."""

    detail: str
    is_silent: bool = False
    """The camera answers, but sends no frames that are due: only a frame shows that it is well again."""


class Notice(Struct, frozen=True, tag=True):
    """Something that people should know of the camera; it goes on."""

    detail: str


class Finished(Struct, frozen=True, tag=True):
    """The acquisition ended, on demand or because there are no more pictures. The last message."""


class Slot(Struct, frozen=True, tag=True):
    """Daemon to camera process: this slot may be filled."""

    slot: int


class Stop(Struct, frozen=True, tag=True):
    """Daemon to camera process: end the acquisition, report, exit."""


class SendTrigger(Struct, frozen=True, tag=True):
    """Daemon to camera process: send one software trigger. Answered by Triggered or Declined."""

    order: int
    """Number of the order, counted by the daemon from 1."""
    part_ref: str
    asked_ns: int
    """When it was asked for, ns on the monotonic clock; too late it is declined: another part may lie there."""


FromCamera = (
    Connecting
    | Streaming
    | Filled
    | Unfilled
    | Missing
    | Triggered
    | Declined
    | Idle
    | Vitals
    | Trouble
    | Notice
    | Finished
)
ToCamera = Slot | Stop | SendTrigger
