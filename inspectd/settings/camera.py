"""The `[[camera]]` sections of `config.toml`: a struct for each kind of camera."""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Scale = Annotated[float, Meta(gt=0, le=1e6)]
"""Size of a pixel in mm."""
RESERVED_CAMERA_NAME = "part"


class CameraBase(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every camera has, whatever its kind."""

    name: Name
    width: Annotated[int, Meta(ge=64, le=65536)]
    height: Annotated[int, Meta(ge=64, le=65536)]
    mm_per_px: Scale | Annotated[list[Scale], Meta(min_length=2, max_length=2)] | None = None
    """Size of a pixel on the part in mm: one number, or [across, down].

    (A list of two: with a tuple beside a number that has bounds msgspec 0.22 crashes.)
    """
    spare_slots: Annotated[int, Meta(ge=1, le=64)] = 4
    stall_s: Annotated[float, Meta(ge=1, le=600)] = 5.0
    """Seconds of silence after which a camera process that streams hangs: it is killed and restarted."""
    core: Annotated[int, Meta(ge=0, le=4095)] | None = None
    """The CPU core that the camera process is pinned to; None = any."""

    @property
    def scale(self) -> tuple[float, float] | None:
        """Width and height of a pixel on the part in mm; None if they are not known."""
        if isinstance(self.mm_per_px, list):
            across, down = self.mm_per_px
            return across, down
        return None if self.mm_per_px is None else (self.mm_per_px, self.mm_per_px)

    def __post_init__(self) -> None:
        if self.name == RESERVED_CAMERA_NAME:
            raise ValueError(f"the camera name {RESERVED_CAMERA_NAME!r} is reserved, choose another")


class FolderCamera(CameraBase, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder"):
    """Images of a folder in name order, at a rate or one for each count of a trigger counter."""

    folder: str
    acquisition_frame_rate_hz: Annotated[float, Meta(ge=0.01, le=10000)] = 10.0
    trigger_counter: str = ""
    """File with one native u64 that somebody else counts up: one picture per count (a simulated Line0)."""
    loop: bool = True


class GentlCamera(CameraBase, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every camera behind a GenTL producer has."""

    pixel_format: str = ""
    """SFNC PixelFormat; empty = Mono8 or RGB8, as the model wants."""
    num_buffers: Annotated[int, Meta(ge=3, le=256)] = 16
    trigger: Literal["free_run", "software", "line"] = "free_run"
    trigger_source: str = "Line0"
    """SFNC TriggerSource, for `line`."""
    acquisition_frame_rate_hz: Annotated[float, Meta(ge=0.01, le=10000)] | None = None
    """Rate in Hz. Free run: SFNC AcquisitionFrameRate, None = as the camera is set. Software: triggers a second,
    None = only on command (`inspectd ctl trigger`)."""
    part_id: Literal["frame_id", "counter", "encoder"] = "frame_id"
    """What counts the parts: the camera's frame id, a counter, or an encoder; see `acquire/genicam`."""
    expected_interval_s: Annotated[float, Meta(gt=0, le=86400)] | None = None
    """Longest time between frames in seconds; longer silence is a fault. None: only free run shows a fault."""

    @property
    def frames_are_due(self) -> bool:
        """Whether frames should come even if nothing triggers the camera."""
        return self.trigger == "free_run" or self.expected_interval_s is not None

    @property
    def silence_is_unseen(self) -> bool:
        """Whether triggers without frames look like no triggers."""
        return self.trigger == "line" and self.part_id != "counter" and self.expected_interval_s is None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trigger == "software" and self.part_id != "frame_id":
            raise ValueError('with trigger = "software" the triggers sent are what is counted: leave out part_id')


class GenicamCamera(GentlCamera, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="genicam"):
    """Any GenICam camera, through its GenTL producer and harvesters."""

    cti: str = ""
    """File of the GenTL producer; empty = the producers in GENICAM_GENTL64_PATH."""
    serial: str = ""
    user_id: str = ""
    vendor: str = ""
    model: str = ""
    interface: str = ""
    """The producer's id of the interface to open it through, where it is listed through several; empty = any."""

    def __post_init__(self) -> None:
        super().__post_init__()
        named = [bool(self.serial), bool(self.user_id), bool(self.vendor or self.model)]
        if named.count(True) != 1 or bool(self.vendor) != bool(self.model):
            raise ValueError("name the device by exactly one of `serial`, `user_id`, or `vendor` and `model`")


class SimCamera(GentlCamera, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sim"):
    """Images of a folder as a simulated GenICam camera: our own GenTL producer, through the very same code."""

    folder: str


CameraConfig = FolderCamera | GenicamCamera | SimCamera


def is_simulated(camera: CameraConfig) -> bool:
    """Whether its pictures are not of real parts: its results are flagged, and no gateway acts on them."""
    match camera:
        case FolderCamera() | SimCamera():
            return True
        case GenicamCamera():
            return False
        case _:
            assert_never(camera)
