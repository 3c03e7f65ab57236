"""Finding the one camera that is meant, and setting it up: its features, and how its pictures are converted."""

from collections.abc import Iterator

from inspectd.acquire.genicam.devices import Device
from inspectd.acquire.genicam.features import Features
from inspectd.acquire.genicam.settle import settle
from inspectd.acquire.pixels import FORMATS, PREFERRED, Convert, converter
from inspectd.acquire.protocol import Job
from inspectd.runtime.channels import conversion
from inspectd.runtime.errors import CameraError
from inspectd.settings.camera import GenicamCamera

SILENT_PERIODS = 5
"""Periods without a frame (and a second) after which a camera in free run has fallen silent."""
TOLD_APART_BY_IDS = (
    "parts are told apart by frame ids alone: a trigger that the camera misses, or a frame that nobody triggered, "
    'would shift all later parts unnoticed; set part_id = "counter" if it can count its triggers'
)
MISSED_UNSEEN = (
    "triggers are counted by frame ids: one that the camera misses has no result, and its part is rejected by "
    "silence; the encoder's values tell the others apart all the same"
)
CLOCK_UNREAD = (
    "the camera has no clock that can be read: a frame that nobody triggered, on its way just when a trigger is "
    "sent, would be taken for that trigger's unnoticed"
)
SILENCE_UNSEEN = (
    "should this camera fall silent while it is triggered, nothing would tell: "
    'set part_id = "counter", or expected_interval_s'
)


def wanted_fields(config: GenicamCamera) -> dict[str, str]:
    """Fields of Device by which the config names its camera."""
    keys = ("serial", "user_id", "vendor", "model", "interface")
    return {key: value for key in keys if (value := getattr(config, key))}


def identity_of(device: Device, expected_serial: str) -> tuple[str, str]:
    """Name and serial number of an open device; raises CameraError if the serial number was another before."""
    if expected_serial and device.serial != expected_serial:
        raise CameraError(
            f"another camera answers: serial {device.serial}, it was {expected_serial}; "
            "restart inspectd if it was exchanged on purpose"
        )
    return f"{device.vendor} {device.model} {device.serial}".strip(), device.serial


def configure(config: GenicamCamera, job: Job, features: Features) -> tuple[tuple[str, int, int], Convert]:
    """Set all features of config and recipe; gives pixel format, width and height, and the converter of pictures.

    Raises CameraError if a feature can't be set, or the format can't become what the model wants.
    """
    pixel_format = config.pixel_format or _format_of(features, job.channels)
    try:
        convert = converter(pixel_format, job.channels, config.width, config.height, job.rect)
    except ValueError as error:
        raise CameraError(str(error)) from None
    settle(config, pixel_format, job.features, features)
    return (pixel_format, config.width, config.height), convert


def _format_of(features: Features, channels: int) -> str:
    """The pixel format to ask for where the config names none: the first that suits, of those that there are."""
    there_are = features.choices("PixelFormat")
    return next((name for name in PREFERRED[channels] if name in there_are), PREFERRED[channels][0])


def caveats_of(config: GenicamCamera, features: Features, pixel_format: str, channels: int) -> Iterator[str]:
    """What can go unnoticed with a camera as it is set up for a model of so many channels, a sentence each."""
    if into := conversion(FORMATS[pixel_format].channels, channels):
        yield f"it sends {pixel_format}, which is made {into}"
    if config.trigger == "line" and config.part_id == "frame_id":
        yield TOLD_APART_BY_IDS
    if config.trigger == "line" and config.part_id == "encoder":
        yield MISSED_UNSEEN
    if config.silence_is_unseen:
        yield SILENCE_UNSEEN
    if config.trigger == "software" and not features.is_available("TimestampLatch"):
        yield CLOCK_UNREAD


def longest_silence_s(config: GenicamCamera, features: Features) -> float | None:
    """Time without a frame from which an open camera has fallen silent, in seconds; None if that can't be said."""
    if config.expected_interval_s is not None or config.trigger != "free_run":
        return config.expected_interval_s
    rate_hz = features.get("AcquisitionFrameRate") or config.acquisition_frame_rate_hz
    if not rate_hz:
        return None
    period_s = max(1 / rate_hz, 1e-6 * (features.get("ExposureTime") or 0.0))
    return max(1.0, SILENT_PERIODS * period_s)
