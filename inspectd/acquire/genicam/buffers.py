"""A buffer that a producer delivered: what it says of itself, and whether it holds a whole picture."""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from genicam import gentl

from inspectd.acquire.genicam.devices import PIXEL_FORMATS
from inspectd.acquire.genicam.features import SDK_ERRORS, said_as
from inspectd.acquire.pixels import nbytes
from inspectd.runtime.errors import CameraError

IMAGE_PAYLOADS = (
    gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_IMAGE,
    gentl.PAYLOADTYPE_INFO_IDS.PAYLOAD_TYPE_CHUNK_DATA,
)
UNTOLD = (gentl.NotAvailableException, gentl.NotImplementedException)
"""What a producer raises that can't tell something, rather than that the camera is lost."""


class Delivered(NamedTuple):
    """A buffer that the producer delivered; ours until `Session.requeue`."""

    raw: Any
    frame_id: int | None
    """None if the producer gives none."""
    is_complete: bool
    """Whether a whole picture arrived, as far as the buffer tells; if not, `shortfall` says what is missing."""
    device_time: int | None
    """Device time, in ns if `is_ns`, else in ticks; None if the producer gives none, or says 0."""
    is_ns: bool = True
    shortfall: str = ""


def delivered(raw: Any) -> Delivered:
    """What a buffer says of its frame; raises CameraError if the producer fails at that."""
    with said_as("the camera was lost"):
        shortfall = _shortfall(raw)
    time_ns = number(raw, "timestamp_ns")
    time = time_ns or number(raw, "timestamp") or None
    return Delivered(raw, number(raw, "frame_id"), not shortfall, time, bool(time_ns), shortfall)


def number(thing: Any, name: str) -> int | None:
    """A number that a module of the producer tells; None if it does not."""
    try:
        return int(getattr(thing, name))
    except (*SDK_ERRORS, TypeError, ValueError):
        return None


def contains_chunks(raw: Any) -> bool | None:
    """Whether a buffer says that it contains chunk data; None if it can't say."""
    with suppress(*SDK_ERRORS):
        return bool(raw.is_containing_chunk_data())
    count = number(raw, "num_chunks")
    return None if count is None else count > 0


def _shortfall(raw: Any) -> str:
    """What is missing of a whole picture, line after line; empty if nothing is. Raises SDK_ERRORS."""
    try:
        is_complete = bool(raw.is_complete())
    except UNTOLD:
        is_complete = number(raw, "size_filled") is not None  # which is looked at below
    if not is_complete:
        return "only a part of the frame arrived"
    if raw.payload_type not in IMAGE_PAYLOADS:
        return ""  # whoever looks at the picture says so
    lines = number(raw, "delivered_image_height")
    if lines is not None and lines < int(raw.height):
        return f"only {lines} of the picture's {int(raw.height)} lines arrived"
    if padding := number(raw, "padding_x"):
        return f"the camera pads its lines ({padding} bytes): choose a width without padding"
    return _by_size(raw)


def _by_size(raw: Any) -> str:
    """The same by the number of bytes. Too many, by a byte for each line or more, are padded lines."""
    name, width, height = _format(raw), int(raw.width), int(raw.height)
    filled, begin = number(raw, "size_filled"), number(raw, "image_offset") or 0
    try:
        needed = nbytes(name, width, height)
    except ValueError:
        return ""  # a format that nobody asked for
    if filled is None or filled - begin == needed:
        return ""
    end = filled if filled - begin < needed else _end_of_picture(raw, filled)
    if end is None:
        return ""
    if end - begin < needed:
        return f"only {end - begin} bytes of the picture's {needed} arrived"
    if end - begin - needed >= height:
        return (
            f"the camera sent {end - begin} bytes for {width}x{height} {name}, which has {needed}: its lines seem "
            "to be padded, choose a width without padding"
        )
    return ""


def _end_of_picture(raw: Any, filled: int) -> int | None:
    """Where in a filled buffer the chunk data begins, or all ends, by the sizes; None if they are not told."""
    if contains_chunks(raw) is False:
        return filled
    size = number(raw, "delivered_chunk_payload_size")
    return None if size is None else filled - size


def _format(raw: Any) -> str:
    return PIXEL_FORMATS.get(raw.pixel_format, hex(raw.pixel_format))


def picture(raw: Any) -> tuple[str, int, int, npt.NDArray[np.uint8]]:
    """Pixel format, width, height and bytes of a whole buffer's picture, in place.

    Raises CameraError for a payload that is no single picture.
    """
    with said_as("the camera was lost"):
        if raw.payload_type not in IMAGE_PAYLOADS:
            kind = _payload_name(raw.payload_type)
            raise CameraError(
                f"the camera sends {kind} payload, single images are wanted: switch off its other components"
            )
        data = np.frombuffer(raw.raw_buffer, np.uint8, offset=number(raw, "image_offset") or 0)
        return _format(raw), int(raw.width), int(raw.height), data


def _payload_name(kind: int) -> str:
    ids = gentl.PAYLOADTYPE_INFO_IDS
    names = {getattr(ids, name): name for name in dir(ids) if name.startswith("PAYLOAD_TYPE_")}
    return names.get(kind, str(kind)).removeprefix("PAYLOAD_TYPE_").lower().replace("_", "-")
