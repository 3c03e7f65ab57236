"""What the engine thread wants of a backend."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from inspectd.handoff import Handoff
from inspectd.results import Frame

U8 = npt.NDArray[np.uint8]


class Backend(Protocol):
    """Opened, used and closed by one thread; no allocation of image size after it is open."""

    description: str
    """Library, precision and threads, for people."""
    depth: int
    """How many frames it works on at once."""
    completed: Handoff[Frame]
    """Frames whose inference ended; written by the library's threads, polled by the engine thread."""

    def submit(self, frame: Frame) -> None:
        """Start the inference of the picture in the frame's slot, read in place. At most `depth` at once."""

    def finish(self, frame: Frame) -> None:
        """Take note of a completed frame, whose `failure` is set if the inference failed."""

    def scores(self, frame: Frame) -> tuple[U8, U8]:
        """Score map uint8 [K, h, w] and peaks uint8 [K] of a finished frame, valid until its slot is reused."""

    def close(self) -> None:
        """Wait for what is in flight and let go of the device."""
