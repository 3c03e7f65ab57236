"""What the engine thread needs of a backend, and what a network says of a picture."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from inspectd.runtime.frame import Frame
from inspectd.runtime.handoff import Handoff
from inspectd.runtime.slots import Shape

U8 = npt.NDArray[np.uint8]
ALIGNMENT = 256
"""Alignment of addresses on a GPU, in bytes."""


class Backend(Protocol):
    """Opened, used and closed by one thread; no allocation of image size after it is open."""

    description: str
    """Library, precision and threads, for people."""
    depth: int
    """How many frames the backend works on at once."""
    completed: Handoff[Frame]
    """Frames whose inference ended; written by the library's threads, polled by the engine thread."""

    @property
    def fault(self) -> Exception | None:
        """What broke the device for good; None while it works. Looked at in every turn of the engine thread."""

    def submit(self, frame: Frame) -> None:
        """Start the inference of the picture in the frame's slot, read in place. At most `depth` at once."""

    def finish(self, frame: Frame) -> None:
        """Take note of a completed frame, whose `failure` is set if the inference failed."""

    def scores(self, frame: Frame) -> tuple[U8, U8]:
        """Score map uint8 [K, h, w] and peaks uint8 [K] of a finished frame, valid until its slot is reused."""

    def close(self) -> None:
        """Wait for what is in flight and let go of the device."""


class ScoreLayout(NamedTuple):
    """Shapes of what the network says of a picture: scores uint8 [K, h, w], then peak uint8 [K]."""

    scores: tuple[int, int, int]

    @property
    def peak_at(self) -> int:
        """Bytes from the begin of the scores to the peaks."""
        return -(-int(np.prod(self.scores)) // ALIGNMENT) * ALIGNMENT

    @property
    def nbytes(self) -> int:
        """Bytes of scores and peaks together: one copy fetches both."""
        return self.peak_at + self.scores[0]

    def views(self, memory: U8) -> tuple[U8, U8]:
        """The scores uint8 [K, h, w] and the peaks uint8 [K] as views of `memory` uint8 [nbytes]."""
        scores = memory[: int(np.prod(self.scores))].reshape(self.scores)
        return scores, memory[self.peak_at : self.nbytes]


def score_layout(shape: Shape, classes: int, stride: int) -> ScoreLayout:
    """Shapes of what a network with so many classes and this stride says of pictures of one shape."""
    return ScoreLayout((classes, -(-shape.height // stride), -(-shape.width // stride)))


class Gpu(NamedTuple):
    """A GPU, as the driver describes it."""

    number: int
    """Number of the GPU, as the driver counts."""
    name: str
    sm: str
    """Compute capability, such as sm86."""
    driver: str
    """Version of the driver, such as 580.95.05, and the newest CUDA that it can do."""
    pci: str
    memory_bytes: int
