"""What travels from stage to stage: the frame in flight, its regions, its verdict and reason."""

import threading
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Verdict(StrEnum):
    """Only PASS keeps a part; the gateways treat everything else, silence too, as reject."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


class Reason(StrEnum):
    """Why the verdict is what it is; a closed set. All but the first two go with UNKNOWN."""

    NONE = "none"
    """PASS: every limit is kept."""
    DEFECT = "defect"
    """FAIL: a limit is broken."""
    INCOMPLETE = "incomplete"
    """The camera triggered, and only part of the frame, or an unusable one, arrived."""
    LOST = "lost"
    """The camera triggered, and the frame never arrived."""
    CAMERA = "camera"
    """The trigger came while the camera or its process was down."""
    OVERRUN = "overrun"
    """The frame was received, and no slot of the ring was free."""
    DEADLINE = "deadline"
    """The frame was received, and not judged in time."""
    ENGINE = "engine"
    """The frame was received, and the inference failed."""
    NOT_READY = "not_ready"
    """The frame was received while the daemon was not ready to judge."""
    UNDECIDED = "undecided"
    """The frame was judged: a score lies between `suspect` and `reject`, or there are too many regions."""
    IMAGE = "image"
    """The frame was judged: the picture is unfit (too dark, too bright, blurred, identical to the last one)."""


class Region(msgspec.Struct, frozen=True, omit_defaults=True):
    """One connected region of a defect class, in pixels of the full sensor image, origin top left."""

    class_: str = msgspec.field(name="class")
    score: float
    """Highest score of the region's cells, 0 to 1."""
    mean_score: float
    bbox: tuple[int, int, int, int]
    """Bounding box: x, y, width, height."""
    centroid: tuple[float, float]
    """Centroid: x, y, weighted by score."""
    area_px: float
    length_px: float
    """Longest extent (maximum Feret diameter) of the region's cells."""
    contour: list[tuple[int, int]]
    """Outline of the region's cells, at most 64 points."""
    zone: str = ""
    area_mm2: float | None = None
    length_mm: float | None = None


class Judgement(NamedTuple):
    """The end of a frame: verdict, reason, and a sentence for people where one helps."""

    verdict: Verdict
    reason: Reason
    regions: tuple[Region, ...] = ()
    truncated: bool = False
    detail: str = ""


def unknown(reason: Reason, detail: str = "") -> Judgement:
    """Make the judgement UNKNOWN, for when no picture was judged."""
    return Judgement(Verdict.UNKNOWN, reason, detail=detail)


class Frame:
    """One exposure on its way through the daemon, or consecutive triggers of which no picture came.

    Times are ns on the monotonic clock, 0 = not reached.

    `claim` is its state word: of all that may end the frame (judge, deadline, engine error) the first
    caller gets True and owns the frame's only result.
    """

    __slots__ = (
        "_open", "camera", "counting_restarted", "deadline_ns", "device_ns", "engine_ns", "exposed", "failure",
        "frame_id", "generation", "judge_ns", "part_id", "part_ref", "parts", "ring_ns", "setup", "slot",
        "trigger_ns", "trigger_utc_ns",
    )  # fmt: skip

    def __init__(
        self,
        camera: int,
        part_id: int,
        frame_id: int,
        trigger_ns: int,
        trigger_utc_ns: int,
        deadline_ns: int,
        setup: int = 1,
    ) -> None:
        self.camera = camera  # index into the configured cameras
        self.part_id = part_id
        self.parts = 1  # so many consecutive parts from `part_id` on; more than one only without a picture
        self.exposed = True  # False: nothing but a count says that there was a trigger
        self.frame_id = frame_id
        self.trigger_ns = trigger_ns
        self.trigger_utc_ns = trigger_utc_ns
        self.deadline_ns = deadline_ns
        self.setup = setup  # number of the recipe and model it was taken under, counted up from 1
        self.part_ref = ""  # what the world outside calls the part
        self.slot = -1  # -1: none of the ring's pictures is its
        self.generation = 0
        self.device_ns = 0  # the exposure on the device's own clock; 0 = no such clock
        self.ring_ns = self.engine_ns = 0
        self.judge_ns = 0  # set last of all: then nobody looks at picture and scores any more
        self.failure = ""  # set by the engine when the inference failed
        self.counting_restarted = False  # triggers before this one may be uncounted
        self._open = threading.Lock()

    def claim(self) -> bool:
        """Claim the frame: True for the first caller, who then publishes the frame's one result."""
        return self._open.acquire(blocking=False)

    @property
    def open(self) -> bool:
        """Whether nobody owns the result yet."""
        return not self._open.locked()

    @property
    def last_part_id(self) -> int:
        """The last of the parts that the frame stands for."""
        return self.part_id + self.parts - 1

    def __lt__(self, other: "Frame") -> bool:
        """Order by deadline, the earliest first."""
        return self.deadline_ns < other.deadline_ns


class Ended(NamedTuple):
    """A claimed frame with its judgement: what the publish stage takes."""

    frame: Frame
    judgement: Judgement


class Late(NamedTuple):
    """The answer to a frame that its deadline had ended: for the journal and the books, never for the wire."""

    frame: Frame
    judgement: Judgement
